"""/dev/pts: the names of the terminals of the machine that looks (devpts).

Who looks is the `FsContext`, as in /proc: one tree serves every run of a machine, and each sees its own terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import ENOENT, ENXIO, Errno
from aiopyvm.abi.stat import S_IFCHR, S_IFDIR, Stat, StatFs
from aiopyvm.kernel.fs import Directory, FileSystem, FixedListing, Inode, Listing
from aiopyvm.kernel.fsfile import DirectoryFile

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.tty import Tty

DEVPTS_SUPER_MAGIC: Final = 0x1CD1
DEVPTS_DEVICE: Final = 24


class DevPts(FileSystem):
    """The file system for /dev/pts."""

    name = "devpts"
    device = DEVPTS_DEVICE

    def __init__(self, parent: Directory) -> None:
        self.root: PtsDirectory = PtsDirectory(self, parent)

    def statfs(self) -> StatFs:
        """Nothing is stored."""
        return StatFs(DEVPTS_SUPER_MAGIC)


class PtsNode(Inode):
    """The name of a terminal; its attributes are the terminal's."""

    kind = S_IFCHR
    fs: DevPts

    def __init__(self, fs: DevPts, line: Tty) -> None:
        self.fs = fs
        self.line = line
        self.number = 3 + line.index

    def stat(self) -> Stat:
        """The terminal's."""
        return self.line.stat()

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self.line.mode = mode & 0o7777

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner; -1 leaves one as it is."""
        self.line.uid = self.line.uid if uid == -1 else uid
        self.line.gid = self.line.gid if gid == -1 else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """The times of a terminal are kept by nobody."""

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description. Raises Errno: ENXIO outside of a machine, EIO."""
        if ctx.process is None:
            raise Errno(ENXIO)
        from aiopyvm.kernel.pty import open_terminal  # at the first use: most programs have no terminal

        return open_terminal(ctx.process, self.line, flags, self)


class PtsDirectory(Directory):
    """/dev/pts itself. Nothing can be made or removed here."""

    fs: DevPts
    name = b"pts"

    def __init__(self, fs: DevPts, parent: Directory) -> None:
        self.fs = fs
        self.parent = parent
        self.number = 1

    def stat(self) -> Stat:
        """Root's, for everybody to look into."""
        return Stat(ino=1, mode=S_IFDIR | 0o755, nlink=2, dev=DEVPTS_DEVICE, blksize=1024)

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return DirectoryFile(self, flags, ctx)

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return the terminal of that number. Raises Errno(ENOENT)."""
        for index, line in self._lines(ctx).items():
            if name == b"%d" % index:
                return PtsNode(self.fs, line)
        raise Errno(ENOENT)

    def listing(self, ctx: FsContext) -> Listing:
        """The terminals of this moment."""
        return FixedListing((3 + index, S_IFCHR >> 12, b"%d" % index) for index in sorted(self._lines(ctx)))

    def empty(self) -> bool:
        """Never: nothing here can be removed."""
        return False

    @staticmethod
    def _lines(ctx: FsContext) -> dict[int, Tty]:
        return ctx.process.kernel.terminals if ctx.process is not None else {}

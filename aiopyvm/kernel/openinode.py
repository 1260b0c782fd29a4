"""Open files without an inode of their own, pipes, sockets, eventfds and the like, where an inode is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import EACCES, ENXIO, Errno
from aiopyvm.abi.fcntl import O_ACCMODE
from aiopyvm.abi.stat import PIPEFS_MAGIC, S_IFMT, Stat, StatFs
from aiopyvm.kernel.file import AnonymousFile
from aiopyvm.kernel.fs import FileSystem, Inode
from aiopyvm.kernel.hoststream import Stream

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext


class OpenFs(FileSystem):
    """Where such files lie: nowhere."""

    name = "anon_inodefs"

    def statfs(self) -> StatFs:
        """Nothing is stored."""
        return StatFs(PIPEFS_MAGIC)


OPEN_FS: Final = OpenFs()


class OpenInode(Inode):
    """What holds such a file's attributes, and what /proc/pid/fd/n leads to: opening it gives the file itself."""

    fs = OPEN_FS

    def __init__(self, file: File) -> None:
        self._file = file
        self.kind = file.stat().mode & S_IFMT

    def stat(self) -> Stat:
        """The open file's attributes."""
        return self._file.stat()

    def owner_and_mode(self) -> tuple[int, int, int]:
        """Whoever sees the descriptor may use it where it is a stream of the runtime, which is nobody's."""
        return (0, 0, 0o666) if isinstance(self._file, Stream) else super().owner_and_mode()

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return the open file description itself. Raises Errno: EACCES if it is not open for that, ENXIO if closed,
        or nothing that can be opened."""
        file = self._file
        if not file.refs or file.socket or isinstance(file, AnonymousFile):
            raise Errno(ENXIO)
        access = flags & O_ACCMODE
        if (access != 1 and not file.readable) or (access != 0 and not file.writable):
            raise Errno(EACCES)
        return file

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self._file.change(mode=self.kind | mode)

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner; -1 leaves one as it is."""
        self._file.change(**{name: value for name, value in (("uid", uid), ("gid", gid)) if value != -1})

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set access and modification time; None leaves one as it is."""
        self._file.change(**{name: ns for name, ns in (("atime", atime), ("mtime", mtime)) if ns is not None})

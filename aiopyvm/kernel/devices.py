"""/dev: the device nodes that every guest machine has (null(4), full(4), random(4)), as a small fixed file system.

stdin, stdout, stderr and fd lead to /proc/self/fd, as on Linux.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.abi.errno import EINVAL, ENOSPC, ENXIO, Errno
from aiopyvm.abi.fcntl import SEEK_CUR, SEEK_END, SEEK_SET
from aiopyvm.abi.stat import S_IFCHR, S_IFDIR, S_IFLNK, S_ISVTX, makedev
from aiopyvm.kernel.file import File
from aiopyvm.kernel.memfs import MemDirectory, MemFs, MemInode
from aiopyvm.kernel.ports import Entropy

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.mem.backing import HeldImages
    from aiopyvm.mem.space import AddressSpace

MAX_READ = 1 << 20  # what one read of an endless device gives at most: bounded work


class Device(File):
    """A character device without state; the position moves nowhere."""

    seekable = False
    endless = True
    pollable = False

    def seek(self, offset: int, whence: int) -> int:
        """Always at 0 (null_lseek). Raises Errno(EINVAL)."""
        if whence not in (SEEK_SET, SEEK_CUR, SEEK_END):
            raise Errno(EINVAL)
        return 0

    def pread(self, n: int, offset: int) -> bytes:
        """As `read`."""
        return self.read(n)

    def pwrite(self, data: bytes, offset: int) -> int:
        """As `write`."""
        return self.write(data)


class Null(Device):
    """/dev/null: always empty, takes everything."""

    def read(self, n: int) -> bytes:
        """The end of file."""
        return b""

    def write(self, data: bytes | memoryview) -> int:
        """Take everything."""
        return len(data)

    def borrow(self, data: bytes | memoryview) -> int:
        """As `write`, which keeps none of it."""
        return self.write(data)

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `borrow`, out of memory."""
        return self.write(memory.glance(address, n))


class Zero(Null):
    """/dev/zero: endless zeros."""

    def read(self, n: int) -> bytes:
        """Zeros."""
        return bytes(min(n, MAX_READ))

    def mmap_backing(self, images: HeldImages) -> None:
        """Zeros (a shared mapping is one of its own)."""
        return


class Full(Null):
    """/dev/full: reads as zeros, but is always full."""

    def read(self, n: int) -> bytes:
        """Zeros."""
        return bytes(min(n, MAX_READ))

    def write(self, data: bytes | memoryview) -> int:
        """Raises Errno(ENOSPC)."""
        raise Errno(ENOSPC)


class Random(Null):
    """/dev/random and urandom: the machine's one source of entropy."""

    def __init__(self, flags: int, inode: DeviceNode, entropy: Entropy) -> None:
        super().__init__(flags, inode)
        self._entropy = entropy

    def read(self, n: int) -> bytes:
        """Random bytes."""
        return self._entropy.bytes(min(n, MAX_READ))


Opener = Callable[["FsContext", int, "DeviceNode"], File]


class DeviceNode(MemInode):
    """A character device of ours; `opener` makes the open file."""

    kind = S_IFCHR

    def __init__(self, fs: MemFs, mode: int, rdev: int, opener: Opener) -> None:
        super().__init__(fs, mode, 0, 0)
        self.rdev = rdev
        self._opener = opener

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return self._opener(ctx, flags, self)


class DeviceDirectory(MemDirectory):
    """/dev itself. What is in it is made, and charged, when somebody looks: most programs never do."""

    def __init__(self, fs: MemFs) -> None:
        super().__init__(fs, S_IFDIR | 0o755, 0, 0)
        self.nlink = 5
        from aiopyvm.kernel.devpts import DevPts
        from aiopyvm.kernel.mqueuefs import MqueueFs

        self._queues = MqueueFs(self)
        self.grafts = {b"pts": DevPts(self).root, b"mqueue": self._queues.root}
        del self._entries

    def child(self, name: bytes, ctx: FsContext) -> Inode:
        """As of any directory; each machine has message queues of its own."""
        if name == b"mqueue" and ctx.process is not None:
            return self._queues.root_of(ctx.process.kernel)
        return super().child(name, ctx)

    @property
    def size(self) -> int:
        """As of any directory, for which the names need not be there."""
        made = self._entries if "_entries" in vars(self) else (*_DEVICES, *_LINKS, "shm")
        return 20 * (len(made) + 2)

    def __getattr__(self, name: str) -> Any:
        """Make the names at the first use of `_entries`. Raises Errno(ENOSPC), and nothing has changed."""
        if name != "_entries":
            raise AttributeError(name)
        fs, budget, tally = self.fs, self.fs.budget, Tally()
        self._entries, self.nlink, fs.budget = {}, 4, tally
        self._fill()
        self.mtime = self.ctime = self.btime
        fs.budget = budget
        entries = self._entries
        if not budget.charge(tally.used):
            self._order.clear()
            self._names.clear()
            del self._entries
            raise Errno(ENOSPC)
        return entries

    def _fill(self) -> None:
        for name, major, minor, opener in _DEVICES:
            self.attach(name, DeviceNode(self.fs, 0o666, makedev(major, minor), opener))
        for name, target in _LINKS:
            self.make(name, S_IFLNK | 0o777, 0, 0, target=target)
        self.make(b"shm", S_IFDIR | S_ISVTX | 0o777, 0, 0)


class Tally:
    """A budget that only counts."""

    used = 0

    def charge(self, size_bytes: int) -> bool:
        """Count."""
        self.used += size_bytes
        return True


class DeviceFs(MemFs):
    """The file system for /dev."""

    name = "devtmpfs"

    def make_root(self, uid: int, gid: int, mode: int) -> MemDirectory:
        """Return /dev."""
        return DeviceDirectory(self)


def _open_random(ctx: FsContext, flags: int, node: DeviceNode) -> File:
    """The entropy of the machine that opens it. Raises Errno(ENXIO) outside of one."""
    if ctx.process is None:
        raise Errno(ENXIO)
    return Random(flags, node, ctx.process.kernel.entropy)


def _open_terminal(ctx: FsContext, flags: int, node: DeviceNode) -> File:
    """/dev/tty: the controlling terminal. Raises Errno(ENXIO) when there is none."""
    process = ctx.process
    if process is None or process.tty is None:
        raise Errno(ENXIO)
    from aiopyvm.kernel.pty import open_terminal

    return open_terminal(process, process.tty, flags, node)


def _open_master(ctx: FsContext, flags: int, node: DeviceNode) -> File:
    """/dev/ptmx: a new pty. Raises Errno: ENXIO outside of a machine, ENOSPC."""
    if ctx.process is None:
        raise Errno(ENXIO)
    from aiopyvm.kernel.pty import open_master

    return open_master(ctx.process, flags, node)


_DEVICES: Final[tuple[tuple[bytes, int, int, Opener], ...]] = (
    (b"null", 1, 3, lambda ctx, flags, node: Null(flags, node)),
    (b"zero", 1, 5, lambda ctx, flags, node: Zero(flags, node)),
    (b"full", 1, 7, lambda ctx, flags, node: Full(flags, node)),
    (b"random", 1, 8, _open_random),
    (b"urandom", 1, 9, _open_random),
    (b"tty", 5, 0, _open_terminal),
    (b"ptmx", 5, 2, _open_master),
)
_LINKS: Final = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)

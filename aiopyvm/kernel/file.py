"""The open file description: what a file descriptor refers to (open(2), "Open file descriptions").

What always holds. A file never waits: `read`, `write` and their relatives raise `Errno(EAGAIN)` when nothing can be
done now, and `queues(events)` are woken when `poll()` may have changed. The system-call layer turns EAGAIN into a
`Wait` unless the file is O_NONBLOCK. A file is shared by reference count: `hold()` for each descriptor, `release()`
for each that goes; the last one closes it, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Self

from aiopyvm.abi.errno import EAGAIN, EBADF, EINVAL, ENFILE, ENODEV, ENOTDIR, ENOTTY, EOPNOTSUPP, EPERM, ESPIPE, Errno
from aiopyvm.abi.fcntl import O_ACCMODE, O_ASYNC, O_PATH, O_RDONLY, O_RDWR, O_WRONLY
from aiopyvm.abi.inotify import IN_CLOSE_NOWRITE, IN_CLOSE_WRITE
from aiopyvm.abi.poll import READABLE, WRITABLE
from aiopyvm.abi.stat import S_IFCHR, Stat

if TYPE_CHECKING:
    from aiopyvm.kernel.dnotify import DirNotice
    from aiopyvm.kernel.epoll import Watch
    from aiopyvm.kernel.fdtable import FdTable
    from aiopyvm.kernel.fs import Directory, Entry, Inode
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.sigio import Fasync, Owner
    from aiopyvm.kernel.wait import WaitQueue
    from aiopyvm.mem.backing import Backing, HeldImages, ImageBacking
    from aiopyvm.mem.space import AddressSpace


UNKNOWN: Final = -1  # of `pull` and `push`: nothing was done
LATER: Final = -2  # nothing can be done yet
ANONYMOUS_NUMBER: Final = 1  # inode and device number of all anonymous files
ANONYMOUS_DEVICE: Final = 15


class Unfinished(Errno):
    """A file has done a piece of what it was asked for: ask again for the same, after others had their turn."""

    def __init__(self) -> None:
        super().__init__(EAGAIN)


class File:
    """An open file description; this base is a file that is always ready and can do nothing.

    `flags` are open(2)'s access mode and status flags, `offset` is the position of seekable files. `host` tells that
    what the file waits for comes from outside the guest machines (so that no deadlock is seen where input may still
    arrive).
    """

    seekable = False
    endless = False  # a read that got all it asked for may go on: a device, or a pipe, without a position
    unit = 1  # bytes that go together or, where the caller's memory faults in them, not at all
    tty = False
    socket = False  # a `kernel.socket.Socket`: messages, not bytes alone
    host = False
    flushes = False  # see `flush`
    pollable = True  # it can be not ready: epoll(7) takes nothing else
    io_owner: Owner | None = None  # who is told by signals, and by which (sigio.py)
    io_signal = 0
    notices: dict[FdTable, DirNotice] | None = None  # signals for what is done in it, a directory (dnotify.py)
    watches: dict[Watch, None] | None = None  # of epoll instances, which it leaves when it is closed
    cost = 1024  # bytes of the budget for an open file description made by a guest

    def __init__(self, flags: int = 0, inode: Inode | None = None) -> None:
        self.flags = flags
        self.inode = inode
        self.offset = 0
        self.refs = 0
        self.name = b""  # what /proc/self/fd shows, for files that have no path
        self.place: tuple[Directory, bytes] | None = None  # where it was opened
        self._payer: Budget | None = None
        self._paid = 0
        self._count: Budget | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    def hold(self) -> Self:
        """Count one more reference; returns the file."""
        self.refs += 1
        return self

    def release(self) -> None:
        """Drop one reference; the last one closes the file."""
        self.refs -= 1
        if self.refs == 0:
            if self.inode is not None and self.inode.locks is not None:
                self.inode.locks.unflock(self)
                self.inode.locks.drop_owner(self)
            if self.inode is not None and self.inode.leases is not None and self in self.inode.leases.held:
                self.inode.leases.drop(self)
            for notice in tuple((self.notices or {}).values()):
                notice.drop()
            self.tell(IN_CLOSE_WRITE if self.writable else IN_CLOSE_NOWRITE)
            for watch in tuple(self.watches or ()):
                watch.remove()
            if self.flags & O_ASYNC:
                for table in self.fasync():
                    table.pop(self, None)
            self.close()
            if self._payer is not None:
                self._payer.charge(-self._paid)
                self._paid = 0
            if self._count is not None:
                self._count.charge(-1)
                self._count = None

    def tell(self, events: int) -> None:
        """Tell who watches the file, or the directory where it was opened, what was done (inotify(7))."""
        inode, place = self.inode, self.place
        if inode is None or (inode.watchers is None and (place is None or place[0].watchers is None)):
            return
        if not self.flags & O_PATH:
            inode.tell(events, place)

    def charge(self, budget: Budget, size_bytes: int) -> None:
        """Charge `size_bytes` more (negative: fewer) for as long as it is open, always to the first `budget` named.

        Raises Errno(ENFILE) when that is refused.
        """
        payer = self._payer or budget
        if not payer.charge(size_bytes):
            raise Errno(ENFILE)
        self._payer = payer
        self._paid += size_bytes

    def count(self, files: Budget) -> None:
        """Be one of the open file descriptions that `files` counts, until it is closed. Raises Errno(ENFILE)."""
        if not files.charge(1):
            raise Errno(ENFILE)
        self._count = files

    def flush(self, table: FdTable) -> None:
        """Called, where it `flushes`, at each close of a descriptor in `table`."""

    def close(self) -> None:
        """Called once, when the last reference is dropped."""

    # --- access -----------------------------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether the access mode allows reading."""
        return self.flags & O_ACCMODE in (O_RDONLY, O_RDWR) and not self.flags & O_PATH

    @property
    def writable(self) -> bool:
        """Whether the access mode allows writing."""
        return self.flags & O_ACCMODE in (O_WRONLY, O_RDWR) and not self.flags & O_PATH

    def need_readable(self) -> None:
        """Raise Errno(EBADF) unless the file may be read."""
        if not self.readable:
            raise Errno(EBADF)

    def need_writable(self) -> None:
        """Raise Errno(EBADF) unless the file may be written."""
        if not self.writable:
            raise Errno(EBADF)

    # --- data -------------------------------------------------------------------------------------------------------

    def read(self, n: int) -> bytes:
        """Return 1 to `n` bytes, b"" at the end of file. Raises Errno: EAGAIN when there is nothing yet."""
        raise Errno(EINVAL)

    def lend(self, n: int) -> bytes | memoryview | None:
        """As `read`; what it returns is good until the file is used again. It may also return None for EAGAIN."""
        return self.read(n)

    def unread(self, data: bytes) -> None:
        """Put back the tail of what `read` just returned: the caller could not take it."""
        if self.seekable:
            self.offset -= len(data)

    def write(self, data: bytes) -> int:
        """Take 1 to len(data) bytes; return how many. Raises Errno: EAGAIN when there is no room yet, EPIPE."""
        raise Errno(EINVAL)

    def borrow(self, data: bytes | memoryview) -> int:
        """As `write`, of bytes that are good only until it returns."""
        return self.write(bytes(data))

    def pull(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `read`, into memory: store bytes at `address`, at most `n`; return how many (0: the end of file).

        Where it returns LATER, for EAGAIN, or UNKNOWN, or raises Errno or MemoryFault, nothing was done; after all but
        the first `read` is to be asked.
        """
        return UNKNOWN

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `write`, out of memory: take all `n` bytes at `address`, and return `n`; else as `pull`."""
        return UNKNOWN

    def pread(self, n: int, offset: int) -> bytes:
        """Like `read` at `offset`; the position stays. Raises Errno(ESPIPE) where there is no position."""
        raise Errno(ESPIPE)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Like `write` at `offset`; the position stays. Raises Errno(ESPIPE) where there is no position."""
        raise Errno(ESPIPE)

    def seek(self, offset: int, whence: int) -> int:
        """Move the position; return the new one. Raises Errno (lseek(2))."""
        raise Errno(ESPIPE)

    def truncate(self, size: int) -> None:
        """Set the size. Raises Errno(EINVAL) for what is no regular file."""
        raise Errno(EINVAL)

    def allocate(self, offset: int, length: int, mode: int) -> None:
        """fallocate(2)."""
        raise Errno(ESPIPE)

    def sync(self) -> None:
        """fsync(2): make what was written durable. Raises Errno(EINVAL) for what cannot be synced."""
        raise Errno(EINVAL)

    # --- readiness --------------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Return the poll(2) events that hold now."""
        return READABLE | WRITABLE

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the queues that are woken when `poll()` may have changed with regard to `events`."""
        return ()

    def fasync(self) -> tuple[Fasync, ...]:
        """Return the tables of who is told by signals of what this file can do now (sigio.py)."""
        return ()

    def foreground_group(self) -> int:
        """The group that is told where nobody said who is to be, of a terminal; 0: who asks."""
        return 0

    def available(self) -> int:
        """Return how many bytes `read` would give now (FIONREAD). Raises Errno(ENOTTY) where that has no meaning."""
        raise Errno(ENOTTY)

    # --- attributes -------------------------------------------------------------------------------------------------

    def stat(self) -> Stat:
        """Return the attributes of what is open."""
        if self.inode is not None:
            return self.inode.stat()
        return Stat(ino=1, mode=S_IFCHR | 0o600)

    def change(self, **attributes: int) -> None:
        """Set fields of `stat` of what has no inode. Raises Errno: EPERM for a stream of the runtime, EOPNOTSUPP."""
        raise Errno(EPERM)

    def entries(self) -> Iterator[Entry]:
        """Iterate over a directory's entries from the position on; the caller stores `Entry.cookie` in `offset`.

        Raises Errno(ENOTDIR) for what is no directory.
        """
        raise Errno(ENOTDIR)

    def mmap_backing(self, images: HeldImages) -> Backing | None:
        """Return what a mapping shows, page by page as it is touched (mmap(2)); None: zeros.

        `images` pays where an image can show it. Raises Errno(ENODEV) for what cannot be mapped.
        """
        raise Errno(ENODEV)

    def mmap_image(self, images: HeldImages) -> ImageBacking | None:
        """Return what a private mapping may show in place of `mmap_backing`, the content of this moment; None where
        there is no such image, or `images` has no room for it."""
        return None

    def mmap_content(self) -> bytes:
        """Return the whole content of a program, immutable, the same object while nothing changes.

        Raises Errno: ENODEV for what cannot be mapped, ENOMEM for what is too long to be a program.
        """
        raise Errno(ENODEV)


class AnonymousFile(File):
    """An open file without an inode of its own, known by its kind: anon_inode:[eventfd] and the like (proc(5))."""

    def __init__(self, kind: bytes, flags: int) -> None:
        super().__init__(flags)
        self.name = b"anon_inode:" + kind

    def seek(self, offset: int, whence: int) -> int:
        """Always at 0, wherever to (noop_llseek)."""
        return 0

    def stat(self) -> Stat:
        """The attributes that all such files share: no type, mode 600."""
        return Stat(ino=ANONYMOUS_NUMBER, mode=0o600, dev=ANONYMOUS_DEVICE)

    def change(self, **attributes: int) -> None:
        """None can be changed."""
        raise Errno(EOPNOTSUPP)

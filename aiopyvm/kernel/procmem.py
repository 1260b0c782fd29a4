"""/proc/pid/mem: a process's memory as a file (proc(5)), for who may trace it.

What always holds: permissions of pages do not matter, as for ptrace(2); the memory is that of the moment of open(2): a
program that has gone reads as nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import EACCES, EINVAL, EIO, Errno
from aiopyvm.abi.fcntl import SEEK_CUR, SEEK_SET
from aiopyvm.abi.stat import S_IFREG
from aiopyvm.errors import GuestMemoryError, HostRefusedError
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fsfile import EndlessFile
from aiopyvm.kernel.procfs import ProcInode, need_look
from aiopyvm.mem.layout import PAGE

if TYPE_CHECKING:
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.mm import Mm

MOST: Final = 256 << 10  # bytes that one call moves
TOP: Final = 1 << 32


class ProcMemory(ProcInode):
    """The file."""

    kind = S_IFREG
    mode = 0o600
    always_writable = True

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description. Raises Errno(EACCES) unless the caller may trace the process."""
        assert self.process is not None
        if ctx.process is None:
            raise Errno(EACCES)
        need_look(ctx, self.process)
        return MemoryFile(flags, self, self.process.mm)


class MemoryFile(EndlessFile):
    """An open /proc/pid/mem. Moves at most MOST bytes at a time."""

    def __init__(self, flags: int, inode: ProcMemory, mm: Mm) -> None:
        super().__init__(flags, inode)
        self._mm = mm

    def seek(self, offset: int, whence: int) -> int:
        """Move the position, which wraps at 64 bits (mem_lseek). Raises Errno(EINVAL) for SEEK_END."""
        if whence not in (SEEK_SET, SEEK_CUR):
            raise Errno(EINVAL)
        self.offset = offset + (self.offset if whence == SEEK_CUR else 0)
        return self.offset

    def read(self, n: int) -> bytes:
        """As `pread`, at the position."""
        data = self.pread(n, self.offset)
        self.offset += len(data)
        return data

    def write(self, data: bytes) -> int:
        """As `pwrite`, at the position."""
        n = self.pwrite(data, self.offset)
        self.offset += n
        return n

    def pread(self, n: int, offset: int) -> bytes:
        """Return bytes up to the first page that is not there. Raises Errno(EIO) where that is the first one."""
        if not self._mm.users:
            return b""
        parts: list[bytes] = []
        for at, size in _pages(offset, min(n, MOST)):
            try:
                parts.append(self._mm.space.peek(at, size))
            except GuestMemoryError:
                break
        if n and not parts:
            raise Errno(EIO)
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Store bytes up to the first page that is not there; how many. Raises Errno(EIO) where that is the first."""
        done = 0
        if not self._mm.users:
            return 0
        for at, size in _pages(offset, min(len(data), MOST)):
            try:
                self._mm.space.poke(at, data[done : done + size])
            except (GuestMemoryError, HostRefusedError):
                break
            done += size
        if data and not done:
            raise Errno(EIO)
        return done

    def truncate(self, size: int) -> None:
        """Nothing: it has no size."""


def _pages(offset: int, n: int) -> list[tuple[int, int]]:
    """The part of [offset, offset+n) that is of an address space, in pieces of a page: address and length."""
    end = min(offset + n, TOP)
    starts = [offset, *range((offset // PAGE + 1) * PAGE, end, PAGE)] if 0 <= offset < end else []
    return [(at, min(end, (at // PAGE + 1) * PAGE) - at) for at in starts]

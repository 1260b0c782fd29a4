"""Host memory of one address space: 4 GiB between two guards, the page table and one more, in one host mapping.

It is readable and writable for the host, so that a missed check can never kill the process; where `Protection` makes it
less than that, it sees to the rest. Pages cost memory only once written. `HostMappings` counts the host's mappings, of
which Linux allows a process 65,530.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Sequence
from typing import Final

from aiopyvm.errors import HostRefusedError
from aiopyvm.mem.arena import Extent
from aiopyvm.mem.budget import Budget
from aiopyvm.mem.layout import GUARD, PAGE, PAGES

_REACH: Final = (1 << 32) + GUARD
_SIZE: Final = GUARD + _REACH + 2 * PAGES
_LINUX: Final = sys.platform == "linux"
_MAP_NORESERVE: Final = 0x4000  # Linux; Python 3.11's mmap module has no name for it
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED = 1, 2, 0x10
_MAP_FAILED: Final = ctypes.c_void_p(-1).value

if _LINUX:
    _libc_mprotect = ctypes.PyDLL(None, use_errno=True).mprotect  # short, and called often: it keeps the GIL
    _libc_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _libc_mmap = ctypes.CDLL(None, use_errno=True).mmap
    _libc_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    _libc_mmap.restype = ctypes.c_void_p


class HostMappings:
    """How many host mappings all address spaces use; refuses before the host would (vm.max_map_count)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def take(self, n: int) -> bool:
        """Count `n` more (negative: fewer); False, and nothing counted, beyond the limit."""
        with self._lock:
            if n > 0 and self.used + n > self.limit:
                return False
            self.used += n
            return True


def _limit() -> int:
    """Three quarters of what the host allows: the rest is for the process itself."""
    try:
        with open("/proc/sys/vm/max_map_count") as f:
            return int(f.read()) * 3 // 4
    except (OSError, ValueError):
        return 48_000


HOST_MAPPINGS: Final = HostMappings(_limit())


class Reservation:
    """The host memory. `owed` bytes are given back to `budget` when the last reference is gone."""

    __slots__ = ("_map", "_taken", "base", "budget", "owed", "pages", "protections", "view", "view16", "view32")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.owed = 0
        self._taken = 0
        self._map = _reserve()
        if HOST_MAPPINGS.take(1):
            self._taken = 1
        with memoryview(self._map) as whole:
            self.view = whole[GUARD : GUARD + _REACH]
            self.pages = whole[GUARD + _REACH : _SIZE - PAGES]
            self.protections = whole[_SIZE - PAGES :]  # of `Protection`
        self.view16 = self.view.cast("H")
        self.view32 = self.view.cast("I")
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + GUARD

    @property
    def array(self) -> ctypes.Array[ctypes.c_uint8]:
        """The same memory as a ctypes array; index = guest address."""
        return (ctypes.c_uint8 * _REACH).from_buffer(self._map, GUARD)

    def find(self, byte: bytes, start: int, end: int) -> int:
        """Index of the first `byte` in [start, end), or -1."""
        at = self._map.find(byte, GUARD + start, GUARD + end)
        return at - GUARD if at >= 0 else at

    def discard(self, start: int, end: int) -> None:
        """Give the pages of [start, end) back to the host: zero again, or the attached extent's content."""
        if _LINUX:
            self._map.madvise(mmap.MADV_DONTNEED, GUARD + start, end - start)
        else:
            for at in range(start, end, 1 << 20):
                self.view[at : min(at + (1 << 20), end)] = bytes(min(1 << 20, end - at))

    def discard_runs(self, runs: Sequence[range]) -> None:
        """As `discard` of each of `runs`, in order; what is between them is untouched, and stays so."""
        if _LINUX:
            self.discard(runs[0].start, runs[-1].stop)
        else:
            for run in runs:
                self.discard(run.start, run.stop)

    def attach(self, start: int, end: int, extent: Extent, offset: int, *, shared: bool) -> bool:
        """Let [start, end) show `extent` from `offset` on; False where the host cannot or has too many mappings."""
        if not _LINUX or extent.fd < 0 or not HOST_MAPPINGS.take(2):
            return False
        kind = (_MAP_SHARED if shared else _MAP_PRIVATE) | _MAP_FIXED | _MAP_NORESERVE
        if not self._map_over(start, end, kind, extent.fd, extent.offset + offset):
            HOST_MAPPINGS.take(-2)
            return False
        self._taken += 2
        return True

    def detach(self, start: int, end: int) -> None:
        """Undo `attach` for exactly its range: fresh zero pages."""
        kind = _MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE | mmap.MAP_ANONYMOUS
        if not self._map_over(start, end, kind, -1, 0):
            raise HostRefusedError(ctypes.get_errno(), f"cannot map guest memory {start:#x}-{end:#x}")
        self._map.madvise(mmap.MADV_NOHUGEPAGE, GUARD + start, end - start)
        self._taken -= 2
        HOST_MAPPINGS.take(-2)

    def protect(self, start: int, end: int, prot: int) -> int:
        """Set the host's protection (PROT_* bits) of whole pages, the guards included; 0, or why it refuses (errno)."""
        return ctypes.get_errno() if _libc_mprotect(self.base + start, end - start, prot) else 0

    def clear_protections(self) -> None:
        """Fill `protections` with zeros."""
        self._map.madvise(mmap.MADV_DONTNEED, _SIZE - PAGES, PAGES)

    def unify(self, start: int, end: int) -> None:
        """Parts of [start, end), a host mapping without private content, are to be one mapping again after they had
        different protections: the kernel does that where the mapping had a page of its own before (its anon_vma).
        """
        self.view[start] = self.view[start]
        self.discard(start, start + PAGE)

    def close(self) -> None:
        """Unmap it now; where someone still holds a view of it, give back its pages at least."""
        for view in (self.view16, self.view32, self.view, self.pages, self.protections):
            view.release()
        try:
            self._map.close()
        except BufferError:
            self.discard(0, _REACH)

    def _map_over(self, start: int, end: int, flags: int, fd: int, offset: int) -> bool:
        return _map_at(self.base + start, end - start, flags, fd, offset)

    def __del__(self) -> None:
        if self._taken:
            HOST_MAPPINGS.take(-self._taken)
        if self.owed:
            self.budget.charge(-self.owed)


def map_private(address: int, size: int, extent: Extent) -> bool:
    """Let a mapping of [address, address + size), all of it, show `extent`, copy-on-write; False where it cannot."""
    if not _LINUX or extent.fd < 0 or extent.size < size:
        return False
    return _map_at(address, size, _MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE, extent.fd, extent.offset)


def _map_at(address: int, size: int, flags: int, fd: int, offset: int) -> bool:
    result = _libc_mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    return bool(result != _MAP_FAILED)


def _reserve() -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        memory = mmap.mmap(-1, _SIZE, flags=flags | (_MAP_NORESERVE if _LINUX else 0))
    except OSError as refused:
        raise HostRefusedError(refused.errno, f"cannot reserve a guest's 4 GiB: {refused.strerror}") from None
    if _LINUX:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory

"""Where generated code lives: one reservation per process, whose start is `code_base`.

Each object has pages of its own. Pages go from no access to writable, are filled, and become executable and read-only;
never both, and neighbours keep what they have, so other threads run on while one object is written. (The other way, a
memfd mapped twice, saves nothing: an object is written once. And it keeps a writable view of running code.) Freed pages
have no access again.

No code lies in the first page, so that distance 0 from `code_base` is none: what the handler of faults reads is there.
Up to `FIXED_END` an object is put where its maker says, so that it can be linked once and then copied; above, where
there is room.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol

from aiopyvm.errors import EngineUnavailableError, HostRefusedError

if TYPE_CHECKING:
    from aiopyvm.engine.native.traps import Traps

PAGE: Final = 4096
ARENA_BYTES: Final = 256 << 20
FIXED_START: Final = PAGE
FIXED_END: Final = 16 << 20

_NONE, _READ, _WRITE, _EXEC = 0, 1, 2, 4  # PROT_*
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 2, 0x10, 0x20, 0x4000
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_REFUSALS: Final = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP)


class HostMemory(Protocol):
    """What an arena asks of the host; each raises OSError."""

    def reserve(self, size: int) -> int:
        """Return the address of `size` bytes without access."""

    def make_writable(self, address: int, size: int) -> None:
        """Let whole pages be read and written, not executed."""

    def make_executable(self, address: int, size: int) -> None:
        """Let whole pages be read and executed, not written."""

    def discard(self, address: int, size: int) -> None:
        """Take all access away, and what was in the pages."""

    def release(self, address: int, size: int) -> None:
        """Undo `reserve`."""


class LinuxMemory:
    """`HostMemory` by mmap(2) and mprotect(2)."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._mmap, self._mprotect, self._munmap = libc.mmap, libc.mprotect, libc.munmap
        self._mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        self._mmap.restype = ctypes.c_void_p
        self._mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def reserve(self, size: int) -> int:
        """Return the address of `size` bytes without access."""
        return self._map(None, size, 0)

    def make_writable(self, address: int, size: int) -> None:
        """Let whole pages be read and written, not executed."""
        self._check(self._mprotect(address, size, _READ | _WRITE))

    def make_executable(self, address: int, size: int) -> None:
        """Let whole pages be read and executed, not written."""
        self._check(self._mprotect(address, size, _READ | _EXEC))

    def discard(self, address: int, size: int) -> None:
        """Take all access away, and what was in the pages."""
        self._map(address, size, _MAP_FIXED)

    def release(self, address: int, size: int) -> None:
        """Undo `reserve`."""
        self._check(self._munmap(address, size))

    def _map(self, address: int | None, size: int, flags: int) -> int:
        flags |= _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
        result: int | None = self._mmap(address, size, _NONE, flags, -1, 0)
        self._check(-1 if result == _MAP_FAILED else 0)
        assert result is not None
        return result

    @staticmethod
    def _check(result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


class CodeArena:
    """A reservation of `size` bytes for code. Thread-safe; ends with `close`, which nobody calls while code runs.

    Raises EngineUnavailableError on a host where code cannot be generated, HostRefusedError when it gives no memory.
    """

    def __init__(self, size: int = ARENA_BYTES, memory: HostMemory | None = None) -> None:
        self._memory = memory if memory is not None else _host_memory()
        self._lock = threading.Lock()
        self.size = size
        self.used = 0
        self.traps: Traps | None = None  # as soon as compiled code may fault
        self._fixed: list[tuple[int, int]] = []
        start = min(FIXED_END, size)
        self._free: list[tuple[int, int]] = [(start, size)]  # ascending, neighbours joined
        try:
            self.base = self._memory.reserve(size)
        except OSError as refused:
            raise HostRefusedError(
                refused.errno, f"no {size >> 20} MiB of addresses for code: {refused.strerror}"
            ) from None

    def allocate(self, size: int) -> int:
        """Return the distance from `base` of whole pages for `size` bytes. Raises HostRefusedError (ENOMEM): full."""
        need = _pages(size)
        with self._lock:
            for n, (start, end) in enumerate(self._free):
                if end - start >= need:
                    self._free[n : n + 1] = [(start + need, end)] if end - start > need else []
                    self.used += need
                    return start
        raise HostRefusedError(errno.ENOMEM, f"no room for {size} bytes of code: {self.used} bytes are in use")

    def place(self, at: int, code: bytes) -> None:
        """Put `code` at `at` of the fixed part, for ever. Raises ValueError (not there, taken), and as `fill`."""
        span = at, at + _pages(len(code))
        with self._lock:
            if at % PAGE or not FIXED_START <= at < span[1] <= min(FIXED_END, self.size):
                raise ValueError(f"{len(code)} bytes at {at:#x} are not in the fixed part of the code arena")
            if any(start < span[1] and at < end for start, end in self._fixed):
                raise ValueError(f"{len(code)} bytes at {at:#x} of the code arena are taken")
            self._fixed.append(span)
        try:
            self.fill(at, code)
        except BaseException:
            self._fixed.remove(span)
            raise

    def fill(self, at: int, code: bytes) -> None:
        """Put `code` into pages that were allocated, and make them executable.

        Raises EngineUnavailableError when the host allows no executable memory, HostRefusedError when it has no memory.
        """
        address, size = self.base + at, _pages(len(code))
        try:
            self._memory.make_writable(address, size)
            ctypes.memmove(address, code, len(code))
            self._memory.make_executable(address, size)
        except OSError as refused:
            self._memory.discard(address, size)
            if refused.errno in _REFUSALS:
                raise EngineUnavailableError(f"the host allows no executable memory: {refused.strerror}") from None
            raise HostRefusedError(
                refused.errno, f"no memory for {len(code)} bytes of code: {refused.strerror}"
            ) from None

    def free(self, at: int, size: int) -> None:
        """Give back what `allocate(size)` returned. Nothing may run there, or come back to it."""
        end = at + _pages(size)
        self._memory.discard(self.base + at, end - at)
        with self._lock:
            n = bisect_left(self._free, (at, end))
            self.used -= end - at
            if n < len(self._free) and self._free[n][0] == end:
                end = self._free.pop(n)[1]
            if n and self._free[n - 1][1] == at:
                n -= 1
                at = self._free.pop(n)[0]
            self._free.insert(n, (at, end))

    def data(self) -> int:
        """Make the first page readable and writable; its address. Raises HostRefusedError."""
        try:
            self._memory.make_writable(self.base, PAGE)
        except OSError as refused:
            raise HostRefusedError(refused.errno, f"no memory for tables: {refused.strerror}") from None
        return self.base

    def close(self) -> None:
        """Give the reservation back."""
        self._memory.release(self.base, self.size)


def unsupported() -> str | None:
    """Say why generated code cannot run on this host; None: it can, as far as is known before it is tried."""
    if sys.platform != "linux":
        return f"generated code runs on Linux x86-64 only, this is {sys.platform}"
    if os.uname().machine != "x86_64":
        return f"generated code runs on Linux x86-64 only, this is {os.uname().machine}"
    if sys.maxsize < 1 << 32:
        return "generated code needs a 64-bit Python"
    if mmap.PAGESIZE != PAGE:
        return f"generated code needs host pages of {PAGE} bytes, not {mmap.PAGESIZE}"
    return None


def _host_memory() -> HostMemory:
    reason = unsupported()
    if reason is not None:
        raise EngineUnavailableError(reason)
    return LinuxMemory()


def _pages(size: int) -> int:
    return max(-(-size // PAGE), 1) * PAGE


_arenas: list[CodeArena] = []
_first = threading.Lock()


def code_arena() -> CodeArena:
    """The process's arena, made when first asked for. Raises as `CodeArena` does."""
    if not _arenas:
        with _first:
            if not _arenas:
                _arenas.append(CodeArena())
    return _arenas[0]

"""Host memory that several address spaces can see: extents of one anonymous file (memfd), one descriptor for all.

Offsets are never used twice; a freed extent is a hole in the file and costs nothing. Where the host has no memfd an
extent is ordinary memory: it can be read and written, but not attached to a reservation.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
from functools import partial
from typing import Final

from aiopyvm.mem.layout import page_up

_PUNCH_HOLE_KEEP_SIZE: Final = 3  # fallocate(2)
_CHUNK: Final = 1 << 20


class Arena:
    """Hands out extents. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end = 0
        self._fd = -1
        if sys.platform == "linux":
            self._fd = os.memfd_create("aiopyvm", os.MFD_CLOEXEC)
            fallocate = ctypes.CDLL(None, use_errno=True).fallocate
            fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
            self._punch = partial(fallocate, self._fd, _PUNCH_HOLE_KEEP_SIZE)  # at Python's end globals are gone

    def allocate(self, size: int) -> Extent:
        """A new extent of `size` bytes, rounded up to pages, all zero. Raises OSError when the host refuses."""
        size = page_up(size)
        if self._fd < 0:
            return Extent(self, -1, 0, size)
        with self._lock:
            offset = self._end
            os.ftruncate(self._fd, offset + size)
            self._end += size
        return Extent(self, self._fd, offset, size)

    def free(self, offset: int, size: int) -> None:
        """Give the host back what an extent held."""
        self._punch(offset, size)


class Extent:
    """A zero-filled run of bytes; freed with its last reference."""

    __slots__ = ("_arena", "_memory", "fd", "offset", "size")

    def __init__(self, arena: Arena, fd: int, offset: int, size: int) -> None:
        self._arena = arena
        self.fd = fd
        self.offset = offset
        self.size = size
        self._memory = mmap.mmap(-1, size) if fd < 0 and size else None

    def read(self, at: int, length: int) -> bytes:
        """`length` bytes from `at`, fewer past the end."""
        length = max(0, min(length, self.size - at))
        if self._memory is not None:
            return self._memory[at : at + length]
        parts = []
        while length:
            part = os.pread(self.fd, min(length, _CHUNK), self.offset + at)
            parts.append(part)
            at += len(part)
            length -= len(part)
        return b"".join(parts)

    def view(self) -> memoryview:
        """The bytes themselves, one mapping of the host. Raises OSError where the host refuses it."""
        if self._memory is not None:
            return memoryview(self._memory)
        return memoryview(mmap.mmap(self.fd, self.size, offset=self.offset))

    def clear(self, at: int, length: int) -> None:
        """Make whole pages zeros, and give the host back what held them."""
        if self._memory is not None:
            self._memory[at : at + length] = bytes(length)
        else:
            self._arena.free(self.offset + at, length)

    def write(self, at: int, data: bytes | memoryview) -> None:
        """Replace the bytes from `at` on; what does not fit is ValueError."""
        if at + len(data) > self.size:
            raise ValueError(f"write of {len(data)} bytes at {at} past the end of an extent of {self.size}")
        if self._memory is not None:
            self._memory[at : at + len(data)] = bytes(data)
            return
        rest = memoryview(data)
        while rest:
            n = os.pwrite(self.fd, rest, self.offset + at)
            at, rest = at + n, rest[n:]

    def __del__(self) -> None:
        if self.fd >= 0 and self.size:
            self._arena.free(self.offset, self.size)


_arenas: list[Arena] = []
_first = threading.Lock()


def arena() -> Arena:
    """The process's arena, made when first asked for."""
    if not _arenas:
        with _first:
            if not _arenas:
                _arenas.append(Arena())
    return _arenas[0]

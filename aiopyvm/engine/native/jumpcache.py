"""The jump cache: from the address of an indirect jump to the record to go on at, in memory that generated code reads.

An address has two places, next to one another. Generated code looks at the first in line and at the second before it
leaves (`runtime_ir`). What always holds: an address is at one of its places, or nowhere; an entry of record 0 is free.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from aiopyvm.engine.native.layout import JumpEntry

ENTRY_SIZE: Final = ctypes.sizeof(JumpEntry)
_ENTRY: Final = struct.Struct("<II")
_FREE: Final = bytes(ENTRY_SIZE)


class JumpCache:
    """`size` entries (a power of two) of `memory` from `start` on."""

    __slots__ = ("_memory", "_start", "mask")

    def __init__(self, memory: bytearray | mmap.mmap, start: int, size: int) -> None:
        self._memory = memory
        self._start = start
        self.mask = size - 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over (address, record)."""
        return entries(self.content())

    def content(self) -> bytes:
        """All entries as they stand in memory."""
        return bytes(self._memory[self._start : self._start + ENTRY_SIZE * (self.mask + 1)])

    def fill(self, content: bytes) -> None:
        """Have what `content` had of another cache of this size."""
        self._memory[self._start : self._start + len(content)] = content

    def clear(self) -> None:
        """Forget all."""
        self.fill(bytes(ENTRY_SIZE * (self.mask + 1)))

    def get(self, eip: int) -> int:
        """The record for `eip`; 0: none."""
        at = self._find(eip)
        return int(_ENTRY.unpack_from(self._memory, at)[1]) if at >= 0 else 0

    def put(self, eip: int, record: int) -> bool:
        """Lead `eip` to `record` (not 0), unless both its places are others'."""
        at = self._find(eip)
        if at < 0:
            free = [place for place in self._places(eip) if not _ENTRY.unpack_from(self._memory, place)[1]]
            if not free:
                return False
            at = free[0]
        _ENTRY.pack_into(self._memory, at, eip, record)
        return True

    def push(self, eip: int, record: int) -> None:
        """Lead `eip` to `record`; where both its places are others', the second's loses it."""
        if not self.put(eip, record):
            first, second = self._places(eip)
            _ENTRY.pack_into(self._memory, second, *_ENTRY.unpack_from(self._memory, first))
            _ENTRY.pack_into(self._memory, first, eip, record)

    def replace(self, eip: int, record: int) -> None:
        """Lead `eip`, where it is known, to `record` (0: forget it)."""
        at = self._find(eip)
        if at >= 0:
            _ENTRY.pack_into(self._memory, at, eip if record else 0, record)

    def _places(self, eip: int) -> tuple[int, int]:
        first = self._start + ENTRY_SIZE * ((eip ^ eip >> 12) & self.mask)
        return first, (first - self._start ^ ENTRY_SIZE) + self._start

    def _find(self, eip: int) -> int:
        for at in self._places(eip):
            known, record = _ENTRY.unpack_from(self._memory, at)
            if known == eip and record:
                return at
        return -1


def entries(content: bytes) -> Iterator[tuple[int, int]]:
    """Iterate over the (address, record) of a cache's content."""
    return ((eip, record) for eip, record in _ENTRY.iter_unpack(content) if record)


def outside(content: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """A cache's content without the addresses [start, end) of `spans`."""
    spans = sorted(spans)
    starts = [start for start, _ in spans]
    left = bytearray(content)
    for n, (eip, record) in enumerate(_ENTRY.iter_unpack(content)):
        at = bisect_right(starts, eip) - 1 if record else -1
        if at >= 0 and eip < spans[at][1]:
            left[n * ENTRY_SIZE : (n + 1) * ENTRY_SIZE] = _FREE
    return bytes(left)


def joined(content: bytes, other: bytes) -> bytes:
    """A cache's content with what `other` has beside, as far as there is room."""
    memory = bytearray(content)
    cache = JumpCache(memory, 0, len(content) // ENTRY_SIZE)
    for eip, record in entries(other):
        if not cache.get(eip):
            cache.put(eip, record)
    return bytes(memory)

"""The list of mappings of one space, sorted by address, split and merged as Linux does it (mmap(2), munmap(2))."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from aiopyvm.mem.backing import Backing
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import PAGE, PROT_BITS, PROT_WRITE, TASK_SIZE, page_up

MAX_MAPPINGS: Final = 65530  # vm.max_map_count
MMAP_BASE: Final = 0xF7FFE000  # where a 64-bit kernel starts to place a 32-bit program's mappings, downwards
LOWEST: Final = 0x10000  # vm.mmap_min_addr: nothing is placed below unless asked for
STACK_GUARD: Final = 256 * PAGE  # kept free below a mapping that grows down
_BOTTOM_UP: Final = 0x55555000  # where the search upwards starts once the area below the base is full


class Mapping(NamedTuple):
    """[start, end), both multiples of the page size. `offset` is into `backing` (None: zeros), in bytes."""

    start: int
    end: int
    prot: int
    shared: bool
    grows_down: bool
    backing: Backing | None
    offset: int
    name: str

    @property
    def bits(self) -> int:
        """The page table's READ, WRITE, EXEC that `prot` allows."""
        return PROT_BITS[self.prot & 7]

    def clip(self, start: int, end: int) -> Mapping:
        """The part of this mapping in [start, end)."""
        if start <= self.start and self.end <= end:
            return self
        start, end = max(start, self.start), min(end, self.end)
        offset = self.offset + start - self.start if self.backing is not None else 0
        return Mapping(start, end, *self[2:6], offset, self.name)

    def protected(self, prot: int) -> Mapping:
        """This mapping with another protection."""
        return Mapping(self.start, self.end, prot, *self[3:])

    def continues(self, before: Mapping) -> bool:
        """True if `before` and this are one mapping in two pieces."""
        return (
            before.end == self.start
            and before[2:6] == self[2:6]
            and before.name == self.name
            and (self.backing is None or before.offset + before.end - before.start == self.offset)
        )


class Mappings:
    """Sorted, never overlapping; neighbours that continue one another are one."""

    __slots__ = ("_full_from", "_full_length", "_list", "_starts", "base", "committed")

    def __init__(self, mappings: list[Mapping] | None = None, base: int = MMAP_BASE) -> None:
        self.base = base  # below which they are placed where nobody asks for an address
        self._list = mappings or []
        self._starts = [m.start for m in self._list]
        self.committed = 0  # bytes of those that are private and writable: what could be touched at most
        self._full_length = 1 << 32  # nothing as long is free in [_full_from, base)
        self._full_from = base

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._list)

    def __len__(self) -> int:
        return len(self._list)

    def copy(self) -> Mappings:
        other = Mappings(self._list.copy(), self.base)
        other.committed = self.committed
        return other

    def clear(self) -> None:
        self._list.clear()
        self._starts.clear()
        self.committed = 0
        self._full_length = 1 << 32

    def find(self, address: int) -> Mapping | None:
        """The mapping that contains `address`."""
        i = bisect_right(self._starts, address) - 1
        if i >= 0 and address < self._list[i].end:
            return self._list[i]
        return None

    def around(self, address: int) -> tuple[Mapping | None, Mapping | None]:
        """For an `address` that is not mapped: the mappings below and above it."""
        i = bisect_right(self._starts, address)
        return (self._list[i - 1] if i else None), (self._list[i] if i < len(self._list) else None)

    def overlapping(self, start: int, end: int) -> list[Mapping]:
        """The mappings that share a byte with [start, end), whole."""
        first, last = self._span(start, end)
        return self._list[first:last]

    def covers(self, start: int, end: int) -> bool:
        """True if every page of [start, end) is mapped."""
        for m in self.overlapping(start, end):
            if m.start > start:
                return False
            start = m.end
        return start >= end

    def cut(self, start: int, end: int) -> list[Mapping]:
        """Take [start, end) out; the pieces taken."""
        first, last = self._span(start, end)
        old = self._list[first:last]
        if not old:
            return []
        if end > self._full_from:
            self._full_length = 1 << 32
        rest = [piece for piece in (old[0].clip(0, start), old[-1].clip(end, 1 << 32)) if piece.start < piece.end]
        self._splice(first, last, rest)
        old[-1] = old[-1].clip(start, end)
        old[0] = old[0].clip(start, end)
        self.committed -= _private_writable(old)
        return old

    def insert(self, *pieces: Mapping) -> None:
        """Add adjoining `pieces`, at least one, where nothing is mapped; neighbours that belong together become one."""
        first = last = bisect_right(self._starts, pieces[0].start)
        merged: list[Mapping] = []
        if first and pieces[0].continues(self._list[first - 1]):
            first -= 1
            merged.append(self._list[first])
        for piece in (*pieces, *self._list[last : last + 1]):
            if merged and piece.continues(merged[-1]):
                merged[-1] = merged[-1]._replace(end=piece.end)
            else:
                merged.append(piece)
        self._splice(first, last + 1, merged)
        self.committed += _private_writable(pieces)

    def areas(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that are mapped, without gaps in them."""
        low = high = start
        for m in self.overlapping(start, end):
            if m.start > high:
                if low < high:
                    yield low, high
                low = m.start
            high = min(m.end, end)
        if low < high:
            yield low, high

    def reach(self, start: int, end: int, count: int) -> int:
        """Where the mapping after the next `count` ones from `start` on begins; `end` at most."""
        first, _ = self._span(start, start + 1)
        return min(end, self._starts[first + count]) if first + count < len(self._starts) else end

    def find_free(self, length: int, hint: int = 0) -> int:
        """Where `length` bytes are free: at `hint`, else as high as possible below `base`; or AddressSpaceFull."""
        length = page_up(length)
        hint = page_up(hint)
        if hint >= LOWEST and hint + length <= TASK_SIZE and self._is_free(hint, hint + length):
            return hint
        high, i = self.base, len(self._list)
        if length >= self._full_length:
            high = self._full_from
            i = bisect_right(self._starts, high)
        while i:
            m = self._list[i - 1]
            if m.end <= high and high - m.end >= length:
                break
            high = min(high, m.start - STACK_GUARD if m.grows_down else m.start)
            i -= 1
        if high - length >= LOWEST:
            self._full_length, self._full_from = length, high
            return high - length
        return self._find_above(length)

    def _find_above(self, length: int) -> int:
        low = _BOTTOM_UP
        for m in self._list:
            if (m.start - STACK_GUARD if m.grows_down else m.start) - low >= length:
                return low
            low = max(low, m.end)
        if TASK_SIZE - low < length:
            raise AddressSpaceFull(f"no room for {length:#x} bytes")
        return low

    def _is_free(self, start: int, end: int) -> bool:
        below, above = self.around(start)
        if below is not None and below.end > start:
            return False
        return above is None or end <= (above.start - STACK_GUARD if above.grows_down else above.start)

    def _span(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._list[first].end <= start:
            first += 1
        return first, max(first, bisect_right(self._starts, end - 1))

    def _splice(self, first: int, last: int, new: list[Mapping]) -> None:
        self._list[first:last] = new
        self._starts[first:last] = [m.start for m in new]


def _private_writable(mappings: Iterable[Mapping]) -> int:
    size = 0
    for start, end, prot, shared, *_ in mappings:
        if prot & PROT_WRITE and not shared:
            size += end - start
    return size

"""Copy-on-write after fork: what a space lent to its heirs, and what it inherited and has not looked at yet.

A fork copies nothing. Each 64 KiB granule with private content becomes a `Granule` that the child refers to; the
content stays in the parent's reservation and the parent's pages lose their fast WRITE bit. The parent's next write to
a page first freezes the old content (one page) for whoever still refers to the granule; when nobody does, it simply
writes again. The child copies a page in when it first touches it. A granule lives by Python's references alone: its
owner holds it weakly.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Final

from aiopyvm.mem.budget import Budget
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT
from aiopyvm.mem.reservation import Reservation

SHIFT: Final = 4  # pages in a granule, as a power of two
SIZE: Final = 1 << SHIFT
COST: Final = 256  # bytes charged for what a granule's bookkeeping takes
MOST_HABITS: Final = 64  # granules of a space of which it is known what is done with them after a fork


class FrozenPage:
    """A page's content at a fork, charged (`paid`) until its last granule is gone."""

    __slots__ = ("_budget", "data")

    def __init__(self, data: bytes, budget: Budget) -> None:
        self.data = data
        self._budget = budget

    def __del__(self) -> None:
        self._budget.charge(-PAGE)


class Habit:
    """The pages of a granule (bit masks) that heirs have `read`, and that the owner has `written`, after some fork:
    they will do so after the next one, too."""

    __slots__ = ("read", "written")

    def __init__(self) -> None:
        self.read = self.written = 0


class Granule:
    """Pages `live` (a bit mask) are in `home` as they were at the fork, others were frozen."""

    __slots__ = ("__weakref__", "first", "frozen", "habit", "home", "live")

    def __init__(self, home: Reservation, first: int, live: int, habit: Habit | None) -> None:
        self.home = home
        self.first = first  # page number
        self.live = live
        self.habit = habit
        self.frozen: dict[int, FrozenPage] | None = None

    def read(self, page: int) -> bytes | memoryview:
        """The content of `page` at the fork."""
        if self.live >> (page - self.first) & 1:
            return self.home.view[page << PAGE_SHIFT : (page + 1) << PAGE_SHIFT]
        assert self.frozen is not None
        return self.frozen[page].data


class Lent:
    """Granules that others see in a space's reservation, by granule number."""

    __slots__ = ("_granules", "_habits")

    def __init__(self) -> None:
        self._granules: dict[int, list[weakref.ref[Granule]]] = {}
        self._habits: dict[int, Habit] = {}

    def __bool__(self) -> bool:
        return bool(self._granules)

    def lend(self, home: Reservation, number: int, mask: int) -> Granule:
        """A granule of pages `mask`; the last one lent if it still has just these."""
        refs = self._granules.get(number)
        if refs:
            last = refs[-1]()
            if last is not None and last.live == mask:
                return last
        habit = self._habits.get(number)
        if habit is None and len(self._habits) < MOST_HABITS:
            habit = self._habits[number] = Habit()
        granule = Granule(home, number << SHIFT, mask, habit)
        if refs is None:
            self._granules[number] = [weakref.ref(granule)]
        else:
            refs.append(weakref.ref(granule))
        return granule

    def holders(self, page: int) -> list[Granule]:
        """The granules for whose sake `page` must not change; forgets those that are gone."""
        number = page >> SHIFT
        refs = self._granules.get(number)
        if refs is None:
            return []
        granules = [granule for ref in refs if (granule := ref()) is not None and granule.live]
        if not granules:
            del self._granules[number]
            return []
        if len(granules) != len(refs):
            self._granules[number] = [weakref.ref(granule) for granule in granules]
        bit = 1 << (page & SIZE - 1)
        return [granule for granule in granules if granule.live & bit]

    def held_pages(self, start: int, end: int) -> list[int]:
        """The pages of [start, end) that have holders, in order."""
        pages = []
        for n in _numbers(self._granules, start, end):
            mask = 0
            for ref in self._granules[n]:
                if (granule := ref()) is not None:
                    mask |= granule.live
            if mask:
                first = n << SHIFT
                pages += [p for p in range(max(start, first), min(end, first + SIZE)) if mask >> (p - first) & 1]
        return pages


def numbered(first: int, mask: int) -> Iterator[int]:
    """The pages of `mask`, of a granule that begins with page `first`."""
    while mask:
        low = mask & -mask
        yield first + low.bit_length() - 1
        mask ^= low


def _numbers(granules: Mapping[int, object], start: int, end: int) -> list[int]:
    """The numbers in `granules` of those that have a page of [start, end), in order."""
    low, high = start >> SHIFT, (end - 1 >> SHIFT) + 1
    if high - low > len(granules):
        return sorted(n for n in granules if low <= n < high)
    return [n for n in range(low, high) if n in granules]


def _within(number: int, start: int, end: int) -> int:
    """The mask of the pages of a granule that lie in [start, end)."""
    first = number << SHIFT
    return (1 << min(end - first, SIZE)) - (1 << max(start - first, 0))


def freeze(page: int, holders: list[Granule], budget: Budget) -> None:
    """Give `holders` a copy of `page`, already charged to `budget`: its owner is about to change it."""
    copy = FrozenPage(bytes(holders[0].read(page)), budget)
    for granule in holders:
        granule.live &= ~(1 << (page - granule.first))
        if granule.frozen is None:
            granule.frozen = {}
        granule.frozen[page] = copy


class Inherited:
    """Pages that a space has from its ancestors and has not touched: by granule number, sources with disjoint masks."""

    __slots__ = ("_sources",)

    def __init__(self) -> None:
        self._sources: dict[int, tuple[tuple[Granule, int], ...]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def copy(self) -> Inherited:
        other = Inherited()
        other._sources = self._sources.copy()
        return other

    def add(self, number: int, granule: Granule, mask: int) -> None:
        """Pages `mask` of granule `number` come from `granule`."""
        self._sources[number] = (*self._sources.get(number, ()), (granule, mask))

    def source(self, page: int) -> Granule | None:
        """Where `page` comes from, if it is inherited."""
        sources = self._sources.get(page >> SHIFT)
        if sources is not None:
            bit = 1 << (page & SIZE - 1)
            for granule, mask in sources:
                if mask & bit:
                    return granule
        return None

    def count(self, start: int, end: int) -> int:
        """How many of the pages [start, end) are inherited."""
        return sum(
            (mask & _within(n, start, end)).bit_count()
            for n in _numbers(self._sources, start, end)
            for _, mask in self._sources[n]
        )

    def any(self, start: int, end: int) -> bool:
        """Some of the pages [start, end) are inherited."""
        sources = self._sources
        for n in _numbers(sources, start, end):
            within = _within(n, start, end)
            for _, mask in sources[n]:
                if mask & within:
                    return True
        return False

    def forget(self, page: int) -> None:
        """As `drop` of one page."""
        number = page >> SHIFT
        keep = ~(1 << (page & SIZE - 1))
        kept = tuple([(granule, mask & keep) for granule, mask in self._sources[number] if mask & keep])
        if kept:
            self._sources[number] = kept
        else:
            del self._sources[number]

    def drop(self, start: int, end: int) -> None:
        """Forget the pages [start, end)."""
        for n in _numbers(self._sources, start, end):
            keep = ~_within(n, start, end)
            kept = tuple((granule, mask & keep) for granule, mask in self._sources[n] if mask & keep)
            if kept:
                self._sources[n] = kept
            else:
                del self._sources[n]

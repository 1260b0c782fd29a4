"""Watching memory: an address space whose accesses to some pages are noted.

How it works. A watched space is an `AddressSpace` whose class was exchanged: the watched pages never have their
fast-path bits, so that every access to them goes through `load` and `store`, which note it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiopyvm.mem.layout import PAGE_SHIFT, READ, WRITE
from aiopyvm.mem.space import AddressSpace
from aiopyvm.runtime.hooks import MemoryHook


class Watch:
    """What is watched in one space, and the accesses (address, size, "r" or "w") noted since `accesses` was cleared."""

    def __init__(self, space: AddressSpace, hooks: Iterable[MemoryHook]) -> None:
        self.space = space
        self.ranges = [(hook.start, hook.end) for hook in hooks]
        self.accesses: list[tuple[int, int, str]] = []

    def covers(self, page: int) -> bool:
        """A byte of page number `page` is watched."""
        first = page << PAGE_SHIFT
        return any(start < first + (1 << PAGE_SHIFT) and first < end for start, end in self.ranges)

    def note(self, address: int, size: int, access: str) -> None:
        """An access was made."""
        if any(address < end and start < address + size for start, end in self.ranges):
            self.accesses.append((address, size, access))


_WATCHES: Final[dict[int, Watch]] = {}
"""By the id of the space, from `watch_space` until it is closed."""


class WatchedSpace(AddressSpace):
    """An address space some pages of which are watched."""

    __slots__ = ()

    def load(self, address: int, size: int) -> int:
        """As AddressSpace.load, noted."""
        value = super().load(address, size)
        _WATCHES[id(self)].note(address, size, "r")
        return value

    def store(self, address: int, size: int, value: int) -> None:
        """As AddressSpace.store, noted."""
        super().store(address, size, value)
        _WATCHES[id(self)].note(address, size, "w")

    def _set(self, page: int, bits: int) -> None:
        watch = _WATCHES.get(id(self))
        super()._set(page, bits if watch is None or not watch.covers(page) else bits & ~(READ | WRITE))

    def close(self) -> None:
        """Watch no more, and close."""
        _WATCHES.pop(id(self), None)
        super().close()


def watch_space(space: AddressSpace, hooks: Iterable[MemoryHook]) -> Watch:
    """Watch the ranges of `hooks` in `space`, from before its first instruction on."""
    watch = _WATCHES[id(space)] = Watch(space, hooks)
    space.__class__ = WatchedSpace  # the same layout: both have no slots of their own
    for base in tuple(space.readable | space.writable):
        if watch.covers(base >> PAGE_SHIFT):
            space._set(base >> PAGE_SHIFT, space.pages[base >> PAGE_SHIFT])
    return watch

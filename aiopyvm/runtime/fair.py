"""A queue that is fair by cost: who has used least, for its weight, goes first (stride scheduling).

Each entry carries a virtual time, its cost so far divided by its weight. An entry that comes back after a pause starts
at the queue's own time, so that having slept earns no right to run alone. Ties go in order of arrival: the order
depends on nothing but the sequence of calls.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    """What can stand in a `FairQueue`."""

    virtual_time: float

    @property
    def weight(self) -> float:
        """How much it may use, beside others."""
        ...


W = TypeVar("W", bound=Weighted)


class FairQueue(Generic[W]):
    """Entries by virtual time. An entry is pushed at most once until it is popped."""

    __slots__ = ("_arrivals", "_time", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, W]] = []  # to see whether there is one, at no cost
        self._arrivals = 0
        self._time = 0.0

    def __len__(self) -> int:
        return len(self.heap)

    def push(self, entry: W) -> None:
        """Add `entry`, not before the queue's own time."""
        at = entry.virtual_time
        if at < self._time:
            at = entry.virtual_time = self._time
        self._arrivals = n = self._arrivals + 1
        heappush(self.heap, (at, n, entry))

    def pop(self) -> W | None:
        """Take out the entry with the least virtual time; None when empty."""
        return self.first() if self.heap else None

    def first(self) -> W:
        """As `pop`, of a queue that is not empty."""
        self._time, _, entry = heappop(self.heap)
        return entry

    def pass_through(self, entry: W) -> None:
        """As `push` and then `pop`, where the queue is empty."""
        if entry.virtual_time < self._time:
            entry.virtual_time = self._time
        else:
            self._time = entry.virtual_time

    def remove(self, entry: W) -> None:
        """Take out `entry` if it is there; linear in the queue's length."""
        kept = [item for item in self.heap if item[2] is not entry]
        if len(kept) != len(self.heap):
            heapify(kept)
            self.heap = kept

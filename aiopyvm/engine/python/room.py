"""How much translated code one machine may hold: its address spaces share the room, however many it forks.

Translations cost the host memory that no budget is charged for (what a guest is charged must not depend on the
engine), so their number is bounded. The spaces that one budget pays for are one machine's, of which one at a time runs:
any of them may be told to drop what it has.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

from aiopyvm.mem.budget import Budget


class Holder(Protocol):
    """One space's translations."""

    def drop(self) -> None:
        """Drop them all, and take what they used off the room."""
        ...


class Room:
    """The room of one machine: its holders, oldest first, and what they use, in instructions."""

    __slots__ = ("__weakref__", "budget", "holders", "used")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.holders: dict[Holder, None] = {}
        self.used = 0

    def make(self, holder: Holder, most: int) -> None:
        """Where more than `most` is used: let others drop what they have, then `holder`, until half is free."""
        if self.used > most:
            for other in (*[each for each in self.holders if each is not holder], holder):
                other.drop()
                if self.used <= most // 2:
                    break


class Rooms:
    """The rooms of all machines, by the budget that pays for their memory; one lasts as long as its holders."""

    def __init__(self) -> None:
        self._rooms: WeakValueDictionary[int, Room] = WeakValueDictionary()

    def of(self, budget: Budget) -> Room:
        """The room of the spaces that `budget` pays for."""
        room = self._rooms.get(id(budget))
        if room is None:
            room = self._rooms[id(budget)] = Room(budget)
        return room

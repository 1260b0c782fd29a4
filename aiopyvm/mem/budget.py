"""What memory is charged to: a counter with a limit, owned by whoever runs the guest."""

from __future__ import annotations

from typing import Protocol


class Budget(Protocol):
    """Counts what a VM holds; refuses what is beyond its limit."""

    def charge(self, size_bytes: int) -> bool:
        """Take `size_bytes` (negative: give back, never refused); False, and nothing taken, when over the limit."""
        ...


class MemoryBudget(Budget, Protocol):
    """What all memory of a VM is charged to."""

    def room(self) -> int | None:
        """How much may still be taken at once; None: without bound."""
        ...


class Unlimited:
    """A budget that counts in `used` and refuses nothing."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def charge(self, size_bytes: int) -> bool:
        self.used += size_bytes
        return True

    def room(self) -> None:
        return None

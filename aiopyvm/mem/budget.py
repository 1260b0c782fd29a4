"""What memory is charged to: a counter with a limit, owned by whoever runs the guest."""

from __future__ import annotations

from typing import Protocol


class Budget(Protocol):
    """Counts what a VM holds; refuses what is beyond its limit."""

    def charge(self, size_bytes: int) -> bool:
        """Take `size_bytes` (negative: give back, never refused); False, and nothing taken, when over the limit."""
        ...


class Unlimited:
    """A budget that counts in `used` and refuses nothing."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def charge(self, size_bytes: int) -> bool:
        self.used += size_bytes
        return True

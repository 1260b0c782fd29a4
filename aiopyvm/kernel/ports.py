"""What the guest kernel asks of the host, as protocols: the one door for time, entropy and host input (rule 6).

The kernel imports nothing that does I/O; `aiopyvm.host` implements these, tests fake them.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time, in integer nanoseconds."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC: never goes back; zero is the start of the guest machine."""
        ...

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: since the Unix epoch."""
        ...


class Entropy(Protocol):
    """Random bytes."""

    def bytes(self, n: int) -> bytes:
        """Return `n` random bytes (n >= 0)."""
        ...


class Budget(Protocol):
    """Counts what a VM holds; refuses what is beyond its limit."""

    def charge(self, size_bytes: int) -> bool:
        """Take `size_bytes` (may be negative: give back); False, and nothing taken, when that is over the limit."""
        ...

"""Clocks for guests: the host's own, and a virtual one that the scheduler moves. Both are `kernel.ports.Clock`s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

VIRTUAL_EPOCH_NS: Final = 1_000_000_000 * 10**9  # 2001-09-09 01:46:40 UTC: where every virtual clock starts


def under_trio() -> bool:
    """Tell whether the caller runs in trio's event loop."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def loop_clock() -> Callable[[], int]:
    """Return the running event loop's clock in ns: the host's monotonic one, or the one of a trio test."""
    if not under_trio():
        return time.monotonic_ns
    import trio

    clock = trio.lowlevel.current_clock()
    if type(clock).__name__ == "SystemClock":
        return time.monotonic_ns
    return lambda: round(clock.current_time() * 1e9)


class RealClock:
    """The host's time, as `source` tells it (ns); its monotonic zero is the moment at which it was made."""

    __slots__ = ("_source", "start_ns")

    def __init__(self, source: Callable[[], int] = time.monotonic_ns) -> None:
        self._source = source
        self.start_ns = source()

    def monotonic_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._source() - self.start_ns

    def realtime_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()


class Timeline:
    """A time that moves only by `advance` (work was done) and `jump` (everybody sleeps); several clocks may show it."""

    __slots__ = ("now_ns",)

    def __init__(self) -> None:
        self.now_ns = 0

    def advance(self, ns: int) -> None:
        """Move `ns` >= 0 ahead."""
        self.now_ns += ns

    def jump(self, to_ns: int) -> None:
        """Move to `to_ns`; nothing happens when that has passed."""
        self.now_ns = max(self.now_ns, to_ns)


class VirtualClock:
    """A guest's view of a `Timeline`: zero when it was made, and a fixed date: the same in every run."""

    __slots__ = ("start_ns", "timeline")

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.start_ns = timeline.now_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return self.timeline.now_ns - self.start_ns

    def realtime_ns(self) -> int:
        """Nanoseconds since the Unix epoch; the clock starts at a fixed date."""
        return VIRTUAL_EPOCH_NS + self.timeline.now_ns - self.start_ns

    def move(self, timeline: Timeline) -> None:
        """Show another timeline from now on; the time shown does not change."""
        self.start_ns += timeline.now_ns - self.timeline.now_ns
        self.timeline = timeline

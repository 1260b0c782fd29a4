"""Clocks for guests: the host's own, and a virtual one that the scheduler moves. Both are `kernel.ports.Clock`s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

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


LOOK_NS: Final = 1_000_000_000  # from one look at the host's wall clock to the next
_SAMPLES: Final = 5
_TOLERANCE_NS: Final = 1_000


class WallClock:
    """How far the host's CLOCK_REALTIME is ahead of its CLOCK_MONOTONIC.

    The two differ by a constant until somebody sets the former, which is seen within a second of use. So all that a
    machine is told of both agrees.
    """

    def __init__(self) -> None:
        self.due_ns = 0  # of CLOCK_MONOTONIC: when to look again
        self._ahead_ns = 0
        self.followers: WeakSet[RealClock] = WeakSet()

    def ahead_ns(self, now_ns: int) -> int:
        """The difference, where CLOCK_MONOTONIC shows `now_ns`."""
        if now_ns >= self.due_ns:
            self.look(now_ns)
        return self._ahead_ns

    def look(self, now_ns: int) -> None:
        """See whether the clock was set, and tell who follows it."""
        self.due_ns = now_ns + LOOK_NS
        doubt, ahead = min(_sample() for _ in range(_SAMPLES))
        if abs(ahead - self._ahead_ns) > doubt + _TOLERANCE_NS:
            self._ahead_ns = ahead
            for clock in tuple(self.followers):
                clock.on_set()


def _sample() -> tuple[int, int]:
    """By how much it may be wrong, and the difference of the two clocks."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, wall - (before + after) // 2


WALL: Final = WallClock()


class RealClock:
    """The host's time, as `source` tells it (ns); its monotonic zero is the moment at which it was made.

    `on_set` is called when the host's wall clock was set (`follow`).
    """

    __slots__ = ("__weakref__", "_source", "on_set", "start_ns")

    def __init__(self, source: Callable[[], int] = time.monotonic_ns) -> None:
        self._source = source
        self.start_ns = source()
        self.on_set: Callable[[], None] = lambda: None

    @property
    def is_hosts(self) -> bool:
        """Whether it goes as the host's CLOCK_MONOTONIC; its zero is `start_ns` there."""
        return self._source is time.monotonic_ns and sys.platform == "linux"

    def follow(self, on_set: Callable[[], None]) -> None:
        """Call `on_set` as long as the clock is referred to."""
        self.on_set = on_set
        WALL.followers.add(self)

    def ahead_ns(self) -> int:
        """What `realtime_ns` is ahead of `monotonic_ns`."""
        return WALL.ahead_ns(time.monotonic_ns()) + self.start_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._source() - self.start_ns

    def realtime_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        now = time.monotonic_ns()
        return now + WALL.ahead_ns(now)


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

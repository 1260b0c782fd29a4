"""Timers: what is to happen when the monotonic clock reaches a time, and the interval timers of setitimer(2).

Two timers with one deadline fire in the order in which they were set.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, Protocol

from aiopyvm.abi.signal import SI_KERNEL, SIGALRM, SigInfo

if TYPE_CHECKING:
    from aiopyvm.kernel.process import Process


class Expiring(Protocol):
    """Whom a timer tells."""

    def timer_expired(self, now: int) -> None:
        """The deadline passed; it is `now` (ns, monotonic)."""
        ...


class Timer:
    """One deadline (ns, monotonic). `target` becomes None when the timer is cancelled or has fired."""

    __slots__ = ("deadline", "target")

    def __init__(self, deadline: int, target: Expiring) -> None:
        self.deadline = deadline
        self.target: Expiring | None = target

    def cancel(self) -> None:
        """Never fire; nothing happens when it has fired already."""
        self.target = None


class Timers:
    """All timers of a kernel."""

    __slots__ = ("_heap", "count")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self.count = 0  # of timers that were ever set

    def add(self, deadline: int, target: Expiring) -> Timer:
        """Tell `target` when the clock reaches `deadline`."""
        timer = Timer(deadline, target)
        self.count += 1
        heapq.heappush(self._heap, (deadline, self.count, timer))
        if len(self._heap) > 64 and self.count % 64 == 0:
            self._sweep()
        return timer

    def next_deadline(self) -> int | None:
        """Return the earliest deadline that is still to come, None when there is none."""
        heap = self._heap
        while heap and heap[0][2].target is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def expire(self, now: int) -> int:
        """Fire every timer whose deadline is not after `now`; return how many fired."""
        due: list[Timer] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        fired = 0
        for timer in due:
            target, timer.target = timer.target, None
            if target is not None:
                target.timer_expired(now)
                fired += 1
        return fired

    def _sweep(self) -> None:
        live = [entry for entry in self._heap if entry[2].target is not None]
        if len(live) * 2 < len(self._heap):
            self._heap = live
            heapq.heapify(live)


class RealTimer:
    """ITIMER_REAL of a process: SIGALRM when it expires, then every `interval` ns if that is not 0 (setitimer(2))."""

    __slots__ = ("_process", "_timer", "interval")

    SIGNAL: Final = SIGALRM

    def __init__(self, process: Process) -> None:
        self._process = process
        self._timer: Timer | None = None
        self.interval = 0

    def remaining(self, now: int) -> int:
        """Return the ns until it expires, 0 when it is not set."""
        timer = self._timer
        return max(1, timer.deadline - now) if timer is not None and timer.target is not None else 0

    def set(self, value: int, interval: int, now: int) -> None:
        """Expire in `value` ns; 0 disarms it."""
        self.cancel()
        self.interval = interval
        if value:
            self._timer = self._process.kernel.timers.add(now + value, self)

    def cancel(self) -> None:
        """Disarm it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def timer_expired(self, now: int) -> None:
        """Send the signal; set the next period, missed ones left out."""
        timer, self._timer = self._timer, None
        process = self._process
        if timer is not None and self.interval:
            missed = (now - timer.deadline) // self.interval + 1
            self._timer = process.kernel.timers.add(timer.deadline + missed * self.interval, self)
        process.kernel.send_signal(process, SigInfo(SIGALRM, SI_KERNEL))


class CpuTimer:
    """ITIMER_VIRTUAL or ITIMER_PROF: counts the process's own CPU time, looked at before each slice (setitimer(2))."""

    __slots__ = ("_expires", "interval", "signal")

    @property
    def armed(self) -> bool:
        """Whether it counts."""
        return self._expires != 0

    def __init__(self, signal: int) -> None:
        self.signal = signal
        self._expires = 0
        self.interval = 0

    def remaining(self, used: int) -> int:
        """Return the ns of CPU time until it expires, 0 when it is not set; `used` is the CPU time so far."""
        return max(1, self._expires - used) if self._expires else 0

    def set(self, value: int, interval: int, used: int) -> None:
        """Expire after `value` ns more of CPU time; 0 disarms it."""
        self.interval = interval
        self._expires = used + value if value else 0

    def poll(self, used: int) -> bool:
        """Tell whether it expired; sets the next period."""
        if not self._expires or used < self._expires:
            return False
        self._expires = used + self.interval if self.interval else 0
        return True

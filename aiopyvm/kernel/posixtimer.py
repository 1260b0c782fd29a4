"""The timers of timer_create(2): they send a signal when a clock reaches a time, and may go on periodically.

A clock is the machine's, or the CPU time of a process or thread; that is looked at before each of its slices.

How it works, as on Linux. A timer that expired has its signal pending at most once; while that is so no timer runs.
The delivery of the signal counts the periods that passed meanwhile as overruns and sets the next expiry. A signal that
is ignored or was dropped sets the next expiry too, at least QUIET_NS away: short periods nobody sees cost nothing.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from aiopyvm.abi.signal import SI_TIMER, SigInfo
from aiopyvm.kernel.thread import DEAD, Thread
from aiopyvm.kernel.timer import Timer

if TYPE_CHECKING:
    from aiopyvm.kernel.process import Process

MAX_OVERRUN: Final = 0x7FFFFFFF  # DELAYTIMER_MAX
QUIET_NS: Final = 10_000_000


class PosixTimer:
    """One timer. `signo` 0 sends nothing (SIGEV_NONE); with `thread` the signal is that thread's alone."""

    def __init__(
        self,
        process: Process,
        number: int,
        clock: int,
        signo: int,
        value: int,
        thread: Thread | None,
        subject: Process | Thread | None = None,
    ) -> None:
        self.process = process
        self.number = number
        self.clock = clock
        self.signo = signo
        self.value = value
        self.thread = thread
        self.subject = subject  # whose CPU time is its clock; None: it is monotonic
        self.interval = 0  # ns
        self.overrun = 0  # of the last signal delivered
        self._deadline = 0  # of the last or the next expiry, ns, monotonic; 0: it is off
        self._missed = 0  # periods that count for the signal to come
        self._timer: Timer | None = None
        self._setting = 0  # counts how often it was set: a signal of an earlier setting sets nothing any more

    def set(self, deadline: int, interval: int) -> None:
        """Expire at `deadline` (ns, monotonic; 0: never), then every `interval` ns, if that is not 0."""
        self.cancel()
        self._deadline, self.interval, self._missed = deadline, interval, 0
        self._setting += 1
        if deadline and self.signo:
            self._timer = self._start(deadline)

    def now(self) -> int:
        """The time by which it goes, ns."""
        if self.subject is None:
            return self.process.kernel.clock.monotonic_ns()
        return self.subject.cpu_ns

    def _start(self, deadline: int) -> Timer:
        subject = self.subject
        if subject is None:
            return self.process.kernel.timers.add(deadline, self)
        timer = Timer(deadline, self)
        owner = self.process if isinstance(subject, Thread) else subject
        owner.cpu_timers.append(timer)
        owner.meter()
        return timer

    def cancel(self) -> None:
        """Never expire."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def remaining(self) -> int:
        """Return the ns until it expires next; 0 when it is off or, without a period, has expired."""
        if not self._deadline:
            return 0
        now = self.now()
        if self._timer is None and self.interval:
            passed = max(0, now - self._deadline) // self.interval + 1
            return self._deadline + passed * self.interval - now if now >= self._deadline else self._deadline - now
        rest = self._deadline - now
        return max(1, rest) if self._timer is not None else max(0, rest)

    def timer_expired(self, now: int) -> None:
        """Send the signal."""
        self._timer = None
        kernel, thread = self.process.kernel, self.thread
        if thread is not None and thread.state is DEAD:
            return
        target = self.process if thread is None else thread
        union = struct.pack("<III", self.number, 0, self.value)
        info = SigInfo(self.signo, SI_TIMER, raw=union.ljust(116, b"\0"), timer=self, setting=self._setting)
        kernel.send_signal(target, info)
        if not target.pending.holds(info):
            self.dropped(info)

    def delivered(self, info: SigInfo) -> SigInfo:
        """The signal is being delivered: return it with its overruns, and set the next expiry."""
        if info.setting == self._setting:
            self.overrun = min(self._missed + self._next(0), MAX_OVERRUN)
            self._missed = 0
        return info._replace(raw=struct.pack("<III", self.number, self.overrun, self.value).ljust(116, b"\0"))

    def dropped(self, info: SigInfo) -> None:
        """The signal will not be delivered."""
        if info.setting == self._setting:
            self._next(QUIET_NS)

    def _next(self, least: int) -> int:
        """Set the next expiry, `least` ns away at least, if there is one; return how many periods passed unseen."""
        if not self.interval or self.number not in self.process.timers:
            return 0
        late = max(0, self.now() + least - self._deadline)
        missed = late // self.interval
        self._deadline += (missed + 1) * self.interval
        self._timer = self._start(self._deadline)
        return missed

"""Files that count or tell what happened: eventfd(2), timerfd_create(2), signalfd(2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import EAGAIN, EINVAL, Errno
from aiopyvm.abi.fcntl import O_RDWR
from aiopyvm.abi.poll import POLLERR, POLLIN, POLLOUT
from aiopyvm.abi.signal import signalfd_info
from aiopyvm.kernel.file import AnonymousFile
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.timer import Timer

MAX_COUNT: Final = (1 << 64) - 1
SIGNALFD_BYTES: Final = 128  # of struct signalfd_siginfo
MAX_TOLD: Final = 512  # signals that one read takes at most


class EventFile(AnonymousFile):
    """A counter: reads take it (or 1 of it, `semaphore`), writes add to it."""

    unit = 8

    def __init__(self, count: int, flags: int, *, semaphore: bool) -> None:
        super().__init__(b"[eventfd]", O_RDWR | flags)
        self._value = count
        self._semaphore = semaphore
        self._readers = WaitQueue("eventfd: a count")
        self._writers = WaitQueue("eventfd: room")

    def read(self, n: int) -> bytes:
        """Take the count. Raises Errno: EINVAL for less than 8 bytes, EAGAIN while it is 0."""
        if n < 8:
            raise Errno(EINVAL)
        if not self._value:
            raise Errno(EAGAIN)
        taken = 1 if self._semaphore else self._value
        self._value -= taken
        self._writers.wake()
        return struct.pack("<Q", taken)

    def write(self, data: bytes) -> int:
        """Add a number. Raises Errno: EINVAL for other than 8 bytes and for 2**64 - 1, EAGAIN where it does not fit."""
        if len(data) != 8:
            raise Errno(EINVAL)
        (more,) = struct.unpack("<Q", data)
        if more == MAX_COUNT:
            raise Errno(EINVAL)
        if self._value + more >= MAX_COUNT:
            raise Errno(EAGAIN)
        self._value += more
        self._readers.wake()
        return 8

    def poll(self) -> int:
        """Readable above 0, writable while 1 can be added."""
        events = POLLIN if self._value else 0
        return events | POLLOUT if self._value < MAX_COUNT - 1 else events | POLLERR * (self._value == MAX_COUNT)

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the queues of the sides asked for."""
        return (*((self._readers,) if events & POLLIN else ()), *((self._writers,) if events & POLLOUT else ()))


class TimerFile(AnonymousFile):
    """A timer that is read: how often it expired. As on Linux a period is not counted before somebody asks."""

    unit = 8

    def __init__(self, kernel: Kernel, clock: int, flags: int) -> None:
        super().__init__(b"[timerfd]", O_RDWR | flags)
        self.clock = clock
        self.interval = 0  # ns
        self._kernel = kernel
        self._timer: Timer | None = None
        self._deadline = 0  # of the last or the next expiry, ns, monotonic; 0: never set
        self._ticks = 0
        self._queue = WaitQueue("timerfd")

    def set(self, deadline: int, interval: int) -> None:
        """Expire at `deadline` (ns, monotonic; 0: never), then every `interval` ns, if that is not 0."""
        self.close()
        self._ticks, self._deadline, self.interval = 0, deadline, interval
        if deadline:
            self._timer = self._kernel.timers.add(deadline, self)

    def remaining(self) -> int:
        """Return the ns until it expires next, 0 when it is off."""
        self._count_periods()
        timer = self._timer
        return max(0, timer.deadline - self._kernel.clock.monotonic_ns()) if timer is not None else 0

    def timer_expired(self, now: int) -> None:
        """It has expired once more."""
        self._timer = None
        self._ticks += 1
        self._queue.wake()

    def _count_periods(self) -> None:
        """Count what has passed since the last expiry, and set the next."""
        if self._ticks and self.interval and self._timer is None:
            missed = max(0, self._kernel.clock.monotonic_ns() - self._deadline) // self.interval
            self._ticks += missed
            self._deadline += (missed + 1) * self.interval
            self._timer = self._kernel.timers.add(self._deadline, self)

    def read(self, n: int) -> bytes:
        """Take the number of expiries. Raises Errno: EINVAL for less than 8 bytes, EAGAIN while there was none."""
        if n < 8:
            raise Errno(EINVAL)
        if not self._ticks:
            raise Errno(EAGAIN)
        self._count_periods()
        ticks, self._ticks = self._ticks, 0
        return struct.pack("<Q", ticks & MAX_COUNT)

    def poll(self) -> int:
        """Readable once it expired."""
        return POLLIN if self._ticks else 0

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the one queue."""
        return (self._queue,)

    def close(self) -> None:
        """Never expire."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class SignalFile(AnonymousFile):
    """The pending signals of a set, of whoever asks: the thread whose call is being handled."""

    unit = SIGNALFD_BYTES

    def __init__(self, kernel: Kernel, wanted: int, flags: int) -> None:
        super().__init__(b"[signalfd]", O_RDWR | flags)
        self.wanted = wanted
        self._kernel = kernel

    def read(self, n: int) -> bytes:
        """Take signals. Raises Errno: EINVAL for less than one's bytes, EAGAIN where none is pending."""
        room = min(n // SIGNALFD_BYTES, MAX_TOLD)
        told: list[bytes] = []
        if not room:
            raise Errno(EINVAL)
        t = self._kernel.current
        while t is not None and len(told) < room:
            info = t.pending.take(self.wanted) or t.process.pending.take(self.wanted)
            if info is None:
                break
            told.append(signalfd_info(info))
        if not told:
            raise Errno(EAGAIN)
        return b"".join(told)

    def poll(self) -> int:
        """Readable while a signal of the set is pending for whoever asks."""
        t = self._kernel.current
        pending = 0 if t is None else t.pending.bits | t.process.pending.bits
        return POLLIN if pending & self.wanted else 0

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the queue of whoever asks, which every signal sent to its process wakes."""
        t = self._kernel.current
        if t is None:
            return ()
        if t.process.signal_queue is None:
            t.process.signal_queue = WaitQueue("a signal")
        return (t.process.signal_queue,)

    def wake(self) -> None:
        """The set is another one now: who waits looks again."""
        for queue in self.queues(POLLIN):
            queue.wake()

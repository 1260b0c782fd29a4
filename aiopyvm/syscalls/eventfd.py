"""Events as files: eventfd(2), timerfd_create(2), signalfd(2); the files are `kernel/eventfd.py`."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi import time as abi
from aiopyvm.abi.errno import EINVAL, EPERM, Errno
from aiopyvm.abi.fcntl import O_CLOEXEC, O_NONBLOCK
from aiopyvm.abi.signal import UNBLOCKABLE, Sigset
from aiopyvm.abi.time import Itimerspec32, Itimerspec64, check_itimerspec, itimerspec32, itimerspec64
from aiopyvm.kernel.eventfd import EventFile, SignalFile, TimerFile
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.files import OpenFlags, give
from aiopyvm.syscalls.spec import U32, Choice, Fd, Flags, In, Out, Size, syscall

EFD_SEMAPHORE: Final = 1
TFD_TIMER_CANCEL_ON_SET: Final = 2

EventFlags = Annotated[
    int, Flags({EFD_SEMAPHORE: "EFD_SEMAPHORE", O_NONBLOCK: "EFD_NONBLOCK", O_CLOEXEC: "EFD_CLOEXEC"})
]
TimerFlags = Annotated[
    int, Flags({abi.TIMER_ABSTIME: "TFD_TIMER_ABSTIME", TFD_TIMER_CANCEL_ON_SET: "TFD_TIMER_CANCEL_ON_SET"})
]
ClockId = Annotated[int, Choice(abi.CLOCK_NAMES)]

_CLOCKS: Final = (abi.CLOCK_REALTIME, abi.CLOCK_MONOTONIC, abi.CLOCK_BOOTTIME)
_ALARMS: Final = (abi.CLOCK_REALTIME_ALARM, abi.CLOCK_BOOTTIME_ALARM)


# --- eventfd ----------------------------------------------------------------------------------------------------------


@syscall(323, "eventfd", man="eventfd(2)")
def eventfd(t: Thread, initval: U32) -> int:
    """Open a counter."""
    return give(t, EventFile(initval, 0, semaphore=False))


@syscall(328, "eventfd2", man="eventfd(2)")
def eventfd2(t: Thread, initval: U32, flags: EventFlags) -> int:
    """Open a counter."""
    if flags & ~(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK):
        raise Errno(EINVAL)
    file = EventFile(initval, flags & O_NONBLOCK, semaphore=bool(flags & EFD_SEMAPHORE))
    return give(t, file, cloexec=bool(flags & O_CLOEXEC))


# --- timerfd ----------------------------------------------------------------------------------------------------------


@syscall(322, "timerfd_create", man="timerfd_create(2)")
def timerfd_create(t: Thread, clockid: ClockId, flags: OpenFlags) -> int:
    """Open a timer."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK) or clockid not in _CLOCKS + _ALARMS:
        raise Errno(EINVAL)
    if clockid in _ALARMS:
        raise Errno(EPERM)
    return give(t, TimerFile(t.kernel, clockid, flags & O_NONBLOCK), cloexec=bool(flags & O_CLOEXEC))


@syscall(325, "timerfd_settime", man="timerfd_create(2)")
def timerfd_settime(t: Thread, fd: Fd, flags: TimerFlags, new: In[Itimerspec32], old: Out[Itimerspec32]) -> int:
    """Set a timer; `old` gets what it was."""
    before = _settime(t, fd, flags, new.get())
    if old:
        old.put(itimerspec32(*before))
    return 0


@syscall(411, "timerfd_settime64", man="timerfd_create(2)")
def timerfd_settime64(t: Thread, fd: Fd, flags: TimerFlags, new: In[Itimerspec64], old: Out[Itimerspec64]) -> int:
    """timerfd_settime with 64-bit time."""
    before = _settime(t, fd, flags, new.get())
    if old:
        old.put(itimerspec64(*before))
    return 0


def _settime(t: Thread, fd: int, flags: int, given: Itimerspec32 | Itimerspec64) -> tuple[int, int]:
    """Set the timer; return the (interval, rest) that it had, in ns. Raises Errno: EINVAL, EBADF."""
    if flags & ~(abi.TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET):
        raise Errno(EINVAL)
    interval, value = check_itimerspec(given)
    timer = _timer_file(t, fd)
    clock = t.kernel.clock
    before = timer.interval, timer.remaining()
    deadline = clock.monotonic_ns() + value if value else 0
    if value and flags & abi.TIMER_ABSTIME:
        deadline = value
        if timer.clock == abi.CLOCK_REALTIME:
            deadline = max(1, value - clock.realtime_ns() + clock.monotonic_ns())
    timer.set(deadline, interval)
    return before


@syscall(326, "timerfd_gettime", man="timerfd_create(2)")
def timerfd_gettime(t: Thread, fd: Fd, value: Out[Itimerspec32]) -> int:
    """Tell what is left of a timer."""
    timer = _timer_file(t, fd)
    rest = timer.remaining()
    value.put(itimerspec32(timer.interval, rest))
    return 0


@syscall(410, "timerfd_gettime64", man="timerfd_create(2)")
def timerfd_gettime64(t: Thread, fd: Fd, value: Out[Itimerspec64]) -> int:
    """timerfd_gettime with 64-bit time."""
    timer = _timer_file(t, fd)
    rest = timer.remaining()
    value.put(itimerspec64(timer.interval, rest))
    return 0


def _timer_file(t: Thread, fd: int) -> TimerFile:
    file = t.process.fds.get(fd)
    if not isinstance(file, TimerFile):
        raise Errno(EINVAL)
    return file


# --- signalfd ---------------------------------------------------------------------------------------------------------


@syscall(321, "signalfd", man="signalfd(2)")
def signalfd(t: Thread, fd: Fd, mask: In[Sigset], sizemask: Size) -> int:
    """signalfd4 without flags."""
    return signalfd4(t, fd, mask, sizemask, 0)


@syscall(327, "signalfd4", man="signalfd(2)")
def signalfd4(t: Thread, fd: Fd, mask: In[Sigset], sizemask: Size, flags: OpenFlags) -> int:
    """Open a file that tells the pending signals of a set; or, with `fd`, change the set."""
    if sizemask != 8:
        raise Errno(EINVAL)
    wanted = mask.get().bits & ~UNBLOCKABLE
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        raise Errno(EINVAL)
    if fd == -1:
        return give(t, SignalFile(t.kernel, wanted, flags & O_NONBLOCK), cloexec=bool(flags & O_CLOEXEC))
    file = t.process.fds.get(fd)
    if not isinstance(file, SignalFile):
        raise Errno(EINVAL)
    file.wanted = wanted
    file.wake()
    return fd

"""Timers that send signals: timer_create(2) and its relatives; the timers are `kernel/posixtimer.py`."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from aiopyvm.abi import time as abi
from aiopyvm.abi.errno import EAGAIN, EINVAL, ENOTSUP, Errno
from aiopyvm.abi.layout import layout
from aiopyvm.abi.resource import RLIMIT_SIGPENDING
from aiopyvm.abi.signal import NSIG, SIGALRM
from aiopyvm.abi.time import Itimerspec32, Itimerspec64, check_itimerspec, itimerspec32, itimerspec64
from aiopyvm.kernel.posixtimer import PosixTimer
from aiopyvm.kernel.process import TIMER_BYTES, Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.spec import I32, Choice, Flags, In, Out, syscall
from aiopyvm.syscalls.time import cpu_subject

SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4
ClockId = Annotated[int, Choice(abi.CLOCK_NAMES)]
TimerFlags = Annotated[int, Flags({abi.TIMER_ABSTIME: "TIMER_ABSTIME"})]
_CLOCKFD_MASK: Final = 7
_CLOCKFD: Final = 3  # of a clock that is an open file
_CPU_CLOCKS: Final = (abi.CLOCK_PROCESS_CPUTIME_ID, abi.CLOCK_THREAD_CPUTIME_ID)
_CLOCKS: Final = (abi.CLOCK_REALTIME, abi.CLOCK_MONOTONIC, abi.CLOCK_BOOTTIME, abi.CLOCK_TAI)


@layout("<Iiii48x")
class SigEvent(NamedTuple):
    """struct sigevent of i386."""

    value: int
    signo: int
    notify: int
    tid: int


@syscall(259, "timer_create", man="timer_create(2)")
def timer_create(t: Thread, clockid: ClockId, sevp: In[SigEvent], timerid: Out[I32]) -> int:
    """Make a timer."""
    event = sevp.get() if sevp else None
    if clockid in _CPU_CLOCKS or clockid < 0:
        if clockid & _CLOCKFD_MASK == _CLOCKFD:
            raise Errno(ENOTSUP)
        subject: Process | Thread | None = cpu_subject(t, clockid)
    elif clockid in _CLOCKS:
        subject = None
    else:
        raise Errno(ENOTSUP if clockid in abi.CLOCK_NAMES else EINVAL)
    process = t.process
    if len(process.timers) >= process.limits[RLIMIT_SIGPENDING][0] or not t.kernel.charge(TIMER_BYTES):
        raise Errno(EAGAIN)
    number = process.next_timer
    try:
        if event is None:
            event = SigEvent(number, SIGALRM, SIGEV_SIGNAL, 0)
        thread = _thread(t, event)
        timerid.put(number)
    except BaseException:
        t.kernel.budget.charge(-TIMER_BYTES)
        raise
    signo = 0 if event.notify == SIGEV_NONE else event.signo
    process.timers[number] = PosixTimer(process, number, clockid, signo, event.value, thread, subject)
    process.next_timer += 1
    return 0


def _thread(t: Thread, event: SigEvent) -> Thread | None:
    """Return the one thread that gets the signal, None: any of the process. Raises Errno(EINVAL)."""
    if event.notify not in (SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID):
        raise Errno(EINVAL)
    if event.notify != SIGEV_NONE and not 1 <= event.signo <= NSIG:
        raise Errno(EINVAL)
    if event.notify != SIGEV_THREAD_ID:
        return None
    thread = t.process.threads.get(event.tid)
    if thread is None:
        raise Errno(EINVAL)
    return thread


def _timer(t: Thread, number: int) -> PosixTimer:
    timer = t.process.timers.get(number)
    if timer is None:
        raise Errno(EINVAL)
    return timer


@syscall(260, "timer_settime", man="timer_settime(2)")
def timer_settime(t: Thread, timerid: I32, flags: TimerFlags, new: In[Itimerspec32], old: Out[Itimerspec32]) -> int:
    """Set a timer; `old` gets what it was."""
    before = _settime(t, timerid, flags, new)
    if old:
        old.put(itimerspec32(*before))
    return 0


@syscall(409, "timer_settime64", man="timer_settime(2)")
def timer_settime64(t: Thread, timerid: I32, flags: TimerFlags, new: In[Itimerspec64], old: Out[Itimerspec64]) -> int:
    """timer_settime with 64-bit time."""
    before = _settime(t, timerid, flags, new)
    if old:
        old.put(itimerspec64(*before))
    return 0


def _settime(t: Thread, number: int, flags: int, new: In[Itimerspec32] | In[Itimerspec64]) -> tuple[int, int]:
    """Set a timer; return the (interval, rest) that it had, in ns. Raises Errno(EINVAL) and MemoryFault."""
    if not new:
        raise Errno(EINVAL)
    interval, value = check_itimerspec(new.get())
    timer = _timer(t, number)
    clock = t.kernel.clock
    before = timer.interval, timer.remaining()
    deadline = timer.now() + value if value else 0
    if value and flags & abi.TIMER_ABSTIME:
        shift = clock.realtime_ns() - clock.monotonic_ns() if timer.clock in (abi.CLOCK_REALTIME, abi.CLOCK_TAI) else 0
        deadline = max(1, value - shift)
    timer.set(deadline, interval if value else 0)
    if timer.subject is not None:
        t.attention = True  # so that the kernel looks at its CPU time
    return before


@syscall(261, "timer_gettime", man="timer_settime(2)")
def timer_gettime(t: Thread, timerid: I32, value: Out[Itimerspec32]) -> int:
    """Tell what is left of a timer."""
    timer = _timer(t, timerid)
    value.put(itimerspec32(timer.interval, timer.remaining()))
    return 0


@syscall(408, "timer_gettime64", man="timer_settime(2)")
def timer_gettime64(t: Thread, timerid: I32, value: Out[Itimerspec64]) -> int:
    """timer_gettime with 64-bit time."""
    timer = _timer(t, timerid)
    value.put(itimerspec64(timer.interval, timer.remaining()))
    return 0


@syscall(262, "timer_getoverrun", man="timer_getoverrun(2)")
def timer_getoverrun(t: Thread, timerid: I32) -> int:
    """How many periods passed unseen before the last signal was delivered."""
    return _timer(t, timerid).overrun


@syscall(263, "timer_delete", man="timer_delete(2)")
def timer_delete(t: Thread, timerid: I32) -> int:
    """Forget a timer; a signal of it that is pending stays."""
    _timer(t, timerid).cancel()
    del t.process.timers[timerid]
    t.kernel.budget.charge(-TIMER_BYTES)
    return 0

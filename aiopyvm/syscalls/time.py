"""Time: clock_gettime(2), clock_nanosleep(2), gettimeofday(2), setitimer(2), alarm(2), times(2).

Clocks come from the kernel's clock port; CPU-time clocks count virtual time (kernel/process.py).
"""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi import time as abi
from aiopyvm.abi.errno import EINVAL, ENOTSUP, EPERM, Errno
from aiopyvm.abi.resource import Tms
from aiopyvm.abi.time import NS, TICK_NS, Itimerval, Timespec32, Timespec64, Timeval32, Timezone, split_ns, split_us
from aiopyvm.kernel.process import Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.syscalls.spec import I32, U32, Choice, Flags, In, Out, syscall

ClockId = Annotated[int, Choice(abi.CLOCK_NAMES)]
SleepFlags = Annotated[int, Flags({abi.TIMER_ABSTIME: "TIMER_ABSTIME"})]
Which = Annotated[int, Choice({0: "ITIMER_REAL", 1: "ITIMER_VIRTUAL", 2: "ITIMER_PROF"})]

CPUCLOCK_WHICH: Final = 3
CPUCLOCK_SCHED: Final = 2
CPUCLOCK_PERTHREAD: Final = 4
COARSE_NS: Final = 4_000_000
_REALTIME: Final = (abi.CLOCK_REALTIME, abi.CLOCK_REALTIME_COARSE, abi.CLOCK_TAI)
_MONOTONIC: Final = (
    abi.CLOCK_MONOTONIC, abi.CLOCK_MONOTONIC_RAW, abi.CLOCK_MONOTONIC_COARSE, abi.CLOCK_BOOTTIME
)  # fmt: skip
_COARSE: Final = (abi.CLOCK_REALTIME_COARSE, abi.CLOCK_MONOTONIC_COARSE)
_SLEEPLESS: Final = (  # nobody can sleep by them; the alarm clocks are of a device that is not there
    *_COARSE, abi.CLOCK_MONOTONIC_RAW, abi.CLOCK_PROCESS_CPUTIME_ID, abi.CLOCK_THREAD_CPUTIME_ID,
    abi.CLOCK_REALTIME_ALARM, abi.CLOCK_BOOTTIME_ALARM,
)  # fmt: skip

AnyTimespec = Timespec32 | Timespec64


# --- reading clocks ---------------------------------------------------------------------------------------------------


def _now(t: Thread, clock: int) -> int:
    """Return a clock's time in ns. Raises Errno(EINVAL)."""
    if clock in _REALTIME:
        now = t.kernel.clock.realtime_ns()
    elif clock in _MONOTONIC:
        now = t.kernel.clock.monotonic_ns()
    else:
        return cpu_subject(t, clock).cpu_ns
    return now - now % COARSE_NS if clock in _COARSE else now


def cpu_subject(t: Thread, clock: int) -> Process | Thread:
    """Whose CPU time a clock tells: the caller's, or by its id (clock_getcpuclockid(3)). Raises Errno(EINVAL)."""
    if clock == abi.CLOCK_PROCESS_CPUTIME_ID:
        return t.process
    if clock == abi.CLOCK_THREAD_CPUTIME_ID:
        return t
    if clock >= 0 or clock & CPUCLOCK_WHICH == CPUCLOCK_WHICH:
        raise Errno(EINVAL)
    number = ~(clock >> 3)
    if clock & CPUCLOCK_PERTHREAD:
        thread = t.kernel.threads.get(number) if number else t
        if thread is None or thread.process is not t.process:
            raise Errno(EINVAL)
        return thread
    process = t.kernel.find_process(number) if number else t.process
    if process is None:
        raise Errno(EINVAL)
    return process


@syscall(265, "clock_gettime", man="clock_gettime(2)")
def clock_gettime(t: Thread, clockid: ClockId, tp: Out[Timespec32]) -> int:
    """A clock's time."""
    seconds, ns = split_ns(_now(t, clockid))
    tp.put(Timespec32(_wrapped(seconds), ns))
    return 0


@syscall(403, "clock_gettime64", man="clock_gettime(2)")
def clock_gettime64(t: Thread, clockid: ClockId, tp: Out[Timespec64]) -> int:
    """A clock's time."""
    tp.put(Timespec64(*split_ns(_now(t, clockid))))
    return 0


def _resolution(t: Thread, clockid: int) -> int:
    """Nanoseconds. Raises Errno(EINVAL) for what is no clock."""
    _now(t, clockid)
    return COARSE_NS if clockid in _COARSE else 1


@syscall(266, "clock_getres", man="clock_getres(2)")
def clock_getres(t: Thread, clockid: ClockId, res: Out[Timespec32]) -> int:
    """A clock's resolution."""
    resolution = _resolution(t, clockid)
    if res:
        res.put(Timespec32(0, resolution))
    return 0


@syscall(406, "clock_getres_time64", man="clock_getres(2)")
def clock_getres_time64(t: Thread, clockid: ClockId, res: Out[Timespec64]) -> int:
    """A clock's resolution."""
    resolution = _resolution(t, clockid)
    if res:
        res.put(Timespec64(0, resolution))
    return 0


@syscall(78, "gettimeofday", man="gettimeofday(2)")
def gettimeofday(t: Thread, tv: Out[Timeval32], tz: Out[Timezone]) -> int:
    """The time of day, in UTC."""
    if tv:
        seconds, us = split_us(t.kernel.clock.realtime_ns())
        tv.put(Timeval32(_wrapped(seconds), us))
    if tz:
        tz.put(Timezone(0, 0))
    return 0


@syscall(13, "time", man="time(2)")
def time(t: Thread, tloc: Out[U32]) -> int:
    """Seconds since the Epoch."""
    seconds = t.kernel.clock.realtime_ns() // NS & 0xFFFFFFFF
    if tloc:
        tloc.put(seconds)
    return seconds


@syscall(43, "times", man="times(2)")
def times(t: Thread, buf: Out[Tms]) -> int:
    """CPU times of the process and its waited-for children; the clock, in ticks."""
    p = t.process
    if buf:
        used = (p.user_ns, p.system_ns, p.child_usage.user_ns, p.child_usage.system_ns)
        buf.put(Tms(*(_wrapped(ns // TICK_NS) for ns in used)))
    return t.kernel.clock.monotonic_ns() // TICK_NS & 0x7FFFFFFF


def _wrapped(value: int) -> int:
    return (value + 0x80000000 & 0xFFFFFFFF) - 0x80000000


# --- setting clocks ---------------------------------------------------------------------------------------------------


@syscall(25, "stime", man="stime(2)")
def stime(t: Thread, tptr: In[I32]) -> int:
    """Not a guest's to set."""
    tptr.get()
    raise Errno(EPERM)


@syscall(79, "settimeofday", man="settimeofday(2)")
def settimeofday(t: Thread, tv: In[Timeval32], tz: In[Timezone]) -> int:
    """Not a guest's to set."""
    if tv and not 0 <= tv.get().tv_usec < 1_000_000:
        raise Errno(EINVAL)
    raise Errno(EPERM)


@syscall(264, "clock_settime", man="clock_settime(2)")
def clock_settime(t: Thread, clockid: ClockId, tp: In[Timespec32]) -> int:
    """Not a guest's to set."""
    return _refuse_setting(clockid, tp)


@syscall(404, "clock_settime64", man="clock_settime(2)")
def clock_settime64(t: Thread, clockid: ClockId, tp: In[Timespec64]) -> int:
    """Not a guest's to set."""
    return _refuse_setting(clockid, tp)


def _refuse_setting(clock: int, tp: In[Timespec32] | In[Timespec64]) -> int:
    if clock != abi.CLOCK_REALTIME:
        raise Errno(EINVAL)
    _duration(tp.get())
    raise Errno(EPERM)


# --- sleeping ---------------------------------------------------------------------------------------------------------


def _duration(spec: AnyTimespec) -> int:
    """Return ns. Raises Errno(EINVAL)."""
    if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
        raise Errno(EINVAL)
    return spec.tv_sec * NS + spec.tv_nsec


@syscall(162, "nanosleep", man="nanosleep(2)")
def nanosleep(t: Thread, req: In[Timespec32], rem: Out[Timespec32]) -> int | Wait:
    """Sleep; a signal that is handled ends it, and `rem` tells what was left."""
    return _sleep(t, abi.CLOCK_MONOTONIC, 0, req, rem, Timespec32)


@syscall(267, "clock_nanosleep", man="clock_nanosleep(2)")
def clock_nanosleep(
    t: Thread, clockid: ClockId, flags: SleepFlags, req: In[Timespec32], rem: Out[Timespec32]
) -> int | Wait:
    """Sleep by a clock, for a time or until one."""
    return _sleep(t, clockid, flags, req, rem, Timespec32)


@syscall(407, "clock_nanosleep_time64", man="clock_nanosleep(2)")
def clock_nanosleep_time64(
    t: Thread, clockid: ClockId, flags: SleepFlags, req: In[Timespec64], rem: Out[Timespec64]
) -> int | Wait:
    """Sleep by a clock, for a time or until one."""
    return _sleep(t, clockid, flags, req, rem, Timespec64)


def _sleep(
    t: Thread,
    clock: int,
    flags: int,
    req: In[Timespec32] | In[Timespec64],
    rem: Out[Timespec32] | Out[Timespec64],
    form: type[AnyTimespec],
) -> int | Wait:
    call = t.call
    assert call is not None
    absolute = bool(flags & abi.TIMER_ABSTIME)
    now = t.kernel.clock.monotonic_ns()
    if call.deadline is None:
        if clock in _SLEEPLESS:
            raise Errno(ENOTSUP)
        if clock not in _REALTIME and clock not in _MONOTONIC:
            raise Errno(EINVAL)
        wanted = _duration(req.get())
        call.deadline = now + wanted - (_now(t, clock) if absolute else 0)
    if call.woken is Cause.TIMEOUT or call.deadline <= now:
        return 0
    if call.woken is Cause.SIGNAL and rem and not absolute:
        seconds, ns = split_ns(call.deadline - now)
        rem.put(form(seconds, ns))  # type: ignore[arg-type]
    restart = Restart.NOHAND if absolute else Restart.BLOCK
    return Wait(deadline=call.deadline, restart=restart, reason="the clock")


# --- interval timers --------------------------------------------------------------------------------------------------


@syscall(27, "alarm", man="alarm(2)")
def alarm(t: Thread, seconds: U32) -> int:
    """SIGALRM after some seconds, 0: none; what was left of the one before, rounded."""
    timer, now = t.process.real_timer, t.kernel.clock.monotonic_ns()
    left = timer.remaining(now)
    timer.set(min(seconds, 0x7FFFFFFF) * NS, 0, now)
    whole, rest = split_ns(left)
    return whole + 1 if (not whole and rest) or rest >= NS // 2 else whole


@syscall(104, "setitimer", man="setitimer(2)")
def setitimer(t: Thread, which: Which, new: In[Itimerval], old: Out[Itimerval]) -> int:
    """Set an interval timer."""
    given = new.get() if new else Itimerval(0, 0, 0, 0)
    if min(given.interval_sec, given.value_sec) < 0 or not all(
        0 <= us < 1_000_000 for us in (given.interval_usec, given.value_usec)
    ):
        raise Errno(EINVAL)
    before = _itimer(t, which)
    value = given.value_sec * NS + given.value_usec * 1000
    interval = given.interval_sec * NS + given.interval_usec * 1000
    process = t.process
    if which == abi.ITIMER_REAL:
        process.real_timer.set(value, interval, t.kernel.clock.monotonic_ns())
    elif which == abi.ITIMER_VIRTUAL:
        process.virtual_timer.set(value, interval, process.user_ns)
    else:
        process.profile_timer.set(value, interval, process.user_ns + process.system_ns)
    if which != abi.ITIMER_REAL:
        process.meter()
        t.attention = True
    if old:
        old.put(before)
    return 0


@syscall(105, "getitimer", man="getitimer(2)")
def getitimer(t: Thread, which: Which, value: Out[Itimerval]) -> int:
    """Tell what is left of an interval timer."""
    value.put(_itimer(t, which))
    return 0


def _itimer(t: Thread, which: int) -> Itimerval:
    process = t.process
    if which == abi.ITIMER_REAL:
        left, interval = process.real_timer.remaining(t.kernel.clock.monotonic_ns()), process.real_timer.interval
    elif which == abi.ITIMER_VIRTUAL:
        left, interval = process.virtual_timer.remaining(process.user_ns), process.virtual_timer.interval
    elif which == abi.ITIMER_PROF:
        used = process.user_ns + process.system_ns
        left, interval = process.profile_timer.remaining(used), process.profile_timer.interval
    else:
        raise Errno(EINVAL)
    if 0 < left < 1000:
        left = 1000
    return Itimerval(*split_us(interval), *split_us(left))

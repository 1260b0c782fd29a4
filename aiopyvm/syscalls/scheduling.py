"""Scheduling beyond priorities: sched_setattr(2), ioprio_set(2); and adjtimex(2), which guests may read."""

from __future__ import annotations

import struct
from typing import Annotated, Final

from aiopyvm.abi.errno import E2BIG, EINVAL, EOPNOTSUPP, EPERM, ESRCH, Errno
from aiopyvm.abi.time import CLOCK_NAMES, CLOCK_REALTIME, split_us
from aiopyvm.kernel.process import Process
from aiopyvm.kernel.thread import IoContext, Thread
from aiopyvm.syscalls.limits import SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR, set_nice
from aiopyvm.syscalls.spec import I32, U32, Choice, Hex, Pid, Ptr, syscall

# --- sched_setattr ----------------------------------------------------------------------------------------------------

_ATTR: Final = struct.Struct("<IIQiIQQQ")  # struct sched_attr of Linux 3.14
SCHED_DEADLINE: Final = 6


def _process(t: Thread, pid: int) -> Process:
    """Return the process of a thread id, 0: of this one. Raises Errno: EINVAL, ESRCH."""
    if pid < 0:
        raise Errno(EINVAL)
    return _thread(t, pid).process


def _thread(t: Thread, pid: int) -> Thread:
    thread = t.kernel.threads.get(pid) if pid else t
    if thread is None:
        raise Errno(ESRCH)
    return thread


@syscall(352, "sched_getattr", man="sched_setattr(2)")
def sched_getattr(t: Thread, pid: Pid, attr: Ptr, size: U32, flags: U32) -> int:
    """Tell the policy, which is always SCHED_OTHER, and the nice value."""
    if not attr or pid < 0 or not _ATTR.size <= size <= 4096 or flags:
        raise Errno(EINVAL)
    t.memory.write(attr, _ATTR.pack(_ATTR.size, SCHED_OTHER, 0, _thread(t, pid).nice, 0, 0, 0, 0))
    return 0


@syscall(
    351, "sched_setattr", man="sched_setattr(2)", note="policies other than SCHED_OTHER change nothing, or are EPERM"
)
def sched_setattr(t: Thread, pid: Pid, attr: Ptr, flags: U32) -> int:
    """Set the nice value."""
    if not attr or pid < 0 or flags:
        raise Errno(EINVAL)
    size = t.memory.load(attr, 4) or _ATTR.size
    if not _ATTR.size <= size <= 4096:
        t.memory.store(attr, 4, _ATTR.size)
        raise Errno(E2BIG)
    _, policy, _, nice, priority, *_ = _ATTR.unpack(t.memory.read(attr, _ATTR.size))
    thread = _thread(t, pid)
    if policy not in (SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE, SCHED_DEADLINE):
        raise Errno(EINVAL)
    real_time = policy in (SCHED_FIFO, SCHED_RR)
    if real_time != bool(priority):
        raise Errno(EINVAL)
    if real_time or policy == SCHED_DEADLINE:
        raise Errno(EPERM)
    if policy != SCHED_IDLE:
        set_nice(t, thread, max(-20, min(19, nice)), EPERM)
    return 0


# --- ioprio -----------------------------------------------------------------------------------------------------------

IoWho = Annotated[int, Choice({1: "IOPRIO_WHO_PROCESS", 2: "IOPRIO_WHO_PGRP", 3: "IOPRIO_WHO_USER"})]
_CLASS_SHIFT: Final = 13
_REAL_TIME, _BEST_EFFORT, _IDLE = 1, 2, 3


def _whom(t: Thread, which: int, who: int) -> list[Thread]:
    """Return the threads meant; none: a process that has ended. Raises Errno: EINVAL, ESRCH."""
    if which == 1:
        ended = t.kernel.processes.get(who)
        return [] if ended is not None and not ended.threads else [_thread(t, who)]
    if which == 2:
        group = who or t.process.group
        found = [thread for thread in reversed(t.kernel.threads.values()) if thread.process.group == group]
    elif which == 3:
        found = [thread for thread in t.kernel.threads.values() if thread.credentials.uid == who]
    else:
        raise Errno(EINVAL)
    if not found:
        raise Errno(ESRCH)
    return found


def _priority(thread: Thread) -> int:
    """What was set, or what goes with the nice value."""
    set_one = thread.io.priority if thread.io is not None else 0
    return set_one if set_one >> _CLASS_SHIFT else _BEST_EFFORT << _CLASS_SHIFT | (thread.nice + 20) // 5


@syscall(290, "ioprio_get", man="ioprio_set(2)")
def ioprio_get(t: Thread, which: IoWho, who: I32) -> int:
    """Tell the I/O priority that was set for a thread; of several threads, the best that any has."""
    found = _whom(t, which, who)
    if which == 1:
        return next((thread.io.priority for thread in found if thread.io is not None), 0)
    return min(map(_priority, found))


@syscall(289, "ioprio_set", man="ioprio_set(2)", note="kept and told; it changes nothing")
def ioprio_set(t: Thread, which: IoWho, who: I32, ioprio: Hex) -> int:
    """Set the I/O priority of threads."""
    kind, level = ioprio >> _CLASS_SHIFT & 7, ioprio & 7
    mine = t.credentials
    if kind == _REAL_TIME and mine.euid:
        raise Errno(EPERM)
    if kind > _IDLE or (not kind and level):
        raise Errno(EINVAL)
    for thread in _whom(t, which, who):
        if mine.euid and thread.credentials.uid not in (mine.euid, mine.uid):
            raise Errno(EPERM)
        thread.io = thread.io or IoContext()
        thread.io.priority = ioprio & 0xFFFF
    return 0


# --- adjtimex ---------------------------------------------------------------------------------------------------------

ClockId = Annotated[int, Choice(CLOCK_NAMES)]
_TIMEX: Final = struct.Struct("<I4ii3i2i3ii5ii44x")
_TIMEX64: Final = struct.Struct("<I4x4qi4x3q2q3qi4x5qi44x")
_READ_ONLY: Final = (0, 0xA001)  # modes: nothing, ADJ_OFFSET_SS_READ
STA_UNSYNC: Final = 0x40
TIME_ERROR: Final = 5  # the clock is not synchronised to any other


def _adjtimex(t: Thread, address: int, form: struct.Struct) -> int:
    (modes, *_) = form.unpack(t.memory.read(address, form.size))
    if modes not in _READ_ONLY:
        raise Errno(EPERM)
    unknown = 16_000_000  # microseconds: as large as an error is told
    seconds, us = split_us(t.kernel.clock.realtime_ns())
    seconds = seconds if form is _TIMEX64 else (seconds + 0x80000000 & 0xFFFFFFFF) - 0x80000000
    state = (modes, 0, 0, unknown, unknown, STA_UNSYNC, 2, 1, 32_768_000, seconds, us, 10_000)
    t.memory.write(address, form.pack(*state, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    return TIME_ERROR


@syscall(124, "adjtimex", man="adjtimex(2)", note="reading only")
def adjtimex(t: Thread, buf: Ptr) -> int:
    """Tell how the clock is kept; setting it is EPERM."""
    return _adjtimex(t, buf, _TIMEX)


@syscall(343, "clock_adjtime", man="adjtimex(2)", note="reading only")
def clock_adjtime(t: Thread, clockid: ClockId, buf: Ptr) -> int:
    """adjtimex of CLOCK_REALTIME."""
    return _clock_adjtime(t, clockid, buf, _TIMEX)


@syscall(405, "clock_adjtime64", man="adjtimex(2)", note="reading only")
def clock_adjtime64(t: Thread, clockid: ClockId, buf: Ptr) -> int:
    """clock_adjtime with 64-bit time."""
    return _clock_adjtime(t, clockid, buf, _TIMEX64)


def _clock_adjtime(t: Thread, clockid: int, buf: int, form: struct.Struct) -> int:
    t.memory.read(buf, form.size)
    if clockid != CLOCK_REALTIME:
        raise Errno(EOPNOTSUPP if clockid in CLOCK_NAMES else EINVAL)
    return _adjtimex(t, buf, form)

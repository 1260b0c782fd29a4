"""Limits, usage and scheduling: getrlimit(2), getrusage(2), sysinfo(2), getpriority(2), sched_setscheduler(2)."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi import resource as abi
from aiopyvm.abi.errno import EACCES, EINVAL, EPERM, ESRCH, Errno
from aiopyvm.abi.resource import RLIM32_INFINITY, RLIM_INFINITY, Rlimit, Rlimit64, Rusage, Sysinfo
from aiopyvm.abi.time import NS, Timespec32, Timespec64, split_us
from aiopyvm.kernel.process import Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.layout import PAGE
from aiopyvm.syscalls.spec import I32, Choice, In, Out, Pid, Ptr, Size, syscall

Resource = Annotated[int, Choice(abi.NAMES)]
Who = Annotated[int, Choice({0: "RUSAGE_SELF", -1: "RUSAGE_CHILDREN", 1: "RUSAGE_THREAD"})]
PriorityWhich = Annotated[int, Choice({0: "PRIO_PROCESS", 1: "PRIO_PGRP", 2: "PRIO_USER"})]
Policy = Annotated[int, Choice({0: "SCHED_OTHER", 1: "SCHED_FIFO", 2: "SCHED_RR", 3: "SCHED_BATCH", 5: "SCHED_IDLE"})]

SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 0, 1, 2, 3, 5
YIELD_BYTES: Final = 16 * 5000  # what sched_yield is charged for, so that it costs a good part of a usual quantum
ROUND_ROBIN_NS: Final = 100_000_000


# --- limits -----------------------------------------------------------------------------------------------------------


def _limits(process: Process, resource: int) -> tuple[int, int]:
    if not 0 <= resource < abi.RLIM_NLIMITS:
        raise Errno(EINVAL)
    return process.limits[resource]


def _set_limits(t: Thread, process: Process, resource: int, soft: int, hard: int) -> None:
    """Set a soft and a hard limit. Raises Errno: EINVAL, EPERM."""
    _, old_hard = _limits(process, resource)
    if soft > hard:
        raise Errno(EINVAL)
    if resource == abi.RLIMIT_NOFILE and hard > t.kernel.open_files:
        raise Errno(EPERM)
    if hard > old_hard and t.credentials.euid != 0:
        raise Errno(EPERM)
    process.limits[resource] = (soft, hard)
    if resource == abi.RLIMIT_NOFILE:
        process.fds.limit = soft
    elif resource == abi.RLIMIT_STACK:
        process.memory.stack_limit = min(soft, 1 << 30)
    elif resource == abi.RLIMIT_CPU:
        process.meter()
        t.attention = True


@syscall(191, "ugetrlimit", man="getrlimit(2)")
def ugetrlimit(t: Thread, resource: Resource, rlim: Out[Rlimit]) -> int:
    """A soft and a hard limit."""
    rlim.put(Rlimit(*(min(value, RLIM32_INFINITY) for value in _limits(t.process, resource))))
    return 0


@syscall(76, "getrlimit", man="getrlimit(2)")
def getrlimit(t: Thread, resource: Resource, rlim: Out[Rlimit]) -> int:
    """A soft and a hard limit, at most 2 GiB - 1."""
    rlim.put(Rlimit(*(min(value, abi.OLD_RLIM_INFINITY) for value in _limits(t.process, resource))))
    return 0


@syscall(75, "setrlimit", man="setrlimit(2)")
def setrlimit(t: Thread, resource: Resource, rlim: In[Rlimit]) -> int:
    """Set a soft and a hard limit."""
    given = rlim.get()
    soft, hard = (RLIM_INFINITY if value == RLIM32_INFINITY else value for value in given)
    _set_limits(t, t.process, resource, soft, hard)
    return 0


@syscall(340, "prlimit64", man="prlimit(2)")
def prlimit64(t: Thread, pid: Pid, resource: Resource, new_limit: In[Rlimit64], old_limit: Out[Rlimit64]) -> int:
    """Set and tell a soft and a hard limit of any process of the user."""
    process = t.kernel.find_process(pid) if pid else t.process
    given = new_limit.get() if new_limit else None
    if process is None:
        raise Errno(ESRCH)
    old = _limits(process, resource)
    if process is not t.process and t.credentials.euid not in (0, process.credentials.uid):
        raise Errno(EPERM)
    if given is not None:
        _set_limits(t, process, resource, given.rlim_cur, given.rlim_max)
    if old_limit:
        old_limit.put(Rlimit64(*old))
    return 0


# --- usage ------------------------------------------------------------------------------------------------------------


def rusage_of(user_ns: int, system_ns: int, max_pages: int) -> Rusage:
    """Return struct rusage for CPU times and a largest resident set."""
    return Rusage(*split_us(user_ns), *split_us(system_ns), max_pages * (PAGE // 1024))


@syscall(77, "getrusage", man="getrusage(2)")
def getrusage(t: Thread, who: Who, usage: Out[Rusage]) -> int:
    """CPU time and the largest resident set."""
    p = t.process
    pages = max(p.usage.max_pages, t.memory.peak_resident_pages)
    if who == abi.RUSAGE_SELF:
        result = rusage_of(p.user_ns, p.system_ns, pages)
    elif who == abi.RUSAGE_CHILDREN:
        result = rusage_of(p.child_usage.user_ns, p.child_usage.system_ns, p.child_usage.max_pages)
    elif who == abi.RUSAGE_THREAD:
        result = rusage_of(t.core.cpu.instructions, t.system_ns, pages)
    else:
        raise Errno(EINVAL)
    usage.put(result)
    return 0


@syscall(116, "sysinfo", man="sysinfo(2)")
def sysinfo(t: Thread, info: Out[Sysinfo]) -> int:
    """The machine's memory, uptime and number of processes; its memory is the limit."""
    kernel = t.kernel
    total = min(kernel.memory_limit, 0xFFFFFFFF)
    spaces = {process.mm for process in kernel.processes.values()}
    used = sum(mm.space.resident_pages for mm in spaces) * PAGE
    uptime = kernel.clock.monotonic_ns() // NS & 0x7FFFFFFF
    free = max(0, total - used)
    procs = len(kernel.threads) & 0xFFFF
    info.put(Sysinfo(uptime, 0, 0, 0, total, free, 0, 0, 0, 0, procs, 0, 0, 0, 1))
    return 0


# --- priorities and scheduling ----------------------------------------------------------------------------------------


def _by_priority_key(t: Thread, which: int, who: int) -> list[Thread]:
    """Return one thread, those of a group's processes, or a user's. Raises Errno: EINVAL, ESRCH."""
    threads = t.kernel.threads
    if which == 0:
        found = [threads[who or t.tid]] if who == 0 or who in threads else []
    elif which == 1:
        found = [one for one in threads.values() if one.process.group == (who or t.process.group)]
    elif which == 2:
        found = [one for one in threads.values() if one.credentials.uid == (who or t.credentials.uid)]
    else:
        raise Errno(EINVAL)
    if not found:
        raise Errno(ESRCH)
    return found


@syscall(96, "getpriority", man="getpriority(2)")
def getpriority(t: Thread, which: PriorityWhich, who: I32) -> int:
    """The highest priority of a thread or some processes: 20 minus the nice value."""
    return max(20 - one.nice for one in _by_priority_key(t, which, who))


@syscall(97, "setpriority", man="setpriority(2)")
def setpriority(t: Thread, which: PriorityWhich, who: I32, prio: I32) -> int:
    """Set the nice value of a thread or of some processes."""
    nice = max(-20, min(19, prio))
    for thread in _by_priority_key(t, which, who):
        set_nice(t, thread, nice, EACCES)
    return 0


@syscall(34, "nice", man="nice(2)")
def nice(t: Thread, inc: I32) -> int:
    """Raise the nice value."""
    increment = max(-40, min(40, inc))
    set_nice(t, t, max(-20, min(19, t.nice + increment)), EPERM)
    return 0


def set_nice(t: Thread, thread: Thread, nice: int, error: int) -> None:
    """Set the nice value of a thread. Raises Errno: EPERM for another user's, `error` for a lower one."""
    who = t.credentials.euid
    if who and who not in (thread.credentials.uid, thread.credentials.euid):
        raise Errno(EPERM)
    if nice < thread.nice and who:
        raise Errno(error)
    thread.nice = nice


@syscall(158, "sched_yield", man="sched_yield(2)")
def sched_yield(t: Thread) -> int:
    """Let others run: it costs as much as running."""
    t.moved += YIELD_BYTES
    t.yields = t.attention = True
    return 0


@syscall(242, "sched_getaffinity", man="sched_setaffinity(2)")
def sched_getaffinity(t: Thread, pid: Pid, cpusetsize: Size, mask: Ptr) -> int:
    """The machine has one CPU; the size of the kernel's set."""
    if cpusetsize * 8 < 1 or cpusetsize & 3:
        raise Errno(EINVAL)
    _need_thread(t, pid)
    t.memory.write(mask, b"\1\0\0\0")
    return 4


@syscall(241, "sched_setaffinity", man="sched_setaffinity(2)")
def sched_setaffinity(t: Thread, pid: Pid, cpusetsize: Size, mask: Ptr) -> int:
    """A set that has the one CPU in it is what holds already."""
    given = t.memory.read(mask, min(cpusetsize, 4))
    _need_thread(t, pid)
    if not given or not given[0] & 1:
        raise Errno(EINVAL)
    return 0


@syscall(157, "sched_getscheduler", man="sched_setscheduler(2)")
def sched_getscheduler(t: Thread, pid: Pid) -> int:
    """The scheduling policy."""
    _need_thread(t, pid)
    return SCHED_OTHER


@syscall(
    156,
    "sched_setscheduler",
    man="sched_setscheduler(2)",
    note="policies without priorities alone; they make no difference",
)
def sched_setscheduler(t: Thread, pid: Pid, policy: Policy, param: In[I32]) -> int:
    """Only the policies without priorities may be had, and make no difference."""
    if not param or pid < 0 or policy < 0:
        raise Errno(EINVAL)
    priority = param.get()
    _need_thread(t, pid)
    if policy in (SCHED_FIFO, SCHED_RR) and 1 <= priority <= 99:
        raise Errno(EPERM)
    if policy not in (SCHED_OTHER, SCHED_BATCH, SCHED_IDLE) or priority:
        raise Errno(EINVAL)
    return 0


@syscall(155, "sched_getparam", man="sched_setparam(2)")
def sched_getparam(t: Thread, pid: Pid, param: Out[I32]) -> int:
    """The static priority, which is 0."""
    if not param:
        raise Errno(EINVAL)
    _need_thread(t, pid)
    param.put(0)
    return 0


@syscall(154, "sched_setparam", man="sched_setparam(2)")
def sched_setparam(t: Thread, pid: Pid, param: In[I32]) -> int:
    """The static priority can only be 0."""
    if not param:
        raise Errno(EINVAL)
    priority = param.get()
    _need_thread(t, pid)
    if priority:
        raise Errno(EINVAL)
    return 0


@syscall(159, "sched_get_priority_max", man="sched_get_priority_max(2)")
def sched_get_priority_max(t: Thread, policy: Policy) -> int:
    """The highest static priority of a policy."""
    return _priority_bound(policy, 99)


@syscall(160, "sched_get_priority_min", man="sched_get_priority_max(2)")
def sched_get_priority_min(t: Thread, policy: Policy) -> int:
    """The lowest static priority of a policy."""
    return _priority_bound(policy, 1)


def _priority_bound(policy: int, bound: int) -> int:
    if policy in (SCHED_FIFO, SCHED_RR):
        return bound
    if policy in (SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, 6):
        return 0
    raise Errno(EINVAL)


@syscall(161, "sched_rr_get_interval", man="sched_rr_get_interval(2)")
def sched_rr_get_interval(t: Thread, pid: Pid, tp: Out[Timespec32]) -> int:
    """The round-robin quantum."""
    _need_thread(t, pid)
    tp.put(Timespec32(0, ROUND_ROBIN_NS))
    return 0


@syscall(423, "sched_rr_get_interval_time64", man="sched_rr_get_interval(2)")
def sched_rr_get_interval_time64(t: Thread, pid: Pid, tp: Out[Timespec64]) -> int:
    """The round-robin quantum."""
    _need_thread(t, pid)
    tp.put(Timespec64(0, ROUND_ROBIN_NS))
    return 0


@syscall(318, "getcpu", man="getcpu(2)")
def getcpu(t: Thread, cpu: Out[I32], node: Out[I32], unused: Ptr) -> int:
    """The machine has one CPU and one node."""
    for out in (cpu, node):
        if out:
            out.put(0)
    return 0


def _need_thread(t: Thread, pid: int) -> None:
    if pid < 0:
        raise Errno(EINVAL)
    if pid and pid not in t.kernel.threads:
        raise Errno(ESRCH)

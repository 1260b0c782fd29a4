"""Delivering signals: what Linux does on its way back to the program (signal(7), "Execution of signal handlers").

`resume` alternates between the call in progress and the pending signals until the thread can run instructions, or
cannot run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aiopyvm.abi import signal as abi
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_CORE, RLIMIT_CPU
from aiopyvm.abi.signal import (
    SI_KERNEL,
    SIG_DFL,
    SIG_IGN,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGXCPU,
    KernelSigaction,
    SigInfo,
    bit,
)
from aiopyvm.abi.time import NS
from aiopyvm.kernel import jobs, lifecycle, ptrace, rseq, send, sigframe
from aiopyvm.kernel.process import EndReason, Process
from aiopyvm.kernel.thread import RUNNABLE, Thread
from aiopyvm.mem.faults import MemoryFault

if TYPE_CHECKING:
    from aiopyvm.kernel.posixtimer import PosixTimer


def resume(t: Thread) -> int:
    """Finish `t`'s call and deliver its signals, as far as that goes now; return the cost in virtual instructions."""
    cost = 0
    while t.state is RUNNABLE:
        if t.process.dumping is not None:
            from aiopyvm.kernel import coredump

            cost += coredump.go_on(t, t.process.dumping)
            break
        if t.trace is not None and ptrace.stop_before_user(t):
            break
        if t.state is not RUNNABLE:
            break
        if t.call is not None and t.interrupted is None:
            cost += t.kernel.syscalls.proceed(t)
        elif t.attention:
            deliver(t)
        else:
            poll_cpu_timers(t.process)
            if not t.attention:
                break
    return cost


def poll_cpu_timers(process: Process) -> None:
    """Send what ITIMER_VIRTUAL, ITIMER_PROF and RLIMIT_CPU are due to send."""
    if process.limits[RLIMIT_CPU][0] != RLIM_INFINITY:
        _check_cpu_limit(process)
    if process.virtual_timer.armed and process.virtual_timer.poll(process.user_ns):
        send.send_signal(process, SigInfo(process.virtual_timer.signal, SI_KERNEL))
    if process.profile_timer.armed and process.profile_timer.poll(process.user_ns + process.system_ns):
        send.send_signal(process, SigInfo(process.profile_timer.signal, SI_KERNEL))
    if process.cpu_timers:
        _expire(process)


def _expire(process: Process) -> None:
    """Fire the timers of timer_create(2) whose CPU time has come."""
    timers, process.cpu_timers = process.cpu_timers, []
    now = process.kernel.clock.monotonic_ns()
    for timer in timers:
        target = cast("PosixTimer | None", timer.target)
        if target is not None and target.now() >= timer.deadline:
            timer.target = None
            target.timer_expired(now)
        elif target is not None:
            process.cpu_timers.append(timer)
    process.meter()


def _check_cpu_limit(process: Process) -> None:
    """SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one (setrlimit(2))."""
    soft, hard = process.limits[RLIMIT_CPU]
    used = (process.user_ns + process.system_ns) // NS
    if used >= max(hard, 1):
        send.send_signal(process, SigInfo(SIGKILL, SI_KERNEL))
    elif used >= max(soft, 1):
        process.limits[RLIMIT_CPU] = (used + 1, hard)
        send.send_signal(process, SigInfo(SIGXCPU, SI_KERNEL))


def deliver(t: Thread) -> None:
    """Deliver every signal that the mask lets through: at the end `t` runs a handler, goes on, is stopped or dead."""
    t.attention = False
    handled = False
    process = t.process
    while True:
        info = _injected(t)
        if info is None:
            info = t.pending.take(~t.mask) or process.pending.take(~t.mask)
            if info is None:
                break
            if t.trace is not None and info.signo != SIGKILL and not t.pending_bits() & bit(SIGKILL):
                ptrace.signal_stop(t, info)
                return
        if t.kernel.strace is not None:
            from aiopyvm.kernel.tracetext import signal_text

            t.kernel.strace(t, signal_text(info))
        action = process.actions[info.signo]
        if action.handler == SIG_IGN:
            continue
        if action.handler != SIG_DFL:
            _handle(t, info, action)
            handled = True
        elif _default_action(t, info):
            return
    if t.interrupted is not None and not handled:
        t.kernel.syscalls.interrupt(t, handler=False, restart=True)


def _injected(t: Thread) -> SigInfo | None:
    """The signal that the tracer lets through after its stop."""
    if t.trace is None:
        return None
    info, t.trace.injected = t.trace.injected, None
    return info


def _default_action(t: Thread, info: SigInfo) -> bool:
    """Do what the default action of a signal is; True when the thread does not go on."""
    signo = info.signo
    if abi.IGNORED_BY_DEFAULT & bit(signo):
        return False
    if abi.STOPS & bit(signo):
        if signo != SIGSTOP and jobs.is_orphaned(t.kernel, t.process.group):
            return False
        t.attention = True  # look again when continued: other signals, and the interrupted call
        send.stop_process(t.process, signo)
        if t.trace is not None:
            ptrace.group_stop(t, signo)
        return True
    if t.trace is not None and signo != SIGKILL and ptrace.exit_stop(t, signo):
        t.trace.injected = info
        return True
    if abi.DUMPS & bit(signo) and t.process.limits[RLIMIT_CORE][0]:
        from aiopyvm.kernel import coredump  # at the first use: few ask for it

        if coredump.begin(t, info):
            return True
    lifecycle.end_process(t.process, signo, EndReason.SIGNALED)
    return True


def _handle(t: Thread, info: SigInfo, action: KernelSigaction) -> None:
    """Let `t` run a handler: end its call, push the frame, block what is to be blocked."""
    old_mask = t.mask
    if t.interrupted is not None:
        call = t.call
        if call is not None and call.saved_mask is not None:
            old_mask, call.saved_mask = call.saved_mask, None
        t.kernel.syscalls.interrupt(t, handler=True, restart=bool(action.flags & abi.SA_RESTART))
    if t.rseq is not None:
        rseq.interrupted(t)
    try:
        sigframe.push(t, info, action, old_mask)
    except MemoryFault as fault:
        if fault.out_of_memory:
            lifecycle.end_run(t.kernel, EndReason.MEMORY_LIMIT)
            return
        if info.signo == SIGSEGV:
            t.process.actions[SIGSEGV] = KernelSigaction(SIG_DFL, 0, 0, 0)
        send.force_signal(t, SigInfo(SIGSEGV, SI_KERNEL))
        return
    if action.flags & abi.SA_RESETHAND:
        t.process.actions[info.signo] = action._replace(handler=SIG_DFL)
    if t.trace is not None and t.trace.steps:
        t.trace.stepped = True
    blocked = action.mask | (0 if action.flags & abi.SA_NODEFER else bit(info.signo))
    t.set_mask(t.mask | blocked)

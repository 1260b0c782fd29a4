"""Sending signals: what is discarded, where a signal becomes pending, and which thread it wakes (signal(7))."""

from __future__ import annotations

from aiopyvm.abi import signal as abi
from aiopyvm.abi.signal import SIG_IGN, SIGCHLD, SIGCONT, SIGKILL, KernelSigaction, SigInfo, bit
from aiopyvm.kernel.process import Life, Process
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.kernel.wait import Cause


def send_signal(target: Process | Thread, info: SigInfo) -> bool:
    """Make a signal pending and wake whom it concerns; signal 0 and what has ended are nothing.

    False when the queue of pending signals was full, so that only the signal's number was kept (sigqueue(3), EAGAIN).
    """
    process = target if isinstance(target, Process) else target.process
    signo = info.signo
    if process.life is not Life.ALIVE or not signo or (process.dumping is not None and signo != SIGKILL):
        return True
    if signo == SIGCONT:
        _flush(process, abi.STOPS)
        continue_process(process)
    elif abi.STOPS & bit(signo):
        _flush(process, bit(SIGCONT))
    taker = target if isinstance(target, Thread) else process.main
    if taker is None or taker.state is RunState.DEAD:
        return True
    if process.actions.ignores(signo) and not taker.mask & bit(signo) and taker.trace is None:
        return True
    kept = target.pending.add(info)
    if process.signal_queue is not None:
        process.signal_queue.wake()
    if isinstance(target, Process):
        taker = _thread_for(process, taker, signo)
    if not taker.mask & bit(signo):
        notify(taker, signo)
    elif isinstance(target, Process):
        _notify_waiters(process, signo)
    else:
        _notify_waiter(taker, signo)
    return kept


def force_signal(thread: Thread, info: SigInfo) -> None:
    """Make a signal pending that the thread cannot put off: a blocked or ignored one gets its default action."""
    mask = bit(info.signo)
    actions = thread.process.actions
    if thread.mask & mask or actions[info.signo].handler == SIG_IGN:
        actions[info.signo] = KernelSigaction(abi.SIG_DFL, 0, 0, 0)
        thread.mask &= ~mask
    thread.pending.add(info)
    notify(thread, info.signo)


def notify(thread: Thread, signo: int) -> None:
    """Let `thread` look at its pending signals."""
    thread.attention = True
    if thread.state is RunState.PARKED:
        wait = thread.wait
        if signo == SIGKILL or wait is None or not wait.uninterruptible:
            thread.kernel.unpark(thread, Cause.SIGNAL)
    elif thread.state in (RunState.STOPPED, RunState.TRACED) and signo == SIGKILL:
        thread.kernel.make_runnable(thread)


def stop_process(process: Process, signo: int) -> None:
    """Stop every thread, as the default action of `signo`; tell the parent."""
    process.stop_signal = signo
    process.stop_unreported = True
    process.continued_unreported = False
    for thread in process.threads.values():
        if thread.state is RunState.RUNNABLE:
            thread.attention = True
            thread.state = RunState.STOPPED
    _tell_parent(process, abi.CLD_STOPPED, signo)


def continue_process(process: Process) -> None:
    """Let a stopped process go on (SIGCONT); nothing happens to one that is not stopped."""
    if not process.stop_signal:
        return
    process.stop_signal = 0
    process.stop_unreported = False
    process.continued_unreported = True
    for thread in tuple(process.threads.values()):
        if thread.state is RunState.STOPPED:
            thread.kernel.make_runnable(thread)
        elif thread.trace is not None:
            from aiopyvm.kernel import ptrace

            ptrace.continued(thread)
    _tell_parent(process, abi.CLD_CONTINUED, SIGCONT)


def child_info(process: Process, code: int, status: int) -> SigInfo:
    """Return the SIGCHLD information about `process`: `code` is a CLD_* one, times in clock ticks."""
    tick = 10_000_000
    utime, stime = process.user_ns // tick, process.system_ns // tick
    return SigInfo(SIGCHLD, code, process.pid, process.credentials.uid, 0, status, utime, stime)


def _tell_parent(process: Process, code: int, status: int) -> None:
    parent = process.parent
    if parent is None:
        return
    if not parent.actions[SIGCHLD].flags & abi.SA_NOCLDSTOP:
        send_signal(parent, child_info(process, code, status))
    parent.child_queue.wake()


def _flush(process: Process, signals: int) -> None:
    process.pending.flush(signals)
    for thread in process.threads.values():
        thread.pending.flush(signals)


def _thread_for(process: Process, preferred: Thread, signo: int) -> Thread:
    """The main thread if it takes the signal, else the first that does."""
    if not preferred.mask & bit(signo):
        return preferred
    return next((t for t in process.threads.values() if not t.mask & bit(signo)), preferred)


def _notify_waiters(process: Process, signo: int) -> None:
    for thread in process.threads.values():
        if _notify_waiter(thread, signo):
            break


def _notify_waiter(thread: Thread, signo: int) -> bool:
    """Wake a thread that waits for a blocked signal in sigtimedwait(2)."""
    wait = thread.wait
    if thread.state is not RunState.PARKED or wait is None or not wait.signals & bit(signo):
        return False
    thread.kernel.unpark(thread, Cause.WOKEN)
    return True

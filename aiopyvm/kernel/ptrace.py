"""Tracing: a process that sees, stops and changes the threads of others (ptrace(2)).

How it works. `Thread.trace` is a `Trace` while somebody traces it, plain data. A stop is a run state (TRACED) with a
status for the tracer's wait(2); `go_on` ends it. `stop_before_user` is asked where a thread would go back to its
program: it stops for events, at the end of a system call, and after a single step. Stops for signals come from their
delivery, stops at the beginning of a call from its dispatch.

What always holds. SIGKILL ends every stop. A tracer that ends lets its threads go, or kills them (PTRACE_O_EXITKILL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi import ptrace as abi
from aiopyvm.abi.clone import CLONE_UNTRACED, CLONE_VFORK, CSIGNAL
from aiopyvm.abi.errno import EPERM, ESRCH, Errno
from aiopyvm.abi.signal import (
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CORE_DUMPED,
    SA_NOCLDSTOP,
    SI_KERNEL,
    SI_USER,
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    SIGTRAP,
    STOPS,
    SigInfo,
    bit,
)
from aiopyvm.isa.state import TF
from aiopyvm.kernel.process import Life
from aiopyvm.kernel.send import child_info, send_signal
from aiopyvm.kernel.thread import RunState
from aiopyvm.kernel.wait import Cause, Restart

if TYPE_CHECKING:
    from aiopyvm.isa.debug import DebugRegisters
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.wait import Wait

CLD_TRAPPED: Final = 4
NONE: Final = 0xFFFFFFFF  # orig_eax outside of a call
_RESULTS: Final = {
    Restart.SYS: -512, Restart.NOINTR: -513, Restart.NOHAND: -514, Restart.BLOCK: -516, Restart.EINTR: -4,
}  # fmt: skip


def no_places() -> DebugRegisters:
    """Debug registers that enable nothing."""
    from aiopyvm.isa.debug import DebugRegisters  # most runs trace nobody

    return DebugRegisters()


class Trace:
    """What there is to a traced thread."""

    def __init__(self, tracer: Process, options: int = 0, *, seized: bool = False) -> None:
        self.tracer = tracer
        self.options = options
        self.seized = seized
        self.mode = abi.CONT  # how it went on: CONT, SYSCALL, SYSEMU, SINGLESTEP, SYSEMU_SINGLESTEP
        self.stop = 0  # the signal of the present stop, and above it an event
        self.unreported = False  # the stop, for wait(2)
        self.info: SigInfo | None = None  # of the stop
        self.for_signal = False  # it is a stop before a signal is delivered
        self.injected: SigInfo | None = None  # what the tracer lets through
        self.message = 0
        self.events: list[tuple[int, int]] = []  # stops to come: PTRACE_EVENT_*, its message
        self.interrupt = False  # PTRACE_INTERRUPT, or a stop at the beginning of a seized thread
        self.listening = False
        self.in_call = False  # its end is a stop
        self.entering = False  # the stop is one at the beginning of a call that was not begun yet
        self.at_call = abi.INFO_NONE
        self.number = NONE  # orig_eax
        self.stepped = False  # a step is over
        self.dying = False  # its PTRACE_EVENT_EXIT was
        self.debug = no_places()

    @property
    def stops_at_calls(self) -> bool:
        """System calls are stops."""
        return self.mode in (abi.SYSCALL, abi.SYSEMU, abi.SYSEMU_SINGLESTEP)

    @property
    def steps(self) -> bool:
        """It went on for one instruction."""
        return self.mode in (abi.SINGLESTEP, abi.SYSEMU_SINGLESTEP)

    def wants(self, event: int) -> bool:
        """Whether the tracer asked for stops at an event."""
        return bool(self.options & 1 << event)


# --- beginning and end ------------------------------------------------------------------------------------------------


def attach(tracer: Process, t: Thread, options: int = 0, *, seized: bool) -> None:
    """Trace `t`. Raises Errno(EPERM): its own thread, one that is traced, or another user's."""
    if t.process is tracer or t.trace is not None or not may_look_into(tracer, t.process):
        raise Errno(EPERM)
    begin(tracer, t, options, seized=seized)
    if t.state is RunState.STOPPED:
        stop(t, t.process.stop_signal | (abi.EVENT_STOP << 8 if seized else 0))
    elif not seized:
        send_signal(t, SigInfo(SIGSTOP, SI_USER, tracer.pid, tracer.credentials.uid))


def may_look_into(process: Process, target: Process, *, files: bool = False) -> bool:
    """Whether a process may read another's memory and files (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS; with `files`, as
    /proc asks, PTRACE_MODE_READ_FSCREDS)."""
    a, b = process.credentials, target.credentials
    if process is target or a.euid == 0:
        return True
    uid, gid = (a.fsuid, a.fsgid) if files else (a.uid, a.gid)
    same = {uid} == {b.uid, b.euid, b.suid} and {gid} == {b.gid, b.egid, b.sgid}
    return same and target.dumpable == 1


def begin(tracer: Process, t: Thread, options: int = 0, *, seized: bool = False) -> None:
    """Let `tracer` trace `t` from now on."""
    t.trace = Trace(tracer, options, seized=seized)
    tracer.tracees[t.tid] = t


def detach(t: Thread, signo: int) -> None:
    """Let a stopped `t` go on untraced, with a signal where `signo` is one."""
    go_on(t, abi.CONT, signo)
    _release(t)


def _release(t: Thread) -> None:
    trace = t.trace
    if trace is None:
        return
    _clear_step(t)
    t.core.debug = None
    trace.tracer.tracees.pop(t.tid, None)
    t.trace = None
    if trace.injected is not None:
        t.pending.add(trace.injected)
    t.attention = True
    if t.state is RunState.TRACED:
        if t.process.stop_signal:
            t.state = RunState.STOPPED
        else:
            t.kernel.make_runnable(t)


def tracer_ends(process: Process) -> None:
    """The end of a process that traces: its threads are let go, or killed."""
    for t in tuple(process.tracees.values()):
        trace = t.trace
        kill = trace is not None and trace.options & abi.O_EXITKILL
        _release(t)
        if kill:
            send_signal(t.process, SigInfo(SIGKILL, SI_KERNEL))


def thread_ends(t: Thread, status: int) -> None:
    """The end of a traced thread: whoever is no parent of it waits for that all the same."""
    trace = t.trace
    if trace is None:
        return
    tracer = trace.tracer
    tracer.tracees.pop(t.tid, None)
    t.trace = None
    if t.tid == t.process.pid and t.process.parent is tracer:
        return
    tracer.tracee_ends[t.tid] = status
    killed = status & 0x7F
    code = CLD_EXITED if not killed else CLD_DUMPED if status & CORE_DUMPED else CLD_KILLED
    if t.tid == t.process.pid:
        send_signal(tracer, child_info(t.process, code, killed or status >> 8))
    tracer.child_queue.wake()


def cloned(t: Thread, child: Thread, flags: int) -> None:
    """`t` has made `child`: it is traced too, where the tracer asked for that."""
    trace = t.trace
    if trace is None or flags & CLONE_UNTRACED:
        return
    if flags & CLONE_VFORK:
        event = abi.EVENT_VFORK
    else:
        event = abi.EVENT_FORK if flags & CSIGNAL == SIGCHLD else abi.EVENT_CLONE
    if not trace.wants(event):
        return
    trace.events.append((event, child.tid))
    begin(trace.tracer, child, trace.options, seized=trace.seized)
    assert child.trace is not None
    if trace.seized:
        child.trace.interrupt = True
    else:
        child.pending.add(SigInfo(SIGSTOP, SI_USER))
    child.attention = True


def executed(t: Thread, old_tid: int) -> None:
    """`t` runs another program now."""
    trace = t.trace
    if trace is None:
        return
    trace.tracer.tracees.pop(old_tid, None)
    trace.tracer.tracees[t.tid] = t
    t.core.debug, trace.debug = None, no_places()
    if trace.wants(abi.EVENT_EXEC):
        trace.events.append((abi.EVENT_EXEC, old_tid))
    elif not trace.seized:
        send_signal(t, SigInfo(SIGTRAP, SI_USER, t.process.pid, t.credentials.uid))


# --- stops ------------------------------------------------------------------------------------------------------------


def stop(t: Thread, what: int, info: SigInfo | None = None) -> None:
    """Stop `t` and tell its tracer; `what` is a signal, and above it an event."""
    trace = t.trace
    assert trace is not None
    _clear_step(t)
    t.state = RunState.TRACED
    t.attention = True
    trace.stop, trace.info, trace.unreported, trace.for_signal, trace.listening = what, info, True, False, False
    tracer = trace.tracer
    if not tracer.actions[SIGCHLD].flags & SA_NOCLDSTOP:
        send_signal(tracer, child_info(t.process, CLD_TRAPPED, what & 0x7F)._replace(pid=t.tid))
    tracer.child_queue.wake()


def signal_stop(t: Thread, info: SigInfo) -> None:
    """Stop before a signal is delivered."""
    stop(t, info.signo, info)
    assert t.trace is not None
    t.trace.for_signal = True


def group_stop(t: Thread, signo: int) -> None:
    """Stop with all the process, as a stop signal asks."""
    assert t.trace is not None
    stop(t, signo | (abi.EVENT_STOP << 8 if t.trace.seized else 0))


def _event_stop(t: Thread, what: int) -> None:
    who = t.credentials
    code = what if what >= 0x100 or what & abi.SYSGOOD else SIGTRAP
    stop(t, what, SigInfo(SIGTRAP, code, t.tid, who.uid))


def stop_before_user(t: Thread) -> bool:
    """Stop `t` where there is a reason before its program, or its call, goes on; True where it has stopped."""
    trace = t.trace
    assert trace is not None
    if t.pending_bits() & bit(SIGKILL):
        return False
    call_over = t.call is None or t.interrupted is not None
    if trace.entering:
        _enter(t, trace)
        return t.state is RunState.RUNNABLE and t.trace is not None and stop_before_user(t)
    elif trace.events:
        event, trace.message = trace.events.pop(0)
        _event_stop(t, SIGTRAP | event << 8)
        return True
    elif trace.in_call and call_over:
        trace.in_call = False
        trace.number = t.call.number if t.call is not None else trace.number
        if t.interrupted is not None:
            t.core.cpu.eax = _RESULTS[t.interrupted.restart] & 0xFFFFFFFF
        _call_stop(t, trace, abi.INFO_EXIT)
        return True
    elif trace.interrupt and call_over:
        trace.interrupt = False
        _event_stop(t, SIGTRAP | abi.EVENT_STOP << 8)
        return True
    elif trace.stepped:
        trace.stepped = False
        stop(t, SIGTRAP, SigInfo(SIGTRAP, SI_USER, t.process.pid, t.credentials.uid))
        return True
    elif t.call is not None and not call_over and trace.stops_at_calls and not trace.in_call and t.call.woken is None:
        trace.in_call, trace.number = True, t.call.number  # it goes on after a stop: as Linux, which makes it again
        _call_stop(t, trace, abi.INFO_ENTRY)
        return True
    return False


def call_begins(t: Thread, number: int) -> None:
    """Stop at the beginning of a system call."""
    trace = t.trace
    assert trace is not None
    trace.in_call = trace.entering = True
    trace.number = number
    t.core.cpu.eax = -38 & 0xFFFFFFFF
    _call_stop(t, trace, abi.INFO_ENTRY)


def _call_stop(t: Thread, trace: Trace, which: int) -> None:
    _event_stop(t, SIGTRAP | (abi.SYSGOOD if trace.options & abi.O_TRACESYSGOOD else 0))
    trace.at_call = which


def _enter(t: Thread, trace: Trace) -> None:
    """Begin the call whose first stop is over, as the tracer has left it."""
    trace.entering = False
    if trace.mode in (abi.SYSEMU, abi.SYSEMU_SINGLESTEP):
        trace.in_call = False
        return
    if not trace.stops_at_calls:
        trace.in_call = False
    if trace.number != NONE:
        t.core.cpu.eax = trace.number
        t.kernel.syscalls.enter_now(t)
    t.attention = True
    if trace.steps:
        trace.stepped = True


def pauses(t: Thread) -> bool:
    """A call that would wait is to stop first."""
    trace = t.trace
    return trace is not None and bool(trace.events or trace.interrupt)


def exit_stop(t: Thread, status: int) -> bool:
    """Stop before the end, where the tracer asked for that; True: not yet."""
    trace = t.trace
    if trace is None or trace.dying or not trace.wants(abi.EVENT_EXIT):
        return False
    trace.dying = True
    trace.events.append((abi.EVENT_EXIT, status))
    t.attention = True
    return True


def continued(t: Thread) -> None:
    """SIGCONT for a thread that its tracer left stopped (PTRACE_LISTEN)."""
    trace = t.trace
    if trace is not None and trace.listening:
        stop(t, SIGTRAP | abi.EVENT_STOP << 8)


# --- the tracer's side ------------------------------------------------------------------------------------------------


def tracee(tracer: Process, tid: int, *, stopped: bool = True) -> tuple[Thread, Trace]:
    """Return a thread that `tracer` traces, and its trace. Raises Errno(ESRCH), also for one that is not stopped."""
    t = tracer.tracees.get(tid)
    if t is None or t.trace is None or (stopped and (t.state is not RunState.TRACED or t.trace.listening)):
        raise Errno(ESRCH)
    return t, t.trace


def go_on(t: Thread, mode: int, signo: int) -> None:
    """End the stop of `t`, with a signal where `signo` is one."""
    trace = t.trace
    assert trace is not None
    trace.mode = mode
    trace.unreported = False
    at_call, trace.at_call = trace.at_call, abi.INFO_NONE
    if not trace.in_call:
        trace.number = NONE
    if signo:
        who = trace.tracer
        given = trace.info
        if given is None or given.signo != signo:
            given = SigInfo(signo, SI_USER, who.pid, who.credentials.uid)
        if trace.for_signal:
            trace.injected = given
        elif at_call:
            t.pending.add(given)
    if trace.stop & 0x7F and bit(trace.stop & 0x7F) & STOPS and t.process.stop_signal:
        t.process.stop_signal = 0
    if trace.steps and not trace.entering:
        t.core.cpu.system_flags |= TF
    t.attention = True
    t.kernel.make_runnable(t)


def interrupt(t: Thread) -> None:
    """PTRACE_INTERRUPT."""
    trace = t.trace
    assert trace is not None
    if t.state is RunState.TRACED:
        if trace.listening:
            stop(t, SIGTRAP | abi.EVENT_STOP << 8)
        return
    trace.interrupt = True
    t.attention = True
    if t.state is RunState.PARKED and (t.wait is None or not t.wait.uninterruptible):
        t.kernel.unpark(t, Cause.SIGNAL)


def interrupted(t: Thread, wait: Wait) -> bool:
    """A call that a PTRACE_INTERRUPT ended waits still: it goes on after the stop."""
    return t.trace is not None and t.trace.interrupt and not wait.uninterruptible


def _clear_step(t: Thread) -> None:
    if t.trace is not None and t.trace.steps:
        t.core.cpu.system_flags &= ~TF


def stopped_for(tracer: Process, pid: int, group: int) -> Thread | None:
    """Return a thread whose stop the tracer was not told yet: that of id `pid`, or of a group, or any."""
    for t in tracer.tracees.values():
        if (pid and t.tid != pid) or (group and t.process.group != group):
            continue
        if t.trace is not None and t.trace.unreported and t.process.life is Life.ALIVE:
            return t
    return None

"""What tests of interrupted calls share: signals that come between, stops, and how to see a restart."""

from __future__ import annotations

from aiopyvm.abi.signal import SA_RESTART, SIGCONT, SIGSTOP, SIGUSR1, SigInfo
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.machine import CODE, SCRATCH, Machine, state

RESTARTS = (0, SA_RESTART)


def pipe(m: Machine, t: Thread | None = None) -> tuple[int, int]:
    assert m.call(t or m.thread, "pipe", SCRATCH + 0x100) == 0
    reader, writer = m.words(SCRATCH + 0x100, 2, t)
    return reader, writer


def signal(m: Machine, t: Thread, signo: int = SIGUSR1) -> None:
    m.kernel.send_signal(t.process, SigInfo(signo, 0, 77, 1000))


def stop_and_continue(m: Machine, t: Thread) -> None:
    signal(m, t, SIGSTOP)
    m.kernel.resume(t)
    assert t.state is RunState.STOPPED
    signal(m, t, SIGCONT)
    assert state(t) is RunState.RUNNABLE
    m.kernel.resume(t)


def restarted(t: Thread, number: int) -> bool:
    """Whether the frame on the stack returns to the INT 0x80 with the call's number."""
    cpu = t.core.cpu
    eax, eip = t.memory.load(cpu.esp + 8 + 44, 4), t.memory.load(cpu.esp + 8 + 56, 4)
    return (eax, eip) == (number, CODE)

"""Signal frames and delivery without an engine: what is on the stack, the way back, hostile frames, faults."""

from __future__ import annotations

import random
import struct

import pytest

from aiopyvm.abi import signal as abi
from aiopyvm.abi.signal import (
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTORER,
    SA_SIGINFO,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGTERM,
    SIGTTIN,
    SIGUSR1,
    SIGUSR2,
    SigInfo,
    bit,
)  # fmt: skip
from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.kernel.process import EndReason, Life
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.machine import HANDLER, SCRATCH, SECOND, Machine, state

GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags")


def deliver(m: Machine, signo: int = SIGUSR1, t: Thread | None = None) -> None:
    t = t or m.thread
    m.kernel.send_signal(t, SigInfo(signo, abi.SI_USER, 42, 43))
    m.kernel.resume(t)


def fault(m: Machine, vector: int, error: int = 0, address: int = 0, access: str = "") -> None:
    m.kernel.trap(m.thread, Exit(ExitReason.FAULT, vector, error, address, access))


@pytest.mark.parametrize("rt", [False, True])
def test_a_handler_and_back_leave_all_registers_as_they_were(rt: bool) -> None:
    m = Machine()
    m.handle(SIGUSR1, SA_SIGINFO if rt else 0)
    cpu = m.thread.core.cpu
    for n, name in enumerate(GENERAL[:4] + GENERAL[5:8]):
        setattr(cpu, name, 0x11110000 + n)
    cpu.eip = 0x08048777
    cpu.eflags = 0x202 | 0x400 | 0x8D5
    cpu.fcw, cpu.fsw, cpu.ftop, cpu.fvalid = 0x27F, 0x4700, 3, 0x88
    cpu.fpr[3][:10] = bytes(range(1, 11))
    before = bytes(cpu)
    deliver(m)
    assert m.in_handler(m.thread)
    assert cpu.eax == SIGUSR1
    assert cpu.esp % 16 == 12
    assert not cpu.eflags & 0x400
    signo = struct.unpack("<I", m.thread.memory.read(cpu.esp + 4, 4))[0]
    assert signo == SIGUSR1
    if rt:
        info, uc = struct.unpack("<II", m.thread.memory.read(cpu.esp + 8, 8))
        assert (cpu.edx, cpu.ecx) == (info, uc)
        assert m.words(info, 5) == (SIGUSR1, 0, abi.SI_USER, 42, 43)
    else:
        assert (cpu.edx, cpu.ecx) == (0, 0)
    cpu.fvalid = 0
    m.leave_handler(m.thread, rt=rt)
    assert bytes(cpu) == before


def test_the_return_address_is_the_restorer_or_a_trampoline() -> None:
    m = Machine()
    at = m.put(struct.pack("<IIIQ", HANDLER, SA_RESTORER, 0x1234, 0), SCRATCH + 0x3F000)
    assert m.call(m.thread, "rt_sigaction", SIGUSR2, at, 0, 8) == 0
    deliver(m, SIGUSR2)
    assert m.thread.memory.load(m.thread.core.cpu.esp, 4) == 0x1234
    m.handle(SIGUSR1)
    deliver(m)
    address = m.thread.memory.load(m.thread.core.cpu.esp, 4)
    assert m.thread.memory.fetch(address, 8) == bytes.fromhex("58b877000000cd80")


def test_signals_that_come_together_nest_with_their_masks() -> None:
    m = Machine()
    m.handle(SIGUSR1, mask=bit(SIGTERM))
    m.handle(SIGUSR2, handler=HANDLER + 0x100)
    t = m.thread
    m.kernel.send_signal(t, SigInfo(SIGUSR2))
    m.kernel.send_signal(t, SigInfo(SIGUSR1))
    m.kernel.resume(t)
    assert t.core.cpu.eip == HANDLER + 0x100  # the higher number's frame is on top
    assert t.mask == bit(SIGUSR1) | bit(SIGUSR2) | bit(SIGTERM)
    m.leave_handler(t)
    assert t.core.cpu.eip == HANDLER
    assert t.mask == bit(SIGUSR1) | bit(SIGTERM)
    m.leave_handler(t)
    assert t.mask == 0


def test_standard_signals_merge_and_real_time_ones_queue() -> None:
    m = Machine()
    m.handle(40)
    m.handle(SIGUSR1)
    m.put(struct.pack("<Q", bit(40) | bit(SIGUSR1)))
    m.call(m.thread, "rt_sigprocmask", 0, SCRATCH, 0, 8)
    for _ in range(3):
        m.kernel.send_signal(m.process, SigInfo(40))
        m.kernel.send_signal(m.process, SigInfo(SIGUSR1))
    m.thread.set_mask(0)
    m.kernel.resume(m.thread)
    depth = 0
    while m.in_handler(m.thread):
        m.leave_handler(m.thread)
        depth += 1
    assert depth == 4


def test_resethand_runs_once() -> None:
    m = Machine()
    m.handle(SIGUSR1, SA_RESETHAND)
    deliver(m)
    m.leave_handler(m.thread)
    deliver(m)
    assert m.process.exit_status == SIGUSR1
    assert m.kernel.ended


def test_the_alternate_stack_is_used_once_and_kept_for_nested_handlers() -> None:
    m = Machine()
    m.handle(SIGUSR1, SA_ONSTACK)
    m.handle(SIGUSR2, SA_ONSTACK)
    base, size = SCRATCH + 0x8000, 0x4000
    m.put(struct.pack("<III", base, 0, size))
    assert m.call(m.thread, "sigaltstack", SCRATCH, 0) == 0
    deliver(m)
    first = m.thread.core.cpu.esp
    assert base < first < base + size
    deliver(m, SIGUSR2)
    assert base < m.thread.core.cpu.esp < first


def test_a_frame_that_does_not_fit_its_alternate_stack_is_a_segv() -> None:
    m = Machine()
    m.handle(SIGUSR1, SA_ONSTACK)
    m.put(struct.pack("<III", SCRATCH + 0x8000, 0, 2048))
    assert m.call(m.thread, "sigaltstack", SCRATCH, 0) == 0
    deliver(m)
    m.thread.core.cpu.esp = SCRATCH + 0x8100
    m.handle(SIGUSR2, SA_ONSTACK | SA_SIGINFO)
    deliver(m, SIGUSR2)
    assert m.process.exit_status == SIGSEGV


def test_a_handler_without_a_stack_is_a_segv() -> None:
    m = Machine()
    m.handle(SIGUSR1)
    m.thread.core.cpu.esp = 0x100
    deliver(m)
    assert m.process.exit_status == SIGSEGV
    assert m.process.end_reason is EndReason.SIGNALED


def test_a_segv_handler_without_a_stack_ends_it_too() -> None:
    m = Machine()
    m.handle(SIGSEGV)
    m.thread.core.cpu.esp = 0x100
    fault(m, 14, 4, 0x10, "r")
    assert m.process.exit_status == SIGSEGV


@pytest.mark.parametrize("number", [119, 173])
def test_hostile_frames_are_restored_or_a_segv(number: int) -> None:
    rng = random.Random(number)
    ends = {"segv": 0, "restored": 0}
    for _ in range(300):
        m = Machine()
        t = m.thread
        frame = bytearray(rng.randbytes(1024))
        context = 8 if number == 119 else 16 + 128 + 20
        if rng.random() < 0.7:  # selectors that can be loaded, and a state that is there or not
            struct.pack_into("<I", frame, context + 15 * 4, 0x23)
            struct.pack_into("<I", frame, context + 18 * 4, 0x2B)
            struct.pack_into("<I", frame, context + 19 * 4, rng.choice([0, SCRATCH + 0x1000, 8, 0xFFFFFFF0]))
        t.memory.write(SCRATCH, bytes(frame))
        t.core.cpu.esp = SCRATCH + (8 if number == 119 else 4)
        t.core.cpu.eax = number
        m.kernel.trap(t, Exit(ExitReason.SYSCALL))
        if t.state is RunState.DEAD:
            assert m.process.exit_status == SIGSEGV
            ends["segv"] += 1
        else:
            cpu = t.core.cpu
            assert cpu.eflags & ~0x254DD5 == 0x202  # IF and bit 1 stay, IOPL and the like stay clear
            assert (cpu.cs, cpu.ss) == (0x23, 0x2B)
            assert not t.mask & (bit(SIGKILL) | bit(SIGSTOP))
            ends["restored"] += 1
    assert min(ends.values()) > 30


def test_sigreturn_without_a_readable_stack_is_a_segv() -> None:
    for esp in (0, 4, 0xFFFFFFFC, 0xFFFFE000):
        m = Machine()
        m.thread.core.cpu.esp = esp
        m.thread.core.cpu.eax = 173
        m.kernel.trap(m.thread, Exit(ExitReason.SYSCALL))
        assert m.process.exit_status == SIGSEGV


@pytest.mark.parametrize(
    ("vector", "signo", "code", "has_eip"),
    [
        (0, abi.SIGFPE, abi.FPE_INTDIV, True),
        (1, abi.SIGTRAP, abi.TRAP_BRKPT, True),
        (3, abi.SIGTRAP, abi.SI_KERNEL, False),
        (4, SIGSEGV, abi.SI_KERNEL, False),
        (5, SIGSEGV, abi.SI_KERNEL, False),
        (6, abi.SIGILL, abi.ILL_ILLOPN, True),
        (11, abi.SIGBUS, abi.SI_KERNEL, False),
        (12, abi.SIGBUS, abi.SI_KERNEL, False),
        (13, SIGSEGV, abi.SI_KERNEL, False),
        (17, abi.SIGBUS, abi.BUS_ADRALN, False),
    ],
)
def test_exceptions_become_signals(vector: int, signo: int, code: int, has_eip: bool) -> None:
    m = Machine()
    m.handle(signo, SA_SIGINFO)
    eip = m.thread.core.cpu.eip
    fault(m, vector, 0x2A)
    cpu = m.thread.core.cpu
    assert m.in_handler(m.thread)
    assert m.words(cpu.edx, 4) == (signo, 0, code, eip if has_eip else 0)
    trapno, err, frame_eip = m.words(cpu.ecx + 20 + 12 * 4, 3)
    assert (trapno, err, frame_eip) == (vector, 0x2A, eip)


def test_a_blocked_or_ignored_fault_kills() -> None:
    for how in ("block", "ignore"):
        m = Machine()
        if how == "block":
            m.handle(SIGSEGV)
            m.thread.set_mask(bit(SIGSEGV))
        else:
            m.handle(SIGSEGV, handler=abi.SIG_IGN)
        fault(m, 13)
        assert m.process.exit_status == SIGSEGV
        assert m.process.fault is not None
        assert m.process.fault.vector == 13


def test_a_first_touch_that_the_budget_refuses_ends_the_run() -> None:
    m = Machine(memory_limit=64 << 20)
    at = m.call(m.thread, "mmap2", 0, 1 << 20, 3, 0x22, -1, 0)
    assert at is not None
    m.budget.limit = m.budget.used
    fault(m, 14, 6, at & 0xFFFFFFFF, "w")
    assert m.process.end_reason is EndReason.MEMORY_LIMIT
    assert m.kernel.ended


# --- stopping, the parent, groups -------------------------------------------------------------------------------------


def test_stop_and_continue_are_told_to_the_parent_once() -> None:
    m = Machine()
    child = m.fork()
    deliver(m, SIGSTOP, child)
    assert child.state is RunState.STOPPED
    assert m.call(m.thread, "waitpid", -1, SCRATCH, 3) == child.process.pid
    assert m.words(SCRATCH, 1) == (SIGSTOP << 8 | 0x7F,)
    assert m.call(m.thread, "waitpid", -1, SCRATCH, 3) == 0
    m.kernel.send_signal(child.process, SigInfo(SIGCONT))
    assert state(child) is RunState.RUNNABLE
    assert m.call(m.thread, "waitpid", -1, SCRATCH, 8 | 1) == child.process.pid
    assert m.words(SCRATCH, 1) == (0xFFFF,)


def test_sigkill_ends_a_stopped_process() -> None:
    m = Machine()
    child = m.fork()
    deliver(m, SIGSTOP, child)
    m.kernel.send_signal(child.process, SigInfo(SIGTERM))
    m.kernel.resume(child)
    assert child.state is RunState.STOPPED
    m.kernel.send_signal(child.process, SigInfo(SIGKILL))
    m.kernel.resume(child)
    assert child.process.exit_status == SIGKILL


def test_terminal_stops_do_nothing_to_an_orphaned_group() -> None:
    m = Machine()
    deliver(m, SIGTTIN)
    assert m.thread.state is RunState.RUNNABLE


def test_cont_discards_stops_and_stops_discard_cont() -> None:
    m = Machine()
    m.thread.set_mask(bit(SIGTTIN) | bit(SIGCONT))
    m.handle(SIGCONT)
    m.kernel.send_signal(m.process, SigInfo(SIGTTIN))
    m.kernel.send_signal(m.process, SigInfo(SIGCONT))
    assert m.process.pending.bits == bit(SIGCONT)
    m.kernel.send_signal(m.process, SigInfo(SIGTTIN))
    assert m.process.pending.bits == bit(SIGTTIN)


def test_sigchld_says_how_the_child_ended() -> None:
    m = Machine()
    m.handle(SIGCHLD, SA_SIGINFO)
    child = m.fork()
    m.call(child, "exit_group", 7)
    m.kernel.resume(m.thread)
    words = m.words(m.thread.core.cpu.edx, 6)
    assert words == (SIGCHLD, 0, abi.CLD_EXITED, child.process.pid, 1000, 7)


def test_an_ignored_sigchld_leaves_no_zombie() -> None:
    m = Machine()
    m.handle(SIGCHLD, handler=abi.SIG_IGN)
    child = m.fork()
    m.call(child, "exit", 0)
    assert child.process.life is Life.REAPED
    assert m.call(m.thread, "waitpid", -1, 0, 0) == -10


def test_interval_timers_repeat_and_leave_out_what_was_missed() -> None:
    m = Machine()
    m.handle(abi.SIGALRM)
    m.put(struct.pack("<4i", 0, 100_000, 0, 250_000))
    assert m.call(m.thread, "setitimer", 0, SCRATCH, 0) == 0
    assert m.kernel.next_deadline() == m.clock.now + SECOND // 4
    m.advance(SECOND)
    m.kernel.resume(m.thread)
    assert m.in_handler(m.thread)
    assert m.call(m.thread, "getitimer", 0, SCRATCH) == 0
    assert m.words(SCRATCH, 4) == (0, 100_000, 0, 50_000)


def test_cpu_time_timers_count_instructions() -> None:
    m = Machine()
    m.handle(abi.SIGVTALRM)
    m.put(struct.pack("<4i", 0, 0, 0, 1000))
    assert m.call(m.thread, "setitimer", 1, SCRATCH, 0) == 0
    m.thread.core.cpu.instructions += 999_999
    m.kernel.resume(m.thread)
    assert not m.in_handler(m.thread)
    m.thread.core.cpu.instructions += 1
    m.kernel.resume(m.thread)
    assert m.in_handler(m.thread)

"""Every call that can continue, interrupted in every way (signal(7), "Interruption of system calls")."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.signal import SA_RESTART, SIGCHLD, SIGCONT, SIGPIPE, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SigInfo, bit
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.machine import CODE, SCRATCH, SECOND, Machine, state

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


# --- nanosleep --------------------------------------------------------------------------------------------------------


def sleeping(m: Machine, seconds: int = 10) -> Thread:
    t = m.thread
    m.put(struct.pack("<ii", seconds, 0))
    assert m.call(t, "nanosleep", SCRATCH, SCRATCH + 8) is None
    assert t.state is RunState.PARKED
    return t


def test_nanosleep_ends_at_its_deadline_and_not_before() -> None:
    m = Machine()
    t = sleeping(m)
    m.advance(10 * SECOND - 1)
    assert t.state is RunState.PARKED
    m.advance(1)
    assert m.result(t) == 0


def test_nanosleep_interrupted_tells_the_rest() -> None:
    m = Machine()
    m.handle(SIGUSR1, SA_RESTART)
    t = sleeping(m)
    m.advance(4 * SECOND)
    signal(m, t)
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert m.words(SCRATCH + 8, 2) == (6, 0)
    assert m.leave_handler(t) == -errno.EINTR


def test_nanosleep_goes_on_after_a_stop() -> None:
    m = Machine()
    t = sleeping(m)
    m.advance(4 * SECOND)
    stop_and_continue(m, t)
    assert t.state is RunState.PARKED
    m.advance(6 * SECOND - 1)
    assert t.state is RunState.PARKED
    m.advance(1)
    assert m.result(t) == 0


def test_nanosleep_whose_time_passes_while_stopped() -> None:
    m = Machine()
    t = sleeping(m)
    signal(m, t, SIGSTOP)
    m.kernel.resume(t)
    m.advance(20 * SECOND)
    assert t.state is RunState.STOPPED
    signal(m, t, SIGCONT)
    assert m.result(t) == 0


def test_an_ignored_signal_wakes_nobody() -> None:
    m = Machine()
    t = sleeping(m)
    signal(m, t, SIGCHLD)
    assert t.state is RunState.PARKED
    assert not t.process.pending.bits


def test_a_blocked_signal_wakes_nobody_and_stays() -> None:
    m = Machine()
    m.handle(SIGUSR1)
    m.put(struct.pack("<Q", bit(SIGUSR1)), SCRATCH + 0x200)
    assert m.call(m.thread, "rt_sigprocmask", 0, SCRATCH + 0x200, 0, 8) == 0
    t = sleeping(m)
    signal(m, t)
    assert t.state is RunState.PARKED
    m.advance(10 * SECOND)
    assert m.result(t) == 0
    assert t.process.pending.bits == bit(SIGUSR1)


def test_sleep_until_a_time_is_restarted_from_its_deadline() -> None:
    m = Machine()
    m.put(struct.pack("<ii", 15, 0))
    t = m.thread
    assert m.call(t, "clock_nanosleep", 1, 1, SCRATCH, 0) is None  # CLOCK_MONOTONIC, TIMER_ABSTIME; it is 5 s
    stop_and_continue(m, t)
    m.advance(10 * SECOND)
    assert m.result(t) == 0


@pytest.mark.parametrize(("sec", "nsec"), [(-1, 0), (0, -1), (0, SECOND)])
def test_nanosleep_refuses_what_is_no_time(sec: int, nsec: int) -> None:
    m = Machine()
    m.put(struct.pack("<ii", sec, nsec))
    assert m.call(m.thread, "nanosleep", SCRATCH, 0) == -errno.EINVAL
    assert m.call(m.thread, "nanosleep", 4, 0) == -errno.EFAULT


# --- pipes: read, readv, write, writev --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", RESTARTS)
def test_read_of_an_empty_pipe_interrupted(flags: int) -> None:
    m = Machine()
    m.handle(SIGUSR1, flags)
    reader, _ = pipe(m)
    t = m.thread
    assert m.call(t, "read", reader, SCRATCH, 10) is None
    signal(m, t)
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert restarted(t, 3) == bool(flags)
    assert m.leave_handler(t) == (3 if flags else -errno.EINTR)


def test_read_goes_on_after_a_stop() -> None:
    m = Machine()
    reader, writer = pipe(m)
    child = m.fork()
    assert m.call(child, "read", reader, SCRATCH, 10) is None
    stop_and_continue(m, child)
    assert child.state is RunState.PARKED
    m.put(b"hello")
    assert m.call(m.thread, "write", writer, SCRATCH, 5) == 5
    assert m.result(child) == 5
    assert child.memory.read(SCRATCH, 5) == b"hello"


def full_pipe_writer(m: Machine) -> tuple[Thread, int, bytes]:
    """A child whose writev of 100,000 bytes fills the pipe and waits."""
    reader, writer = pipe(m)
    data = bytes(n * 7 & 0xFF for n in range(100_000))
    child = m.fork()
    m.put(data, SCRATCH + 0x1000, child)
    m.put(struct.pack("<IIII", SCRATCH + 0x1000, 50_000, SCRATCH + 0x1000 + 50_000, 50_000), SCRATCH, child)
    assert m.call(m.thread, "close", writer) == 0
    assert m.call(child, "writev", writer, SCRATCH, 2) is None
    return child, reader, data


def test_writev_over_a_full_pipe_writes_each_byte_once() -> None:
    m = Machine()
    child, reader, data = full_pipe_writer(m)
    got = b""
    while len(got) < len(data):
        n = m.call(m.thread, "read", reader, SCRATCH + 0x1000, 20_000)
        assert n
        got += m.thread.memory.read(SCRATCH + 0x1000, n)
        m.kernel.resume(child)
    assert got == data
    assert m.result(child) == 100_000


@pytest.mark.parametrize("flags", RESTARTS)
def test_writev_interrupted_returns_what_it_wrote(flags: int) -> None:
    m = Machine()
    m.handle(SIGUSR1, flags)
    child, _, _ = full_pipe_writer(m)
    signal(m, child)
    m.kernel.resume(child)
    assert m.in_handler(child)
    assert m.leave_handler(child) == 65536


def test_writev_goes_on_after_a_stop() -> None:
    m = Machine()
    child, reader, data = full_pipe_writer(m)
    stop_and_continue(m, child)
    assert child.state is RunState.PARKED
    got = b""
    while len(got) < len(data):
        n = m.call(m.thread, "read", reader, SCRATCH + 0x1000, 30_000)
        assert n
        got += m.thread.memory.read(SCRATCH + 0x1000, n)
        m.kernel.resume(child)
    assert got == data
    assert m.result(child) == 100_000


def test_readv_over_a_pipe_fills_in_order() -> None:
    m = Machine()
    reader, writer = pipe(m)
    child = m.fork()
    m.put(struct.pack("<IIII", SCRATCH + 0x1000, 3, SCRATCH + 0x2000, 10), SCRATCH, child)
    assert m.call(child, "readv", reader, SCRATCH, 2) is None
    m.put(b"abcdefg")
    assert m.call(m.thread, "write", writer, SCRATCH, 7) == 7
    assert m.result(child) == 7
    assert child.memory.read(SCRATCH + 0x1000, 3) + child.memory.read(SCRATCH + 0x2000, 4) == b"abcdefg"


def test_a_pipe_that_breaks_under_a_writer_gives_the_partial_count_and_sigpipe() -> None:
    m = Machine()
    m.handle(SIGPIPE)
    reader, writer = pipe(m)
    child = m.fork()
    assert m.call(child, "close", reader) == 0
    assert m.call(child, "write", writer, SCRATCH, 100_000) is None
    assert m.call(m.thread, "close", reader) == 0
    m.kernel.resume(child)
    assert m.in_handler(child)
    assert m.leave_handler(child) == 65536
    m.call(child, "write", writer, SCRATCH, 1)
    assert m.in_handler(child)
    assert m.leave_handler(child) == -errno.EPIPE


# --- poll, ppoll ------------------------------------------------------------------------------------------------------


def test_poll_times_out() -> None:
    m = Machine()
    reader, _ = pipe(m)
    m.put(struct.pack("<ihh", reader, 1, 0))
    t = m.thread
    assert m.call(t, "poll", SCRATCH, 1, 2500) is None
    m.advance(2500 * 1_000_000)
    assert m.result(t) == 0


@pytest.mark.parametrize("flags", RESTARTS)
def test_poll_interrupted_is_eintr_whatever_the_handler_says(flags: int) -> None:
    m = Machine()
    m.handle(SIGUSR1, flags)
    reader, _ = pipe(m)
    m.put(struct.pack("<ihh", reader, 1, 0))
    t = m.thread
    assert m.call(t, "poll", SCRATCH, 1, -1) is None
    signal(m, t)
    m.kernel.resume(t)
    assert m.leave_handler(t) == -errno.EINTR


def test_poll_keeps_its_deadline_over_a_stop() -> None:
    m = Machine()
    reader, _ = pipe(m)
    m.put(struct.pack("<ihh", reader, 1, 0))
    t = m.thread
    assert m.call(t, "poll", SCRATCH, 1, 10_000) is None
    m.advance(6 * SECOND)
    stop_and_continue(m, t)
    m.advance(4 * SECOND)
    assert m.result(t) == 0


def test_poll_sees_what_came() -> None:
    m = Machine()
    reader, writer = pipe(m)
    child = m.fork()
    m.put(struct.pack("<ihh", reader, 1, 0), t=child)
    assert m.call(child, "poll", SCRATCH, 1, -1) is None
    assert m.call(m.thread, "write", writer, SCRATCH, 1) == 1
    assert m.result(child) == 1
    assert child.memory.read(SCRATCH + 6, 2) == b"\1\0"


def test_ppoll_with_a_mask_lets_a_pending_signal_through_and_puts_the_mask_back() -> None:
    m = Machine()
    m.handle(SIGUSR1)
    t = m.thread
    m.put(struct.pack("<Q", bit(SIGUSR1) | bit(SIGUSR2)), SCRATCH + 0x200)
    assert m.call(t, "rt_sigprocmask", 2, SCRATCH + 0x200, 0, 8) == 0
    signal(m, t)
    assert t.process.pending.bits == bit(SIGUSR1)
    m.put(struct.pack("<Q", bit(SIGUSR2)), SCRATCH + 0x208)
    m.call(t, "ppoll", 0, 0, 0, SCRATCH + 0x208, 8)
    assert m.in_handler(t)
    assert t.mask == bit(SIGUSR1) | bit(SIGUSR2)
    assert m.leave_handler(t) == -errno.EINTR
    assert t.mask == bit(SIGUSR1) | bit(SIGUSR2)


def test_ppoll_that_times_out_puts_the_mask_back() -> None:
    m = Machine()
    t = m.thread
    m.put(struct.pack("<Qii", bit(SIGUSR2), 1, 0), SCRATCH + 0x200)
    assert m.call(t, "ppoll", 0, 0, SCRATCH + 0x208, SCRATCH + 0x200, 8) is None
    assert t.mask == bit(SIGUSR2)
    m.advance(SECOND)
    assert m.result(t) == 0
    assert t.mask == 0


# --- sigsuspend, pause, sigtimedwait ----------------------------------------------------------------------------------


def test_sigsuspend_runs_the_handler_and_restores_the_mask() -> None:
    m = Machine()
    m.handle(SIGUSR1, mask=bit(SIGTERM))
    t = m.thread
    m.put(struct.pack("<Q", bit(SIGUSR2)), SCRATCH + 0x200)
    assert m.call(t, "rt_sigsuspend", SCRATCH + 0x200, 8) is None
    signal(m, t)
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert t.mask == bit(SIGUSR1) | bit(SIGUSR2) | bit(SIGTERM)
    assert m.leave_handler(t) == -errno.EINTR
    assert t.mask == 0


def test_pause_goes_on_after_a_stop_and_ends_with_a_handler() -> None:
    m = Machine()
    m.handle(SIGUSR1, SA_RESTART)
    t = m.thread
    assert m.call(t, "pause") is None
    stop_and_continue(m, t)
    assert t.state is RunState.PARKED
    signal(m, t)
    m.kernel.resume(t)
    assert m.leave_handler(t) == -errno.EINTR


def test_sigtimedwait_takes_the_signal() -> None:
    m = Machine()
    t = m.thread
    m.put(struct.pack("<Q", bit(SIGUSR1)), SCRATCH + 0x200)
    assert m.call(t, "rt_sigprocmask", 0, SCRATCH + 0x200, 0, 8) == 0
    assert m.call(t, "rt_sigtimedwait", SCRATCH + 0x200, SCRATCH, 0, 8) is None
    signal(m, t)
    assert m.result(t) == SIGUSR1
    assert m.words(SCRATCH, 5) == (SIGUSR1, 0, 0, 77, 1000)
    assert not t.process.pending.bits


def test_sigtimedwait_times_out() -> None:
    m = Machine()
    t = m.thread
    m.put(struct.pack("<Qii", bit(SIGUSR1), 2, 0), SCRATCH + 0x200)
    assert m.call(t, "rt_sigtimedwait", SCRATCH + 0x200, 0, SCRATCH + 0x208, 8) is None
    m.advance(2 * SECOND)
    assert m.result(t) == -errno.EAGAIN


@pytest.mark.parametrize("flags", RESTARTS)
def test_sigtimedwait_interrupted_by_another_signal_is_eintr(flags: int) -> None:
    m = Machine()
    m.handle(SIGUSR2, flags)
    t = m.thread
    m.put(struct.pack("<Q", bit(SIGUSR1)), SCRATCH + 0x200)
    assert m.call(t, "rt_sigtimedwait", SCRATCH + 0x200, 0, 0, 8) is None
    signal(m, t, SIGUSR2)
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert m.leave_handler(t) == -errno.EINTR


# --- futex ------------------------------------------------------------------------------------------------------------


def futex_waiter(m: Machine, timeout: int = 0) -> Thread:
    flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000  # a thread
    tid = m.call(m.thread, "clone", flags, SCRATCH + 0x8000)
    assert tid
    t = m.kernel.threads[tid]
    assert m.result(t) == 0
    assert m.call(t, "futex", SCRATCH + 0x400, 0, 7, timeout) is None
    return t


def test_a_woken_futex_does_not_look_at_its_word_again() -> None:
    m = Machine()
    m.put(struct.pack("<I", 7), SCRATCH + 0x400)
    t = futex_waiter(m)
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 1, 1) == 1  # the word is 7 still
    assert m.result(t) == 0
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 1, 1) == 0


def test_a_futex_whose_word_differs_does_not_wait() -> None:
    m = Machine()
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 0, 7, 0) == -errno.EAGAIN
    assert m.call(m.thread, "futex", SCRATCH + 0x401, 0, 7, 0) == -errno.EINVAL
    assert m.call(m.thread, "futex", 4, 0, 7, 0) == -errno.EFAULT


def test_a_futex_wait_times_out() -> None:
    m = Machine()
    m.put(struct.pack("<Iii", 7, 3, 0), SCRATCH + 0x400)
    t = futex_waiter(m, SCRATCH + 0x404)
    m.advance(3 * SECOND)
    assert m.result(t) == -errno.ETIMEDOUT


@pytest.mark.parametrize("flags", RESTARTS)
@pytest.mark.parametrize("timed", [False, True])
def test_a_futex_wait_interrupted(flags: int, timed: bool) -> None:
    m = Machine()
    m.handle(SIGUSR1, flags)
    m.put(struct.pack("<Iii", 7, 3, 0), SCRATCH + 0x400)
    t = futex_waiter(m, SCRATCH + 0x404 if timed else 0)
    m.kernel.send_signal(t, SigInfo(SIGUSR1))
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert m.leave_handler(t) == (240 if flags and not timed else -errno.EINTR)


def test_a_futex_wait_goes_on_after_a_stop() -> None:
    m = Machine()
    m.put(struct.pack("<I", 7), SCRATCH + 0x400)
    t = futex_waiter(m)
    signal(m, t, SIGSTOP)
    m.kernel.resume(m.thread)
    assert m.thread.state is RunState.STOPPED
    signal(m, t, SIGCONT)
    m.kernel.resume(m.thread)
    m.kernel.resume(t)
    assert t.state is RunState.PARKED
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 1, 1) == 1
    assert m.result(t) == 0


def test_requeued_waiters_wake_by_the_other_word() -> None:
    m = Machine()
    m.put(struct.pack("<I", 7), SCRATCH + 0x400)
    first, second, third = futex_waiter(m), futex_waiter(m), futex_waiter(m)
    moved = m.call(m.thread, "futex", SCRATCH + 0x400, 4, 1, 10, SCRATCH + 0x500, 7)
    assert moved == 3
    assert m.result(first) == 0
    assert second.state is third.state is RunState.PARKED
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 1, 9) == 0
    assert m.call(m.thread, "futex", SCRATCH + 0x500, 1, 9) == 2
    assert m.result(second) == m.result(third) == 0
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 4, 1, 10, SCRATCH + 0x500, 8) == -errno.EAGAIN


# --- waitpid, vfork ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", RESTARTS)
def test_waitpid_interrupted(flags: int) -> None:
    m = Machine()
    m.handle(SIGUSR1, flags)
    m.fork()
    t = m.thread
    assert m.call(t, "waitpid", -1, SCRATCH, 0) is None
    signal(m, t)
    m.kernel.resume(t)
    assert m.leave_handler(t) == (7 if flags else -errno.EINTR)


def test_waitpid_returns_before_the_sigchld_handler_shows() -> None:
    m = Machine()
    m.handle(SIGCHLD)
    child = m.fork()
    t = m.thread
    assert m.call(t, "waitpid", -1, SCRATCH, 0) is None
    m.call(child, "exit_group", 3)
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert m.leave_handler(t) == child.process.pid
    assert m.words(SCRATCH, 1) == (3 << 8,)


def test_waitpid_goes_on_after_a_stop() -> None:
    m = Machine()
    child = m.fork()
    t = m.thread
    assert m.call(t, "waitpid", child.process.pid, SCRATCH, 0) is None
    stop_and_continue(m, t)
    assert t.state is RunState.PARKED
    m.call(child, "exit", 5)
    assert m.result(t) == child.process.pid
    assert m.words(SCRATCH, 1) == (5 << 8,)


def test_a_vfork_parent_waits_for_exit_and_only_sigkill_comes_between() -> None:
    m = Machine()
    m.handle(SIGUSR1)
    t = m.thread
    assert m.call(t, "vfork") is None
    child = next(c for c in m.kernel.threads.values() if c is not t)
    assert m.result(child) == 0
    signal(m, t)
    m.kernel.resume(t)
    assert t.state is RunState.PARKED
    m.put(b"from the child", SCRATCH, child)
    m.call(child, "exit", 0)
    m.kernel.resume(t)
    assert m.in_handler(t)
    assert m.leave_handler(t) == child.process.pid
    assert m.thread.memory.read(SCRATCH, 14) == b"from the child"

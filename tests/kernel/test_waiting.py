"""Waiting for time, signals, futexes and children, interrupted in every way (signal(7))."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.signal import SA_RESTART, SIGCHLD, SIGCONT, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SigInfo, bit
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.interrupts import RESTARTS, signal, stop_and_continue
from tests.kernel.machine import SCRATCH, SECOND, Machine

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


def test_a_futex_wait_whose_time_is_over_still_gives_way() -> None:
    """Else a thread that waits for a microsecond at a time keeps the processor, and a mutex that others want."""
    m = Machine()
    m.put(struct.pack("<Iii", 7, 0, 0), SCRATCH + 0x400)
    t = futex_waiter(m, SCRATCH + 0x404)
    m.advance(0)
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

"""Waiting for pipes, in read, write and poll, interrupted in every way (signal(7))."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.signal import SIGPIPE, SIGUSR1, SIGUSR2, bit
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.interrupts import RESTARTS, pipe, restarted, signal, stop_and_continue
from tests.kernel.machine import SCRATCH, SECOND, Machine

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


def begin_poll(m: Machine, reader: int, t: Thread, timeout: int) -> None:
    """Have `t` wait in poll(2) for input from `reader`, `timeout` milliseconds."""
    m.put(struct.pack("<ihh", reader, 1, 0), t=t)
    assert m.call(t, "poll", SCRATCH, 1, timeout) is None


def test_poll_times_out() -> None:
    m = Machine()
    t = m.thread
    begin_poll(m, pipe(m)[0], t, 2500)
    m.advance(2500 * 1_000_000)
    assert m.result(t) == 0


@pytest.mark.parametrize("flags", RESTARTS)
def test_poll_interrupted_is_eintr_whatever_the_handler_says(flags: int) -> None:
    m = Machine()
    m.handle(SIGUSR1, flags)
    t = m.thread
    begin_poll(m, pipe(m)[0], t, -1)
    signal(m, t)
    m.kernel.resume(t)
    assert m.leave_handler(t) == -errno.EINTR


def test_poll_keeps_its_deadline_over_a_stop() -> None:
    m = Machine()
    t = m.thread
    begin_poll(m, pipe(m)[0], t, 10_000)
    m.advance(6 * SECOND)
    stop_and_continue(m, t)
    m.advance(4 * SECOND)
    assert m.result(t) == 0


def test_poll_sees_what_came() -> None:
    m = Machine()
    reader, writer = pipe(m)
    child = m.fork()
    begin_poll(m, reader, child, -1)
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

"""Bytes that a write(2) puts straight into the memory of the read(2) that waits for them: as though they had gone
through the pipe."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.poll import POLLIN
from aiopyvm.abi.signal import SIGCONT, SIGSTOP
from aiopyvm.kernel.pipe import PipeEnd, make_pipe
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.interrupts import signal, stop_and_continue
from tests.kernel.machine import SCRATCH, SCRATCH_SIZE, Machine, state
from tests.kernel.test_steps import CLONE_THREAD_FLAGS

END = SCRATCH + SCRATCH_SIZE  # nothing is mapped from here on


class Pair:
    """Two machines that a pipe joins."""

    def __init__(self, trace: Callable[[Thread, str], None] | None = None) -> None:
        self.read_end: PipeEnd
        self.read_end, write_end = make_pipe()
        self.reader, self.writer = Machine(files=(self.read_end,)), Machine(files=(write_end,))
        self.reader.kernel.strace = trace

    def wait(self, address: int, count: int) -> Thread:
        """A read of the pipe, which is empty: the thread that waits."""
        t = self.reader.thread
        assert self.reader.call(t, "read", 0, address, count) is None
        assert t.state is RunState.PARKED
        return t

    def write(self, data: bytes) -> int | None:
        """A write."""
        return self.writer.call(self.writer.thread, "write", 0, self.writer.put(data), len(data))

    @property
    def held(self) -> int:
        """Bytes in the pipe."""
        return self.read_end.pipe.size


def test_what_is_written_is_where_the_reader_wants_it_before_it_runs() -> None:
    pair = Pair()
    t = pair.wait(SCRATCH, 100)
    assert pair.write(b"hello") == 5
    assert pair.held == 0
    assert t.call is None
    assert t.wait is None
    assert not len(pair.read_end.pipe.read_queue)
    assert pair.reader.result(t) == 5
    assert t.memory.read(SCRATCH, 6) == b"hello\0"


def test_what_the_reader_has_no_room_for_stays_in_the_pipe() -> None:
    pair = Pair()
    t = pair.wait(SCRATCH, 3)
    assert pair.write(b"hello") == 5
    assert pair.reader.result(t) == 3
    assert t.memory.read(SCRATCH, 4) == b"hel\0"
    assert pair.held == 2
    assert pair.reader.call(t, "read", 0, SCRATCH, 100) == 2
    assert t.memory.read(SCRATCH, 2) == b"lo"


@pytest.mark.parametrize(("address", "result", "left"), [(END, -errno.EFAULT, 8192), (END - 4096, 4096, 4096)])
def test_a_reader_whose_memory_cannot_take_it_finds_it_in_the_pipe(address: int, result: int, left: int) -> None:
    pair = Pair()
    t = pair.wait(address, 8192)
    assert pair.write(b"x" * 8192) == 8192
    assert pair.reader.result(t) == result
    assert pair.held == left


def test_of_two_that_wait_one_gets_it() -> None:
    pair = Pair()
    m = pair.reader
    parent = m.thread
    child = m.fork()
    for t in (parent, child):
        assert m.call(t, "read", 0, SCRATCH, 100) is None
    assert pair.write(b"once") == 4
    assert sorted(str(m.result(t)) for t in (parent, child)) == ["4", "None"]
    assert sorted(bytes(t.memory.read(SCRATCH, 4)) for t in (parent, child)) == [b"\0\0\0\0", b"once"]


def test_poll_is_woken_and_takes_nothing() -> None:
    pair = Pair()
    m, t = pair.reader, pair.reader.thread
    m.put(struct.pack("<ihh", 0, POLLIN, 0))
    assert m.call(t, "poll", SCRATCH, 1, -1) is None
    assert pair.write(b"hello") == 5
    assert pair.held == 5
    assert m.result(t) == 1


def test_several_segments_are_filled_one_after_the_other() -> None:
    pair = Pair()
    m, t = pair.reader, pair.reader.thread
    m.put(struct.pack("<IIII", SCRATCH + 0x100, 2, SCRATCH + 0x200, 100))
    assert m.call(t, "readv", 0, SCRATCH, 2) is None
    assert pair.write(b"hello") == 5
    assert m.result(t) == 5
    assert (t.memory.read(SCRATCH + 0x100, 3), t.memory.read(SCRATCH + 0x200, 4)) == (b"he\0", b"llo\0")


def test_a_stopped_reader_waits_on_and_a_continued_one_is_served() -> None:
    pair = Pair()
    t = pair.wait(SCRATCH, 100)
    stop_and_continue(pair.reader, t)
    assert state(t) is RunState.PARKED
    assert pair.write(b"hello") == 5
    assert pair.reader.result(t) == 5


def test_a_stopped_process_is_handed_nothing() -> None:
    pair = Pair()
    m = pair.reader
    tid = m.call(m.thread, "clone", CLONE_THREAD_FLAGS, SCRATCH + 0x8000)
    assert tid is not None
    t = pair.wait(SCRATCH, 100)
    m.kernel.send_signal(m.kernel.threads[tid], SIGSTOP)
    m.kernel.resume(m.kernel.threads[tid])
    assert m.process.stop_signal == SIGSTOP
    assert pair.write(b"hello") == 5
    assert pair.held == 5
    signal(m, t, SIGCONT)
    assert m.result(t) == 5
    assert pair.held == 0


def test_a_machine_that_another_thread_of_the_host_executes_is_handed_nothing() -> None:
    pair = Pair()
    t = pair.wait(SCRATCH, 100)
    pair.reader.kernel.away = True
    assert pair.write(b"hello") == 5
    assert pair.held == 5
    assert t.memory.read(SCRATCH, 5) == bytes(5)
    pair.reader.kernel.away = False
    assert pair.reader.result(t) == 5


def test_strace_shows_the_read_when_it_ends() -> None:
    lines: list[str] = []
    pair = Pair(lambda t, line: lines.append(line))
    t = pair.wait(SCRATCH, 100)
    assert pair.write(b"hello") == 5
    assert lines == []
    assert pair.reader.result(t) == 5
    assert lines == ['read(0, "hello", 100)                   = 5']


def test_within_one_machine() -> None:
    m = Machine(files=make_pipe())
    t = m.thread
    child = m.fork()
    assert m.call(t, "read", 0, SCRATCH + 1, 100) is None
    m.put(b"hello", t=child)
    assert m.call(child, "write", 1, SCRATCH, 5) == 5
    assert m.result(t) == 5
    assert t.memory.read(SCRATCH, 6) == b"\0hello"


def _full() -> tuple[Machine, Machine, Thread]:
    """A pipe that is full, with who reads it and who waits to write 8192 bytes more."""
    read_end, write_end = make_pipe()
    reader, writer = Machine(files=(read_end,)), Machine(files=(write_end,))
    t = writer.thread
    writer.put(bytes(65536))
    assert writer.call(t, "write", 0, SCRATCH, 65536) == 65536
    writer.put(b"more" * 2048)
    assert writer.call(t, "write", 0, SCRATCH, 8192) is None
    return reader, writer, t


def test_who_makes_room_finishes_the_write_that_waits_for_it() -> None:
    reader, writer, t = _full()
    assert reader.call(reader.thread, "read", 0, SCRATCH, 8192) == 8192
    assert (t.call, t.wait, t.state) == (None, None, RunState.RUNNABLE)
    assert writer.result(t) == 8192
    assert reader.call(reader.thread, "read", 0, SCRATCH, 65536) == 65536
    assert reader.thread.memory.read(SCRATCH + 65536 - 8192, 8192) == b"more" * 2048


def test_a_write_that_has_not_room_for_all_goes_on_itself() -> None:
    reader, writer, t = _full()
    assert reader.call(reader.thread, "read", 0, SCRATCH, 4096) == 4096
    assert t.call is not None
    assert writer.result(t) is None
    assert reader.call(reader.thread, "read", 0, SCRATCH, 4096) == 4096
    assert writer.result(t) == 8192


@pytest.mark.parametrize("away", ["stopped", "flying", "traced", "of one order"])
def test_who_is_away_finds_the_room_itself(away: str) -> None:
    reader, writer, t = _full()
    kernel = writer.kernel
    if away == "stopped":
        writer.process.stop_signal = SIGSTOP
    kernel.away, kernel.hands_over = away == "flying", away != "of one order"
    kernel.strace = (lambda thread, line: None) if away == "traced" else None
    assert reader.call(reader.thread, "read", 0, SCRATCH, 65536) == 65536
    assert reader.call(reader.thread, "read", 0, SCRATCH, 0) == 0
    assert t.call is not None
    writer.process.stop_signal = 0
    t.state = RunState.RUNNABLE
    assert writer.result(t) == 8192


def test_a_writer_whose_memory_is_gone_finds_out_itself() -> None:
    reader, writer, t = _full()
    t.memory.unmap(SCRATCH, SCRATCH_SIZE)
    assert reader.call(reader.thread, "read", 0, SCRATCH, 65536) == 65536
    assert writer.result(t) == -errno.EFAULT


def test_a_read_like_the_last_one_waits_as_that_did() -> None:
    pair = Pair()
    waits = []
    for data in (b"one", b"two", b"three"):
        t = pair.wait(SCRATCH, 100)
        waits.append(t.wait)
        assert t.call is not None
        assert (t.call.woken, t.call.values) == (None, (0, SCRATCH, 100))
        assert pair.write(data) == len(data)
        assert pair.reader.result(t) == len(data)
        assert t.memory.read(SCRATCH, len(data)) == data
    assert waits[0] is waits[1] is waits[2]


def _served(pair: Pair) -> Thread:
    """The reader, when another has finished a read of it once."""
    t = pair.wait(SCRATCH, 100)
    assert pair.write(b"first") == 5
    assert pair.reader.result(t) == 5
    return t


def test_a_read_elsewhere_or_of_less_is_another() -> None:
    pair = Pair()
    t = _served(pair)
    assert pair.reader.call(t, "read", 0, SCRATCH + 0x100, 3) is None
    assert pair.write(b"hello") == 5
    assert pair.reader.result(t) == 3
    assert t.memory.read(SCRATCH, 5) == b"first"
    assert t.memory.read(SCRATCH + 0x100, 5) == b"hel\0\0"


def test_a_read_of_another_file_under_the_same_descriptor_is_another() -> None:
    pair = Pair()
    t = _served(pair)
    read_end, write_end = make_pipe()
    fds = pair.reader.process.fds
    fds.files[0].release()
    fds.files[0] = read_end.hold()
    assert pair.reader.call(t, "read", 0, SCRATCH, 100) is None
    assert t.call is not None
    assert t.call.files == {0: read_end}
    assert write_end.write(b"second") == 6
    assert pair.reader.result(t) == 6


def test_a_read_that_a_signal_interrupted_begins_anew() -> None:
    pair = Pair()
    t = _served(pair)
    pair.wait(SCRATCH, 100)
    stop_and_continue(pair.reader, t)
    assert t.call is not None
    assert pair.write(b"hello") == 5
    assert pair.reader.result(t) == 5
    pair.wait(SCRATCH, 100)
    assert t.call is not None
    assert t.call.woken is None
    pair.writer.call(pair.writer.thread, "close", 0)
    assert pair.reader.result(t) == 0


def test_a_write_like_the_last_one_waits_as_that_did() -> None:
    reader, writer, t = _full()
    waits = [t.wait]
    for _ in range(2):
        assert reader.call(reader.thread, "read", 0, SCRATCH, 8192) == 8192
        assert writer.result(t) == 8192
        assert writer.call(t, "write", 0, SCRATCH, 8192) is None
        waits.append(t.wait)
    assert waits[0] is waits[1] is waits[2]
    reader.call(reader.thread, "close", 0)
    assert t.state is RunState.RUNNABLE
    assert writer.result(t) is None
    assert state(t) is RunState.DEAD

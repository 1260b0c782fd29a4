"""Pipes against the real ones: capacity, page slots, atomicity, events, ends."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import termios
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopyvm.abi.errno import EAGAIN, EBUSY, ENOMEM, EPIPE, Errno
from aiopyvm.kernel.pipe import Pipe, make_pipe
from tests.files.fakes import Budget

F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032

sizes = st.one_of(st.integers(1, 300), st.integers(4000, 4200), st.integers(1, 70000), st.just(65536), st.just(4096))
steps = st.lists(st.tuples(st.sampled_from(["write", "read"]), sizes), min_size=1, max_size=60)


class Real:
    """A native pipe, non-blocking."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK)

    def write(self, data: bytes) -> Any:
        try:
            return os.write(self.writer, data)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def read(self, n: int) -> Any:
        try:
            return os.read(self.reader, n)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def available(self) -> int:
        room = array.array("i", [0])
        fcntl.ioctl(self.reader, termios.FIONREAD, room)
        return room[0]

    def events(self) -> list[int]:
        found = []
        for fd in (self.reader, self.writer):
            poll = select.poll()
            poll.register(fd, select.POLLIN | select.POLLOUT)
            found.append(sum(mask for _, mask in poll.poll(0)))
        return found

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def ours_events(ends: tuple[Any, Any]) -> list[int]:
    kept = select.POLLIN | select.POLLOUT | select.POLLHUP | select.POLLERR
    return [end.poll() & kept for end in ends]


def attempt(what: Any, *args: Any) -> Any:
    try:
        return what(*args)
    except Errno as error:
        return error.name


@given(steps)
@settings(max_examples=100, deadline=None)
def test_writes_and_reads(steps: list[tuple[str, int]]) -> None:
    budget = Budget()
    real = Real()
    reader, writer = make_pipe(budget)
    byte = 0
    try:
        for what, n in steps:
            if what == "write":
                data = bytes((byte + i) % 256 for i in range(n))
                want = real.write(data)
                assert attempt(writer.write, data) == want
                byte += want if isinstance(want, int) else 0
            else:
                assert attempt(reader.read, n) == real.read(n)
            assert reader.available() == real.available() == budget.used
            assert ours_events((reader, writer)) == real.events()
    finally:
        real.close()


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=30))
def test_what_is_put_back_is_read_again(pairs: list[tuple[int, int]]) -> None:
    budget = Budget()
    reader, writer = make_pipe(budget)
    sent = received = b""
    for n, kept in pairs:
        data = os.urandom(n)
        if reader.pipe.size + n <= 32768:
            sent += data[: writer.write(data)]
        if reader.pipe.size:
            got = reader.read(n)
            reader.unread(got[kept:])
            received += got[:kept]
    while reader.pipe.size:
        received += reader.read(1000)
    assert received == sent
    assert budget.used == 0
    assert reader.pipe._used == 0


def test_a_write_up_to_pipe_buf_is_whole_or_nothing() -> None:
    reader, writer = make_pipe()
    while not isinstance(attempt(writer.write, b"x" * 65536), str):
        pass
    reader.read(4095)
    with pytest.raises(Errno, match="EAGAIN"):
        writer.write(b"y" * 4096)
    reader.read(1)
    assert writer.write(b"y" * 4096) == 4096


def test_ends_know_of_each_other() -> None:
    for hold in (0, 1):
        ends = [end.hold() for end in make_pipe()]
        real = list(os.pipe2(os.O_NONBLOCK))
        ends[hold].release()
        os.close(real[hold])
        left = real[1 - hold]
        poll = select.poll()
        poll.register(left, select.POLLIN | select.POLLOUT)
        kept = select.POLLIN | select.POLLOUT | select.POLLHUP | select.POLLERR
        assert ends[1 - hold].poll() & kept == poll.poll(0)[0][1]
        os.close(left)
    reader, writer = (end.hold() for end in make_pipe())
    writer.write(b"rest")
    writer.release()
    assert (reader.read(9), reader.read(9)) == (b"rest", b"")
    reader, writer = (end.hold() for end in make_pipe())
    reader.release()
    with pytest.raises(Errno) as caught:
        writer.write(b"x")
    assert caught.value.number == EPIPE


@pytest.mark.parametrize("wanted", [1, 4096, 5000, 65536, 70000, 1 << 20])
def test_capacity_is_rounded_as_linux_does(wanted: int) -> None:
    real = Real()
    try:
        assert Pipe().resize(wanted) == fcntl.fcntl(real.writer, F_SETPIPE_SZ, wanted)
    finally:
        real.close()


def test_capacity_below_what_is_held_is_busy() -> None:
    reader, writer = make_pipe()
    writer.write(b"x" * 20000)
    with pytest.raises(Errno) as caught:
        reader.pipe.resize(16384)
    assert caught.value.number == EBUSY
    assert reader.pipe.resize(32768) == 32768


def test_small_writes_share_pages_and_cost_no_object_each() -> None:
    reader, writer = make_pipe()
    assert sum(writer.write(b"x") for _ in range(65536)) == 65536
    with pytest.raises(Errno) as caught:
        writer.write(b"x")
    assert caught.value.number == EAGAIN
    assert len(reader.pipe._chunks) == 16


def test_the_budget_bounds_what_a_pipe_holds() -> None:
    budget = Budget(10000)
    reader, writer = (end.hold() for end in make_pipe(budget))
    assert writer.write(b"x" * 9000) == 9000
    with pytest.raises(Errno) as caught:
        writer.write(b"x" * 2000)
    assert caught.value.number == ENOMEM
    reader.release()
    writer.release()
    assert budget.used == 0


def test_queues_are_woken_when_something_comes_and_when_room_comes() -> None:
    reader, writer = (end.hold() for end in make_pipe())
    heard: list[str] = []
    reader.pipe.read_queue.listeners[lambda: heard.append("data")] = None
    reader.pipe.write_queue.listeners[lambda: heard.append("room")] = None
    writer.write(b"x" * 65536)
    assert heard == ["data"]
    reader.read(65536)
    assert heard == ["data", "room"]
    writer.release()
    assert heard[-1] == "data"
    reader.release()
    assert heard[-1] in ("room", "data")

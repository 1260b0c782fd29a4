"""Long transfers are split, and continue where they were; faults in the guest's memory lose no byte."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aiopyvm.abi.errno import EFAULT, EPIPE, Errno
from aiopyvm.abi.fcntl import O_CREAT, O_NONBLOCK, O_RDWR
from aiopyvm.abi.resource import RLIM_INFINITY
from aiopyvm.kernel.fdtable import FdTable
from aiopyvm.kernel.file import File
from aiopyvm.kernel.pipe import make_pipe
from aiopyvm.kernel.wait import Call, Wait
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.space import AddressSpace
from aiopyvm.syscalls import transfer
from tests.files.fakes import Budget, Clock, make_vfs, user

AT = 0x10000
END = AT + (4 << 20)


class Caller:
    """As much of a thread as the calls look at."""

    def __init__(self) -> None:
        self.memory = AddressSpace(Unlimited())
        self.memory.map(AT, END - AT, 3)
        self.moved = 0
        self.call: Call | None = None
        self.signals: list[int] = []
        limits = [(RLIM_INFINITY, RLIM_INFINITY)] * 16
        self.credentials = SimpleNamespace(uid=1000)
        self.process = SimpleNamespace(fds=FdTable(), limits=limits, pid=1)
        self.kernel = SimpleNamespace(clock=Clock(), send_signal=lambda t, info: self.signals.append(info.signo))

    def install(self, file: File) -> int:
        fd: int = self.process.fds.install(file)
        return fd

    def enter(self, handler: Any, *args: Any) -> Any:
        """Call for the first time."""
        self.call = Call(0, (0,) * 6)
        return handler(self, *args)

    def finish(self, handler: Any, *args: Any) -> Any:
        """Call, and continue as long as it only wants others to have their turn."""
        result = self.enter(handler, *args)
        while isinstance(result, Wait) and not result.queues:
            result = handler(self, *args)
        return result


@pytest.fixture
def t() -> Caller:
    return Caller()


@pytest.fixture
def file(tmp_path: Any) -> File:
    vfs = make_vfs("memory", tmp_path)
    return vfs.open(user(vfs), b"/f", O_RDWR | O_CREAT, 0o644)


def test_a_long_write_lets_others_run_and_goes_on(t: Caller, file: File) -> None:
    size = 3 << 20
    data = bytes(i * 7 % 251 for i in range(4096)) * (size // 4096)
    t.memory.write(AT, data)
    fd = t.install(file)
    first = t.enter(transfer.write, fd, AT, size)
    assert isinstance(first, Wait)
    assert first.deadline is not None
    assert not first.queues
    assert t.call is not None
    assert t.call.done == transfer.STEP
    assert t.finish(transfer.write, fd, AT, 0) == 0
    file.truncate(0)
    file.offset = 0
    assert t.finish(transfer.write, fd, AT, size) == size
    assert file.pread(size, 0) == data
    t.memory.write(AT, bytes(size))
    file.offset = 0
    assert t.finish(transfer.read, fd, AT, size + 100) == size
    assert t.memory.read(AT, size) == data


def test_a_write_takes_what_is_there_before_a_fault(t: Caller, file: File) -> None:
    t.memory.write(END - 10, b"0123456789")
    fd = t.install(file)
    assert t.finish(transfer.write, fd, END - 10, 100) == 10
    assert file.pread(100, 0) == b"0123456789"
    with pytest.raises(MemoryFault):
        t.enter(transfer.write, fd, END, 10)


def test_what_memory_does_not_take_stays_in_the_file(t: Caller, file: File) -> None:
    file.write(b"0123456789")
    file.offset = 0
    fd = t.install(file)
    assert t.finish(transfer.read, fd, END - 4, 10) == 4
    assert t.memory.read(END - 4, 4) == b"0123"
    assert file.offset == 4
    with pytest.raises(Errno) as caught:
        t.enter(transfer.read, fd, END, 10)
    assert caught.value.number == EFAULT
    assert file.offset == 4


def test_what_memory_does_not_take_stays_in_the_pipe_by_the_page(t: Caller) -> None:
    reader, writer = (end.hold() for end in make_pipe(Budget()))
    data = bytes(range(250)) * 40
    writer.write(data)
    fd = t.install(reader)
    for address in (END - 4, END):
        with pytest.raises(Errno) as caught:
            t.enter(transfer.read, fd, address, 10)
        assert caught.value.number == EFAULT
    assert t.finish(transfer.read, fd, END - 5000, 9000) == 4096
    assert reader.read(10_000) == data[4096:]


def test_what_memory_does_not_have_is_not_in_the_pipe_by_the_page(t: Caller) -> None:
    reader, writer = (end.hold() for end in make_pipe(Budget()))
    t.memory.write(END - 5000, b"x" * 5000)
    fd = t.install(writer)
    with pytest.raises(Errno) as caught:
        t.enter(transfer.write, fd, END - 4, 10)
    assert caught.value.number == EFAULT
    assert reader.pipe.size == 0
    assert t.finish(transfer.write, fd, END - 5000, 12_288) == 4096
    assert reader.read(20_000) == b"x" * 4096


def test_a_blocked_write_continues_behind_what_is_through(t: Caller) -> None:
    reader, writer = (end.hold() for end in make_pipe())
    data = bytes(range(256)) * 600
    t.memory.write(AT, data)
    fd = t.install(writer)
    result = t.enter(transfer.write, fd, AT, len(data))
    received = b""
    while isinstance(result, Wait):
        assert result.queues == (writer.pipe.write_queue,)
        received += reader.read(10_000)
        result = transfer.write(t, fd, AT, len(data))  # type: ignore[arg-type]
    assert result == len(data)
    while reader.pipe.size:
        received += reader.read(1 << 20)
    assert received == data


def test_a_reader_that_goes_ends_the_write_with_what_is_through(t: Caller) -> None:
    reader, writer = (end.hold() for end in make_pipe())
    fd = t.install(writer)
    assert isinstance(t.enter(transfer.write, fd, AT, 100_000), Wait)
    reader.release()
    assert transfer.write(t, fd, AT, 100_000) == 65536  # type: ignore[arg-type]
    assert t.signals == [13]
    with pytest.raises(Errno) as caught:
        t.enter(transfer.write, fd, AT, 1)
    assert caught.value.number == EPIPE
    assert t.signals == [13, 13]


def test_a_descriptor_that_is_closed_meanwhile_ends_the_call(t: Caller) -> None:
    reader, _ = (end.hold() for end in make_pipe())
    fd = t.install(reader)
    assert isinstance(t.enter(transfer.read, fd, AT, 10), Wait)
    t.process.fds.close(fd)
    reader.release()
    with pytest.raises(Errno, match="EBADF"):
        transfer.read(t, fd, AT, 10)  # type: ignore[arg-type]


def test_a_nonblocking_write_is_partial(t: Caller) -> None:
    _, writer = (end.hold() for end in make_pipe(flags=O_NONBLOCK))
    fd = t.install(writer)
    assert t.finish(transfer.write, fd, AT, 100_000) == 65536
    with pytest.raises(Errno, match="EAGAIN"):
        t.enter(transfer.write, fd, AT, 1)


def test_the_file_size_limit_cuts_and_then_signals(t: Caller, file: File) -> None:
    t.process.limits[1] = (1000, 1000)
    fd = t.install(file)
    assert t.finish(transfer.write, fd, AT, 1500) == 1000
    assert t.signals == []
    with pytest.raises(Errno, match="EFBIG"):
        t.enter(transfer.write, fd, AT, 1)
    assert t.signals == [25]


@pytest.mark.parametrize("address", [0, 0xFFFFF000, 0xFFFFFFFF, 0xC0000000])
def test_wild_addresses(t: Caller, file: File, address: int) -> None:
    fd = t.install(file)
    with pytest.raises(MemoryFault):
        t.enter(transfer.write, fd, address, 0x7FFFFFFF)
    file.write(b"data")
    file.offset = 0
    with pytest.raises(Errno, match="EFAULT"):
        t.enter(transfer.read, fd, address, 0x7FFFFFFF)

"""What sockets cost and give back, and what a guest cannot do with them; how they behave is compared with the host's
in test_like_linux.py."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.abi.errno import ENOBUFS, ETOOMANYREFS
from aiopyvm.abi.signal import SIGKILL
from tests.kernel.machine import SCRATCH, Machine

AF_UNIX, STREAM, DGRAM = 1, 1, 2
SV, MSG, IOV, DATA, CONTROL = SCRATCH, SCRATCH + 0x100, SCRATCH + 0x200, SCRATCH + 0x300, SCRATCH + 0x400


def pair(m: Machine, kind: int = STREAM) -> tuple[int, int]:
    assert m.call(m.thread, "socketpair", AF_UNIX, kind, 0, SV) == 0
    one, two = m.words(SV, 2)
    return one, two


def send_files(m: Machine, fd: int, *files: int) -> int | None:
    """Send one byte with open files along."""
    m.put(struct.pack("<Iii", 12 + 4 * len(files), 1, 1) + struct.pack(f"<{len(files)}i", *files), CONTROL)
    m.put(struct.pack("<II", DATA, 1), IOV)
    m.put(struct.pack("<IiIIIIi", 0, 0, IOV, 1, CONTROL, 12 + 4 * len(files), 0), MSG)
    return m.call(m.thread, "sendmsg", fd, MSG, 0)


def end(m: Machine) -> None:
    m.kernel.send_signal(m.process, SIGKILL)
    m.result(m.thread)


def test_everything_is_given_back_at_the_end() -> None:
    m = Machine()
    before = m.budget.used
    one, two = pair(m)
    assert m.call(m.thread, "write", one, DATA, 5000) == 5000
    assert send_files(m, one, one, two) == 1
    assert m.call(m.thread, "close", one) == 0
    assert m.call(m.thread, "close", two) == 0  # only their own messages hold them now
    assert m.budget.used > before
    end(m)
    assert not m.kernel.net.unix.sockets
    assert not m.kernel.net.unix.in_flight
    assert m.budget.used < before  # less the process's own records


def test_a_cycle_is_found_when_another_socket_closes() -> None:
    m = Machine()
    one, two = pair(m)
    assert send_files(m, one, one, two) == 1
    m.call(m.thread, "close", one)
    m.call(m.thread, "close", two)
    assert len(m.kernel.net.unix.sockets) == 2
    one, two = pair(m)
    m.call(m.thread, "close", one)
    assert len(m.kernel.net.unix.sockets) == 1


def test_sockets_on_their_way_that_somebody_can_get_stay() -> None:
    m = Machine()
    one, two = pair(m)
    three, four = pair(m)
    assert m.call(m.thread, "write", three, DATA, 4) == 4
    assert send_files(m, one, four) == 1
    m.call(m.thread, "close", three)
    m.call(m.thread, "close", four)
    m.put(struct.pack("<IiIIIIi", 0, 0, IOV, 1, CONTROL, 64, 0), MSG)
    assert m.call(m.thread, "recvmsg", two, MSG, 0) == 1
    (given,) = struct.unpack("<i", m.thread.memory.read(CONTROL + 12, 4))
    assert m.call(m.thread, "read", given, DATA, 10) == 4


def test_a_long_chain_of_sockets_that_hold_each_other_is_closed() -> None:
    m = Machine(budget=1 << 30)
    m.process.limits[7] = (4096, 4096)
    last, held = pair(m)
    for _ in range(2000):
        one, two = pair(m)
        assert send_files(m, one, last, held) == 1
        for fd in (one, last, held):
            m.call(m.thread, "close", fd)
        last, held = two, m.call(m.thread, "dup", two) or 0
    m.call(m.thread, "close", last)
    m.call(m.thread, "close", held)
    assert not m.kernel.net.unix.in_flight
    assert not m.kernel.net.unix.sockets


def test_files_on_their_way_are_limited() -> None:
    m = Machine()
    one, _ = pair(m)
    limit = m.process.limits[7][0]
    sent = 0
    while (result := send_files(m, one, *[one] * 50)) == 1:
        sent += 50
    assert result == -ETOOMANYREFS
    assert sent <= limit < sent + 50


def test_messages_are_charged() -> None:
    m = Machine(budget=3 << 20)
    results = set()
    for _ in range(20):
        one, _ = pair(m, DGRAM)
        results.add(m.call(m.thread, "write", one, SCRATCH, 0x30000))
    assert results == {0x30000, -ENOBUFS}


@pytest.mark.parametrize("call", range(1, 21))
def test_the_older_way_refuses_a_wild_address(call: int) -> None:
    m = Machine()
    assert m.call(m.thread, "socketcall", call, 16) == -14

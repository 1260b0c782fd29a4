"""What sockets cost and give back, and what a guest cannot do with them; how they behave is compared with the host's
in test_like_linux.py."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.abi.errno import EADDRINUSE, ECONNREFUSED, ENOBUFS, ENOMEM, ETOOMANYREFS
from aiopyvm.abi.signal import SIGKILL
from aiopyvm.kernel import timewait
from aiopyvm.kernel.tcp import TcpSocket
from tests.kernel.machine import SCRATCH, Machine

AF_UNIX, AF_INET, STREAM, DGRAM = 1, 2, 1, 2
NS = 10**9
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
    for _ in range(600):
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


def tcp_pair(m: Machine) -> tuple[int, int]:
    """Two connected TCP sockets of the machine."""
    listener = m.call(m.thread, "socket", 2, STREAM, 0)
    assert listener is not None
    assert m.call(m.thread, "listen", listener, 5) == 0
    size = m.put(struct.pack("<I", 16), DATA + 16)
    assert m.call(m.thread, "getsockname", listener, DATA, size) == 0
    client = m.call(m.thread, "socket", 2, STREAM, 0)
    assert client is not None
    assert m.call(m.thread, "connect", client, DATA, 16) == 0
    server = m.call(m.thread, "accept4", listener, 0, 0, 0)
    assert server is not None
    return client, server


def test_what_is_written_in_small_pieces_costs_little_more_than_its_bytes() -> None:
    m = Machine()
    client, server = tcp_pair(m)
    for _ in range(2_000):
        assert m.call(m.thread, "write", client, DATA, 1) == 1
    end = m.process.fds.get(server)
    assert isinstance(end, TcpSocket)
    assert end.inbox_size == 2_000
    assert len(end.inbox) == 1
    assert m.call(m.thread, "read", server, SCRATCH, 0x8000) == 2_000


def test_pieces_come_out_as_they_went_in() -> None:
    m = Machine()
    client, server = tcp_pair(m)
    sent = got = b""
    for n in (1, 5000, 3, 4095, 4096, 2, 70_000, 1, 1):
        data = bytes((len(sent) + i) % 251 for i in range(n))
        m.put(data, SCRATCH + 0x1000)
        assert m.call(m.thread, "write", client, SCRATCH + 0x1000, n) == n
        sent += data
    for n in (1, 4999, 10, 1 << 15, 1 << 17):
        count = m.call(m.thread, "recvfrom", server, SCRATCH, n, 0, 0, 0) or 0
        got += m.thread.memory.read(SCRATCH, count)
    assert got == sent


@pytest.mark.parametrize("family", [1, 2])
def test_connections_that_nobody_accepts_are_charged(family: int) -> None:
    m = Machine(budget=2 << 20)
    address = struct.pack("<H", 1) + b"\0name" if family == 1 else struct.pack(">HH4s8x", 0x200, 9000, b"\x7f\0\0\1")
    m.put(address, DATA)
    used = m.budget.used
    listener = m.call(m.thread, "socket", family, STREAM, 0) or 0
    assert m.call(m.thread, "bind", listener, DATA, len(address)) == 0
    assert m.call(m.thread, "listen", listener, 4096) == 0
    for _ in range(2000):
        client = m.call(m.thread, "socket", family, STREAM, 0) or 0
        result = m.call(m.thread, "connect", client, DATA, len(address))
        m.call(m.thread, "close", client)
        if result:
            break
    assert result == (-ENOMEM if family == 1 else -ECONNREFUSED)
    assert m.call(m.thread, "close", listener) == 0
    assert m.budget.used == used


@pytest.mark.parametrize("call", range(1, 21))
def test_the_older_way_refuses_a_wild_address(call: int) -> None:
    m = Machine()
    assert m.call(m.thread, "socketcall", call, 16) == -14


def tcp(m: Machine, port: int = 0) -> tuple[int, int]:
    """A socket that is bound to a port of 127.0.0.1, and that port; a negative error where it cannot be."""
    fd = m.call(m.thread, "socket", AF_INET, STREAM, 0)
    assert fd is not None
    m.put(struct.pack("<H", AF_INET) + struct.pack(">H", port) + bytes((127, 0, 0, 1)) + bytes(8), DATA)
    got = m.call(m.thread, "bind", fd, DATA, 16)
    if got:
        return got, port
    m.put(struct.pack("<I", 16), SV)
    assert m.call(m.thread, "getsockname", fd, DATA, SV) == 0
    return fd, int.from_bytes(m.thread.memory.read(DATA + 2, 2), "big")


def connection(m: Machine) -> tuple[int, int, int]:
    """The server's end of a connection, the client's, and the server's port, on which nobody listens any more."""
    listener, port = tcp(m)
    assert m.call(m.thread, "listen", listener, 1) == 0
    client, _ = tcp(m)
    m.put(struct.pack("<H", AF_INET) + struct.pack(">H", port) + bytes((127, 0, 0, 1)) + bytes(8), DATA)
    assert m.call(m.thread, "connect", client, DATA, 16) == 0
    server = m.call(m.thread, "accept4", listener, 0, 0, 0)
    assert server is not None
    assert m.call(m.thread, "close", listener) == 0
    return server, client, port


def test_a_port_is_free_a_minute_after_both_ends_were_closed() -> None:
    m = Machine()
    server, client, port = connection(m)
    assert m.call(m.thread, "close", server) == 0
    m.advance(59 * NS)
    assert tcp(m, port)[0] == -EADDRINUSE  # FIN_WAIT2
    assert m.call(m.thread, "close", client) == 0
    m.advance(59 * NS)
    assert tcp(m, port)[0] == -EADDRINUSE  # TIME_WAIT
    m.advance(1 * NS)
    assert tcp(m, port)[0] > 0
    assert not m.kernel.net.inet.resting.rows(AF_INET)


def test_an_end_whose_other_never_closes_rests_a_minute() -> None:
    m = Machine()
    server, client, port = connection(m)
    assert m.call(m.thread, "close", server) == 0
    m.advance(60 * NS)
    assert tcp(m, port)[0] > 0
    assert m.call(m.thread, "close", client) == 0
    assert not m.kernel.net.inet.resting.rows(AF_INET)


def test_connections_that_rest_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timewait, "MOST", 3)
    m = Machine()
    ports = []
    for _ in range(5):
        server, client, port = connection(m)
        ports.append(port)
        assert m.call(m.thread, "close", server) == 0
        assert m.call(m.thread, "close", client) == 0
    assert [tcp(m, port)[0] > 0 for port in ports] == [False] * 3 + [True] * 2

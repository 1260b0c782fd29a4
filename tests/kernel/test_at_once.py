"""Calls that move bytes at once do what their handlers do: the same calls, with and without."""

from __future__ import annotations

import random
import struct

import pytest

from aiopyvm.abi.fcntl import O_NONBLOCK, O_RDONLY, O_RDWR
from aiopyvm.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED
from aiopyvm.abi.socket import AF_INET, AF_UNIX, MSG_DONTWAIT, SOCK_STREAM
from aiopyvm.kernel.devices import Full, Null, Zero
from aiopyvm.kernel.hoststream import BytesInput
from aiopyvm.kernel.pipe import make_pipe
from aiopyvm.syscalls import dispatch
from aiopyvm.syscalls.spec import AT_ONCE
from aiopyvm.syscalls.table import TABLE
from tests.kernel.machine import SCRATCH, SCRATCH_SIZE, Machine

END = SCRATCH + SCRATCH_SIZE  # nothing is mapped from here on
SHARED = 0x20000000  # a shared mapping of 64 KiB, never touched before
CODE = SCRATCH + 0x20000  # a page whose code is tracked
ARGUMENTS = SCRATCH + 0x1F000  # of socketcall(2)
SIZES = (0, 1, 3, 100, 4095, 4096, 4097, 20_000, 65_535, 65_536, 65_537, 100_000)
PLACES = (SCRATCH, SCRATCH + 4095, SHARED, SHARED + 10, CODE, CODE + 60, END - 1, END - 5000, END, 0xFFFFF000, 0)
Outcome = list[tuple[object, ...]]


def _machine() -> Machine:
    reader, writer = make_pipe(flags=O_NONBLOCK)
    data = random.Random(2).randbytes(300_000)
    files = (reader, writer, BytesInput(data), Null(O_RDWR), Full(O_RDWR), Zero(O_RDONLY))
    m = Machine(files=files, budget=8 << 20)
    reader.pipe._budget = m.budget
    assert m.call(m.thread, "mmap2", SHARED, 65536, 3, MAP_SHARED | MAP_ANONYMOUS | 0x10, -1, 0) is not None
    assert m.call(m.thread, "mmap2", 0x30000000, 65536, 1, MAP_PRIVATE | MAP_ANONYMOUS | 0x10, -1, 0) is not None
    m.put(bytes(range(256)) * 64)
    m.thread.memory.track_code(CODE + 64, 64)
    return m


def _run(seed: int) -> Outcome:
    chance = random.Random(seed)
    m = _machine()
    t = m.thread
    told: list[tuple[int, int]] = []
    t.memory.code_listeners.append(lambda address, length: told.append((address, length)))
    outcome: Outcome = []
    for _ in range(120):
        name, fd = chance.choice((("read", 0), ("write", 1), ("read", 2), ("write", 3), ("read", 3), ("write", 4)))
        fd = chance.choice((fd,) * 9 + (0, 1, 5, 5, 9, -1))
        address = chance.choice((*PLACES, 0x30000000))
        result = m.call(t, name, fd, address, chance.choice(SIZES))
        if result is None:  # it waits, at what has no end
            break
        pending = t.pending_bits()
        t.pending.bits = 0
        outcome.append((name, fd, address, result, pending, m.budget.used, t.system_ns, tuple(told)))
        told.clear()
    outcome.append((t.memory.read(SCRATCH, SCRATCH_SIZE), t.memory.read(SHARED, 65536), dict(m.kernel.calls)))
    return outcome


@pytest.mark.parametrize("seed", range(12))
def test_the_same_calls_do_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = _run(seed)
    monkeypatch.setattr(dispatch, "AT_ONCE", {})
    assert _run(seed) == at_once


def _change_masks(seed: int) -> Outcome:
    chance = random.Random(seed)
    m = _machine()
    t = m.thread
    told: list[tuple[int, int]] = []
    t.memory.code_listeners.append(lambda address, length: told.append((address, length)))
    places = (*PLACES, CODE + 57, END - 8, END - 4, 0x30000000)
    outcome: Outcome = []
    for _ in range(200):
        set_at, old_at = chance.choice((0, *places)), chance.choice((0, 0, *places))
        if chance.random() < 0.7:
            set_at = SCRATCH + 256
            t.memory.write(set_at, chance.randbytes(8))
        how, size = chance.choice((0, 1, 2, 0, 1, 2, 3, -1)), chance.choice((8,) * 9 + (4,))
        result = m.call(t, "rt_sigprocmask", how, set_at, old_at, size)
        outcome.append((how, set_at, old_at, size, result, t.mask, m.budget.used, t.system_ns, tuple(told)))
        told.clear()
    outcome.append((t.memory.read(SCRATCH, SCRATCH_SIZE), t.memory.read(SHARED, 65536), dict(m.kernel.calls)))
    return outcome


@pytest.mark.parametrize("seed", range(6))
def test_the_same_masks_are_set(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = _change_masks(seed)
    monkeypatch.setattr(dispatch, "AT_ONCE", {})
    assert _change_masks(seed) == at_once


def test_most_of_them_need_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    m = _machine()
    for number in AT_ONCE:
        monkeypatch.setattr(TABLE[number], "handler", None)
    for n in (1, 4096, 65536):
        assert m.call(m.thread, "write", 1, SCRATCH, n) == n
        assert m.call(m.thread, "read", 0, SCRATCH + 1, n) == n
        assert m.call(m.thread, "read", 2, SHARED, n) == n
        assert m.call(m.thread, "write", 3, SCRATCH + 1, n) == n
    assert m.call(m.thread, "rt_sigprocmask", 2, SCRATCH, SHARED, 8) == 0


def _receive(seed: int, family: int, call: str) -> Outcome:
    """Random sends and receives of a pair of stream sockets, of more than what is there, too."""
    chance = random.Random(seed)
    m = _machine()
    t = m.thread
    fds = _socket_pair(m, family)
    outcome: Outcome = []
    for _ in range(100):
        sends = chance.random() < 0.6
        size = chance.choice((1, 64, 4096, 20_000, 65_536) if sends else (1, 100, 65_535, 65_536, 65_537, 262_144))
        flags = MSG_DONTWAIT if chance.random() < 0.1 else 0
        outcome.append((sends, size, _move(m, call, fds[sends], sends, chance.choice(PLACES[:5]), size, flags)))
        outcome.append((m.budget.used, t.system_ns, t.memory.read(SHARED, 65536)))
    outcome.append((t.memory.read(SCRATCH, SCRATCH_SIZE), dict(m.kernel.calls)))
    return outcome


def _socket_pair(m: Machine, family: int) -> tuple[int, int]:
    """Two connected sockets of a machine's process that never wait."""
    t = m.thread
    if family == AF_UNIX:
        assert m.call(t, "socketpair", AF_UNIX, SOCK_STREAM | O_NONBLOCK, 0, SCRATCH) == 0
        first, second = struct.unpack("<2i", t.memory.read(SCRATCH, 8))
        return first, second
    listener, caller = (m.call(t, "socket", AF_INET, SOCK_STREAM | O_NONBLOCK, 0) for _ in range(2))
    m.put(struct.pack("<HH4s8x", AF_INET, 0x901F, bytes((127, 0, 0, 1))))
    assert listener is not None
    assert caller is not None
    assert m.call(t, "bind", listener, SCRATCH, 16) == 0
    assert m.call(t, "listen", listener, 1) == 0
    m.call(t, "connect", caller, SCRATCH, 16)
    taken = m.call(t, "accept4", listener, 0, 0, O_NONBLOCK)
    assert taken is not None
    return caller, taken


def _move(m: Machine, call: str, fd: int, sends: bool, address: int, size: int, flags: int) -> int | None:
    if call == "socketcall":
        m.thread.memory.write(ARGUMENTS, struct.pack("<4I", fd, address, size, flags))
        return m.call(m.thread, call, 9 if sends else 10, ARGUMENTS)
    return m.call(m.thread, "sendto" if sends else "recvfrom", fd, address, size, flags, 0, 0)


@pytest.mark.parametrize("call", ["sendto", "socketcall"])
@pytest.mark.parametrize("family", [AF_UNIX, AF_INET])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_messages_do_the_same(seed: int, family: int, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = _receive(seed, family, call)
    assert any(isinstance(row[2], int) and row[2] > 1000 for row in at_once if row[0] is False)
    monkeypatch.setattr(dispatch, "AT_ONCE", {})
    assert _receive(seed, family, call) == at_once


@pytest.mark.parametrize("call", ["sendto", "socketcall"])
@pytest.mark.parametrize("family", [AF_UNIX, AF_INET])
def test_who_asks_for_more_than_is_there_needs_no_handler(
    family: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = _machine()
    fds = _socket_pair(m, family)
    for number in AT_ONCE:
        monkeypatch.setattr(TABLE[number], "handler", None)
    for n in (1, 64, 20_000):
        assert _move(m, call, fds[1], True, SCRATCH, n, 0) == n
        assert _move(m, call, fds[0], False, SHARED, 262_144, 0) == n


def test_a_bug_in_one_ends_its_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setitem(AT_ONCE, 3, broken)
    m = _machine()
    assert m.call(m.thread, "read", 0, SCRATCH, 1) is None
    assert "read" in str(m.process.failure)
    assert "ZeroDivisionError" in str(m.process.failure)


def test_a_trace_shows_them() -> None:
    m = _machine()
    lines: list[str] = []
    m.kernel.strace = lambda thread, line: lines.append(line)
    assert m.call(m.thread, "write", 1, SCRATCH, 3) == 3
    assert lines == ['write(1, "\\0\\1\\2", 3)                   = 3']

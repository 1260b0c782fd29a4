"""Leases that nobody gives up, and how many there may be (fcntl(2), "Leases")."""

from __future__ import annotations

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.fcntl import (
    F_GETLEASE,
    F_NOTIFY,
    F_RDLCK,
    F_SETLEASE,
    F_UNLCK,
    F_WRLCK,
    LEASE_BREAK_SECONDS,
    O_CREAT,
    O_DIRECTORY,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
)
from aiopyvm.abi.signal import SIGIO, bit
from aiopyvm.kernel.dnotify import MAX_NOTICES
from aiopyvm.kernel.fsleases import MAX_LEASES
from aiopyvm.kernel.thread import RunState
from tests.kernel.machine import Machine

BREAK_NS = LEASE_BREAK_SECONDS * 10**9


def leased(m: Machine, kind: int) -> tuple[int, int]:
    """A file's path in memory, and a descriptor with a lease of it."""
    path = m.put(b"/tmp/leased\0")
    m.call(m.thread, "mkdir", m.put(b"/tmp\0"), 0o777)
    m.put(b"/tmp/leased\0")
    fd = m.call(m.thread, "open", path, O_CREAT | O_RDWR, 0o600)
    m.call(m.thread, "close", fd or 0)
    fd = m.call(m.thread, "open", path, O_RDONLY, 0)
    assert fd is not None
    assert m.call(m.thread, "fcntl64", fd, F_SETLEASE, kind) == 0
    m.thread.mask = bit(SIGIO)
    return path, fd


@pytest.mark.parametrize(
    ("kind", "flags", "left"),
    [(F_RDLCK, O_WRONLY, F_UNLCK), (F_WRLCK, O_RDWR, F_UNLCK), (F_WRLCK, O_RDONLY, F_RDLCK)],
)
def test_a_lease_that_is_not_given_up_goes_after_its_time(kind: int, flags: int, left: int) -> None:
    m = Machine()
    path, fd = leased(m, kind)
    child = m.fork()
    assert m.call(child, "open", path, flags, 0) is None
    assert m.process.pending.bits == bit(SIGIO)
    m.advance(BREAK_NS - 1)
    assert child.state is RunState.PARKED
    assert m.call(m.thread, "fcntl64", fd, F_GETLEASE, 0) == left
    m.advance(1)
    assert (m.result(child) or 0) > 0
    assert m.call(m.thread, "fcntl64", fd, F_GETLEASE, 0) == left
    assert m.call(m.thread, "fcntl64", fd, F_SETLEASE, F_UNLCK) == (0 if left == F_RDLCK else -errno.EAGAIN)


def test_truncation_waits_for_a_lease() -> None:
    m = Machine()
    path, fd = leased(m, F_RDLCK)
    child = m.fork()
    assert m.call(child, "truncate", path, 5) is None
    assert m.call(m.thread, "close", fd) == 0
    assert child.state is RunState.PARKED  # the child has the descriptor too
    m.advance(BREAK_NS)
    assert m.result(child) == 0


def test_leases_and_notices_are_bounded() -> None:
    m = Machine()
    m.process.fds.limit = 256
    path, fd = leased(m, F_RDLCK)
    for _ in range(MAX_LEASES - 1):
        fd = m.call(m.thread, "open", path, O_RDONLY, 0) or 0
        assert m.call(m.thread, "fcntl64", fd, F_SETLEASE, F_RDLCK) == 0
    last = m.call(m.thread, "open", path, O_RDONLY, 0) or 0
    assert m.call(m.thread, "fcntl64", last, F_SETLEASE, F_RDLCK) == -errno.ENOMEM
    assert m.call(m.thread, "open", path, O_WRONLY | O_NONBLOCK, 0) == -errno.EAGAIN
    m.call(m.thread, "close", fd)
    assert m.call(m.thread, "fcntl64", last, F_SETLEASE, F_RDLCK) == -errno.EAGAIN  # the others are asked for
    path = m.put(b"/tmp\0")
    fds = [m.call(m.thread, "open", path, O_RDONLY | O_DIRECTORY, 0) or 0 for _ in range(MAX_NOTICES + 1)]
    answers = [m.call(m.thread, "fcntl64", fd, F_NOTIFY, 2) for fd in fds]
    assert answers == [0] * MAX_NOTICES + [-errno.ENOMEM]

"""epoll, events as files, timers, inotify and IPC in the kernel: bounds, what is charged, and who can end a wait."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest

from aiopyvm.abi import errno, inotify
from aiopyvm.abi.fcntl import O_CREAT, O_NONBLOCK, O_RDWR, O_TRUNC
from aiopyvm.abi.poll import EPOLL_CTL_ADD, POLLIN
from aiopyvm.abi.signal import SIGALRM, bit
from aiopyvm.kernel.epoll import MAX_WATCHES, MAX_WAYS, Epoll
from aiopyvm.kernel.inotify import MAX_QUEUED, Inotify
from aiopyvm.kernel.pipe import make_pipe
from aiopyvm.kernel.process import EndReason
from tests.files.fakes import Budget, make_vfs, user
from tests.kernel.machine import SCRATCH, Machine

NS = 10**9


def number(m: Machine, name: str, *args: int) -> int:
    """Make a call that succeeds; return its result."""
    result = m.call(m.thread, name, *args)
    assert result is not None
    assert result >= 0, errno.NAMES.get(-result)
    return result


def add(m: Machine, epoll: int, fd: int, events: int = POLLIN) -> int | None:
    """EPOLL_CTL_ADD."""
    m.put(struct.pack("<IQ", events, fd), SCRATCH + 64)
    return m.call(m.thread, "epoll_ctl", epoll, EPOLL_CTL_ADD, fd, SCRATCH + 64)


def pipe(m: Machine) -> tuple[int, int]:
    """Make a pipe; return its descriptors."""
    number(m, "pipe", SCRATCH)
    reader, writer = m.words(SCRATCH, 2)
    return reader, writer


# --- epoll ------------------------------------------------------------------------------------------------------------


def test_a_wait_at_an_instance_waits_for_what_is_watched() -> None:
    m = Machine()
    inner, outer = number(m, "epoll_create1", 0), number(m, "epoll_create1", 0)
    reader, _ = pipe(m)
    assert add(m, inner, reader) == 0
    assert add(m, outer, inner) == 0
    child = m.fork()
    assert m.call(child, "epoll_wait", outer, SCRATCH, 4, -1) is None
    assert not child.waits_outside
    file = m.process.fds.get(reader)
    (queue,) = file.queues(POLLIN)
    queue.external = "host"
    assert child.waits_outside


def test_one_event_wakes_one_of_several_waiters() -> None:
    m = Machine()
    epoll = number(m, "epoll_create1", 0)
    reader, writer = pipe(m)
    assert add(m, epoll, reader) == 0
    children = [m.fork(), m.fork()]
    for child in children:
        assert m.call(child, "epoll_wait", epoll, SCRATCH, 4, -1) is None
    m.put(b"x")
    number(m, "write", writer, SCRATCH, 1)
    assert [child.wait is None for child in children] == [True, False]


def test_watches_of_one_file_are_bounded() -> None:
    budget = Budget()
    reader, _ = make_pipe()
    epolls = [Epoll(budget).hold() for _ in range(MAX_WAYS)]
    for fd in range(MAX_WATCHES):
        epolls[0].add(reader, fd, POLLIN, 0)
    with pytest.raises(errno.Errno) as error:
        epolls[0].add(reader, MAX_WATCHES, POLLIN, 0)
    assert error.value.number == errno.EINVAL
    for outer in epolls[1:]:
        outer.add(epolls[0], 0, POLLIN, 0)
    with pytest.raises(errno.Errno) as error:
        Epoll(budget).hold().add(epolls[0], 0, POLLIN, 0)
    assert error.value.number == errno.EINVAL
    for epoll in epolls:
        epoll.release()
    assert budget.used == 0
    assert not reader.watches
    assert not reader.pipe.read_queue.listeners


def test_a_wake_goes_few_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """However instances watch each other."""
    told = 0
    tell = Epoll._tell

    def count(epoll: Epoll) -> None:
        nonlocal told
        told += 1
        tell(epoll)

    monkeypatch.setattr(Epoll, "_tell", count)
    budget, refused = Budget(), list[int]()
    reader, writer = make_pipe()
    levels = [[Epoll(budget).hold() for _ in range(3)] for _ in range(4)]
    for epoll in levels[0]:
        epoll.add(reader, 0, POLLIN, 0)
    for below, above in itertools.pairwise(levels):
        for fd, inner in enumerate(below):
            for outer in above:
                try:
                    outer.add(inner, fd, POLLIN, 0)
                except errno.Errno as error:
                    refused.append(error.number)
    assert set(refused) == {errno.EINVAL}
    assert all(epoll.ways() <= MAX_WAYS for level in levels for epoll in level)
    top = next(epoll for epoll in levels[3] if epoll.watched)
    assert len(list(top.queue.sources())) <= 2 + 4 * 3
    writer.write(b"x")
    assert 3 <= told <= 3 * MAX_WAYS
    assert top.poll() == POLLIN | 0x40


def test_events_that_cannot_be_stored_are_not_lost() -> None:
    m = Machine()
    epoll = number(m, "epoll_create1", 0)
    reader, writer = pipe(m)
    assert add(m, epoll, reader, POLLIN | 1 << 31) == 0
    m.put(b"x")
    number(m, "write", writer, SCRATCH, 1)
    assert m.call(m.thread, "epoll_wait", epoll, 0x10, 4, 0) == -errno.EFAULT
    assert m.call(m.thread, "epoll_wait", epoll, SCRATCH, 4, 0) == 1


# --- timers -----------------------------------------------------------------------------------------------------------


def test_short_periods_that_nobody_reads_cost_nothing() -> None:
    m = Machine()
    fd = number(m, "timerfd_create", 1, O_NONBLOCK)
    m.put(struct.pack("<4i", 0, 1, 0, 1))
    number(m, "timerfd_settime", fd, 0, SCRATCH, 0)
    before = m.kernel.timers.count
    m.advance(NS)
    assert m.kernel.timers.count == before
    assert m.kernel.next_deadline() is None
    number(m, "read", fd, SCRATCH, 8)
    assert m.words(SCRATCH, 2) == (NS, 0)


def test_short_periods_of_a_pending_signal_are_overruns() -> None:
    m = Machine()
    m.thread.set_mask(bit(SIGALRM))
    number(m, "timer_create", 1, 0, SCRATCH)
    timer = m.words(SCRATCH, 1)[0]
    m.put(struct.pack("<4i", 0, 1000, 0, 1000))
    number(m, "timer_settime", timer, 0, SCRATCH, 0)
    m.advance(NS)
    assert m.kernel.next_deadline() is None
    m.put(struct.pack("<QQ", bit(SIGALRM), 0))
    assert m.call(m.thread, "rt_sigtimedwait", SCRATCH, SCRATCH + 16, SCRATCH + 8, 8) == SIGALRM
    assert m.words(SCRATCH + 16, 5)[4] == NS // 1000 - 1
    assert m.call(m.thread, "timer_getoverrun", timer) == NS // 1000 - 1


# --- inotify ----------------------------------------------------------------------------------------------------------


def events(instance: Inotify) -> list[tuple[int, bytes]]:
    """Take all events: what happened, and the name."""
    data, found, at = instance.read(1 << 16), [], 0
    while at < len(data):
        _, mask, _, length = struct.unpack_from("<iIII", data, at)
        found.append((mask, data[at + 16 : at + 16 + length].rstrip(b"\0")))
        at += 16 + length
    return found


@pytest.mark.parametrize("kind", ["memory", "rw", "cow"])
def test_directories_of_every_kind_tell(kind: str, tmp_path: Path) -> None:
    vfs = make_vfs(kind, tmp_path)
    if kind != "memory":
        (tmp_path / "old").write_bytes(b"content")
        (tmp_path / "directory").mkdir()
    else:
        vfs.open(user(vfs), b"old", O_CREAT | O_RDWR, 0o644).hold().release()
        vfs.make(user(vfs), b"directory", 0o40755)
    instance = Inotify(Budget(), 0)
    instance.hold()
    instance.watch(vfs.root, inotify.IN_ALL_EVENTS & ~inotify.IN_ATTRIB)
    instance.watch(vfs.lookup(user(vfs), b"directory"), inotify.IN_ALL_EVENTS)
    file = vfs.open(user(vfs), b"old", O_RDWR).hold()
    file.write(b"x")
    file.release()
    vfs.rename(user(vfs), b"old", b"directory/new")
    vfs.unlink(user(vfs), b"directory/new")
    vfs.rmdir(user(vfs), b"directory")
    assert events(instance) == [
        (inotify.IN_OPEN, b"old"),
        (inotify.IN_MODIFY, b"old"),
        (inotify.IN_CLOSE_WRITE, b"old"),
        (inotify.IN_MOVED_FROM, b"old"),
        (inotify.IN_MOVED_TO, b"new"),
        (inotify.IN_DELETE, b"new"),
        (inotify.IN_DELETE_SELF, b""),
        (inotify.IN_IGNORED, b""),
        (inotify.IN_DELETE | inotify.IN_ISDIR, b"directory"),
    ]


def test_a_queue_of_events_is_bounded() -> None:
    vfs = make_vfs("memory", Path())
    budget = Budget()
    instance = Inotify(budget, 0)
    instance.hold()
    instance.watch(vfs.root, inotify.IN_ALL_EVENTS)
    ctx = user(vfs)
    for _ in range(MAX_QUEUED // 3 + 10):
        vfs.open(ctx, b"file", O_CREAT | O_RDWR | O_TRUNC, 0o600).hold().release()
    count, last = 0, (0, b"")
    while instance.poll():
        found = events(instance)
        count, last = count + len(found), found[-1]
    assert count == MAX_QUEUED + 1
    assert last == (inotify.IN_Q_OVERFLOW, b"")
    instance.release()
    assert budget.used == 0


# --- what is charged --------------------------------------------------------------------------------------------------


def make_everything(m: Machine) -> None:
    """Make one of each, and leave them to the end of the process."""
    reader, _ = pipe(m)
    epoll = number(m, "epoll_create1", 0)
    assert add(m, epoll, reader) == 0
    number(m, "eventfd2", 5, 0)
    fd = number(m, "timerfd_create", 1, 0)
    m.put(struct.pack("<4i", 0, 1, 0, 1))
    number(m, "timerfd_settime", fd, 0, SCRATCH, 0)
    m.put(b"/\0")
    number(m, "inotify_add_watch", number(m, "inotify_init"), SCRATCH, inotify.IN_ALL_EVENTS)
    number(m, "timer_create", 1, 0, SCRATCH)
    number(m, "pidfd_open", m.process.pid, 0)
    number(m, "semget", 0, 100, 0o600)
    queue = number(m, "msgget", 0, 0o600)
    m.put(struct.pack("<i", 1) + b"message")
    number(m, "msgsnd", queue, SCRATCH, 7, 0)
    at = m.call(m.thread, "shmat", number(m, "shmget", 0, 8192, 0o600), 0, 0)
    assert at is not None
    m.thread.memory.write(at & 0xFFFFFFFF, b"x" * 8192)
    m.put(b"name\0")
    mq = number(m, "mq_open", SCRATCH, O_CREAT | O_RDWR, 0o600, 0)
    number(m, "mq_timedsend", mq, SCRATCH, 4, 1, 0)


def test_all_is_given_back_at_the_end() -> None:
    used = []
    for make in (lambda m: None, make_everything):
        m = Machine()
        make(m)
        m.kernel.terminate(EndReason.TERMINATED)
        used.append(m.budget.used)
        assert m.kernel.next_deadline() is None
    assert used[0] == used[1]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("semget", (0, 30000, 0o600)),
        ("msgget", (0, 0o600)),
        ("timer_create", (1, 0, SCRATCH)),
        ("shmget", (0, 4096, 0)),
    ],
)
def test_guests_can_make_no_more_than_the_budget_allows(name: str, args: tuple[int, ...]) -> None:
    m = Machine(budget=1 << 21)
    for _ in range(40000):
        result = m.call(m.thread, name, *args)
        assert result is not None
        if result < 0:
            break
    assert result in (-errno.ENOSPC, -errno.ENOMEM, -errno.EAGAIN)
    m.kernel.terminate(EndReason.TERMINATED)

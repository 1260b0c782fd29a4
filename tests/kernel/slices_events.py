"""Cases of `slices.py`: epoll, inotify, splices, IPC and other processes' memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from aiopyvm.abi import inotify, ipc
from aiopyvm.abi.fcntl import O_CREAT, O_RDWR
from aiopyvm.abi.poll import EPOLL_CTL_ADD, POLLOUT
from aiopyvm.kernel.epoll import MAX_WATCHED, Epoll
from aiopyvm.kernel.inotify import MAX_QUEUED, Inotify
from aiopyvm.kernel.pipe import make_pipe
from tests.kernel.machine import SCRATCH
from tests.kernel.slicing import BIG, MB, PAGE, Slices, case, machine, make_file, touch


@case
def many_watches() -> Iterator[Slices]:
    m = machine()
    epoll = m.call(m.thread, "epoll_create1", 0) or 0
    file = m.process.fds.get(epoll)
    assert isinstance(file, Epoll)
    ends = [make_pipe()[1].hold() for _ in range(MAX_WATCHED // 1024)]
    for n in range(MAX_WATCHED - 1):
        file.add(ends[n % len(ends)], n, POLLOUT, n)
    m.thread.memory.map(BIG, MB, 3)
    yield Slices(m, "epoll_wait", epoll, BIG, 8192, 0)
    m.put(struct.pack("<IQ", POLLOUT, 1), SCRATCH)
    assert m.call(m.thread, "pipe", SCRATCH + 64) == 0
    _, writer = m.words(SCRATCH + 64, 2)
    yield Slices(m, "epoll_ctl", epoll, EPOLL_CTL_ADD, writer, SCRATCH)
    yield Slices(m, "close", epoll)


@case
def many_events() -> Iterator[Slices]:
    m = machine()
    fd = m.call(m.thread, "inotify_init1", 0o4000) or 0
    file = m.process.fds.get(fd)
    assert isinstance(file, Inotify)
    for n in range(MAX_QUEUED):
        file.queue_event(n, inotify.IN_CREATE, 0, b"%0200d" % n)
    m.thread.memory.map(BIG, 8 * MB, 3)
    yield Slices(m, "read", fd, BIG, 8 * MB)


@case
def splices() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"x" * (4 * MB))
    assert m.call(m.thread, "pipe", SCRATCH) == 0
    reader, writer = m.words(SCRATCH, 2)
    m.call(m.thread, "fcntl64", writer, 1031, MB)
    yield Slices(m, "splice", fd, 0, writer, 0, 4 * MB, 0)
    null = m.call(m.thread, "open", m.put(b"/dev/null\0"), 1) or 0
    yield Slices(m, "splice", reader, 0, null, 0, 4 * MB, 2)


@case
def semaphores() -> Iterator[Slices]:
    m = machine()
    sems = m.call(m.thread, "semget", 0, ipc.SEMMSL, 0o600) or 0
    m.thread.memory.map(BIG, MB, 3)
    yield Slices(m, "semctl", sems, 0, ipc.SETALL, BIG)
    m.put(b"".join(struct.pack("<Hhh", n, 1, ipc.SEM_UNDO) for n in range(ipc.SEMOPM)), BIG)
    yield Slices(m, "semtimedop_time64", sems, BIG, ipc.SEMOPM, 0)


@case
def segments() -> Iterator[Slices]:
    m = machine()
    for n in range(ipc.SHMMNI - 1):
        m.call(m.thread, "shmget", n + 1, PAGE, ipc.IPC_CREAT | 0o600)
    yield Slices(m, "shmget", 0, PAGE, 0o600)
    shmid = m.call(m.thread, "shmget", 1, 0, 0) or 0
    for _ in range(4000):
        m.call(m.thread, "shmat", shmid, 0, 0)
    yield Slices(m, "shmctl", shmid, ipc.IPC_STAT, SCRATCH)


@case
def messages() -> Iterator[Slices]:
    m = machine()
    queue = m.call(m.thread, "msgget", 0, 0o600) or 0
    m.put(struct.pack("<i", 1))
    for _ in range(ipc.MSGMNB):
        m.call(m.thread, "msgsnd", queue, SCRATCH, 0, 0)
    yield Slices(m, "msgrcv", queue, SCRATCH, 0, 2, ipc.IPC_NOWAIT)
    yield Slices(m, "msgrcv", queue, SCRATCH, 0, -(1 << 30) & 0xFFFFFFFF, 0)
    yield Slices(m, "msgctl", queue, ipc.IPC_RMID, 0)


@case
def another_memory() -> Iterator[Slices]:
    m = machine()
    touch(m, 4 * MB)
    m.put(struct.pack("<II", BIG, MB), SCRATCH)
    m.put(struct.pack("<II", BIG + 2 * MB + 1, MB), SCRATCH + 8)
    yield Slices(m, "process_vm_readv", m.process.pid, SCRATCH, 1, SCRATCH + 8, 1, 0)
    m.put(b"q\0")
    mq = m.call(m.thread, "mq_open", SCRATCH, O_CREAT | O_RDWR, 0o600, 0) or 0
    yield Slices(m, "mq_timedsend", mq, BIG, 8192, 0, 0)

"""What a guest can make the kernel keep is charged or bounded, and given back; limits of setrlimit(2)."""

from __future__ import annotations

import struct

from aiopyvm.abi.errno import EAGAIN, EFAULT, ENFILE
from aiopyvm.abi.fcntl import F_SETLK, F_WRLCK, O_CREAT, O_DIRECTORY, O_RDWR
from aiopyvm.abi.resource import RLIMIT_CPU, RLIMIT_NPROC
from aiopyvm.abi.signal import SIGKILL, SIGXCPU
from aiopyvm.kernel.process import Life
from aiopyvm.kernel.procfs import ProcFs
from aiopyvm.kernel.signals import MAX_QUEUED
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.syscalls.dispatch import MAX_UNKNOWN, OTHER_UNKNOWN
from tests.kernel.machine import SCRATCH, SECOND, Machine, state


def _open(m: Machine, path: bytes, flags: int, mode: int = 0o600) -> int:
    fd = m.call(m.thread, "open", m.put(path + b"\0"), flags, mode)
    assert fd is not None
    return fd


def test_open_files_and_pipes_are_charged_until_they_are_closed() -> None:
    m = Machine()
    _open(m, b"/f", O_CREAT | O_RDWR)
    before = m.budget.used
    assert _open(m, b"/f", O_RDWR) == 4
    one = m.budget.used - before
    assert one >= 512
    assert m.call(m.thread, "dup", 4) == 5
    assert m.call(m.thread, "pipe", SCRATCH) == 0
    assert m.budget.used - before >= one + 2048
    for fd in (4, 5, 6, 7):
        assert m.call(m.thread, "close", fd) == 0
    assert m.budget.used == before


def test_a_spent_budget_refuses_another_open_file() -> None:
    m = Machine()
    _open(m, b"/f", O_CREAT | O_RDWR)
    m.budget.limit = m.budget.used
    assert _open(m, b"/f", O_RDWR) == -ENFILE
    assert m.call(m.thread, "pipe", SCRATCH) == -ENFILE
    assert m.process.fds.find(4) is None


def test_texts_of_proc_are_charged_while_they_are_held() -> None:
    m = Machine()
    m.kernel.vfs.mount(b"/proc", ProcFs(m.kernel.vfs))
    for n in range(40):
        m.thread.memory.map(0x20000000 + n * 0x2000, 0x1000, 3)
    m.put(b"the page is there")
    before = m.budget.used
    fd = _open(m, b"/proc/self/maps", 0)
    assert m.call(m.thread, "read", fd, SCRATCH, 1) == 1
    assert m.budget.used - before > 40 * 40
    directory = _open(m, b"/proc/self", O_DIRECTORY)
    held = m.budget.used
    assert (m.call(m.thread, "getdents64", directory, SCRATCH, 100) or 0) > 0
    assert m.budget.used > held
    for each in (fd, directory):
        assert m.call(m.thread, "close", each) == 0
    assert m.budget.used == before


def test_record_locks_are_charged() -> None:
    m = Machine()
    fd = _open(m, b"/f", O_CREAT | O_RDWR)
    before = m.budget.used
    for n in range(10):
        at = m.put(struct.pack("<hhiii", F_WRLCK, 0, 10 * n, 5, 0))
        assert m.call(m.thread, "fcntl", fd, F_SETLK, at) == 0
    assert m.budget.used >= before + 10 * 200
    assert m.call(m.thread, "close", fd) == 0
    assert m.budget.used < before


def test_real_time_signals_share_one_queue_of_the_kernel() -> None:
    m = Machine()
    child = m.fork()
    at = m.put(struct.pack("<Q", 1 << 33))
    info = m.put(struct.pack("<iii", 34, 0, -1).ljust(128, b"\0"), SCRATCH + 64)
    for t in (m.thread, child):
        m.put(struct.pack("<Q", 1 << 33), at, t)
        assert m.call(t, "rt_sigprocmask", 0, at, 0, 8) == 0
    sent = [m.call(m.thread, "rt_sigqueueinfo", target, 34, info) for target in (1, child.tid) * (MAX_QUEUED // 2 + 2)]
    assert sent.count(0) == MAX_QUEUED
    assert sent[-1] == -EAGAIN
    m.call(child, "exit_group", 0)
    assert m.call(m.thread, "rt_sigqueueinfo", 1, 34, info) == 0


def test_unknown_numbers_are_counted_without_bound_but_not_kept() -> None:
    m = Machine()
    for number in range(100_000, 100_000 + 2 * MAX_UNKNOWN):
        m.call(m.thread, number)
    unknown = m.kernel.unknown_syscalls
    assert len(unknown) == MAX_UNKNOWN + 1
    assert unknown[OTHER_UNKNOWN] == MAX_UNKNOWN
    assert unknown.total() == 2 * MAX_UNKNOWN


def test_a_clone_that_cannot_tell_its_id_is_there_all_the_same() -> None:
    m = Machine()
    pid = m.call(m.thread, "clone", 0x00100011, 0, 8)  # CLONE_PARENT_SETTID | SIGCHLD
    assert pid is not None
    assert pid > 0
    assert m.kernel.threads[pid] in m.runnable
    assert m.call(m.thread, "waitpid", pid, 8, 1) == 0  # nothing ended: the address is not looked at
    m.call(m.kernel.threads[pid], "exit_group", 0)
    assert m.call(m.thread, "waitpid", pid, 8, 1) == -EFAULT


def test_an_exit_signal_that_is_none_reaches_nobody() -> None:
    m = Machine()
    pid = m.call(m.thread, "clone", 200)
    assert pid is not None
    m.call(m.kernel.threads[pid], "exit_group", 3)
    assert m.call(m.thread, "getpid") == 1
    assert m.call(m.thread, "waitpid", pid, SCRATCH, 0x80000000) == pid
    assert m.words(SCRATCH, 1) == (3 << 8,)


def test_processor_time_limits() -> None:
    m = Machine()
    child = m.fork()
    child.process.limits[RLIMIT_CPU] = (2, 4)
    m.handle(SIGXCPU, t=child)
    _spend(m, child, SECOND)
    assert not m.in_handler(child)
    _spend(m, child, SECOND)
    assert m.in_handler(child)
    _spend(m, child, 2 * SECOND)
    assert state(child) is RunState.DEAD
    assert child.process.exit_status == SIGKILL


def _spend(m: Machine, t: Thread, ns: int) -> None:
    t.core.cpu.instructions += ns
    m.kernel.resume(t)


def test_process_limit_of_a_user() -> None:
    m = Machine()
    m.process.limits[RLIMIT_NPROC] = (2, 2)
    child = m.fork()
    assert m.call(m.thread, "fork") == -EAGAIN
    m.call(child, "exit_group", 0)
    assert child.process.life is Life.ZOMBIE
    assert (m.call(m.thread, "fork") or 0) > 0


def test_signals_left_by_an_ending_thread_go_to_another() -> None:
    m = Machine()
    m.handle(10)
    tid = m.call(m.thread, "clone", 0x00010F00, SCRATCH + 0x8000)  # a thread
    assert tid is not None
    other = m.kernel.threads[tid]
    assert m.result(other) == 0
    m.kernel.send_signal(m.process, 10)
    assert m.process.pending.bits
    m.call(other, "pause")
    m.thread.attention = False  # as if the thread that was told had not come to look yet
    m.kernel.syscalls.enter(_exiting(m.thread))
    m.kernel.resume(other)
    assert m.in_handler(other)


def _exiting(t: Thread) -> Thread:
    t.core.cpu.eax, t.core.cpu.ebx = 1, 0
    return t

"""Processes and threads: limits, budgets, orphans, the end of a run, execve, who waits for what."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.clone import CLONE_FS
from aiopyvm.abi.errno import Errno
from aiopyvm.abi.signal import SIGCHLD, SIGHUP, SIGKILL, SIGSTOP, SigInfo
from aiopyvm.errors import HostRefusedError, LoadError
from aiopyvm.kernel.kernel import Kernel
from aiopyvm.kernel.process import EndReason, Life
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.syscalls.dispatch import Dispatcher
from tests.kernel.machine import SCRATCH, FakeEntropy, Machine, make_core

THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000
HELLO = (Path(__file__).parents[2] / "guests" / "bin" / "hello").read_bytes()


def start_thread(m: Machine, flags: int = 0, tid_at: int = 0) -> Thread:
    tid = m.call(m.thread, "clone", THREAD | flags, SCRATCH + 0x8000, tid_at, 0, tid_at)
    assert tid
    thread = m.kernel.threads[tid]
    assert m.result(thread) == 0
    return thread


# --- limits and budgets -----------------------------------------------------------------------------------------------


def test_the_process_limit_is_eagain_and_counted() -> None:
    m = Machine(process_limit=3)
    m.fork()
    m.fork()
    assert m.call(m.thread, "fork") == -errno.EAGAIN
    assert m.kernel.limits_hit["processes"] == 1


def test_processes_and_threads_give_back_what_they_were_charged() -> None:
    m = Machine()
    before = m.budget.used
    for _ in range(5):
        child = m.fork()
        assert m.budget.used > before
        m.call(child, "exit", 0)
        assert m.call(m.thread, "waitpid", -1, 0, 0) == child.process.pid
        m.call(start_thread(m), "exit", 0)
    assert m.budget.used - before <= 0x10000  # pages that the parent touched, not more with each child


def test_a_fork_that_the_budget_refuses_is_enomem_and_leaves_nothing() -> None:
    m = Machine()
    before = m.budget.used
    m.budget.limit = before + 3000
    assert m.call(m.thread, "fork") == -errno.ENOMEM
    assert m.budget.used == before
    assert len(m.kernel.processes) == 1


def test_memory_beyond_the_limit_is_enomem_and_counted() -> None:
    m = Machine(memory_limit=1 << 20)
    assert m.call(m.thread, "mmap2", 0, 2 << 20, 3, 0x22, -1, 0) == -errno.ENOMEM
    brk = m.call(m.thread, "brk", 0)
    assert brk is not None
    assert m.call(m.thread, "brk", brk + (2 << 20)) == brk
    assert m.kernel.limits_hit["memory"] == 2
    reserved = m.call(m.thread, "mmap2", 0, 2 << 20, 0, 0x22, -1, 0)
    assert reserved not in (None, -errno.ENOMEM)
    assert m.call(m.thread, "mprotect", reserved or 0, 2 << 20, 3) == -errno.ENOMEM
    for _ in range(20):  # together they may be larger
        at = m.call(m.thread, "mmap2", 0, 600 << 10, 3, 0x22, -1, 0)
        assert at is not None
        assert not -4096 < at < 0


def test_memory_counts_when_it_is_touched() -> None:
    m = Machine(memory_limit=1 << 20)
    m.budget.limit = m.budget.used + (1 << 20)
    places = [_address(m.call(m.thread, "mmap2", 0, 600 << 10, 3, 0x22, -1, 0)) for _ in range(20)]
    m.thread.memory.write(places[0], bytes(600 << 10))
    assert m.call(m.thread, "mmap2", 0, 600 << 10, 3, 0x22, -1, 0) == -errno.ENOMEM
    assert m.kernel.limits_hit["memory"] == 1
    assert m.call(m.thread, "munmap", places[0], 600 << 10) == 0
    _address(m.call(m.thread, "mmap2", 0, 600 << 10, 3, 0x22, -1, 0))


def _address(result: int | None) -> int:
    assert result is not None
    assert not -4096 < result < 0
    return result & 0xFFFFFFFF


def test_a_run_without_room_for_its_program_is_refused() -> None:
    with pytest.raises(HostRefusedError):
        Machine(budget=10_000)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_first_process_takes_all_others_along() -> None:
    m = Machine()
    child = m.fork()
    grandchild = m.fork(child)
    m.call(m.thread, "exit_group", 4)
    assert m.kernel.ended
    assert m.process.returncode == 4
    assert m.process.end_reason is EndReason.EXITED
    for t in (child, grandchild):
        assert t.state is RunState.DEAD
        assert t.process.end_reason is EndReason.RUN_ENDED
        assert t.process.exit_status == SIGKILL
    assert not m.kernel.threads
    assert {p.pid for p in m.exited} == {1, child.process.pid, grandchild.process.pid}


def test_terminate_ends_whatever_state_a_thread_is_in() -> None:
    m = Machine()
    parked, stopped = m.fork(), m.fork()
    assert m.call(parked, "pause") is None
    m.kernel.send_signal(stopped.process, SigInfo(SIGSTOP))
    m.kernel.resume(stopped)
    m.kernel.terminate(EndReason.TERMINATED, "why not")
    assert m.kernel.ended
    assert all(p.end_reason is EndReason.TERMINATED and p.detail == "why not" for p in m.exited)
    assert len(m.exited) == 3
    assert m.kernel.next_deadline() is None


def test_orphans_become_children_of_the_first_process() -> None:
    m = Machine()
    child = m.fork()
    grandchild = m.fork(child)
    m.call(child, "exit", 0)
    assert m.call(grandchild, "getppid") == 1
    assert m.call(m.thread, "waitpid", child.process.pid, 0, 0) == child.process.pid
    m.call(grandchild, "exit", 2)
    assert m.call(m.thread, "waitpid", -1, SCRATCH, 0) == grandchild.process.pid
    assert m.call(m.thread, "waitpid", -1, SCRATCH, 0) == -errno.ECHILD


def test_a_stopped_group_that_is_orphaned_gets_sighup_and_sigcont() -> None:
    m = Machine()
    child = m.fork()
    grandchild = m.fork(child)
    assert m.call(child, "setpgid", grandchild.process.pid, 0) == 0
    m.kernel.send_signal(grandchild.process, SigInfo(SIGSTOP))
    m.kernel.resume(grandchild)
    assert grandchild.state is RunState.STOPPED
    # its new parent, the first process, is in another group of the session: not orphaned yet
    m.call(child, "exit", 0)
    assert grandchild.state is RunState.STOPPED
    assert m.call(m.thread, "kill", grandchild.process.pid, 9) == 0
    m.kernel.resume(grandchild)
    other = m.fork()
    member = m.fork(other)
    assert m.call(other, "setsid") == other.process.pid
    assert m.call(member, "setpgid", 0, 0) == 0
    member.process.session = other.process.pid
    m.kernel.send_signal(member.process, SigInfo(SIGSTOP))
    m.kernel.resume(member)
    m.call(other, "exit", 0)
    m.kernel.resume(member)
    assert member.process.exit_status == SIGHUP


def test_a_thread_that_ends_clears_its_word_and_wakes_who_waits() -> None:
    m = Machine()
    thread = start_thread(m, 0x200000 | 0x100000, SCRATCH + 0x400)  # CLONE_CHILD_CLEARTID, CLONE_PARENT_SETTID
    assert m.words(SCRATCH + 0x400, 1) == (thread.tid,)
    assert m.call(m.thread, "futex", SCRATCH + 0x400, 0, thread.tid, 0) is None
    m.call(thread, "exit", 0)
    assert m.words(SCRATCH + 0x400, 1) == (0,)
    assert m.result(m.thread) == 0
    assert m.process.life is Life.ALIVE


def test_a_robust_list_that_goes_in_circles_ends() -> None:
    m = Machine()
    thread = start_thread(m)
    m.put(struct.pack("<III", SCRATCH + 0x600, 8, 0), SCRATCH + 0x500)
    m.put(struct.pack("<III", SCRATCH + 0x600, 0, thread.tid | 0x80000000), SCRATCH + 0x600)
    assert m.call(thread, "set_robust_list", SCRATCH + 0x500, 12) == 0
    m.call(thread, "exit", 0)
    assert m.words(SCRATCH + 0x608, 1) == (0x40000000 - 0x80000000,)


def test_exec_from_a_thread_leaves_that_thread_alone_as_the_main_one() -> None:
    m = Machine()
    put_file(m, b"/hello", HELLO)
    m.put(b"/hello\0", SCRATCH)
    m.put(struct.pack("<II", SCRATCH, 0), SCRATCH + 0x10)
    thread = start_thread(m)
    m.call(thread, "execve", SCRATCH, SCRATCH + 0x10, 0)
    assert m.thread.state is RunState.DEAD
    assert m.process.threads == {1: thread}
    assert thread.tid == 1
    assert thread.name == b"hello"
    assert thread.core.memory is thread.memory is m.process.memory


# --- execve -----------------------------------------------------------------------------------------------------------


def put_file(m: Machine, path: bytes, content: bytes, mode: int = 0o755) -> None:
    vfs = m.kernel.vfs
    file = vfs.open(vfs.administrator(), path, 0o101, mode).hold()
    assert file.write(content) == len(content)
    file.release()


def execute(m: Machine, path: bytes, *argv: bytes) -> int | None:
    at = SCRATCH + 0x1000
    pointers = []
    for text in (path, *argv):
        m.put(text + b"\0", at)
        pointers.append(at)
        at += len(text) + 1
    m.put(struct.pack(f"<{len(argv) + 1}I", *pointers[1:], 0), SCRATCH)
    return m.call(m.thread, "execve", pointers[0], SCRATCH, 0)


def test_scripts_run_their_interpreters_with_the_paths_in_between() -> None:
    m = Machine()
    put_file(m, b"/hello", HELLO)
    put_file(m, b"/one", b"#!/hello -x  y\n")
    put_file(m, b"/two", b"#! /one\n")
    assert execute(m, b"/two", b"zero", b"arg") == 0
    assert m.process.arguments == b"/hello\0-x  y\0/one\0/two\0arg\0"
    assert m.process.exe == b"/hello"
    assert m.thread.name == b"two"


def test_execve_fails_as_linux_does_and_changes_nothing() -> None:
    m = Machine()
    put_file(m, b"/text", b"echo hello\n")
    put_file(m, b"/plain", HELLO, 0o644)
    put_file(m, b"/loop", b"#!/loop\n")
    put_file(m, b"/lost", b"#!/none\n")
    put_file(m, b"/empty", b"#!\n")
    memory = m.thread.memory
    assert execute(m, b"/text") == -errno.ENOEXEC
    assert execute(m, b"/plain") == -errno.EACCES
    assert execute(m, b"/loop") == -errno.ELOOP
    assert execute(m, b"/lost") == -errno.ENOENT
    assert execute(m, b"/empty") == -errno.ENOEXEC
    assert execute(m, b"/") == -errno.EACCES
    assert execute(m, b"/text/x") == -errno.ENOTDIR
    assert m.thread.memory is memory
    assert m.process.arguments == b"prog\0"
    m.put(b"a" * 0x30000, SCRATCH + 0x2000)
    m.put(struct.pack("<II", SCRATCH + 0x2000, 0))
    m.put(b"/text\0", SCRATCH + 0x1000)
    assert m.call(m.thread, "execve", SCRATCH + 0x1000, SCRATCH, 0) == -errno.E2BIG


def test_execve_resets_what_it_should() -> None:
    m = Machine()
    put_file(m, b"/hello", HELLO)
    m.handle(10)
    m.handle(12, handler=1)
    m.thread.mask = 0x1000
    cpu = m.thread.core.cpu
    cpu.instructions = 12345
    cpu.gs, cpu.tls[0].access, cpu.fcw = 0x63, 0x8000, 0
    assert execute(m, b"/hello", b"hello") == 0
    assert m.process.actions[10].handler == 0
    assert m.process.actions[12].handler == 1
    assert m.thread.mask == 0x1000
    assert (cpu.gs, cpu.tls[0].access, cpu.fcw, cpu.instructions) == (0, 0, 0x37F, 12345)
    assert cpu.esp % 16 == 0
    assert m.thread.memory.load(cpu.esp, 4) == 1


# --- spawning ---------------------------------------------------------------------------------------------------------


def test_spawn_says_what_is_wrong() -> None:
    m = Machine()
    vfs, entropy = m.kernel.vfs, FakeEntropy()
    kernel = Kernel(
        vfs=vfs, clock=m.clock, entropy=entropy, budget=m.budget, syscalls=Dispatcher(), make_core=make_core
    )
    with pytest.raises(LoadError):
        kernel.spawn([b"x"], program_bytes=b"not a program")
    with pytest.raises(Errno, match="ENOENT"):
        kernel.spawn([b"/none"])
    with pytest.raises(Errno, match="ENOENT"):
        kernel.spawn([b"x"], program_bytes=HELLO, cwd=b"/none")
    with pytest.raises(Errno, match="E2BIG"):
        kernel.spawn([b"x" * 200_000], program_bytes=HELLO)
    with pytest.raises(ValueError, match="null byte"):
        kernel.spawn([b"x\0y"], program_bytes=HELLO)
    assert not kernel.processes


# --- what a thread waits for ------------------------------------------------------------------------------------------


def test_who_waits_for_what_is_told() -> None:
    m = Machine()
    assert m.call(m.thread, "pipe", SCRATCH) == 0
    reader, _ = m.words(SCRATCH, 2)
    child, sleeper = m.fork(), m.fork()
    assert m.call(child, "read", reader, SCRATCH, 1) is None
    m.put(struct.pack("<ii", 1, 0), t=sleeper)
    assert m.call(sleeper, "nanosleep", SCRATCH, 0) is None
    assert m.call(m.thread, "waitpid", -1, 0, 0) is None
    told = dict(m.kernel.parked())
    assert "read" in told[child]
    assert "child" in told[m.thread]
    assert not child.waits_outside
    assert not m.thread.waits_outside
    assert sleeper.waits_outside


def test_who_shares_a_place_shares_no_ids() -> None:
    """clone(2) with CLONE_FS."""
    m = Machine(uid=1000)
    pid = m.call(m.thread, "clone", CLONE_FS | SIGCHLD, 0, 0, 0, 0)
    assert pid is not None
    child, parent = m.kernel.processes[pid], m.thread.process
    child.fs.uid = 0
    assert (parent.fs.uid, parent.fs.process, child.fs.process) == (1000, parent, child)
    assert m.call(m.thread, "umask", 0o7) is not None
    assert child.fs.umask == 0o7
    assert m.call(m.thread, "unshare", CLONE_FS) == 0
    assert m.call(m.thread, "umask", 0o77) == 0o7
    assert child.fs.umask == 0o7

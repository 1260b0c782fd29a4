"""Long calls go on in steps: the same result as in one go, nobody in between sees or takes what is not settled yet."""

from __future__ import annotations

import errno
import struct

from aiopyvm.abi.signal import SIGCHLD, SIGHUP, SIGKILL, SIGSTOP, SIGUSR1
from aiopyvm.isa.state import FIRST_TLS_ENTRY
from aiopyvm.kernel.procfs import ProcFs
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.machine import HANDLER, SCRATCH, Machine, in_steps, state
from tests.kernel.slicing import elf, make_file

BIG = 0x40000000
ELSEWHERE = 0x80000000
PAGE = 4096
MB = 1 << 20

CLONE_THREAD_FLAGS = 0x00010D00  # THREAD, SIGHAND, VM, FS, FILES: as pthread_create has them, but for tids and TLS
CLONE_SETTLS = 0x00080000
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 2, 0x10, 0x20
READ, WRITE = 1, 2
MREMAP_BOTH = 3  # MAYMOVE | FIXED


def machine() -> Machine:
    return Machine(memory_limit=256 * MB)


def fragment(m: Machine, count: int = 3000) -> int:
    """Map `count` pages, each a mapping of its own, every other one written; their bytes."""
    for n in range(count):
        m.thread.memory.map(BIG + n * PAGE, PAGE, READ | WRITE if n & 1 else READ)
        if n & 1:
            m.thread.memory.store(BIG + n * PAGE, 4, n)
    return count * PAGE


def touch(m: Machine, size: int) -> None:
    m.thread.memory.map(BIG, size, READ | WRITE)
    for n in range(size // PAGE):
        m.thread.memory.store(BIG + n * PAGE, 4, n + 1)


def second_thread(m: Machine) -> Thread:
    tid = m.call(m.thread, "clone", CLONE_THREAD_FLAGS, SCRATCH + 0x8000)
    assert tid is not None
    return m.kernel.threads[tid]


def test_unmapping_thousands_of_mappings_takes_steps_and_gives_all_back() -> None:
    m = machine()
    before, pages = m.budget.used, m.thread.memory.resident_pages
    size = fragment(m)
    assert m.call(m.thread, "munmap", BIG, size) is None
    assert in_steps(m.thread)
    assert m.thread.memory.is_free(BIG, PAGE)
    assert not m.thread.memory.is_free(BIG + size - PAGE, PAGE)
    result, steps = m.finish(m.thread)
    assert (result, steps) == (0, 2)
    assert m.thread.memory.is_free(BIG, size)
    assert (m.budget.used, m.thread.memory.resident_pages) == (before, pages)


def test_a_signal_waits_until_the_steps_are_over() -> None:
    m = machine()
    m.handle(SIGUSR1)
    size = fragment(m)
    assert m.call(m.thread, "munmap", BIG, size) is None
    m.kernel.send_signal(m.process, SIGUSR1)
    assert in_steps(m.thread)
    while in_steps(m.thread):
        m.kernel.expire(m.clock.now)
        m.kernel.resume(m.thread)
    assert m.in_handler(m.thread, HANDLER)
    assert m.thread.memory.is_free(BIG, size)
    assert m.leave_handler(m.thread) == 0


def test_sigkill_comes_between_two_steps() -> None:
    m = machine()
    size = fragment(m)
    child = m.fork()
    used = m.budget.used
    assert m.call(child, "munmap", BIG, size) is None
    m.kernel.send_signal(child.process, SIGKILL)
    m.kernel.resume(child)
    assert state(child) is RunState.DEAD
    assert m.budget.used < used
    assert m.thread.memory.load(BIG + size - PAGE, 4) == size // PAGE - 1


def test_protecting_thousands_of_mappings_stops_at_a_hole_as_on_linux() -> None:
    m = machine()
    size = fragment(m)
    hole = BIG + 2500 * PAGE
    m.thread.memory.unmap(hole, PAGE)
    assert m.call(m.thread, "mprotect", BIG, size, READ | WRITE) is None
    result, steps = m.finish(m.thread)
    assert (result, steps) == (-errno.ENOMEM, 2)
    assert [(x.start, x.end) for x in m.thread.memory.mappings_in(BIG, hole - BIG)] == [(BIG, hole)]
    assert m.thread.memory.load(BIG + 2499 * PAGE, 4) == 2499
    after = m.thread.memory.find_mapping(hole + 2 * PAGE)
    assert after is not None
    assert after.prot == READ


def test_protecting_stops_where_the_memory_limit_does() -> None:
    m = Machine(memory_limit=64 * PAGE)
    m.thread.memory.map(BIG, 200 * PAGE, READ)
    m.thread.memory.map(BIG + 10 * PAGE, PAGE, 0)
    m.thread.memory.unmap(SCRATCH, 0x40000)
    assert m.call(m.thread, "mprotect", BIG, 200 * PAGE, READ | WRITE) == -errno.ENOMEM
    first, third = m.thread.memory.find_mapping(BIG), m.thread.memory.find_mapping(BIG + 11 * PAGE)
    assert first is not None
    assert third is not None
    assert (first.prot, first.end, third.prot) == (READ | WRITE, BIG + 11 * PAGE, READ)


def test_a_place_that_is_mapped_over_in_steps_is_nobody_elses_meanwhile() -> None:
    m = machine()
    size = fragment(m)
    other = second_thread(m)
    flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    assert m.call(m.thread, "mmap2", BIG, size, READ | WRITE, flags, -1, 0) is None
    got = m.call(other, "mmap2", BIG, PAGE, READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    assert got is not None
    assert not BIG <= got & 0xFFFFFFFF < BIG + size
    assert m.finish(m.thread)[0] == BIG
    (only,) = m.thread.memory.mappings_in(BIG, size)
    assert (only.prot, m.thread.memory.load(BIG + PAGE, 4)) == (READ | WRITE, 0)


def test_discarding_takes_steps() -> None:
    m = machine()
    touch(m, 32 * MB)
    pages = m.thread.memory.resident_pages
    assert m.call(m.thread, "madvise", BIG, 32 * MB, 4) is None
    assert m.finish(m.thread)[0] == 0
    assert m.thread.memory.resident_pages == pages - 32 * MB // PAGE
    assert m.thread.memory.load(BIG + 20 * MB, 4) == 0


def test_moving_memory_takes_steps_and_loses_nothing() -> None:
    m = machine()
    touch(m, 16 * MB)
    used, pages = m.budget.used, m.thread.memory.resident_pages
    other = second_thread(m)
    used = m.budget.used
    assert m.call(m.thread, "mremap", BIG, 16 * MB, 17 * MB, MREMAP_BOTH, ELSEWHERE) is None
    got = m.call(other, "mmap2", ELSEWHERE + 16 * MB, PAGE, READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    assert got != ELSEWHERE + 16 * MB
    other.memory.store(ELSEWHERE + 15 * MB, 4, 77)  # nobody's business, and gone with the real content
    result, steps = m.finish(m.thread)
    assert result == ELSEWHERE - (1 << 32)
    assert steps > 3
    assert m.thread.memory.is_free(BIG, 16 * MB)
    assert all(m.thread.memory.load(ELSEWHERE + n * PAGE, 4) == n + 1 for n in range(16 * MB // PAGE))
    assert m.thread.memory.load(ELSEWHERE + 16 * MB, 4) == 0
    m.call(other, "munmap", got or 0, PAGE)
    assert m.thread.memory.resident_pages == pages + 1
    assert m.budget.used == used + PAGE


def test_moving_what_a_fork_still_sees_leaves_it_to_the_fork() -> None:
    m = machine()
    touch(m, 8 * MB)
    child = m.fork()
    for t in (m.thread, child):
        assert m.call(t, "mremap", BIG, 8 * MB, 8 * MB, MREMAP_BOTH, ELSEWHERE) is None
    for t in (child, m.thread):
        assert m.finish(t)[0] == ELSEWHERE - (1 << 32)
        assert all(t.memory.load(ELSEWHERE + n * PAGE, 4) == n + 1 for n in range(8 * MB // PAGE))


def test_a_fork_of_many_pages_takes_steps_and_the_child_has_them_all() -> None:
    m = machine()
    size = fragment(m)
    pid = m.call(m.thread, "fork")
    assert pid is None
    assert list(m.kernel.processes) == [1]
    pid, steps = m.finish(m.thread)
    assert pid == 2
    assert steps == 2
    child = m.kernel.threads[2]
    m.thread.memory.store(BIG + size - PAGE, 4, 0)
    assert all(child.memory.load(BIG + n * PAGE, 4) == n for n in range(1, size // PAGE, 2))


def test_nobody_changes_mappings_while_they_are_being_forked() -> None:
    m = machine()
    size = fragment(m)
    other = second_thread(m)
    assert m.call(m.thread, "fork") is None
    assert m.call(other, "munmap", BIG, size) is None
    m.kernel.expire(m.clock.now)
    m.kernel.resume(other)
    assert in_steps(other)
    assert not m.thread.memory.is_free(BIG, PAGE)
    pid, _ = m.finish(m.thread)
    assert pid is not None
    assert m.finish(other)[0] == 0
    assert m.kernel.threads[pid].memory.load(BIG + size - PAGE, 4) == size // PAGE - 1


def test_two_forks_of_one_memory_come_one_after_the_other() -> None:
    m = machine()
    size = fragment(m)
    one, other = second_thread(m), second_thread(m)
    assert m.call(m.thread, "fork") is None
    assert m.call(one, "fork") is None
    assert m.call(other, "munmap", BIG, size) is None
    for t in (one, one, one, other):
        m.kernel.expire(m.clock.now)
        m.kernel.resume(t)
        assert in_steps(t)
    pids = [m.finish(t)[0] for t in (m.thread, one)]
    for pid in pids:
        assert pid is not None
        assert m.kernel.threads[pid].memory.load(BIG + size - PAGE, 4) == size // PAGE - 1
    assert m.finish(other)[0] == 0


def test_the_descriptor_of_a_clone_is_read_once() -> None:
    m = machine()
    fragment(m)
    m.put(struct.pack("<4I", FIRST_TLS_ENTRY, 0x1000, 0xFFFFF, 0x51))
    assert m.call(m.thread, "clone", CLONE_SETTLS | SIGCHLD, 0, 0, SCRATCH) is None
    m.put(bytes(16))  # no entry of the table
    pid, _ = m.finish(m.thread)
    assert pid is not None
    assert pid > 0
    assert m.kernel.threads[pid].core.cpu.tls[0].base == 0x1000
    assert m.call(m.thread, "munmap", SCRATCH, PAGE) == 0


def test_what_a_stack_grows_by_while_it_is_forked_is_not_the_childs() -> None:
    m = machine()
    fragment(m)
    top = 0xB0000000
    m.thread.memory.map(top, PAGE, READ | WRITE, grows_down=True)
    m.thread.memory.store(top, 4, 1)
    assert m.call(m.thread, "fork") is None
    m.thread.memory.store(top - PAGE, 4, 2)
    pid, _ = m.finish(m.thread)
    assert pid is not None
    child = m.kernel.threads[pid].memory
    assert child.load(top, 4) == 1
    child.map(top - 2 * PAGE, 2 * PAGE, READ | WRITE)
    assert child.load(top - PAGE, 4) == 0


def test_a_fork_that_is_killed_half_way_leaves_nothing() -> None:
    m = machine()
    fragment(m)
    child = m.fork()
    used = m.budget.used
    assert m.call(child, "fork") is None
    assert m.budget.used > used
    m.kernel.send_signal(child.process, SIGKILL)
    m.kernel.resume(child)
    assert m.call(m.thread, "wait4", -1, 0, 0, 0) == child.process.pid
    assert len(m.kernel.processes) == 1
    assert m.budget.used < used


def test_arguments_are_read_in_steps() -> None:
    m = machine()
    count = 20_000
    m.thread.memory.map(BIG, MB, READ | WRITE)
    m.put(b"".join(b"%06d\0" % n for n in range(count)), BIG)
    m.put(struct.pack(f"<{count + 1}I", *range(BIG, BIG + 7 * count, 7), 0), BIG + MB // 2)
    path = m.put(b"/nowhere\0")
    assert m.call(m.thread, "execve", path, BIG + MB // 2, 0) is None
    result, steps = m.finish(m.thread)
    assert result == -errno.ENOENT
    assert steps >= 3


def test_a_program_of_many_segments_is_mapped_in_steps_and_the_old_one_stays_until_then() -> None:
    m = machine()
    before = m.thread.memory
    data = elf([(0x8048000 + n * 2 * PAGE, PAGE, 5) for n in range(600)])
    fd = make_file(m, b"/prog", data.ljust(0x10000, b"\0"))
    assert m.call(m.thread, "close", fd) == 0
    assert m.call(m.thread, "execve", m.put(b"/prog\0"), 0, 0) is None
    assert m.thread.memory is before
    _, steps = m.finish(m.thread)
    assert steps == 2
    assert m.thread.memory is not before
    assert len(m.thread.memory.mappings_in(0x8048000, 1200 * PAGE)) == 600
    assert m.thread.core.cpu.eip == 0x8048000


def test_an_execve_that_is_killed_half_way_leaves_nothing() -> None:
    m = machine()
    data = elf([(0x8048000 + n * 2 * PAGE, PAGE, 5) for n in range(600)])
    fd = make_file(m, b"/prog", data.ljust(0x10000, b"\0"))
    assert m.call(m.thread, "close", fd) == 0
    path, used = m.put(b"/prog\0"), m.budget.used
    child = m.fork()
    assert m.call(child, "execve", path, 0, 0) is None
    m.kernel.send_signal(child.process, SIGKILL)
    m.kernel.resume(child)
    assert m.call(m.thread, "wait4", -1, 0, 0, 0) == child.process.pid
    assert m.budget.used == used + 0x10000  # the file's content in one piece, kept for the next time


def test_the_maps_of_a_process_come_a_few_lines_at_a_time() -> None:
    m = machine()
    m.kernel.vfs.mount(b"/proc", ProcFs(m.kernel.vfs))
    fragment(m, 500)
    fd = m.call(m.thread, "open", m.put(b"/proc/self/maps\0"), 0)
    assert fd is not None
    text = b""
    while n := m.call(m.thread, "read", fd, SCRATCH, 0x10000):
        assert 0 < n < 8192
        text += m.thread.memory.read(SCRATCH, n)
    starts = [int(line.split(b"-")[0], 16) for line in text.splitlines()]
    assert starts == [mapping.start for mapping in m.thread.memory.mappings()]


def test_the_end_of_long_maps_is_found_in_steps() -> None:
    m = machine()
    m.kernel.vfs.mount(b"/proc", ProcFs(m.kernel.vfs))
    fragment(m)
    fd = m.call(m.thread, "open", m.put(b"/proc/self/maps\0"), 0)
    assert fd is not None
    assert m.call(m.thread, "pread64", fd, SCRATCH, 0x10000, BIG, 0) is None
    result, steps = m.finish(m.thread)
    assert result == 0
    assert steps >= 2
    assert m.call(m.thread, "pread64", fd, SCRATCH, 0x5000, 100_000, 0) == 0x5000
    assert m.thread.memory.read(SCRATCH, 0x5000).count(b" r--p ") > 200


def test_children_of_a_process_that_ends_are_hung_up_once() -> None:
    m = machine()
    parent = m.fork()
    assert m.call(parent, "setsid") == parent.tid
    children = [m.fork(parent) for _ in range(3)]
    for child in children:
        assert m.call(child, "setpgid", 0, children[0].tid) == 0
        m.handle(SIGHUP, t=child)
        m.kernel.send_signal(child.process, SIGSTOP)
        m.kernel.resume(child)
    assert m.call(parent, "exit_group", 0) is None
    for child in children:
        m.kernel.resume(child)
        assert m.in_handler(child)
        assert not child.process.pending.bits

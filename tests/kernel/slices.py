"""How long one system call can hold up everybody else: the longest slice of calls that a guest makes as long as it can.

    python -m tests.kernel.slices [NAME...]

Each case prepares a kernel, then makes one call; the table shows how many slices it took (a call that is split goes on
after others had their turn), the longest one and all together, in milliseconds of processor time.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiopyvm.abi.fcntl import O_CREAT, O_RDWR
from aiopyvm.abi.resource import RLIMIT_NOFILE
from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.kernel.devices import DeviceFs
from aiopyvm.kernel.fs import Directory
from aiopyvm.kernel.memfs import MemFile
from aiopyvm.kernel.procfs import ProcFs
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.loader.elf import parse_elf
from tests.kernel.machine import CODE, NUMBERS, SCRATCH, Machine, in_steps

BIG = 0x40000000  # where cases map memory
MB = 1 << 20
PAGE = 4096

Case = Callable[[], Iterator["Slices"]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Enter a case: a generator of the calls whose slices count."""
    CASES[function.__name__] = function
    return function


class Slices:
    """One call, slice by slice: `costs` are their seconds of processor time, `result` its EAX, signed."""

    def __init__(self, m: Machine, name: str, *args: int, t: Thread | None = None) -> None:
        self.costs: list[float] = []
        self.m = m
        t = t or m.thread
        cpu = t.core.cpu
        cpu.eax = NUMBERS[name]
        cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp = [a & 0xFFFFFFFF for a in args] + [0] * (6 - len(args))
        cpu.eip = CODE + 2
        with self._slice():
            m.kernel.trap(t, Exit(ExitReason.SYSCALL))
        while in_steps(t):
            with self._slice():
                m.kernel.expire(m.clock.now)
                m.kernel.resume(t)
        eax: int = cpu.eax
        self.result = (eax ^ 0x80000000) - 0x80000000 if t.state is RunState.RUNNABLE else None

    @contextmanager
    def _slice(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.costs.append(time.process_time() - began)


def machine(**options: int) -> Machine:
    """A kernel with room, /proc and /dev, root's."""
    m = Machine(**{"memory_limit": 512 * MB, "budget": 1 << 30, "process_limit": 1024, "uid": 0, **options})  # type: ignore[arg-type]
    vfs = m.kernel.vfs
    for name, fs in ((b"/dev", DeviceFs(vfs.clock, vfs.budget)), (b"/proc", ProcFs(vfs))):
        vfs.mount(name, fs)
    return m


def touch(m: Machine, size: int, at: int = BIG) -> None:
    """Map `size` bytes and touch every page."""
    m.thread.memory.map(at, size, 3)
    for page in range(at, at + size, MB):
        m.thread.memory.write(page, b"x" * MB)


def fragment(m: Machine, count: int, *, touched: bool = False) -> int:
    """Make `count` mappings of a page each, alternately readable and writable; the bytes that they take."""
    for n in range(count):
        m.thread.memory.map(BIG + n * PAGE, PAGE, 3 if n & 1 else 1)
        if touched and n & 1:
            m.thread.memory.store(BIG + n * PAGE, 4, n)
    return count * PAGE


def make_file(m: Machine, path: bytes, content: bytes) -> int:
    """Make a file with `content`; a descriptor."""
    fd = m.call(m.thread, "open", m.put(path + b"\0"), O_CREAT | O_RDWR, 0o777)
    assert fd is not None
    inode = m.process.fds.get(fd).inode
    assert isinstance(inode, MemFile)
    for at in range(0, len(content), MB):
        inode.write_at(at, content[at : at + MB])
    return fd


def fill_directory(m: Machine, path: bytes, count: int) -> int:
    """Make a directory with `count` files; a descriptor."""
    assert m.call(m.thread, "mkdir", m.put(path + b"\0"), 0o777) == 0
    fd = m.call(m.thread, "open", m.put(path + b"\0"), 0)
    assert fd is not None
    directory = m.process.fds.get(fd).inode
    assert isinstance(directory, Directory)
    for n in range(count):
        directory.make(b"file%06d" % n, 0o100644, 0, 0)
    return fd


# --- programs and processes -------------------------------------------------------------------------------------------


def strings(m: Machine, count: int) -> int:
    """An argument vector of `count` different strings; its address."""
    m.thread.memory.map(BIG, 4 * MB, 3)
    texts = b"".join(b"%07d\0" % n for n in range(count))
    m.put(texts, BIG)
    m.put(b"".join(struct.pack("<I", BIG + 8 * n) for n in range(count)) + bytes(4), BIG + MB)
    return BIG + MB


@case
def execve_strings() -> Iterator[Slices]:
    m = machine()
    make_file(m, b"/prog", elf([(0x8048000, PAGE, 5)]))
    vector = strings(m, 65_000)
    yield Slices(m, "execve", m.put(b"/prog\0"), vector, 0)


@case
def execve_long_strings() -> Iterator[Slices]:
    m = machine()
    make_file(m, b"/prog", elf([(0x8048000, PAGE, 5)]))
    m.thread.memory.map(BIG, 4 * MB, 3)
    m.put(b"x" * (131_000) + b"\0", BIG)
    m.put(struct.pack("<I", BIG) * 15 + bytes(4), BIG + MB)
    yield Slices(m, "execve", m.put(b"/prog\0"), BIG + MB, 0)


def elf(segments: list[tuple[int, int, int]], size: int = 0) -> bytes:
    """A static program whose PT_LOADs (address, bytes in memory, PF_*) all show its first page."""
    count = len(segments)
    entry = segments[0][0]
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, entry, 52, 0, 0, 52, 32, count, 0, 0, 0)
    rows = b"".join(struct.pack("<8I", 1, 0, at, at, PAGE, n, flags, PAGE) for at, n, flags in segments)
    return (header + rows).ljust(max(PAGE, size), b"\0")


@case
def execve_segments() -> Iterator[Slices]:
    m = machine()
    make_file(m, b"/prog", elf([(0x8048000 + n * 0x20000, PAGE, 5) for n in range(2000)], MB))
    yield Slices(m, "execve", m.put(b"/prog\0"), 0, 0)


@case
def execve_segments_near() -> Iterator[Slices]:
    m = machine()
    make_file(m, b"/prog", elf([(0x8048000 + n * 0x2000, PAGE, 5) for n in range(2000)], MB))
    yield Slices(m, "execve", m.put(b"/prog\0"), 0, 0)


@case
def execve_large() -> Iterator[Slices]:
    m = machine()
    make_file(m, b"/prog", elf([(0x8048000, PAGE, 5)], 60 * MB))
    yield Slices(m, "execve", m.put(b"/prog\0"), 0, 0)


@case
def execve_large_segment() -> Iterator[Slices]:
    m = machine()
    size = 60 * MB
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, 0x8048000, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    row = struct.pack("<8I", 1, 0, 0x8048000, 0x8048000, size, size, 7, PAGE)
    make_file(m, b"/prog", (header + row).ljust(size, b"\1"))
    yield Slices(m, "execve", m.put(b"/prog\0"), 0, 0)


@case
def execve_from_large() -> Iterator[Slices]:
    m = machine()
    make_file(m, b"/prog", elf([(0x8048000, PAGE, 5)]))
    touch(m, 200 * MB)
    yield Slices(m, "execve", m.put(b"/prog\0"), 0, 0)


@case
def fork_fragmented() -> Iterator[Slices]:
    m = machine()
    fragment(m, 65_000, touched=True)
    yield Slices(m, "fork")


@case
def fork_large() -> Iterator[Slices]:
    m = machine()
    touch(m, 200 * MB)
    yield Slices(m, "fork")


@case
def fork_again() -> Iterator[Slices]:
    m = machine()
    touch(m, 200 * MB)
    m.fork()
    yield Slices(m, "fork")
    m.thread.memory.store(BIG, 4, 1)
    child = m.kernel.threads[2]
    yield Slices(m, "fork", t=child)


@case
def exit_fragmented() -> Iterator[Slices]:
    m = machine()
    fragment(m, 65_000, touched=True)
    yield Slices(m, "exit_group", 0)


@case
def exit_large() -> Iterator[Slices]:
    m = machine()
    touch(m, 200 * MB)
    yield Slices(m, "exit_group", 0)


@case
def exit_parent_of_large() -> Iterator[Slices]:
    m = machine()
    parent = m.fork()
    m.thread.memory.map(BIG, PAGE, 3)
    parent.memory.map(BIG, 100 * MB, 3)
    for page in range(BIG, BIG + 100 * MB, MB):
        parent.memory.write(page, b"x" * MB)
    child = m.fork(parent)
    yield Slices(m, "exit_group", 0, t=parent)
    yield Slices(m, "exit_group", 0, t=child)


@case
def exit_with_children() -> Iterator[Slices]:
    m = machine()
    parent = m.fork()
    for _ in range(1000):
        m.fork(parent)
    yield Slices(m, "exit_group", 0, t=parent)
    yield Slices(m, "exit_group", 0)


@case
def processes_1000() -> Iterator[Slices]:
    m = machine()
    for _ in range(1000):
        m.fork()
    yield Slices(m, "fork")
    yield Slices(m, "wait4", -1, 0, 1, 0)
    yield Slices(m, "kill", -1, 0)
    yield Slices(m, "kill", 0, 18)
    yield Slices(m, "kill", -1, 15)
    yield Slices(m, "wait4", -1, 0, 1, 0)


@case
def setgroups() -> Iterator[Slices]:
    m = machine()
    m.thread.memory.map(BIG, MB, 3)
    m.put(b"".join(struct.pack("<I", 65536 - n) for n in range(65536)), BIG)
    yield Slices(m, "setgroups32", 65536, BIG)
    yield Slices(m, "getgroups32", 65536, BIG)
    yield Slices(m, "setgroups", 65536, BIG)


# --- memory -----------------------------------------------------------------------------------------------------------


@case
def mremap_touched() -> Iterator[Slices]:
    m = machine()
    touch(m, 64 * MB)
    yield Slices(m, "mremap", BIG, 64 * MB, 64 * MB, 3, 0x80000000)


@case
def mremap_inherited() -> Iterator[Slices]:
    m = machine()
    touch(m, 64 * MB)
    child = m.fork()
    yield Slices(m, "mremap", BIG, 64 * MB, 64 * MB, 3, 0x80000000, t=child)
    yield Slices(m, "mremap", BIG, 64 * MB, 64 * MB, 3, 0x80000000)


@case
def mremap_untouched() -> Iterator[Slices]:
    m = machine()
    m.thread.memory.map(BIG, 256 * MB, 3)
    yield Slices(m, "mremap", BIG, 256 * MB, 256 * MB, 3, 0x80000000)


@case
def munmap_fragmented() -> Iterator[Slices]:
    m = machine()
    size = fragment(m, 65_000, touched=True)
    yield Slices(m, "munmap", BIG, size)


@case
def munmap_large() -> Iterator[Slices]:
    m = machine()
    touch(m, 256 * MB)
    yield Slices(m, "munmap", BIG, 256 * MB)


@case
def munmap_lent() -> Iterator[Slices]:
    m = machine()
    touch(m, 128 * MB)
    m.fork()
    yield Slices(m, "munmap", BIG, 128 * MB)


@case
def mmap_over_fragmented() -> Iterator[Slices]:
    m = machine()
    size = fragment(m, 65_000, touched=True)
    yield Slices(m, "mmap2", BIG, size, 3, 0x32, -1, 0)


@case
def mmap_among_fragmented() -> Iterator[Slices]:
    m = machine()
    fragment(m, 65_000)
    yield Slices(m, "mmap2", 0, PAGE, 3, 0x22, -1, 0)
    yield Slices(m, "mmap2", 0, 200 * MB, 1, 0x22, -1, 0)
    yield Slices(m, "brk", 0)
    yield Slices(m, "munmap", BIG + 100 * PAGE, PAGE)


@case
def mmap_at_limit() -> Iterator[Slices]:
    m = machine(memory_limit=64 * MB)
    fragment(m, 65_000)
    m.process.mm.committed = 64 * MB
    yield Slices(m, "mmap2", 0, PAGE, 3, 0x22, -1, 0)


@case
def mprotect_fragmented() -> Iterator[Slices]:
    m = machine()
    size = fragment(m, 65_000, touched=True)
    yield Slices(m, "mprotect", BIG, size, 3)
    size = fragment(m, 65_000, touched=True)
    yield Slices(m, "mprotect", BIG, size, 0)


@case
def mprotect_large() -> Iterator[Slices]:
    m = machine()
    touch(m, 256 * MB)
    yield Slices(m, "mprotect", BIG, 256 * MB, 1)


@case
def madvise_fragmented() -> Iterator[Slices]:
    m = machine()
    size = fragment(m, 65_000, touched=True)
    yield Slices(m, "madvise", BIG, size, 4)
    yield Slices(m, "madvise", BIG, size, 8)


@case
def madvise_large() -> Iterator[Slices]:
    m = machine()
    touch(m, 256 * MB)
    yield Slices(m, "madvise", BIG, 256 * MB, 4)


@case
def look_at_fragmented() -> Iterator[Slices]:
    m = machine()
    size = fragment(m, 65_000)
    m.thread.memory.map(0x80000000, MB, 3)
    calls = {"msync": (BIG, size, 4), "mlock": (BIG, size), "mlockall": (1,), "mincore": (BIG, size, 0x80000000)}
    for name, args in calls.items():
        yield Slices(m, name, *args)


@case
def mincore_large() -> Iterator[Slices]:
    m = machine()
    m.thread.memory.map(BIG, 1 << 30, 3)
    m.thread.memory.map(0x90000000, MB, 3)
    yield Slices(m, "mincore", BIG, 1 << 30, 0x90000000)


@case
def brk_large() -> Iterator[Slices]:
    m = machine()
    brk = m.process.mm.brk
    assert m.call(m.thread, "brk", brk + 100 * MB) == brk + 100 * MB
    for page in range(brk, brk + 100 * MB, MB):
        m.thread.memory.write(page, b"x" * MB)
    yield Slices(m, "brk", brk)


@case
def mmap_shared() -> Iterator[Slices]:
    m = machine()
    yield Slices(m, "mmap2", BIG, 400 * MB, 3, 0x31, -1, 0)
    for page in range(BIG, BIG + 100 * MB, MB):
        m.thread.memory.write(page, b"x" * MB)
    yield Slices(m, "fork")
    yield Slices(m, "munmap", BIG, 400 * MB)


# --- files ------------------------------------------------------------------------------------------------------------


@case
def read_file() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"x" * (64 * MB))
    m.thread.memory.map(BIG, 64 * MB, 3)
    yield Slices(m, "pread64", fd, BIG, 64 * MB, 0, 0)


@case
def write_file() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"")
    touch(m, 64 * MB)
    yield Slices(m, "write", fd, BIG, 64 * MB)
    yield Slices(m, "write", m.call(m.thread, "open", m.put(b"/dev/null\0"), 1) or 0, BIG, 64 * MB)


@case
def write_small_vectors() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"")
    m.thread.memory.map(BIG, 4 * MB, 3)
    for length in (1, 3000, 65537):
        m.put(b"".join(struct.pack("<II", BIG + n, length) for n in range(1024)), BIG + 2 * MB)
        yield Slices(m, "pwritev", fd, BIG + 2 * MB, 1024, 0, 0)
        yield Slices(m, "preadv", fd, BIG + 2 * MB, 1024, 0, 0)
    yield Slices(m, "pread64", m.call(m.thread, "open", m.put(b"/dev/zero\0"), 0) or 0, BIG, 2 * MB, 0, 0)


@case
def send_and_copy() -> Iterator[Slices]:
    m = machine()
    one, two = make_file(m, b"/f", b"x" * (64 * MB)), make_file(m, b"/g", b"")
    yield Slices(m, "copy_file_range", one, 0, two, 0, 64 * MB, 0)
    yield Slices(m, "ftruncate", two, 0)
    m.call(m.thread, "lseek", one, 0, 0)
    m.call(m.thread, "lseek", two, 0, 0)
    yield Slices(m, "sendfile", two, one, 0, 64 * MB)


@case
def truncate_file() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"x" * (256 * MB))
    yield Slices(m, "fallocate", fd, 3, 0, 0, 128 * MB, 0)
    yield Slices(m, "lseek", fd, 0, 3)
    yield Slices(m, "lseek", fd, 128 * MB, 4)
    yield Slices(m, "ftruncate", fd, 0)
    yield Slices(m, "ftruncate", fd, 0x7FFFFFFF)


@case
def punch_base() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"")
    inode = m.process.fds.get(fd).inode
    assert isinstance(inode, MemFile)
    inode.show(bytes(64 * MB))
    yield Slices(m, "fallocate", fd, 3, 0, 0, 64 * MB, 0)


@case
def unlink_file() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"x" * (256 * MB))
    m.call(m.thread, "close", fd)
    yield Slices(m, "unlink", m.put(b"/f\0"))


@case
def getdents_many() -> Iterator[Slices]:
    m = machine()
    fd = fill_directory(m, b"/d", 100_000)
    m.thread.memory.map(BIG, 8 * MB, 3)
    yield Slices(m, "getdents64", fd, BIG, 8 * MB)
    yield Slices(m, "getdents64", fd, BIG, 8 * MB)


@case
def getdents_after_removal() -> Iterator[Slices]:
    m = machine()
    fd = fill_directory(m, b"/d", 100_000)
    directory = m.process.fds.get(fd).inode
    assert isinstance(directory, Directory)
    for n in range(50_001):
        name = b"file%06d" % n
        directory.unlink(name, directory.lookup(name, m.process.fs))
    yield Slices(m, "unlink", m.put(b"/d/file050001\0"))
    yield Slices(m, "getdents64", fd, SCRATCH, 1000)


@case
def walk_links() -> Iterator[Slices]:
    m = machine()
    dots = b"./" * 2040
    for n in range(40):
        target = dots + (b"l%d" % (n + 1) if n < 39 else b".")
        assert m.call(m.thread, "symlink", m.put(target + b"\0"), m.put(b"/l%d\0" % n, SCRATCH + 0x2000)) == 0
    yield Slices(m, "stat64", m.put(b"/l0/" + b"./" * 2000 + b"\0"), SCRATCH + 0x3000)


@case
def deep_directories() -> Iterator[Slices]:
    m = machine()
    for _ in range(50_000):
        assert m.call(m.thread, "mkdir", m.put(b"d\0"), 0o777) == 0
        assert m.call(m.thread, "chdir", m.put(b"d\0")) == 0
    yield Slices(m, "getcwd", SCRATCH, PAGE)
    m.call(m.thread, "mkdir", m.put(b"e\0"), 0o777)
    yield Slices(m, "rename", m.put(b"e\0"), m.put(b"/x\0", SCRATCH + 100))
    yield Slices(m, "open", m.put(b"f\0"), O_CREAT | O_RDWR, 0o777)
    yield Slices(m, "mmap2", 0, PAGE, 1, 2, 3, 0)
    yield Slices(m, "open", m.put(b"/proc/self/cwd\0"), 0)
    yield Slices(m, "readlink", m.put(b"/proc/self/cwd\0"), SCRATCH, PAGE)


@case
def deep_tree_freed() -> Iterator[Slices]:
    deep = deep_directories()
    m = next(deep).m
    yield Slices(m, "chdir", m.put(b"/\0"))
    yield Slices(m, "rename", m.put(b"/d\0"), m.put(b"/x\0", SCRATCH + 100))


@case
def proc_texts() -> Iterator[Slices]:
    m = machine()
    fragment(m, 65_000)
    for name in (b"/proc/self/maps", b"/proc/self/status", b"/proc/meminfo", b"/proc/self/stat"):
        fd = m.call(m.thread, "open", m.put(name + b"\0"), 0)
        assert fd is not None
        yield Slices(m, "read", fd, SCRATCH, 0x10000)
        yield Slices(m, "read", fd, SCRATCH, 0x10000)
        yield Slices(m, "pread64", fd, SCRATCH, 0x10000, 0x40000000, 0)


@case
def proc_listing() -> Iterator[Slices]:
    m = machine()
    for _ in range(1000):
        m.fork()
    fd = m.call(m.thread, "open", m.put(b"/proc\0"), 0)
    assert fd is not None
    yield Slices(m, "getdents64", fd, SCRATCH, 0x20000)
    yield Slices(m, "getdents64", fd, SCRATCH, 0x20000)


@case
def random_bytes() -> Iterator[Slices]:
    m = machine()
    m.thread.memory.map(BIG, 64 * MB, 3)
    yield Slices(m, "getrandom", BIG, 32 * MB, 0)


# --- many descriptors -------------------------------------------------------------------------------------------------


def descriptors(m: Machine, count: int) -> None:
    """Open the two ends of pipes until there are `count` descriptors."""
    m.process.fds.limit = 1024
    m.process.limits[RLIMIT_NOFILE] = (1024, 1024)
    while (m.call(m.thread, "pipe", SCRATCH) == 0) and m.words(SCRATCH, 2)[1] < count - 2:
        pass


@case
def poll_many() -> Iterator[Slices]:
    m = machine()
    descriptors(m, 1024)
    m.put(b"".join(struct.pack("<ihh", fd, 1, 0) for fd in range(1024)), SCRATCH)
    yield Slices(m, "poll", SCRATCH, 1024, 0)
    m.put(b"\xff" * 128, SCRATCH)
    m.put(b"\xff" * 128, SCRATCH + 128)
    m.put(b"\xff" * 128, SCRATCH + 256)
    m.put(bytes(8), SCRATCH + 512)
    yield Slices(m, "_newselect", 1024, SCRATCH, SCRATCH + 128, SCRATCH + 256, SCRATCH + 512)


@case
def close_many() -> Iterator[Slices]:
    m = machine()
    descriptors(m, 1024)
    yield Slices(m, "fork")
    yield Slices(m, "close_range", 0, -1, 0)


@case
def locks() -> Iterator[Slices]:
    m = machine()
    fd = make_file(m, b"/f", b"")
    for n in range(20_000):
        at = m.put(struct.pack("<hhiii", 1, 0, 10 * n, 5, 0))
        if m.call(m.thread, "fcntl", fd, 6, at) != 0:
            break
    yield Slices(m, "fcntl", fd, 6, m.put(struct.pack("<hhiii", 1, 0, 100_003, 5, 0)))
    yield Slices(m, "fcntl", fd, 5, m.put(struct.pack("<hhiii", 1, 0, 100_003, 5, 0)))
    yield Slices(m, "fcntl", fd, 6, m.put(struct.pack("<hhiii", 2, 0, 0, 0, 0)))


def main(names: list[str]) -> None:
    """Print the table."""
    parse_elf(elf([(0x8048000, PAGE, 5)]))  # imports what it needs
    for name, run in CASES.items():
        if names and name not in names:
            continue
        calls = run()
        for n, slices in enumerate(calls):
            worst, total = max(slices.costs) * 1e3, sum(slices.costs) * 1e3
            mark = " <---" if worst > 10 else ""
            title = "" if n else name
            print(f"{title:26}{slices.result!s:>12}{len(slices.costs):6}{worst:9.2f}{total:9.1f}{mark}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Cases of `slices.py`: files, directories and descriptors."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from aiopyvm.abi.fcntl import O_CREAT, O_RDWR
from aiopyvm.abi.resource import RLIMIT_NOFILE
from aiopyvm.kernel.fs import Directory
from aiopyvm.kernel.memfs import MemFile
from tests.kernel.machine import SCRATCH, Machine
from tests.kernel.slicing import BIG, MB, PAGE, Slices, case, fill_directory, fragment, machine, make_file, touch


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

"""Cases of `slices.py`: mappings."""

from __future__ import annotations

from collections.abc import Iterator

from tests.kernel.slicing import BIG, MB, PAGE, Slices, case, fragment, machine, touch


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

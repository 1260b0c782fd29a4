"""Cases of `slices.py`: programs and processes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.kernel.machine import Machine
from tests.kernel.slicing import BIG, MB, PAGE, Slices, case, elf, fragment, machine, make_file, touch


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

"""Memory that several mappings show: shared by forks and aliases, and files."""

from __future__ import annotations

import pytest

from aiopyvm.mem.backing import Backing, SharedBacking
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.space import AddressSpace
from tests.mem.model import PAGE
from tests.mem.test_space import RW, fault_of


@pytest.fixture
def space() -> AddressSpace:
    return AddressSpace()


def test_shared_memory_is_seen_by_forks_and_aliases(space: AddressSpace) -> None:
    space.map(0x10000, 2 * PAGE, RW, shared=True)
    child = space.fork(space.budget)
    child.write(0x10FFE, b"abcd")
    assert space.read(0x10FFE, 4) == b"abcd"
    space.unmap(0x10000, PAGE)
    space.store(0x11000, 1, 120)
    assert child.read(0x10FFE, 4) == b"abxd"


def test_shared_memory_is_charged_once_and_given_back() -> None:
    budget = Unlimited()
    space = AddressSpace(budget)
    space.map(0x10000, 2 * PAGE, RW, shared=True)
    child = space.fork(budget)
    before = budget.used
    space.store(0x10000, 1, 1)
    child.store(0x10000, 1, 1)
    assert budget.used == before + PAGE
    space.close()
    assert child.load(0x10000, 1) == 1
    child.close()
    assert budget.used == 0


def test_many_shared_mappings_do_not_use_up_the_hosts() -> None:
    space = AddressSpace()
    backing = SharedBacking(PAGE)
    for n in range(100):
        space.map(0x10000 + 2 * n * PAGE, PAGE, RW, backing, shared=True)
    for n in range(100):
        space.store(0x10000 + 2 * n * PAGE + n, 1, n + 1)
    assert space.read(0x10000 + 2 * 99 * PAGE, 100) == bytes(range(1, 101))
    assert len(space._attachments) <= 8


def test_shared_memory_is_fast_at_one_address_and_at_the_next_when_that_is_gone(space: AddressSpace) -> None:
    backing = SharedBacking(2 * PAGE)
    for start in (0x10000, 0x20000):
        space.map(start, 2 * PAGE, RW, backing, shared=True)
        space.store(start, 4, start)
    assert space.load(0x10000, 4) == 0x20000
    assert {0x10000, 0x20000} & space.writable == {0x10000}
    space.unmap(0x10000, 2 * PAGE)
    space.store(0x20004, 4, 1)
    assert space.read(0x20000, 8) == b"\0\0\2\0\1\0\0\0"
    assert {0x10000, 0x20000} & space.writable == {0x20000}


class FileContent(Backing):
    """What a kernel file may look like to a mapping."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.broken = False

    def size(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, length: int) -> bytes:
        if self.broken:
            raise OSError(5, "I/O error")
        return bytes(self.content[offset : offset + length])

    def write_at(self, offset: int, data: bytes) -> None:
        if self.broken:
            raise OSError(5, "I/O error")
        assert offset + len(data) <= len(self.content)
        self.content[offset : offset + len(data)] = data


def test_a_shared_file_mapping_reads_and_writes_the_file(space: AddressSpace) -> None:
    file = FileContent(b"x" * 5000)
    space.map(0x10000, 3 * PAGE, RW, file, shared=True)
    space.write(0x10FFF, b"abc")
    assert file.content[4095:4098] == b"abc"
    file.content[0] = 65
    assert space.load(0x10000, 4) == 0x78787841
    assert space.read_cstr(0x11380) == b"x" * 8
    space.store(0x11400, 4, 1)
    assert len(file.content) == 5000
    assert fault_of(space.load, 0x12000, 1).bus
    file.content.clear()
    assert fault_of(space.load, 0x10000, 1).bus


def test_a_broken_file_is_a_bus_fault(space: AddressSpace) -> None:
    file = FileContent(b"x" * 5000)
    space.map(0x10000, PAGE, RW, file)
    space.map(0x20000, PAGE, RW, file, shared=True)
    file.broken = True
    assert fault_of(space.load, 0x10000, 1).bus
    assert fault_of(space.store, 0x20000, 1, 1).bus

"""Tracking of translated code: who is told of which change, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiopyvm.mem.backing import SharedBacking
from aiopyvm.mem.space import AddressSpace
from tests.mem.model import PAGE
from tests.mem.test_space import RW, RWX, RX

CODE = 0x1000


class Listener:
    """Keeps what it is told, and what the memory held then."""

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self.told: list[tuple[int, int]] = []
        self.seen: list[bytes] = []
        space.code_listeners.append(self)

    def __call__(self, address: int, length: int) -> None:
        self.told.append((address, length))
        self.seen.append(self.space.peek(address, 1) if self.space.is_mapped(address, 1) else b"")


@pytest.fixture
def space() -> AddressSpace:
    space = AddressSpace()
    space.map(CODE, 4 * PAGE, RWX)
    space.write(CODE, bytes(4 * PAGE))
    return space


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.store(CODE + 0x80, 4, 0x55), (CODE + 0x80, 4)),
        (lambda s: s.store(CODE + 0x7D, 4, 0x55555555), (CODE + 0x7D, 4)),
        (lambda s: s.write(CODE, b"\x55" * 200), (CODE, 200)),
        (lambda s: s.poke(CODE + 0x81, b"\x55"), (CODE + 0x81, 1)),
    ],
)
def test_a_change_of_tracked_bytes_is_told_after_it_happened(
    space: AddressSpace, change: Callable[[AddressSpace], None], told: tuple[int, int]
) -> None:
    space.track_code(CODE + 0x80, 20)
    listener = Listener(space)
    change(space)
    assert listener.told == [told]
    assert listener.seen == [b"\x55"]


@pytest.mark.parametrize("length", [1, 4, 300])
def test_a_store_of_the_same_bytes_is_no_change(space: AddressSpace, length: int) -> None:
    space.track_code(CODE + 0x80, 20)
    listener = Listener(space)
    space.write(CODE + 0x7F, bytes(length))
    space.store(CODE + 0x80, 4, 0)
    assert listener.told == []
    space.write(CODE + 0x7F, bytes(length) + b"\1")
    assert listener.told == [(CODE + 0x7F, length + 1)]


def test_stores_to_other_lines_of_the_page_call_nobody(space: AddressSpace) -> None:
    space.track_code(CODE + 0x80, 20)
    listener = Listener(space)
    for address in (CODE + 0x7C, CODE + 0xC0, CODE + 0xFFC, CODE):
        space.store(address, 4, 1)
    assert listener.told == []
    assert CODE not in space.writable
    assert CODE in space.readable
    assert CODE + PAGE in space.writable


def test_a_store_over_the_edge_into_a_code_page_is_told(space: AddressSpace) -> None:
    space.track_code(CODE + PAGE, 1)
    listener = Listener(space)
    space.store(CODE + PAGE - 2, 4, 1)
    assert listener.told == [(CODE + PAGE - 2, 4)]


def test_tracked_code_may_straddle_pages(space: AddressSpace) -> None:
    space.track_code(CODE + PAGE - 3, 6)
    listener = Listener(space)
    space.store(CODE + PAGE - 4, 4, 1)
    space.store(CODE + PAGE + 2, 1, 1)
    assert len(listener.told) == 2


def test_untracking_makes_the_page_fast_again(space: AddressSpace) -> None:
    space.track_code(CODE, 20)
    space.track_code(CODE + 0x800, 20)
    space.untrack_code(CODE, 20)
    assert CODE not in space.writable
    space.untrack_code(CODE + 0x800, 20)
    assert CODE in space.writable


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.unmap(CODE, 2 * PAGE),
        lambda s: s.map(CODE, PAGE, RW),
        lambda s: s.protect(CODE, PAGE, RX),
        lambda s: s.discard(CODE, PAGE),
        lambda s: s.move(CODE, PAGE, 0x100000),
    ],
)
def test_a_page_that_changes_as_a_whole_is_told_and_no_longer_tracked(
    space: AddressSpace, change: Callable[[AddressSpace], None]
) -> None:
    space.track_code(CODE + 5, 1)
    space.track_code(CODE + 3 * PAGE, 1)
    listener = Listener(space)
    change(space)
    assert listener.told == [(CODE, PAGE)]
    space.unmap(CODE, PAGE)
    assert listener.told == [(CODE, PAGE)]
    space.store(CODE + 3 * PAGE, 4, 1)
    assert len(listener.told) == 2


def test_tracking_survives_a_fork_of_the_tracked_space(space: AddressSpace) -> None:
    space.track_code(CODE, 4)
    listener = Listener(space)
    child = space.fork(space.budget)
    child.store(CODE, 4, 1)
    assert listener.told == []
    space.store(CODE, 4, 1)
    space.store(CODE, 4, 2)
    assert listener.told == [(CODE, 4)] * 2
    space.store(CODE + 0x800, 4, 3)
    assert (child.load(CODE, 4), child.load(CODE + 0x800, 4)) == (1, 0)
    space.track_code(CODE + PAGE, 4)
    child = space.fork(space.budget)
    space.store(CODE + PAGE + 0x800, 4, 4)
    assert child.load(CODE + PAGE + 0x800, 4) == 0


@pytest.mark.parametrize("attached", [True, False])
def test_code_in_shared_memory_is_told_of_every_writer(space: AddressSpace, attached: bool) -> None:
    backing = SharedBacking(2 * PAGE)
    if not attached:
        backing.attach_shared = False
    space.map(0x100000, 2 * PAGE, RX, backing, shared=True)
    space.map(0x200000, PAGE, RW, backing, PAGE, shared=True)
    other = AddressSpace()
    other.map(0x300000, 2 * PAGE, RW, backing, shared=True)
    other.store(0x301000, 4, 0x90)
    space.store(0x200010, 4, 0x90)
    assert space.fetch(0x101000, 4) == b"\x90\0\0\0"
    space.track_code(0x101000, 0x40)
    listener = Listener(space)
    other.store(0x301000, 4, 0xC3)
    space.store(0x200010, 4, 0xC3)
    space.store(0x200080, 4, 0xC3)
    other.store(0x300000, 4, 1)
    assert listener.told == [(0x101000, 4), (0x101010, 4)]
    assert space.fetch(0x101000, 1) == b"\xc3"
    other.unmap(0x301000, PAGE)
    child = other.fork(other.budget)
    child.write(0x300000, b"q" * PAGE)
    assert space.read(0x100000, 2) == b"qq"
    assert len(listener.told) == 2


def test_many_listeners_may_leave_while_they_are_told(space: AddressSpace) -> None:
    space.track_code(CODE, 4)
    told: list[int] = []

    def once(address: int, length: int) -> None:
        told.append(address)
        space.code_listeners.remove(once)

    space.code_listeners.append(once)
    listener = Listener(space)
    space.store(CODE, 4, 1)
    assert told == [CODE]
    assert len(listener.told) == 1

"""Images that budgets pay for: each once, whole, while anybody maps it."""

from __future__ import annotations

from typing import Final

import pytest

from aiopyvm.mem.backing import HeldImages, ImageBacking
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE
from aiopyvm.mem.space import AddressSpace
from tests.mem.test_space import Limited

START: Final = 0x100000


def test_is_charged_once_while_anybody_maps_it() -> None:
    budget = Limited(4 * PAGE)
    images, image = HeldImages(budget), ImageBacking(b"x" * 3 * PAGE)
    first, second = AddressSpace(), AddressSpace()
    for space in (first, second):
        space.map(0x10000, 3 * PAGE, 1, images.hold(image))
    assert budget.used == 3 * PAGE
    first.close()
    assert budget.used == 3 * PAGE
    assert second.read(0x10000, 2) == b"xx"
    second.unmap(0x10000, 3 * PAGE)
    assert budget.used == 0
    second.close()


def test_is_refused_where_it_does_not_fit() -> None:
    budget = Limited(5 * PAGE)
    images = HeldImages(budget)
    held = images.hold(ImageBacking(b"x" * 3 * PAGE))
    assert held is not None
    assert images.hold(ImageBacking(b"y" * 3 * PAGE)) is None
    assert images.hold(ImageBacking(b"y" * PAGE), share=3) is None
    assert budget.used == 3 * PAGE
    other = images.hold(ImageBacking(b"y" * PAGE), share=2)
    assert other is not None
    assert budget.used == 4 * PAGE


def test_is_the_same_image_for_every_budget() -> None:
    image = ImageBacking(b"library".ljust(PAGE, b"\0"))
    one, other = (HeldImages(Limited(PAGE)).hold(image) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one is not other
    assert one.digest == other.digest == image.digest
    assert one.extent is other.extent is image.extent
    assert one.read_at(0, 2 * PAGE) == image.read_at(0, 2 * PAGE)


def pages_of(count: int) -> ImageBacking:
    """An image whose pages are filled with their numbers, from 1 on."""
    return ImageBacking(b"".join(bytes((n & 0xFF,)) * PAGE for n in range(1, count + 1)))


def looked_at(space: AddressSpace) -> list[int]:
    """The numbers of the pages from START on that may be read at once."""
    return sorted(base - START >> 12 for base in space.readable)


def test_what_is_mapped_to_be_looked_at_is_shown_at_once() -> None:
    space = AddressSpace()
    space.map(START, 3 * PAGE, 1, pages_of(5), PAGE)
    assert looked_at(space) == [0, 1, 2]
    assert (space.writable, space.resident_pages) == (set(), 0)
    assert space.read(START + PAGE - 1, 2) == b"\2\3"
    space.protect(START, PAGE, 0)
    with pytest.raises(MemoryFault):
        space.load(START, 1)
    space.protect(START, 3 * PAGE, 3)
    space.store(START, 1, 7)
    assert (space.load(START, 1), space.load(START + PAGE, 1), space.resident_pages) == (7, 3, 3)
    assert space.shown_image(START, START + PAGE) is None


def test_code_and_what_is_long_and_what_may_be_written_waits_for_a_look() -> None:
    space = AddressSpace()
    for prot, pages, shown in ((5, 2, 2), (1, 65, 16), (1, 64, 64), (3, 5, 1)):
        space.map(START, 65 * PAGE, 0)
        space.map(START, pages * PAGE, prot, pages_of(65))
        assert len(looked_at(space)) == (64 if shown == 64 else 0)
        assert space.load(START + PAGE, 1) == 2
        assert len(looked_at(space)) == shown


def test_little_data_comes_together_as_far_as_there_is_room() -> None:
    for room, expected in ((4, 3), (2, 2), (1, 1)):
        budget = Limited(1 << 30)
        space = AddressSpace(budget)
        space.map(START, 3 * PAGE, 3, pages_of(3))
        budget.limit = budget.used + room * PAGE
        space.store(START + PAGE, 1, 9)
        assert space.resident_pages == expected
        assert len(space.writable) == expected
        assert [space.peek(START + n * PAGE, 2) for n in range(3)] == [b"\1\1", b"\x09\2", b"\3\3"]
        space.close()
        assert budget.used == 0


def test_little_data_of_a_child_comes_from_its_parent() -> None:
    parent = AddressSpace()
    parent.map(START, 3 * PAGE, 3, pages_of(3))
    parent.store(START, 1, 9)
    parent.protect(START + PAGE, PAGE, 1)
    parent.protect(START + PAGE, PAGE, 3)
    child = parent.fork(Unlimited())
    parent.store(START + 2 * PAGE, 1, 8)
    child.store(START + PAGE, 1, 7)
    assert [child.load(START + n * PAGE, 1) for n in range(3)] == [9, 7, 3]
    assert [parent.load(START + n * PAGE, 1) for n in range(3)] == [9, 2, 8]

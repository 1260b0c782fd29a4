"""Images that budgets pay for: each once, whole, while anybody maps it."""

from __future__ import annotations

from aiopyvm.mem.backing import HeldImages, ImageBacking
from aiopyvm.mem.layout import PAGE
from aiopyvm.mem.space import AddressSpace
from tests.mem.test_space import Limited


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

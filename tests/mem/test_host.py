"""What the package takes from the host: attachments, extents, limits; and what it does where the host has less."""

from __future__ import annotations

import gc
import subprocess
import sys
from unittest import mock

import pytest

from aiopyvm.mem import reservation
from aiopyvm.mem.arena import Arena, Extent, arena
from aiopyvm.mem.backing import ImageBacking, SharedBacking
from aiopyvm.mem.reservation import HOST_MAPPINGS, HostMappings
from aiopyvm.mem.space import AddressSpace
from tests.mem.model import PAGE

linux = pytest.mark.skipif(sys.platform != "linux", reason="attachments need Linux")


def host_mappings_of(space: AddressSpace) -> int:
    """Lines of /proc/self/maps that lie in the space's reservation."""
    count = 0
    with open("/proc/self/maps") as lines:
        for line in lines:
            start, end = (int(n, 16) for n in line.split()[0].split("-"))
            count += start < space.base + (1 << 32) and space.base < end
    return count


@linux
def test_an_image_of_many_segments_costs_two_host_mappings() -> None:
    image = ImageBacking(bytes(64 * PAGE))
    space = AddressSpace()
    before = host_mappings_of(space)
    for n, prot in enumerate((1, 5, 1, 3)):
        space.map(0x8048000 + n * 16 * PAGE, 15 * PAGE, prot, image, n * 16 * PAGE)
    assert host_mappings_of(space) <= before + 2
    space.store(0x8048000 + 48 * PAGE, 4, 1)
    assert host_mappings_of(space) <= before + 2


@linux
def test_holes_in_an_image_do_not_multiply_host_mappings() -> None:
    space = AddressSpace()
    space.map(0x8048000, 64 * PAGE, 3, ImageBacking(b"x" * 64 * PAGE))
    before = host_mappings_of(space)
    for n in range(0, 64, 2):
        space.unmap(0x8048000 + n * PAGE, PAGE)
    assert host_mappings_of(space) == before
    space.map(0x8048000, PAGE, 3)
    assert space.read(0x8048000, PAGE) == bytes(PAGE)


@linux
def test_an_image_wholly_unmapped_is_detached() -> None:
    used = HOST_MAPPINGS.used
    space = AddressSpace()
    space.map(0x8048000, 4 * PAGE, 3, ImageBacking(b"x" * 4 * PAGE))
    assert HOST_MAPPINGS.used == used + 3
    space.unmap(0x8048000, 4 * PAGE)
    assert HOST_MAPPINGS.used == used + 1
    space.close()
    del space
    gc.collect()
    assert HOST_MAPPINGS.used == used


@linux
def test_a_freed_extent_gives_its_memory_back() -> None:
    extent = arena().allocate(3 * PAGE)
    extent.write(PAGE - 2, b"abcd")
    assert extent.read(PAGE - 2, 5) == b"abcd\0"
    fd, offset = extent.fd, extent.offset
    del extent
    again = Extent(arena(), fd, offset, 0)
    again.size = 3 * PAGE
    assert again.read(0, 3 * PAGE) == bytes(3 * PAGE)
    again.size = 0


def test_an_extent_knows_its_end() -> None:
    extent = arena().allocate(PAGE)
    assert extent.read(PAGE - 1, 10) == b"\0"
    assert extent.read(2 * PAGE, 10) == b""
    with pytest.raises(ValueError, match="past the end"):
        extent.write(PAGE - 1, b"ab")


def test_limits_of_host_mappings() -> None:
    some = HostMappings(3)
    assert some.take(2)
    assert not some.take(2)
    assert some.take(1)
    assert some.take(-3)
    assert some.used == 0


def test_without_memfd_and_madvise_everything_works_by_copies() -> None:
    with mock.patch.object(sys, "platform", "other"):
        plain = Arena()
    with mock.patch("aiopyvm.mem.backing.arena", return_value=plain), mock.patch.object(reservation, "_LINUX", False):
        space = AddressSpace()
        space.map(0x10000, 2 * PAGE, 3, ImageBacking(b"i" * 2 * PAGE))
        space.map(0x20000, 2 * PAGE, 3, SharedBacking(2 * PAGE), shared=True)
        child = space.fork(space.budget)
        child.store(0x20FFE, 4, 0x01020304)
        child.store(0x10000, 1, 0)
        assert space.load(0x20FFE, 4) == 0x01020304
        assert (space.load(0x10000, 1), child.load(0x10000, 1)) == (105, 0)
        child.unmap(0x10000, PAGE)
        child.map(0x10000, PAGE, 3)
        assert child.read(0x10000, PAGE) == bytes(PAGE)
        assert not space._attachments
        child.close()
        space.close()


def test_spaces_left_open_at_exit_are_no_trouble() -> None:
    program = (
        "from aiopyvm.mem.space import AddressSpace\n"
        "s = AddressSpace()\n"
        "s.map(0x1000, 4096, 3)\n"
        "s.map(0x9000, 4096, 3, shared=True)\n"
        "s.store(0x1000, 4, 1); s.store(0x9000, 4, 1)\n"
        "c = s.fork(s.budget); s.store(0x1000, 4, 2)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")

"""Where the parts of a program go."""

from __future__ import annotations

import os

import pytest

from aiopyvm import VM
from aiopyvm.loader.elf import parse_elf
from aiopyvm.loader.image import DYN_BASE, place_image
from aiopyvm.loader.placement import FIXED, Placement, random_placement
from aiopyvm.mem.space import AddressSpace
from tests.conftest import GlibcGuests
from tests.loader.elves import PT_INTERP, Elf, Ph

both_loops = pytest.mark.anyio
LOWEST_STACK, LOWEST_MAPPING = 0xFFFFE000 - (8 << 20) - (64 << 10), 0xF7FFE000 - (1 << 20) - (64 << 10)


async def _places(program: os.PathLike[str], *args: str, **options: object) -> tuple[int, ...]:
    result = await VM(**options).run_elf(program, *args)  # type: ignore[arg-type]
    assert result.returncode == 0
    *places, value = (result.stdout or b"").split()
    assert value == (b"2" if options.get("randomize") else b"0")
    return tuple(int(place, 16) for place in places)


@both_loops
async def test_a_seed_has_its_own_places(glibc_guest: GlibcGuests) -> None:
    program = glibc_guest("places")
    usual = await _places(program)
    assert await _places(program, seed=1) == usual
    found = {seed: await _places(program, seed=seed, randomize=True) for seed in range(8)}
    assert await _places(program, seed=3, randomize=True) == found[3]
    assert all(len(set(places)) > 4 for places in zip(*found.values(), strict=True))
    for stack, brk, mapping, vdso in found.values():
        assert LOWEST_STACK < stack <= usual[0] + 64
        assert usual[1] <= brk < usual[1] + (32 << 20)
        assert LOWEST_MAPPING < mapping <= usual[2] + 4096
        assert mapping - vdso == usual[2] - usual[3]


@both_loops
async def test_without_a_seed_they_are_the_hosts(glibc_guest: GlibcGuests) -> None:
    program = glibc_guest("places")
    assert len({await _places(program, randomize=True) for _ in range(5)}) == 5


@both_loops
async def test_a_program_can_ask_for_the_usual_places(glibc_guest: GlibcGuests) -> None:
    program = glibc_guest("places")
    assert (await _places(program, "fixed", randomize=True))[1:] == (await _places(program))[1:]


def test_all_is_drawn_at_once() -> None:
    assert random_placement(bytes) == FIXED
    most = random_placement(lambda n: b"\xff" * n)
    assert most == Placement(0x7FF000, 0x1FF0, 0xFF000, 0xFF000, 0x1FFF000)


def test_a_position_independent_program_is_shifted() -> None:
    pie = parse_elf(Elf([Ph(vaddr=0, data=b"x" * 5000), Ph(type=PT_INTERP, data=b"/lib/ld.so\0")], type=3).build())
    assert place_image(AddressSpace(), pie) == DYN_BASE
    assert place_image(AddressSpace(), pie, shift=0x5000) == DYN_BASE + 0x5000


def test_mappings_begin_lower_in_copies_too() -> None:
    space = AddressSpace()
    usual = space.find_free(4096)
    space.lower_base(0x30000)
    assert space.find_free(4096) == usual - 0x30000
    assert space.fork(space.budget).find_free(4096) == usual - 0x30000

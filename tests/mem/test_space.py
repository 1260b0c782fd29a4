"""Mappings, first touch, faults and the kernel's copies, one fact a test."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from aiopyvm.errors import GuestMemoryError
from aiopyvm.mem.backing import BytesBacking, ImageBacking
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.faults import AddressSpaceFull, MemoryFault
from aiopyvm.mem.mappings import MMAP_BASE, Mapping
from aiopyvm.mem.residence import SPACE_COST
from aiopyvm.mem.space import AddressSpace
from tests.mem.model import PAGE

RW, RX, RWX, R, NONE = 3, 5, 7, 1, 0


class Limited:
    """A budget with a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def charge(self, size_bytes: int) -> bool:
        if size_bytes > 0 and self.used + size_bytes > self.limit:
            return False
        self.used += size_bytes
        return True

    def room(self) -> int:
        return self.limit - self.used


@pytest.fixture
def space() -> AddressSpace:
    return AddressSpace()


def fault_of(call: object, *args: object) -> MemoryFault:
    with pytest.raises(MemoryFault) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value


# Mappings


def shape(space: AddressSpace) -> list[tuple[int, int, int]]:
    return [(m.start, m.end, m.prot) for m in space.mappings()]


def test_neighbours_with_equal_attributes_are_one_mapping(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, RW)
    space.map(0x3000, PAGE, RW)
    space.map(0x2000, PAGE, RW)
    assert shape(space) == [(0x1000, 0x4000, RW)]


def test_protect_splits_and_merges_back(space: AddressSpace) -> None:
    space.map(0x1000, 3 * PAGE, RW)
    space.protect(0x2000, PAGE, R)
    assert shape(space) == [(0x1000, 0x2000, RW), (0x2000, 0x3000, R), (0x3000, 0x4000, RW)]
    space.protect(0x2000, PAGE, RW)
    assert shape(space) == [(0x1000, 0x4000, RW)]


def test_a_file_mapping_merges_only_where_its_offsets_go_on(space: AddressSpace) -> None:
    data = BytesBacking(bytes(8 * PAGE))
    space.map(0x1000, PAGE, R, data, 0)
    space.map(0x2000, PAGE, R, data, PAGE)
    space.map(0x3000, PAGE, R, data, 4 * PAGE)
    assert shape(space) == [(0x1000, 0x3000, R), (0x3000, 0x4000, R)]


def test_a_hole_keeps_offsets_right(space: AddressSpace) -> None:
    space.map(0x1000, 3 * PAGE, R, BytesBacking(b"".join(bytes([i]) * PAGE for i in range(3))))
    space.unmap(0x2000, PAGE)
    assert space.load(0x1000, 1) == 0
    assert space.load(0x3000, 1) == 2
    assert not space.is_mapped(0x1000, 3 * PAGE)
    assert space.is_free(0x2000, PAGE)


def test_protect_stops_at_a_gap_as_linux_does(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, RW)
    space.map(0x3000, PAGE, RW)
    with pytest.raises(GuestMemoryError, match="0x00002000"):
        space.protect(0x1000, 3 * PAGE, R)
    assert shape(space) == [(0x1000, 0x2000, R), (0x3000, 0x4000, RW)]


@pytest.mark.parametrize(
    ("address", "length"), [(0x1001, PAGE), (0x1000, 0), (0xFFFFE000, PAGE), (0xFFFFD000, 2 * PAGE), (-PAGE, PAGE)]
)
def test_ranges_that_cannot_be_mapped(space: AddressSpace, address: int, length: int) -> None:
    with pytest.raises(ValueError, match="no range"):
        space.map(address, length, RW)
    with pytest.raises(ValueError, match="no range"):
        space.unmap(address, length)


def test_the_last_page_and_page_zero_can_be_mapped(space: AddressSpace) -> None:
    space.map(0, PAGE, RW)
    space.map(0xFFFFD000, PAGE, RW)
    space.store(0, 4, 7)
    space.store(0xFFFFDFFC, 4, 9)
    assert (space.load(0, 4), space.load(0xFFFFDFFC, 4)) == (7, 9)
    assert fault_of(space.store, 0xFFFFDFFE, 4, 1).address == 0xFFFFE000
    assert space.read(0xFFFFDFFC, 4) == b"\t\0\0\0"


def test_find_free_goes_down_from_the_mmap_base(space: AddressSpace) -> None:
    assert space.find_free(PAGE) == MMAP_BASE - PAGE
    space.map(MMAP_BASE - PAGE, PAGE, RW)
    assert space.find_free(2 * PAGE) == MMAP_BASE - 3 * PAGE
    space.map(MMAP_BASE - 4 * PAGE, PAGE, RW)
    assert space.find_free(2 * PAGE) == MMAP_BASE - 3 * PAGE
    assert space.find_free(3 * PAGE) == MMAP_BASE - 7 * PAGE


def test_find_free_takes_a_hint_that_is_free(space: AddressSpace) -> None:
    assert space.find_free(PAGE, 0x20000001) == 0x20001000
    space.map(0x20001000, PAGE, RW)
    assert space.find_free(PAGE, 0x20001000) == MMAP_BASE - PAGE
    assert space.find_free(PAGE, 0x1000) == MMAP_BASE - PAGE
    assert space.find_free(2 * PAGE, 0xFFFFD000) == MMAP_BASE - 2 * PAGE


def test_find_free_goes_above_the_base_once_it_is_full_below(space: AddressSpace) -> None:
    space.map(0x10000, MMAP_BASE - 0x10000, NONE)
    assert space.find_free(PAGE) == MMAP_BASE
    with pytest.raises(AddressSpaceFull):
        space.find_free(0xFFFFE000 - MMAP_BASE + PAGE)


def test_find_free_keeps_off_a_stack(space: AddressSpace) -> None:
    space.map(MMAP_BASE - PAGE, PAGE, RW, grows_down=True)
    assert space.find_free(PAGE) == MMAP_BASE - 258 * PAGE
    assert space.find_free(PAGE, MMAP_BASE - 200 * PAGE) == MMAP_BASE - 258 * PAGE


def test_no_more_mappings_than_linux_allows(space: AddressSpace) -> None:
    space._maps._list = [Mapping(n * 2 * PAGE, (n * 2 + 1) * PAGE, R, False, False, None, 0, "") for n in range(65530)]
    space._maps._starts = [m.start for m in space._maps._list]
    with pytest.raises(AddressSpaceFull):
        space.map(0xF0000000, PAGE, RW)
    space.unmap(0, PAGE)
    space.unmap(0x2000, PAGE)
    space.map(0xF0000000, PAGE, RW)


# Faults


@pytest.mark.parametrize(
    ("prot", "allowed"), [(0, ""), (1, "r"), (2, "rw"), (3, "rw"), (4, "rx"), (5, "rx"), (6, "rwx"), (7, "rwx")]
)
def test_what_each_protection_allows(space: AddressSpace, prot: int, allowed: str) -> None:
    """On x86 what can be written or executed can be read (mprotect(2))."""
    space.map(0x1000, PAGE, prot)
    calls: dict[str, Callable[[], object]] = {
        "r": lambda: space.load(0x1800, 4),
        "w": lambda: space.store(0x1800, 4, 1),
        "x": lambda: space.fetch(0x1800, 9),
    }
    for access, call in calls.items():
        if access in allowed:
            call()
        else:
            fault = fault_of(call)
            assert (fault.address, fault.access, fault.present) == (0x1800, access, True)


def test_error_codes(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, R)
    assert fault_of(space.load, 0x5000, 1).error_code == 0b00100
    assert fault_of(space.store, 0x1000, 1, 0).error_code == 0b00111
    assert fault_of(space.fetch, 0x1000, 1).error_code == 0b10101


def test_a_store_over_an_edge_is_all_or_nothing(space: AddressSpace) -> None:
    space.map(0x1000, 2 * PAGE, RW)
    space.store(0x1FFE, 4, 0x11223344)
    space.protect(0x2000, PAGE, R)
    assert fault_of(space.store, 0x1FFE, 4, 0).address == 0x2000
    assert space.load(0x1FFE, 4) == 0x11223344


def test_past_the_end_of_a_backing_is_a_bus_fault(space: AddressSpace) -> None:
    space.map(0x1000, 2 * PAGE, RW, BytesBacking(b"abc"))
    assert space.read(0x1000, 5) == b"abc\0\0"
    fault = fault_of(space.load, 0x1FFE, 4)
    assert (fault.address, fault.bus) == (0x2000, True)


def test_probe_is_an_access_without_one(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, R)
    space.probe(0x1FF0, 16, write=False)
    assert fault_of(space.probe, 0x1FF0, 17, False).address == 0x2000
    assert fault_of(space.probe, 0x1FF0, 17, True).address == 0x1FF0
    space.probe(0x9000, 0, write=True)


def test_fetch_stops_before_what_is_not_executable(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, RX, BytesBacking(bytes(range(256)) * 16))
    space.map(0x2000, PAGE, RW)
    assert space.fetch(0x1FFD, 15) == b"\xfd\xfe\xff"
    assert space.fetch(0x1F00, 3) == b"\0\1\2"
    assert fault_of(space.fetch, 0x2000, 15).address == 0x2000


# Copies


def test_write_keeps_what_precedes_the_first_bad_byte(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, RW)
    assert fault_of(space.write, 0x1FFD, b"abcdef").address == 0x2000
    assert space.read(0x1FFD, 3) == b"abc"


def test_read_says_where_the_first_bad_byte_is(space: AddressSpace) -> None:
    space.map(0x1000, 2 * PAGE, RW)
    assert fault_of(space.read, 0x1800, 0x10000).address == 0x3000
    assert fault_of(space.read, 0xFFFFFFF0, 0x100).address == 0xFFFFFFF0
    assert space.read(0x1800, 0) == b""


def test_read_cstr(space: AddressSpace) -> None:
    space.map(0x1000, 2 * PAGE, RW)
    space.write(0x1FFD, b"abcdef\0g")
    assert space.read_cstr(0x1FFD) == b"abcdef"
    assert space.read_cstr(0x1FFD, 6) == b"abcdef"
    assert space.read_cstr(0x1FFD, 5) == b"abcde"
    space.write(0x2FFE, b"xy")
    assert fault_of(space.read_cstr, 0x2FFE).address == 0x3000
    assert space.read_cstr(0x2FFE, 2) == b"xy"


def test_peek_and_poke_know_no_permissions_but_mappings(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, NONE)
    space.poke(0x1FFE, b"hi")
    assert space.peek(0x1FFD, 3) == b"\0hi"
    assert fault_of(space.load, 0x1FFE, 1).present
    for bad in (0x1FFF, -1, 0xFFFFFFFF, 1 << 40):
        with pytest.raises(GuestMemoryError, match="not all mapped"):
            space.peek(bad, 2)
        with pytest.raises(GuestMemoryError, match="not all mapped"):
            space.poke(bad, b"hi")


# First touch and the budget


def test_only_touched_pages_are_charged() -> None:
    budget = Unlimited()
    space = AddressSpace(budget)
    space.map(0x10000000, 1 << 30, RW)
    before = budget.used
    space.load(0x10000000, 4)
    space.store(0x20000000, 4, 1)
    assert budget.used == before + 2 * PAGE
    assert space.resident_pages == 2
    space.unmap(0x10000000, 1 << 28)
    assert (space.resident_pages, space.peak_resident_pages) == (1, 2)
    space.close()
    assert budget.used == 0


def test_memory_that_comes_back_is_zero(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, RW)
    space.write(0x1000, b"secret")
    space.unmap(0x1000, PAGE)
    space.map(0x1000, PAGE, RW)
    assert space.read(0x1000, 6) == bytes(6)


def test_a_refused_touch_is_out_of_memory() -> None:
    budget = Limited(SPACE_COST + 3 * PAGE)
    space = AddressSpace(budget)
    space.map(0x1000, 16 * PAGE, RW)
    fault = fault_of(space.write, 0x1000, bytes(4 * PAGE))
    assert (fault.address, fault.out_of_memory) == (0x3000, True)
    space.unmap(0x1000, PAGE)
    space.store(0x3000, 4, 1)
    assert budget.used <= budget.limit
    space.close()
    assert budget.used == 0


def test_no_budget_for_a_space_or_a_fork() -> None:
    with pytest.raises(AddressSpaceFull):
        AddressSpace(Limited(1000))
    budget = Limited(2 * SPACE_COST)
    space = AddressSpace(budget)
    space.map(0x1000, PAGE, RW)
    used = budget.used
    with pytest.raises(AddressSpaceFull):
        space.fork(budget)
    assert budget.used == used
    space.store(0x1000, 4, 5)


def test_clean_pages_of_an_image_cost_nothing() -> None:
    budget = Unlimited()
    space = AddressSpace(budget)
    space.map(0x1000, 2 * PAGE, RWX, ImageBacking(b"a" * 2 * PAGE))
    before = budget.used
    assert space.load(0x1000, 1) == space.fetch(0x2000, 1)[0] == 97
    if space._attachments:
        assert budget.used == before
    space.store(0x1000, 1, 98)
    assert budget.used >= before + PAGE
    other = AddressSpace(budget)
    other.close()
    space.close()
    assert budget.used == 0


def test_one_image_in_two_spaces_stays_private() -> None:
    image = ImageBacking(b"a" * PAGE)
    one, two = AddressSpace(), AddressSpace()
    for space in (one, two):
        space.map(0x1000, PAGE, RW, image)
    one.store(0x1000, 1, 98)
    assert (one.load(0x1000, 1), two.load(0x1000, 1)) == (98, 97)
    one.unmap(0x1000, PAGE)
    one.map(0x1000, PAGE, RW, image)
    assert one.load(0x1000, 1) == 97


# Stacks


def stack(space: AddressSpace) -> None:
    space.map(0xBFFF0000, 16 * PAGE, RW, grows_down=True, name="[stack]")


def test_a_stack_grows_to_the_access(space: AddressSpace) -> None:
    stack(space)
    space.store(0xBFF00010, 4, 1)
    assert shape(space) == [(0xBFF00000, 0xC0000000, RW)]
    assert space.resident_pages == 1


def test_a_stack_grows_to_its_limit_only(space: AddressSpace) -> None:
    stack(space)
    space.stack_limit = 1 << 20
    assert not fault_of(space.store, 0xC0000000 - (1 << 20) - 1, 1, 1).present
    space.store(0xC0000000 - (1 << 20), 1, 1)


def test_a_stack_keeps_its_guard_gap(space: AddressSpace) -> None:
    stack(space)
    space.map(0xBFE00000, PAGE, RW)
    space.store(0xBFE01000 + 256 * PAGE, 1, 1)
    assert fault_of(space.store, 0xBFE01000 + 256 * PAGE - 1, 1, 1).address == 0xBFE01000 + 256 * PAGE - 1


def test_an_inaccessible_neighbour_needs_no_gap(space: AddressSpace) -> None:
    stack(space)
    space.map(0xBFF00000 - PAGE, PAGE, NONE)
    space.store(0xBFF00000, 1, 1)
    assert fault_of(space.store, 0xBFF00000 - 1, 1, 1).present


def test_the_kernels_copies_grow_a_stack_too(space: AddressSpace) -> None:
    stack(space)
    space.write(0xBFFEFFF0, bytes(32))
    assert shape(space) == [(0xBFFEF000, 0xC0000000, RW)]


# The end


def test_a_closed_space_faults_everywhere(space: AddressSpace) -> None:
    space.map(0x1000, PAGE, RWX)
    space.store(0x1000, 4, 1)
    space.close()
    space.close()
    for call in (lambda: space.load(0x1000, 4), lambda: space.store(0x1000, 1, 1), lambda: space.fetch(0x1000, 1)):
        assert not fault_of(call).present
    with pytest.raises(GuestMemoryError):
        space.peek(0x1000, 1)
    with pytest.raises(GuestMemoryError, match="closed"):
        _ = space.base


def test_close_with_a_view_held_gives_the_memory_back(space: AddressSpace) -> None:
    array = space.array
    space.map(0x1000, PAGE, RW)
    space.store(0x1000, 1, 77)
    assert array[0x1000] == 77
    space.close()
    assert array[0x1000] == 0
    del array
    gc.collect()


def test_the_ctypes_array_is_the_same_memory(space: AddressSpace) -> None:
    import ctypes

    space.map(0x1000, PAGE, RW)
    space.store(0x1000, 4, 0xDEADBEEF)
    assert ctypes.c_uint32.from_address(space.base + 0x1000).value == 0xDEADBEEF
    assert bytes(space.array[0x1000:0x1004]) == b"\xef\xbe\xad\xde"


def _written(space: AddressSpace, pages: int) -> int:
    """Write to the first `pages` pages one after the other; how many are ready then."""
    for page in range(pages):
        space.write(0x100000 + page * PAGE, b"x")
    return space.resident_pages


def test_pages_ahead_of_those_written_in_a_row_are_ready() -> None:
    space = AddressSpace()
    space.map(0x100000, 256 * PAGE, RW)
    assert [_written(space, pages) for pages in (1, 4, 5, 13, 20)] == [1, 4, 13, 13, 22]
    assert space.read(0x100000 + 21 * PAGE, 4) == bytes(4)
    space.write(0x100000 + 100 * PAGE, b"y")
    assert space.resident_pages == 23  # not in a row


def test_pages_ahead_that_the_budget_refuses_are_not_taken() -> None:
    budget = Limited(1 << 20)
    space = AddressSpace(budget)
    space.map(0x100000, 6 * PAGE, RW)
    assert _written(space, 6) == 6  # as far as the mapping goes
    space.map(0x200000, 256 * PAGE, RW)
    with pytest.raises(MemoryFault) as caught:
        for page in range(256):
            space.write(0x200000 + page * PAGE, b"z")
    assert caught.value.out_of_memory
    assert budget.limit - PAGE < budget.used <= budget.limit

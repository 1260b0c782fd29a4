"""What `parse_elf` accepts, what it refuses and in which words, and what `map_image` makes of it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aiopyvm.errors import LoadError
from aiopyvm.loader.elf import parse_elf
from aiopyvm.loader.image import DYN_BASE, load_flat, map_image
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.mappings import MMAP_BASE
from aiopyvm.mem.space import AddressSpace
from tests.loader.elves import PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR, Elf, Ph, R, W, X, program

GUESTS = sorted(p for p in (Path(__file__).parents[2] / "guests" / "bin").iterdir() if p.read_bytes()[:4] == b"\x7fELF")


def load(data: bytes) -> tuple[AddressSpace, list[tuple[int, int, int]]]:
    space = AddressSpace()
    map_image(space, parse_elf(data))
    return space, [(m.start, m.end, m.prot) for m in space.mappings()]


def test_segments_land_where_they_are_linked() -> None:
    elf = Elf([Ph(data=b"code" * 300), Ph(vaddr=0x804A123, data=b"data" * 10, flags=R | W, memsz=0x2000)])
    space, shape = load(elf.build())
    assert shape == [(0x8048000, 0x8049000, 5), (0x804A000, 0x804B000, 7), (0x804B000, 0x804D000, 7)]
    assert space.read(0x804A123, 41) == b"data" * 10 + b"\0"
    assert space.read(0x804C000, 4) == bytes(4)


def test_an_old_program_has_everything_executable() -> None:
    """No PT_GNU_STACK: READ_IMPLIES_EXEC, as the kernel has it for 32-bit programs."""
    old = parse_elf(Elf([Ph(data=b"x", flags=R)]).build())
    new = parse_elf(program(b"x"))
    assert (old.read_implies_exec, old.stack_prot) == (True, 7)
    assert (new.read_implies_exec, new.stack_prot) == (False, 3)
    assert old.pieces[0].prot == 5
    stack = parse_elf(Elf([Ph(data=b"x"), Ph(type=PT_GNU_STACK, flags=7, vaddr=0, offset=0)]).build())
    assert (stack.read_implies_exec, stack.stack_prot) == (False, 7)


def test_the_file_page_around_a_segment_is_seen_and_bss_is_not() -> None:
    """Whole pages of the file are mapped; from the end of a segment with bss on there are zeros."""
    data = b"A" * 0x100 + b"B" * 0x100
    elf = Elf([Ph(vaddr=0x8048F00, data=data, filesz=0x100), Ph(vaddr=0x9048F00, data=data, filesz=0x100, memsz=0x300)])
    image = elf.build()
    space, _ = load(image)
    assert space.peek(0x8048FF0, 0x10) == b"A" * 0x10
    assert space.peek(0x9048F00, 0x100) == b"A" * 0x100
    assert space.read(0x9049000, 0x200) == bytes(0x200)
    assert space.peek(0x8048000, 4) == image[image.index(data) - 0xF00 :][:4]


def test_a_program_at_address_zero() -> None:
    space, shape = load(Elf([Ph(vaddr=0, data=b"\x90" * 64, flags=R | W | X)], entry=0).build())
    assert shape == [(0, 0x1000, 7)]
    assert space.fetch(0, 2) == b"\x90\x90"


def test_break_and_headers() -> None:
    elf = Elf([Ph(data=b"x" * 100), Ph(vaddr=0x8050010, memsz=0x1000, flags=R | W, data=b"")])
    loaded = map_image(AddressSpace(), parse_elf(elf.build()))
    assert loaded.brk == 0x8052000
    assert (loaded.phdr, loaded.phnum) == (0, 2)
    whole = Elf([Ph(vaddr=0x8048000, offset=0, filesz=116, data=b"")])
    assert map_image(AddressSpace(), parse_elf(whole.build().ljust(200, b"\0"))).phdr == 0x8048034
    named = Elf([Ph(data=b"x"), Ph(type=PT_PHDR, vaddr=0x8048777, offset=52, filesz=32)])
    assert parse_elf(named.build()).phdr == 0x8048777


def test_static_pie_goes_below_the_mmap_base() -> None:
    phs = [Ph(vaddr=0, data=b"x" * 5000), Ph(vaddr=0x3000, data=b"", memsz=10, flags=R | W)]
    pie = Elf(phs, entry=0x10, type=3).build()
    space = AddressSpace()
    loaded = map_image(space, parse_elf(pie))
    assert loaded.bias == MMAP_BASE - 0x4000
    assert (loaded.entry, loaded.brk) == (loaded.bias + 0x10, DYN_BASE)
    assert space.load(loaded.bias, 1) == ord("x")
    at = map_image(AddressSpace(), parse_elf(pie), bias=0x400000)
    assert at.entry == 0x400010
    aligned = Elf([Ph(vaddr=0, data=b"x", align=1 << 16)], type=3).build()
    assert map_image(AddressSpace(), parse_elf(aligned)).bias % (1 << 16) == 0
    with pytest.raises(LoadError, match="cannot be loaded"):
        map_image(AddressSpace(), parse_elf(pie), bias=0xFFFFD000)


def test_writes_to_one_guest_never_reach_another() -> None:
    image = parse_elf(program(b"same", phs=[Ph(data=b"same", flags=R | W | X)]))
    one, two = AddressSpace(), AddressSpace()
    for space in (one, two):
        map_image(space, image)
    one.write(0x8048000, b"mine")
    assert two.read(0x8048000, 4) == b"same"
    assert image.pieces[0].backing is not None
    assert image.pieces[0].backing.read_at(0, 4) == b"same"


def test_parsing_is_cached_by_content() -> None:
    data = program(b"cached")
    assert parse_elf(data) is parse_elf(bytes(bytearray(data)))
    assert parse_elf(data) is not parse_elf(program(b"other"))


@pytest.mark.parametrize("path", GUESTS, ids=lambda p: p.name)
def test_the_guests_load(path: Path) -> None:
    space = AddressSpace()
    loaded = map_image(space, parse_elf(path.read_bytes()))
    assert space.fetch(loaded.entry, 1)


# What is refused


def segments(*phs: Ph) -> bytes:
    return Elf(list(phs)).build()


REFUSED: list[tuple[bytes, str]] = [
    (b"", "an empty file"),
    (b"\x7fEL", "not an ELF program: it starts with b'\\\\x7fEL'"),
    (b"#!/bin/sh\necho", "a script \\('#!/bin/sh'\\)"),
    (b"MZ\x90\0", "Windows"),
    (b"\x7fELF\1\1\1", "a truncated ELF file: 7 bytes"),
    (b"\x7fELF\1\1\1" + bytes(40), "a truncated ELF file: 47 bytes"),
    (program(b"x", ident=b"\x7fELF\7\1\1".ljust(16, b"\0")), "class 7"),
    (program(b"x", ident=b"\x7fELF\1\0\1".ljust(16, b"\0")), "data encoding 0"),
    (program(b"x", ident=b"\x7fELF\2\1\1".ljust(16, b"\0"), machine=62), "64-bit little-endian ELF file for x86-64"),
    (program(b"x", ident=b"\x7fELF\1\2\1".ljust(16, b"\0")), "32-bit big-endian"),
    (program(b"x", machine=40), "32-bit little-endian ELF file for ARM"),
    (program(b"x", machine=0xFFFE), "ELF file for 65534"),
    (program(b"x", type=1), "relocatable object file"),
    (program(b"x", type=4), "core dump"),
    (program(b"x", type=0), "ET_NONE"),
    (program(b"x", type=0xFE77), "unknown type"),
    (program(b"x", phnum=0), "without program headers"),
    (program(b"x", phentsize=56), "program headers of 56 bytes"),
    (program(b"x", phnum=3000), "3000 program headers"),
    (program(b"x", phnum=2000), "truncated ELF file: its program headers"),
    (program(b"x", phoff=0xFFFFFFF0), "truncated ELF file: its program headers"),
    (program(b"x")[:-1], "a truncated ELF file: segment at 0x8048000"),
    (segments(Ph(type=PT_INTERP, offset=0xFFFFFFFF, filesz=0xFFFFFFFF), Ph(data=b"x")), "its interpreter's path"),
    (segments(Ph(type=PT_INTERP, data=b"/lib/ld-linux.so.2"), Ph(data=b"x")), "its interpreter's path, 0x12 bytes"),
    (segments(Ph(type=PT_INTERP, data=b"\0"), Ph(data=b"x")), "its interpreter's path"),
    (segments(Ph(type=PT_INTERP, data=b"/" * 4096 + b"\0"), Ph(data=b"x")), "its interpreter's path"),
    (segments(Ph(type=PT_GNU_STACK, vaddr=0, offset=0)), "without a PT_LOAD"),
    (segments(Ph(data=b"")), "without a PT_LOAD"),
    (segments(Ph(data=b"xx", memsz=1)), "0x2 bytes in the file, 0x1 in memory"),
    (segments(Ph(data=b"x", filesz=0xFFFFFFFF)), "truncated"),
    (segments(Ph(data=b"x", memsz=0xFFFFFFFF)), "beyond a program's addresses"),
    (segments(Ph(vaddr=0xFFFFDFFF, data=b"xx")), "beyond a program's addresses"),
    (segments(Ph(vaddr=0x8048001, data=b"x" * 99, offset=52, filesz=8)), "differ within a page"),
    (segments(Ph(data=b"x" * 20), Ph(vaddr=0x8048010, data=b"y")), "0x8048000 and 0x8048010 overlap"),
    (segments(Ph(vaddr=0x9000000, data=b"y"), Ph(data=b"x", memsz=0x80000000)), "overlap"),
    (
        segments(
            Ph(data=b"x" * 0x20000, vaddr=0),
            *[Ph(vaddr=0x100000 * i, offset=0x1000, filesz=0x1F000) for i in range(1, 90)],
        ),
        "its segments show",
    ),
]


@pytest.mark.parametrize(("data", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_loaded_is_said(data: bytes, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        parse_elf(data)


def try_to_load(data: bytes) -> bool:
    """True if it loads; anything but LoadError is an error."""
    space = AddressSpace()
    try:
        image = parse_elf(data)
        loaded = map_image(space, image)
    except LoadError:
        return False
    finally:
        space_of_pages = list(space.mappings())
    with suppress(MemoryFault):
        space.fetch(loaded.entry, 15)
    with suppress(LoadError):
        assert isinstance(image.symbols, dict)
    assert space_of_pages
    space.close()
    return True


def flip_bytes(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)


def flip_header(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(min(len(data), 180))] ^= 1 << rng.randrange(8)


def wild_word(rng: random.Random, data: bytearray) -> None:
    word = rng.choice([0, 1, 0xFFF, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFE000, 0xFFFFFFFF, rng.getrandbits(32)])
    struct.pack_into("<I", data, rng.randrange(min(len(data) - 4, 200)) & ~3, word)


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


@pytest.mark.parametrize("hostile", [flip_bytes, flip_header, wild_word, cut])
def test_hostile_files_end_in_a_load_error_or_a_program(hostile: Callable[[random.Random, bytearray], None]) -> None:
    rng = random.Random(hostile.__name__)
    small = [p.read_bytes() for p in GUESTS if p.stat().st_size < 20_000]
    outcomes = set()
    for _ in range(250):
        data = bytearray(rng.choice(small))
        hostile(rng, data)
        outcomes.add(try_to_load(bytes(data)))
    assert False in outcomes or hostile is flip_bytes


# Symbols


def test_symbols_are_there_unless_stripped() -> None:
    assert parse_elf(program(b"x")).symbols == {}


def test_damaged_symbols_are_a_load_error() -> None:
    data = bytearray(program(b"x"))
    struct.pack_into("<I", data, 32, 0x40)
    struct.pack_into("<HHH", data, 46, 40, 60000, 1)
    with pytest.raises(LoadError, match="symbol table"):
        _ = parse_elf(bytes(data)).symbols


# Flat binaries


@pytest.mark.parametrize(("load_at", "start"), [(0, 0), (0x7C00, 0x7000), (0x12345, 0x12000)])
def test_a_flat_binary_is_where_it_is_told_to_be(load_at: int, start: int) -> None:
    space = AddressSpace()
    loaded = load_flat(space, b"\x90" * 5000, load_at)
    assert (loaded.entry, loaded.stack_prot) == (load_at, 7)
    assert space.read(load_at, 5000) == b"\x90" * 5000
    assert [(m.start, m.end, m.prot) for m in space.mappings()] == [(start, loaded.brk, 7)]
    assert load_flat(AddressSpace(), b"x", load_at, entry=load_at + 2).entry == load_at + 2


@pytest.mark.parametrize(
    ("code", "load_at", "entry", "words"),
    [(b"", 0, None, "empty"), (b"x", -1, None, "fit"), (b"xx", 0xFFFFDFFF, None, "fit"), (b"x", 0, 1 << 32, "entry")],
)
def test_flat_binaries_that_cannot_be_loaded(code: bytes, load_at: int, entry: int | None, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        load_flat(AddressSpace(), code, load_at, entry)


def test_memory_sizes_are_no_memory() -> None:
    """A program may ask for gigabytes of zeros; only what it touches counts."""
    huge = Ph(type=PT_LOAD, vaddr=0x10000000, memsz=0xE0000000, data=b"", flags=R | W)
    space, shape = load(segments(Ph(data=b"x"), huge))
    assert shape[1] == (0x10000000, 0xF0000000, 7)
    assert space.resident_pages <= 1

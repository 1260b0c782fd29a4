"""A parsed program into an address space, the way fs/binfmt_elf.c lays it out; flat binaries too.

The file's part of an image is built once, as pages at the distances they have in memory: the host then shows
neighbouring segments of one image by one mapping, however many guests run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aiopyvm.errors import LoadError
from aiopyvm.loader.elf import ElfImage, Segment
from aiopyvm.mem.backing import Backing, BytesBacking, HeldImages, ImageBacking
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE, TASK_SIZE, page_up
from aiopyvm.mem.residence import MAX_ATTACHMENTS
from aiopyvm.mem.space import AddressSpace

DYN_BASE: Final = 0x56555000  # where a 64-bit kernel puts a PIE (ELF_ET_DYN_BASE); the break of a static one
_MAX_GAP: Final = 1 << 16  # segments nearer than this are shown in one piece
_RWX: Final = PROT_READ | PROT_WRITE | PROT_EXEC


class Piece(NamedTuple):
    """Pages [start, end) (as linked) show `backing` from `offset` on, or zeros."""

    start: int
    end: int
    prot: int
    backing: Backing | None
    offset: int


class Loaded(NamedTuple):
    """A program in memory: what the kernel and the first stack need to know of it. Addresses are final.

    `entry` is the program's own; execution starts at `start` where that is another's, its interpreter, which is loaded
    with the bias `base`. `vdso` is where the vdso is, 0: nowhere. `brk` is where the program break starts.
    `stack_prot` and `read_implies_exec` are as in `ElfImage`.
    """

    entry: int
    brk: int
    phdr: int = 0
    phnum: int = 0
    bias: int = 0
    stack_prot: int = _RWX
    read_implies_exec: bool = False
    base: int = 0
    start: int | None = None
    vdso: int = 0


def build_pieces(image: ElfImage) -> tuple[Piece, ...]:
    """What to map for `image`, in order; later pieces replace earlier ones."""
    home: dict[Segment, tuple[Backing, int]] = {}
    for n, group in enumerate(_groups(image.segments)):
        content = _content(image.data, group)
        shown = ImageBacking(content) if n < MAX_ATTACHMENTS else BytesBacking(content)
        home.update((s, (shown, group[0].start)) for s in group)
    pieces = []
    for s in image.segments:
        prot = s.prot | (PROT_EXEC if image.read_implies_exec and s.prot & PROT_READ else 0)
        start, file_end, end = s.start, s.file_end, s.end
        if s.filesz:
            backing, first = home[s]
            pieces.append(Piece(start, file_end, prot, backing, start - first))
        if file_end < end:
            pieces.append(Piece(file_end, end, prot, None, 0))
    return tuple(pieces)


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments with bytes of the file, by address, those that are near one another together."""
    groups: list[list[Segment]] = []
    reach = 0  # the end of the last group
    for s in sorted([s for s in segments if s.filesz], key=lambda s: s.start):
        if groups and s.start - reach <= _MAX_GAP:
            groups[-1].append(s)
        else:
            groups.append([s])
            reach = 0
        reach = max(reach, s.file_end)
    return groups


def _content(data: bytes, group: list[Segment]) -> bytes:
    """The pages of `group`: whole pages of the file, zero after a segment that goes on without the file."""
    base = group[0].start
    content = bytearray(max(s.file_end for s in group) - base)
    file = memoryview(data)
    for s in group:
        start, end = s.start, s.file_end
        first = s.offset - (s.vaddr - start)
        pages = file[first : first + end - start]
        content[start - base : start - base + len(pages)] = pages
        if s.memsz > s.filesz:
            tail = s.vaddr + s.filesz - base
            content[tail : end - base] = bytes(end - base - tail)
    return bytes(content)


def map_image(space: AddressSpace, image: ElfImage, bias: int | None = None, name: str = "") -> Loaded:
    """Map `image` into `space`; a position-independent one at `bias`, or where there is room.

    `name` is what /proc/self/maps shows. Raises LoadError where the biased image does not fit, AddressSpaceFull.
    """
    bias = place_image(space, image, bias)
    map_pieces(space, image.pieces, bias, name)
    return describe(image, bias)


def place_image(space: AddressSpace, image: ElfImage, bias: int | None = None, shift: int = 0) -> int:
    """Return the distance from where `image` is linked to where it goes. Raises LoadError.

    A program with an interpreter has a place of its own, `shift` bytes higher; what else is position-independent goes
    where there is room.
    """
    if not image.position_independent:
        bias = 0
    elif bias is None and image.interpreter is not None:
        bias = (DYN_BASE + shift & -image.align) - (image.start & -image.align)
    elif bias is None:
        bias = _find_bias(space, image)
    start, end = image.start, image.end
    if bias & PAGE - 1 or start + bias < 0 or end + bias > TASK_SIZE:
        raise LoadError(f"a program of {end - start:#x} bytes cannot be loaded at {start + bias:#x}")
    return bias


def map_pieces(
    space: AddressSpace, pieces: Sequence[Piece], bias: int, name: str, images: HeldImages | None = None
) -> None:
    """Map `pieces`, which are all of an image's or the next ones; `images` pays for them. Raises AddressSpaceFull."""
    for start, end, prot, backing, offset in pieces:
        if images is not None and isinstance(backing, ImageBacking):
            backing = images.hold(backing)
            if backing is None:
                raise AddressSpaceFull("the memory budget has no room for the program's file")
        space.map(start + bias, end - start, prot, backing, offset, name=name if backing is not None else "")


def describe(image: ElfImage, bias: int) -> Loaded:
    """What is to be known of `image` when it is in memory."""
    return Loaded(
        entry=image.entry + bias & 0xFFFFFFFF,
        brk=DYN_BASE if image.position_independent and image.interpreter is None else image.end + bias,
        phdr=image.phdr + bias & 0xFFFFFFFF if image.phdr or image.position_independent else 0,
        phnum=image.phnum,
        bias=bias,
        stack_prot=image.stack_prot,
        read_implies_exec=image.read_implies_exec,
    )


def _find_bias(space: AddressSpace, image: ElfImage) -> int:
    size = image.end - image.start
    try:
        at = space.find_free(size + image.align - PAGE)
    except AddressSpaceFull:
        raise LoadError(f"a program of {size:#x} bytes does not fit into the address space") from None
    at = (at + image.align - 1) & -image.align
    return at - (image.start & -image.align)


def load_flat(space: AddressSpace, code: bytes, load_at: int = 0, entry: int | None = None, name: str = "") -> Loaded:
    """Map `code` at `load_at`, readable, writable and executable; it starts at `entry` (default: its first byte).

    Raises LoadError when there is nothing to load or it does not fit, AddressSpaceFull.
    """
    if not code:
        raise LoadError("an empty flat binary: there is nothing to run")
    if not 0 <= load_at < load_at + len(code) <= TASK_SIZE:
        raise LoadError(f"a flat binary of {len(code):#x} bytes does not fit at {load_at:#x}")
    if entry is not None and not 0 <= entry < TASK_SIZE:
        raise LoadError(f"an entry at {entry:#x} is no address of a program")
    start = load_at & -PAGE
    end = page_up(load_at + len(code))
    backing = BytesBacking(bytes(load_at - start) + code)
    space.map(start, end - start, _RWX, backing, name=name)
    return Loaded(entry=load_at if entry is None else entry, brk=end)

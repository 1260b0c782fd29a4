"""What an ELF file asks for: `parse_elf` reads its headers and doubts every number.

The headers of a program for this machine are rows of words and half-words, and read as such; pyelftools says what other
files are, and is not imported before there is one. The result is cached by content.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import threading
from collections import OrderedDict
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiopyvm.errors import LoadError
from aiopyvm.loader.symbols import read_symbols
from aiopyvm.mem.layout import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE, TASK_SIZE, page_up

if TYPE_CHECKING:
    from aiopyvm.loader.image import Piece

_EHDR: Final = struct.Struct("<16x2H5I6H")  # Elf32_Ehdr behind e_ident (elf(5))
_PHDR_SIZE: Final = 32
PATH_MAX: Final = 4096  # limits.h, with the NUL
_MAX_PHDRS: Final = 65536 // _PHDR_SIZE  # as fs/binfmt_elf.c has it
_PHDR: Final = struct.Struct("<8I")
_ET_EXEC, _ET_DYN, _EM_386 = 2, 3, 3
_PT_LOAD, _PT_INTERP, _PT_PHDR, _PT_GNU_STACK = 1, 3, 6, 0x6474E551
_CACHE_ENTRIES: Final = 64
_CACHE_BYTES: Final = 64 << 20
_PF_X, _PF_W, _PF_R = 1, 2, 4
_PROT: Final = tuple(
    (PROT_READ if f & _PF_R else 0) | (PROT_WRITE if f & _PF_W else 0) | (PROT_EXEC if f & _PF_X else 0)
    for f in range(8)
)


class Header(NamedTuple):
    """Elf32_Ehdr behind e_ident (elf(5))."""

    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class ProgramHeader(NamedTuple):
    """Elf32_Phdr (elf(5))."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    flags: int
    align: int


class Segment(NamedTuple):
    """A PT_LOAD: `filesz` bytes at `offset` of the file, then zeros up to `memsz`, at `vaddr`."""

    vaddr: int
    offset: int
    filesz: int
    memsz: int
    prot: int

    @property
    def start(self) -> int:
        """First byte of its first page."""
        return self.vaddr & -PAGE

    @property
    def file_end(self) -> int:
        """End of the last page with bytes of the file; `start` when there is none."""
        return page_up(self.vaddr + self.filesz) if self.filesz else self.start

    @property
    def end(self) -> int:
        """End of its last page."""
        return page_up(self.vaddr + self.memsz)


class ElfImage:
    """A program or its interpreter. Addresses are as linked; `position_independent` ones are loaded with a bias.

    `interpreter` is the path of what loads its libraries, None for a static program. `phdr` is where the program
    headers end up in memory (0: in no segment). `stack_prot` is the stack's PROT_*; `read_implies_exec` is set
    for old programs without PT_GNU_STACK (personality(2), READ_IMPLIES_EXEC).
    """

    def __init__(
        self,
        data: bytes,
        *,
        entry: int,
        segments: tuple[Segment, ...],
        phdr: int,
        phnum: int,
        position_independent: bool,
        align: int,
        stack_prot: int,
        read_implies_exec: bool,
        interpreter: bytes | None = None,
    ) -> None:
        self.data: Final = data
        self.entry: Final = entry
        self.segments: Final = segments
        self.phdr: Final = phdr
        self.phnum: Final = phnum
        self.position_independent: Final = position_independent
        self.align: Final = align
        self.stack_prot: Final = stack_prot
        self.read_implies_exec: Final = read_implies_exec
        self.interpreter: Final = interpreter

    @property
    def start(self) -> int:
        """The lowest page's address."""
        return min(s.start for s in self.segments)

    @property
    def end(self) -> int:
        """The end of the highest page."""
        return max(s.end for s in self.segments)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """What the segments show of the file, in order, ready to be mapped in any number of spaces."""
        from aiopyvm.loader.image import build_pieces

        return build_pieces(self)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the file: what tells that two programs are the same."""
        return hashlib.sha256(self.data).digest()

    @cached_property
    def symbols(self) -> dict[str, int]:
        """Addresses of functions and objects by name, as linked; empty when stripped. Raises LoadError when damaged."""
        return read_symbols(self.data)


def parse_elf(data: bytes) -> ElfImage:
    """Parse an IA-32 program for Linux. Raises LoadError, which says what `data` is instead or what is wrong."""
    key = len(data), data[:: len(data) // _SAMPLE + 1]
    with _lock:
        image = _cache.get(key)
        if image is not None and image.data == data:
            _cache.move_to_end(key)
            return image
    image = _parse(data)
    if len(data) <= _CACHE_BYTES // 4:
        with _lock:
            _cache[key] = image
            while len(_cache) > _CACHE_ENTRIES or sum(size for size, _ in _cache) > _CACHE_BYTES:
                _cache.popitem(last=False)
    return image


_SAMPLE: Final = 1024  # bytes, spread over the file, by which one is looked up: hashing all of a large one takes long
_lock = threading.Lock()
_cache: OrderedDict[tuple[int, bytes], ElfImage] = OrderedDict()


def _parse(data: bytes) -> ElfImage:
    header = _header(data)
    headers = _program_headers(data, header)
    interpreter = next((_interpreter(p, data) for p in headers if p.type == _PT_INTERP), None)
    loads = [p for p in headers if p.type == _PT_LOAD]
    segments = tuple(_segment(p, len(data)) for p in loads if p.memsz)
    if not segments:
        raise LoadError("an ELF program without a PT_LOAD segment: there is nothing to load")
    _check_segments(segments, len(data))
    stack = [p.flags for p in headers if p.type == _PT_GNU_STACK]
    return ElfImage(
        data=data,
        entry=header.entry,
        segments=segments,
        phdr=_phdr_address(header.phoff, headers, segments),
        phnum=len(headers),
        position_independent=header.type == _ET_DYN,
        align=max([PAGE, *(p.align for p in loads if _sane_align(p.align))]),
        stack_prot=PROT_READ | PROT_WRITE | (PROT_EXEC if not stack or stack[-1] & _PF_X else 0),
        read_implies_exec=not stack,
        interpreter=interpreter,
    )


def _interpreter(p: ProgramHeader, data: bytes) -> bytes:
    """The path in PT_INTERP."""
    path = data[p.offset : p.offset + p.filesz] if p.filesz <= PATH_MAX else b""
    if not 2 <= p.filesz <= PATH_MAX or len(path) < p.filesz or path[-1:] != b"\0":
        raise LoadError(f"a damaged ELF file: its interpreter's path, {p.filesz:#x} bytes at {p.offset:#x}, is none")
    return path.split(b"\0")[0]


_OTHER_TYPES: Final = {
    "ET_REL": "a relocatable object file (.o): link it first",
    "ET_CORE": "a core dump, not a program",
    "ET_NONE": "an ELF file of type ET_NONE, not a program",
}


def _header(data: bytes) -> Header:
    """The ELF header of an IA-32 program; LoadError says what it is if it is none."""
    if data[:4] != b"\x7fELF":
        raise LoadError(_not_elf(data))
    if len(data) < _EHDR.size:
        raise LoadError(f"a truncated ELF file: {len(data)} bytes, its header alone has {_EHDR.size}")
    header = Header._make(_EHDR.unpack_from(data))
    if data[4:6] != b"\1\1" or header.machine != _EM_386 or header.type not in (_ET_EXEC, _ET_DYN):
        raise LoadError(_other_file(data))
    return header


def _other_file(data: bytes) -> str:
    """What an ELF file is that is no IA-32 program."""
    bits, order = {1: 32, 2: 64}.get(data[4], 0), {1: "little", 2: "big"}.get(data[5], "")
    if not bits or not order:
        return f"a damaged ELF file: class {data[4]}, data encoding {data[5]}"
    header = _struct(bits, order == "little", "Elf_Ehdr", data[:64].ljust(64, b"\0"), 0)
    machine = header["e_machine"]
    if bits != 32 or order != "little" or machine != "EM_386":
        name = _MACHINES.get(machine, str(machine).removeprefix("EM_"))
        return f"a {bits}-bit {order}-endian ELF file for {name}: only 32-bit x86 (i386) programs run here"
    kind = header["e_type"]
    return _OTHER_TYPES.get(kind, f"an ELF file of the unknown type {kind}, not a program")


_MACHINES: Final = {"EM_X86_64": "x86-64", "EM_386": "i386", "EM_AARCH64": "AArch64", "EM_RISCV": "RISC-V"}


def _not_elf(data: bytes) -> str:
    if not data:
        return "an empty file, not an ELF program"
    if data[:2] == b"#!":
        line = data[:80].splitlines()[0].decode(errors="replace")
        return f"a script ({line!r}), not an ELF program"
    if data[:2] == b"MZ":
        return "a DOS or Windows program (MZ), not an ELF program"
    return f"not an ELF program: it starts with {data[:4]!r}"


def _program_headers(data: bytes, header: Header) -> list[ProgramHeader]:
    count, size, offset = header.phnum, header.phentsize, header.phoff
    if not count:
        raise LoadError("an ELF file without program headers: there is nothing to load")
    if size != _PHDR_SIZE:
        raise LoadError(f"a damaged ELF file: program headers of {size} bytes, not {_PHDR_SIZE}")
    if count > _MAX_PHDRS:
        raise LoadError(f"a damaged ELF file: {count} program headers, more than {_MAX_PHDRS}")
    if offset + count * size > len(data):
        end = offset + count * size
        raise LoadError(f"a truncated ELF file: its program headers end at {end:#x} of {len(data):#x} bytes")
    rows = _PHDR.iter_unpack(memoryview(data)[offset : offset + count * size])
    return [ProgramHeader._make(row) for row in rows]


def _segment(p: ProgramHeader, file_size: int) -> Segment:
    _, offset, vaddr, _, filesz, memsz, flags, _ = p
    what = f"segment at {vaddr:#x}"
    if filesz > memsz:
        raise LoadError(f"a damaged ELF file: {what} has {filesz:#x} bytes in the file, {memsz:#x} in memory")
    if offset + filesz > file_size:
        raise LoadError(f"a truncated ELF file: {what} ends at {offset + filesz:#x} of {file_size:#x} bytes")
    if page_up(vaddr + memsz) > TASK_SIZE:
        raise LoadError(f"{what} ends at {vaddr + memsz:#x}, beyond a program's addresses ({TASK_SIZE:#x})")
    if filesz and (vaddr - offset) % PAGE:
        raise LoadError(f"a damaged ELF file: {what} and its file offset {offset:#x} differ within a page")
    return Segment(vaddr, offset, filesz, memsz, _PROT[flags & (_PF_R | _PF_W | _PF_X)])


def _check_segments(segments: tuple[Segment, ...], file_size: int) -> None:
    in_order = sorted(segments, key=lambda s: s.vaddr)
    for a, b in itertools.pairwise(in_order):
        if a.vaddr + a.memsz > b.vaddr:
            raise LoadError(f"a damaged ELF file: the segments at {a.vaddr:#x} and {b.vaddr:#x} overlap")
    total = sum(s.file_end - s.start for s in segments)
    if total > 4 * file_size + (4 << 20):
        raise LoadError(f"a damaged ELF file: its segments show {total:#x} bytes of a file of {file_size:#x}")


def _phdr_address(offset: int, headers: list[ProgramHeader], segments: tuple[Segment, ...]) -> int:
    for p in headers:
        if p.type == _PT_PHDR:
            return p.vaddr
    for s in segments:
        if s.offset <= offset < s.offset + s.filesz:
            return offset - s.offset + s.vaddr
    return 0


def _sane_align(align: int) -> bool:
    return PAGE <= align <= 1 << 24 and align & (align - 1) == 0


def _struct(bits: int, little: bool, name: str, data: bytes, offset: int) -> Any:
    """The structure `name` of elf(5) at `offset`, which lies wholly in `data`."""
    structs, struct_parse = _structs(bits, little)
    return struct_parse(getattr(structs, name), io.BytesIO(data), offset)


@cache
def _structs(bits: int, little: bool) -> tuple[Any, Any]:
    from elftools.common.utils import struct_parse
    from elftools.elf.structs import ELFStructs

    structs = ELFStructs(little_endian=little, elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    return structs, struct_parse

"""The vdso: a small shared library that the kernel maps into every ELF program (vdso(7)).

It has the way into the kernel (`__kernel_vsyscall`, AT_SYSINFO) and the ways back from signal handlers, which C
libraries, unwinders and debuggers find by name and version as in any library, and functions that tell the time
(`vdsoclocks.py`). The whole file is one page, built once; the page below it is the machine's page of clocks.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Final, NamedTuple

from aiopyvm.abi.sigframe import RETCODE, RT_RETCODE_BYTES
from aiopyvm.loader.vdsoclocks import NOW, NOW_FRAME, ROUTINES
from aiopyvm.mem.backing import Backing, ImageBacking
from aiopyvm.mem.layout import PAGE, PROT_EXEC, PROT_READ
from aiopyvm.mem.space import AddressSpace

SONAME: Final = "linux-gate.so.1"
VVAR: Final = "[vvar]"  # the page of clocks, in /proc/pid/maps
_TEXT: Final = 0x800
VSYSCALL: Final = _TEXT  # offsets in the page
SIGRETURN: Final = _TEXT + 0x10
RT_SIGRETURN: Final = _TEXT + 0x20


class _Function(NamedTuple):
    name: str
    offset: int
    code: bytes
    version: int = 2  # the number of one of _VERSIONS


_FUNCTIONS: Final = (
    _Function("__kernel_vsyscall", VSYSCALL, bytes.fromhex("cd80 c3")),  # int 0x80; ret
    _Function("__kernel_sigreturn", SIGRETURN, RETCODE),
    _Function("__kernel_rt_sigreturn", RT_SIGRETURN, RT_RETCODE_BYTES),
    *(_Function(r.name, r.offset, r.code, 3) for r in ROUTINES if r.name.startswith("__vdso_")),
)
_VERSIONS: Final = {2: "LINUX_2.5", 3: "LINUX_2.6"}

# elf(5)
_EHDR_SIZE, _PHDR_SIZE, _SHDR_SIZE, _SYM_SIZE = 52, 32, 40, 16
_ET_DYN, _EM_386 = 3, 3
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_EH_FRAME = 1, 2, 0x6474E550
_PF_R, _PF_RX = 4, 5
_SHT_PROGBITS, _SHT_STRTAB, _SHT_HASH, _SHT_DYNAMIC, _SHT_DYNSYM = 1, 3, 5, 6, 11
_SHT_VERDEF, _SHT_VERSYM = 0x6FFFFFFD, 0x6FFFFFFF
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_STB_GLOBAL_FUNC, _STB_GLOBAL_OBJECT, _SHN_ABS = 0x12, 0x11, 0xFFF1
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 4, 5, 6, 10, 11, 14
_DT_VERSYM, _DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
_VER_FLG_BASE: Final = 1


class _Section(NamedTuple):
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int = 0
    info: int = 0
    align: int = 4
    entry_size: int = 0


class _Strings:
    """A string table."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        """Where `text` stands."""
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


@cache
def vdso() -> ImageBacking:
    """The library's page, to be mapped readable and executable."""
    return ImageBacking(build_vdso())


def map_vdso(space: AddressSpace, clocks: Backing | None) -> int:
    """Map the library, and the page of clocks below it, where there is room; the library's address.

    `clocks` is as `vdsoclocks` has it; None: it is empty, and programs make system calls. Raises AddressSpaceFull.
    """
    at = space.find_free(2 * PAGE)
    space.map(at, PAGE, PROT_READ, clocks, shared=clocks is not None, name=VVAR)
    space.map(at + PAGE, PAGE, PROT_READ | PROT_EXEC, vdso(), name="[vdso]")
    return at + PAGE


def build_vdso() -> bytes:
    """The library as a file of PAGE bytes."""
    page = bytearray(PAGE)
    strings = _Strings()
    symbols, versions = _symbols(strings)
    definitions = _version_definitions(strings)
    at = _EHDR_SIZE + 3 * _PHDR_SIZE
    sections: list[_Section] = []

    def put(name: str, type_: int, data: bytes, **more: int) -> int:
        nonlocal at
        offset = at
        page[offset : offset + len(data)] = data
        sections.append(_Section(name, type_, _SHF_ALLOC, offset, len(data), **more))
        at = (offset + len(data) + 3) & -4
        return offset

    count = len(symbols) // _SYM_SIZE  # section numbers: 1 .hash, 2 .dynsym, 3 .dynstr
    hash_at = put(".hash", _SHT_HASH, _hash_table(count), link=2, entry_size=4)
    symbols_at = put(".dynsym", _SHT_DYNSYM, symbols, link=3, info=1, entry_size=_SYM_SIZE)
    strings_at = put(".dynstr", _SHT_STRTAB, strings.data, align=1)
    versions_at = put(".gnu.version", _SHT_VERSYM, versions, link=2, align=2, entry_size=2)
    definitions_at = put(".gnu.version_d", _SHT_VERDEF, definitions, link=3, info=1 + len(_VERSIONS))
    soname = strings.data.index(SONAME.encode())
    entries = (
        (_DT_SONAME, soname), (_DT_HASH, hash_at), (_DT_STRTAB, strings_at), (_DT_SYMTAB, symbols_at),
        (_DT_STRSZ, len(strings.data)), (_DT_SYMENT, _SYM_SIZE), (_DT_VERDEF, definitions_at),
        (_DT_VERDEFNUM, 1 + len(_VERSIONS)), (_DT_VERSYM, versions_at), (_DT_NULL, 0),
    )  # fmt: skip
    dynamic_at = put(".dynamic", _SHT_DYNAMIC, b"".join(struct.pack("<II", *e) for e in entries), link=3, entry_size=8)
    header_at = at  # .eh_frame_hdr, of which .eh_frame follows
    put(".eh_frame_hdr", _SHT_PROGBITS, _unwind_header(header_at))
    unwind_at = put(".eh_frame", _SHT_PROGBITS, _unwind_table(header_at + _UNWIND_HEADER_SIZE))
    assert at <= _TEXT
    assert unwind_at == header_at + _UNWIND_HEADER_SIZE
    end = _put_text(page, sections)
    section_headers_at = _put_section_headers(page, sections, end)
    program_headers = (
        (_PT_LOAD, 0, 0, 0, end, end, _PF_RX, PAGE),
        (_PT_DYNAMIC, dynamic_at, dynamic_at, dynamic_at, 8 * len(entries), 8 * len(entries), _PF_R, 4),
        (_PT_GNU_EH_FRAME, header_at, header_at, header_at, _UNWIND_HEADER_SIZE, _UNWIND_HEADER_SIZE, _PF_R, 4),
    )
    page[:16] = b"\x7fELF\1\1\1".ljust(16, b"\0")
    struct.pack_into(
        "<2H5I6H", page, 16, _ET_DYN, _EM_386, 1, VSYSCALL, _EHDR_SIZE, section_headers_at, 0,
        _EHDR_SIZE, _PHDR_SIZE, len(program_headers), _SHDR_SIZE, len(sections) + 2, len(sections) + 1,
    )  # fmt: skip
    for n, row in enumerate(program_headers):
        struct.pack_into("<8I", page, _EHDR_SIZE + n * _PHDR_SIZE, *row)
    return bytes(page)


_TEXT_SECTION: Final = 9  # its number


def _symbols(strings: _Strings) -> tuple[bytes, bytes]:
    """.dynsym and .gnu.version."""
    rows = [bytes(_SYM_SIZE)]
    versions = [0]
    for f in _FUNCTIONS:
        name = strings.add(f.name)
        rows.append(struct.pack("<IIIBBH", name, f.offset, len(f.code), _STB_GLOBAL_FUNC, 0, _TEXT_SECTION))
        versions.append(f.version)
    for number, version in _VERSIONS.items():
        rows.append(struct.pack("<IIIBBH", strings.add(version), 0, 0, _STB_GLOBAL_OBJECT, 0, _SHN_ABS))
        versions.append(number)
    return b"".join(rows), struct.pack(f"<{len(versions)}H", *versions)


def _version_definitions(strings: _Strings) -> bytes:
    """.gnu.version_d: the library's own name, then the versions; each an Elf32_Verdef and its Elf32_Verdaux."""
    rows = [(_VER_FLG_BASE, 1, SONAME, strings.add(SONAME))]
    rows += [(0, number, name, strings.data.index(name.encode())) for number, name in _VERSIONS.items()]
    return b"".join(
        struct.pack("<4H3I2I", 1, flags, index, 1, _elf_hash(name), 20, 28 if index < len(rows) else 0, at, 0)
        for flags, index, name, at in rows
    )


def _elf_hash(name: str) -> int:
    """The hash of the System V ABI, "Hash Table"."""
    h = 0
    for c in name.encode():
        h = (h << 4) + c
        high = h & 0xF0000000
        h = (h ^ high >> 24) & ~high
    return h


def _hash_table(count: int) -> bytes:
    """.hash with one bucket, whose chain is all symbols."""
    return struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0)


# --- unwinding (LSB, "Exception Frames") ------------------------------------------------------------------------------

_FRAMES: Final = (  # start, length, DWARF instructions: the return address is at [esp] but between pushes and pops
    (VSYSCALL, len(_FUNCTIONS[0].code), b""),
    (ROUTINES[0].offset, NOW.offset - ROUTINES[0].offset, b""),
    (NOW.offset, len(NOW.code), NOW_FRAME),
)
_UNWIND_HEADER_SIZE: Final = 12 + 8 * len(_FRAMES)
_CIE: Final = bytes.fromhex("01 7a5200 01 7c 08 01 1b 0c0404 8801 0000")
"""Version 1, "zR", code and data alignment 1 and -4, return address in column 8; pointers relative, 32 bits;
DW_CFA_def_cfa esp+4, DW_CFA_offset of the return address at cfa-4, DW_CFA_nop."""


def _unwind_header(at: int) -> bytes:
    """.eh_frame_hdr at `at`: a table of the functions."""
    table = at + _UNWIND_HEADER_SIZE
    rows = b""
    description = table + len(_cie())
    for start, _, instructions in _FRAMES:
        rows += struct.pack("<ii", start - at, description - at)
        description += len(_description(0, 0, 0, instructions))
    return struct.pack("<4BiI", 1, 0x1B, 0x03, 0x3B, table - at - 4, len(_FRAMES)) + rows


def _unwind_table(at: int) -> bytes:
    data = _cie()
    for start, length, instructions in _FRAMES:
        data += _description(len(data), start - (at + len(data) + 8), length, instructions)
    return data + bytes(4)


def _description(back: int, start: int, length: int, instructions: bytes) -> bytes:
    """An FDE, `back` bytes behind the CIE; `start` is relative to where it is told."""
    body = struct.pack("<IiIB", back + 4, start, length, 0) + instructions
    body = body.ljust(-(-len(body) // 4) * 4, b"\0")
    return struct.pack("<I", len(body)) + body


def _cie() -> bytes:
    body = bytes(4) + _CIE.ljust(-(-len(_CIE) // 4) * 4, b"\0")
    return struct.pack("<I", len(body)) + body


# --- what comes last --------------------------------------------------------------------------------------------------


def _put_text(page: bytearray, sections: list[_Section]) -> int:
    assert len(sections) + 1 == _TEXT_SECTION
    for offset, code in [(f.offset, f.code) for f in _FUNCTIONS] + [(r.offset, r.code) for r in ROUTINES]:
        page[offset : offset + len(code)] = code
    end = NOW.offset + len(NOW.code)
    flags = _SHF_ALLOC | _SHF_EXECINSTR
    sections.append(_Section(".text", _SHT_PROGBITS, flags, _TEXT, end - _TEXT, align=16))
    return end


def _put_section_headers(page: bytearray, sections: list[_Section], at: int) -> int:
    """Write .shstrtab at `at` and the table of sections behind it; where that is."""
    names = _Strings()
    rows = [bytes(_SHDR_SIZE)]
    for s in sections:
        name = names.add(s.name)
        row = (name, s.type, s.flags, s.offset, s.offset, s.size, s.link, s.info, s.align, s.entry_size)
        rows.append(struct.pack("<10I", *row))
    name = names.add(".shstrtab")
    rows.append(struct.pack("<10I", name, _SHT_STRTAB, 0, 0, at, len(names.data), 0, 0, 1, 0))
    page[at : at + len(names.data)] = names.data
    table = (at + len(names.data) + 3) & -4
    page[table : table + len(rows) * _SHDR_SIZE] = b"".join(rows)
    assert len(page) == PAGE
    return table

"""The symbol table of an ELF file, for whoever debugs it."""

from __future__ import annotations

import io
import struct
from typing import Final

from aiopyvm.errors import LoadError

_SYMBOL: Final = struct.Struct("<IIIBBH")  # elf(5), Elf32_Sym: name, value, size, info, other, shndx
_KINDS: Final = (0, 1, 2)  # STT_NOTYPE, STT_OBJECT, STT_FUNC
_GLOBAL: Final = (1, 2)  # STB_GLOBAL, STB_WEAK


def read_symbols(data: bytes) -> dict[str, int]:
    """Defined symbols by name; a global one wins over a local of the same name. Raises LoadError when damaged."""
    from elftools.elf.elffile import ELFFile

    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
        if section is None:
            return {}
        table, names = section.header, section.stringtable.header  # type: ignore[attr-defined]
    except Exception as damage:  # pyelftools raises of many kinds on hostile files
        raise LoadError(f"a damaged ELF file: its symbol table cannot be read ({damage})") from None
    strings = _part(data, names["sh_offset"], names["sh_size"])
    entries = _part(data, table["sh_offset"], table["sh_size"])
    return _collect(entries[: len(entries) // _SYMBOL.size * _SYMBOL.size], strings)


def _collect(entries: bytes, strings: bytes) -> dict[str, int]:
    symbols: dict[str, int] = {}
    strong: set[str] = set()
    for name, value, _, info, _, section in _SYMBOL.iter_unpack(entries):
        if not name or not section or info & 15 not in _KINDS:
            continue
        text = strings[name : strings.find(b"\0", name)].decode(errors="replace")
        if info >> 4 in _GLOBAL:
            strong.add(text)
        elif text in strong:
            continue
        symbols[text] = value
    return symbols


def _part(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise LoadError(f"a truncated ELF file: its symbol table ends at {offset + size:#x} of {len(data):#x} bytes")
    return data[offset : offset + size]

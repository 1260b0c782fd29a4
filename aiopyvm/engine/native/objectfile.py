"""Reads relocatable x86-64 ELF objects and puts them into the code arena.

What an object may hold is what our generated text becomes in LLVM's "pic", "small" form: code and constants, which
refer to one another, to `code_base` and to names of earlier objects by distance (elf(5), System V ABI AMD64,
"Relocation"). Data and functions of other objects have to be declared hidden, or LLVM reaches for a table of addresses.
All sections that are loaded stand in one run of bytes, executable and read-only. Writable data, absolute addresses and
calls of a library are refused, as is a file that does not hold together: `BadObjectError`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from aiopyvm.engine.native.codearena import CodeArena, code_arena
from aiopyvm.engine.native.traplayout import TRAP_SIZE, TRAPS

CODE_BASE: Final = "code_base"

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_TRAP: Final = struct.Struct("<ii")
_RELA: Final = struct.Struct("<QQq")
_INT32, _INT64 = struct.Struct("<i"), struct.Struct("<q")
_IDENT: Final = b"\x7fELF\x02\x01\x01"
_ET_REL, _EM_X86_64 = 1, 62
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL, _SHT_SYMTAB_SHNDX = 1, 2, 4, 8, 9, 18
_SHF_WRITE, _SHF_ALLOC, _SHF_TLS = 1, 2, 0x400
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_R_PC32, _R_PLT32, _R_PC64 = 2, 4, 24
_R_NAMES: Final = {1: "R_X86_64_64", 9: "R_X86_64_GOTPCREL", 10: "R_X86_64_32", 11: "R_X86_64_32S"} | {
    41: "R_X86_64_GOTPCRELX",
    42: "R_X86_64_REX_GOTPCRELX",
}
_DROPPED: Final = (".eh_frame", ".note")  # unwind tables and notes: nobody looks there
_FILL: Final = b"\xcc"  # between sections
_MAX_ALIGN: Final = 4096


class BadObjectError(ValueError):
    """An object file that is damaged, or holds what is not supported; the message says what."""


class Image(NamedTuple):
    """A linked object: bytes for one place of the arena, and the distances from `code_base` of what it defines."""

    at: int
    code: bytes
    symbols: dict[str, int]
    sections: dict[str, tuple[int, int]]  # distance and size of each section that is loaded


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class ObjectFile:
    """An object, checked and laid out, but not linked. Raises BadObjectError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            self._sections = self._read_sections()
            self._places, self.size = self._lay_out()
            self._read_symbols()
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise BadObjectError(f"a damaged object file: {error}") from None

    def link(self, at: int, symbols: Mapping[str, int]) -> Image:
        """Return the object for place `at`. `symbols`: distances from `code_base`, by name, of what it may refer to.

        Raises BadObjectError: a name that is not there, a relocation that is not by distance or does not fit.
        """
        code = bytearray(_FILL) * self.size
        sections = {}
        for number, place in self._places.items():
            section = self._sections[number]
            code[place : place + section.size] = self._content(section)
            sections[section.name] = (at + place, section.size)
        values = self._values(at, symbols)
        for section in self._sections:
            if section.kind == _SHT_RELA and section.info in self._places:
                self._relocate(code, section, at, values)
        exported = {name: at + self._places[home] + value for name, home, value in self._exports}
        return Image(at, bytes(code), exported, sections)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read_sections(self) -> list[_Section]:
        ident, kind, machine, *_, table, _, _, _, _, entry, count, names = _HEADER.unpack_from(self._data)
        if not ident.startswith(_IDENT) or (kind, machine) != (_ET_REL, _EM_X86_64):
            raise BadObjectError("not a relocatable x86-64 ELF object")
        if entry != _SECTION.size or names >= count or table + entry * count > len(self._data):
            raise BadObjectError("the section table is damaged")
        raw = list(_SECTION.iter_unpack(self._data[table : table + entry * count]))
        strings = self._span(raw[names][4], raw[names][5])
        return [self._section(strings, *fields) for fields in raw]

    def _section(
        self, strings: bytes, name: int, kind: int, flags: int, address: int, offset: int, size: int, link: int,
        info: int, align: int, entry: int,
    ) -> _Section:  # fmt: skip
        if kind != _SHT_NOBITS:
            self._span(offset, size)
        if kind in (_SHT_SYMTAB_SHNDX, _SHT_REL):
            raise BadObjectError(f"section type {kind} is not supported")
        return _Section(_string(strings, name), kind, flags, offset, size, link, info, align)

    def _span(self, offset: int, size: int) -> bytes:
        if offset + size > len(self._data):
            raise BadObjectError(f"{size} bytes at {offset} are past the file's end, at {len(self._data)}")
        return self._data[offset : offset + size]

    def _content(self, section: _Section) -> bytes:
        return self._data[section.offset : section.offset + section.size]

    def _lay_out(self) -> tuple[dict[int, int], int]:
        places, end = {}, 0
        for number, section in enumerate(self._sections):
            if not section.flags & _SHF_ALLOC or not section.size or section.name.startswith(_DROPPED):
                continue
            if section.kind != _SHT_PROGBITS or section.flags & (_SHF_WRITE | _SHF_TLS):
                raise BadObjectError(f"section {section.name} is not code or constants")
            align = max(section.align, 16)
            if align & (align - 1) or align > _MAX_ALIGN:
                raise BadObjectError(f"section {section.name} is aligned to {section.align}")
            end = -(-end // align) * align
            places[number] = end
            end += section.size
        if not places:
            raise BadObjectError("the object has no code")
        return places, end

    def _read_symbols(self) -> None:
        """Sort the symbol table into what is here (`_inner`), what is asked for (`_outer`) and what is shown."""
        self._inner: list[tuple[int, int]] = []  # section, value; (0, 0): not here
        self._outer: dict[int, str] = {}
        self._exports: list[tuple[str, int, int]] = []
        self._table = -1
        tables = [n for n, section in enumerate(self._sections) if section.kind == _SHT_SYMTAB]
        if len(tables) > 1:
            raise BadObjectError("more than one symbol table")
        for number in tables:
            self._table = number
            table = self._sections[number]
            strings = self._content(self._sections[table.link])
            for fields in _SYMBOL.iter_unpack(self._content(table)):
                self._add_symbol(strings, *fields)

    def _add_symbol(self, strings: bytes, name: int, info: int, other: int, home: int, value: int, size: int) -> None:
        if home in self._places:
            if value > self._sections[home].size:
                raise BadObjectError(f"a symbol at {value:#x} is outside of section {self._sections[home].name}")
            if info >> 4 and name:
                self._exports.append((_string(strings, name), home, value))
            self._inner.append((home, value))
            return
        if home == _SHN_UNDEF or home >= _SHN_LORESERVE:
            self._outer[len(self._inner)] = _string(strings, name)
        self._inner.append((0, 0))

    # --- linking ----------------------------------------------------------------------------------------------------

    def _values(self, at: int, symbols: Mapping[str, int]) -> list[int | None]:
        places = self._places
        values: list[int | None] = [at + places[home] + value if home else None for home, value in self._inner]
        for number, name in self._outer.items():
            values[number] = 0 if name == CODE_BASE else symbols.get(name)
        return values

    def _relocate(self, code: bytearray, table: _Section, at: int, values: list[int | None]) -> None:
        section, place = self._sections[table.info], self._places[table.info]
        if table.link != self._table or table.size % _RELA.size:
            raise BadObjectError(f"the relocations of {section.name} are damaged")
        store = _INT32.pack_into
        for offset, info, addend in _RELA.iter_unpack(self._content(table)):
            number, kind = info >> 32, info & 0xFFFFFFFF
            value = values[number] if number < len(values) else None
            if value is None:
                raise BadObjectError(self._unknown(number))
            if offset + 4 > section.size:
                raise BadObjectError(f"a relocation at {offset:#x} is outside of section {section.name}")
            distance = value + addend - (at + place + offset)
            if kind in (_R_PC32, _R_PLT32):
                if not -0x80000000 <= distance <= 0x7FFFFFFF:
                    raise BadObjectError(f"a distance of {distance:#x} does not fit where it is to stand")
                store(code, place + offset, distance)
            elif kind == _R_PC64 and offset + 8 <= section.size and -(1 << 63) <= distance < 1 << 63:
                _INT64.pack_into(code, place + offset, distance)
            else:
                name = _R_NAMES.get(kind, f"type {kind}")
                raise BadObjectError(f"a relocation is not by distance: {name} at {section.name}+{offset:#x}")

    def _unknown(self, number: int) -> str:
        name = self._outer.get(number)
        return f"the object needs {name!r}, which nobody defines" if name else f"there is no symbol {number}"


class LoadedObject:
    """An object in the arena. `symbols`: distance from `code_base` of what it defines, by name."""

    __slots__ = ("_arena", "at", "sections", "size", "symbols", "traps")

    def __init__(self, image: Image, arena: CodeArena) -> None:
        self._arena = arena
        self.at = image.at
        self.size = len(image.code)
        self.symbols = image.symbols
        self.sections = image.sections
        self.traps = image.sections.get(TRAPS)
        if self.traps is not None and arena.traps is not None:
            arena.traps.add((self.at, self.size), self.traps)

    def address(self, name: str) -> int:
        """Host address of a symbol. Raises KeyError."""
        return self._arena.base + self.symbols[name]

    def free(self) -> None:
        """Give its pages back. Nothing may run there, or come back to it; once only, and not what was placed."""
        if self.traps is not None and self._arena.traps is not None:
            self._arena.traps.remove((self.at, self.size))
        self._arena.free(self.at, self.size)


def load(data: bytes, symbols: Mapping[str, int], arena: CodeArena | None = None) -> LoadedObject:
    """Link an object against `symbols` (distances from `code_base`) and put it into the arena, ready to run.

    Raises BadObjectError, HostRefusedError (no room), EngineUnavailableError (no executable memory).
    """
    found = ObjectFile(data)
    home = arena if arena is not None else code_arena()
    at = home.allocate(found.size)
    try:
        image = found.link(at, symbols)
        check_traps(image)
        home.fill(at, image.code)
    except BaseException:
        home.free(at, found.size)
        raise
    return LoadedObject(image, home)


def check_traps(image: Image) -> None:
    """Raises BadObjectError for a table of traps whose places are not in order, or not inside of the object."""
    at, size = image.sections.get(TRAPS, (image.at, 0))
    if size % TRAP_SIZE:
        raise BadObjectError("the table of traps is cut off")
    before = -1
    for offset in range(at - image.at, at - image.at + size, TRAP_SIZE):
        place, way_out = _TRAP.unpack_from(image.code, offset)
        place, way_out = place + offset, way_out + offset + 4
        if not before < place < len(image.code) or not 0 <= way_out < len(image.code):
            raise BadObjectError(f"a trap at {place:#x}, which leads to {way_out:#x}, is out of place")
        before = place


def place(image: Image, arena: CodeArena | None = None) -> LoadedObject:
    """Put an image that was linked for a place of the arena's fixed part there, ready to run.

    Raises ValueError when the place is taken, HostRefusedError, EngineUnavailableError.
    """
    home = arena if arena is not None else code_arena()
    home.place(image.at, image.code)
    return LoadedObject(image, home)


def _string(strings: bytes, start: int) -> str:
    end = strings.find(b"\0", start)
    if end < 0:
        raise BadObjectError("a name has no end")
    return strings[start:end].decode()

"""ELF files made by hand, right and wrong."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PT_LOAD, PT_INTERP, PT_PHDR, PT_GNU_STACK = 1, 3, 6, 0x6474E551
R, W, X = 4, 2, 1
EHDR, PHDR = struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<IIIIIIII")


@dataclass
class Ph:
    """A program header; `filesz` and `memsz` None: as long as `data`."""

    type: int = PT_LOAD
    vaddr: int = 0x8048000
    data: bytes = b""
    flags: int = R | X
    filesz: int | None = None
    memsz: int | None = None
    offset: int | None = None
    align: int = 4096


@dataclass
class Elf:
    """`build()` gives the file: header, program headers, then the data of each, page-congruent."""

    phs: list[Ph] = field(default_factory=list)
    entry: int = 0x8048000
    type: int = 2
    machine: int = 3
    ident: bytes = b"\x7fELF\1\1\1".ljust(16, b"\0")
    phentsize: int = 32
    phnum: int | None = None
    phoff: int = 52

    def build(self) -> bytes:
        out = bytearray(52 + 32 * len(self.phs))
        for i, ph in enumerate(self.phs):
            offset = ph.offset
            if offset is None:
                offset = len(out) + (ph.vaddr - len(out)) % 4096
                out += bytes(offset - len(out)) + ph.data
            filesz = len(ph.data) if ph.filesz is None else ph.filesz
            memsz = filesz if ph.memsz is None else ph.memsz
            sizes = (filesz & 0xFFFFFFFF, memsz & 0xFFFFFFFF)
            PHDR.pack_into(out, 52 + 32 * i, ph.type, offset, ph.vaddr, ph.vaddr, *sizes, ph.flags, ph.align)
        phnum = len(self.phs) if self.phnum is None else self.phnum
        what = (self.ident, self.type, self.machine, 1, self.entry)
        EHDR.pack_into(out, 0, *what, self.phoff, 0, 0, 52, self.phentsize, phnum, 40, 0, 0)
        return bytes(out)


def program(code: bytes, **changes: object) -> bytes:
    """A program of one segment."""
    elf = Elf([Ph(data=code), Ph(type=PT_GNU_STACK, vaddr=0, flags=R | W, offset=0)])
    for name, value in changes.items():
        setattr(elf, name, value)
    return elf.build()

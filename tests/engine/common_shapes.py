"""Writes aiopyvm/engine/native/commonshapes.py: `python -m tests.engine.common_shapes [ELF FILE...]`.

Shapes of all instructions that stand in the code of the repository's guests, of the commonest ones of further files (a
static busybox has most of what compilers emit), and of a few more that no file needs to have. What every row of the
table needs is in `rowshapes.py`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import iced_x86
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from aiopyvm.engine.native import commonshapes
from aiopyvm.engine.native.handlers import Shape, Shapes
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn
from aiopyvm.loader.vdsoclocks import ROUTINES

GUESTS = Path(__file__).parents[2] / "guests" / "bin"
MOST = 350  # shapes of further files
_STACK = 4  # ST(i) up to this one
_HEAD = '''"""Instructions whose shapes have a handler that is built ahead of time: one of each shape, as bytes.

Made by tests/engine/common_shapes.py; the commonest come first.
"""

from typing import Final

SHAPES: Final = """
'''


def guests() -> list[Path]:
    """The repository's guests that are ELF files, but for one that handles registers as no program does."""
    return [path for path in sorted(GUESTS.iterdir()) if path.read_bytes()[:4] == b"\x7fELF" and path.name != "drill"]


def instructions(path: Path) -> Iterator[Insn]:
    """Decode the executable sections of an ELF file from end to end, without what the instruction table lacks."""
    with path.open("rb") as file:
        sections = [s.data() for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR]
    for data in sections:
        yield from decoded(data)


def decoded(data: bytes) -> Iterator[Insn]:
    """Decode code from end to end, without what the instruction table lacks."""
    at = 0
    while at < len(data):
        code = data[at : at + MAX_LENGTH]
        try:
            insn = decode(code)
        except (DecodeFault, NeedMore):
            unknown = iced_x86.Decoder(32, code).decode()  # its length: SSE code is no mess of other instructions
            at += 1 if unknown.is_invalid else unknown.len
        else:
            at += insn.length
            yield insn


def shapes(paths: list[Path], most: int | None = None) -> list[bytes]:
    """The shortest instruction of each shape, the commonest first."""
    found, counts, shortest = Shapes(1 << 16), Counter[Shape](), dict[Shape, bytes]()
    known: dict[bytes, Shape] = {}
    for path in paths:
        for insn in instructions(path):
            shape = known.get(insn.code)
            if shape is None:
                shape = known[insn.code] = found.find(insn)
            counts[shape] += 1
            if shape not in shortest or len(insn.code) < len(shortest[shape]):
                shortest[shape] = insn.code
    return [shortest[shape] for shape, _ in counts.most_common(most)]


def special() -> list[bytes]:
    """No operations of every length that compilers use, marks of indirect branches' targets, FS and GS, CPUID, what C
    libraries' memset, memchr, strspn and strcspn have, and the vdso's clocks."""
    codes = "90 6690 0f1f00 0f1f4000 0f1f440000 660f1f440000 0f1f8000000000 0f1f840000000000 660f1f840000000000"
    codes += " f30f1efb f390 8ee8 8ee0 8ce8 8ce0 0fa2 660f70c900 660f70c94e 660f3a63c202 660f3a63c212"
    return [bytes.fromhex(code) for code in codes.split()] + [insn.code for r in ROUTINES for insn in decoded(r.code)]


def x87() -> list[bytes]:
    """Arithmetic, loads, stores and comparisons with each ST(i); what has no operand."""
    bases = [(0xD8, 0xC0 + 8 * n) for n in range(8)] + [(0xD9, 0xC0), (0xD9, 0xC8)]
    bases += [(byte, 0xC0 + 8 * n) for byte in (0xDC, 0xDE) for n in (0, 1, 4, 5, 6, 7)]
    bases += [(0xDD, 0xD0), (0xDD, 0xD8), (0xDD, 0xE0), (0xDD, 0xE8)]
    bases += [(byte, second) for byte in (0xDB, 0xDF) for second in (0xE8, 0xF0)]
    forms = [bytes((byte, second + i)) for byte, second in bases for i in range(_STACK)]
    alone = "d9e0 d9e1 d9e4 d9e5 d9e8 d9e9 d9ea d9eb d9ec d9ed d9ee d9fa d9fc d9fd d9f6 d9f7 dbe2 dbe3 dfe0 dae9 ded9"
    return forms + [bytes.fromhex(code) for code in alone.split()]


def main(arguments: list[str]) -> None:
    """Write the module."""
    unique: dict[str, bytes] = {}
    files = shapes([Path(name) for name in arguments], MOST)
    for code in [*shapes(guests()), *files, *special(), *x87()]:
        unique.setdefault(Shape(decode(code)).name, code)
    lines = [""]
    for code in unique.values():
        if len(lines[-1]) + 2 * len(code) >= 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + code.hex()
    Path(commonshapes.__file__).write_text(_HEAD + "\n".join(lines) + '\n"""\n')


if __name__ == "__main__":
    main(sys.argv[1:])

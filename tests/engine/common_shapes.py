"""Writes aiopyvm/engine/native/commonshapes.py: `python -m tests.engine.common_shapes [ELF FILE...]`.

Shapes of all instructions that stand in the code of the repository's guests and of further files (a static busybox has
most of what compilers emit), and of some that no file needs to have.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from aiopyvm.engine.native import commonshapes
from aiopyvm.engine.native.handlers import Shape, Shapes
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn

GUESTS = Path(__file__).parents[2] / "guests" / "bin"
MOST = 1200
_STACK = 6  # ST(i) up to this one
_HEAD = '''"""Instructions whose shapes have a handler that is built ahead of time: one of each shape, as bytes.

Made by tests/engine/common_shapes.py; the commonest come first.
"""

from typing import Final

SHAPES: Final = """
'''


def instructions(path: Path) -> Iterator[Insn]:
    """Decode the executable sections of an ELF file from end to end; what is no instruction is skipped."""
    with path.open("rb") as file:
        sections = [s.data() for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR]
    for data in sections:
        at = 0
        while at < len(data):
            try:
                insn = decode(data[at : at + MAX_LENGTH])
            except (DecodeFault, NeedMore):
                at += 1
            else:
                at += insn.length
                yield insn


def shapes(paths: list[Path]) -> list[bytes]:
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
    return [shortest[shape] for shape, _ in counts.most_common(MOST)]


def conditional() -> list[bytes]:
    """Every condition of the commonest forms of Jcc, SETcc and CMOVcc."""
    forms = [bytes((0x70 + n, 0)) for n in range(16)]
    for n in range(16):
        forms += [bytes((0x0F, 0x80 + n)) + bytes(4), bytes((0x0F, 0x90 + n, 0xC0)), bytes((0x0F, 0x40 + n, 0xC1))]
    return forms


def x87() -> list[bytes]:
    """Arithmetic, loads, stores and comparisons with each ST(i), and with the usual addresses; what has no operand."""
    bases = [(0xD8, 0xC0 + 8 * n) for n in (0, 1, 4, 5, 6, 7)] + [(0xD9, 0xC0), (0xD9, 0xC8)]
    bases += [(byte, 0xC0 + 8 * n) for byte in (0xDC, 0xDE) for n in (0, 1, 4, 5, 6, 7)]
    bases += [(0xDD, 0xD0), (0xDD, 0xD8), (0xDD, 0xE0), (0xDD, 0xE8)]
    bases += [(byte, second) for byte in (0xDB, 0xDF) for second in (0xE8, 0xF0)]
    forms = [bytes((byte, second + i)) for byte, second in bases for i in range(_STACK)]
    alone = "d9e0 d9e1 d9e4 d9e5 d9e8 d9e9 d9ea d9eb d9ec d9ed d9ee d9fa d9fc d9fd d9f6 d9f7 dbe2 dbe3 dfe0 dae9 ded9"
    digits = {0xD8: "014567", 0xDC: "014567", 0xD9: "02357", 0xDD: "023", 0xDB: "02357", 0xDF: "0357", 0xDA: "0145"}
    for byte, numbers in digits.items():
        for n in map(int, numbers):
            forms += [bytes((byte, n << 3 | 3)), bytes((byte, 0x40 | n << 3 | 3, 8))]
            forms.append(bytes((byte, n << 3 | 5, 1, 0, 0, 0)))
            forms.append(bytes((byte, n << 3 | 4, 0xC3 if byte in (0xDC, 0xDD) else 0x83)))
    return forms + [bytes.fromhex(code) for code in alone.split()]


def main(arguments: list[str]) -> None:
    """Write the module."""
    guests = [path for path in sorted(GUESTS.iterdir()) if path.read_bytes()[:4] == b"\x7fELF"]
    unique: dict[str, bytes] = {}
    for code in [*shapes(guests + [Path(name) for name in arguments]), *conditional(), *x87()]:
        unique.setdefault(Shape(decode(code)).name, code)
    lines = [""]
    for code in unique.values():
        if len(lines[-1]) + 2 * len(code) >= 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + code.hex()
    Path(commonshapes.__file__).write_text(_HEAD + "\n".join(lines) + '\n"""\n')


if __name__ == "__main__":
    main(sys.argv[1:])

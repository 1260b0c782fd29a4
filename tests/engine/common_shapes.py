"""Writes aiopyvm/engine/native/commonshapes.py: `python -m tests.engine.common_shapes [ELF FILE...]`.

Shapes of all instructions that stand in the code of the repository's guests, of the commonest ones of further files (a
static busybox has most of what compilers emit), and of usual instructions with all usual addresses, which no file needs
to have.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import iced_x86
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from aiopyvm.engine.native import commonshapes
from aiopyvm.engine.native.handlers import Shape, Shapes
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn

GUESTS = Path(__file__).parents[2] / "guests" / "bin"
MOST = 550  # shapes of further files
_STACK = 4  # ST(i) up to this one
_HEAD = '''"""Instructions whose shapes have a handler that is built ahead of time: one of each shape, as bytes.

Made by tests/engine/common_shapes.py; the commonest come first.
"""

from typing import Final

SHAPES: Final = """
'''


def guests() -> list[Path]:
    """The repository's guests that are ELF files."""
    return [path for path in sorted(GUESTS.iterdir()) if path.read_bytes()[:4] == b"\x7fELF"]


def instructions(path: Path) -> Iterator[Insn]:
    """Decode the executable sections of an ELF file from end to end, without what the instruction table lacks."""
    with path.open("rb") as file:
        sections = [s.data() for s in ELFFile(file).iter_sections() if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR]
    for data in sections:
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


def addresses(digit: int, scales: tuple[int, ...]) -> list[bytes]:
    """ModR/M and SIB bytes and displacements of the address forms that compilers use; `digit`: /0 to /7."""
    word = b"\0\0\1\0"
    forms = [bytes((digit << 3 | 3,)), bytes((digit << 3 | 0x43, 8)), bytes((digit << 3 | 5,)) + word]
    for scale in scales:
        sib = scale << 6 | 1 << 3
        forms += [bytes((digit << 3 | 4, sib | 3)), bytes((digit << 3 | 0x44, sib | 3, 8))]
        forms.append(bytes((digit << 3 | 4, sib | 5)) + word)
    return forms


def usual() -> list[bytes]:
    """Moves, arithmetic, shifts and indirect branches with each usual address."""
    forms = []
    every, words = (0, 1, 2, 3), (2,)
    for opcode in ("8b", "89", "8d", "0fb6", "0fb7", "0fbe", "0fbf", "88", "8a", "6689"):
        forms += [bytes.fromhex(opcode) + form for form in addresses(1, every)]
    for digit, scales in ((0, every), (1, words), (4, words), (5, words), (6, words), (7, every)):
        for direction in (1, 3):
            forms += [bytes((digit << 3 | direction,)) + form for form in addresses(1, scales)]
        forms += [b"\x83" + form + b"\1" for form in addresses(digit, scales)]
        forms += [bytes((digit << 3 | low,)) + form for low in (0, 2) for form in addresses(1, ())]
        forms += [b"\x80" + form + b"\1" for form in addresses(digit, ())]
    for opcode, digit, rest in (
        ("c7", 0, "01000000"), ("c6", 0, "01"), ("66c7", 0, "0100"), ("ff", 0, ""), ("ff", 1, ""), ("ff", 2, ""),
        ("ff", 4, ""), ("ff", 6, ""), ("f6", 0, "01"), ("f7", 0, "01000000"), ("85", 1, ""), ("0faf", 1, ""),
        ("f7", 2, ""), ("f7", 3, ""), ("f7", 4, ""), ("f7", 6, ""),
    ):  # fmt: skip
        forms += [bytes.fromhex(opcode) + form + bytes.fromhex(rest) for form in addresses(digit, words)]
    for digit, (opcode, rest) in product((0, 1, 4, 5, 7), (("c1", "05"), ("d1", ""), ("d3", ""))):
        forms.append(bytes.fromhex(opcode) + bytes((0xC0 | digit << 3,)) + bytes.fromhex(rest))
        if digit >= 4:
            forms += [bytes.fromhex(opcode) + form + bytes.fromhex(rest) for form in addresses(digit, (2,))]
    return forms


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
    unique: dict[str, bytes] = {}
    files = shapes([Path(name) for name in arguments], MOST)
    for code in [*shapes(guests()), *files, *usual(), *conditional(), *x87()]:
        unique.setdefault(Shape(decode(code)).name, code)
    lines = [""]
    for code in unique.values():
        if len(lines[-1]) + 2 * len(code) >= 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + code.hex()
    Path(commonshapes.__file__).write_text(_HEAD + "\n".join(lines) + '\n"""\n')


if __name__ == "__main__":
    main(sys.argv[1:])

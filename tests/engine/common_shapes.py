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
MOST = 1400
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


def main(arguments: list[str]) -> None:
    """Write the module."""
    guests = [path for path in sorted(GUESTS.iterdir()) if path.read_bytes()[:4] == b"\x7fELF"]
    unique: dict[str, bytes] = {}
    for code in [*shapes(guests + [Path(name) for name in arguments]), *conditional()]:
        unique.setdefault(Shape(decode(code)).name, code)
    lines = [""]
    for code in unique.values():
        if len(lines[-1]) + 2 * len(code) >= 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + code.hex()
    Path(commonshapes.__file__).write_text(_HEAD + "\n".join(lines) + '\n"""\n')


if __name__ == "__main__":
    main(sys.argv[1:])

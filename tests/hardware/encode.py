"""Random encodings of one row for blocks, where registers are what the instructions before have made of them.

A memory operand is placed by registers that the block keeps: `Keeper` says which, and what they hold. A register that
an instruction writes is one of the others.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Final

from aiopyvm.isa.notation import ANY, Pattern
from tests.hardware.cases import immediate
from tests.hardware.cases_vector import opcode
from tests.hardware.wire import AREA_DATA, AREA_END, DATA, PAGE, READ_ONLY, STACK

SLOTS: Final = 0x180  # bytes at AREA_DATA that only what knows of them writes to
NUMBERS: Final = (AREA_DATA + 0x400, AREA_DATA + 0xA00)  # where floating-point numbers are
_FS_OVERRIDE: Final = 0x64
_ESP: Final = 4
_TRIES: Final = 40
_SIZES: Final = {"m94/108byte": 108, "m14/28byte": 28, "m512byte": 512}
_READ_ONLY_NAMES: Final = frozenset({"cmp", "test", "push", "bt", "mul", "imul", "div", "idiv"})


@dataclass(frozen=True)
class Keeper:
    """Registers that a block keeps: what they hold, by number; `fs` is the base of FS."""

    values: dict[int, int]
    fs: int

    def is_free(self, number: int, width: int) -> bool:
        """Whether an instruction of `width` bits may write to the register."""
        number = number & 3 if width == 8 else number
        return number != _ESP and number not in self.values


class Encoder:
    """Encodes one row after another."""

    def __init__(self, rng: random.Random, keeper: Keeper) -> None:
        self._rng = rng
        self._keeper = keeper

    def encode(self, pattern: Pattern) -> bytes:
        """The bytes of an instruction of the pattern's row."""
        rng = self._rng
        prefixes = self._prefixes(pattern)
        for _ in range(_TRIES):
            out = opcode(rng, pattern)
            modrm = rng.choice(tuple(pattern.modrm)) if pattern.modrm else -1
            if self._suits(pattern, out, modrm):
                break
        if 0 <= modrm < 0xC0:
            fs = rng.random() < 0.06
            prefixes += [_FS_OVERRIDE] if fs else []
            target = self.place(*operand_size(pattern, self._wide(pattern, prefixes)))
            out += self.memory(modrm >> 3 & 7, target - (self._keeper.fs if fs else 0))
        elif modrm >= 0:
            out += bytes((modrm,))
        if any(field.place == "moffs" for field in pattern.fields):
            out += struct.pack("<I", self.place(4))
        rng.shuffle(prefixes)
        return bytes(prefixes) + out + b"".join(immediate(rng, size) for size in pattern.immediates)

    def _prefixes(self, pattern: Pattern) -> list[int]:
        rng, out = self._rng, list[int]()
        if pattern.operand_size == 16 or (
            pattern.operand_size == 0 and pattern.mandatory == ANY and not rng.randrange(12)
        ):
            out.append(0x66)
        if pattern.row.rep and rng.random() < 0.5:
            out.append(rng.choice((0xF2, 0xF3)))
        return out

    @staticmethod
    def _wide(pattern: Pattern, prefixes: list[int]) -> int:
        return 2 if pattern.operand_size == 16 or 0x66 in prefixes else 4

    def _suits(self, pattern: Pattern, out: bytes, modrm: int) -> bool:
        """Whether no register that the block keeps would be written."""
        if pattern.row.name in _READ_ONLY_NAMES and len(pattern.row.operands) < 3:
            return True
        both = pattern.row.name in ("xchg", "xadd")
        for index, field in enumerate(pattern.fields):
            if field.kind != "gpr" or (index and not both):
                continue
            places = {"reg": modrm >> 3 & 7, "rm": modrm & 7, "opcode": out[-1] & 7}
            if pattern.vex is not None:
                places["vvvv"] = ~out[-2] >> 3 & 7
            number = places.get(field.place, field.value)
            if (field.place != "rm" or modrm >= 0xC0) and not self._keeper.is_free(number, field.width):
                return False
        return True

    def place(self, size: int, aligned: bool = False, number: bool = False) -> int:
        """An address for an operand of `size` bytes, which can be read and written but for a few."""
        rng = self._rng
        kind = rng.randrange(400)
        if kind == 0:
            edge = rng.choice((READ_ONLY, READ_ONLY + PAGE, AREA_END, STACK, DATA))
            return edge + rng.randint(-size, size)
        if number and kind < 250:
            start, end = NUMBERS
        else:
            start, end = rng.choice(
                (
                    (AREA_DATA + SLOTS, AREA_END),
                    (AREA_DATA + SLOTS, AREA_END),
                    (DATA, DATA + PAGE),
                    (STACK, STACK + 0x500),
                )
            )
        if kind < 40:
            address = AREA_DATA + PAGE - rng.randrange(size + 1)  # over the edge of two pages that can be written to
        else:
            address = start + rng.randrange(max(1, end - start - size))
        unit = (size & -size if aligned else min(size & -size, 16)) if kind % 4 or aligned else 1
        return address & -unit

    def memory(self, digit: int, offset: int) -> bytes:
        """ModRM, SIB and displacement for an offset in its segment, by registers that are kept or none."""
        rng, reg, values = self._rng, digit << 3, self._keeper.values
        kind = rng.randrange(8) if values else 0
        if kind == 0:
            return bytes((reg | 5,)) + struct.pack("<I", offset & 0xFFFFFFFF)
        base = rng.choice(tuple(values))
        if kind < 5:
            return _based(reg, b"", base, offset - values[base])
        index = rng.choice(tuple(values))
        scale = rng.randrange(4)
        sib = bytes((scale << 6 | index << 3 | base,))
        return _based(reg, sib, 4, offset - values[base] - (values[index] << scale))


def _based(reg: int, sib: bytes, rm: int, rest: int) -> bytes:
    """ModRM with a displacement of 8 bits where `rest` fits, else 32."""
    rest = (rest + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
    if -128 <= rest < 128:
        return bytes((0x40 | reg | rm,)) + sib + struct.pack("<b", rest)
    return bytes((0x80 | reg | rm,)) + sib + struct.pack("<i", rest)


def operand_size(pattern: Pattern, wide: int) -> tuple[int, bool, bool]:
    """The size of a pattern's memory operand in bytes, whether it must be aligned, whether it is a number."""
    for field in pattern.fields:
        if field.memory_width >= 0:
            size = _SIZES.get(field.name) or field.memory_width // 8 or wide
            return size, size in (16, 512), field.name.endswith("fp")
    return wide, False, False

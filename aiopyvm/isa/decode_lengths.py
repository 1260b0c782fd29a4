"""The lengths of bytes that are no instruction of the table.

The CPU finds an instruction's length before it knows whether there is such an instruction, so that a page fault on
its last byte comes before #UD, and more than 15 bytes are #GP before they are #UD. Observed on the hardware, byte by
byte, with code at the end of a page.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.isa import vex

# Opcodes (page << 8 | byte) of two bytes without ModRM: rows and holes alike.
_WITHOUT_MODRM: Final = frozenset(
    0x100 | byte
    for byte in (
        *(0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0E, 0x0F),
        *range(0x24, 0x28),
        *range(0x30, 0x38),
        0x77,
        *range(0x80, 0x90),
        *(0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xAA),
        *range(0xC8, 0xD0),
    )
)
_WITH_IMM8: Final = frozenset(0x100 | b for b in (0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6))

# What the second opcode byte says about a third: 0F 38..0F 3F, of which only two maps have instructions.
ESCAPES: Final = {0x138: 2, 0x139: 4, 0x13A: 3, 0x13B: 5, 0x13C: 4, 0x13D: 4, 0x13E: 5, 0x13F: 5}
_JUMPS: Final = range(0x180, 0x190)  # as lengths go, VEX has them too, and moves to control and debug registers
_MOVES: Final = range(0x120, 0x124)
_MAPS_WITH_IMM8: Final = (3, 5)


def has_modrm(opcode: int) -> bool:
    """Tell whether ModRM follows an opcode of which the table has no row."""
    if opcode < 0x100:
        return 0xD8 <= opcode <= 0xDF
    like = _without_vex(opcode)
    return like not in _WITHOUT_MODRM and (like == opcode or like not in ESCAPES)


def ignores_mod(opcode: int) -> bool:
    """Tell whether ModRM.mod means no displacement, for an opcode of which the table has no row."""
    return _without_vex(opcode) in _MOVES


def immediate_bytes(opcode: int) -> int:
    """The bytes that follow ModRM and the displacement, for an opcode of which the table has no row."""
    like = _without_vex(opcode)
    if like != opcode and like in _JUMPS:
        return 4
    return int(like in _WITH_IMM8 or like >> 8 in _MAPS_WITH_IMM8)


def _without_vex(opcode: int) -> int:
    """The opcode of the same byte and map without VEX."""
    return vex.map_of(opcode) << 8 | opcode & 0xFF if opcode >> 8 >= vex.FIRST else opcode

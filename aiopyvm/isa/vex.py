"""The VEX prefix (Intel SDM vol. 2A, "Intel AVX Prefix Encoding"): its fields, and the pages of opcodes behind it.

C5 and C4 are a VEX prefix where the two high bits of the byte behind them are set; they are LDS and LES elsewhere. The
byte before the opcode holds W (C4 only), vvvv, L and pp, whichever form it is. What always holds in 32-bit code: R, X
and B name no register (there are eight), so does the high bit of vvvv; W of general registers is 0 whatever is written.

A *page* is the high part of an opcode number (page << 8 | byte): 0..5 are the maps without VEX, then come twelve for
the three maps of VEX, each with L and W, then three for maps that do not exist. Lengths of what is no instruction were
observed on the hardware: the low two bits of the map's number decide, 0 is #UD behind two bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.isa.vectors import UD

FIRST: Final = 6  # page of VEX map 1, L = W = 0
UNDEFINED: Final = FIRST + 12  # page of maps that do not exist and have the low bits 1
PAGES: Final = UNDEFINED + 3
TWO_BYTES: Final = 0xC5
THREE_BYTES: Final = 0xC4
NO_REGISTER: Final = 15  # vvvv, not inverted back, where it names no register
PREFIXES: Final = (0, 0x66, 0xF3, 0xF2)  # pp
_MAPS: Final = ("0F", "0F38", "0F3A")
_BITS: Final = {"0": (0,), "1": (1,), "IG": (0, 1)}
_LENGTHS: Final = {"LZ": (0,), "L0": (0,), "L1": (1,), "LIG": (0, 1), "128": (0,), "256": (1,)}
_NOTATION: Final = re.compile(r"VEX\.(LZ|L0|L1|LIG|128|256)(?:\.(NP|66|F2|F3))?\.(0F38|0F3A|0F)\.W(0|1|IG)")
_GENERAL: Final = ("r32", "r/m32", "reg")


@dataclass(frozen=True, slots=True)
class Vex:
    """A row's VEX prefix: `map` 1..3, the values of L and W that match, `mandatory` 0, 0x66, 0xF2 or 0xF3."""

    map: int
    lengths: tuple[int, ...]
    ws: tuple[int, ...]
    mandatory: int

    @property
    def pages(self) -> tuple[int, ...]:
        """The pages that the row's opcode is on."""
        return tuple(page(self.map, length, w) for length in self.lengths for w in self.ws)

    def prefix(self, vvvv: int = 0) -> bytes:
        """The shortest prefix; `vvvv` is a register, 0 also where there is none."""
        w, last = self.ws[0], (~vvvv & 15) << 3 | self.lengths[0] << 2 | PREFIXES.index(self.mandatory)
        if self.map == 1 and not w:
            return bytes((TWO_BYTES, 0x80 | last))
        return bytes((THREE_BYTES, 0xE0 | self.map, w << 7 | last))


def parse(token: str, operands: tuple[str, ...]) -> Vex | None:
    """The manual's notation, VEX.128.66.0F38.W0; None: it is none. `operands` are the row's."""
    match = _NOTATION.fullmatch(token)
    if match is None:
        return None
    ws = _BITS[match[4]]
    if any(name.startswith(_GENERAL) for name in operands):
        ws = (0, 1)
    mandatory = int(match[2], 16) if match[2] not in (None, "NP") else 0
    return Vex(_MAPS.index(match[3]) + 1, _LENGTHS[match[1]], ws, mandatory)


def page(map_: int, length: int, w: int) -> int:
    """The page of a map (1..3) with L and W."""
    return FIRST + (map_ - 1 << 2 | length << 1 | w)


def map_of(opcode: int) -> int:
    """The map of a VEX opcode, or the one that its length is like."""
    at = opcode >> 8
    return at - UNDEFINED + 1 if at >= UNDEFINED else (at - FIRST >> 2) + 1


def read(code: bytes | memoryview, at: int) -> tuple[int, int, int]:
    """Read the prefix whose first byte is `code[at - 1]`: page, pp, and where the opcode is.

    Raises DecodeFault, or IndexError where `code` is too short.
    """
    number, last = 1, code[at]
    if code[at - 1] == TWO_BYTES:
        return page(1, last >> 2 & 1, 0), last & 3, at + 1
    number = last & 31
    if not number & 3:
        raise DecodeFault(UD)
    last = code[at + 1]
    found = UNDEFINED + (number & 3) - 1 if number > 3 else page(number, last >> 2 & 1, last >> 7)
    return found, last & 3, at + 2

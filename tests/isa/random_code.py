"""Random machine code: plain bytes, and bytes shaped like the rows of the instruction table."""

from __future__ import annotations

import random
from typing import Final

from aiopyvm.isa import vex
from aiopyvm.isa.decode import decoder
from aiopyvm.isa.notation import Pattern

PREFIXES: Final = bytes((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))


def random_bytes(rng: random.Random) -> bytes:
    """15 random bytes, with one time in three a prefix, the two-byte escape, or VEX, at the start."""
    code = rng.randbytes(15)
    match rng.randrange(8):
        case 2:
            return bytes((rng.choice((vex.TWO_BYTES, vex.THREE_BYTES)), 0xC0 | code[0])) + code[1:14]
        case 0:
            return bytes((rng.choice(PREFIXES),)) + code[:14]
        case 1:
            return b"\x0f" + code[:14]
    return code


def shaped_bytes(rng: random.Random, pattern: Pattern) -> bytes:
    """15 bytes that begin, mostly, with an instruction of the pattern's row, behind random prefixes."""
    out = bytearray(rng.choices(PREFIXES, k=_prefix_count(rng)))
    if pattern.operand_size == 16 and rng.random() < 0.9:
        out.append(0x66)
    if pattern.address_size == 16 and rng.random() < 0.9:
        out.append(0x67)
    out += pattern.prefix
    out += pattern.escape if pattern.vex is None else _vex(rng, pattern.vex)
    out.append((pattern.opcode & 0xFF) + (rng.randrange(8) if pattern.in_opcode else 0))
    if pattern.modrm and rng.random() < 0.95:
        out.append(rng.choice(tuple(pattern.modrm)))
    out += rng.randbytes(15)
    return bytes(out[:15])


def _vex(rng: random.Random, row: vex.Vex) -> bytes:
    """A prefix of the row in any of its forms, now and then with a bit changed."""
    prefix = bytearray(row.prefix(rng.choice((0, rng.randrange(16)))))
    if prefix[0] == vex.TWO_BYTES and rng.random() < 0.5:
        prefix = bytearray((vex.THREE_BYTES, 0xE0 | row.map, prefix[1] & 0x7F))
    if rng.random() < 0.3:
        prefix[rng.randrange(1, len(prefix))] ^= 1 << rng.randrange(8)
    return bytes(prefix)


def _prefix_count(rng: random.Random) -> int:
    roll = rng.random()
    if roll < 0.5:
        return 0
    if roll < 0.97:
        return rng.randrange(1, 4)
    return rng.randrange(4, 15)


def patterns() -> tuple[Pattern, ...]:
    """The patterns of the whole table."""
    return decoder().patterns

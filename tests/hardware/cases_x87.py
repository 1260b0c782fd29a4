"""Random cases for every x87 row of the instruction table."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Final

from aiopyvm.isa.notation import Pattern, compile_row
from aiopyvm.isa.spec import Row, table
from tests.hardware import x87_values as values
from tests.hardware.families import family
from tests.hardware.wire import DATA, DEFAULT_ESP, PAGE, READ_ONLY, WHOLE_SELECTOR, Case

_PREFIXES: Final = (b"", b"", b"", b"", b"", b"\x66", b"\x26", b"\x64", b"\xf2", b"\xf3", b"\xf0", b"\x36\x66")
_GPR: Final = 8
_FLAGS: Final = 0x8D5  # CF PF AF ZF SF OF
_AC: Final = 0x40000


def rows() -> list[Row]:
    """Every row of the x87."""
    return [row for row in table() if family(row) == "x87"]


def cases(rng: random.Random, count: int, listed: list[Row] | None = None) -> Iterator[tuple[Row, Case]]:
    """Yield `count` cases, going round all rows, or those `listed`."""
    patterns = [compile_row(row) for row in (rows() if listed is None else listed)]
    for n in range(count if patterns else 0):
        pattern = patterns[n % len(patterns)]
        yield pattern.row, _case(rng, pattern)


def _case(rng: random.Random, pattern: Pattern) -> Case:
    modrm = rng.choice(sorted(pattern.modrm)) if pattern.modrm else -1
    regs = [rng.getrandbits(32) for _ in range(_GPR)]
    regs[4] = DEFAULT_ESP
    patches: tuple[tuple[int, bytes], ...] = ()
    code = bytes((pattern.opcode,)) if modrm < 0 else bytes((pattern.opcode, modrm))
    if 0 <= modrm < 0xC0:
        content = _content(rng, pattern.row)
        address = _address(rng, len(content))
        code = bytes((pattern.opcode,)) + memory(rng, modrm >> 3 & 7, address, regs)
        patches = _patches(address, content)
    flags = rng.getrandbits(32) & _FLAGS | (_AC if rng.randrange(16) == 0 else 0)
    return Case(
        rng.choice(_PREFIXES) + code,
        (regs[0], regs[1], regs[2], regs[3], regs[4], regs[5], regs[6], regs[7]),
        flags | 2,
        segments=(0x2B, 0x2B, WHOLE_SELECTOR if rng.randrange(2) else 0, 0),
        fill=rng.choice((0, 1000)),
        x87=image(rng),
        patches=patches,
    )


# -- memory operands ---------------------------------------------------------------------------------------------------


def _content(rng: random.Random, row: Row) -> bytes:
    """What the memory operand holds before the instruction."""
    name = row.operands[-1]
    if name in values.OPERANDS:
        size = {"m32fp": 4, "m64fp": 8, "m80fp": 10}[name]
        return values.OPERANDS[name](rng).to_bytes(size, "little")
    if name == "m80dec":
        return bytes(rng.choice((rng.randrange(10) | rng.randrange(10) << 4, rng.getrandbits(8))) for _ in range(10))
    if name == "m2byte":
        return struct.pack("<H", control(rng) | rng.getrandbits(16) & 0xE080)
    if name in ("m16int", "m32int", "m64int"):
        size = int(name[1:3]) // 8
        edge = rng.choice((0, 1, -1, 1 << 8 * size - 1, (1 << 8 * size - 1) - 1, 10, 100))
        return (rng.choice((edge, rng.getrandbits(8 * size))) & (1 << 8 * size) - 1).to_bytes(size, "little")
    return _environment(rng, 108 if rng.randrange(2) else 94, name)


def _environment(rng: random.Random, size: int, name: str) -> bytes:
    """An environment or a whole state, in the form of 32 or of 16 bits."""
    words = [
        control(rng) | rng.getrandbits(16) & 0xE080,
        rng.getrandbits(16),
        rng.choice((0, 0xFFFF, rng.getrandbits(16))),
    ]
    words += [rng.getrandbits(32) for _ in range(4)]
    wide = size == 108
    head = (
        struct.pack("<7I", *(w | 0xFFFF0000 for w in words[:3]), *words[3:])
        if wide
        else struct.pack("<7H", *(w & 0xFFFF for w in words))
    )
    if name == "m14/28byte":
        return head
    return head + b"".join(values.extended(rng).to_bytes(10, "little") for _ in range(8))


def _address(rng: random.Random, size: int) -> int:
    kind = rng.randrange(40)
    if kind == 0:
        return READ_ONLY - rng.randrange(1, size + 1)  # over the edge between the pages
    if kind == 1:
        return READ_ONLY + rng.randrange(64)
    if kind == 2:
        return READ_ONLY + PAGE - rng.randrange(1, size + 1)
    if kind == 3:
        return READ_ONLY + PAGE + rng.randrange(64)
    if kind < 10:
        return DATA + rng.randrange(PAGE - size)
    return DATA + (rng.randrange(PAGE - size) & ~15)


def _patches(address: int, content: bytes) -> tuple[tuple[int, bytes], ...]:
    """`content` at `address`, as far as DATA goes."""
    inside = content[: max(0, DATA + PAGE - address)] if address >= DATA else b""
    return ((address, inside),) if inside else ()


def memory(rng: random.Random, digit: int, address: int, regs: list[int]) -> bytes:
    """ModRM, SIB and displacement for `address`, in one of the ways; sets the registers that it uses."""
    kind = rng.randrange(5)
    reg = digit << 3
    if kind == 0:
        return bytes((reg | 5,)) + struct.pack("<I", address)
    base = rng.choice((0, 1, 2, 3, 5, 6, 7))
    if kind == 1 and base != 5:
        regs[base] = address
        return bytes((reg | base,))
    if kind == 2:
        shift = rng.randint(-128, 127)
        regs[base] = address - shift & 0xFFFFFFFF
        return bytes((0x40 | reg | base, shift & 0xFF))
    if kind == 3:
        regs[base] = rng.getrandbits(32)
        return bytes((0x80 | reg | base,)) + struct.pack("<I", address - regs[base] & 0xFFFFFFFF)
    index = rng.choice([r for r in (0, 1, 2, 3, 5, 6, 7) if r != base])
    scale = rng.randrange(4)
    regs[index] = rng.getrandbits(32)
    shift = rng.randint(-128, 127)
    regs[base] = address - (regs[index] << scale) - shift & 0xFFFFFFFF
    return bytes((0x44 | reg, scale << 6 | index << 3 | base, shift & 0xFF))


# -- the x87's state ---------------------------------------------------------------------------------------------------


def control(rng: random.Random, unmasked: float = 0.25) -> int:
    """A control word: all but `unmasked` of them have every exception masked."""
    masks = 0x3F if rng.random() >= unmasked else rng.getrandbits(6)
    return masks | 0x40 | rng.choice((0x300, 0x300, 0x200, 0x100, 0)) | rng.randrange(4) << 10 | rng.randrange(2) << 12


def image(rng: random.Random, unmasked: float = 0.25) -> bytes:
    """A state that the hardware can be in: ES and B follow from flags and masks."""
    word = control(rng, unmasked)
    status = rng.getrandbits(16) & 0x7F7F if rng.randrange(2) else rng.getrandbits(16) & 0x7F00
    if status & ~word & 0x3F and rng.randrange(4):
        status &= ~0x3F | word  # mostly nothing is pending
    if status & ~word & 0x3F:
        status |= 0x8080
    tags = 0
    if not rng.randrange(3):
        tags = rng.choice((0xFFFF, sum(3 << 2 * n for n in range(8) if rng.randrange(2))))
    elif rng.randrange(2):
        tags = sum(3 << 2 * n for n in range(8) if n != status >> 11 & 7 and n != (status >> 11) + 1 & 7)
    first = _first(rng)
    second = values.extended(rng) if rng.randrange(2) else values.related(rng, first)
    registers = [first, second, *(values.extended(rng) for _ in range(6))]
    if rng.randrange(2):
        rng.shuffle(registers)
    made = bytearray(values.image(word, status, tags, registers))
    struct.pack_into("<III", made, 12, rng.getrandbits(32), rng.getrandbits(11) << 16, rng.getrandbits(32))
    return bytes(made)


def _first(rng: random.Random) -> int:
    make: Callable[[random.Random], int] = rng.choice(
        (values.extended, values.extended, values.normal, values.integral)
    )
    return make(rng)

"""Random cases for every MMX, SSE and AVX row of the instruction table.

Registers and the memory operand hold lanes of what the instruction works on; MXCSR has every rounding, FTZ, DAZ, flags
that are already set, and now and then exceptions that are not masked.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Final

from aiopyvm.isa.notation import Pattern, compile_row
from aiopyvm.isa.spec import Row, table
from aiopyvm.isa.xarea import COMPACTED, XCR0, XSAVE_SIZE
from tests.hardware import cases_x87
from tests.hardware.cases import value
from tests.hardware.families import family
from tests.hardware.vector_values import kind_of, lanes
from tests.hardware.wire import DATA, DEFAULT_ESP, MAX_FILL, PAGE, READ_ONLY, TABLE, WHOLE_SELECTOR, Case

# What the harness cannot show, and why.
NOT_RUN: Final = {"xgetbv": "tells of another processor and kernel"}
MXCSR_MASKS: Final = 0x1F80
_FLAGS: Final = 0x8D5
_AC: Final = 0x40000
_SIZES: Final = {"m512byte": 512, "mem": XSAVE_SIZE}
_SAVES: Final = ("xsave", "xsaveopt", "xsavec", "xrstor")
_VSIB: Final = "vm"
_TWO_BYTES, _THREE_BYTES = 0xC5, 0xC4


def rows() -> list[Row]:
    """Every vector row that can be tried."""
    return [row for row in table() if family(row) == "vector" and row.name not in NOT_RUN]


def cases(rng: random.Random, count: int, listed: list[Row] | None = None) -> Iterator[tuple[Row, Case]]:
    """Yield `count` cases, going round all rows, or those `listed`."""
    patterns = [compile_row(row) for row in (rows() if listed is None else listed)]
    for n in range(count if patterns else 0):
        pattern = patterns[n % len(patterns)]
        yield pattern.row, _case(rng, pattern)


def mxcsr(rng: random.Random, unmasked: float = 0.2) -> int:
    """MXCSR: any rounding; FTZ, DAZ and flags or not; all but `unmasked` have every exception masked."""
    masks = MXCSR_MASKS if rng.random() >= unmasked else rng.getrandbits(6) << 7
    flags = rng.getrandbits(6) if rng.randrange(3) == 0 else 0
    modes = (0x8000 if rng.randrange(3) == 0 else 0) | (0x40 if rng.randrange(3) == 0 else 0)
    return masks | flags | modes | rng.randrange(4) << 13


def registers(rng: random.Random, kind: str, fill: int) -> tuple[bytes, ...]:
    """YMM0 to YMM7: lanes of `kind` in four, which have to do with one another; the table's bytes in the rest."""
    first = lanes(rng, 32, kind)
    made = {n: lanes(rng, 32, kind, first) for n in rng.sample(range(8), 3)} | {rng.randrange(8): first}
    return tuple(made.get(n) or TABLE[fill + 32 * n :][:32] for n in range(8))


def mmx_image(rng: random.Random) -> bytes:
    """A state of the x87 with lanes in the registers' significands."""
    image = bytearray(cases_x87.image(rng, unmasked=0.03))
    first = lanes(rng, 8, "")
    for n in range(8):
        image[28 + 10 * n : 36 + 10 * n] = first if not n else lanes(rng, 8, "", first)
    return bytes(image)


def _case(rng: random.Random, pattern: Pattern) -> Case:
    row, fill = pattern.row, rng.choice((0, rng.randrange(MAX_FILL)))
    kind = kind_of(row.name)
    ymm = registers(rng, kind, fill)
    regs = [value(rng) for _ in range(8)]
    regs[4] = DEFAULT_ESP
    if row.name in _SAVES:  # the components that are there: the hardware may have more
        regs[0] = rng.choice((XCR0, rng.getrandbits(3)))
    if row.name.startswith(("pcmpestr", "vpcmpestr")):
        regs[0], regs[2] = (rng.choice((rng.randint(-20, 20), value(rng))) & 0xFFFFFFFF for _ in range(2))
    modrm = rng.choice(tuple(pattern.modrm)) if pattern.modrm else -1
    patches: tuple[tuple[int, bytes], ...] = ()
    others = [-1, -1]
    operand = bytes((modrm,)) if modrm >= 0 else b""
    if is_gather(row):
        others = rng.sample([n for n in range(8) if n != modrm >> 3 & 7], 2)
        ymm, operand = _gather(rng, row, modrm >> 3 & 7, others[0], ymm, regs)
    elif 0 <= modrm < 0xC0:
        size = memory_size(pattern)
        address = _address(rng, size)
        patches = _patches(address, _content(rng, row, size, kind, ymm))
        before = regs[0]
        operand = cases_x87.memory(rng, modrm >> 3 & 7, address, regs)
        while row.name in _SAVES and regs[0] != before:
            regs[0] = before
            operand = cases_x87.memory(rng, modrm >> 3 & 7, address, regs)
    if row.name in ("maskmovq", "maskmovdqu", "vmaskmovdqu"):
        regs[7] = _address(rng, 16)
    prefixes = rng.choice((b"",) * 12 + (b"\x26", b"\x36\x2e"))
    immediates = b"".join(_immediate(rng) * size for size in pattern.immediates)
    flags = rng.getrandbits(32) & _FLAGS | (_AC if rng.randrange(24) == 0 else 0)
    return Case(
        prefixes + opcode(rng, pattern, others[1]) + operand + immediates,
        tuple(regs),  # type: ignore[arg-type]
        flags | 2,
        segments=(0x2B, 0x2B, WHOLE_SELECTOR if rng.randrange(2) else 0, 0),
        fill=fill,
        x87=mmx_image(rng) if uses_mmx(row) else None,
        patches=patches,
        single_step=not is_gather(row),  # which comes behind any element
        mxcsr=mxcsr(rng),
        ymm=ymm,
    )


def is_gather(row: Row) -> bool:
    """Whether the row has elements of memory whose indexes are in a vector register (VSIB)."""
    return any(name.startswith(_VSIB) for name in row.operands)


def _gather(
    rng: random.Random, row: Row, reg: int, index: int, ymm: tuple[bytes, ...], regs: list[int]
) -> tuple[tuple[bytes, ...], bytes]:
    """The registers with indexes in one of them, and ModRM, SIB and displacement: most elements are inside DATA."""
    wide = 8 if any(name.startswith("vm64") for name in row.operands) else 4
    scale, shift = rng.randrange(4), rng.randint(-128, 127)
    base = rng.choice((0, 1, 2, 3, 5, 6, 7))
    regs[base] = DATA + PAGE // 2 - shift
    reach = PAGE // 2 >> scale
    offsets = [rng.randint(-reach, reach - 8) if rng.randrange(40) else rng.getrandbits(26) for _ in range(32 // wide)]
    indexes = b"".join(offset.to_bytes(wide, "little", signed=True) for offset in offsets)
    return (*ymm[:index], indexes, *ymm[index + 1 :]), bytes(
        (0x44 | reg << 3, scale << 6 | index << 3 | base, shift & 0xFF)
    )


def uses_mmx(row: Row) -> bool:
    """Whether the row reads or writes registers of the x87."""
    return any(name.startswith("mm") for name in row.operands) or row.name in ("emms", "fxsave", "fxrstor", *_SAVES)


def opcode(rng: random.Random, pattern: Pattern, register: int = -1) -> bytes:
    """Mandatory prefix, escapes or VEX, with `register` in vvvv (-1: any), and opcode."""
    number = pattern.opcode + (rng.randrange(8) if pattern.in_opcode else 0) & 0xFF
    if pattern.vex is None:
        return pattern.prefix + pattern.escape + bytes((number,))
    vex = pattern.vex
    w, length = rng.choice(vex.ws), rng.choice(vex.lengths)
    vvvv = rng.randrange(16) if pattern.has_vvvv else 15
    if register >= 0:
        vvvv = vvvv & 8 | ~register & 7
    last = vvvv << 3 | length << 2 | (0, 0x66, 0xF3, 0xF2).index(vex.mandatory)
    if vex.map == 1 and not w and rng.randrange(2):
        return bytes((_TWO_BYTES, 0xC0 | last, number))
    return bytes((_THREE_BYTES, rng.choice((0xC0, 0xE0)) | vex.map, w << 7 | last, number))


def memory_size(pattern: Pattern) -> int:
    """The size of the pattern's memory operand in bytes."""
    sizes = [_SIZES.get(field.name) or field.memory_width // 8 for field in pattern.fields if field.memory_width >= 0]
    return max([*sizes, 1])


def _immediate(rng: random.Random) -> bytes:
    """Any imm8, small ones more often."""
    return bytes((rng.choice((rng.getrandbits(8), rng.randrange(32), rng.randrange(70))),))


def _content(rng: random.Random, row: Row, size: int, kind: str, ymm: tuple[bytes, ...]) -> bytes:
    """What the memory operand holds before the instruction."""
    if row.name in ("ldmxcsr", "vldmxcsr"):
        return struct.pack("<I", mxcsr(rng) | (rng.getrandbits(32) if rng.randrange(8) == 0 else 0))
    if row.name == "fxrstor":
        return _fxsave_image(rng, ymm)
    if row.name in _SAVES:
        return _xsave_area(rng, ymm)
    return lanes(rng, size, kind, rng.choice(ymm))


def _fxsave_image(rng: random.Random, ymm: tuple[bytes, ...]) -> bytes:
    """512 bytes as FXSAVE writes them, with anything in what is reserved."""
    modes = mxcsr(rng) | (rng.getrandbits(32) if rng.randrange(8) == 0 else 0)
    head = struct.pack(
        "<HHBBHIIIIII", cases_x87.control(rng), rng.getrandbits(16), rng.getrandbits(8), 0, rng.getrandbits(11),
        rng.getrandbits(32), 0, rng.getrandbits(32), 0, modes,
        0xFFFF,
    )  # fmt: skip
    x87 = b"".join(lanes(rng, 10, "") + bytes(6) for _ in range(8))
    return (head + x87 + b"".join(data[:16] for data in ymm)).ljust(512, b"\0")


def _xsave_area(rng: random.Random, ymm: tuple[bytes, ...]) -> bytes:
    """An area of either format; its header has now and then what it may not have."""
    present = rng.choice((XCR0, XCR0, rng.getrandbits(3)))
    format_ = rng.choice((0, COMPACTED | XCR0, COMPACTED | present))
    reserved = [0] * 6
    match rng.randrange(12):
        case 0:
            present |= 1 << rng.randrange(40, 63)
        case 1:
            format_ ^= rng.choice((1, 2, 4, 1 << 50, COMPACTED))
        case 2:
            reserved[rng.randrange(6)] = 1 << rng.randrange(64)
    header = struct.pack("<8Q", present, format_, *reserved)
    return _fxsave_image(rng, ymm) + header + b"".join(data[16:] for data in ymm[::-1]) + bytes(128)


def _address(rng: random.Random, size: int) -> int:
    """Mostly aligned and inside DATA; over the edges of what can be written and read; anywhere near."""
    kind = rng.randrange(40)
    if kind < 2:
        return rng.choice((READ_ONLY, READ_ONLY + PAGE)) - rng.randrange(1, size + 1)
    if kind < 4:
        return rng.choice((READ_ONLY, READ_ONLY + PAGE - 64, READ_ONLY + PAGE, DATA - 32)) + 16 * rng.randrange(4)
    address = DATA + rng.randrange(PAGE - size)
    if kind < 10:
        return address
    return address & -(64 if size > 32 else 32)


def _patches(address: int, content: bytes) -> tuple[tuple[int, bytes], ...]:
    """`content` at `address`, as far as DATA goes."""
    inside = content[: max(0, DATA + PAGE - address)] if address >= DATA else b""
    return ((address, inside),) if inside else ()

"""Random cases for every integer and system row of the instruction table.

A memory operand is placed first (inside DATA, over a page's edge, in the read-only page, nowhere), then registers,
segments and displacement are chosen so that the operand's address is there. Operands, stack and memory hold edge
values, selectors and code addresses more often than chance would.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from aiopyvm.isa.notation import ANY, Pattern, compile_row
from aiopyvm.isa.spec import Row, table
from tests.hardware.families import family
from tests.hardware.wire import (
    CODE,
    DATA,
    MAX_FILL,
    PAGE,
    READ_ONLY,
    SMALL_SELECTOR,
    STACK,
    WHOLE_SELECTOR,
    Case,
)  # fmt: skip

# What the harness cannot show, and why.
NOT_RUN: Final = {
    **dict.fromkeys(("rdtsc", "rdtscp", "rdpid", "rdrand", "rdseed"), "another value each time"),
    "cpuid": "tells of another processor",
    "sysenter": "enters the kernel behind the harness's back; here it is #UD, as CPUID says",
    "sysexit": "the host has it (#GP); here it is #UD, as CPUID says",
}

_EDGES: Final = (
    0, 1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 0x7F, 0x80, 0x81, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
    0x7FFFFFFF, 0x80000000, 0xFFFF8000, 0xFFFFFF80, 0xFFFFFFFE, 0xFFFFFFFF,
)  # fmt: skip
_SELECTORS: Final = (0x23, 0x23, 0x2B, 0x2B, 0, 3, 0x20, 0x28, 0x33, 0x63, 0x6B, 0x73, 0x10, 0x43, 0x27, 0x83, 0xFFFB)
_STATUS: Final = 0x8D5
_DF, _NT, _AC, _ID = 1 << 10, 1 << 14, 1 << 18, 1 << 21
_BASES16: Final = ((3, 6), (3, 7), (5, 6), (5, 7), (6,), (7,), (5,), (3,))
_SEGMENT_PREFIXES: Final = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_STRINGS: Final = frozenset(name + width for name in ("movs", "cmps", "stos", "lods", "scas") for width in "bwd")
_DS, _ES, _FS, _GS = range(4)  # in Case.segments
_OVERRIDES: Final = {0x26: _ES, 0x3E: _DS, 0x64: _FS, 0x65: _GS}  # CS and SS are always flat


def rows() -> list[Row]:
    """Every integer and system row that can be tried."""
    return [row for row in table() if family(row) == "integer" and row.name not in NOT_RUN]


def cases(rng: random.Random, count: int, listed: list[Row] | None = None) -> Iterator[tuple[Row, Case]]:
    """Yield `count` cases, going round all rows, or those `listed`."""
    patterns = [compile_row(row) for row in (rows() if listed is None else listed)]
    for n in range(count if patterns else 0):
        pattern = patterns[n % len(patterns)]
        yield pattern.row, _Draft(rng, pattern).case()


def value(rng: random.Random) -> int:
    """A 32-bit value: an edge, a small number, a selector, or any."""
    kind = rng.randrange(10)
    if kind < 4:
        return rng.choice(_EDGES)
    if kind == 4:
        return rng.randrange(64)
    if kind == 5:
        return rng.choice(_SELECTORS) | rng.choice((0, rng.getrandbits(16) << 16))
    return rng.getrandbits(32)


def immediate(rng: random.Random, size: int) -> bytes:
    """An immediate of `size` bytes."""
    return struct.pack("<Q", value(rng) | rng.getrandbits(16) << 32)[:size]


def place(rng: random.Random, size: int = 8) -> int:
    """An address for an operand of about `size` bytes: mostly well inside DATA."""
    kind = rng.randrange(40)
    if kind < 16:
        return DATA + 16 + (rng.randrange(PAGE - 64) & ~7)
    if kind < 34:
        return DATA + 16 + rng.randrange(PAGE - 64)
    edge = rng.choice((DATA, READ_ONLY, READ_ONLY, READ_ONLY + PAGE, READ_ONLY + 128, STACK + 256, DATA + 0x800))
    return edge + rng.randint(-size, size)


@dataclass
class _Draft:
    """A case being made."""

    rng: random.Random
    pattern: Pattern
    regs: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    patches: list[tuple[int, bytes]] = field(default_factory=list)
    prefixes: list[int] = field(default_factory=list)

    def case(self) -> Case:
        """Make it."""
        rng, row = self.rng, self.pattern.row
        self.regs = [value(rng) for _ in range(8)]
        self.segments = [self._selector(0.04), self._selector(0.04), self._selector(0.7), self._selector(0.7)]
        self._make_prefixes()
        self._make_stack()
        if row.name in ("div", "idiv") and rng.random() < 0.7:
            self.regs[2] = rng.choice((0, 0, 0xFFFFFFFF, rng.getrandbits(8)))
        if row.name in _STRINGS or row.name[:3] in ("ins", "out"):
            self._make_string()
        if row.name == "xlatb":
            self.regs[3] = place(rng) - self._base(_DS) & 0xFFFFFFFF
        code = self._opcode()
        flags = rng.getrandbits(12) & _STATUS
        for bit, chance in ((_DF, 0.3), (_NT, 0.02), (_AC, 0.03), (_ID, 0.1)):
            flags |= bit if rng.random() < chance else 0
        single_step = self._single_step()
        at_end = single_step and rng.random() < 0.1  # without single steps, the INT3 behind the code ends the case
        return Case(
            bytes(self.prefixes) + code,
            tuple(self.regs),  # type: ignore[arg-type]
            flags | 2,
            eip=CODE + PAGE - rng.randrange(1, 16) if at_end else CODE + 0x800 + rng.randrange(256),
            segments=tuple(self.segments),  # type: ignore[arg-type]
            fill=rng.randrange(MAX_FILL),
            patches=self._clipped_patches(),
            single_step=single_step,
        )

    def _single_step(self) -> bool:
        name = self.pattern.row.name
        if name in ("pushf", "pushfd"):
            return False  # or it would show TF
        return not (name in _STRINGS and self.rng.random() < 0.5)

    def _selector(self, chance: float) -> int:
        if self.rng.random() >= chance:
            return 0x2B
        return self.rng.choice((WHOLE_SELECTOR, WHOLE_SELECTOR, WHOLE_SELECTOR, SMALL_SELECTOR, 0, 0x2B))

    def _base(self, index: int) -> int:
        return DATA if self.segments[index] in (WHOLE_SELECTOR, SMALL_SELECTOR) else 0

    # -- prefixes ------------------------------------------------------------------------------------------------------

    def _make_prefixes(self) -> None:
        rng, pattern, out = self.rng, self.pattern, self.prefixes
        either = pattern.operand_size == 0 and pattern.mandatory == ANY
        if pattern.operand_size == 16 or (either and rng.random() < 0.3):
            out.append(0x66)
        out += pattern.prefix
        if pattern.address_size == 16 or (pattern.address_size == 0 and rng.random() < 0.1):
            out.append(0x67)
        if 0x67 in out and rng.random() < 0.8:
            out.append(rng.choice((0x64, 0x65)))  # 16-bit offsets reach DATA through a segment's base alone
        elif rng.random() < 0.2:
            out.append(rng.choice(_SEGMENT_PREFIXES))
        if rng.random() < (0.25 if pattern.row.lock else 0.02):
            out.append(0xF0)
        if pattern.mandatory == ANY and rng.random() < (0.6 if pattern.row.rep else 0.03):
            out.append(rng.choice((0xF2, 0xF3)))
        rng.shuffle(out)
        if 0x67 in out:
            self.segments[_FS] = self.segments[_GS] = rng.choice((WHOLE_SELECTOR, WHOLE_SELECTOR, SMALL_SELECTOR))

    def _segment_base(self, default: int | None) -> int:
        """The base of the operand's segment; `default` is its index in Case.segments, None for SS."""
        override = [prefix for prefix in self.prefixes if prefix in _SEGMENT_PREFIXES]
        index = _OVERRIDES.get(override[-1]) if override else default
        return 0 if index is None else self._base(index)

    # -- implicit operands ---------------------------------------------------------------------------------------------

    def _make_stack(self) -> None:
        rng = self.rng
        kind = rng.randrange(20)
        if kind < 16:
            esp = STACK + 0x400 + (rng.randrange(0x800) & ~3)
        elif kind < 18:
            esp = STACK + 0x400 + rng.randrange(0x800)
        else:
            esp = rng.choice((STACK, STACK + PAGE, READ_ONLY)) + rng.randint(-40, 40)
        self.regs[4] = esp
        self.regs[5] = esp + 4 * rng.randint(-8, 40) if rng.random() < 0.5 else place(rng)
        size = 2 if 0x66 in self.prefixes else 4
        if rng.random() < 0.7:
            code = CODE + rng.randrange(PAGE)
            words = (rng.choice((code, value(rng))), rng.choice(_SELECTORS), value(rng))
            self.patches.append((esp, b"".join(struct.pack("<I", word)[:size] for word in words)))
        if self.pattern.row.name == "pop" and rng.random() < 0.8:
            self.patches.append((esp, struct.pack("<H", rng.choice(_SELECTORS))))

    def _make_string(self) -> None:
        rng = self.rng
        source, target = place(rng), place(rng)
        mask = 0xFFFF if 0x67 in self.prefixes else 0xFFFFFFFF
        if mask == 0xFFFF:
            self.segments[_ES] = WHOLE_SELECTOR
        self.regs[6] = (source - self._segment_base(_DS)) & mask | value(rng) & ~mask & 0xFFFFFFFF
        self.regs[7] = (target - self._base(_ES)) & mask | value(rng) & ~mask & 0xFFFFFFFF
        self.regs[1] = rng.choice((0, 1, 2, 5, rng.randrange(200))) | value(rng) & ~mask & 0xFFFFFFFF
        if rng.random() < 0.3:
            same = rng.randbytes(1) * 32
            self.patches += [(source, same), (target, same)]
            self.regs[0] = int.from_bytes(same[:4], "little")

    # -- the code ------------------------------------------------------------------------------------------------------

    def _opcode(self) -> bytes:
        rng, pattern = self.rng, self.pattern
        opcode = pattern.opcode + (rng.randrange(8) if pattern.in_opcode else 0)
        out = self._escape() + bytes((opcode & 0xFF,))
        if pattern.modrm:
            out += self._modrm(rng.choice(sorted(pattern.modrm)))
        for offset in pattern.fields:
            if offset.place == "moffs":
                address = (place(rng) - self._segment_base(_DS)) & 0xFFFFFFFF
                out += struct.pack("<I", address)[: 2 if 0x67 in self.prefixes else 4]
        if pattern.row.name == "enter":
            frame = rng.choice((0, 1, 4, 16, 256, 4096, rng.getrandbits(16)))
            return out + struct.pack("<HB", frame, rng.choice((0, 0, 1, 2, 3, 8, 31, 32, 64, rng.randrange(256))))
        if pattern.row.operands[:1] in (("ptr16:16",), ("ptr16:32",)):
            offset_bytes = struct.pack("<I", rng.choice((CODE + rng.randrange(PAGE), value(rng))))
            return out + offset_bytes[: pattern.immediates[0] - 2] + struct.pack("<H", rng.choice(_SELECTORS))
        return out + b"".join(immediate(rng, size) for size in pattern.immediates)

    def _escape(self) -> bytes:
        vex = self.pattern.vex
        return self.pattern.escape if vex is None else vex.prefix(self.rng.randrange(8) * self.pattern.has_vvvv)

    def _modrm(self, modrm: int) -> bytes:
        if modrm >= 0xC0 or any(f.kind in ("cr", "dr") for f in self.pattern.fields):
            return bytes((modrm,))
        target = place(self.rng)
        self._fill_operand(target)
        encode = self._address16 if 0x67 in self.prefixes else self._address32
        return encode(modrm, target)

    def _fill_operand(self, target: int) -> None:
        """Put something that matters where the operand is."""
        rng = self.rng
        kind = rng.randrange(8)
        if kind == 0:
            self.patches.append((target, struct.pack("<II", self.regs[0], self.regs[2])))
        elif kind == 1:
            self.patches.append((target, struct.pack("<II", value(rng), value(rng))))
        elif kind == 2:
            size = 2 if 0x66 in self.prefixes else 4
            offset = struct.pack("<I", CODE + rng.randrange(PAGE))[:size]
            self.patches.append((target, offset + struct.pack("<H", rng.choice(_SELECTORS))))
        elif kind == 3:
            self.patches.append((target, struct.pack("<H", rng.choice(_SELECTORS))))
        if self.pattern.row.name in ("bt", "bts", "btr", "btc") and rng.random() < 0.8:
            width = 16 if 0x66 in self.prefixes else 32
            self._bit_offset = rng.randint(-64, 64) * 8 if width == 16 else rng.randint(-2000, 2000)

    _bit_offset: int | None = None

    def _address32(self, modrm: int, target: int) -> bytes:
        rng, regs = self.rng, self.regs
        mod, rm = modrm >> 6, modrm & 7
        sib = rng.randrange(256) if rm == 4 else -1
        base: int | None = rm if sib < 0 else sib & 7
        size = (0, 1, 4)[mod]
        if base == 5 and mod == 0:
            base, size = None, 4
        displacement = rng.choice((0, rng.randint(-128, 127))) if size < 4 else rng.choice((rng.getrandbits(32), 8))
        displacement = displacement if size else 0
        offset = target - self._segment_base(None if base in (4, 5) else _DS)
        index = sib >> 3 & 7 if sib >= 0 and sib >> 3 & 7 != 4 else None
        self._set_bit_offset(modrm)
        scaled = regs[index] << (sib >> 6) if index is not None else 0
        if base is None:
            displacement = offset - scaled
        elif base == index:
            displacement, size, modrm = offset - regs[base] - scaled, 4, modrm & 0x3F | 0x80
        else:
            regs[base] = (offset - scaled - displacement) & 0xFFFFFFFF
        out = bytes((modrm,)) if sib < 0 else bytes((modrm, sib))
        return out + struct.pack("<I", displacement & 0xFFFFFFFF)[:size]

    def _address16(self, modrm: int, target: int) -> bytes:
        rng, regs = self.rng, self.regs
        mod, rm = modrm >> 6, modrm & 7
        names: tuple[int, ...] = () if modrm & 0xC7 == 6 else _BASES16[rm]
        offset = target - self._segment_base(None if 5 in names else _DS)
        self._set_bit_offset(modrm)
        size = 2 if not names else (0, 1, 2)[mod]
        displacement = rng.choice((0, rng.randint(-128, 127))) if size else 0
        if not names:
            displacement = offset
        else:
            others = sum(regs[name] for name in names[1:])
            low = (offset - others - displacement) & 0xFFFF
            regs[names[0]] = regs[names[0]] & 0xFFFF0000 | low
        return bytes((modrm,)) + struct.pack("<H", displacement & 0xFFFF)[:size]

    def _set_bit_offset(self, modrm: int) -> None:
        if self._bit_offset is not None and self.pattern.row.operands[1] != "imm8":
            self.regs[modrm >> 3 & 7] = self._bit_offset & 0xFFFFFFFF

    def _clipped_patches(self) -> tuple[tuple[int, bytes], ...]:
        """The patches, cut to DATA and STACK."""
        out = []
        for address, data in self.patches:
            for page in (DATA, STACK):
                start, end = max(address, page), min(address + len(data), page + PAGE)
                if start < end:
                    out.append((start, data[start - address : end - address]))
        return tuple(out)

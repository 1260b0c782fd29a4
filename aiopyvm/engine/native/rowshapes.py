"""A shape for every row of the instruction table, so that no instruction waits for its handler.

Of each row: its form with registers (one for AL to BL, one for AH to BH), and its general shape, which stands for every
32-bit address. Prefixes that make another shape are there where programs use them: LOCK, REP, GS. What is left out (a
prefix that means nothing, families of rows that are seldom met) gets its handler when it is met.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiopyvm.engine.native.handlers import Shape, has_general
from aiopyvm.isa.decode import DecodeFault, Decoder
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.notation import Pattern

_SELDOM: Final = ("privileged", "bcd", "system")  # families of rows; the first are #GP here
_SELDOM_SHORT: Final = ("branch", "interrupt", "stack", "bits", "shift", "x87_arith", "x87_compare")  # of 16 bits
_USUAL_AVX: Final = frozenset(  # of VEX, what compilers write for programs that do not ask for vectors
    "vmovaps vmovups vmovapd vmovupd vmovdqa vmovdqu vmovd vmovq vmovss vmovsd vaddss vaddsd vsubss vsubsd vmulss "
    "vmulsd vdivss vdivsd vsqrtsd vucomiss vucomisd vcomiss vcomisd vcvtsi2ss vcvtsi2sd vcvttss2si vcvttsd2si "
    "vcvtss2sd vcvtsd2ss vaddps vaddpd vsubps vsubpd vmulps vmulpd vandps vandpd vxorps vxorpd vunpcklps vunpcklpd "
    "vpxor vpor vpand vpaddd vpaddq vpsubd vpcmpeqb vpminub vpmovmskb vpunpcklqdq vzeroupper".split()
)
_LONG: Final = ("frstor", "fldenv", "fnsave", "fnstenv", "fxsave", "fxrstor")  # their handlers are
_BASE_AND_INDEX: Final = b"\x8b\x08\x01\x00\x00"  # SIB and displacement: [ebx + ecx * 4 + 0x108]
_HIGH: Final = 4  # the number of AH
_THREAD_ROWS: Final = frozenset("mov movzx movsx cmp add sub xor or and inc dec test push pop call jmp".split())
_MEMORY_PREFIXES: Final = (b"\xf0", b"\x65")
_REPEATS: Final = {"": (b"",), "rep": (b"", b"\xf3"), "repe": (b"", b"\xf3", b"\xf2")}


def row_shapes(decoder: Decoder) -> Iterator[Shape]:
    """Yield the shapes; some of them have no native form."""
    for pattern in decoder.patterns:
        if _is_seldom(pattern):
            continue
        for insn in _instructions(decoder, pattern):
            yield Shape(insn, general=has_general(insn))


def _is_seldom(pattern: Pattern) -> bool:
    family = pattern.row.semantics.__module__.rpartition(".")[2]
    short = pattern.operand_size == 16 or "m16int" in pattern.row.operands
    if pattern.row.vex and pattern.row.name[0] == "v" and pattern.row.name not in _USUAL_AVX:
        return True
    return family in _SELDOM or pattern.row.name in _LONG or (short and family in _SELDOM_SHORT)


def _instructions(decoder: Decoder, pattern: Pattern) -> Iterator[Insn]:
    """Instructions of a row: with prefixes, with registers, with an address."""
    code = pattern.escape + bytes((pattern.opcode + pattern.in_opcode & 0xFF,))  # 90 is NOP
    behind = bytes(range(2, 2 + sum(pattern.immediates))) + bytes(4)
    for prefixes in _prefixes(pattern):
        plain = not prefixes or prefixes[:1] not in _MEMORY_PREFIXES
        for modrm in _modrms(pattern, plain):
            try:
                insn = decoder.decode(prefixes + code + modrm + behind)
            except DecodeFault:
                continue
            if insn.row is pattern.row:
                yield insn


def _prefixes(pattern: Pattern) -> Iterator[bytes]:
    row = pattern.row
    size = b"\x66" if pattern.operand_size == 16 else b""
    mandatory = pattern.prefix
    for repeat in _REPEATS[row.rep]:
        if not (repeat and size):
            yield mandatory + repeat + size
    if not size and not mandatory:
        if row.lock:
            yield b"\xf0"
        if row.name in _THREAD_ROWS and any(field.memory_width > 0 for field in pattern.fields):
            yield b"\x65"


def _modrms(pattern: Pattern, registers: bool) -> Iterator[bytes]:
    """ModRM with registers, low and high ones, and with an address; nothing where there is no ModRM."""
    if not pattern.modrm:
        yield b""
        return
    direct = [value for value in sorted(pattern.modrm) if value >= 0xC0 and registers]
    yield from (bytes((value,)) for value in direct[:1])
    for low_reg, low_rm in ((False, True), (True, False), (False, False)):
        found = [v for v in direct if (v >> 3 & _HIGH == 0) == low_reg and (v & _HIGH == 0) == low_rm]
        yield from (bytes((value,)) for value in found[:1])
    bytes_ = any(field.place == "reg" and field.kind == "gpr" and field.width == 8 for field in pattern.fields)
    for high in (0, _HIGH) if bytes_ and registers else (0,):
        address = [v for v in sorted(pattern.modrm) if v & 0xC7 == 0x84 and v >> 3 & _HIGH >= high]
        yield from (bytes((value,)) + _BASE_AND_INDEX for value in address[:1])

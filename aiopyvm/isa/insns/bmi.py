"""Bits, as later processors count and move them: POPCNT LZCNT TZCNT, BMI1, BMI2.

ANDN BEXTR BLSI BLSMSK BLSR; BZHI MULX PDEP PEXT RORX SARX SHLX SHRX. Those with VEX are of 32 bits, whatever the
operand size is. Flags that the manual leaves undefined are what the hardware was seen to leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.places import RegisterPlace, Source
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer


@insn("popcnt", source="Intel SDM vol. 2B, POPCNT", writes=OSZAPC, cpuid="popcnt")
@form("F3 0F B8 /r", "r16, r/m16")
@form("F3 0F B8 /r", "r32, r/m32")
def popcnt(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := number of ones in src."""
    x = src.load()
    dst.store(x.popcnt())
    for flag in (CF, OF, AF, SF, PF):
        b.set_flag(flag, 0)
    b.set_flag(ZF, x.eq(0))


def _set_flags(b: Tracer, result: Value) -> None:
    """SF and ZF of `result`; the others are cleared."""
    for flag in (CF, OF, AF, PF):
        b.set_flag(flag, 0)
    b.set_flag(SF, result.msb)
    b.set_flag(ZF, result.eq(0))


def _set_count(b: Tracer, dst: RegisterPlace, x: Value, count: Value) -> None:
    """dst := count; ZF: it is 0; CF: x is 0."""
    dst.store(count)
    _set_flags(b, count)
    b.set_flag(CF, x.eq(0))


@insn("lzcnt", source="Intel SDM vol. 2A, LZCNT", writes=OSZAPC, undefined=OF | SF | PF | AF, cpuid="abm")
@form("F3 0F BD /r", "r16, r/m16")
@form("F3 0F BD /r", "r32, r/m32")
def lzcnt(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := number of zeros above the highest one of src; its width where there is none."""
    x = src.load()
    _set_count(b, dst, x, x.clz())


@insn("tzcnt", source="Intel SDM vol. 2B, TZCNT", writes=OSZAPC, undefined=OF | SF | PF | AF, cpuid="bmi1")
@form("F3 0F BC /r", "r16, r/m16")
@form("F3 0F BC /r", "r32, r/m32")
def tzcnt(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := number of zeros below the lowest one of src; its width where there is none."""
    x = src.load()
    _set_count(b, dst, x, x.ctz())


# -- BMI1 ------------------------------------------------------------------------------------------------------------


@insn("andn", source="Intel SDM vol. 2A, ANDN", writes=OSZAPC, undefined=AF | PF, cpuid="bmi1")
@form("VEX.LZ.0F38.W0 F2 /r", "r32a, r32b, r/m32")
def andn(b: Tracer, dst: RegisterPlace, mask: RegisterPlace, src: Source) -> None:
    """dst := src without the bits of mask."""
    result = ~mask.load() & src.load()
    dst.store(result)
    _set_flags(b, result)


@insn("bextr", source="Intel SDM vol. 2A, BEXTR", writes=OSZAPC, undefined=AF | SF | PF, cpuid="bmi1")
@form("VEX.LZ.0F38.W0 F7 /r", "r32a, r/m32, r32b")
def bextr(b: Tracer, dst: RegisterPlace, src: Source, field: RegisterPlace) -> None:
    """dst := as many bits of src as the second byte of `field` says, from the one on that its first byte says."""
    x, control = src.load(), field.load()
    start, length = control & 0xFF, (control >> 8) & 0xFF
    shifted = b.select(start.ult(32), x >> (start & 31), 0)
    result = b.select(length.ult(32), shifted & _ones(b, length), shifted)
    dst.store(result)
    _set_flags(b, result)
    b.set_flag(SF, 0)


def _ones(b: Tracer, count: Value) -> Value:
    """As many ones (i32) as `count` modulo 32 says, from the lowest bit on."""
    return (b.const(1) << (count & 31)) - 1


def _lowest(b: Tracer, dst: RegisterPlace, x: Value, result: Value, carry: Value) -> None:
    dst.store(result)
    _set_flags(b, result)
    b.set_flag(CF, carry)


@insn("blsi", source="Intel SDM vol. 2A, BLSI", writes=OSZAPC, undefined=AF | PF, cpuid="bmi1")
@form("VEX.LZ.0F38.W0 F3 /3", "r32, r/m32")
def blsi(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := the lowest one of src alone."""
    x = src.load()
    _lowest(b, dst, x, x & -x, x.ne(0))


@insn("blsmsk", source="Intel SDM vol. 2A, BLSMSK", writes=OSZAPC, undefined=AF | PF, cpuid="bmi1")
@form("VEX.LZ.0F38.W0 F3 /2", "r32, r/m32")
def blsmsk(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := ones up to the lowest one of src."""
    x = src.load()
    _lowest(b, dst, x, x ^ (x - 1), x.eq(0))


@insn("blsr", source="Intel SDM vol. 2A, BLSR", writes=OSZAPC, undefined=AF | PF, cpuid="bmi1")
@form("VEX.LZ.0F38.W0 F3 /1", "r32, r/m32")
def blsr(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := src without its lowest one."""
    x = src.load()
    _lowest(b, dst, x, x & (x - 1), x.eq(0))


# -- BMI2 ------------------------------------------------------------------------------------------------------------


@insn("bzhi", source="Intel SDM vol. 2A, BZHI", writes=OSZAPC, undefined=AF | PF, cpuid="bmi2")
@form("VEX.LZ.0F38.W0 F5 /r", "r32a, r/m32, r32b")
def bzhi(b: Tracer, dst: RegisterPlace, src: Source, index: RegisterPlace) -> None:
    """dst := the bits of src below the one that the first byte of `index` numbers."""
    x, n = src.load(), index.load() & 0xFF
    inside = n.ult(32)
    result = b.select(inside, x & _ones(b, n), x)
    dst.store(result)
    _set_flags(b, result)
    b.set_flag(CF, ~inside)


@insn("mulx", source="Intel SDM vol. 2B, MULX", cpuid="bmi2")
@form("VEX.LZ.F2.0F38.W0 F6 /r", "r32a, r32b, r/m32")
def mulx(b: Tracer, high: RegisterPlace, low: RegisterPlace, src: Source) -> None:
    """high:low := EDX * src; where both are one register, the high half stays."""
    product = b.get("edx").zext(64) * src.load().zext(64)
    low.store(product.trunc(32))
    high.store((product >> 32).trunc(32))


def _prefix_parity(x: Value) -> Value:
    """Each bit: the parity of the bits of x up to it."""
    for distance in (1, 2, 4, 8, 16):
        x = x ^ (x << distance)
    return x


def _moves(mask: Value) -> list[Value]:
    """The bits that move right by 1, 2, 4, 8, 16 where the bits of `mask` are pressed together.

    Warren, Hacker's Delight, 7-4: "Compress, or Generalized Extract".
    """
    moves = []
    zeros = ~mask << 1
    for step in range(5):
        parity = _prefix_parity(zeros)
        move = parity & mask
        moves.append(move)
        mask = (mask ^ move) | (move >> (1 << step))
        zeros = zeros & ~parity
    return moves


@insn("pext", source="Intel SDM vol. 2B, PEXT", cpuid="bmi2")
@form("VEX.LZ.F3.0F38.W0 F5 /r", "r32a, r32b, r/m32")
def pext(b: Tracer, dst: RegisterPlace, src: RegisterPlace, mask: Source) -> None:
    """dst := the bits of src that mask has, pressed together."""
    chosen = mask.load()
    x = src.load() & chosen
    for step, move in enumerate(_moves(chosen)):
        moving = x & move
        x = (x ^ moving) | (moving >> (1 << step))
    dst.store(x)


@insn("pdep", source="Intel SDM vol. 2B, PDEP", cpuid="bmi2")
@form("VEX.LZ.F2.0F38.W0 F5 /r", "r32a, r32b, r/m32")
def pdep(b: Tracer, dst: RegisterPlace, src: RegisterPlace, mask: Source) -> None:
    """dst := the lowest bits of src, spread to the bits that mask has."""
    chosen = mask.load()
    x = src.load()
    for step, move in reversed(list(enumerate(_moves(chosen)))):
        x = (x & ~move) | ((x << (1 << step)) & move)
    dst.store(x & chosen)


@insn("rorx", source="Intel SDM vol. 2B, RORX", cpuid="bmi2")
@form("VEX.LZ.F2.0F3A.W0 F0 /r ib", "r32, r/m32, imm8", zero_extend=True)
def rorx(b: Tracer, dst: RegisterPlace, src: Source, count: Source) -> None:
    """dst := src rotated right."""
    x, n = src.load(), count.load() & 31
    dst.store((x >> n) | (x << (-n & 31)))


@insn("sarx", source="Intel SDM vol. 2B, SARX/SHLX/SHRX", cpuid="bmi2")
@form("VEX.LZ.F3.0F38.W0 F7 /r", "r32a, r/m32, r32b")
def sarx(b: Tracer, dst: RegisterPlace, src: Source, count: RegisterPlace) -> None:
    """dst := src shifted right, its sign repeated."""
    dst.store(src.load().sar(count.load() & 31))


@insn("shlx", source="Intel SDM vol. 2B, SARX/SHLX/SHRX", cpuid="bmi2")
@form("VEX.LZ.66.0F38.W0 F7 /r", "r32a, r/m32, r32b")
def shlx(b: Tracer, dst: RegisterPlace, src: Source, count: RegisterPlace) -> None:
    """dst := src shifted left."""
    dst.store(src.load() << (count.load() & 31))


@insn("shrx", source="Intel SDM vol. 2B, SARX/SHLX/SHRX", cpuid="bmi2")
@form("VEX.LZ.F2.0F38.W0 F7 /r", "r32a, r/m32, r32b")
def shrx(b: Tracer, dst: RegisterPlace, src: Source, count: RegisterPlace) -> None:
    """dst := src shifted right."""
    dst.store(src.load() >> (count.load() & 31))

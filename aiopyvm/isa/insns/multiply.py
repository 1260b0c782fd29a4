"""Multiplication and division: MUL IMUL DIV IDIV.

Flags that the manual leaves undefined are as P6 successors leave them: a product sets SF and PF by its low half and
clears ZF and AF; a division changes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.places import RegisterPlace, Source
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.vectors import DE

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

SZAP = SF | ZF | AF | PF


def _load_pair(b: Tracer, width: int) -> Value:
    """The double-width operand: AX, DX:AX or EDX:EAX."""
    if width == 8:
        return b.reg("ax").load()
    high, low = (b.reg(name).load() for name in (("dx", "ax") if width == 16 else ("edx", "eax")))
    return high.zext(2 * width) << width | low.zext(2 * width)


def _store_pair(b: Tracer, low: Value, high: Value) -> None:
    """AL and AH, AX and DX, or EAX and EDX."""
    names = {8: ("al", "ah"), 16: ("ax", "dx"), 32: ("eax", "edx")}[low.bits]
    b.reg(names[0]).store(low)
    b.reg(names[1]).store(high)


def _set_product_flags(b: Tracer, low: Value, overflow: Value) -> None:
    b.set_flag(CF, overflow)
    b.set_flag(OF, overflow)
    b.set_flag(SF, low.msb)
    b.set_flag(ZF, 0)
    b.set_flag(AF, 0)
    b.set_flag(PF, low.parity())


@insn("mul", source="Intel SDM vol. 2B, MUL", writes=OSZAPC, undefined=SZAP)
@form("F6 /4", "r/m8")
@form("F7 /4", "r/m16")
@form("F7 /4", "r/m32")
def mul(b: Tracer, src: Source) -> None:
    """Double-width accumulator := accumulator * src, unsigned; CF and OF: the high half is not 0."""
    y = src.load()
    width = y.bits
    x = b.reg({8: "al", 16: "ax", 32: "eax"}[width]).load()
    product = x.zext(2 * width) * y.zext(2 * width)
    low, high = product.trunc(width), (product >> width).trunc(width)
    _store_pair(b, low, high)
    _set_product_flags(b, low, high.ne(0))


@insn("imul", source="Intel SDM vol. 2A, IMUL", writes=OSZAPC, undefined=SZAP)
@form("F6 /5", "r/m8")
@form("F7 /5", "r/m16")
@form("F7 /5", "r/m32")
def imul1(b: Tracer, src: Source) -> None:
    """Double-width accumulator := accumulator * src, signed; CF and OF: the low half alone is another number."""
    y = src.load()
    width = y.bits
    x = b.reg({8: "al", 16: "ax", 32: "eax"}[width]).load()
    product = x.sext(2 * width) * y.sext(2 * width)
    low = product.trunc(width)
    _store_pair(b, low, (product >> width).trunc(width))
    _set_product_flags(b, low, product.ne(low.sext(2 * width)))


def _imul(b: Tracer, dst: RegisterPlace, x: Value, y: Value) -> None:
    product = x.sext(2 * x.bits) * y.sext(2 * x.bits)
    low = product.trunc(x.bits)
    dst.store(low)
    _set_product_flags(b, low, product.ne(low.sext(2 * x.bits)))


@insn("imul", source="Intel SDM vol. 2A, IMUL", writes=OSZAPC, undefined=SZAP)
@form("0F AF /r", "r16, r/m16")
@form("0F AF /r", "r32, r/m32")
def imul2(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := dst * src, signed, cut to dst; CF and OF: something was cut."""
    _imul(b, dst, dst.load(), src.load())


@insn("imul", source="Intel SDM vol. 2A, IMUL", writes=OSZAPC, undefined=SZAP)
@form("6B /r ib", "r16, r/m16, imm8")
@form("6B /r ib", "r32, r/m32, imm8")
@form("69 /r iw", "r16, r/m16, imm16")
@form("69 /r id", "r32, r/m32, imm32")
def imul3(b: Tracer, dst: RegisterPlace, src: Source, immediate: Source) -> None:
    """dst := src * immediate, signed, cut to dst; CF and OF: something was cut."""
    _imul(b, dst, src.load(), immediate.load())


@insn("div", source="Intel SDM vol. 2A, DIV", undefined=OSZAPC)
@form("F6 /6", "r/m8")
@form("F7 /6", "r/m16")
@form("F7 /6", "r/m32")
def div(b: Tracer, src: Source) -> None:
    """Accumulator := quotient, its upper partner := remainder, unsigned; #DE where the quotient does not fit."""
    divisor = src.load()
    width = divisor.bits
    dividend = _load_pair(b, width)
    b.fault(DE, divisor.ule((dividend >> width).trunc(width)))
    wide = divisor.zext(2 * width)
    _store_pair(b, dividend.udiv(wide).trunc(width), dividend.urem(wide).trunc(width))


@insn("idiv", source="Intel SDM vol. 2A, IDIV", undefined=OSZAPC)
@form("F6 /7", "r/m8")
@form("F7 /7", "r/m16")
@form("F7 /7", "r/m32")
def idiv(b: Tracer, src: Source) -> None:
    """Accumulator := quotient, its upper partner := remainder, signed; #DE where the quotient does not fit."""
    divisor = src.load()
    width = divisor.bits
    dividend = _load_pair(b, width)
    wide = divisor.sext(2 * width)
    lowest = 1 << (2 * width - 1)
    b.fault(DE, divisor.eq(0) | (dividend.eq(lowest) & wide.eq((1 << 2 * width) - 1)))
    quotient = dividend.sdiv(wide)
    b.fault(DE, quotient.ne(quotient.trunc(width).sext(2 * width)))
    _store_pair(b, quotient.trunc(width), dividend.srem(wide).trunc(width))

"""Decimal adjustment: AAA AAS AAM AAD DAA DAS. Undefined flags are as P6 successors leave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.flags import set_add_flags, set_result_flags
from aiopyvm.isa.places import ImmediatePlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.vectors import DE

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer


def _adjust_unpacked(b: Tracer, step: int) -> None:
    """Where AL's low digit is above 9 or AF is set, AX += step; then AL keeps its low digit."""
    ax = b.reg("ax").load()
    adjust = b.lift(9, ax.type).ult(ax & 0xF) | b.flag(AF)
    ax = b.select(adjust, ax + step, ax) & 0xFF0F
    b.reg("ax").store(ax)
    b.set_flag(AF, adjust)
    b.set_flag(CF, adjust)
    b.set_flag(OF, 0)
    set_result_flags(b, ax.trunc(8))


@insn("aaa", source="Intel SDM vol. 2A, AAA", reads=AF, writes=OSZAPC, undefined=OF | SF | ZF | PF)
@form("37")
def aaa(b: Tracer) -> None:
    """Adjust AX after the addition of two unpacked digits."""
    _adjust_unpacked(b, 0x106)


@insn("aas", source="Intel SDM vol. 2A, AAS", reads=AF, writes=OSZAPC, undefined=OF | SF | ZF | PF)
@form("3F")
def aas(b: Tracer) -> None:
    """Adjust AX after the subtraction of two unpacked digits."""
    _adjust_unpacked(b, -0x106)


@insn("aam", source="Intel SDM vol. 2A, AAM", writes=OSZAPC, undefined=OF | AF | CF)
@form("D4 ib", "imm8")
def aam(b: Tracer, base: ImmediatePlace) -> None:
    """AH := AL / base, AL := AL modulo base; #DE for base 0."""
    divisor = base.load()
    b.fault(DE, divisor.eq(0))
    if divisor.op == "const" and not divisor.attr:
        return  # nothing comes behind the fault, least of all a division by 0
    al = b.reg("al").load()
    remainder = al.urem(divisor)
    b.reg("ax").store(al.udiv(divisor).zext(16) << 8 | remainder.zext(16))
    for flag in (OF, AF, CF):
        b.set_flag(flag, 0)
    set_result_flags(b, remainder)


@insn("aad", source="Intel SDM vol. 2A, AAD", writes=OSZAPC, undefined=OF | AF | CF)
@form("D5 ib", "imm8")
def aad(b: Tracer, base: ImmediatePlace) -> None:
    """AL := AL + AH * base, AH := 0."""
    x, y = b.reg("al").load(), b.reg("ah").load() * base.load()
    result = x + y
    b.reg("ax").store(result.zext(16))
    set_add_flags(b, x, y, result)


def _adjust_packed(b: Tracer, *, subtract: bool) -> None:
    al, carry = b.reg("al").load(), b.flag(CF)
    low = b.lift(9, al.type).ult(al & 0xF) | b.flag(AF)
    high = b.lift(0x99, al.type).ult(al) | carry
    correction: Value = b.select(low, b.lift(6, al.type), 0) + b.select(high, b.lift(0x60, al.type), 0)
    result = al - correction if subtract else al + correction
    b.reg("al").store(result)
    borrowed = low & al.ult(6) if subtract else b.lift(0, carry.type)
    b.set_flag(CF, high | borrowed)
    b.set_flag(AF, low)
    b.set_flag(OF, 0)
    set_result_flags(b, result)


@insn("daa", source="Intel SDM vol. 2A, DAA", reads=AF | CF, writes=OSZAPC, undefined=OF)
@form("27")
def daa(b: Tracer) -> None:
    """Adjust AL after the addition of two packed numbers."""
    _adjust_packed(b, subtract=False)


@insn("das", source="Intel SDM vol. 2A, DAS", reads=AF | CF, writes=OSZAPC, undefined=OF)
@form("2F")
def das(b: Tracer) -> None:
    """Adjust AL after the subtraction of two packed numbers."""
    _adjust_packed(b, subtract=True)

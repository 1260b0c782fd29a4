"""PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SSE4.2). Their operand in memory need not be aligned."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.helpers import Helper
from aiopyvm.ir.types import I8, V128, Type, integer
from aiopyvm.isa.pcmpstr import (
    CARRY,
    INDEX,
    MASK,
    OVERFLOW,
    SIGN,
    ZERO,
    elements,
    pcmpestr,
    pcmpestri,
    pcmpistr,
    pcmpistri,
)
from aiopyvm.isa.places import ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, low
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM, avx

_WHOLE_ELEMENTS = 0x40  # of the immediate: a mask of whole elements


def _compare(b: Tracer, helper: Helper, type_: Type, first: VectorPlace, second: Source, control: int) -> Value:
    """What a helper of `pcmpstr` returns."""
    lengths = [b.get("eax"), b.get("edx")] if helper in (pcmpestr, pcmpestri) else []
    operands = [low(b, second, V128), first.load()][::-1]
    return b.helper(helper, type_, *operands, *lengths, b.const(control, I8))


def _set_flags(b: Tracer, carry: Value, zero: Value, sign: Value, overflow: Value) -> None:
    for flag, value in ((CF, carry), (ZF, zero), (SF, sign), (OF, overflow)):
        b.set_flag(flag, value)
    b.set_flag(AF, 0)
    b.set_flag(PF, 0)


def _mask(bits: Value, control: int) -> Value:
    count = bits.bits
    if not control & _WHOLE_ELEMENTS:
        return bits.zext(128).cast(V128)
    return bits.cast(integer(1, count)).sext(128 // count).cast(V128)


def _define(name: str, opcode: int, index: Helper, mask: Helper) -> None:
    @avx(lengths=(XMM,))
    @insn(f"{name}i", source=f"Intel SDM vol. 2B, {name.upper()}I", writes=OSZAPC, cpuid="sse4_2")
    @form(f"66 0F 3A {opcode + 1:02X} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def to_index(b: Tracer, first: VectorPlace, second: Source, control: ImmediatePlace) -> None:
        """ECX := the index of an element that compares so."""
        result = _compare(b, index, INDEX, first, second, int(control))
        _set_flags(b, *(result.bit(flag) for flag in (CARRY, ZERO, SIGN, OVERFLOW)))
        b.set("ecx", (result >> 1).trunc(5).zext(32))

    @avx(lengths=(XMM,))
    @insn(f"{name}m", source=f"Intel SDM vol. 2B, {name.upper()}M", writes=OSZAPC, cpuid="sse4_2")
    @form(f"66 0F 3A {opcode:02X} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def to_mask(b: Tracer, first: VectorPlace, second: Source, control: ImmediatePlace) -> None:
        """XMM0 := the elements that compare so."""
        result = _compare(b, mask, MASK, first, second, int(control))
        bits = result.trunc(elements(int(control)).lanes)
        _set_flags(b, bits.ne(0), result.bit(16), result.bit(17), bits.bit(0))
        VectorPlace(b, 0, XMM, b.insn.row.vex).store(_mask(bits, int(control)))


_define("pcmpestr", 0x60, pcmpestri, pcmpestr)
_define("pcmpistr", 0x62, pcmpistri, pcmpistr)

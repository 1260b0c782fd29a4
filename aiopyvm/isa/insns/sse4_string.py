"""PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SSE4.2). Their operand in memory need not be aligned."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import I8, V128, integer
from aiopyvm.isa.pcmpstr import elements, pcmpestr, pcmpistr
from aiopyvm.isa.places import ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, low
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM, avx

_RESULT = integer(18)
_MOST_SIGNIFICANT = 0x40  # of the immediate: the last index; a mask of whole elements


def _compare(b: Tracer, first: VectorPlace, second: Source, control: int, explicit: bool) -> Value:
    """IntRes2, as many bits as there are elements; sets the flags."""
    lengths = [b.get("eax"), b.get("edx")] if explicit else []
    operands = [low(b, second, V128), first.load()][::-1]
    helper = pcmpestr if explicit else pcmpistr
    result = b.helper(helper, _RESULT, *operands, *lengths, b.const(control, I8))
    bits = result.trunc(elements(control).lanes)
    for flag, value in ((CF, bits.ne(0)), (ZF, result.bit(16)), (SF, result.bit(17)), (OF, bits.bit(0))):
        b.set_flag(flag, value)
    b.set_flag(AF, 0)
    b.set_flag(PF, 0)
    return bits


def _index(b: Tracer, bits: Value, control: int) -> Value:
    """The number of the last or the first element that is set, of all elements where none is (i32)."""
    count = bits.bits
    if not control & _MOST_SIGNIFICANT:
        return bits.ctz().zext(32)
    return b.select(bits.eq(0), count, (b.lift(count - 1, bits.type) - bits.clz()).zext(32))


def _mask(bits: Value, control: int) -> Value:
    count = bits.bits
    if not control & _MOST_SIGNIFICANT:
        return bits.zext(128).cast(V128)
    return bits.cast(integer(1, count)).sext(128 // count).cast(V128)


def _define(name: str, opcode: int, explicit: bool) -> None:
    @avx(lengths=(XMM,))
    @insn(f"{name}i", source=f"Intel SDM vol. 2B, {name.upper()}I", writes=OSZAPC, cpuid="sse4_2")
    @form(f"66 0F 3A {opcode + 1:02X} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def to_index(b: Tracer, first: VectorPlace, second: Source, control: ImmediatePlace) -> None:
        """ECX := the index of an element that compares so."""
        bits = _compare(b, first, second, int(control), explicit)
        b.set("ecx", _index(b, bits, int(control)))

    @avx(lengths=(XMM,))
    @insn(f"{name}m", source=f"Intel SDM vol. 2B, {name.upper()}M", writes=OSZAPC, cpuid="sse4_2")
    @form(f"66 0F 3A {opcode:02X} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def to_mask(b: Tracer, first: VectorPlace, second: Source, control: ImmediatePlace) -> None:
        """XMM0 := the elements that compare so."""
        bits = _compare(b, first, second, int(control), explicit)
        VectorPlace(b, 0, XMM, b.insn.row.vex).store(_mask(bits, int(control)))


_define("pcmpestr", 0x60, explicit=True)
_define("pcmpistr", 0x62, explicit=False)

"""Single bits and their positions: BT BTS BTR BTC BSF BSR BSWAP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiopyvm.isa.places import Destination, ImmediatePlace, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.spec import Semantics, form, forms, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

SZAP_O = SF | ZF | AF | PF | OF


def _forms(by_register: str, digit: int) -> Callable[[Semantics], Semantics]:
    def add(function: Semantics) -> Semantics:
        immediates = ((f"0F BA /{digit} ib", "r/m16, imm8"), (f"0F BA /{digit} ib", "r/m32, imm8"))
        function = forms(*immediates, zero_extend=True)(function)
        return forms((by_register, "r/m16, r16"), (by_register, "r/m32, r32"))(function)

    return add


def _locate(dst: Destination, offset: Source) -> tuple[Destination, Value]:
    """The place that holds the bit, and its number there: a register offset reaches beyond an operand in memory."""
    index = offset.load()
    if isinstance(dst, MemoryPlace) and not isinstance(offset, ImmediatePlace):
        shift = index.bits.bit_length() - 1  # 4 or 5
        dst = dst.displaced(index.sar(shift).sext(32) << (shift - 3))
    return dst, index & (index.bits - 1)


def _change(b: Tracer, dst: Destination, offset: Source, new: Callable[[Value, Value], Value]) -> None:
    """CF := the bit; the operand that holds it := new(operand, mask of the bit)."""
    place, index = _locate(dst, offset)
    x = place.modify()
    place.store(new(x, b.lift(1, x.type) << index))
    b.set_flag(CF, (x >> index).trunc(1))


@insn("bt", source="Intel SDM vol. 2A, BT", writes=CF, undefined=SZAP_O & ~ZF)
@_forms("0F A3 /r", 4)
def bt(b: Tracer, dst: Destination, offset: Source) -> None:
    """CF := bit of dst."""
    place, index = _locate(dst, offset)
    b.set_flag(CF, (place.load() >> index).trunc(1))


@insn("bts", source="Intel SDM vol. 2A, BTS", writes=CF, undefined=SZAP_O & ~ZF, lock=True)
@_forms("0F AB /r", 5)
def bts(b: Tracer, dst: Destination, offset: Source) -> None:
    """CF := bit of dst, then the bit is set."""
    _change(b, dst, offset, lambda x, mask: x | mask)


@insn("btr", source="Intel SDM vol. 2A, BTR", writes=CF, undefined=SZAP_O & ~ZF, lock=True)
@_forms("0F B3 /r", 6)
def btr(b: Tracer, dst: Destination, offset: Source) -> None:
    """CF := bit of dst, then the bit is cleared."""
    _change(b, dst, offset, lambda x, mask: x & ~mask)


@insn("btc", source="Intel SDM vol. 2A, BTC", writes=CF, undefined=SZAP_O & ~ZF, lock=True)
@_forms("0F BB /r", 7)
def btc(b: Tracer, dst: Destination, offset: Source) -> None:
    """CF := bit of dst, then the bit is flipped."""
    _change(b, dst, offset, lambda x, mask: x ^ mask)


def _scan(b: Tracer, dst: RegisterPlace, x: Value, index: Value) -> None:
    """dst := index unless x is 0, when it stays and ZF is set. Undefined flags are those of a result `index`."""
    empty = x.eq(0)
    with b.when(~empty):
        dst.store(index)
    for flag in (CF, OF, AF, SF):
        b.set_flag(flag, 0)
    b.set_flag(ZF, empty)
    b.set_flag(PF, b.select(empty, 1, index.parity()))


@insn("bsf", source="Intel SDM vol. 2A, BSF", writes=OSZAPC, undefined=OSZAPC & ~ZF)
@form("0F BC /r", "r16, r/m16")
@form("0F BC /r", "r32, r/m32")
def bsf(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := number of the lowest 1 in src."""
    x = src.load()
    _scan(b, dst, x, x.ctz())


@insn("bsr", source="Intel SDM vol. 2A, BSR", writes=OSZAPC, undefined=OSZAPC & ~ZF)
@form("0F BD /r", "r16, r/m16")
@form("0F BD /r", "r32, r/m32")
def bsr(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := number of the highest 1 in src."""
    x = src.load()
    _scan(b, dst, x, b.lift(x.bits - 1, x.type) - x.clz())


@insn("bswap", source="Intel SDM vol. 2A, BSWAP")
@form("0F C8+rd", "r32")
@form("0F C8+rw", "r16", attributes="alias")
def bswap(b: Tracer, dst: RegisterPlace) -> None:
    """dst := its bytes in reverse order. The manual leaves 16 bits undefined: they become 0."""
    x = dst.load()
    if x.bits == 16:
        dst.store(0)
        return
    dst.store((x << 24) | ((x & 0xFF00) << 8) | ((x >> 8) & 0xFF00) | (x >> 24))

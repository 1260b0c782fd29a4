"""Addition and subtraction: ADD ADC SUB SBB CMP INC DEC NEG XADD CMPXCHG CMPXCHG8B."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.flags import set_add_flags, set_dec_flags, set_inc_flags, set_sub_flags
from aiopyvm.isa.insns.alu import alu_forms
from aiopyvm.isa.places import Destination, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

OSZAP = OF | SF | ZF | AF | PF


@insn("add", source="Intel SDM vol. 2A, ADD", writes=OSZAPC, lock=True)
@alu_forms(0)
def add(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst + src."""
    x, y = dst.modify(), src.load()
    result = x + y
    dst.store(result)
    set_add_flags(b, x, y, result)


@insn("adc", source="Intel SDM vol. 2A, ADC", reads=CF, writes=OSZAPC, lock=True)
@alu_forms(2)
def adc(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst + src + CF."""
    x, y = dst.modify(), src.load()
    wide = x.zext(x.bits + 1) + y.zext(x.bits + 1) + b.flag(CF).zext(x.bits + 1)
    result = wide.trunc(x.bits)
    dst.store(result)
    set_add_flags(b, x, y, result, carry=wide.msb)


@insn("sub", source="Intel SDM vol. 2B, SUB", writes=OSZAPC, lock=True)
@alu_forms(5)
def sub(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst - src."""
    x, y = dst.modify(), src.load()
    result = x - y
    dst.store(result)
    set_sub_flags(b, x, y, result)


@insn("sbb", source="Intel SDM vol. 2B, SBB", reads=CF, writes=OSZAPC, lock=True)
@alu_forms(3)
def sbb(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst - (src + CF)."""
    x, y = dst.modify(), src.load()
    wide = x.zext(x.bits + 1) - y.zext(x.bits + 1) - b.flag(CF).zext(x.bits + 1)
    result = wide.trunc(x.bits)
    dst.store(result)
    set_sub_flags(b, x, y, result, borrow=wide.msb)


@insn("cmp", source="Intel SDM vol. 2A, CMP", writes=OSZAPC)
@alu_forms(7)
def cmp(b: Tracer, dst: Source, src: Source) -> None:
    """Flags of dst - src."""
    x, y = dst.load(), src.load()
    set_sub_flags(b, x, y, x - y)


@insn("inc", source="Intel SDM vol. 2A, INC", writes=OSZAP, lock=True)
@form("40+rw", "r16")
@form("40+rd", "r32")
@form("FE /0", "r/m8")
@form("FF /0", "r/m16")
@form("FF /0", "r/m32")
def inc(b: Tracer, dst: Destination) -> None:
    """dst := dst + 1; CF stays."""
    x = dst.modify()
    result = x + 1
    dst.store(result)
    set_inc_flags(b, x, b.lift(1, x.type), result)


@insn("dec", source="Intel SDM vol. 2A, DEC", writes=OSZAP, lock=True)
@form("48+rw", "r16")
@form("48+rd", "r32")
@form("FE /1", "r/m8")
@form("FF /1", "r/m16")
@form("FF /1", "r/m32")
def dec(b: Tracer, dst: Destination) -> None:
    """dst := dst - 1; CF stays."""
    x = dst.modify()
    result = x - 1
    dst.store(result)
    set_dec_flags(b, x, b.lift(1, x.type), result)


@insn("neg", source="Intel SDM vol. 2B, NEG", writes=OSZAPC, lock=True)
@form("F6 /3", "r/m8")
@form("F7 /3", "r/m16")
@form("F7 /3", "r/m32")
def neg(b: Tracer, dst: Destination) -> None:
    """dst := 0 - dst; CF := dst is not 0."""
    x = dst.modify()
    result = -x
    dst.store(result)
    set_sub_flags(b, b.lift(0, x.type), x, result)


@insn("xadd", source="Intel SDM vol. 2D, XADD", writes=OSZAPC, lock=True)
@form("0F C0 /r", "r/m8, r8")
@form("0F C1 /r", "r/m16, r16")
@form("0F C1 /r", "r/m32, r32")
def xadd(b: Tracer, dst: Destination, src: RegisterPlace) -> None:
    """src := dst, dst := dst + src; where both are one register, the sum stays."""
    x, y = dst.modify(), src.load()
    result = x + y
    src.store(x)
    dst.store(result)
    set_add_flags(b, x, y, result)


@insn("cmpxchg", source="Intel SDM vol. 2A, CMPXCHG", writes=OSZAPC, lock=True)
@form("0F B0 /r", "r/m8, r8")
@form("0F B1 /r", "r/m16, r16")
@form("0F B1 /r", "r/m32, r32")
def cmpxchg(b: Tracer, dst: Destination, src: RegisterPlace) -> None:
    """If accumulator = dst then dst := src else accumulator := dst; memory is written in either case."""
    accumulator = b.reg({8: "al", 16: "ax", 32: "eax"}[dst.width])
    x, y, new = accumulator.load(), dst.modify(), src.load()
    equal = x.eq(y)
    _exchange(b, dst, equal, y, new)
    with b.when(~equal):
        accumulator.store(y)
    set_sub_flags(b, x, y, x - y)


def _exchange(b: Tracer, dst: Destination, equal: Value, old: Value, new: Value) -> None:
    if isinstance(dst, MemoryPlace):
        dst.store(b.select(equal, new, old))
    else:
        with b.when(equal):
            dst.store(new)


@insn("cmpxchg8b", source="Intel SDM vol. 2A, CMPXCHG8B/CMPXCHG16B", writes=ZF, lock=True, cpuid="cx8")
@form("0F C7 /1", "m64")
def cmpxchg8b(b: Tracer, dst: MemoryPlace) -> None:
    """If EDX:EAX = dst then dst := ECX:EBX else EDX:EAX := dst; dst is written in either case."""
    old = dst.modify()
    expected = b.get("edx").zext(64) << 32 | b.get("eax").zext(64)
    new = b.get("ecx").zext(64) << 32 | b.get("ebx").zext(64)
    equal = old.eq(expected)
    dst.store(b.select(equal, new, old))
    b.set("eax", b.select(equal, b.get("eax"), old.trunc(32)))
    b.set("edx", b.select(equal, b.get("edx"), (old >> 32).trunc(32)))
    b.set_flag(ZF, equal)

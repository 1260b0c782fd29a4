"""Comparison of floating-point numbers: CMPccPS and its like, COMISS, UCOMISS, and their kin of double precision."""

from __future__ import annotations

from aiopyvm.ir.types import I8, Type, integer
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.places import ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, compute, load, low, numbers, with_low
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.trace import Tracer

_PREDICATES = 7  # bits of the immediate that count


def _packed(suffix: str, prefix: str, bits: int) -> None:
    name = f"cmp{suffix}"

    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"{prefix} 0F C2 /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, predicate: ImmediatePlace) -> None:
        """dst := all ones in the lanes where the predicate holds of dst and src, else zeros."""
        x, y = numbers(dst.load(), bits), numbers(load(b, src), bits)
        dst.store(compute(b, "vcompare", integer(bits, 128 // bits), x, y, attr=int(predicate) & _PREDICATES))


def _scalar(suffix: str, prefix: str, type_: Type) -> None:
    name = f"cmp{suffix}"

    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"{prefix} 0F C2 /r ib", f"xmm1, xmm2/m{type_.bits}, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, predicate: ImmediatePlace) -> None:
        """The low lane of dst := all ones where the predicate holds, else zeros."""
        x, y = low(b, dst, type_), low(b, src, type_)
        result = compute(b, "vcompare", integer(type_.bits), x, y, attr=int(predicate) & _PREDICATES)
        dst.store(with_low(dst.load(), result))


def _order(name: str, prefix: str, opcode: str, type_: Type, *, quiet: bool) -> None:
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name), writes=OSZAPC)
    @form(f"{prefix} 0F {opcode} /r", f"xmm1, xmm2/m{type_.bits}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """ZF PF CF := 111 unordered, 000 greater, 001 less, 100 equal."""
        relation = compute(b, "vorder", I8, low(b, dst, type_), low(b, src, type_), attr=quiet)
        less, equal = relation.bit(0), relation.bit(1)
        for flag, value in ((ZF, equal), (PF, less & equal), (CF, less), (OF, 0), (SF, 0), (AF, 0)):
            b.set_flag(flag, value)


for _suffix, _prefix, _bits in rows.PACKED:
    _packed(_suffix, _prefix, _bits)
for _suffix, _prefix, _type in rows.SCALARS:
    _scalar(_suffix, _prefix, _type)
for _suffix, _prefix, _type in (("ss", "NP", rows.SCALARS[0][2]), ("sd", "66", rows.SCALARS[1][2])):
    _order(f"ucomi{_suffix}", _prefix, "2E", _type, quiet=True)
    _order(f"comi{_suffix}", _prefix, "2F", _type, quiet=False)

"""Comparison of floating-point numbers: CMPccPS and its like, COMISS, UCOMISS, and their kin of double precision."""

from __future__ import annotations

from functools import partial

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F32, F64, I8, Type, integer
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.places import VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, compute, low, numbers
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import LIG, avx

_PREDICATES, _VEX_PREDICATES = 7, 31  # bits of the immediate that count


def _predicate(b: Tracer, immediate: int) -> int:
    return immediate & (_VEX_PREDICATES if b.insn.row.vex else _PREDICATES)


def _compare(bits: int, b: Tracer, x: Value, y: Value, immediate: int) -> Value:
    """All ones in the lanes where the predicate holds of x and y, else zeros."""
    lanes = integer(bits, x.bits // bits)
    return compute(b, "vcompare", lanes, numbers(x, bits), numbers(y, bits), attr=_predicate(b, immediate))


def _compare_scalars(b: Tracer, x: Value, y: Value, immediate: int) -> Value:
    return compute(b, "vcompare", integer(x.bits), x, y, attr=_predicate(b, immediate))


def _order(name: str, prefix: str, opcode: str, type_: Type, *, quiet: bool) -> None:
    @avx(lengths=(LIG,))
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name), writes=OSZAPC)
    @form(f"{prefix} 0F {opcode} /r", f"xmm1, xmm2/m{type_.bits}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """ZF PF CF := 111 unordered, 000 greater, 001 less, 100 equal."""
        relation = compute(b, "vorder", I8, low(b, dst, type_), low(b, src, type_), attr=quiet)
        less, equal = relation.bit(0), relation.bit(1)
        for flag, value in ((ZF, equal), (PF, less & equal), (CF, less), (OF, 0), (SF, 0), (AF, 0)):
            b.set_flag(flag, value)


for _suffix, _prefix, _bits in rows.PACKED:
    rows.packed_immediate(f"cmp{_suffix}", f"{_prefix} 0F C2", partial(_compare, _bits))
for _suffix, _prefix, _type in rows.SCALARS:
    rows.scalar_immediate(f"cmp{_suffix}", f"{_prefix} 0F C2", _type, _compare_scalars)
for _suffix, _prefix, _type in (("ss", "NP", F32), ("sd", "66", F64)):
    _order(f"ucomi{_suffix}", _prefix, "2E", _type, quiet=True)
    _order(f"comi{_suffix}", _prefix, "2F", _type, quiet=False)

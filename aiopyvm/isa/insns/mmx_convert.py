"""Conversions between two integers in an MMX register and floating-point numbers (CVTPI2PS and its like)."""

from __future__ import annotations

from aiopyvm.ir.types import F32, I32, Type, floating, integer
from aiopyvm.isa import mmx
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.places import MmxPlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, align, compute, low
from aiopyvm.isa.trace import Tracer

_INTEGERS = integer(32, 2)


def _from_integers(name: str, encoding: str, number: Type) -> None:
    @insn(name, source=rows.source_of(name), cpuid="sse2" if number.bits == 64 else "sse")
    @form(f"{encoding} /r", "xmm1, mm/m64")
    def operation(b: Tracer, dst: VectorPlace, src: mmx.Source) -> None:
        """The low two lanes of dst := src, converted; the others stay. The x87 is not touched where src is memory."""
        enters = isinstance(src, MmxPlace)
        if enters:
            mmx.begin(b)
        kept = dst.load()
        found = compute(b, "vfromint", floating(number.bits, 2), mmx.load(src).cast(_INTEGERS))
        if enters:
            mmx.end(b)
        dst.store(found if found.bits == 128 else kept.insert(0, found.cast(integer(64))))


def _to_integers(name: str, encoding: str, number: Type, *, truncate: bool) -> None:
    @insn(name, source=rows.source_of(name), cpuid="sse2" if number.bits == 64 else "sse")
    @form(f"{encoding} /r", f"mm1, xmm2/m{2 * number.bits}")
    def operation(b: Tracer, dst: MmxPlace, src: Source) -> None:
        """dst := the low two lanes of src as signed integers."""
        mmx.begin(b)
        align(b, src)
        found = compute(b, "vtoint", integer(I32.bits, 2), low(b, src, floating(number.bits, 2)), attr=truncate)
        mmx.end(b)
        dst.store(found)


for _suffix, _prefix, _number in (("ps", "NP", F32), ("pd", "66", floating(64))):
    _from_integers(f"cvtpi2{_suffix}", f"{_prefix} 0F 2A", _number)
    _to_integers(f"cvtt{_suffix}2pi", f"{_prefix} 0F 2C", _number, truncate=True)
    _to_integers(f"cvt{_suffix}2pi", f"{_prefix} 0F 2D", _number, truncate=False)

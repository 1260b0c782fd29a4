"""Conversions between floating-point formats and integers (CVT..), of SSE and SSE2, but for those of MMX."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F32, F64, I32, I64, V128, Type
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.places import Destination, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, compute, load, low, with_low
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import LIG, avx

_SI = "r/m32"


def _lanes(lane: Type, bits: int) -> Type:
    """As many lanes as there are in so many bits."""
    return Type.vector(lane, bits // lane.bits)


def _whole(name: str, encoding: str, op: str, source: Type, result: Type, *, truncate: bool = False) -> None:
    """dst := src, each lane converted to one of the same width."""

    @avx()
    @insn(name, source=rows.source_of(name), cpuid="sse2")
    @form(f"{encoding} /r", "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := src, converted."""
        x = load(b, src)
        dst.store(compute(b, op, _lanes(result, x.bits), x.cast(_lanes(source, x.bits)), attr=truncate))


def _widening(name: str, encoding: str, op: str, source: Type) -> None:
    """dst := the low lanes of src, of 32 bits, as f64."""

    @avx(wide=("ymm1, xmm2/m128",))
    @insn(name, source=rows.source_of(name), cpuid="sse2")
    @form(f"{encoding} /r", "xmm1, xmm2/m64")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := as many low lanes of src as it has room for, converted."""
        dst.store(compute(b, op, _lanes(F64, dst.width), low(b, src, _lanes(source, dst.width // 2))))


def _narrowing(name: str, encoding: str, op: str, result: Type, *, truncate: bool = False) -> None:
    """dst := src, of f64, as lanes of 32 bits; the upper half of 128 bits := 0."""

    @avx(wide=("xmm1, ymm2/m256",))
    @insn(name, source=rows.source_of(name), cpuid="sse2")
    @form(f"{encoding} /r", "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low part of dst := src, converted; the rest := 0."""
        x = load(b, src)
        lanes = compute(b, op, _lanes(result, x.bits // 2), x.cast(_lanes(F64, x.bits)), attr=truncate)
        dst.store(lanes if lanes.bits == dst.width else _in_zeros(b, lanes))


def _in_zeros(b: Tracer, half: Value) -> Value:
    return b.const(0, V128).insert(0, half.cast(I64))


def _scalar(name: str, encoding: str, source: Type, result: Type) -> None:
    @avx(three=True, lengths=(LIG,))
    @insn(name, source=rows.source_of(name), cpuid="sse2")
    @form(f"{encoding} /r", f"xmm1, xmm2/m{source.bits}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := that of src, converted."""
        dst.store(with_low(dst.load(), compute(b, "vconvert", result, low(b, src, source))))


def _from_integer(name: str, encoding: str, result: Type) -> None:
    @avx(three=True, lengths=(LIG,))
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"o* {encoding} /r", f"xmm1, {_SI}")
    def operation(b: Tracer, dst: VectorPlace, src: Destination) -> None:
        """The low lane of dst := a signed integer, converted."""
        dst.store(with_low(dst.load(), compute(b, "vfromint", result, src.load())))


def _to_integer(name: str, encoding: str, source: Type, *, truncate: bool) -> None:
    @avx(lengths=(LIG,))
    @insn(name, source=rows.source_of(name), cpuid="sse" if source == F32 else "sse2")
    @form(f"o* {encoding} /r", f"r32, xmm2/m{source.bits}")
    def operation(b: Tracer, dst: Destination, src: Source) -> None:
        """dst := the low lane of src as a signed integer."""
        dst.store(compute(b, "vtoint", I32, low(b, src, source), attr=truncate))


_whole("cvtdq2ps", "NP 0F 5B", "vfromint", I32, F32)
_whole("cvtps2dq", "66 0F 5B", "vtoint", F32, I32)
_whole("cvttps2dq", "F3 0F 5B", "vtoint", F32, I32, truncate=True)
_widening("cvtps2pd", "NP 0F 5A", "vconvert", F32)
_widening("cvtdq2pd", "F3 0F E6", "vfromint", I32)
_narrowing("cvtpd2ps", "66 0F 5A", "vconvert", F32)
_narrowing("cvtpd2dq", "F2 0F E6", "vtoint", I32)
_narrowing("cvttpd2dq", "66 0F E6", "vtoint", I32, truncate=True)
_scalar("cvtss2sd", "F3 0F 5A", F32, F64)
_scalar("cvtsd2ss", "F2 0F 5A", F64, F32)
_from_integer("cvtsi2ss", "F3 0F 2A", F32)
_from_integer("cvtsi2sd", "F2 0F 2A", F64)
_to_integer("cvtss2si", "F3 0F 2D", F32, truncate=False)
_to_integer("cvtsd2si", "F2 0F 2D", F64, truncate=False)
_to_integer("cvttss2si", "F3 0F 2C", F32, truncate=True)
_to_integer("cvttsd2si", "F2 0F 2C", F64, truncate=True)

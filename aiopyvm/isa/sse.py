"""What SSE instructions share: their operands, with the alignment that they ask for, and how they set MXCSR.

A memory operand of 16 bytes must be aligned to 16, or there is #GP(0), whatever the page allows; those of MOVUPS and
its like, narrower ones, and with VEX all but those of VMOVAPS and its like, need not be. An instruction that computes
with floating-point numbers raises their exceptions before it writes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiopyvm.ir.types import V128, V256, Type, floating, integer
from aiopyvm.isa.places import MemoryPlace, MmxPlace, VectorPlace
from aiopyvm.isa.vectors import GP

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

Source = VectorPlace | MemoryPlace  # xmm/m


def align(b: Tracer, place: VectorPlace | MmxPlace | MemoryPlace) -> None:
    """#GP(0) where an operand of 16 or 32 bytes in memory is not aligned."""
    if isinstance(place, MemoryPlace) and place.width >= 128:
        b.fault(GP, (place.linear() & place.width // 8 - 1).ne(0))


def load(b: Tracer, place: Source) -> Value:
    """All of an operand of 16 or 32 bytes, aligned where it has to be, as lanes of 64 bits."""
    if not b.insn.row.vex:
        align(b, place)
    return whole(place)


def whole(place: Source) -> Value:
    """All of an operand of 16 or 32 bytes, wherever it is, as lanes of 64 bits."""
    return place.load_as(V256 if place.width == 256 else V128) if isinstance(place, MemoryPlace) else place.load()


def low(b: Tracer, place: Source, type_: Type) -> Value:
    """The low part of an operand: a scalar, or a vector of up to 16 bytes, which need not be aligned."""
    if isinstance(place, MemoryPlace):
        return place.load_as(type_)
    value = place.load()
    if type_.size == value.bits:
        return value.cast(type_)
    lane = value.lanes(type_.size).extract(0) if type_.size <= 64 else value
    return lane.cast(type_)


def with_low(vector: Value, value: Value) -> Value:
    """A vector whose low part becomes `value`.

    Where it is the result of a SIMD operation, the vector is to be loaded before: the host keeps the other lanes then.
    """
    return vector.lanes(value.bits).insert(0, value.cast(integer(value.bits)))


def numbers(value: Value, bits: int) -> Value:
    """A vector as floating-point numbers of 32 or 64 bits."""
    return value.cast(floating(bits, value.bits // bits))


def compute(b: Tracer, op: str, type_: Type, *values: Value, attr: Any = None) -> Value:
    """One SIMD operation, its exceptions raised."""
    result = b.simd(op, type_, *values, attr=attr)
    b.raises(result)
    return result


__all__ = ["Source", "align", "compute", "load", "low", "numbers", "whole", "with_low"]

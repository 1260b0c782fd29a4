"""Gathers of AVX2: elements of memory, each with an index of its own, into the lanes that a mask chooses.

They are restartable (Intel SDM vol. 2, VGATHERDPS): where an element faults, those before it are in their lanes, and
the mask has all ones for those that are still to be loaded, zeros else (also behind the last element, where the lanes
of VEX.L are more than there are elements; observed on the hardware). So whoever cannot load an element may leave at
any of them; executed again, the instruction goes on from there. Lanes that the mask does not choose are not accessed,
and alignment is not checked. The decoder sees to it that destination, mask and indexes are three registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.ir.types import integer
from aiopyvm.isa.packed import each
from aiopyvm.isa.places import VectorPlace, VsibPlace
from aiopyvm.isa.simdrows import source_of
from aiopyvm.isa.spec import form, insn

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer


def _now(b: Tracer, place: VectorPlace, bits: int) -> Value:
    """A register as it is, elements that were loaded included, as lanes of `bits`."""
    return b.get_vector(place.name, place.type).lanes(bits)


def _first(b: Tracer, lanes: Value, count: int) -> Value:
    """The first lanes; zeros for the others."""
    assert lanes.type is not None
    total = lanes.type.lanes
    return lanes.shuffle((n if n < count else total for n in range(total)), b.const(0, lanes.type))


def _whole(b: Tracer, place: VectorPlace, length: int) -> VectorPlace:
    """The register of `length` bits that a place is the low half of, or the place."""
    if place.width == length:
        return place
    whole = VectorPlace(b, 0, length)
    whole.name = place.name if place.name[0] == "$" else f"y{place.name[1:]}"
    return whole


def _define(name: str, opcode: str, index_bits: int, bits: int, length: int) -> None:
    count = length // max(index_bits, bits)
    register = "ymm" if count * bits > 128 else "xmm"
    indexes = f"vm{index_bits}{'y' if count * index_bits > 128 else 'x'}"

    @insn(name, source=source_of(name), cpuid="avx2", restartable=True)
    @form(
        f"VEX.{length}.66.0F38.W{int(bits == 64)} {opcode} /r",
        f"{register}1, {indexes}, {register}2",
        attributes="unaligned",
    )
    def gather(b: Tracer, dst: VectorPlace, src: VsibPlace, mask: VectorPlace) -> None:
        """The lanes of dst that mask chooses := the elements of memory; mask := 0, and what is behind the lanes."""
        result, left = _whole(b, dst, length), _whole(b, mask, length)
        before, numbers = _now(b, left, bits), src.index.load().lanes(index_bits)
        chosen = each(before, before.slt(0))
        left.store(chosen)
        for lane in range(count):
            with b.when(chosen.extract(lane).msb):
                value = src.load(numbers.extract(lane).trunc(32), bits)
                result.store(_now(b, result, bits).insert(lane, value))
                left.store(_now(b, left, bits).insert(lane, b.const(0, integer(bits))))
        dst.store(_first(b, _now(b, dst, bits), count))
        mask.store(b.const(0, mask.type))


for _opcode, _index, _letter in ((0x90, 32, "d"), (0x91, 64, "q")):
    for _bits, _float, _integer in ((32, "ps", "d"), (64, "pd", "q")):
        for _length in (128, 256):
            _define(f"vpgather{_letter}{_integer}", f"{_opcode:02X}", _index, _bits, _length)
            _define(f"vgather{_letter}{_float}", f"{_opcode + 2:02X}", _index, _bits, _length)

"""Masked loads and stores, VZEROALL and VZEROUPPER.

An element that the mask leaves out is not accessed, and does not fault. An IR that guarded each element could not keep
all faults before all effects, so an element that is left out has here the address of the first one that is not, and, in
a store, its value: that is then stored again. With none nothing is accessed at all.
"""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import integer
from aiopyvm.isa.places import MemoryPlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM, YMM, only_avx

_REGISTERS = range(8)


def _first(b: Tracer, chosen: list[Value], values: list[Value]) -> Value:
    """The value of the first lane that is chosen (of the last where none is)."""
    found = values[-1]
    for bit, value in zip(chosen[-2::-1], values[-2::-1], strict=True):
        found = b.select(bit, value, found)
    return found


def _elements(b: Tracer, place: MemoryPlace, chosen: list[Value], bits: int) -> list[MemoryPlace]:
    """The places of the elements, those that are left out being where the first that is not is."""
    distances = [b.const(bits // 8 * n) for n in range(len(chosen))]
    first = _first(b, chosen, distances)
    found = []
    for bit, distance in zip(chosen, distances, strict=True):
        element = place.displaced(b.select(bit, distance, first))
        found.append(MemoryPlace(b, element.segment, element.offset, bits, element.wrap))
    return found


def _define(name: str, load_opcode: str, store_opcode: str, bits: int, w: str, feature: str) -> None:
    def chosen_by(mask: VectorPlace) -> list[Value]:
        signs = mask.load().lanes(bits)
        return [signs.extract(n).msb for n in range(mask.width // bits)]

    def load(b: Tracer, dst: VectorPlace, mask: VectorPlace, src: MemoryPlace) -> None:
        """dst := the elements of src that the mask chooses, 0 in the others."""
        chosen = chosen_by(mask)
        some = mask.load().lanes(bits).slt(0).cast(integer(len(chosen))).ne(0)
        with b.when(some):
            result = b.const(0, integer(bits, len(chosen)))
            for n, element in enumerate(_elements(b, src, chosen, bits)):
                result = result.insert(n, b.select(chosen[n], element.load(), 0))
            dst.store(result)
        with b.when(~some):
            dst.store(b.const(0, dst.type))

    def store(b: Tracer, dst: MemoryPlace, mask: VectorPlace, src: VectorPlace) -> None:
        """The elements of dst that the mask chooses := those of src."""
        chosen = chosen_by(mask)
        values = [src.load().lanes(bits).extract(n) for n in range(len(chosen))]
        first = _first(b, chosen, values)
        with b.when(mask.load().lanes(bits).slt(0).cast(integer(len(chosen))).ne(0)):
            elements = _elements(b, dst, chosen, bits)
            for element in elements:
                element.prepare_store()
            for bit, element, value in zip(chosen, elements, values, strict=True):
                element.store(b.select(bit, value, first))

    for length, kind in ((XMM, "xmm"), (YMM, "ymm")):
        encoding = f"VEX.{length}.66.0F38.{w}"
        only_avx(
            name,
            f"{encoding} {load_opcode} /r",
            f"{kind}1, {kind}2, m{length}",
            load,
            feature=feature,
            attributes="unaligned",
        )
        only_avx(
            name,
            f"{encoding} {store_opcode} /r",
            f"m{length}, {kind}1, {kind}2",
            store,
            feature=feature,
            attributes="unaligned",
        )


_define("vmaskmovps", "2C", "2E", 32, "W0", "avx")
_define("vmaskmovpd", "2D", "2F", 64, "W0", "avx")
_define("vpmaskmovd", "8C", "8E", 32, "W0", "avx2")
_define("vpmaskmovq", "8C", "8E", 64, "W1", "avx2")


@insn("vzeroupper", source="Intel SDM vol. 2C, VZEROUPPER", cpuid="avx")
@form("VEX.128.0F.WIG 77")
def vzeroupper(b: Tracer) -> None:
    """The upper halves of all YMM registers := 0."""
    for number in _REGISTERS:
        place = VectorPlace(b, number, XMM, zeroing=True)
        place.store(place.load())


@insn("vzeroall", source="Intel SDM vol. 2C, VZEROALL", cpuid="avx")
@form("VEX.256.0F.WIG 77")
def vzeroall(b: Tracer) -> None:
    """All YMM registers := 0."""
    for number in _REGISTERS:
        place = VectorPlace(b, number, YMM)
        place.store(b.const(0, place.type))

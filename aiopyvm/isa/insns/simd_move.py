"""Moves between vector, MMX and general registers, and memory: MOVD, MOVQ, single lanes, masks, stores past caches."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import I32, I64, V128
from aiopyvm.isa import mmx
from aiopyvm.isa.packed import set_by_test, signs
from aiopyvm.isa.places import Destination, ImmediatePlace, MemoryPlace, MmxPlace, RegisterPlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load, low
from aiopyvm.isa.state import OSZAPC, SEGMENTS
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM, avx

_MOVD, _MOVQ = "Intel SDM vol. 2B, MOVD/MOVQ", "Intel SDM vol. 2B, MOVQ"


def _whole(value: Value) -> Value:
    """A register's value with `value` in its low part and zeros above."""
    return value.builder.const(0, V128).lanes(value.bits).insert(0, value)


# -- MOVD, MOVQ --------------------------------------------------------------------------------------------------------


@avx(lengths=(XMM,))
@insn("movd", source=_MOVD, cpuid="sse2")
@form("66 0F 6E /r", "xmm, r/m32")
def movd_to_xmm(b: Tracer, dst: VectorPlace, src: Destination) -> None:
    """dst := src, zeros above."""
    dst.store(_whole(src.load()))


@avx(lengths=(XMM,))
@insn("movd", source=_MOVD, cpuid="sse2")
@form("66 0F 7E /r", "r/m32, xmm")
def movd_from_xmm(b: Tracer, dst: Destination, src: VectorPlace) -> None:
    """dst := the low doubleword of src."""
    dst.store(low(b, src, I32))


@insn("movd", source=_MOVD, cpuid="mmx")
@form("o* NP 0F 6E /r", "mm, r/m32")
def movd_to_mm(b: Tracer, dst: MmxPlace, src: Destination) -> None:
    """dst := src, zeros above."""
    mmx.begin(b)
    value = src.load().zext(64)
    mmx.end(b)
    dst.store(value)


@insn("movd", source=_MOVD, cpuid="mmx")
@form("o* NP 0F 7E /r", "r/m32, mm")
def movd_from_mm(b: Tracer, dst: Destination, src: MmxPlace) -> None:
    """dst := the low doubleword of src."""
    mmx.begin(b)
    dst.store(src.load().trunc(32))
    mmx.end(b)


@avx(lengths=(XMM,))
@insn("movq", source=_MOVQ, cpuid="sse2")
@form("F3 0F 7E /r", "xmm1, xmm2/m64")
@form("66 0F D6 /r", "xmm2/m64, xmm1", attributes="alias")
def movq(b: Tracer, dst: Source, src: Source) -> None:
    """dst := the low quadword of src, zeros above."""
    value = low(b, src, I64)
    dst.store(value if isinstance(dst, MemoryPlace) else _whole(value))


@insn("movq", source=_MOVQ, cpuid="mmx")
@form("NP 0F 6F /r", "mm, mm/m64")
@form("NP 0F 7F /r", "mm/m64, mm")
def movq_mm(b: Tracer, dst: mmx.Source, src: mmx.Source) -> None:
    """dst := src."""
    mmx.begin(b)
    value = mmx.load(src)
    if isinstance(dst, MemoryPlace):
        dst.store(value)
        mmx.end(b)
    else:
        mmx.end(b)
        dst.store(value)


@insn("movq2dq", source="Intel SDM vol. 2B, MOVQ2DQ", cpuid="sse2")
@form("F3 0F D6 /r", "xmm, mm")
def movq2dq(b: Tracer, dst: VectorPlace, src: MmxPlace) -> None:
    """dst := src, zeros above."""
    mmx.begin(b)
    dst.store(_whole(src.load()))
    mmx.end(b)


@insn("movdq2q", source="Intel SDM vol. 2B, MOVDQ2Q", cpuid="sse2")
@form("F2 0F D6 /r", "mm, xmm")
def movdq2q(b: Tracer, dst: MmxPlace, src: VectorPlace) -> None:
    """dst := the low quadword of src."""
    mmx.begin(b)
    value = low(b, src, I64)
    mmx.end(b)
    dst.store(value)


@insn("emms", source="Intel SDM vol. 2A, EMMS", cpuid="mmx")
@form("NP 0F 77")
def emms(b: Tracer) -> None:
    """All x87 registers are empty, TOP is 0."""
    mmx.begin(b)
    mmx.end(b, 0)


# -- hints: what is stored or loaded will not be used soon -------------------------------------------------------------


@insn("movntq", source="Intel SDM vol. 2B, MOVNTQ", cpuid="sse")
@form("NP 0F E7 /r", "m64, mm")
def movntq(b: Tracer, dst: MemoryPlace, src: MmxPlace) -> None:
    """dst := src."""
    mmx.begin(b)
    dst.store(src.load())
    mmx.end(b)


# -- single lanes ------------------------------------------------------------------------------------------------------


@insn("pinsrw", source="Intel SDM vol. 2B, PINSRW", cpuid="sse")
@form("o* NP 0F C4 /r ib", "mm, r32/m16, imm8", static=(2,))
def pinsrw_mm(b: Tracer, dst: MmxPlace, src: Destination, lane: ImmediatePlace) -> None:
    """Word number `lane` of dst := src."""
    mmx.begin(b)
    result = dst.load().lanes(16).insert(int(lane) & 3, src.load().trunc(16))
    mmx.end(b)
    dst.store(result)


@insn("pextrw", source="Intel SDM vol. 2B, PEXTRW", cpuid="sse")
@form("o* NP 0F C5 /r ib", "r32, mm, imm8", static=(2,))
def pextrw_mm(b: Tracer, dst: RegisterPlace, src: MmxPlace, lane: ImmediatePlace) -> None:
    """dst := word number `lane` of src."""
    mmx.begin(b)
    dst.store(src.load().lanes(16).extract(int(lane) & 3).zext(32))
    mmx.end(b)


def _inserted(x: Value, value: Value, bits: int, lane: int) -> Value:
    lanes = x.lanes(bits)
    assert lanes.type is not None
    return lanes.insert(lane & lanes.type.lanes - 1, value.trunc(bits))


def _extracted(x: Value, bits: int, lane: int) -> Value:
    lanes = x.lanes(bits)
    assert lanes.type is not None
    return lanes.extract(lane & lanes.type.lanes - 1)


def _insertion(name: str, encoding: str, operand: str, bits: int, feature: str) -> None:
    @avx(three=True, lengths=(XMM,))
    @insn(name, source=f"Intel SDM vol. 2B, {name.upper()}", cpuid=feature)
    @form(encoding, f"xmm1, {operand}, imm8", static=(2,))
    def insert(b: Tracer, dst: VectorPlace, src: Destination, lane: ImmediatePlace) -> None:
        """Lane number `lane` of dst := src."""
        dst.store(_inserted(dst.load(), src.load(), bits, int(lane)))


def _extraction(name: str, encoding: str, operand: str, bits: int, feature: str, attributes: str = "") -> None:
    @avx(lengths=(XMM,))
    @insn(name, source=f"Intel SDM vol. 2B, {name.upper()}", cpuid=feature)
    @form(encoding, f"{operand}, xmm2, imm8", static=(2,), attributes=attributes)
    def extract(b: Tracer, dst: Destination, src: VectorPlace, lane: ImmediatePlace) -> None:
        """dst := lane number `lane` of src, zero-extended in a register."""
        value = _extracted(src.load(), bits, int(lane))
        dst.store(value if isinstance(dst, MemoryPlace) else value.zext(32))


_insertion("pinsrb", "66 0F 3A 20 /r ib", "r32/m8", 8, "sse4_1")
_insertion("pinsrw", "66 0F C4 /r ib", "r32/m16", 16, "sse2")
_insertion("pinsrd", "66 0F 3A 22 /r ib", "r/m32", 32, "sse4_1")
_extraction("pextrw", "66 0F C5 /r ib", "r32", 16, "sse2")
_extraction("pextrw", "66 0F 3A 15 /r ib", "r32/m16", 16, "sse4_1", "alias")
_extraction("pextrb", "66 0F 3A 14 /r ib", "r32/m8", 8, "sse4_1")
_extraction("pextrd", "66 0F 3A 16 /r ib", "r/m32", 32, "sse4_1")


# -- masks -------------------------------------------------------------------------------------------------------------


@insn("pmovmskb", source="Intel SDM vol. 2B, PMOVMSKB", cpuid="sse")
@form("o* NP 0F D7 /r", "r32, mm")
def pmovmskb_mm(b: Tracer, dst: RegisterPlace, src: MmxPlace) -> None:
    """dst := the highest bits of the bytes of src."""
    mmx.begin(b)
    dst.store(signs(src.load().lanes(8)).zext(32))
    mmx.end(b)


@avx(features=("avx", "avx2"))
@insn("pmovmskb", source="Intel SDM vol. 2B, PMOVMSKB", cpuid="sse2")
@form("66 0F D7 /r", "r32, xmm")
def pmovmskb(b: Tracer, dst: RegisterPlace, src: VectorPlace) -> None:
    """dst := the highest bits of the bytes of src."""
    dst.store(signs(src.load().lanes(8)).zext(32))


@avx()
@insn("ptest", source="Intel SDM vol. 2B, PTEST", writes=OSZAPC, cpuid="sse4_1")
@form("66 0F 38 17 /r", "xmm1, xmm2/m128")
def ptest(b: Tracer, first: VectorPlace, second: Source) -> None:
    """ZF: first & second is 0; CF: ~first & second is 0; the other flags are cleared."""
    y = load(b, second)
    set_by_test(b, first.load(), y)


def _store_selected(b: Tracer, data: Value, mask: Value) -> None:
    """Store the bytes of `data` where the highest bit of that of `mask` is set, at DS:EDI.

    The hardware faults as if all bytes were stored, whatever the mask, and for the highest eight of them first.
    """
    offset, wrap = b.get("edi"), 0xFFFFFFFF
    if b.insn.address_size == 16:
        offset, wrap = offset & 0xFFFF, 0xFFFF
    segment = SEGMENTS[b.insn.segment] if b.insn.segment >= 0 else "ds"
    place = MemoryPlace(b, segment, offset, data.bits, wrap)
    for at in reversed(range(0, data.bits // 8, 8)):
        place.prepare_store(8, at)
    old = place.modify().lanes(8)
    place.store(b.select(mask.lanes(8).slt(0), data.lanes(8), old).lanes(64))


@insn("maskmovq", source="Intel SDM vol. 2B, MASKMOVQ", cpuid="sse")
@form("NP 0F F7 /r", "mm1, mm2")
def maskmovq(b: Tracer, data: MmxPlace, mask: MmxPlace) -> None:
    """DS:[EDI] := the bytes of data that mask selects."""
    mmx.begin(b)
    _store_selected(b, data.load(), mask.load())
    mmx.end(b)


@avx(lengths=(XMM,))
@insn("maskmovdqu", source="Intel SDM vol. 2B, MASKMOVDQU", cpuid="sse2")
@form("66 0F F7 /r", "xmm1, xmm2")
def maskmovdqu(b: Tracer, data: VectorPlace, mask: VectorPlace) -> None:
    """DS:[EDI] := the bytes of data that mask selects."""
    _store_selected(b, data.load(), mask.load())

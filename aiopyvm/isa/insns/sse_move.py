"""SSE to SSE4.1 moves: whole registers, their halves and low lanes, masks, and MXCSR."""

from __future__ import annotations

from aiopyvm.ir.types import F32, F64, I32, I64, V128, Type
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.packed import signs
from aiopyvm.isa.places import Destination, MemoryPlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, align, low, whole, with_low
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vectors import GP
from aiopyvm.isa.vexrows import LIG, XMM, avx, only_avx, vex, with_three

_MXCSR_BITS = 0xFFFF  # that MXCSR has


def _feature(prefix: str) -> str:
    """What a move of a whole register needs, which its mandatory prefix tells."""
    return "sse" if prefix == "NP" else "sse2"


def _aligned(name: str, prefix: str, load_opcode: int, store_opcode: int) -> None:
    @avx()
    @insn(name, source=rows.source_of(name), cpuid=_feature(prefix))
    @form(f"{prefix} 0F {load_opcode:02X} /r", "xmm1, xmm2/m128")
    @form(f"{prefix} 0F {store_opcode:02X} /r", "xmm2/m128, xmm1")
    def move(b: Tracer, dst: Source, src: Source) -> None:
        """dst := src; memory is aligned."""
        align(b, dst)
        align(b, src)
        dst.store(whole(src))


def _unaligned(name: str, prefix: str, load_opcode: int, store_opcode: int) -> None:
    @avx()
    @insn(name, source=rows.source_of(name), cpuid=_feature(prefix))
    @form(f"{prefix} 0F {load_opcode:02X} /r", "xmm1, xmm2/m128")
    @form(f"{prefix} 0F {store_opcode:02X} /r", "xmm2/m128, xmm1")
    def move(b: Tracer, dst: Source, src: Source) -> None:
        """dst := src."""
        dst.store(whole(src))


def _streaming(name: str, prefix: str, opcode: str) -> None:
    @avx()
    @insn(name, source=rows.source_of(name), cpuid=_feature(prefix))
    @form(f"{prefix} 0F {opcode} /r", "m128, xmm1")
    def move(b: Tracer, dst: MemoryPlace, src: VectorPlace) -> None:
        """dst := src, aligned; the hint means nothing here."""
        align(b, dst)
        dst.store(src.load())


_aligned("movaps", "NP", 0x28, 0x29)
_aligned("movapd", "66", 0x28, 0x29)
_aligned("movdqa", "66", 0x6F, 0x7F)
_unaligned("movups", "NP", 0x10, 0x11)
_unaligned("movupd", "66", 0x10, 0x11)
_unaligned("movdqu", "F3", 0x6F, 0x7F)
_streaming("movntps", "NP", "2B")
_streaming("movntpd", "66", "2B")
_streaming("movntdq", "66", "E7")


@avx()
@insn("lddqu", source=rows.source_of("lddqu"), cpuid="pni")
@form("F2 0F F0 /r", "xmm1, m128")
def lddqu(b: Tracer, dst: VectorPlace, src: MemoryPlace) -> None:
    """dst := src, which need not be aligned."""
    dst.store(whole(src))


@avx(features=("avx", "avx2"))
@insn("movntdqa", source=rows.source_of("movntdqa"), cpuid="sse4_1")
@form("66 0F 38 2A /r", "xmm1, m128")
def movntdqa(b: Tracer, dst: VectorPlace, src: MemoryPlace) -> None:
    """dst := src, aligned; the hint means nothing here."""
    align(b, src)
    dst.store(whole(src))


# -- low lanes ---------------------------------------------------------------------------------------------------------


def _low_lane(name: str, prefix: str, type_: Type) -> None:
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"{prefix} 0F 10 /r", f"xmm1, xmm2/m{type_.bits}")
    def move(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := that of src; the others stay, or, with memory, become 0."""
        if isinstance(src, MemoryPlace):
            value = src.load_as(type_)
            dst.store(b.const(0, V128).lanes(type_.bits).insert(0, value.lanes(type_.bits)))
        else:
            dst.store(with_low(dst.load(), low(b, src, type_)))

    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"{prefix} 0F 11 /r", f"xmm2/m{type_.bits}, xmm1")
    def store(b: Tracer, dst: Source, src: VectorPlace) -> None:
        """The low lane of dst := that of src; the others stay."""
        if isinstance(dst, MemoryPlace):
            dst.store(low(b, src, type_))
        else:
            dst.store(with_low(dst.load(), low(b, src, type_)))

    for opcode, meaning, listed, attributes in (
        ("10", with_three(move), "xmm1, xmm2, xmm3", ""),
        ("10", move, f"xmm1, m{type_.bits}", ""),
        ("11", with_three(store), "xmm1, xmm2, xmm3", "alias MVR"),
        ("11", store, f"m{type_.bits}, xmm1", ""),
    ):
        only_avx(f"v{name}", vex(f"{prefix} 0F {opcode} /r", LIG), listed, meaning, attributes=attributes)


_low_lane("movss", "F3", F32)
_low_lane("movsd", "F2", F64)


# -- halves ------------------------------------------------------------------------------------------------------------


def _halves(name: str, prefix: str, opcode: int, half: int) -> None:
    """Loads and stores of one half of a register."""

    @avx(three=True, lengths=(XMM,))
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"{prefix} 0F {opcode:02X} /r", "xmm1, m64")
    def move(b: Tracer, dst: VectorPlace, src: MemoryPlace) -> None:
        """One half of dst := src; the other stays."""
        dst.store(dst.load().insert(half, src.load_as(I64)))

    @avx(lengths=(XMM,))
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"{prefix} 0F {opcode + 1:02X} /r", "m64, xmm1")
    def store(b: Tracer, dst: MemoryPlace, src: VectorPlace) -> None:
        """dst := one half of src."""
        dst.store(src.load().extract(half))


for _suffix, _prefix, _ in rows.PACKED:
    _halves(f"movl{_suffix}", _prefix, 0x12, 0)
    _halves(f"movh{_suffix}", _prefix, 0x16, 1)


@avx(three=True, lengths=(XMM,))
@insn("movhlps", source=rows.source_of("movhlps"), cpuid="sse")
@form("NP 0F 12 /r", "xmm1, xmm2")
def movhlps(b: Tracer, dst: VectorPlace, src: VectorPlace) -> None:
    """The low half of dst := the high half of src."""
    dst.store(dst.load().shuffle((3, 1), src.load()))


@avx(three=True, lengths=(XMM,))
@insn("movlhps", source=rows.source_of("movlhps"), cpuid="sse")
@form("NP 0F 16 /r", "xmm1, xmm2")
def movlhps(b: Tracer, dst: VectorPlace, src: VectorPlace) -> None:
    """The high half of dst := the low half of src."""
    dst.store(dst.load().shuffle((0, 2), src.load()))


# -- masks and MXCSR ---------------------------------------------------------------------------------------------------


def _mask(suffix: str, prefix: str, bits: int) -> None:
    name = f"movmsk{suffix}"

    @avx()
    @insn(name, source=rows.source_of(name), cpuid=rows.feature_of(name))
    @form(f"o* {prefix} 0F 50 /r", "r32, xmm")
    def movmsk(b: Tracer, dst: Destination, src: VectorPlace) -> None:
        """dst := the sign bits of the lanes."""
        dst.store(signs(src.load().lanes(bits)).zext(32))


for _suffix, _prefix, _bits in rows.PACKED:
    _mask(_suffix, _prefix, _bits)


@avx(lengths=(XMM,))
@insn("ldmxcsr", source=rows.source_of("ldmxcsr"), cpuid="sse")
@form("NP 0F AE /2", "m32")
def ldmxcsr(b: Tracer, src: MemoryPlace) -> None:
    """MXCSR := src; #GP for bits that it does not have."""
    value = src.load()
    b.fault(GP, (value & (~_MXCSR_BITS & I32.mask)).ne(0))
    b.set("mxcsr", value)


@avx(lengths=(XMM,))
@insn("stmxcsr", source=rows.source_of("stmxcsr"), cpuid="sse")
@form("NP 0F AE /3", "m32")
def stmxcsr(b: Tracer, dst: MemoryPlace) -> None:
    """dst := MXCSR."""
    dst.store(b.get("mxcsr"))

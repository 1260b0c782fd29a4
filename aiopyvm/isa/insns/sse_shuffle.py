"""SSE to SSE4.1 shuffles, interleavings and blends of floating-point lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiopyvm.ir.types import I32, I64, V128, integer
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.packed import interleaved
from aiopyvm.isa.places import Destination, ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load, low
from aiopyvm.isa.trace import Tracer

Lanes = Callable[[int, int], Iterable[int]]  # of the immediate and the number of lanes


def _by_immediate(name: str, encoding: str, bits: int, lanes: Lanes, *, feature: str = "") -> None:
    """dst := lanes of dst and, numbered behind them, of src, that the immediate tells."""

    @insn(name, source=rows.source_of(name), cpuid=feature or rows.feature_of(name))
    @form(f"{encoding} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, control: ImmediatePlace) -> None:
        """dst := lanes of dst and src."""
        x, y = dst.load().lanes(bits), load(b, src).lanes(bits)
        dst.store(x.shuffle(lanes(int(control), 128 // bits), y))


def _shufps(control: int, lanes: int) -> Iterable[int]:
    return [(control >> 2 * n & 3) + (lanes if n > 1 else 0) for n in range(4)]


def _shufpd(control: int, lanes: int) -> Iterable[int]:
    return [control & 1, lanes + (control >> 1 & 1)]


def _blend(control: int, lanes: int) -> Iterable[int]:
    return [n + lanes * (control >> n & 1) for n in range(lanes)]


_by_immediate("shufps", "NP 0F C6", 32, _shufps)
_by_immediate("shufpd", "66 0F C6", 64, _shufpd)
_by_immediate("blendps", "66 0F 3A 0C", 32, _blend, feature="sse4_1")
_by_immediate("blendpd", "66 0F 3A 0D", 64, _blend, feature="sse4_1")


def _unpack(bits: int, *, high: bool) -> rows.Binary:
    return lambda b, x, y: interleaved(x.lanes(bits), y.lanes(bits), high=high)


for _suffix, _prefix, _bits in rows.PACKED:
    rows.packed(f"unpckl{_suffix}", f"{_prefix} 0F 14", _unpack(_bits, high=False))
    rows.packed(f"unpckh{_suffix}", f"{_prefix} 0F 15", _unpack(_bits, high=True))


def _repeated(first: int) -> rows.Unary:
    return lambda b, x: x.lanes(32).shuffle((first, first, first + 2, first + 2))


rows.packed_unary("movsldup", "F3 0F 12", _repeated(0), feature="pni")
rows.packed_unary("movshdup", "F3 0F 16", _repeated(1), feature="pni")


@insn("movddup", source=rows.source_of("movddup"), cpuid="pni")
@form("F2 0F 12 /r", "xmm1, xmm2/m64")
def movddup(b: Tracer, dst: VectorPlace, src: Source) -> None:
    """Both halves of dst := the low half of src."""
    dst.store(low(b, src, I64).splat(2))


def _variable_blend(name: str, opcode: str, bits: int) -> None:
    @insn(name, source=rows.source_of(name), cpuid="sse4_1")
    @form(f"66 0F 38 {opcode} /r", "xmm1, xmm2/m128, <XMM0>")
    def operation(b: Tracer, dst: VectorPlace, src: Source, mask: VectorPlace) -> None:
        """dst := src in the lanes whose sign bit is set in XMM0."""
        x, y, chosen = (value.lanes(bits) for value in (dst.load(), load(b, src), mask.load()))
        dst.store(b.select(chosen.slt(0), y, x))


_variable_blend("blendvps", "14", 32)
_variable_blend("blendvpd", "15", 64)


@insn("extractps", source=rows.source_of("extractps"), cpuid="sse4_1")
@form("66 0F 3A 17 /r ib", "r/m32, xmm1, imm8", static=(2,))
def extractps(b: Tracer, dst: Destination, src: VectorPlace, lane: ImmediatePlace) -> None:
    """dst := a lane of src."""
    dst.store(src.load().lanes(32).extract(int(lane) & 3))


@insn("insertps", source=rows.source_of("insertps"), cpuid="sse4_1")
@form("66 0F 3A 21 /r ib", "xmm1, xmm2/m32, imm8", static=(2,))
def insertps(b: Tracer, dst: VectorPlace, src: Source, control: ImmediatePlace) -> None:
    """A lane of dst (bits 4-5) := a lane of src (bits 6-7; memory has one); then the lanes of bits 0-3 := 0."""
    bits = int(control)
    if isinstance(src, VectorPlace):
        value = src.load().lanes(32).extract(bits >> 6)
    else:
        value = low(b, src, I32)
    result = dst.load().lanes(32).insert(bits >> 4 & 3, value)
    zero = b.const(0, V128).cast(integer(32, 4))
    dst.store(result.shuffle(_blend(bits & 15, 4), zero))

"""SSE to SSE4.1 shuffles, interleavings and blends of floating-point lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import I32, I64, V128, integer
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.packed import interleaved, shuffled
from aiopyvm.isa.places import Destination, ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load, low, whole
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import BOTH, XMM, avx, only_avx, with_three

Lanes = Callable[[int, int], Iterable[int]]  # of the immediate and the number of lanes


def _by_immediate(name: str, encoding: str, bits: int, lanes: Lanes, *, feature: str = "") -> None:
    """dst := lanes of dst and, numbered behind them, of src, that the immediate tells."""

    def meaning(b: Tracer, x: Value, y: Value, control: int) -> Value:
        return x.lanes(bits).shuffle(lanes(control, x.bits // bits), y.lanes(bits))

    rows.packed_immediate(name, encoding, meaning, feature=feature)


def _shufps(control: int, lanes: int) -> Iterable[int]:
    groups = range(0, lanes, 4)
    return [own + (control >> 2 * n & 3) + (lanes if n > 1 else 0) for own in groups for n in range(4)]


def _shufpd(control: int, lanes: int) -> Iterable[int]:
    return [(n & ~1) + (control >> n & 1) + (lanes if n & 1 else 0) for n in range(lanes)]


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
    def meaning(b: Tracer, x: Value) -> Value:
        lanes = x.lanes(32)
        return shuffled(lanes, lanes, lambda own, _: (own[first], own[first], own[first + 2], own[first + 2]))

    return meaning


rows.packed_unary("movsldup", "F3 0F 12", _repeated(0), feature="pni")
rows.packed_unary("movshdup", "F3 0F 16", _repeated(1), feature="pni")


@avx(wide=("ymm1, ymm2/m256",))
@insn("movddup", source=rows.source_of("movddup"), cpuid="pni")
@form("F2 0F 12 /r", "xmm1, xmm2/m64")
def movddup(b: Tracer, dst: VectorPlace, src: Source) -> None:
    """Both halves of dst, or of each 128 bits, := the low half of src."""
    dst.store(low(b, src, I64).splat(2) if dst.width == XMM else whole(src).shuffle((0, 0, 2, 2)))


def _variable_blend(name: str, opcode: str, with_vex: str, bits: int, features: tuple[str, str]) -> None:
    def blend(b: Tracer, dst: VectorPlace, src: Source, mask: VectorPlace) -> None:
        """dst := src in the lanes whose sign bit is set in the mask."""
        x, y, chosen = (value.lanes(bits) for value in (dst.load(), load(b, src), mask.load()))
        dst.store(b.select(chosen.slt(0), y, x))

    insn(name, source=rows.source_of(name), cpuid="sse4_1")(
        form(f"66 0F 38 {opcode} /r", "xmm1, xmm2/m128, <XMM0>")(blend)
    )
    for length, kind, feature in zip(BOTH, ("xmm", "ymm"), features, strict=True):
        only_avx(
            f"v{name}", f"VEX.{length}.66.0F3A.W0 {with_vex} /r /is4",
            f"{kind}1, {kind}2, {kind}3/m{length}, {kind}4", with_three(blend), feature=feature,
        )  # fmt: skip


_variable_blend("blendvps", "14", "4A", 32, ("avx", "avx"))
_variable_blend("blendvpd", "15", "4B", 64, ("avx", "avx"))
_variable_blend("pblendvb", "10", "4C", 8, ("avx", "avx2"))


@avx(lengths=(XMM,))
@insn("extractps", source=rows.source_of("extractps"), cpuid="sse4_1")
@form("66 0F 3A 17 /r ib", "r/m32, xmm1, imm8", static=(2,))
def extractps(b: Tracer, dst: Destination, src: VectorPlace, lane: ImmediatePlace) -> None:
    """dst := a lane of src."""
    dst.store(src.load().lanes(32).extract(int(lane) & 3))


@avx(three=True, lengths=(XMM,))
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

"""Packing with saturation, unpacking, and the widening moves of SSE4.1."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import integer
from aiopyvm.isa.packed import define, groups, interleaved
from aiopyvm.isa.places import VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, low
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import avx


def _clamped(x: Value, unsigned: bool) -> Value:
    """Signed lanes at half their width, saturated as signed or unsigned numbers."""
    assert x.type is not None
    b, half = x.builder, x.type.bits // 2
    least, most = (0, (1 << half) - 1) if unsigned else (-(1 << half - 1), (1 << half - 1) - 1)
    x = b.select(x.slt(least), least, x)
    return b.select(b.lift(most, x.type).slt(x), most, x).trunc(half)


def _pack(x: Value, y: Value, unsigned: bool) -> Value:
    chunks, total = groups(x), x.type.lanes if x.type else 0
    numbers = [n for own in chunks for n in (*own, *(lane + total for lane in own))]
    return _clamped(x, unsigned).shuffle(numbers, _clamped(y, unsigned))


define("packsswb", "0F 63 /r", 16, lambda x, y: _pack(x, y, False), mm="mmx")
define("packssdw", "0F 6B /r", 32, lambda x, y: _pack(x, y, False), mm="mmx")
define("packuswb", "0F 67 /r", 16, lambda x, y: _pack(x, y, True), mm="mmx")
define("packusdw", "0F 38 2B /r", 32, lambda x, y: _pack(x, y, True), xmm="sse4_1")


def _unpack(name: str, opcode: int, bits: int, *, high: bool, mm: str = "", memory: int = 64) -> None:
    define(name, f"0F {opcode:02X} /r", bits, lambda x, y: interleaved(x, y, high=high), mm=mm, memory=memory)


for _pair, _low, _high, _bits in (("bw", 0x60, 0x68, 8), ("wd", 0x61, 0x69, 16), ("dq", 0x62, 0x6A, 32)):
    _unpack(f"punpckl{_pair}", _low, _bits, high=False, mm="mmx", memory=32)
    _unpack(f"punpckh{_pair}", _high, _bits, high=True, mm="mmx")
_unpack("punpcklqdq", 0x6C, 64, high=False)
_unpack("punpckhqdq", 0x6D, 64, high=True)


def _widening(name: str, opcode: int, source: int, target: int, signed: bool) -> None:
    size = 128 // target * source

    @avx(features=("avx", "avx2"), wide=(f"ymm1, xmm2/m{2 * size}",))
    @insn(name, source="Intel SDM vol. 2B, PMOVSX" if signed else "Intel SDM vol. 2B, PMOVZX", cpuid="sse4_1")
    @form(f"66 0F 38 {opcode:02X} /r", f"xmm1, xmm2/m{size}")
    def widen(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := the low lanes of src, each widened."""
        lanes = low(b, src, integer(source, dst.width // target))
        dst.store(lanes.sext(target) if signed else lanes.zext(target))


_WIDTHS = {"b": 8, "w": 16, "d": 32, "q": 64}
for _n, _pair in enumerate(("bw", "bd", "bq", "wd", "wq", "dq")):
    _widening(f"pmovsx{_pair}", 0x20 + _n, _WIDTHS[_pair[0]], _WIDTHS[_pair[1]], True)
    _widening(f"pmovzx{_pair}", 0x30 + _n, _WIDTHS[_pair[0]], _WIDTHS[_pair[1]], False)

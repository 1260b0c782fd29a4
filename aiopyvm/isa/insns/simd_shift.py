"""Shifts of integer lanes, by a count for all of them, and of whole registers by bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.isa import mmx, sse
from aiopyvm.isa.packed import GROUP, groups
from aiopyvm.isa.places import ImmediatePlace, MmxPlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import avx

Shift = Callable[[Value, Value], Value]

LEFT: Final[Shift] = lambda x, n: x << n  # noqa: E731
RIGHT: Final[Shift] = lambda x, n: x >> n  # noqa: E731
ARITHMETIC: Final[Shift] = lambda x, n: x.sar(n)  # noqa: E731


def shifted(x: Value, count: Value, shift: Shift) -> Value:
    """The lanes of x, each shifted by `count` (a scalar); one of a lane's width or more is no less than its width."""
    assert x.type is not None
    bits, lanes = x.type.bits, x.type.lanes
    b = x.builder
    if count.bits > bits:
        count = b.select(count.ult(bits), count, bits).trunc(bits)
    else:
        count = count.zext(bits)
    return shift(x, count.splat(lanes) if lanes > 1 else count)


def _define(name: str, bits: int, opcode: int, by_immediate: str, shift: Shift) -> None:
    source = f"Intel SDM vol. 2B, {name.upper()}"

    @insn(name, source=source, cpuid="mmx")
    @form(f"NP 0F {opcode:02X} /r", "mm, mm/m64")
    @form(f"NP 0F {by_immediate} ib", "mm, imm8")
    def with_mmx(b: Tracer, dst: MmxPlace, src: mmx.Source | ImmediatePlace) -> None:
        """dst := dst, each lane shifted by src."""
        mmx.begin(b)
        count = src.load() if isinstance(src, ImmediatePlace) else mmx.load(src)
        result = shifted(dst.load().lanes(bits), count, shift)
        mmx.end(b)
        dst.store(result)

    @avx(three=True, features=("avx", "avx2"), wide=("ymm1, ymm2, xmm3/m128", ""))
    @insn(name, source=source, cpuid="sse2")
    @form(f"66 0F {opcode:02X} /r", "xmm1, xmm2/m128")
    @form(f"66 0F {by_immediate} ib", "xmm1, imm8")
    def with_sse(b: Tracer, dst: VectorPlace, src: sse.Source | ImmediatePlace) -> None:
        """dst := dst, each lane shifted by the low 64 bits of src."""
        count = src.load() if isinstance(src, ImmediatePlace) else sse.load(b, src).extract(0)
        dst.store(shifted(dst.load().lanes(bits), count, shift))


_define("psllw", 16, 0xF1, "71 /6", LEFT)
_define("pslld", 32, 0xF2, "72 /6", LEFT)
_define("psllq", 64, 0xF3, "73 /6", LEFT)
_define("psrlw", 16, 0xD1, "71 /2", RIGHT)
_define("psrld", 32, 0xD2, "72 /2", RIGHT)
_define("psrlq", 64, 0xD3, "73 /2", RIGHT)
_define("psraw", 16, 0xE1, "71 /4", ARITHMETIC)
_define("psrad", 32, 0xE2, "72 /4", ARITHMETIC)


def shifted_bytes(x: Value, count: int, left: bool) -> Value:
    """The bytes of x (lanes of 8 bits), moved within each 128 bits by `count`, zeros behind them."""
    assert x.type is not None
    total, distance = x.type.lanes, -count if left else count
    numbers = [
        own.start + at + distance if 0 <= at + distance < GROUP // 8 else total
        for own in groups(x)
        for at in range(GROUP // 8)
    ]
    return x.shuffle(numbers, x.builder.const(0, x.type))


def _define_bytes(name: str, digit: int, left: bool) -> None:
    @avx(three=True, features=("avx", "avx2"))
    @insn(name, source=f"Intel SDM vol. 2B, {name.upper()}", cpuid="sse2")
    @form(f"66 0F 73 /{digit} ib", "xmm1, imm8", static=(1,))
    def shift_bytes(b: Tracer, dst: VectorPlace, count: ImmediatePlace) -> None:
        """dst := dst, moved by count bytes."""
        dst.store(shifted_bytes(dst.load().lanes(8), int(count), left))


_define_bytes("pslldq", 7, left=True)
_define_bytes("psrldq", 3, left=False)

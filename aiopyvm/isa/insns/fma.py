"""FMA: products and sums that are rounded once; and F16C, conversions from and to numbers of 16 bits.

VFMADD132PS and its like differ from one another in which operand is a factor and which is added. Of NaNs the first of
factor, factor and addend is the result: which factor is first was observed on the hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F32, F64, Type, floating, integer
from aiopyvm.isa.places import ImmediatePlace, MemoryPlace, VectorPlace
from aiopyvm.isa.sse import Source, compute, low, numbers, whole, with_low
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM, YMM, only_avx

Order = Callable[[Value, Value, Value], tuple[Value, Value, Value]]  # of dst, src2, src3: factors and addend

_ORDERS: Final[tuple[tuple[str, int, Order], ...]] = (
    ("132", 0x90, lambda d, x, y: (d, y, x)),
    ("213", 0xA0, lambda d, x, y: (x, d, y)),
    ("231", 0xB0, lambda d, x, y: (x, y, d)),
)
_PACKED: Final = (("maddsub", 6), ("msubadd", 7), ("madd", 8), ("msub", 10), ("nmadd", 12), ("nmsub", 14))
_SCALAR: Final = (("madd", 9), ("msub", 11), ("nmadd", 13), ("nmsub", 15))


def _packed(kind: str, order: Order, bits: int) -> Callable[..., None]:
    def multiply_and_add(b: Tracer, dst: VectorPlace, second: VectorPlace, third: Source) -> None:
        """dst := a product of two operands and a sum with the third, each lane rounded once."""
        values = [numbers(value, bits) for value in (dst.load(), second.load(), whole(third))]
        dst.store(compute(b, "vfma", floating(bits, dst.width // bits), *order(*values), attr=kind))

    return multiply_and_add


def _scalar(kind: str, order: Order, type_: Type) -> Callable[..., None]:
    def multiply_and_add(b: Tracer, dst: VectorPlace, second: VectorPlace, third: Source) -> None:
        """The low lane of dst := a product of two operands and a sum with the third; the others stay."""
        kept = dst.load()
        values = [low(b, place, type_) for place in (dst, second, third)]
        dst.store(with_low(kept, compute(b, "vfma", type_, *order(*values), attr=kind)))

    return multiply_and_add


for _digits, _base, _order in _ORDERS:
    for _suffix, _w, _bits in (("ps", "W0", 32), ("pd", "W1", 64)):
        for _kind, _number in _PACKED:
            for _length, _register in ((XMM, "xmm"), (YMM, "ymm")):
                only_avx(
                    f"vf{_kind}{_digits}{_suffix}", f"VEX.{_length}.66.0F38.{_w} {_base + _number:02X} /r",
                    f"{_register}1, {_register}2, {_register}3/m{_length}", _packed(_kind, _order, _bits),
                    feature="fma",
                )  # fmt: skip
    for _suffix, _w, _type in (("ss", "W0", F32), ("sd", "W1", F64)):
        for _kind, _number in _SCALAR:
            only_avx(
                f"vf{_kind}{_digits}{_suffix}", f"VEX.LIG.66.0F38.{_w} {_base + _number:02X} /r",
                f"xmm1, xmm2, xmm3/m{_type.size}", _scalar(_kind, _order, _type), feature="fma",
            )  # fmt: skip


# -- F16C --------------------------------------------------------------------------------------------------------------


def _from_half(b: Tracer, dst: VectorPlace, src: Source) -> None:
    """dst := the low lanes of src, of 16 bits, converted."""
    lanes = dst.width // 32
    dst.store(compute(b, "vfromhalf", floating(32, lanes), low(b, src, integer(16, lanes))))


def _to_half(b: Tracer, dst: Source, src: VectorPlace, mode: ImmediatePlace) -> None:
    """dst := src as lanes of 16 bits, 0 above; where the store faults, exceptions have been noted in MXCSR."""
    lanes = src.width // 32
    result = compute(b, "vtohalf", integer(16, lanes), numbers(src.load(), 32), attr=int(mode) & 7).lanes(64)
    if result.bits == 64 and not isinstance(dst, MemoryPlace):
        dst.store(result.zext(XMM))
    else:
        dst.store(result)


for _length, _listed, _stored in (
    (XMM, "xmm1, xmm2/m64", "xmm1/m64, xmm2, imm8"),
    (YMM, "ymm1, xmm2/m128", "xmm1/m128, ymm2, imm8"),
):
    _encoding = f"VEX.{_length}.66.{{}}.W0"
    only_avx(
        "vcvtph2ps", f"{_encoding.format('0F38')} 13 /r", _listed, _from_half, feature="f16c", attributes="unaligned"
    )
    only_avx(
        "vcvtps2ph", f"{_encoding.format('0F3A')} 1D /r ib", _stored, _to_half, feature="f16c", static=(2,),
        attributes="unaligned", restartable=True,
    )  # fmt: skip

"""SSE to SSE4.1 arithmetic on floating-point numbers, packed and scalar."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F32, F64
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.packed import shuffled
from aiopyvm.isa.sse import compute, numbers
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM

Number = Callable[[Tracer, Value, Value], Value]


def _binary(op: str, b: Tracer, x: Value, y: Value) -> Value:
    return compute(b, op, rows.type_of(x), x, y)


def _sqrt(b: Tracer, x: Value) -> Value:
    return compute(b, "vsqrt", rows.type_of(x), x)


def _packed(meaning: Number, bits: int) -> rows.Binary:
    """A meaning of floating-point lanes, for whole registers."""
    return lambda b, x, y: meaning(b, numbers(x, bits), numbers(y, bits))


def _arithmetic(name: str, opcode: str) -> None:
    for suffix, prefix, bits in rows.PACKED:
        rows.packed(name + suffix, f"{prefix} 0F {opcode}", _packed(partial(_binary, f"v{name}"), bits))
    for suffix, prefix, type_ in rows.SCALARS:
        rows.scalar(name + suffix, f"{prefix} 0F {opcode}", type_, partial(_binary, f"v{name}"))


for _name, _opcode in (("add", "58"), ("mul", "59"), ("sub", "5C"), ("min", "5D"), ("div", "5E"), ("max", "5F")):
    _arithmetic(_name, _opcode)


def _square_root(suffix: str, prefix: str, bits: int) -> None:
    rows.packed_unary(f"sqrt{suffix}", f"{prefix} 0F 51", lambda b, x: _sqrt(b, numbers(x, bits)))


for _suffix, _prefix, _bits in rows.PACKED:
    _square_root(_suffix, _prefix, _bits)
for _suffix, _prefix, _type in rows.SCALARS:
    rows.scalar_unary(f"sqrt{_suffix}", f"{_prefix} 0F 51", _type, _sqrt)


# -- bits --------------------------------------------------------------------------------------------------------------

_BITWISE: dict[str, tuple[str, Callable[[Value, Value], Value]]] = {
    "and": ("54", lambda x, y: x & y),
    "andn": ("55", lambda x, y: ~x & y),
    "or": ("56", lambda x, y: x | y),
    "xor": ("57", lambda x, y: x ^ y),
}


def _bitwise(name: str, opcode: str, operation: Callable[[Value, Value], Value]) -> None:
    for suffix, prefix, _ in rows.PACKED:
        rows.packed(name + suffix, f"{prefix} 0F {opcode}", lambda b, x, y: operation(x, y))


for _name, (_opcode, _operation) in _BITWISE.items():
    _bitwise(_name, _opcode, _operation)


# -- SSE3 --------------------------------------------------------------------------------------------------------------


def _horizontal(op: str, b: Tracer, x: Value, y: Value) -> Value:
    """Within each 128 bits, the even lanes op the odd ones of `x`, then of `y`."""
    even = shuffled(x, y, lambda own, other: [*own[::2], *other[::2]])
    odd = shuffled(x, y, lambda own, other: [*own[1::2], *other[1::2]])
    return compute(b, op, rows.type_of(x), even, odd)


for _suffix, _prefix, _bits in (("pd", "66", 64), ("ps", "F2", 32)):
    for _name, _opcode, _meaning in (
        ("addsub", "D0", partial(_binary, "vaddsub")),
        ("hadd", "7C", partial(_horizontal, "vadd")),
        ("hsub", "7D", partial(_horizontal, "vsub")),
    ):
        rows.packed(_name + _suffix, f"{_prefix} 0F {_opcode}", _packed(_meaning, _bits), feature="pni")


# -- SSE4.1 ------------------------------------------------------------------------------------------------------------


def _round(b: Tracer, x: Value, mode: int) -> Value:
    return compute(b, "vround", rows.type_of(x), x, attr=mode & 15)


def _round_packed(suffix: str, opcode: str, bits: int) -> None:
    rows.packed_unary_immediate(
        f"round{suffix}", f"66 0F 3A {opcode}", lambda b, x, mode: _round(b, numbers(x, bits), mode), feature="sse4_1"
    )


_round_packed("ps", "08", 32)
_round_packed("pd", "09", 64)
rows.scalar_immediate("roundss", "66 0F 3A 0A", F32, lambda b, x, y, mode: _round(b, y, mode), feature="sse4_1")
rows.scalar_immediate("roundsd", "66 0F 3A 0B", F64, lambda b, x, y, mode: _round(b, y, mode), feature="sse4_1")


def _dot_product(bits: int, b: Tracer, x: Value, y: Value, mask: int) -> Value:
    """Within each 128 bits, the sum of products of the lanes that bits 4.. of the mask name, in those that 0.. name."""
    x, y = numbers(x, bits), numbers(y, bits)
    type_ = rows.type_of(x)
    zero = b.const(0, type_)

    def some(value: Value, chosen: int) -> Value:
        return shuffled(value, zero, lambda own, none: [(own if chosen >> n & 1 else none)[n] for n in range(len(own))])

    def across(value: Value, distance: int) -> Value:
        return shuffled(value, value, lambda own, _: [own[n ^ distance] for n in range(len(own))])

    product = b.simd("vmul", type_, some(x, mask >> 4), some(y, mask >> 4))
    beside = across(product, 1)
    # Of two NaNs the first operand's is the result: which one is first was observed on the hardware.
    steps = [product, b.simd("vadd", type_, *((beside, product) if bits == 32 else (product, beside)))]
    if bits == 32:
        steps.append(b.simd("vadd", type_, steps[-1], across(steps[-1], 2)))
    b.raises(*steps)
    return some(steps[-1], mask)


rows.packed_immediate("dpps", "66 0F 3A 40", partial(_dot_product, 32), feature="sse4_1")
rows.packed_immediate("dppd", "66 0F 3A 41", partial(_dot_product, 64), feature="sse4_1", lengths=(XMM,))

"""SSE to SSE4.1 arithmetic on floating-point numbers, packed and scalar."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiopyvm.ir.builder import Value
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.places import ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, compute, load, low, numbers, with_low
from aiopyvm.isa.trace import Tracer

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
    """The even lanes op the odd ones of `x`, then of `y`."""
    lanes = rows.type_of(x).lanes
    even, odd = x.shuffle(range(0, 2 * lanes, 2), y), x.shuffle(range(1, 2 * lanes, 2), y)
    return compute(b, op, rows.type_of(x), even, odd)


for _suffix, _prefix, _bits in (("pd", "66", 64), ("ps", "F2", 32)):
    rows.packed(f"addsub{_suffix}", f"{_prefix} 0F D0", _packed(partial(_binary, "vaddsub"), _bits), feature="pni")
    rows.packed(f"hadd{_suffix}", f"{_prefix} 0F 7C", _packed(partial(_horizontal, "vadd"), _bits), feature="pni")
    rows.packed(f"hsub{_suffix}", f"{_prefix} 0F 7D", _packed(partial(_horizontal, "vsub"), _bits), feature="pni")


# -- SSE4.1 ------------------------------------------------------------------------------------------------------------


def _round(suffix: str, opcode: str, bits: int) -> None:
    name = f"round{suffix}"

    @insn(name, source=rows.source_of(name), cpuid="sse4_1")
    @form(f"66 0F 3A {opcode} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, mode: ImmediatePlace) -> None:
        """dst := src rounded to integral values."""
        x = numbers(load(b, src), bits)
        dst.store(compute(b, "vround", rows.type_of(x), x, attr=int(mode) & 15))


def _round_scalar(suffix: str, opcode: str, bits: int) -> None:
    name, type_ = f"round{suffix}", {kind: type_ for kind, _, type_ in rows.SCALARS}[suffix]

    @insn(name, source=rows.source_of(name), cpuid="sse4_1")
    @form(f"66 0F 3A {opcode} /r ib", f"xmm1, xmm2/m{bits}, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, mode: ImmediatePlace) -> None:
        """The low lane of dst := that of src rounded to an integral value."""
        kept = dst.load()
        dst.store(with_low(kept, compute(b, "vround", type_, low(b, src, type_), attr=int(mode) & 15)))


_round("ps", "08", 32)
_round("pd", "09", 64)
_round_scalar("ss", "0A", 32)
_round_scalar("sd", "0B", 64)


def _dot_product(suffix: str, opcode: str, bits: int) -> None:
    name, lanes = f"dp{suffix}", 128 // bits

    @insn(name, source=rows.source_of(name), cpuid="sse4_1")
    @form(f"66 0F 3A {opcode} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, mask: ImmediatePlace) -> None:
        """The sum of products of the lanes that bits 4.. of the immediate name, in those that bits 0.. name."""
        x, y, zero = (numbers(value, bits) for value in (dst.load(), load(b, src), dst.load() ^ dst.load()))
        type_, chosen, kept = rows.type_of(x), int(mask) >> 4, int(mask) & 15
        factors = [number + lanes * (not chosen >> number & 1) for number in range(lanes)]
        product = b.simd("vmul", type_, x.shuffle(factors, zero), y.shuffle(factors, zero))
        beside = product.shuffle([number ^ 1 for number in range(lanes)])
        # Of two NaNs the first operand's is the result: which one is first was observed on the hardware.
        pairs = b.simd("vadd", type_, *((beside, product) if lanes > 2 else (product, beside)))
        steps = [product, pairs]
        if lanes > 2:
            steps.append(b.simd("vadd", type_, pairs, pairs.shuffle([number ^ 2 for number in range(lanes)])))
        b.raises(*steps)
        dst.store(steps[-1].shuffle([number + lanes * (not kept >> number & 1) for number in range(lanes)], zero))


_dot_product("ps", "40", 32)
_dot_product("pd", "41", 64)

"""Floating-point arithmetic: against the host's own f32 and f64, and exact fractions where it has no equal."""

from __future__ import annotations

import ctypes
import math
import operator
import random
import struct
from collections.abc import Callable
from fractions import Fraction

import pytest

from aiopyvm.ir.float import FLOAT, direct
from aiopyvm.ir.floatformat import DE, IE, INDEFINITE, OE, PE, UE, ZE
from aiopyvm.ir.types import F32, F64, F80, I8, I16, I32, I64, Type, integer
from tests.hardware import x87_values as values

CONTROL = 0x37F
NEAREST, DOWN, UP, TRUNCATE = (CONTROL | mode << 10 for mode in range(4))
ONE = 0x3FFF8000000000000000
OPERATORS: dict[str, Callable[[float, float], float]] = {
    "fadd": operator.add,
    "fsub": operator.sub,
    "fmul": operator.mul,
}
NOT_EXCEPTIONS = ~0xBF  # what no operation may report: SF


def f64(x: float) -> int:
    return int.from_bytes(struct.pack("<d", x), "little")


def f32(x: float) -> int:
    return int.from_bytes(bytes(ctypes.c_float(x)), "little")


def to_f80(x: float) -> int:
    return FLOAT["fconvert"](F80, F64, f64(x), CONTROL)[0]


def from_f80(bits: int) -> float:
    return float(struct.unpack("<d", FLOAT["fconvert"](F64, F80, bits, CONTROL)[0].to_bytes(8, "little"))[0])


def exact(bits: int) -> Fraction:
    """The value of a finite f80."""
    magnitude = Fraction(bits & (1 << 64) - 1) * Fraction(2) ** ((bits >> 64 & 0x7FFF or 1) - 16383 - 63)
    return -magnitude if bits >> 79 else magnitude


def doubles(seed: int, count: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    pairs = [(values.double(rng), values.double(rng)) for _ in range(count)]
    return [(a, b) for a, b in pairs if not math.isnan(as_float(a)) and not math.isnan(as_float(b))]


def as_float(bits: int) -> float:
    return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


@pytest.mark.parametrize("op", OPERATORS)
def test_double_arithmetic_is_the_hosts(op: str) -> None:
    for a, b in doubles(1, 3000):
        expected = OPERATORS[op](as_float(a), as_float(b))
        got, exceptions = FLOAT[op](F64, F64, a, b, CONTROL)
        assert exceptions & NOT_EXCEPTIONS == 0
        if math.isnan(expected):
            assert got == 0xFFF8000000000000
            assert exceptions == IE
        else:
            assert got == f64(expected), (hex(a), hex(b))


def test_double_division_and_square_root_are_the_hosts() -> None:
    for a, b in doubles(2, 3000):
        x, y = as_float(a), as_float(b)
        if y and not (math.isinf(x) and math.isinf(y)):
            assert FLOAT["fdiv"](F64, F64, a, b, CONTROL)[0] == f64(x / y), (hex(a), hex(b))
        if x >= 0:
            assert FLOAT["fsqrt"](F64, F64, a, CONTROL)[0] == f64(math.sqrt(x)), hex(a)


@pytest.mark.parametrize("op", OPERATORS)
def test_single_arithmetic_is_the_hosts(op: str) -> None:
    """f32 operations through f64 round twice, which for these is the same as once."""
    rng = random.Random(3)
    for _ in range(3000):
        a, b = values.single(rng), values.single(rng)
        x, y = (float(ctypes.c_float.from_buffer_copy(v.to_bytes(4, "little")).value) for v in (a, b))
        if not (math.isnan(x) or math.isnan(y) or math.isnan(OPERATORS[op](x, y))):
            assert FLOAT[op](F32, F32, a, b, CONTROL)[0] == f32(OPERATORS[op](x, y)), (hex(a), hex(b))


def test_conversions_between_formats() -> None:
    for a, _ in doubles(4, 2000):
        assert FLOAT["fconvert"](F32, F64, a, CONTROL)[0] == f32(as_float(a))
        wide, exceptions = FLOAT["fconvert"](F80, F64, a, CONTROL)
        assert exceptions == (DE if a & ~(1 << 63) and not a >> 52 & 0x7FF else 0)
        assert FLOAT["fconvert"](F64, F80, wide, CONTROL) == (a, 0)


@pytest.mark.parametrize("op", ["fadd", "fsub", "fmul", "fdiv"])
@pytest.mark.parametrize("precision", [24, 53, 64])
def test_rounding_brackets_the_exact_result(op: str, precision: int) -> None:
    """Down and up are neighbours around the exact result; nearest and truncate are one of them; PE tells inexact."""
    rng = random.Random(5)
    field = {24: 0, 53: 2, 64: 3}[precision] << 8
    exactly: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
        "fadd": operator.add, "fsub": operator.sub, "fmul": operator.mul, "fdiv": operator.truediv,
    }  # fmt: skip
    for _ in range(500):
        a, b = values.normal(rng), values.normal(rng)
        wanted = exactly[op](exact(a), exact(b))
        found = [FLOAT[op](F80, F80, a, b, 0x7F | field | mode << 10) for mode in range(4)]
        near, low, high, cut = (exact(bits) for bits, _ in found)
        assert low <= wanted <= high
        assert cut == (low if wanted >= 0 else high)
        assert near in (low, high)
        assert abs(near - wanted) <= (high - low) / 2
        if wanted:
            exponent = math.frexp(float(max(abs(low), abs(high))))[1]
            assert high - low <= Fraction(2) ** (exponent - precision)
        for bits, exceptions in found:
            assert bool(exceptions & PE) == (exact(bits) != wanted)
            assert bool(exceptions & 0x80) == (abs(exact(bits)) > abs(wanted))


@pytest.mark.parametrize(
    ("control", "expected"),
    [(NEAREST, [0, 2, 2, -2, 3]), (DOWN, [0, 1, 2, -3, 2]), (UP, [1, 2, 3, -2, 3]), (TRUNCATE, [0, 1, 2, -2, 2])],
)
def test_integers_round_as_the_control_word_says(control: int, expected: list[int]) -> None:
    for x, wanted in zip((0.5, 1.5, 2.5, -2.5, 2.75), expected, strict=True):
        for width in (I16, I32, I64):
            assert FLOAT["toint"](width, F80, to_f80(x), control)[0] == wanted & width.mask
        assert from_f80(FLOAT["frint"](F80, F80, to_f80(x), control)[0]) == wanted


@pytest.mark.parametrize("width", [16, 32, 64])
def test_integers_that_do_not_fit_are_indefinite(width: int) -> None:
    limit = 1 << width - 1
    type_ = integer(width)
    for value, wanted in ((limit, (limit, IE)), (-limit, (limit, 0)), (limit - 1, (limit - 1, 0))):
        bits = FLOAT["fromint"](F80, integer(128), value & (1 << 128) - 1, CONTROL)[0]
        assert FLOAT["toint"](type_, F80, bits, CONTROL) == wanted
    below = FLOAT["fdiv"](F80, F80, ONE, to_f80(-4.0), CONTROL)[0]
    assert FLOAT["toint"](type_, F80, below, CONTROL) == (0, PE)


def test_integers_go_there_and_back() -> None:
    rng = random.Random(6)
    for _ in range(500):
        value = rng.getrandbits(64) >> rng.randrange(64)
        bits, exceptions = FLOAT["fromint"](F80, I64, value, CONTROL)
        assert exceptions == 0
        assert FLOAT["toint"](I64, F80, bits, CONTROL) == (value, 0)


@pytest.mark.parametrize(
    ("op", "arguments", "wanted"),
    [
        ("fadd", (0x7FFF << 64 | 1 << 63, 0xFFFF << 64 | 1 << 63), (INDEFINITE, IE)),  # inf - inf
        ("fmul", (0, 0x7FFF << 64 | 1 << 63), (INDEFINITE, IE)),
        ("fdiv", (0, 0), (INDEFINITE, IE)),
        ("fdiv", (ONE, 1 << 79), (0xFFFF << 64 | 1 << 63, ZE)),
        ("fsqrt", (ONE | 1 << 79,), (INDEFINITE, IE)),
        ("fsqrt", (1 << 79,), (1 << 79, 0)),
        ("fadd", (0x7FFF << 64 | 1 << 63 | 5, ONE), (0x7FFF << 64 | 3 << 62 | 5, IE)),  # an SNaN becomes quiet
        ("fadd", (0x7FFF << 64 | 1 << 63 | 5, 0x7FFF << 64 | 3 << 62 | 1), (0x7FFF << 64 | 3 << 62 | 1, IE)),
        ("fadd", (0x7FFF << 64 | 3 << 62 | 5, 0xFFFF << 64 | 3 << 62 | 6), (0xFFFF << 64 | 3 << 62 | 6, 0)),
        ("fmul", (1 << 64 | 5, ONE), (INDEFINITE, IE)),  # an unnormal
        ("fmul", (1, ONE), (1, DE)),
        ("fmul", (0x7FFE << 64 | 1 << 63, 0x4000 << 64 | 1 << 63), (0x7FFF << 64 | 1 << 63, OE | PE | 0x80)),
        ("fdiv", (1, 0x4001 << 64 | 1 << 63), (0, DE | UE | PE)),
        ("fscale", (ONE, 0x3FFF8 << 60), (0x40008 << 60, 0)),
    ],
)
def test_masked_responses(op: str, arguments: tuple[int, ...], wanted: tuple[int, int]) -> None:
    assert FLOAT[op](F80, F80, *arguments, CONTROL) == wanted


def test_unmasked_overflow_adjusts_the_exponent() -> None:
    top = 0x7FFE << 64 | 1 << 63
    bits, exceptions = FLOAT["fmul"](F80, F80, top, top, CONTROL & ~OE)
    assert (bits, exceptions) == (0x7FFE + 0x7FFE - 0x3FFF - 24576 << 64 | 1 << 63, OE)


def test_precision_is_for_arithmetic_alone() -> None:
    third = FLOAT["fdiv"](F80, F80, ONE, to_f80(3.0), 0x37F)[0]
    single = FLOAT["fdiv"](F80, F80, ONE, to_f80(3.0), 0x07F)[0]
    assert third & (1 << 40) - 1
    assert not single & (1 << 40) - 1
    assert FLOAT["fscale"](F80, F80, third, 0, 0x07F)[0] == third


@pytest.mark.parametrize(
    ("x", "y", "relation"), [(1.0, 2.0, 1), (2.0, 1.0, 0), (0.0, -0.0, 2), (-math.inf, math.inf, 1), (-1.0, -2.0, 0)]
)
def test_comparison(x: float, y: float, relation: int) -> None:
    for type_, a, b in ((F64, f64(x), f64(y)), (F80, to_f80(x), to_f80(y))):
        assert FLOAT["fcompare"](I8, type_, a, b, CONTROL) == (relation, 0)
        assert FLOAT["fcompareq"](I8, type_, a, b, CONTROL) == (relation, 0)


def test_quiet_comparison_is_invalid_for_signaling_nans_only() -> None:
    quiet, signaling = 0x7FFF << 64 | 3 << 62, 0x7FFF << 64 | 1 << 63 | 1
    assert FLOAT["fcompare"](I8, F80, quiet, ONE, CONTROL) == (3, IE)
    assert FLOAT["fcompareq"](I8, F80, quiet, ONE, CONTROL) == (3, 0)
    assert FLOAT["fcompareq"](I8, F80, ONE, signaling, CONTROL) == (3, IE)


@pytest.mark.parametrize("op", sorted(FLOAT))
def test_direct_is_the_same_function(op: str) -> None:
    result: Type = {"toint": I32, "fcompare": I8, "fcompareq": I8}.get(op, F80)
    argument: Type = I32 if op == "fromint" else F80
    arguments = [to_f80(2.5), to_f80(1.25)][: 1 if op in ("fsqrt", "frint", "fconvert", "toint", "fromint") else 2]
    if op == "fromint":
        arguments = [7]
    assert direct(op, result, argument)(*arguments, CONTROL) == FLOAT[op](result, argument, *arguments, CONTROL)


def test_no_operand_raises() -> None:
    """Whatever the bits and the control word, the answer has the result's width."""
    rng = random.Random(7)
    for _ in range(3000):
        a, b, control = rng.getrandbits(80), values.extended(rng), rng.getrandbits(16)
        for op in ("fadd", "fsub", "fmul", "fdiv", "fscale"):
            bits, exceptions = FLOAT[op](F80, F80, a, b, control)
            assert 0 <= bits < 1 << 80
            assert 0 <= exceptions < 256
        for narrow in (F32, F64):
            assert 0 <= FLOAT["fconvert"](narrow, F80, a, control)[0] <= narrow.mask

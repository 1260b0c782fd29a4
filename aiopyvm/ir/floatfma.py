"""Fused multiply-add, and numbers of 16 bits (F16C), which are only converted.

Operands are as in `floatarith`: widened, with DE where one was a denormal.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.floatformat import (
    DOWN,
    EXPONENT,
    IE,
    INFINITY,
    INTEGER_BIT,
    LSB,
    QUIET_BIT,
    SIGN,
    SIGNIFICAND,
    Format,
    Outcome,
    indefinite,
    infinity,
    is_infinite,
    is_nan,
    is_signaling,
    narrow,
    round_pack,
)

HALF: Final = Format(16, 10, 11, 15, 24)
_REBIAS: Final = 16383 - 15
_TOP: Final = 0x1F  # the exponent of infinities and NaNs


def fma(a: int, b: int, c: int, control: int, fmt: Format, exc: int) -> Outcome:
    """a * b + c, rounded once; of NaNs the first one is the result. None of the operands is a NaN of another sign than
    the program's: who negates an operand leaves NaNs as they are.
    """
    for operand in (a, b, c):
        if is_nan(operand):
            invalid = any(map(is_signaling, (a, b, c)))
            return narrow(fmt, operand | QUIET_BIT), IE if invalid else 0
    sign = (a ^ b) >> 79
    x, y, z = a & SIGNIFICAND, b & SIGNIFICAND, c & SIGNIFICAND
    if is_infinite(a) or is_infinite(b):
        if not x or not y or (is_infinite(c) and c >> 79 != sign):
            return indefinite(fmt), IE
        return infinity(fmt, sign), exc
    if is_infinite(c):
        return narrow(fmt, c), exc
    product, weight = x * y, (a >> 64 & EXPONENT) + (b >> 64 & EXPONENT) - 2 * LSB
    weight_c = (c >> 64 & EXPONENT) - LSB
    lowest = weight if not z else weight_c if not product else min(weight, weight_c)
    total = (-product if sign else product) << weight - lowest if product else 0
    total += (-z if c >> 79 else z) << weight_c - lowest if z else 0
    if not total:
        same = sign == c >> 79 and not product
        negative = sign if same else control >> 10 & 3 == DOWN
        return negative << (fmt.bits - 1), exc
    return round_pack(fmt, total < 0, abs(total), lowest, control, exc, fmt.precision)


def negated(x: int) -> int:
    """A number of the other sign; a NaN stays as it is."""
    return x if is_nan(x) else x ^ SIGN


def widen_half(bits: int) -> int:
    """A number of 16 bits as an extended encoding; a NaN keeps its signaling bit."""
    sign, exponent, fraction = bits >> 15 << 79, bits >> 10 & _TOP, (bits & 0x3FF) << 53
    if exponent == _TOP:
        return sign | INFINITY | fraction
    if exponent:
        return sign | (exponent + _REBIAS) << 64 | INTEGER_BIT | fraction
    if not fraction:
        return sign
    shift = 64 - fraction.bit_length()
    return sign | (_REBIAS + 1 - shift) << 64 | fraction << shift


__all__ = ["HALF", "fma", "negated", "widen_half"]

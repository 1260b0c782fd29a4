"""Conversions between formats and with integers, and comparison."""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.floatarith import propagate, round_integer
from aiopyvm.ir.floatformat import (
    DE,
    EXPONENT,
    EXTENDED,
    IE,
    INTEGER_BIT,
    LSB,
    QUIET_BIT,
    SIGN,
    SIGNIFICAND,
    Format,
    Outcome,
    infinity,
    is_denormal,
    is_infinite,
    is_nan,
    is_signaling,
    is_unsupported,
    narrow,
    round_pack,
    widen,
)

GREATER: Final = 0
LESS: Final = 1
EQUAL: Final = 2
UNORDERED: Final = 3


def extend(bits: int, size: int) -> Outcome:
    """An f32 or f64 to f80, as FLD does: a denormal raises DE, an SNaN becomes quiet and raises IE."""
    if size == 64:
        exponent = bits >> 52 & 0x7FF
        if 0 < exponent < 0x7FF:
            return (bits >> 63 << 15 | exponent + 15360) << 64 | (bits & 0xFFFFFFFFFFFFF) << 11 | INTEGER_BIT, 0
    x, exc = widen(bits, size)
    return (x | QUIET_BIT, IE) if is_signaling(x) else (x, exc)


def convert(x: int, fmt: Format, control: int, exc: int = 0) -> Outcome:
    """An extended encoding to `fmt`, rounded. A denormal of the extended format raises no DE (as FST)."""
    exponent = x >> 64 & EXPONENT
    if x & INTEGER_BIT and 0 < exponent < EXPONENT:
        return round_pack(fmt, x >> 79, x & SIGNIFICAND, exponent - LSB, control, exc, fmt.precision)
    if is_nan(x) or is_unsupported(x):
        return propagate(x, x, fmt)
    if is_infinite(x):
        return infinity(fmt, x >> 79), exc
    if not x & SIGNIFICAND:
        return narrow(fmt, x), exc
    return round_pack(fmt, x >> 79, x & SIGNIFICAND, 1 - LSB, control, exc, fmt.precision)


def from_integer(value: int, size: int, fmt: Format, control: int) -> Outcome:
    """A signed integer of `size` bits, rounded to `fmt` (f80 holds each exactly)."""
    sign = value >> (size - 1)
    magnitude = (1 << size) - value if sign else value
    if not magnitude:
        return 0, 0
    return round_pack(fmt, sign, magnitude, 0, control, 0, fmt.precision)


def to_integer(x: int, size: int, control: int) -> Outcome:
    """An extended encoding to a signed integer of `size` bits; IE and the integer indefinite for what does not fit."""
    sign, exponent, significand = x >> 79, x >> 64 & EXPONENT, x & SIGNIFICAND
    invalid = 1 << (size - 1)
    if not significand and not exponent:
        return 0, 0
    e = (exponent or 1) - LSB
    if exponent == EXPONENT or e > 0 or is_unsupported(x):
        return invalid, IE
    magnitude, exc = round_integer(sign, significand, e, control, 0) if e else (significand, 0)
    if magnitude > invalid - 1 + sign:
        return invalid, IE
    return (-magnitude if sign else magnitude) & ((1 << size) - 1), exc


def compare(a: int, b: int, exc: int = 0) -> Outcome:
    """The relation of a to b; any NaN or unsupported encoding is UNORDERED and IE."""
    quiet, exc = compare_quiet(a, b, exc)
    return (quiet, IE) if quiet == UNORDERED else (quiet, exc)


def compare_quiet(a: int, b: int, exc: int = 0) -> Outcome:
    """The relation of a to b; only an SNaN or an unsupported encoding gives IE."""
    if not (a & b & INTEGER_BIT and 0 < a >> 64 & EXPONENT < EXPONENT and 0 < b >> 64 & EXPONENT < EXPONENT):
        if is_nan(a) or is_nan(b) or is_unsupported(a) or is_unsupported(b):
            return UNORDERED, propagate(a, b, EXTENDED)[1]
        if is_denormal(a) or is_denormal(b):
            exc |= DE
    x, y = _ordered(a), _ordered(b)
    return (EQUAL if x == y else LESS if x < y else GREATER), exc


def _ordered(x: int) -> int:
    """An integer that orders as the (not NaN) number x does."""
    magnitude = x & ~SIGN
    if not magnitude >> 64:  # a pseudo-denormal is as large as the normal number of exponent 1
        magnitude += magnitude & INTEGER_BIT and 1 << 64
    return -magnitude if x >> 79 else magnitude

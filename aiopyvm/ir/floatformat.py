"""Binary floating-point formats, and the rounding that every operation ends with.

All arithmetic is exact on Python integers and rounds once. Operands of any format are first widened, without loss and
without exceptions, to the 80-bit double extended encoding: sign (bit 79), biased exponent (bits 64-78), significand
with its integer bit (bits 0-63). A NaN keeps its payload and its signaling bit; a denormal becomes normal, and the
caller remembers that it was one.

Encodings that the x87 does not support (Intel SDM vol. 1, "Unsupported Double Extended-Precision Floating-Point
Encodings and Pseudo-Denormals"): an exponent above 0 with the integer bit clear. Pseudo-denormals (exponent 0,
integer bit set) are denormal operands with the value of exponent 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiopyvm.ir.types import Type

# Exceptions, as in the x87 status word; C1 is ours: the result's magnitude was rounded up.
IE: Final = 1
DE: Final = 2
ZE: Final = 4
OE: Final = 8
UE: Final = 16
PE: Final = 32
C1: Final = 128

NEAREST: Final = 0
DOWN: Final = 1
UP: Final = 2
TRUNCATE: Final = 3

SIGN: Final = 1 << 79
SIGNIFICAND: Final = (1 << 64) - 1
INTEGER_BIT: Final = 1 << 63
QUIET_BIT: Final = 1 << 62
EXPONENT: Final = 0x7FFF
INFINITY: Final = EXPONENT << 64 | INTEGER_BIT
INDEFINITE: Final = SIGN | INFINITY | QUIET_BIT
BIAS: Final = 16383
LSB: Final = BIAS + 63  # a significand's lowest bit weighs 2 ** (exponent field - LSB)

PRECISION: Final = (24, 64, 53, 64)  # significand bits by the control word's PC field (1 is reserved: as 3)

Outcome = tuple[int, int]  # result bits, exceptions


@dataclass(frozen=True, slots=True)
class Format:
    """An encoding: `stored` significand bits, `precision` with the integer bit, largest exponent `emax`."""

    bits: int
    stored: int
    precision: int
    emax: int
    wrap: int  # what an unmasked overflow or underflow adds to the exponent (SDM vol. 1, "Numeric Overflow Exception")

    @property
    def emin(self) -> int:
        """The smallest exponent of a normal number."""
        return 1 - self.emax


SINGLE: Final = Format(32, 23, 24, 127, 192)
DOUBLE: Final = Format(64, 52, 53, 1023, 1536)
EXTENDED: Final = Format(80, 64, 64, 16383, 24576)
FORMATS: Final = {32: SINGLE, 64: DOUBLE, 80: EXTENDED}


def format_of(type_: Type) -> Format:
    """The format of a floating-point type."""
    return FORMATS[type_.bits]


def widen(bits: int, size: int) -> tuple[int, int]:
    """`bits` of a format of `size` bits as an extended encoding, and DE where it is a denormal (0 for size 80)."""
    if size == 80:
        return bits, 0
    if size == 64:
        sign, exponent, fraction = bits >> 63 << 79, bits >> 52 & 0x7FF, (bits & 0xFFFFFFFFFFFFF) << 11
        rebias, top = 15360, 0x7FF
    else:
        sign, exponent, fraction = bits >> 31 << 79, bits >> 23 & 0xFF, (bits & 0x7FFFFF) << 40
        rebias, top = 16256, 0xFF
    if exponent == top:
        return sign | INFINITY | fraction, 0
    if exponent:
        return sign | (exponent + rebias) << 64 | INTEGER_BIT | fraction, 0
    if not fraction:
        return sign, 0
    shift = 64 - fraction.bit_length()
    return sign | (rebias + 1 - shift) << 64 | fraction << shift, DE


def is_unsupported(x: int) -> bool:
    """Tell an unnormal, a pseudo-NaN or a pseudo-infinity."""
    return not x & INTEGER_BIT and x >> 64 & EXPONENT != 0


def is_nan(x: int) -> bool:
    """Tell a NaN, quiet or signaling."""
    return x >> 64 & EXPONENT == EXPONENT and x & SIGNIFICAND > INTEGER_BIT


def is_signaling(x: int) -> bool:
    """Tell a signaling NaN."""
    return is_nan(x) and not x & QUIET_BIT


def is_infinite(x: int) -> bool:
    """Tell an infinity."""
    return x & ~SIGN == INFINITY


def is_denormal(x: int) -> bool:
    """Tell a denormal or pseudo-denormal."""
    return not x >> 64 & EXPONENT and x & SIGNIFICAND != 0


def round_pack(fmt: Format, sign: int, x: int, e: int, control: int, exc: int, precision: int) -> Outcome:
    """Encode (-1)**sign * x * 2**e (x > 0), rounded to `precision` bits and `fmt`'s range.

    Adds OE, UE, PE, C1 to `exc`. Where x is only a sticky approximation (its lowest bit stands for all that was cut
    off) it must have `precision` + 2 bits.
    """
    length = x.bit_length()
    exponent = e + length - 1
    shift = length - precision
    if not -fmt.emax < exponent < fmt.emax:
        return _round_at_edge(fmt, sign, x, e, control, exc, precision)
    if shift > 0:
        kept = x >> shift
        rest = x & ((1 << shift) - 1)
        if rest:
            exc |= PE
            if _rounds_up(rest, shift, kept, sign, control):
                kept += 1
                exc |= C1
                if kept >> precision:
                    kept >>= 1
                    exponent += 1
    else:
        kept = x << -shift
    return _encode(fmt, sign, exponent, kept, precision), exc


def _rounds_up(rest: int, shift: int, kept: int, sign: int, control: int) -> int:
    """Whether cutting `rest` (not 0) of `shift` bits off `kept` increases the magnitude."""
    mode = control >> 10 & 3
    if mode == NEAREST:
        half = 1 << (shift - 1)
        return rest > half or (rest == half and kept & 1)
    if mode == TRUNCATE:
        return 0
    return sign if mode == DOWN else not sign


def _encode(fmt: Format, sign: int, exponent: int, kept: int, precision: int) -> int:
    """A normal number whose significand `kept` has exactly `precision` bits."""
    if fmt is EXTENDED:
        return sign << 79 | (exponent + BIAS) << 64 | kept << (64 - precision)
    return sign << (fmt.bits - 1) | ((exponent + fmt.emax - 1) << fmt.stored) + (kept << (fmt.precision - precision))


def _round_at_edge(fmt: Format, sign: int, x: int, e: int, control: int, exc: int, precision: int) -> Outcome:
    """`round_pack` where the result may overflow or be tiny.

    Unmasked, the exponent is adjusted by `fmt.wrap`; where even that does not fit (FSCALE): infinity or zero.
    """
    exponent = e + x.bit_length() - 1
    shift = x.bit_length() - precision
    kept, up = x << max(-shift, 0) >> max(shift, 0), 0
    rest = x & ((1 << shift) - 1) if shift > 0 else 0
    if rest and _rounds_up(rest, shift, kept, sign, control):
        kept, up = kept + 1, C1
        if kept >> precision:
            kept, exponent = kept >> 1, exponent + 1
    inexact = PE | up if rest else 0
    if exponent > fmt.emax:
        if control & OE:
            return _overflowed(fmt, sign, control, exc, precision)
        if exponent - fmt.wrap > fmt.emax:
            return infinity(fmt, sign), exc | OE | PE | C1
        return _encode(fmt, sign, exponent - fmt.wrap, kept, precision), exc | OE | inexact
    if exponent >= fmt.emin:  # tininess is detected after rounding
        return _encode(fmt, sign, exponent, kept, precision), exc | inexact
    if not control & UE:
        if exponent + fmt.wrap < fmt.emin:
            return sign << (fmt.bits - 1), exc | UE | PE
        return _encode(fmt, sign, exponent + fmt.wrap, kept, precision), exc | UE | inexact
    return _denormal(fmt, sign, x, e, control, exc, precision)


def _overflowed(fmt: Format, sign: int, control: int, exc: int, precision: int) -> Outcome:
    """The masked response to overflow: infinity, or the largest number where rounding goes the other way."""
    mode = control >> 10 & 3
    if mode == TRUNCATE or mode == (UP if sign else DOWN):
        return _encode(fmt, sign, fmt.emax, (1 << precision) - 1, precision), exc | OE | PE
    return infinity(fmt, sign), exc | OE | PE | C1


def _denormal(fmt: Format, sign: int, x: int, e: int, control: int, exc: int, precision: int) -> Outcome:
    """The masked response to a tiny result: a denormal or zero; UE only where it is inexact."""
    shift = min(fmt.emin - precision + 1 - e, x.bit_length() + 2)
    kept = x >> shift if shift > 0 else x << -shift
    rest = x & ((1 << shift) - 1) if shift > 0 else 0
    if rest:
        exc |= UE | PE
        if _rounds_up(rest, shift, kept, sign, control):
            kept += 1
            exc |= C1
    if fmt is EXTENDED:
        significand = kept << (64 - precision)
        return sign << 79 | (significand >> 63) << 64 | significand, exc
    return sign << (fmt.bits - 1) | kept << (fmt.precision - precision), exc


def infinity(fmt: Format, sign: int) -> int:
    """The encoding of an infinity."""
    return narrow(fmt, sign << 79 | INFINITY)


def narrow(fmt: Format, x: int) -> int:
    """An extended zero, infinity or quiet NaN in `fmt`; a NaN's payload is cut."""
    if fmt is EXTENDED:
        return x
    sign = x >> 79 << (fmt.bits - 1)
    if not x >> 64 & EXPONENT:
        return sign
    return sign | (2 * fmt.emax + 1) << fmt.stored | (x & ~INTEGER_BIT & SIGNIFICAND) >> (64 - fmt.precision)


def indefinite(fmt: Format) -> int:
    """The QNaN that the masked response to an invalid operation gives."""
    return narrow(fmt, INDEFINITE)

"""The transcendental x87 functions in software: one definition for every engine and every host.

`compute` evaluates with mpmath to 192 bits and rounds once, to 64 bits, as the control word's rounding says: results
are within one unit in the last place of the exact ones (in practice the exact ones, rounded), for every operand, as
sines are of the exact pi. Precision control does not count, as in the hardware. PE is raised where the result is not
exact, C1 where it was rounded up. Special operands are those of the manual's tables (Intel SDM vol. 2A).

Where the manual leaves a result undefined, it is what newer processors give: F2XM1 of more than 1 and FYL2XP1 of -1 or
less leave the operand.

The work of a call is bounded: sizes of numbers are those of the format, at most 33,000 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mpmath import libmp

from aiopyvm.ir.floatarith import propagate
from aiopyvm.ir.floatformat import (
    BIAS,
    C1,
    DE,
    EXPONENT,
    EXTENDED,
    IE,
    INDEFINITE,
    INFINITY,
    INTEGER_BIT,
    LSB,
    PE,
    SIGN,
    SIGNIFICAND,
    ZE,
    Outcome,
    is_denormal,
    is_infinite,
    is_nan,
    is_unsupported,
    round_pack,
)

_BITS: Final = 192  # of intermediate results
_NEAR: Final = -70  # log2 of arguments that sine, tangent and angle are so near to that only on which side counts
_TINY: Final = -100  # log2 of operands for which two terms of a series are enough
_NO_RANGE: Final = 63  # log2 of the operands that FSIN and its like leave to the program
_ONE: Final = BIAS << 64 | INTEGER_BIT
_HALF: Final = (BIAS - 1) << 64 | INTEGER_BIT
_C2: Final = 0x400
_INVALID: Final = (INDEFINITE, IE)

Number = Any  # mpmath's (sign, mantissa, exponent, bits)


def compute(name: str, st0: int, st1: int, control: int) -> int:
    """The results of instruction `name` (lower case), as `x87function` tells. `st1` counts where there are two
    operands.
    """
    if name in _TRIGONOMETRIC:
        return _trigonometric(name, st0, control)
    bits, exceptions = _f2xm1(st0, control) if name == "f2xm1" else _of_two(name, st0, st1, control)
    return bits | exceptions << 80


# -- numbers -----------------------------------------------------------------------------------------------------------


def _number(x: int) -> Number:
    """The value of a finite encoding, exactly."""
    magnitude = libmp.from_man_exp(x & SIGNIFICAND, (x >> 64 & EXPONENT or 1) - LSB)
    return libmp.mpf_neg(magnitude) if x >> 79 else magnitude


def _log2(x: int) -> int:
    """The exponent of a finite encoding that is not zero."""
    return (x >> 64 & EXPONENT or 1) - LSB + (x & SIGNIFICAND).bit_length() - 1


def _rounded(value: Number, control: int, exceptions: int, beyond: int = 1) -> Outcome:
    """`value` (not zero) rounded. The true magnitude is a little more (`beyond` 1), less (-1), or exactly that (0)."""
    sign, mantissa, e, length = value
    mantissa, length = int(mantissa), int(length)
    if beyond:
        shift = max(_BITS + 2 - length, 1)
        mantissa, e = (mantissa << shift) + beyond, e - shift
    return round_pack(EXTENDED, sign, mantissa, e, control, exceptions, 64)


def _is_special(*operands: int) -> bool:
    return any(is_nan(x) or is_unsupported(x) for x in operands)


def _denormal(*operands: int) -> int:
    return DE if any(is_denormal(x) for x in operands) else 0


# -- FSIN, FCOS, FSINCOS, FPTAN ----------------------------------------------------------------------------------------


def _sine(x: int, control: int, exceptions: int) -> Outcome:
    if not x & SIGNIFICAND:
        return x, exceptions
    value = _number(x)
    return _rounded(value if _log2(x) < _NEAR else libmp.mpf_sin(value, _BITS), control, exceptions, -1)


def _cosine(x: int, control: int, exceptions: int) -> Outcome:
    if not x & SIGNIFICAND:
        return _ONE, exceptions
    value = libmp.fone if _log2(x) < _NEAR else libmp.mpf_cos(_number(x), _BITS)
    return _rounded(value, control, exceptions, -1)


def _tangent(x: int, control: int, exceptions: int) -> Outcome:
    if not x & SIGNIFICAND:
        return x, exceptions
    value = _number(x)
    return _rounded(value if _log2(x) < _NEAR else libmp.mpf_tan(value, _BITS), control, exceptions)


_Function = Callable[[int, int, int], Outcome]
_TRIGONOMETRIC: Final[dict[str, tuple[_Function, _Function | None]]] = {
    "fsin": (_sine, None),
    "fcos": (_cosine, None),
    "fsincos": (_sine, _cosine),
    "fptan": (_tangent, lambda x, control, exceptions: (_ONE, exceptions)),
}


def _trigonometric(name: str, x: int, control: int) -> int:
    if is_infinite(x) or _is_special(x):
        bits, exceptions = _INVALID if is_infinite(x) else propagate(x, x, EXTENDED)
        return bits | exceptions << 80 | bits << 104
    if x & SIGNIFICAND and _log2(x) >= _NO_RANGE:
        return x | _C2 << 88
    replace, push = _TRIGONOMETRIC[name]
    bits, exceptions = replace(x, control, _denormal(x))
    if push is None:
        return bits | exceptions << 80
    pushed, others = push(x, control, _denormal(x))
    return bits | (exceptions | others & ~C1) << 80 | pushed << 104  # C1 tells of what is replaced


# -- F2XM1 -------------------------------------------------------------------------------------------------------------


def _f2xm1(x: int, control: int) -> Outcome:
    if _is_special(x):
        return propagate(x, x, EXTENDED)
    if is_infinite(x):
        return (SIGN | _ONE if x >> 79 else x), 0
    if not x & SIGNIFICAND or x == _ONE:
        return x, 0
    if x == SIGN | _ONE:
        return SIGN | _HALF, 0
    exponent = _log2(x)
    if exponent >= 0:
        return x, PE
    product = libmp.mpf_mul(_number(x), libmp.mpf_ln2(2 * _BITS))
    if exponent < _TINY:  # t + t * t / 2
        value = libmp.mpf_add(product, libmp.mpf_shift(libmp.mpf_mul(product, product), -1), _BITS)
    else:
        value = libmp.mpf_sub(libmp.mpf_exp(product, _BITS - _TINY), libmp.fone, _BITS)
    return _rounded(value, control, _denormal(x))


# -- FPATAN, FYL2X, FYL2XP1 --------------------------------------------------------------------------------------------


def _of_two(name: str, x: int, y: int, control: int) -> Outcome:
    if _is_special(x, y):
        return propagate(x, y, EXTENDED)
    return _OF_TWO[name](x, y, control)


def _fpatan(x: int, y: int, control: int) -> Outcome:
    sign, exceptions = y & SIGN, _denormal(x, y)
    if is_infinite(x) or is_infinite(y):
        if is_infinite(x) and is_infinite(y):
            return _of_pi(sign, 3 if x >> 79 else 1, -2, control, exceptions)
        if is_infinite(y):
            return _of_pi(sign, 1, -1, control, exceptions)
        return _of_pi(sign, 1, 0, control, exceptions) if x >> 79 else (sign, exceptions)
    if not y & SIGNIFICAND:
        return _of_pi(sign, 1, 0, control, exceptions) if x >> 79 else (sign, exceptions)
    if not x & SIGNIFICAND:
        return _of_pi(sign, 1, -1, control, exceptions)
    if not x >> 79 and _log2(y) - _log2(x) < _NEAR:
        value = libmp.mpf_div(_number(y), _number(x), _BITS)
    else:
        value = libmp.mpf_atan2(_number(y), _number(x), _BITS)
    return _rounded(value, control, exceptions, -1)


def _of_pi(sign: int, times: int, shift: int, control: int, exceptions: int) -> Outcome:
    """pi * `times` * 2**`shift`."""
    value = libmp.mpf_shift(libmp.mpf_mul_int(libmp.mpf_pi(_BITS), times, _BITS, "n"), shift)
    return _rounded(libmp.mpf_neg(value) if sign else value, control, exceptions)


def _fyl2x(x: int, y: int, control: int) -> Outcome:
    sign = (x ^ y) & SIGN
    if not x & SIGNIFICAND:
        if not y & SIGNIFICAND:
            return _INVALID
        infinite = (y & SIGN ^ SIGN) | INFINITY
        return (infinite, _denormal(y)) if is_infinite(y) else (infinite, ZE)
    if x >> 79:
        return _INVALID
    if is_infinite(x):
        return _INVALID if not y & SIGNIFICAND else (sign | INFINITY, _denormal(y))
    below = _log2(x) < 0
    if is_infinite(y):
        return _INVALID if x == _ONE else (y ^ (SIGN if below else 0), _denormal(x))
    exceptions = _denormal(x, y)
    if not y & SIGNIFICAND or x == _ONE:
        return y & SIGN ^ (SIGN if below else 0), exceptions
    return _times_log2(_number(y), _number(x), control, exceptions)


def _times_log2(y: Number, power: Number, control: int, exceptions: int) -> Outcome:
    """y * log2(power)."""
    _, mantissa, e, _ = power
    if mantissa == 1:  # a power of two
        return _rounded(libmp.mpf_mul(y, libmp.from_int(e)), control, exceptions, 0)
    return _times(y, libmp.mpf_log(power, _BITS), control, exceptions)


def _times(y: Number, logarithm: Number, control: int, exceptions: int) -> Outcome:
    """y * log2(x), of the natural logarithm of x."""
    binary = libmp.mpf_div(logarithm, libmp.mpf_ln2(_BITS), _BITS, "n")
    return _rounded(libmp.mpf_mul(y, binary), control, exceptions)


def _fyl2xp1(x: int, y: int, control: int) -> Outcome:
    sign = (x ^ y) & SIGN
    if not x & SIGNIFICAND:
        return _INVALID if is_infinite(y) else (sign, _denormal(y))
    if is_infinite(x):
        return _INVALID if x >> 79 or not y & SIGNIFICAND else (sign | INFINITY, _denormal(y))
    exceptions = _denormal(x, y)
    if is_infinite(y):
        return sign | INFINITY, exceptions
    if not y & SIGNIFICAND:
        return sign, exceptions
    exponent, value = _log2(x), _number(x)
    if x >> 79 and exponent >= 0:
        return x, exceptions | PE
    if exponent < _TINY:  # x - x * x / 2
        square = libmp.mpf_shift(libmp.mpf_mul(value, value), -1)
        return _times(_number(y), libmp.mpf_sub(value, square, _BITS), control, exceptions)
    return _times_log2(_number(y), libmp.mpf_add(value, libmp.fone), control, exceptions)


_OF_TWO: Final = {"fpatan": _fpatan, "fyl2x": _fyl2x, "fyl2xp1": _fyl2xp1}

__all__ = ["compute"]

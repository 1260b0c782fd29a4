"""x87 operations that the IR's floating-point operations do not cover, as helpers.

Arithmetic with an m32fp or m64fp operand is one operation on the hardware: the operand keeps its signaling NaNs and
its denormals (no exception of a separate conversion), and the result is rounded once. Helpers return `x87.PACKED`:
f80 in bits 0-79, exceptions above them. FPREM's have condition codes, as in the status word, in bits 88-103, and
`KEPT` where C0 and C3 stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiopyvm.ir import floatarith as arith
from aiopyvm.ir.floatconvert import compare, from_integer, to_integer
from aiopyvm.ir.floatformat import (
    BIAS,
    DE,
    EXPONENT,
    EXTENDED,
    IE,
    INDEFINITE,
    INFINITY,
    INTEGER_BIT,
    LSB,
    SIGN,
    SIGNIFICAND,
    UE,
    ZE,
    Outcome,
    is_denormal,
    is_infinite,
    is_nan,
    is_unsupported,
    round_pack,
    widen,
)
from aiopyvm.ir.helpers import Helper, helper

KEPT: Final = 1 << 104
_C0, _C1, _C2, _C3 = 0x100, 0x200, 0x400, 0x4000


def _reversed(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    return lambda a, b, control, fmt, exc: function(b, a, control, fmt, exc)


def _arithmetic(name: str, function: Callable[..., Outcome], size: int) -> Helper:
    def operation(st0: int, operand: int, control: int) -> int:
        value, denormal = widen(operand, size)
        bits, exceptions = function(st0, value, control, EXTENDED, denormal)
        return exceptions << 80 | bits

    operation.__name__ = f"{name}_m{size}fp"
    return helper()(operation)


def _comparison(size: int) -> Helper:
    def operation(st0: int, operand: int) -> int:
        value, denormal = widen(operand, size)
        relation, exceptions = compare(st0, value, denormal)
        return exceptions << 80 | relation

    operation.__name__ = f"fcom_m{size}fp"
    return helper()(operation)


_FUNCTIONS: Final[dict[str, Callable[..., Outcome]]] = {
    "fadd": arith.add,
    "fmul": arith.mul,
    "fsub": arith.sub,
    "fsubr": _reversed(arith.sub),
    "fdiv": arith.div,
    "fdivr": _reversed(arith.div),
}
ARITHMETIC: Final = {
    (name, size): _arithmetic(name, function, size) for name, function in _FUNCTIONS.items() for size in (32, 64)
}
COMPARISON: Final = {size: _comparison(size) for size in (32, 64)}


@helper()
def fxam_class(value: int) -> int:
    """The condition codes of FXAM for a register that is not empty (i16; SDM vol. 2A, FXAM)."""
    exponent, significand = value >> 64 & EXPONENT, value & SIGNIFICAND
    sign = value >> 79 and _C1
    if is_unsupported(value):
        return sign
    if exponent == EXPONENT:
        return sign | _C0 | (_C2 if significand == INTEGER_BIT else 0)
    if exponent:
        return sign | _C2
    return sign | (_C3 | _C2 if significand else _C3)


def _remainder(a: int, b: int, control: int, *, nearest: bool) -> int:
    """FPREM, or FPREM1 where the quotient is rounded to `nearest`."""
    if is_nan(a) or is_nan(b) or is_unsupported(a) or is_unsupported(b):
        bits, exceptions = arith.propagate(a, b, EXTENDED)
        return KEPT | exceptions << 80 | bits
    if is_infinite(a) or not b & SIGNIFICAND:
        return KEPT | IE << 80 | INDEFINITE
    exceptions = DE if is_denormal(a) or is_denormal(b) else 0
    if exceptions & ~control:
        return KEPT | exceptions << 80
    sign, x, ea = a >> 79, a & SIGNIFICAND, (a >> 64 & EXPONENT or 1) - LSB
    y, eb = b & SIGNIFICAND, (b >> 64 & EXPONENT or 1) - LSB
    if not x or is_infinite(b):
        return _rounded(sign, x, ea, exceptions, control | UE, 0)  # the dividend as it is: no underflow
    distance = ea + x.bit_length() - eb - y.bit_length()
    if distance >= 64:  # not finished: the exponents' difference decreases by 32 to 63
        cut = distance - (32 + distance % 32)
        shift = ea - eb - cut
        rest = (x << shift if shift > 0 else x) % (y if shift > 0 else y << -shift)
        return _rounded(sign, rest, min(ea, eb + cut) if shift <= 0 else eb + cut, exceptions, control, _C2)
    e = min(ea, eb)
    quotient, rest = divmod(x << (ea - e), y << (eb - e)) if eb - e < 70 else (0, x)
    if nearest and eb - e < 70:
        twice, unit = 2 * rest, y << (eb - e)
        if twice > unit or (twice == unit and quotient & 1):
            quotient, rest, sign = quotient + 1, unit - rest, sign ^ 1
    codes = (quotient & 1 and _C1) | (quotient & 2 and _C3) | (quotient & 4 and _C0)
    return _rounded(sign if rest else a >> 79, rest, e, exceptions, control, codes)


def _rounded(sign: int, x: int, e: int, exceptions: int, control: int, codes: int) -> int:
    bits = sign << 79
    if x:
        bits, exceptions = round_pack(EXTENDED, sign, x, e, control, exceptions, 64)
    return codes << 88 | exceptions << 80 | bits


@helper()
def fprem_packed(a: int, b: int, control: int) -> int:
    """FPREM: the remainder of a / b with a truncated quotient, or a step towards it (C2)."""
    return _remainder(a, b, control, nearest=False)


@helper()
def fprem1_packed(a: int, b: int, control: int) -> int:
    """FPREM1: the IEEE remainder of a / b, or a step towards it (C2)."""
    return _remainder(a, b, control, nearest=True)


@helper()
def fxtract_significand(a: int) -> int:
    """FXTRACT's significand (1 <= |x| < 2), with the exceptions of the whole instruction."""
    if is_nan(a) or is_unsupported(a):
        bits, exceptions = arith.propagate(a, a, EXTENDED)
        return exceptions << 80 | bits
    if not a & SIGNIFICAND:
        return ZE << 80 | a
    if is_infinite(a):
        return a
    exceptions = DE if is_denormal(a) else 0
    significand = a & SIGNIFICAND
    return exceptions << 80 | a & SIGN | BIAS << 64 | significand << (64 - significand.bit_length())


@helper()
def fxtract_exponent(a: int) -> int:
    """FXTRACT's exponent, as f80."""
    if is_nan(a) or is_unsupported(a):
        return arith.propagate(a, a, EXTENDED)[0]
    if not a & SIGNIFICAND:
        return SIGN | INFINITY
    if is_infinite(a):
        return INFINITY
    exponent = (a >> 64 & EXPONENT or 1) - LSB + (a & SIGNIFICAND).bit_length() - 1
    return from_integer(exponent & 0xFFFFFFFF, 32, EXTENDED, 0)[0]


@helper()
def fbld_value(packed: int) -> int:
    """The f80 of an 18-digit packed BCD integer; digits above 9 count as they are."""
    value = 0
    for shift in range(68, -1, -4):
        value = value * 10 + (packed >> shift & 15)
    return packed >> 79 << 79 | from_integer(value, 128, EXTENDED, 0)[0]


@helper()
def fbstp_packed(a: int, control: int) -> int:
    """An f80 rounded to an 18-digit packed BCD integer; invalid: the packed BCD indefinite."""
    value, exceptions = to_integer(a, 128, control)
    sign = a >> 79
    magnitude = (1 << 128) - value if value >> 127 else value
    if exceptions & IE or magnitude >= 10**18:
        return IE << 80 | 0xFFFFC000000000000000
    return exceptions << 80 | sign << 79 | int(str(magnitude), 16)


@helper()
def x87_tag_word(valid: int, *registers: int) -> int:
    """The full tag word: two bits for each physical register (SDM vol. 1, "x87 FPU Tag Word")."""
    word = 0
    for number, value in enumerate(registers):
        if not valid >> number & 1:
            tag = 3
        elif not value & ~SIGN:
            tag = 1
        else:
            tag = 0 if value & INTEGER_BIT and 0 < value >> 64 & EXPONENT < EXPONENT else 2
        word |= tag << 2 * number
    return word

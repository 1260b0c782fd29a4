"""Addition, subtraction, multiplication, division, square root, remainder and scaling of extended encodings.

Each function takes operands already widened (`floatformat.widen`), the control word, the format to round to and DE
where an operand was a denormal of a narrower format. The control word's precision counts for the extended format
only. Exceptions come in the manual's order of priority: unsupported operands, NaNs, other invalid operations and
division by zero, denormal operands, and those of the result (Intel SDM vol. 1, "Floating-Point Exception Priority").
"""

from __future__ import annotations

from math import isqrt

from aiopyvm.ir.floatformat import (
    BIAS,
    C1,
    DE,
    DOWN,
    EXPONENT,
    EXTENDED,
    IE,
    INFINITY,
    INTEGER_BIT,
    LSB,
    PE,
    PRECISION,
    QUIET_BIT,
    SIGN,
    SIGNIFICAND,
    UE,
    ZE,
    Format,
    Outcome,
    indefinite,
    infinity,
    is_denormal,
    is_infinite,
    is_nan,
    is_signaling,
    is_unsupported,
    narrow,
    round_pack,
)


def _precision(fmt: Format, control: int) -> int:
    return PRECISION[control >> 8 & 3] if fmt is EXTENDED else fmt.precision


def _plain(x: int) -> bool:
    """Tell a normal number."""
    return x & INTEGER_BIT != 0 and 0 < x >> 64 & EXPONENT < EXPONENT


def propagate(a: int, b: int, fmt: Format) -> Outcome:
    """The result of an operation of which one operand is a NaN or unsupported.

    The x87 rule: a QNaN goes before an SNaN, then the larger significand, then the positive one. Narrower formats
    (SSE): the first. SDM vol. 1, "Operating on SNaNs and QNaNs".
    """
    if is_unsupported(a) or is_unsupported(b):
        return indefinite(fmt), IE
    exc = IE if is_signaling(a) or is_signaling(b) else 0
    if not is_nan(b):
        chosen = a
    elif not is_nan(a):
        chosen = b
    elif fmt is EXTENDED:
        chosen = max(a, b, key=lambda x: (x & QUIET_BIT, x & SIGNIFICAND, ~x & SIGN))
    else:
        chosen = a
    return narrow(fmt, chosen | QUIET_BIT), exc


def _special(a: int, b: int) -> bool:
    """Tell whether `propagate` decides the result."""
    return is_nan(a) or is_nan(b) or is_unsupported(a) or is_unsupported(b)


def _parts(x: int) -> tuple[int, int, int]:
    """Sign, significand and the weight (log2) of its lowest bit, of a finite number."""
    return x >> 79, x & SIGNIFICAND, (x >> 64 & EXPONENT or 1) - LSB


def add(a: int, b: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """a + b."""
    ea, eb = a >> 64 & EXPONENT, b >> 64 & EXPONENT
    x, y = a & SIGNIFICAND, b & SIGNIFICAND
    if not (0 < ea < EXPONENT and 0 < eb < EXPONENT and x & y & INTEGER_BIT):
        if _special(a, b):
            return propagate(a, b, fmt)
        if is_infinite(a) or is_infinite(b):
            return _add_infinite(a, b, fmt, exc)
        if is_denormal(a) or is_denormal(b):
            exc |= DE
        ea, eb = ea or 1, eb or 1
    distance = ea - eb
    if distance < 0:
        a, b, x, y, eb, distance = b, a, y, x, ea, -distance
    if distance > 130 and x:
        y, eb, distance = 1 if y else 0, eb + distance - 130, 130  # far below: only that it is there counts
    sign = a >> 79
    if sign == b >> 79:
        total = (x << distance) + y
    else:
        total = (x << distance) - y
        if total < 0:
            sign, total = b >> 79, -total
    if not total:
        negative = sign if sign == b >> 79 else control >> 10 & 3 == DOWN
        return negative << (fmt.bits - 1), exc
    return round_pack(fmt, sign, total, eb - LSB, control, exc, _precision(fmt, control))


def _add_infinite(a: int, b: int, fmt: Format, exc: int) -> Outcome:
    if is_infinite(a) and is_infinite(b) and a != b:
        return indefinite(fmt), IE
    if is_denormal(a) or is_denormal(b):
        exc |= DE
    return narrow(fmt, a if is_infinite(a) else b), exc


def sub(a: int, b: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """a - b."""
    return propagate(a, b, fmt) if _special(a, b) else add(a, b ^ SIGN, control, fmt, exc)


def mul(a: int, b: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """a * b."""
    if not (_plain(a) and _plain(b)):
        if _special(a, b):
            return propagate(a, b, fmt)
        zero = not a & SIGNIFICAND or not b & SIGNIFICAND
        infinite = is_infinite(a) or is_infinite(b)
        if zero and infinite:
            return indefinite(fmt), IE
        if is_denormal(a) or is_denormal(b):
            exc |= DE
        sign = (a ^ b) >> 79
        if infinite:
            return infinity(fmt, sign), exc
        if zero:
            return sign << (fmt.bits - 1), exc
    elif control & 0xF00 == 0x300 and fmt is EXTENDED:
        return _mul_nearest(a, b, control, exc)
    sign_a, x, ea = _parts(a)
    sign_b, y, eb = _parts(b)
    return round_pack(fmt, sign_a ^ sign_b, x * y, ea + eb, control, exc, _precision(fmt, control))


def _mul_nearest(a: int, b: int, control: int, exc: int) -> Outcome:
    """a * b of normal numbers, to 64 bits and to nearest: what nearly every program does."""
    product = (a & SIGNIFICAND) * (b & SIGNIFICAND)
    exponent = (a >> 64 & EXPONENT) + (b >> 64 & EXPONENT) - BIAS
    shift = 63
    if product >> 127:
        exponent += 1
        shift = 64
    kept = product >> shift
    rest = product & ((1 << shift) - 1)
    if kept == SIGNIFICAND or not 0 < exponent < EXPONENT:
        e = (a >> 64 & EXPONENT) + (b >> 64 & EXPONENT) - 2 * LSB
        return round_pack(EXTENDED, (a ^ b) >> 79, product, e, control, exc, 64)
    if rest:
        half = 1 << (shift - 1)
        if rest > half or (rest == half and kept & 1):
            return (a ^ b) & SIGN | exponent << 64 | kept + 1, exc | PE | C1
        exc |= PE
    return (a ^ b) & SIGN | exponent << 64 | kept, exc


def div(a: int, b: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """a / b."""
    if not (_plain(a) and _plain(b)):
        if _special(a, b):
            return propagate(a, b, fmt)
        decided = _div_special(a, b, fmt, exc)
        if decided is not None:
            return decided
        if is_denormal(a) or is_denormal(b):
            exc |= DE
    sign_a, x, ea = _parts(a)
    sign_b, y, eb = _parts(b)
    shift = 67 + y.bit_length() - x.bit_length()  # at least 67 bits of quotient
    quotient, rest = divmod(x << shift, y)
    sticky = quotient << 1 | (rest != 0)
    return round_pack(fmt, sign_a ^ sign_b, sticky, ea - eb - shift - 1, control, exc, _precision(fmt, control))


def _div_special(a: int, b: int, fmt: Format, exc: int) -> Outcome | None:
    """a / b with an infinity or a zero among them; None without."""
    sign = (a ^ b) >> 79
    zero_a, zero_b = not a & SIGNIFICAND, not b & SIGNIFICAND
    if (is_infinite(a) and is_infinite(b)) or (zero_a and zero_b):
        return indefinite(fmt), IE
    if zero_b and not is_infinite(a):
        return infinity(fmt, sign), ZE
    if is_denormal(a) or is_denormal(b):
        exc |= DE
    if is_infinite(a):
        return infinity(fmt, sign), exc
    if zero_a or is_infinite(b):
        return sign << (fmt.bits - 1), exc
    return None


def sqrt(a: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """The square root of a."""
    if _special(a, a):
        return propagate(a, a, fmt)
    if not a & SIGNIFICAND:
        return narrow(fmt, a), exc
    if a >> 79:
        return indefinite(fmt), IE
    if is_infinite(a):
        return infinity(fmt, 0), exc
    if is_denormal(a):
        exc |= DE
    _, x, e = _parts(a)
    shift = 136 - x.bit_length()
    shift += (e - shift) & 1  # an even exponent
    root = isqrt(x << shift)
    sticky = root << 1 | (root * root != x << shift)
    return round_pack(fmt, 0, sticky, (e - shift) // 2 - 1, control, exc, _precision(fmt, control))


def rint(a: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """a rounded to an integral value in the rounding mode; -0.4 gives -0."""
    if _special(a, a):
        return propagate(a, a, fmt)
    if not a & SIGNIFICAND or is_infinite(a):
        return narrow(fmt, a), exc
    if is_denormal(a):
        exc |= DE
    sign, x, e = _parts(a)
    if e < 0:
        x, exc = round_integer(sign, x, e, control, exc)
        e = 0
    if not x:
        return sign << (fmt.bits - 1), exc
    return round_pack(fmt, sign, x, e, control, exc, fmt.precision)


def round_integer(sign: int, x: int, e: int, control: int, exc: int) -> Outcome:
    """x * 2**e (e < 0) rounded to an integer; adds PE and C1 to `exc`."""
    shift = min(-e, 66)
    kept, rest = x >> shift, x & ((1 << shift) - 1)
    if not rest:
        return kept, exc
    mode, half = control >> 10 & 3, 1 << (shift - 1)
    up = (rest > half or (rest == half and kept & 1), sign, not sign, 0)[mode]
    return (kept + 1, exc | PE | C1) if up else (kept, exc | PE)


def scale(a: int, b: int, control: int, fmt: Format = EXTENDED, exc: int = 0) -> Outcome:
    """a * 2**trunc(b), always to full precision (Intel SDM vol. 2A, FSCALE)."""
    if _special(a, b):
        return propagate(a, b, fmt)
    if is_infinite(b):
        if (is_infinite(a) and b >> 79) or (not a & SIGNIFICAND and not b >> 79):
            return indefinite(fmt), IE
        if is_denormal(a):
            exc |= DE
        if is_infinite(a) or not b >> 79:
            return narrow(fmt, a & SIGN | INFINITY), exc
        return a >> 79 << (fmt.bits - 1), exc
    if is_denormal(a) or is_denormal(b):
        exc |= DE
    if not a & SIGNIFICAND or is_infinite(a):
        return narrow(fmt, a), exc
    sign, x, e = _parts(a)
    sign_b, y, eb = _parts(b)
    if not y:
        control |= UE  # a denormal scaled by 0 is not an underflow, whatever is masked
    steps = 0x20000 if eb > 0 else y >> min(-eb, 64)
    steps = min(steps, 0x20000)  # beyond any range, scaled results of unmasked exceptions included
    return round_pack(fmt, sign, x, e - steps if sign_b else e + steps, control, exc, fmt.precision)

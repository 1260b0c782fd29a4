"""What each pure integer operation computes: `PURE[op](result type, first argument's type, *arguments) -> int`.

`compute` is the same for vectors too, lane by lane.

Used by the evaluator, by constant folding and, as the reference, by every test of a backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiopyvm.ir.lanes import lifted
from aiopyvm.ir.types import Type


def signed(value: int, bits: int) -> int:
    """`value` (0 <= value < 2**bits) read as two's complement."""
    return value - (1 << bits) if value >> (bits - 1) else value


def _shl(r: Type, t: Type, x: int, n: int) -> int:
    return (x << n) & r.mask if n < r.size else 0


def _shr(r: Type, t: Type, x: int, n: int) -> int:
    return x >> n if n < r.size else 0


def _sar(r: Type, t: Type, x: int, n: int) -> int:
    return signed(x, r.size) >> min(n, r.size - 1) & r.mask


def _sdiv(r: Type, t: Type, x: int, y: int) -> int:
    a, b = signed(x, r.size), signed(y, r.size)
    quotient = abs(a) // abs(b)
    return (-quotient if (a < 0) != (b < 0) else quotient) & r.mask


def _srem(r: Type, t: Type, x: int, y: int) -> int:
    a, b = signed(x, r.size), signed(y, r.size)
    remainder = abs(a) % abs(b)
    return (-remainder if a < 0 else remainder) & r.mask


def _clz(r: Type, t: Type, x: int) -> int:
    return r.size - x.bit_length()


def _ctz(r: Type, t: Type, x: int) -> int:
    return (x & -x).bit_length() - 1 if x else r.size


def _saturated(signs: bool, sign: int) -> Callable[..., int]:
    """A sum (`sign` 1) or difference (-1) that stays in the range of the type."""

    def operation(r: Type, t: Type, x: int, y: int) -> int:
        low, high = (-(1 << r.size - 1), r.mask >> 1) if signs else (0, r.mask)
        a, b = (signed(x, r.size), signed(y, r.size)) if signs else (x, y)
        return min(max(a + sign * b, low), high) & r.mask

    return operation


PURE: Final[dict[str, Callable[..., int]]] = {
    "add": lambda r, t, x, y: (x + y) & r.mask,
    "sub": lambda r, t, x, y: (x - y) & r.mask,
    "mul": lambda r, t, x, y: (x * y) & r.mask,
    "and": lambda r, t, x, y: x & y,
    "or": lambda r, t, x, y: x | y,
    "xor": lambda r, t, x, y: x ^ y,
    "not": lambda r, t, x: x ^ r.mask,
    "neg": lambda r, t, x: -x & r.mask,
    "shl": _shl,
    "shr": _shr,
    "sar": _sar,
    "udiv": lambda r, t, x, y: x // y,
    "urem": lambda r, t, x, y: x % y,
    "sdiv": _sdiv,
    "srem": _srem,
    "eq": lambda r, t, x, y: int(x == y),
    "ult": lambda r, t, x, y: int(x < y),
    "ule": lambda r, t, x, y: int(x <= y),
    "slt": lambda r, t, x, y: int(signed(x, t.size) < signed(y, t.size)),
    "sle": lambda r, t, x, y: int(signed(x, t.size) <= signed(y, t.size)),
    "select": lambda r, t, c, x, y: x if c else y,
    "zext": lambda r, t, x: x,
    "sext": lambda r, t, x: signed(x, t.size) & r.mask,
    "trunc": lambda r, t, x: x & r.mask,
    "clz": _clz,
    "ctz": _ctz,
    "popcnt": lambda r, t, x: x.bit_count(),
    "parity": lambda r, t, x: 1 - (x & 0xFF).bit_count() % 2,
    "bitcast": lambda r, t, x: x,
    "uadds": _saturated(False, 1),
    "sadds": _saturated(True, 1),
    "usubs": _saturated(False, -1),
    "ssubs": _saturated(True, -1),
}
_WHOLE: Final = frozenset({"and", "or", "xor", "not", "bitcast"})  # which lanes there are makes no difference


def compute(op: str, r: Type | None, t: Type | None, *values: int) -> int:
    """What a pure operation computes, of scalars or of vectors."""
    assert r is not None
    assert t is not None
    function = PURE[op]
    if r.lanes == 1 or op in _WHOLE:
        return function(r, t, *values)
    return lifted(function, r, t, *values)

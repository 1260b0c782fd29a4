"""What each SIMD operation of the IR computes: `simd(op, attribute, result type, first argument's type, *arguments)`.

Arguments are encoded bits of one f32 or f64, or of vectors of them; the last is MXCSR. The answer is (bits,
exceptions), exceptions as the low six bits of MXCSR have them, those of all lanes together. What an operation does with
one lane is in `SCALAR`: from arguments of that lane and MXCSR, denormals still as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any, Final

from aiopyvm.ir import floatarith as arith
from aiopyvm.ir import floatconvert as conversion
from aiopyvm.ir.floatfma import HALF, fma, negated, widen_half
from aiopyvm.ir.floatformat import IE, OE, PE, SINGLE, UE, Outcome, format_of, is_nan, is_signaling, widen
from aiopyvm.ir.helpers import Fault
from aiopyvm.ir.types import Type

FLAGS: Final = 0x3F  # the exceptions' bits in MXCSR
DAZ: Final = 1 << 6
MASKS: Final = FLAGS << 7
FTZ: Final = 1 << 15
_BEFORE: Final = 7  # exceptions that are found before anything is computed: IE, DE, ZE
_SIGNIFICAND: Final = 64  # bits of a widened operand
_XM: Final = 19  # the SIMD floating-point exception (Intel SDM vol. 3A, "Exception and Interrupt Vectors")

# VFMADD.. and its like: whether the product and whether the addend is negated.
FMA_SIGNS: Final = {"madd": (False, False), "msub": (False, True), "nmadd": (True, False), "nmsub": (True, True)}
# Those whose even and odd lanes differ.
_IN_TURN: Final = {"maddsub": ("msub", "madd"), "msubadd": ("madd", "msub")}

Lane = Callable[..., Outcome]


def control_of(mxcsr: int) -> int:
    """The x87 control word that masks and rounds as MXCSR does."""
    return mxcsr >> 7 & FLAGS | mxcsr >> 3 & 0xC00


def _operand(value: int, size: int, mxcsr: int) -> tuple[int, int]:
    """An operand widened, and DE where it is a denormal: a zero where those count as zeros."""
    x, denormal = widen(value, size)
    if denormal and mxcsr & DAZ:
        return x >> 79 << 79, 0
    return x, denormal


def _rounded(r: Type, mxcsr: int, compute: Callable[[int], Outcome]) -> Outcome:
    """What `compute` gives under a control word; a tiny result is flushed to zero where MXCSR says so."""
    control = control_of(mxcsr)
    if mxcsr & FTZ and control & UE:
        _, exceptions = compute(control & ~UE)
        if exceptions & UE:
            result, exceptions = compute(control)
            return result >> (r.bits - 1) << (r.bits - 1), exceptions & FLAGS | UE | PE
    result, exceptions = compute(control)
    return result, exceptions & FLAGS


def _binary(function: Lane) -> Lane:
    def operation(attr: Any, r: Type, t: Type, a: int, b: int, mxcsr: int) -> Outcome:
        (x, dx), (y, dy) = _operand(a, t.bits, mxcsr), _operand(b, t.bits, mxcsr)
        return _rounded(r, mxcsr, lambda control: function(x, y, control, format_of(r), dx | dy))

    return operation


def _fma(kind: str, r: Type, t: Type, a: int, b: int, c: int, mxcsr: int) -> Outcome:
    """`kind`: a name of `FMA_SIGNS`."""
    (x, dx), (y, dy), (z, dz) = (_operand(value, t.bits, mxcsr) for value in (a, b, c))
    product, addend = FMA_SIGNS[kind]
    x, z = negated(x) if product else x, negated(z) if addend else z
    return _rounded(r, mxcsr, lambda control: fma(x, y, z, control, format_of(r), dx | dy | dz))


def _from_half(attr: Any, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    return conversion.convert(widen_half(a), SINGLE, MASKS >> 7)


def _to_half(imm8: int, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    """Bits of `imm8`: 0-1 rounding, 2: MXCSR's instead. FTZ means nothing."""
    x, denormal = _operand(a, t.bits, mxcsr)
    control = control_of(mxcsr) if imm8 & 4 else control_of(mxcsr) & ~0xC00 | (imm8 & 3) << 10
    result, exceptions = conversion.convert(x, HALF, control, denormal)
    return result, exceptions & FLAGS


def _sqrt(attr: Any, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    x, denormal = _operand(a, t.bits, mxcsr)
    return _rounded(r, mxcsr, lambda control: arith.sqrt(x, control, format_of(r), denormal))


def _choice(wanted: int) -> Lane:
    """The first operand where its relation to the second is `wanted`, else the second, with its own bits."""

    def operation(attr: Any, r: Type, t: Type, a: int, b: int, mxcsr: int) -> Outcome:
        relation, exceptions = _relation(t, a, b, mxcsr, quiet=False)
        chosen = a if relation == wanted else b
        denormal = widen(chosen, t.bits)[1] and mxcsr & DAZ
        return (chosen >> t.bits - 1 << t.bits - 1 if denormal else chosen), exceptions

    return operation


def _relation(t: Type, a: int, b: int, mxcsr: int, *, quiet: bool) -> Outcome:
    """The relation of a to b: 0 greater, 1 less, 2 equal, 3 unordered; `quiet`: IE for signaling NaNs only."""
    (x, dx), (y, dy) = _operand(a, t.bits, mxcsr), _operand(b, t.bits, mxcsr)
    if is_nan(x) or is_nan(y):
        return conversion.UNORDERED, IE if not quiet or is_signaling(x) or is_signaling(y) else 0
    return conversion.compare_quiet(x, y)[0], dx | dy


def _order(quiet: Any, r: Type, t: Type, a: int, b: int, mxcsr: int) -> Outcome:
    return _relation(t, a, b, mxcsr, quiet=bool(quiet))


# The predicates of CMPPS and VCMPPS: the relations for which each holds (bits: greater, less, equal, unordered), and
# those that are quiet (Intel SDM vol. 2A, CMPPD, table "Comparison Predicate for CMPPD and CMPPS Instructions").
_G, _L, _E, _U = 1, 2, 4, 8
_HOLDS: Final = (
    _E, _L, _L | _E, _U, _G | _L | _U, _G | _E | _U, _G | _U, _G | _L | _E,
    _E | _U, _L | _U, _L | _E | _U, 0, _G | _L, _G | _E, _G, 15,
)  # fmt: skip
_QUIET: Final = 0x6666_9999  # by predicate, 0 lowest


def _compare(predicate: int, r: Type, t: Type, a: int, b: int, mxcsr: int) -> Outcome:
    relation, exceptions = _relation(t, a, b, mxcsr, quiet=bool(_QUIET >> predicate & 1))
    return r.mask if _HOLDS[predicate & 15] >> relation & 1 else 0, exceptions


def _round(imm8: int, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    """Bits of `imm8`: 0-1 rounding, 2: MXCSR's instead, 3: no PE."""
    x, _ = _operand(a, t.bits, mxcsr)
    control = control_of(mxcsr) if imm8 & 4 else control_of(mxcsr) & ~0xC00 | (imm8 & 3) << 10
    result, exceptions = arith.rint(x, control, format_of(r))
    return result, exceptions & (IE if imm8 & 8 else IE | PE)


def _convert(attr: Any, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    x, denormal = _operand(a, t.bits, mxcsr)
    result, exceptions = _rounded(r, mxcsr, lambda control: conversion.convert(x, format_of(r), control, denormal))
    if exceptions & (OE | UE) & ~control_of(mxcsr):  # it is inexact as if exponents had no ends
        cut = x & (1 << _SIGNIFICAND - format_of(r).precision) - 1
        exceptions = exceptions & ~PE | (PE if cut else 0)
    return result, exceptions


def _from_integer(attr: Any, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    return _rounded(r, mxcsr, lambda control: conversion.from_integer(a, t.bits, format_of(r), control))


def _to_integer(truncate: Any, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    x, _ = _operand(a, t.bits, mxcsr)
    result, exceptions = conversion.to_integer(x, r.bits, control_of(mxcsr) | (0xC00 if truncate else 0))
    return result, exceptions & FLAGS


SCALAR: Final[dict[str, Lane]] = {
    "vadd": _binary(arith.add),
    "vsub": _binary(arith.sub),
    "vmul": _binary(arith.mul),
    "vdiv": _binary(arith.div),
    "vmin": _choice(conversion.LESS),
    "vmax": _choice(conversion.GREATER),
    "vsqrt": _sqrt,
    "vfma": _fma,
    "vround": _round,
    "vcompare": _compare,
    "vorder": _order,
    "vconvert": _convert,
    "vfromint": _from_integer,
    "vtoint": _to_integer,
    "vfromhalf": _from_half,
    "vtohalf": _to_half,
}


def simd(op: str, attr: Any, r: Type | None, t: Type | None, *arguments: int) -> Outcome:
    """Compute one operation: result bits and exceptions of all lanes."""
    assert r is not None
    assert t is not None
    mxcsr = arguments[-1]
    if t.lanes == 1:
        return SCALAR[op](attr, r, t, *arguments)
    functions = cycle((SCALAR["vsub"], SCALAR["vadd"]) if op == "vaddsub" else (SCALAR[op],))
    attributes = cycle(_IN_TURN.get(attr, (attr,)))
    lanes = zip(functions, attributes, *map(t.split, arguments[:-1]), strict=False)
    outcomes = [function(attribute, r.lane, t.lane, *lane, mxcsr) for function, attribute, *lane in lanes]
    exceptions = 0
    for _, raised in outcomes:
        exceptions |= raised
    return r.join(result for result, _ in outcomes), exceptions


def raise_exceptions(cpu: Any, raised: Iterable[int]) -> None:
    """Add exceptions to MXCSR, those of one operation after the other. Raises Fault, vector #XM, for one that is not
    masked there: nothing behind it was computed then.

    Where one that is found before anything is computed is not masked, those of results are not noted (Intel SDM vol. 1,
    "SIMD Floating-Point Exception Conditions").
    """
    for exceptions in raised:
        unmasked = exceptions & ~(cpu.mxcsr >> 7)
        cpu.mxcsr |= exceptions & _BEFORE if unmasked & _BEFORE else exceptions
        if unmasked:
            raise Fault(_XM)


__all__ = ["DAZ", "FLAGS", "FTZ", "MASKS", "SCALAR", "control_of", "raise_exceptions", "simd"]

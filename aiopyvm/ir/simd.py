"""What each SIMD operation of the IR computes: `simd(op, attribute, result type, first argument's type, *arguments)`.

Arguments are encoded bits of one f32 or f64, or of vectors of them; the last is MXCSR. The answer is (bits,
exceptions), exceptions as the low six bits of MXCSR have them, those of all lanes together. What an operation does with
one lane is in `SCALAR`: from arguments of that lane and MXCSR, denormals still as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from aiopyvm.ir import floatarith as arith
from aiopyvm.ir.floatformat import PE, UE, Outcome, format_of, widen
from aiopyvm.ir.helpers import Fault
from aiopyvm.ir.types import Type

FLAGS: Final = 0x3F  # the exceptions' bits in MXCSR
DAZ: Final = 1 << 6
MASKS: Final = FLAGS << 7
FTZ: Final = 1 << 15
_BEFORE: Final = 7  # exceptions that are found before anything is computed: IE, DE, ZE
_XM: Final = 19  # the SIMD floating-point exception (Intel SDM vol. 3A, "Exception and Interrupt Vectors")

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


def _sqrt(attr: Any, r: Type, t: Type, a: int, mxcsr: int) -> Outcome:
    x, denormal = _operand(a, t.bits, mxcsr)
    return _rounded(r, mxcsr, lambda control: arith.sqrt(x, control, format_of(r), denormal))


SCALAR: Final[dict[str, Lane]] = {
    "vadd": _binary(arith.add),
    "vsub": _binary(arith.sub),
    "vmul": _binary(arith.mul),
    "vdiv": _binary(arith.div),
    "vsqrt": _sqrt,
}


def simd(op: str, attr: Any, r: Type | None, t: Type | None, *arguments: int) -> Outcome:
    """Compute one operation: result bits and exceptions of all lanes."""
    assert r is not None
    assert t is not None
    function, mxcsr = SCALAR[op], arguments[-1]
    if t.lanes == 1:
        return function(attr, r, t, *arguments)
    outcomes = [
        function(attr, r.lane, t.lane, *lane, mxcsr) for lane in zip(*map(t.split, arguments[:-1]), strict=True)
    ]
    exceptions = 0
    for _, raised in outcomes:
        exceptions |= raised
    return r.join(result for result, _ in outcomes), exceptions


def raise_exceptions(cpu: Any, raised: Iterable[int]) -> None:
    """Add exceptions to MXCSR. Raises Fault, vector #XM, for one that is not masked there.

    Where one that is found before anything is computed is not masked, those of results are not noted (Intel SDM vol. 1,
    "SIMD Floating-Point Exception Conditions").
    """
    exceptions = 0
    for some in raised:
        exceptions |= some
    unmasked = exceptions & ~(cpu.mxcsr >> 7)
    if unmasked & _BEFORE:
        exceptions &= _BEFORE
    cpu.mxcsr |= exceptions
    if unmasked:
        raise Fault(_XM)


__all__ = ["DAZ", "FLAGS", "FTZ", "MASKS", "SCALAR", "control_of", "raise_exceptions", "simd"]

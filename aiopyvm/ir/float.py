"""What each floating-point operation of the IR computes: `FLOAT[op](result type, first argument's type, *arguments)`.

Arguments and results are encoded bits; the last argument is the x87 control word; the answer is (bits, exceptions),
exceptions as `fexc` has them. `direct` gives an engine the function for known types without the two types.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from aiopyvm.ir import floatarith as arith
from aiopyvm.ir import floatconvert as conversion
from aiopyvm.ir.floatformat import Outcome, format_of, widen
from aiopyvm.ir.types import Type

FloatOperation = Callable[..., Outcome]


def _binary(function: FloatOperation) -> FloatOperation:
    def operation(r: Type, t: Type, a: int, b: int, control: int) -> Outcome:
        if t.bits == 80:
            return function(a, b, control)
        x, denormal_x = widen(a, t.bits)
        y, denormal_y = widen(b, t.bits)
        return function(x, y, control, format_of(r), denormal_x | denormal_y)

    return operation


def _unary(function: FloatOperation) -> FloatOperation:
    def operation(r: Type, t: Type, a: int, control: int) -> Outcome:
        if t.bits == 80:
            return function(a, control)
        x, denormal = widen(a, t.bits)
        return function(x, control, format_of(r), denormal)

    return operation


def _comparison(function: FloatOperation) -> FloatOperation:
    def operation(r: Type, t: Type, a: int, b: int, control: int) -> Outcome:
        if t.bits == 80:
            return function(a, b)
        x, denormal_x = widen(a, t.bits)
        y, denormal_y = widen(b, t.bits)
        return function(x, y, denormal_x | denormal_y)

    return operation


def _convert(r: Type, t: Type, a: int, control: int) -> Outcome:
    if t.bits == 80:
        return conversion.convert(a, format_of(r), control)
    if r.bits == 80:
        return conversion.extend(a, t.bits)
    x, denormal = widen(a, t.bits)
    return conversion.convert(x, format_of(r), control, denormal)


def _fromint(r: Type, t: Type, a: int, control: int) -> Outcome:
    return conversion.from_integer(a, t.bits, format_of(r), control)


def _toint(r: Type, t: Type, a: int, control: int) -> Outcome:
    return conversion.to_integer(widen(a, t.bits)[0], r.bits, control)


FLOAT: Final[dict[str, FloatOperation]] = {
    "fadd": _binary(arith.add),
    "fsub": _binary(arith.sub),
    "fmul": _binary(arith.mul),
    "fdiv": _binary(arith.div),
    "fsqrt": _unary(arith.sqrt),
    "frint": _unary(arith.rint),
    "fscale": _binary(arith.scale),
    "fconvert": _convert,
    "fromint": _fromint,
    "toint": _toint,
    "fcompare": _comparison(conversion.compare),
    "fcompareq": _comparison(conversion.compare_quiet),
}

_EXTENDED_ARITHMETIC: Final[dict[str, FloatOperation]] = {
    "fadd": arith.add,
    "fsub": arith.sub,
    "fmul": arith.mul,
    "fdiv": arith.div,
    "fsqrt": arith.sqrt,
    "frint": arith.rint,
    "fscale": arith.scale,
}


@cache
def direct(op: str, result: Type, argument: Type) -> Callable[..., Outcome]:
    """The function of `op`'s arguments alone, for a result and a first argument of these types."""
    if argument.kind == "f" and argument.bits == 80 and op in _EXTENDED_ARITHMETIC:
        return _EXTENDED_ARITHMETIC[op]
    if op == "fconvert" and result.bits == 80 and argument.bits != 80:
        size = argument.bits
        return lambda a, control: conversion.extend(a, size)
    function: Any = FLOAT[op]
    return lambda *arguments: function(result, argument, *arguments)


__all__ = ["FLOAT", "FloatOperation", "direct"]

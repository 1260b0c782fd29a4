"""x87 transcendental functions: FSIN FCOS FSINCOS FPTAN FPATAN F2XM1 FYL2X FYL2XP1."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F80, integer
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.x87 import (
    C1,
    C2,
    checked,
    complete,
    finish,
    has_room,
    is_occupied,
    read,
    replace_and_push,
    unpack,
    wait,
    write,
)
from aiopyvm.isa.x87function import FUNCTIONS

RESULTS = integer(184)


def _compute(b: Tracer, name: str, *operands: int) -> Value:
    """What the helper of `name` returns for the ST(i) of `operands`."""
    values = [read(b, i) for i in operands]
    return b.helper(FUNCTIONS[name], RESULTS, *values, b.get("fcw"), b.get("portable_math"))


def _conditions(b: Tracer, fine: Value, results: Value) -> Value:
    """C2 (i16) where the operand was out of range, but not where the stack was at fault."""
    return b.select(fine, (results >> 88).trunc(16), 0)


@insn("fsin", source="Intel SDM vol. 2A, FSIN", cpuid="fpu")
@form("D9 FE")
def fsin(b: Tracer) -> None:
    """ST(0) := sine of ST(0); C2 := 1 and nothing else where |ST(0)| >= 2**63."""
    _in_place(b, "fsin")


@insn("fcos", source="Intel SDM vol. 2A, FCOS", cpuid="fpu")
@form("D9 FF")
def fcos(b: Tracer) -> None:
    """ST(0) := cosine of ST(0); C2 := 1 and nothing else where |ST(0)| >= 2**63."""
    _in_place(b, "fcos")


def _in_place(b: Tracer, name: str) -> None:
    wait(b)
    results, occupied = _compute(b, name, 0), is_occupied(b, 0)
    value, exceptions = checked(b, occupied, *unpack(results))
    with complete(b, exceptions, conditions=_conditions(b, occupied, results), cleared=C1 | C2):
        write(b, 0, value)


@insn("f2xm1", source="Intel SDM vol. 2A, F2XM1", cpuid="fpu")
@form("D9 F0")
def f2xm1(b: Tracer) -> None:
    """ST(0) := 2**ST(0) - 1, for -1 <= ST(0) <= 1."""
    wait(b)
    finish(b, 0, *checked(b, is_occupied(b, 0), *unpack(_compute(b, "f2xm1", 0))))


def _pushing(b: Tracer, name: str) -> None:
    """Replace ST(0) and push, unless the operand is out of range."""
    wait(b)
    results = _compute(b, name, 0)
    first, exceptions = unpack(results)
    fine, exceptions = has_room(b, exceptions)
    codes = _conditions(b, fine, results)
    with complete(b, exceptions, conditions=codes, cleared=C1 | C2), b.when(codes.eq(0)):
        replace_and_push(b, fine, first, (results >> 104).trunc(80).cast(F80))


@insn("fsincos", source="Intel SDM vol. 2A, FSINCOS", cpuid="fpu")
@form("D9 FB")
def fsincos(b: Tracer) -> None:
    """ST(0) := sine of ST(0); push its cosine; C2 := 1 and nothing else where |ST(0)| >= 2**63."""
    _pushing(b, "fsincos")


@insn("fptan", source="Intel SDM vol. 2A, FPTAN", cpuid="fpu")
@form("D9 F2")
def fptan(b: Tracer) -> None:
    """ST(0) := tangent of ST(0); push 1.0; C2 := 1 and nothing else where |ST(0)| >= 2**63."""
    _pushing(b, "fptan")


def _popping(b: Tracer, name: str) -> None:
    """Replace ST(1), and pop."""
    wait(b)
    finish(b, 1, *checked(b, is_occupied(b, 0, 1), *unpack(_compute(b, name, 0, 1))), pops=1)


@insn("fpatan", source="Intel SDM vol. 2A, FPATAN", cpuid="fpu")
@form("D9 F3")
def fpatan(b: Tracer) -> None:
    """ST(1) := the angle whose tangent is ST(1) / ST(0), in the quadrant of (ST(0), ST(1)); pop."""
    _popping(b, "fpatan")


@insn("fyl2x", source="Intel SDM vol. 2A, FYL2X", cpuid="fpu")
@form("D9 F1")
def fyl2x(b: Tracer) -> None:
    """ST(1) := ST(1) * log2(ST(0)); pop."""
    _popping(b, "fyl2x")


@insn("fyl2xp1", source="Intel SDM vol. 2A, FYL2XP1", cpuid="fpu")
@form("D9 F9")
def fyl2xp1(b: Tracer) -> None:
    """ST(1) := ST(1) * log2(ST(0) + 1), for |ST(0)| < 1 - sqrt(1/2); pop."""
    _popping(b, "fyl2xp1")

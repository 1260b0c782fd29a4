"""x87 arithmetic: FADD FSUB FMUL FDIV in all their forms, and what has ST(0) alone as its operand."""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F80, I80, integer
from aiopyvm.isa.places import MemoryPlace, StackPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.x87 import (
    C0,
    C3,
    CONDITIONS,
    PACKED,
    checked,
    complete,
    finish,
    has_room,
    is_occupied,
    nothing,
    read,
    replace_and_push,
    unpack,
    wait,
    write,
)
from aiopyvm.isa.x87operand import ARITHMETIC, fprem1_packed, fprem_packed, fxtract_exponent, fxtract_significand

WITH_CONDITIONS = integer(105)  # PACKED, the condition codes, KEPT


def _compute(b: Tracer, op: str, x: Value, y: Value) -> tuple[Value, Value]:
    """x op y, for "fsubr" and "fdivr" y op x: result and exceptions."""
    if op.endswith("r"):
        x, y, op = y, x, op[:-1]
    result = b.floating(op, F80, x, y, b.get("fcw"))
    return result, b.fexc(result)


def _with_memory(b: Tracer, op: str, operand: MemoryPlace) -> None:
    """ST(0) := ST(0) op m32fp or m64fp."""
    wait(b)
    value = operand.load()
    packed = b.helper(ARITHMETIC[op, operand.width], PACKED, read(b, 0), value, b.get("fcw"))
    result, exceptions = checked(b, is_occupied(b, 0), *unpack(packed))
    finish(b, 0, result, exceptions, operand)


def _with_integer(b: Tracer, op: str, operand: MemoryPlace) -> None:
    """ST(0) := ST(0) op m16int or m32int."""
    wait(b)
    value = b.floating("fromint", F80, operand.load(), b.get("fcw"))
    result, exceptions = checked(b, is_occupied(b, 0), *_compute(b, op, read(b, 0), value))
    finish(b, 0, result, exceptions, operand)


def _with_register(b: Tracer, op: str, dst: int, src: int, pops: int = 0) -> None:
    """ST(dst) := ST(dst) op ST(src), then pop."""
    wait(b)
    result, exceptions = checked(b, is_occupied(b, dst, src), *_compute(b, op, read(b, dst), read(b, src)))
    finish(b, dst, result, exceptions, pops=pops)


def _define(op: str, integer_op: str, source: str, digit: int, forward: int, backward: int) -> None:
    """The rows of one operation; `forward` is the byte of its ST(0) forms, `backward` that of its ST(i) forms."""
    name = f"Intel SDM vol. 2A, {source}"

    @insn(op, source=name, cpuid="fpu")
    @form(f"D8 /{digit}", "m32fp")
    @form(f"DC /{digit}", "m64fp")
    def memory(b: Tracer, src: MemoryPlace) -> None:
        """ST(0) := ST(0) op src (the reversed forms: src op ST(0))."""
        _with_memory(b, op, src)

    @insn(op, source=name, cpuid="fpu")
    @form(f"D8 {forward:02X}+i", "ST(0), ST(i)", static=(1,))
    @form(f"DC {backward:02X}+i", "ST(i), ST(0)", static=(0,))
    def registers(b: Tracer, dst: StackPlace, src: StackPlace) -> None:
        """dst := dst op src (the reversed forms: src op dst)."""
        _with_register(b, op, dst.number, src.number)

    @insn(f"{op}p", source=name, cpuid="fpu")
    @form(f"DE {backward:02X}+i", "ST(i), ST(0)", static=(0,))
    def popping(b: Tracer, dst: StackPlace, src: StackPlace) -> None:
        """dst := dst op ST(0) (the reversed forms: ST(0) op dst); pop."""
        _with_register(b, op, dst.number, src.number, pops=1)

    @insn(integer_op, source=name, cpuid="fpu")
    @form(f"DE /{digit}", "m16int")
    @form(f"DA /{digit}", "m32int")
    def integers(b: Tracer, src: MemoryPlace) -> None:
        """ST(0) := ST(0) op src (the reversed forms: src op ST(0))."""
        _with_integer(b, op, src)


_define("fadd", "fiadd", "FADD/FADDP/FIADD", 0, 0xC0, 0xC0)
_define("fmul", "fimul", "FMUL/FMULP/FIMUL", 1, 0xC8, 0xC8)
_define("fsub", "fisub", "FSUB/FSUBP/FISUB", 4, 0xE0, 0xE8)
_define("fsubr", "fisubr", "FSUBR/FSUBRP/FISUBR", 5, 0xE8, 0xE0)
_define("fdiv", "fidiv", "FDIV/FDIVP/FIDIV", 6, 0xF0, 0xF8)
_define("fdivr", "fidivr", "FDIVR/FDIVRP/FIDIVR", 7, 0xF8, 0xF0)


def _unary(b: Tracer, op: str) -> None:
    wait(b)
    value = b.floating(op, F80, read(b, 0), b.get("fcw"))
    finish(b, 0, *checked(b, is_occupied(b, 0), value, b.fexc(value)))


@insn("fsqrt", source="Intel SDM vol. 2A, FSQRT", cpuid="fpu")
@form("D9 FA")
def fsqrt(b: Tracer) -> None:
    """ST(0) := square root of ST(0)."""
    _unary(b, "fsqrt")


@insn("frndint", source="Intel SDM vol. 2A, FRNDINT", cpuid="fpu")
@form("D9 FC")
def frndint(b: Tracer) -> None:
    """ST(0) := ST(0) rounded to an integral value."""
    _unary(b, "frint")


@insn("fscale", source="Intel SDM vol. 2A, FSCALE", cpuid="fpu")
@form("D9 FD")
def fscale(b: Tracer) -> None:
    """ST(0) := ST(0) * 2**trunc(ST(1))."""
    _with_register(b, "fscale", 0, 1)


def _remainder(b: Tracer, packed: Value) -> None:
    occupied = is_occupied(b, 0, 1)
    result, exceptions = checked(b, occupied, *unpack(packed))
    codes = b.select(occupied & ~packed.bit(104), (packed >> 88).trunc(16), b.get("fsw") & (C0 | C3))
    with complete(b, exceptions, conditions=codes, cleared=CONDITIONS):
        write(b, 0, result)


@insn("fprem", source="Intel SDM vol. 2A, FPREM", cpuid="fpu")
@form("D9 F8")
def fprem(b: Tracer) -> None:
    """ST(0) := ST(0) - trunc(ST(0) / ST(1)) * ST(1), or a step towards it (C2); C0 C3 C1: the quotient's low bits."""
    wait(b)
    _remainder(b, b.helper(fprem_packed, WITH_CONDITIONS, read(b, 0), read(b, 1), b.get("fcw")))


@insn("fprem1", source="Intel SDM vol. 2A, FPREM1", cpuid="fpu")
@form("D9 F5")
def fprem1(b: Tracer) -> None:
    """ST(0) := the IEEE remainder of ST(0) / ST(1), or a step towards it (C2); C0 C3 C1: the quotient's low bits."""
    wait(b)
    _remainder(b, b.helper(fprem1_packed, WITH_CONDITIONS, read(b, 0), read(b, 1), b.get("fcw")))


def _sign(b: Tracer, change: Callable[[Value], Value]) -> None:
    wait(b)
    changed = change(read(b, 0).cast(I80)).cast(F80)
    finish(b, 0, *checked(b, is_occupied(b, 0), changed, nothing(b)))


@insn("fchs", source="Intel SDM vol. 2A, FCHS", cpuid="fpu")
@form("D9 E0")
def fchs(b: Tracer) -> None:
    """ST(0) := -ST(0)."""
    _sign(b, lambda value: value ^ (1 << 79))


@insn("fabs", source="Intel SDM vol. 2A, FABS", cpuid="fpu")
@form("D9 E1")
def fabs(b: Tracer) -> None:
    """ST(0) := |ST(0)|."""
    _sign(b, lambda value: value & ((1 << 79) - 1))


@insn("fxtract", source="Intel SDM vol. 2A, FXTRACT", cpuid="fpu")
@form("D9 F4")
def fxtract(b: Tracer) -> None:
    """ST(0) := exponent of ST(0); push its significand."""
    wait(b)
    value = read(b, 0)
    significand, exceptions = unpack(b.helper(fxtract_significand, PACKED, value))
    exponent = b.helper(fxtract_exponent, F80, value)
    fine, exceptions = has_room(b, exceptions)
    with complete(b, exceptions):
        replace_and_push(b, fine, exponent, significand)

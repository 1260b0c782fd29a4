"""x87 loads, stores, exchanges and constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.ir.floatformat import INDEFINITE, OE, TRUNCATE, UE
from aiopyvm.ir.types import F80, FLOATS, I80, integer
from aiopyvm.isa.places import MemoryPlace, StackPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import CF, PF, ZF
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.x87 import (
    PACKED,
    align,
    checked,
    complete,
    is_occupied,
    nothing,
    pop,
    push,
    read,
    retire,
    unpack,
    wait,
    write,
)
from aiopyvm.isa.x87operand import fbld_value, fbstp_packed

BCD_INDEFINITE = 0xFFFFC << 60

# -- loads -------------------------------------------------------------------------------------------------------------


@insn("fld", source="Intel SDM vol. 2A, FLD", cpuid="fpu")
@form("D9 /0", "m32fp")
@form("DD /0", "m64fp")
def fld(b: Tracer, src: MemoryPlace) -> None:
    """Push src."""
    wait(b)
    value = b.floating("fconvert", F80, src.load_as(FLOATS[src.width]), b.get("fcw"))
    push(b, value, b.fexc(value), src)


@insn("fld", source="Intel SDM vol. 2A, FLD", cpuid="fpu")
@form("DB /5", "m80fp")
def fld_m80fp(b: Tracer, src: MemoryPlace) -> None:
    """Push src, whatever its encoding."""
    wait(b)
    align(b, src, write=False)
    push(b, src.load_as(F80), nothing(b), src)


@insn("fld", source="Intel SDM vol. 2A, FLD", cpuid="fpu")
@form("D9 C0+i", "ST(i)", static=(0,))
def fld_register(b: Tracer, src: StackPlace) -> None:
    """Push ST(i)."""
    wait(b)
    push(b, read(b, src.number), nothing(b), occupied=is_occupied(b, src.number))


@insn("fild", source="Intel SDM vol. 2A, FILD", cpuid="fpu")
@form("DF /0", "m16int")
@form("DB /0", "m32int")
@form("DF /5", "m64int")
def fild(b: Tracer, src: MemoryPlace) -> None:
    """Push the signed integer src."""
    wait(b)
    push(b, b.floating("fromint", F80, src.load(), b.get("fcw")), nothing(b), src)


@insn("fbld", source="Intel SDM vol. 2A, FBLD", cpuid="fpu")
@form("DF /4", "m80dec")
def fbld(b: Tracer, src: MemoryPlace) -> None:
    """Push the packed BCD integer src."""
    wait(b)
    align(b, src, write=False)
    push(b, b.helper(fbld_value, F80, src.load_as(I80)), nothing(b), src)


def _constant(name: str, byte: int, nearest: int, rounding: int) -> None:
    """FLD1, FLDPI..: `nearest`, and where the true value lies: below it (-1), above it (1), or there (0)."""

    @insn(name, source="Intel SDM vol. 2A, FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ", cpuid="fpu")
    @form(f"D9 {byte:02X}")
    def load_constant(b: Tracer) -> None:
        """Push the constant, rounded as the control word says."""
        wait(b)
        value = b.const(nearest, I80)
        control = b.get("fcw")
        if rounding < 0:  # down and toward zero are the odd modes
            value = value - control.bit(10).zext(80)
        elif rounding > 0:
            value = value + (control & 0xC00).eq(0x800).zext(80)
        push(b, value.cast(F80), nothing(b))


_constant("fld1", 0xE8, 0x3FFF8000000000000000, 0)
_constant("fldl2t", 0xE9, 0x4000D49A784BCD1B8AFE, 1)
_constant("fldl2e", 0xEA, 0x3FFFB8AA3B295C17F0BC, -1)
_constant("fldpi", 0xEB, 0x4000C90FDAA22168C235, -1)
_constant("fldlg2", 0xEC, 0x3FFD9A209A84FBCFF799, -1)
_constant("fldln2", 0xED, 0x3FFEB17217F7D1CF79AC, -1)
_constant("fldz", 0xEE, 0, 0)

# -- stores ------------------------------------------------------------------------------------------------------------


def _store(b: Tracer, dst: MemoryPlace, value: Value, exceptions: Value, pops: int) -> None:
    with complete(b, exceptions, dst, late=OE | UE):
        if dst.width == 80:
            align(b, dst, write=True)
        dst.store(value)
        pop(b, pops)


def _store_float(b: Tracer, dst: MemoryPlace, pops: int) -> None:
    wait(b)
    narrow = FLOATS[dst.width]
    control = b.get("fcw")
    value = b.floating("fconvert", narrow, read(b, 0), control)
    invalid = {32: 0xFFC00000, 64: 0xFFF8000000000000}[dst.width]
    _store(b, dst, *checked(b, is_occupied(b, 0), value, b.fexc(value), invalid), pops)


@insn("fst", source="Intel SDM vol. 2A, FST/FSTP", cpuid="fpu")
@form("D9 /2", "m32fp")
@form("DD /2", "m64fp")
def fst(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0), rounded."""
    _store_float(b, dst, 0)


@insn("fstp", source="Intel SDM vol. 2A, FST/FSTP", cpuid="fpu")
@form("D9 /3", "m32fp")
@form("DD /3", "m64fp")
def fstp(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0), rounded; pop."""
    _store_float(b, dst, 1)


@insn("fstp", source="Intel SDM vol. 2A, FST/FSTP", cpuid="fpu")
@form("DB /7", "m80fp")
def fstp_m80fp(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0) as it is; pop."""
    wait(b)
    _store(b, dst, *checked(b, is_occupied(b, 0), read(b, 0), nothing(b)), 1)


def _store_register(b: Tracer, dst: StackPlace, pops: int) -> None:
    wait(b)
    value, exceptions = checked(b, is_occupied(b, 0), read(b, 0), nothing(b))
    with complete(b, exceptions):
        write(b, dst.number, value)
        pop(b, pops)


@insn("fst", source="Intel SDM vol. 2A, FST/FSTP", cpuid="fpu")
@form("DD D0+i", "ST(i)", static=(0,))
def fst_register(b: Tracer, dst: StackPlace) -> None:
    """ST(i) := ST(0)."""
    _store_register(b, dst, 0)


@insn("fstp", source="Intel SDM vol. 2A, FST/FSTP", cpuid="fpu")
@form("DD D8+i", "ST(i)", static=(0,))
@form("DF D0+i", "ST(i)", static=(0,), attributes="alias")
@form("DF D8+i", "ST(i)", static=(0,), attributes="alias")
def fstp_register(b: Tracer, dst: StackPlace) -> None:
    """ST(i) := ST(0); pop."""
    _store_register(b, dst, 1)


@insn("fstpnce", source="the hardware: FSTP that raises no stack underflow", cpuid="fpu")
@form("D9 D8+i", "ST(i)", static=(0,), attributes="alias")
def fstpnce(b: Tracer, dst: StackPlace) -> None:
    """ST(i) := ST(0), unless that is empty; pop."""
    wait(b)
    occupied = is_occupied(b, 0)
    with b.when(occupied):
        write(b, dst.number, read(b, 0))
    pop(b)
    retire(b)


def _store_integer(b: Tracer, dst: MemoryPlace, control: Value, pops: int) -> None:
    value = b.floating("toint", integer(dst.width), read(b, 0), control)
    _store(b, dst, *checked(b, is_occupied(b, 0), value, b.fexc(value), 1 << (dst.width - 1)), pops)


@insn("fist", source="Intel SDM vol. 2A, FIST/FISTP", cpuid="fpu")
@form("DF /2", "m16int")
@form("DB /2", "m32int")
def fist(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0) as a signed integer."""
    wait(b)
    _store_integer(b, dst, b.get("fcw"), 0)


@insn("fistp", source="Intel SDM vol. 2A, FIST/FISTP", cpuid="fpu")
@form("DF /3", "m16int")
@form("DB /3", "m32int")
@form("DF /7", "m64int")
def fistp(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0) as a signed integer; pop."""
    wait(b)
    _store_integer(b, dst, b.get("fcw"), 1)


@insn("fisttp", source="Intel SDM vol. 2A, FISTTP", cpuid="fpu pni")
@form("DF /1", "m16int")
@form("DB /1", "m32int")
@form("DD /1", "m64int")
def fisttp(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0) as a signed integer, truncated whatever the control word says; pop."""
    wait(b)
    _store_integer(b, dst, b.get("fcw") | TRUNCATE << 10, 1)


@insn("fbstp", source="Intel SDM vol. 2A, FBSTP", cpuid="fpu")
@form("DF /6", "m80dec")
def fbstp(b: Tracer, dst: MemoryPlace) -> None:
    """dst := ST(0) as a packed BCD integer; pop."""
    wait(b)
    packed = b.helper(fbstp_packed, PACKED, read(b, 0), b.get("fcw"))
    value, exceptions = unpack(packed)
    _store(b, dst, *checked(b, is_occupied(b, 0), value, exceptions, BCD_INDEFINITE), 1)


# -- moves between registers -------------------------------------------------------------------------------------------


@insn("fxch", source="Intel SDM vol. 2A, FXCH", cpuid="fpu")
@form("D9 C8+i", "ST(i)", static=(0,))
@form("DD C8+i", "ST(i)", static=(0,), attributes="alias")
@form("DF C8+i", "ST(i)", static=(0,), attributes="alias")
def fxch(b: Tracer, other: StackPlace) -> None:
    """Exchange ST(0) and ST(i); an empty one becomes the indefinite first."""
    wait(b)
    i = other.number
    top_full, other_full = is_occupied(b, 0), is_occupied(b, i)
    x = b.select(top_full, read(b, 0), INDEFINITE)
    y = b.select(other_full, read(b, i), INDEFINITE)
    with complete(b, b.select(top_full & other_full, nothing(b), 0x41)):
        write(b, i, x)
        write(b, 0, y)


_CONDITIONS: Final[dict[str, tuple[str, Callable[[Tracer], Value]]]] = {
    "b": ("DA C0", lambda b: b.flag(CF)),
    "e": ("DA C8", lambda b: b.flag(ZF)),
    "be": ("DA D0", lambda b: b.flag(CF) | b.flag(ZF)),
    "u": ("DA D8", lambda b: b.flag(PF)),
    "nb": ("DB C0", lambda b: ~b.flag(CF)),
    "ne": ("DB C8", lambda b: ~b.flag(ZF)),
    "nbe": ("DB D0", lambda b: ~(b.flag(CF) | b.flag(ZF))),
    "nu": ("DB D8", lambda b: ~b.flag(PF)),
}
_READS = {"b": CF, "e": ZF, "be": CF | ZF, "u": PF}


def _conditional(name: str) -> None:
    encoding, holds = _CONDITIONS[name]

    @insn(f"fcmov{name}", source="Intel SDM vol. 2A, FCMOVcc", reads=_READS[name.removeprefix("n")], cpuid="cmov fpu")
    @form(f"{encoding}+i", "ST(0), ST(i)", static=(1,))
    def fcmov(b: Tracer, dst: StackPlace, src: StackPlace) -> None:
        """ST(0) := ST(i) if the condition holds."""
        wait(b)
        moved = b.select(holds(b), read(b, src.number), read(b, 0))
        value, exceptions = checked(b, is_occupied(b, 0, src.number), moved, nothing(b))
        with complete(b, exceptions, cleared=0):
            write(b, 0, value)


for _name in _CONDITIONS:
    _conditional(_name)

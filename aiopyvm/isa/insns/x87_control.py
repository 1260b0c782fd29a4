"""x87 control: control and status word, stack pointer and tags, environment and whole state in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F80, I8, I16, I32
from aiopyvm.isa.places import MemoryPlace, RegisterPlace, StackPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.x87 import (
    CONDITIONS,
    CONTROL_BITS,
    CONTROL_ONES,
    EXCEPTIONS,
    INITIAL_CONTROL,
    PENDING,
    SF,
    bit_of,
    register,
    retire,
    summary,
    wait,
)  # fmt: skip
from aiopyvm.isa.x87operand import x87_tag_word

TOP = 7 << 11
REGISTER_BYTES = 10


def _status(b: Tracer) -> Value:
    """The status word with TOP (i16)."""
    return b.get("fsw") | b.get("ftop").zext(16) << 11


def _set_control(b: Tracer, control: Value) -> Value:
    """Set the control word from `control` (i16); return it as set. ES and B must follow."""
    new = control & CONTROL_BITS | CONTROL_ONES
    b.set("fcw", new)
    return new


def _initialise(b: Tracer) -> None:
    """FNINIT: everything but what the data registers hold."""
    b.set("fcw", INITIAL_CONTROL)
    for name in ("fsw", "ftop", "fvalid", "fop", "fip", "fcs", "fds", "fdp"):
        b.set(name, 0)


# -- control and status word -------------------------------------------------------------------------------------------


@insn("fldcw", source="Intel SDM vol. 2A, FLDCW", cpuid="fpu")
@form("D9 /5", "m2byte")
def fldcw(b: Tracer, src: MemoryPlace) -> None:
    """Control word := src; exceptions that it unmasks become pending."""
    wait(b)
    control = _set_control(b, src.load())
    b.set("fsw", summary(b, b.get("fsw"), control))


@insn("fnstcw", source="Intel SDM vol. 2A, FSTCW/FNSTCW", cpuid="fpu")
@form("D9 /7", "m2byte")
def fnstcw(b: Tracer, dst: MemoryPlace) -> None:
    """dst := control word."""
    dst.store(b.get("fcw"))


@insn("fnstsw", source="Intel SDM vol. 2A, FSTSW/FNSTSW", cpuid="fpu")
@form("DD /7", "m2byte")
@form("o* DF E0", "ax")
def fnstsw(b: Tracer, dst: MemoryPlace | RegisterPlace) -> None:
    """dst := status word."""
    dst.store(_status(b))


@insn("fnclex", source="Intel SDM vol. 2A, FCLEX/FNCLEX", cpuid="fpu")
@form("DB E2")
def fnclex(b: Tracer) -> None:
    """Clear the exception flags, SF, ES and B."""
    b.set("fsw", b.get("fsw") & CONDITIONS)


@insn("fninit", source="Intel SDM vol. 2A, FINIT/FNINIT", cpuid="fpu")
@form("DB E3")
def fninit(b: Tracer) -> None:
    """Set the initial state: control word 37FH, status 0, all registers empty."""
    _initialise(b)


@insn("fwait", source="Intel SDM vol. 2D, WAIT/FWAIT", aliases=("wait",), cpuid="fpu")
@form("9B")
def fwait(b: Tracer) -> None:
    """#MF if an unmasked exception is pending."""
    wait(b)


# -- the stack ---------------------------------------------------------------------------------------------------------


@insn("fnop", source="Intel SDM vol. 2A, FNOP", cpuid="fpu")
@form("D9 D0")
def fnop(b: Tracer) -> None:
    """No operation."""
    wait(b)
    b.set("fip", b.eip)


def _move_top(b: Tracer, by: int) -> None:
    wait(b)
    b.set("ftop", (b.get("ftop") + by) & 7)
    retire(b)


@insn("fincstp", source="Intel SDM vol. 2A, FINCSTP", cpuid="fpu")
@form("D9 F7")
def fincstp(b: Tracer) -> None:
    """Increment TOP."""
    _move_top(b, 1)


@insn("fdecstp", source="Intel SDM vol. 2A, FDECSTP", cpuid="fpu")
@form("D9 F6")
def fdecstp(b: Tracer) -> None:
    """Decrement TOP."""
    _move_top(b, -1)


def _free(b: Tracer, i: int) -> None:
    b.set("fvalid", b.get("fvalid") & ~bit_of(b, register(b, i)))


@insn("ffree", source="Intel SDM vol. 2A, FFREE", cpuid="fpu")
@form("DD C0+i", "ST(i)", static=(0,))
def ffree(b: Tracer, dst: StackPlace) -> None:
    """Mark ST(i) empty."""
    wait(b)
    _free(b, dst.number)
    retire(b)


@insn("ffreep", source="the hardware: FFREE that pops", cpuid="fpu")
@form("DF C0+i", "ST(i)", static=(0,))
def ffreep(b: Tracer, dst: StackPlace) -> None:
    """Mark ST(i) empty; pop."""
    wait(b)
    _free(b, dst.number)
    _free(b, 0)
    b.set("ftop", register(b, 1))
    retire(b)


# -- environment and state ---------------------------------------------------------------------------------------------


def _tag_word(b: Tracer) -> Value:
    registers = [b.getfp(b.const(number, I8)) for number in range(8)]
    return b.helper(x87_tag_word, I16, b.get("fvalid"), *registers)


def _environment(b: Tracer) -> list[Value]:
    """The words of the environment, in order: seven of 32 bits, or of 16 with a 16-bit operand size."""
    words = [b.get("fcw"), _status(b), _tag_word(b)]
    if b.insn.operand_size == 16:
        zero = b.const(0, I16)
        return [*words, b.get("fip").trunc(16), zero, b.get("fdp").trunc(16), zero]
    ones = 0xFFFF0000
    selectors = b.get("fop").zext(32) << 16
    return [*(word.zext(32) | ones for word in words), b.get("fip"), selectors, b.get("fdp"), b.const(ones, I32)]


def _store_pieces(dst: MemoryPlace, pieces: list[Value]) -> None:
    """Store `pieces` one behind the other; faults before the first is stored: for that, then for the last byte."""
    *offsets, size = accumulate((value.bits // 8 for value in pieces), initial=0)
    dst.prepare_store(pieces[0].bits // 8)
    dst.prepare_store(1, size - 1)
    for at, value in zip(offsets, pieces, strict=True):
        dst.prepare_store(value.bits // 8, at)
    for at, value in zip(offsets, pieces, strict=True):
        dst.store(value, at)


def _load_environment(b: Tracer, src: MemoryPlace, size: int) -> Callable[[], None]:
    """Load the environment of `size` bytes of state (first word, last byte, rest); return what makes it take effect."""
    width = b.insn.operand_size
    src.load(width)
    src.load(8, size - 1)
    words = [src.load(width, width // 8 * i) for i in range(7)]

    def apply() -> None:
        status = words[1].trunc(16)
        control = _set_control(b, words[0].trunc(16))
        b.set("fsw", summary(b, status & (CONDITIONS | EXCEPTIONS | SF), control))
        b.set("ftop", (status >> 11).trunc(8) & 7)
        b.set("fvalid", _valid(b, words[2].trunc(16)))
        b.set("fip", words[3].zext(32))
        b.set("fop", (words[4] >> 16).trunc(16) & 0x7FF if width == 32 else 0)
        b.set("fdp", words[5].zext(32))
        b.set("fcs", 0)
        b.set("fds", 0)

    return apply


def _valid(b: Tracer, tags: Value) -> Value:
    """`fvalid` of a tag word (i16): a register is empty where both its bits are 1."""
    occupied = ~(tags & (tags >> 1))
    valid = b.const(0, I8)
    for number in range(8):
        valid = valid | occupied.bit(2 * number).zext(8) << number
    return valid


@insn("fnstenv", source="Intel SDM vol. 2A, FSTENV/FNSTENV", cpuid="fpu")
@form("D9 /6", "m14/28byte")
def fnstenv(b: Tracer, dst: MemoryPlace) -> None:
    """dst := environment; then mask all exceptions."""
    _store_pieces(dst, _environment(b))
    b.set("fcw", b.get("fcw") | EXCEPTIONS)
    b.set("fsw", b.get("fsw") & ~PENDING & 0xFFFF)


@insn("fldenv", source="Intel SDM vol. 2A, FLDENV", cpuid="fpu")
@form("D9 /4", "m14/28byte")
def fldenv(b: Tracer, src: MemoryPlace) -> None:
    """Environment := src."""
    wait(b)
    _load_environment(b, src, 7 * b.insn.operand_size // 8)()


@insn("fnsave", source="Intel SDM vol. 2A, FSAVE/FNSAVE", cpuid="fpu")
@form("DD /6", "m94/108byte")
def fnsave(b: Tracer, dst: MemoryPlace) -> None:
    """dst := environment and ST(0) to ST(7); then as FNINIT."""
    _store_pieces(dst, [*_environment(b), *(b.getfp(register(b, i)) for i in range(8))])
    _initialise(b)


@insn("frstor", source="Intel SDM vol. 2A, FRSTOR", cpuid="fpu")
@form("DD /4", "m94/108byte")
def frstor(b: Tracer, src: MemoryPlace) -> None:
    """Environment and ST(0) to ST(7) := src."""
    wait(b)
    at = 7 * b.insn.operand_size // 8
    apply = _load_environment(b, src, at + 8 * REGISTER_BYTES)
    values = [src.load_as(F80, at + REGISTER_BYTES * i) for i in range(8)]
    apply()
    for i, value in enumerate(values):
        b.setfp(register(b, i), value)


def _obsolete(name: str, byte: int) -> None:
    @insn(
        name,
        source="Intel SDM vol. 3B, x87 FPU instructions of the 8087 and 80287 that later processors ignore",
        cpuid="fpu",
    )
    @form(f"DB {byte:02X}")
    def ignored(b: Tracer) -> None:
        """No operation."""


_obsolete("fneni", 0xE0)
_obsolete("fndisi", 0xE1)
_obsolete("fnsetpm", 0xE4)

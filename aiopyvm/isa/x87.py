"""The x87 register stack, as its instructions trace it.

ST(i) is the physical register (TOP + i) & 7. A register that is not `fvalid` is empty: reading it is a stack
underflow, pushing onto one that is not empty a stack overflow; either is an invalid operation with SF set, whose
masked response is the indefinite.

Exceptions of an instruction are an i8 in the order of the status word: IE DE ZE OE UE PE SF, and C1 in bit 7. What
always holds:

- Every instruction that computes does its effects inside `complete`, and everything that may fault before it or first
  in it.
- Blocks of mode 0 have every exception masked, so nothing can be pending: their traces have neither the check for #MF
  nor the guards of unmasked exceptions. `MODE_X87` traces have both. The native engine's handlers, which are made from
  traces of mode 0, run under unmasked exceptions too, where none is pending: what raises one they leave to Python.
- FIP is kept for every instruction that is not a control instruction; FOP and FDP only for those that raise an unmasked
  exception, and FCS and FDS are 0, as newer processors have it (CPUID.7.EBX bits 6 and 13).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiopyvm.ir.floatformat import DE, IE, INDEFINITE, PE, ZE
from aiopyvm.ir.types import F80, I8, I16, integer
from aiopyvm.isa.places import MemoryPlace
from aiopyvm.isa.state import MODE_ALIGNMENT_CHECK, MODE_X87
from aiopyvm.isa.vectors import MF

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

SF: Final = 0x40
ROUNDED_UP: Final = 0x80  # C1, in the i8 of exceptions
UNDERFLOW: Final = IE | SF
OVERFLOW: Final = IE | SF | ROUNDED_UP

# Status word.
C0: Final = 0x100
C1: Final = 0x200
C2: Final = 0x400
C3: Final = 0x4000
PENDING: Final = 0x8080  # ES and B
EXCEPTIONS: Final = 0x3F
CONDITIONS: Final = C0 | C1 | C2 | C3

CONTROL_BITS: Final = 0x1F7F  # what FLDCW changes
CONTROL_ONES: Final = 0x0040  # reads as 1
INITIAL_CONTROL: Final = 0x037F

PACKED: Final = integer(88)  # what arithmetic helpers return: f80, then exceptions


def wait(b: Tracer) -> None:
    """#MF where an unmasked exception is pending: first in every waiting instruction."""
    if b.mode & MODE_X87:
        b.fault(MF, b.get("fsw").bit(7))


def align(b: Tracer, place: MemoryPlace, *, write: bool) -> None:
    """#AC where an m80 operand is not aligned to 8 bytes, in blocks that check (SDM vol. 3A, "Alignment Check")."""
    if b.mode & MODE_ALIGNMENT_CHECK:
        b.linear(place.segment, place.offset, 8, write=write)


def register(b: Tracer, i: int) -> Value:
    """Number of the physical register ST(i) (i8)."""
    return (b.get("ftop") + i) & 7 if i else b.get("ftop")


def bit_of(b: Tracer, number: Value) -> Value:
    """The bit of physical register `number` in `fvalid` (i8)."""
    return b.const(1, I8) << number


def is_occupied(b: Tracer, *stack: int) -> Value:
    """Whether none of the ST(i) is empty (i1)."""
    needed = b.const(0, I8)
    for i in stack:
        needed = needed | bit_of(b, register(b, i))
    return (b.get("fvalid") & needed).eq(needed)


def read(b: Tracer, i: int) -> Value:
    """What ST(i) holds (f80), be it empty or not."""
    return b.getfp(register(b, i))


def write(b: Tracer, i: int, value: Value) -> None:
    """ST(i) := `value`; it is no longer empty."""
    number = register(b, i)
    b.setfp(number, value)
    b.set("fvalid", b.get("fvalid") | bit_of(b, number))


def pop(b: Tracer, count: int = 1) -> None:
    """Mark ST(0) empty and increment TOP, `count` times."""
    for _ in range(count):
        b.set("fvalid", b.get("fvalid") & ~bit_of(b, b.get("ftop")))
        b.set("ftop", register(b, 1))


def indefinite(b: Tracer) -> Value:
    """The QNaN floating-point indefinite (f80)."""
    return b.const(INDEFINITE, F80)


def unpack(packed: Value) -> tuple[Value, Value]:
    """Result (f80) and exceptions (i8) of a helper that returns `PACKED`."""
    return packed.trunc(80).cast(F80), (packed >> 80).trunc(8)


def checked(
    b: Tracer, occupied: Value, result: Value, exceptions: Value, masked: int = INDEFINITE
) -> tuple[Value, Value]:
    """`result` and `exceptions`, or the masked response of a stack underflow where not `occupied`."""
    return b.select(occupied, result, masked), b.select(occupied, exceptions, UNDERFLOW)


@contextmanager
def complete(
    b: Tracer,
    exceptions: Value,
    operand: object = None,
    *,
    conditions: Value | None = None,
    cleared: int = C1,
    early: int = IE | DE | ZE,
    late: int = 0,
) -> Iterator[None]:
    """Finish an instruction that raises `exceptions` (i8): its effects are the block's.

    An unmasked exception of `early` suppresses the effects and all later exceptions; one of `late` (OE and UE where a
    number is stored in memory) the effects and PE. The condition codes of `cleared` become 0, or what `conditions`
    (i16) has, either way; with none `cleared`, C1 does so for a stack underflow alone.
    """
    stopped = None
    if b.mode & MODE_X87:
        exceptions, stopped = _settle(b, exceptions, early, late)
    status = b.get("fsw")  # as it will be: generated code looks at it before the first effect
    raised = exceptions.zext(16)
    status = status & ~cleared & 0xFFFF if cleared else status & ~((raised & SF) << 3)
    if conditions is not None:
        status = status | conditions
    status = status | raised & (EXCEPTIONS | SF) | (raised << 2) & C1
    if stopped is None:
        yield
    else:
        with b.when(~stopped):
            yield
        status = summarised(b, status)
        _point(b, exceptions, operand)
    b.set("fsw", status)
    b.set("fip", b.eip)


def finish(b: Tracer, i: int, result: Value, exceptions: Value, operand: object = None, pops: int = 0) -> None:
    """Finish an instruction that writes `result` (f80) to ST(i), raises `exceptions` (i8) and pops `pops` times."""
    with complete(b, exceptions, operand):
        write(b, i, result)
        pop(b, pops)


def has_room(b: Tracer, exceptions: Value) -> tuple[Value, Value]:
    """For an instruction that replaces ST(0) and pushes: whether the stack lets it (i1), and the exceptions: those
    given, or the stack's.
    """
    occupied, free = is_occupied(b, 0), ~is_occupied(b, 7)
    return occupied & free, b.select(occupied, b.select(free, exceptions, OVERFLOW), UNDERFLOW)


def replace_and_push(b: Tracer, fine: Value, replaced: Value, pushed: Value) -> None:
    """ST(0) := `replaced`; push `pushed` (both f80); the indefinite for both where not `fine`."""
    write(b, 0, b.select(fine, replaced, INDEFINITE))
    b.set("ftop", register(b, 7))
    write(b, 0, b.select(fine, pushed, INDEFINITE))


def _settle(b: Tracer, exceptions: Value, early: int, late: int) -> tuple[Value, Value]:
    """The exceptions that are reported, and whether the instruction's effects are suppressed (i1)."""
    unmasked = exceptions & ~b.get("fcw").trunc(8)
    first = (unmasked & early).ne(0)
    overflow = exceptions & (exceptions << 1) & ROUNDED_UP  # C1 of a stack overflow
    settled = b.select(first, exceptions & (IE | DE | ZE | SF) | overflow, exceptions)
    if not late:
        return settled, first
    second = (unmasked & late).ne(0) & ~first
    return b.select(second, settled & ~(PE | ROUNDED_UP) & 0xFF, settled), first | second


def _point(b: Tracer, exceptions: Value, operand: object) -> None:
    """Keep opcode and operand's address where an exception is unmasked."""
    with b.when((exceptions & ~b.get("fcw").trunc(8) & EXCEPTIONS).ne(0)):
        b.set("fop", opcode(b.insn.code))
        if isinstance(operand, MemoryPlace):
            b.set("fdp", operand.offset)


def opcode(code: bytes) -> int:
    """The 11 bits that FOP keeps of an x87 instruction."""
    at = next(i for i, byte in enumerate(code) if 0xD8 <= byte <= 0xDF)
    return (code[at] & 7) << 8 | code[at + 1]


def summarised(b: Tracer, status: Value) -> Value:
    """`status` (i16) with ES and B as its exceptions and the control word have it."""
    return summary(b, status, b.get("fcw"))


def summary(b: Tracer, status: Value, control: Value) -> Value:
    """`status` (i16) with ES and B as `control` has it."""
    pending = (status & ~control & EXCEPTIONS).ne(0)
    return status & ~PENDING & 0xFFFF | b.select(pending, b.const(PENDING, I16), 0)


def retire(b: Tracer) -> None:
    """End an instruction that raises nothing: C1 := 0, FIP."""
    b.set("fsw", b.get("fsw") & ~C1 & 0xFFFF)
    b.set("fip", b.eip)


def push(b: Tracer, value: Value, exceptions: Value, operand: object = None, occupied: Value | None = None) -> None:
    """Finish an instruction that pushes `value` (f80) and raises `exceptions` (i8).

    A stack overflow comes before those, an underflow (the source is not `occupied`) before both. An unmasked DE does
    not keep the value from being pushed.
    """
    number = (b.get("ftop") - 1) & 7
    bit = bit_of(b, number)
    free = (b.get("fvalid") & bit).eq(0)
    exceptions = b.select(free, exceptions, OVERFLOW)
    if occupied is not None:
        exceptions = b.select(occupied, exceptions, UNDERFLOW)
        free = free & occupied
    with complete(b, exceptions, operand, early=IE):
        b.setfp(number, b.select(free, value, INDEFINITE))
        b.set("ftop", number)
        b.set("fvalid", b.get("fvalid") | bit)


def nothing(b: Tracer) -> Value:
    """No exceptions (i8)."""
    return b.const(0, I8)

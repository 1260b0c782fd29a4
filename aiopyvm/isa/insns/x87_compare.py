"""x87 comparisons and FXAM: to the condition codes, or (FCOMI) to EFLAGS."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.floatconvert import UNORDERED
from aiopyvm.ir.types import F80, I8, I16, integer
from aiopyvm.isa.places import MemoryPlace, Place, StackPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.x87 import C0, C3, CONDITIONS, checked, complete, is_occupied, pop, read, wait
from aiopyvm.isa.x87operand import COMPARISON, fxam_class

_RELATION = integer(88)  # what the helpers of COMPARISON return


def _codes(b: Tracer, relation: Value) -> Value:
    """C3 C2 C0 (i16) of a relation (i8): greater 000, less 001, equal 100, unordered 111."""
    less, equal = relation.bit(0).zext(16), relation.bit(1).zext(16)
    return less << 8 | equal << 14 | (less & equal) << 10


def _finish(
    b: Tracer, occupied: Value, relation: Value, exceptions: Value, pops: int, operand: Place | None = None
) -> None:
    relation, exceptions = checked(b, occupied, relation, exceptions, UNORDERED)
    with complete(b, exceptions, operand, conditions=_codes(b, relation), cleared=CONDITIONS):
        pop(b, pops)


def _relation(b: Tracer, op: str, other: Value) -> tuple[Value, Value]:
    relation = b.floating(op, I8, read(b, 0), other, b.get("fcw"))
    return relation, b.fexc(relation)


def _registers(b: Tracer, op: str, i: int, pops: int) -> None:
    wait(b)
    _finish(b, is_occupied(b, 0, i), *_relation(b, op, read(b, i)), pops)


def _memory(b: Tracer, src: MemoryPlace, pops: int) -> None:
    wait(b)
    packed = b.helper(COMPARISON[src.width], _RELATION, read(b, 0), src.load())
    _finish(b, is_occupied(b, 0), packed.trunc(8), (packed >> 80).trunc(8), pops, src)


def _integer(b: Tracer, src: MemoryPlace, pops: int) -> None:
    wait(b)
    value = b.floating("fromint", F80, src.load(), b.get("fcw"))
    _finish(b, is_occupied(b, 0), *_relation(b, "fcompare", value), pops, src)


@insn("fcom", source="Intel SDM vol. 2A, FCOM/FCOMP/FCOMPP", cpuid="fpu")
@form("D8 /2", "m32fp")
@form("DC /2", "m64fp")
def fcom(b: Tracer, src: MemoryPlace) -> None:
    """Compare ST(0) with src."""
    _memory(b, src, 0)


@insn("fcomp", source="Intel SDM vol. 2A, FCOM/FCOMP/FCOMPP", cpuid="fpu")
@form("D8 /3", "m32fp")
@form("DC /3", "m64fp")
def fcomp(b: Tracer, src: MemoryPlace) -> None:
    """Compare ST(0) with src; pop."""
    _memory(b, src, 1)


@insn("fcom", source="Intel SDM vol. 2A, FCOM/FCOMP/FCOMPP", cpuid="fpu")
@form("D8 D0+i", "ST(i)", static=(0,))
@form("DC D0+i", "ST(i)", static=(0,), attributes="alias")
def fcom_register(b: Tracer, src: StackPlace) -> None:
    """Compare ST(0) with ST(i)."""
    _registers(b, "fcompare", src.number, 0)


@insn("fcomp", source="Intel SDM vol. 2A, FCOM/FCOMP/FCOMPP", cpuid="fpu")
@form("D8 D8+i", "ST(i)", static=(0,))
@form("DC D8+i", "ST(i)", static=(0,), attributes="alias")
@form("DE D0+i", "ST(i)", static=(0,), attributes="alias")
def fcomp_register(b: Tracer, src: StackPlace) -> None:
    """Compare ST(0) with ST(i); pop."""
    _registers(b, "fcompare", src.number, 1)


@insn("fcompp", source="Intel SDM vol. 2A, FCOM/FCOMP/FCOMPP", cpuid="fpu")
@form("DE D9")
def fcompp(b: Tracer) -> None:
    """Compare ST(0) with ST(1); pop both."""
    _registers(b, "fcompare", 1, 2)


@insn("fucom", source="Intel SDM vol. 2A, FUCOM/FUCOMP/FUCOMPP", cpuid="fpu")
@form("DD E0+i", "ST(i)", static=(0,))
def fucom(b: Tracer, src: StackPlace) -> None:
    """Compare ST(0) with ST(i); quiet NaNs are no invalid operation."""
    _registers(b, "fcompareq", src.number, 0)


@insn("fucomp", source="Intel SDM vol. 2A, FUCOM/FUCOMP/FUCOMPP", cpuid="fpu")
@form("DD E8+i", "ST(i)", static=(0,))
def fucomp(b: Tracer, src: StackPlace) -> None:
    """Compare ST(0) with ST(i), quietly; pop."""
    _registers(b, "fcompareq", src.number, 1)


@insn("fucompp", source="Intel SDM vol. 2A, FUCOM/FUCOMP/FUCOMPP", cpuid="fpu")
@form("DA E9")
def fucompp(b: Tracer) -> None:
    """Compare ST(0) with ST(1), quietly; pop both."""
    _registers(b, "fcompareq", 1, 2)


@insn("ficom", source="Intel SDM vol. 2A, FICOM/FICOMP", cpuid="fpu")
@form("DE /2", "m16int")
@form("DA /2", "m32int")
def ficom(b: Tracer, src: MemoryPlace) -> None:
    """Compare ST(0) with the integer src."""
    _integer(b, src, 0)


@insn("ficomp", source="Intel SDM vol. 2A, FICOM/FICOMP", cpuid="fpu")
@form("DE /3", "m16int")
@form("DA /3", "m32int")
def ficomp(b: Tracer, src: MemoryPlace) -> None:
    """Compare ST(0) with the integer src; pop."""
    _integer(b, src, 1)


@insn("ftst", source="Intel SDM vol. 2A, FTST", cpuid="fpu")
@form("D9 E4")
def ftst(b: Tracer) -> None:
    """Compare ST(0) with +0.0."""
    wait(b)
    _finish(b, is_occupied(b, 0), *_relation(b, "fcompare", b.const(0, F80)), 0)


@insn("fxam", source="Intel SDM vol. 2A, FXAM", cpuid="fpu")
@form("D9 E5")
def fxam(b: Tracer) -> None:
    """C3 C2 C0 := the class of ST(0), C1 := its sign, empty or not."""
    wait(b)
    value = read(b, 0)
    of_value = b.helper(fxam_class, I16, value)
    codes = b.select(is_occupied(b, 0), of_value, of_value & 0x200 | C3 | C0)
    b.set("fsw", b.get("fsw") & 0xB8FF | codes)
    b.set("fip", b.eip)


def _to_flags(b: Tracer, op: str, i: int, pops: int) -> None:
    wait(b)
    relation, exceptions = checked(b, is_occupied(b, 0, i), *_relation(b, op, read(b, i)), UNORDERED)
    with complete(b, exceptions, cleared=0):
        pop(b, pops)
    less, equal = relation.bit(0), relation.bit(1)
    b.set_flag(CF, less)
    b.set_flag(ZF, equal)
    b.set_flag(PF, less & equal)
    for flag in (OF, SF, AF):
        b.set_flag(flag, 0)


def _define_to_flags(name: str, op: str, encoding: str, pops: int) -> None:
    @insn(name, source="Intel SDM vol. 2A, FCOMI/FCOMIP/FUCOMI/FUCOMIP", writes=OSZAPC, cpuid="cmov fpu")
    @form(encoding, "ST(0), ST(i)", static=(1,))
    def fcomi(b: Tracer, dst: StackPlace, src: StackPlace) -> None:
        """ZF PF CF := the relation of ST(0) to ST(i); OF SF AF := 0; the forms with P pop."""
        _to_flags(b, op, src.number, pops)


_define_to_flags("fcomi", "fcompare", "DB F0+i", 0)
_define_to_flags("fcomip", "fcompare", "DF F0+i", 1)
_define_to_flags("fucomi", "fcompareq", "DB E8+i", 0)
_define_to_flags("fucomip", "fcompareq", "DF E8+i", 1)

"""x87 instructions as a region sees them: the stack is resolved while it is made.

A region is made for one TOP and one set of registers in use, those of where it became hot, and is entered with these
alone. Each node knows both too; so ST(i) is a number, whether a register is empty is known, and what would be a stack
fault ends the region. Instructions that are not `IN_REGIONS` end it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.engine.native.regionplan import Stack
from aiopyvm.engine.native.regionstatus import faults_on_stack
from aiopyvm.ir.builder import Known, Value
from aiopyvm.ir.ops import FLOAT_OPS
from aiopyvm.ir.types import I8
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.trace import Tracer

FIELDS: Final = frozenset(("fsw", "fip", "ftop", "fvalid"))  # what a region keeps, beside the registers
_ARITHMETIC: Final = ("add", "sub", "subr", "mul", "div", "divr")
IN_REGIONS: Final = frozenset(
    "fld fild fst fstp fist fistp fxch fchs fabs fsqrt frndint fcom fcomp fcompp fucom fucomp fucompp ficom ficomp "
    "ftst fcomi fcomip fucomi fucomip fld1 fldl2t fldl2e fldpi fldlg2 fldln2 fldz fldcw fnstcw fnstsw fnop ffree "
    "fincstp fdecstp fxam fscale fxtract fisttp fcmovb fcmove fcmovbe fcmovu fcmovnb fcmovne fcmovnbe fcmovnu".split()
) | {f"f{kind}{name}{end}" for name in _ARITHMETIC for kind, end in (("", ""), ("", "p"), ("i", ""))}  # fmt: skip
BY_TRACE: Final = frozenset(("fldcw", "fnstcw", "fnstsw"))  # those that are lowered from their trace
TO_FLAGS: Final = frozenset(("fcomi", "fcomip", "fucomi", "fucomip"))
_HELPERS: Final = frozenset(f"f{name}_m{size}fp" for name in (*_ARITHMETIC, "com") for size in (32, 64)) | {
    "fxam_class",
    "fxtract_significand",
    "fxtract_exponent",
}


@dataclass(frozen=True, slots=True)
class Use:
    """What an instruction, begun with some stack, does to it: which registers it reads or writes, what it leaves."""

    after: Stack
    read: frozenset[int]
    written: frozenset[int]


def forget(tracer: Tracer, insn: Insn) -> None:
    """Let `tracer` read anew, for an x87 instruction, what its lowering wants to see read."""
    tracer.forget("fsw")
    if insn.row.name.startswith("fcmov"):
        tracer.forget("cf", "zf", "pf")


def begun_with(tracer: Tracer, stack: Stack | None) -> Known:
    """What `tracer` is to know at the beginning of a node."""
    if stack is None:
        return tracer.known()
    constants = [tracer.const(number, I8) for number in stack]
    known = tracer.known()
    known.registers.update(zip(("ftop", "fvalid"), constants, strict=True))
    return known


def use(insn: Insn, ops: Iterable[Value], tracer: Tracer) -> Use | None:
    """What an x87 instruction, that was traced with its stack known, does to the stack; None: it ends a region."""
    if not HAS_X87 or insn.row.name not in IN_REGIONS:
        return None
    top, valid = tracer.get("ftop"), tracer.get("fvalid")
    if top.op != "const" or valid.op != "const" or not all(map(_is_known, ops)):
        return None
    read, written = (frozenset(int(op.args[0].attr) for op in ops if op.op == name) for name in ("getfp", "setfp"))
    return Use((int(top.attr), int(valid.attr)), read, written)


def _is_known(op: Value) -> bool:
    if op.op in ("getfp", "setfp"):
        return op.args[0].op == "const"
    if op.op == "set" and op.attr == "fsw":
        return not faults_on_stack(op.args[0])
    if op.op in FLOAT_OPS:
        return all(arg.type is None or arg.type.lanes == 1 for arg in op.args)
    return op.op not in ("when", "fault") and (op.op != "helper" or op.attr.name in _HELPERS)


__all__ = ["FIELDS", "IN_REGIONS", "Use", "begun_with", "forget", "use"]

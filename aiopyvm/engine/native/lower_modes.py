"""What a trace does to registers that the mode depends on, or that tell of exceptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.isa.state import AC, SEGMENTS, TF
from aiopyvm.isa.x87 import EXCEPTIONS

# Registers that the mode depends on, in the flat one: the bits that count, and what they are where generated code runs.
# Any MXCSR will do.
MODE_BITS: Final = {"fcw": (0x3F, 0x3F), "mxcsr": (0, 0), "system_flags": (AC | TF, 0)}


def mode_sets(ops: Sequence[Value]) -> dict[Value, list[Value]]:
    """For each `set` that may change the mode: those right behind it that may, too, so that all are looked at before
    the first has its effect; none for one that was looked at with others.
    """
    found: dict[Value, list[Value]] = {}
    together: list[Value] = []
    for op in ops:
        if op.op != "set" or op.attr not in MODE_BITS:
            together = []
            continue
        found[op] = [] if together else (together := [])
        together.append(op)
    return found


def _instructions(ops: Sequence[Value]) -> list[list[Value]]:
    """The operations of each instruction."""
    found: list[list[Value]] = [[]]
    for op in ops:
        if op.op == "insn":
            found.append([])
        found[-1].append(op)
    return found


def raising(ops: Sequence[Value]) -> set[Value]:
    """The status words that instructions of the x87 set which may raise something. Those that set the control word too
    are looked at by that (`_keep_mode`).
    """
    found: set[Value] = set()
    for insn in _instructions(ops):
        sets = {op.attr: op.args[0] for op in insn if op.op == "set"}
        if "fsw" in sets and "fcw" not in sets and _may_raise(sets["fsw"]):
            found.add(sets["fsw"])
    return found


def _may_raise(status: Value) -> bool:
    """Whether a status word may have exceptions that the one before has not."""
    match status.op:
        case "const":
            return bool(status.attr & EXCEPTIONS)
        case "get":
            return bool(status.attr != "fsw")
        case "and":
            return all(map(_may_raise, status.args))
        case "or":
            return any(map(_may_raise, status.args))
    return True


def loaded(ops: Sequence[Value]) -> dict[Value, str]:
    """The descriptors that are looked at, by the segment register that gets each."""
    found: dict[Value, str] = {}
    for insn in _instructions(ops):
        segments = [op.attr for op in insn if op.op == "set" and op.attr in SEGMENTS]
        if segments:
            found.update((op, segments[0]) for op in insn if op.op == "helper")
    return found


def has_ones(value: Value, mask: int) -> bool:
    """Whether it is plain that all bits of `mask` are 1."""
    if value.op == "const":
        return int(value.attr) & mask == mask
    return value.op == "or" and any(has_ones(arg, mask) for arg in value.args)


__all__ = ["MODE_BITS", "has_ones", "loaded", "mode_sets", "raising"]

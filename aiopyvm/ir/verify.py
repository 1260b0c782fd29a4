"""Checks that a trace is well-formed and that its faults are precise.

Types agree with `OPS`; values are defined before they are used and not used outside their guard; nothing follows a
jump or an exit in the same guard; and within an instruction no operation that may fault comes after an effect, unless
the instruction is restartable.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import FLOAT_OPS, OPS, SIMD_OPS
from aiopyvm.ir.registers import TYPES
from aiopyvm.ir.types import F80, I1, I8, I16, I32, Type

_SAME = frozenset(
    "add sub mul and or xor shl shr sar udiv urem sdiv srem eq ult ule slt sle uadds sadds usubs ssubs".split()
)


class VerifyError(ValueError):
    """A malformed trace; the message names the operation and the rule."""


def _fail(op: Value, rule: str) -> VerifyError:
    return VerifyError(f"{op!r}: {rule}")


def _check_types(op: Value) -> None:
    spec = OPS.get(op.op)
    if spec is None:
        raise _fail(op, "no such operation")
    if spec.arity >= 0 and len(op.args) != spec.arity:
        raise _fail(op, f"takes {spec.arity} arguments")
    if (op.type is None) != (spec.result == ""):
        raise _fail(op, "result type does not fit")
    types = [arg.type for arg in op.args]
    if any(type_ is None for type_ in types):
        raise _fail(op, "an argument has no value")
    if op.op in _SAME and types[0] != types[1]:
        raise _fail(op, "argument types differ")
    if spec.result == "same" and op.type != types[0]:
        raise _fail(op, "result type differs from the first argument's")
    if spec.result == "i1" and (op.type is None or op.type.bits != 1 or op.type.lanes != _lanes(types[0])):
        raise _fail(op, "result is not i1, one for each lane")
    _check_special(op)


def _lanes(type_: Type | None) -> int:
    return type_.lanes if type_ is not None else 0


def _check_special(op: Value) -> None:
    types = [arg.type for arg in op.args]
    match op.op:
        case "select" if not _is_condition(types[0], op.type) or types[1] != op.type or types[2] != op.type:
            raise _fail(op, "needs i1 and two values of the result type")
        case "zext" | "sext" | "trunc" if _lanes(op.type) != _lanes(types[0]):
            raise _fail(op, "changes the number of lanes")
        case "zext" | "sext" if op.bits <= op.args[0].bits:
            raise _fail(op, "does not widen")
        case "trunc" if op.bits >= op.args[0].bits:
            raise _fail(op, "does not narrow")
        case "permute" if op.bits != op.args[1].bits or _lanes(op.type) != _lanes(types[1]):
            raise _fail(op, "the lanes that choose are not like those that are chosen")
        case "extract" | "insert" if not 0 <= op.attr < _lanes(types[0]):
            raise _fail(op, "no such lane")
        case "shuffle" if types[0] != types[1] or not all(0 <= lane < 2 * _lanes(types[0]) for lane in op.attr):
            raise _fail(op, "no such lane, or two kinds of vectors")
        case "bitcast" if op.bits != op.args[0].bits:
            raise _fail(op, "changes the size")
        case "get" | "set":
            value = op if op.op == "get" else op.args[0]
            if TYPES.get(op.attr) != value.type:
                raise _fail(op, f"no register of that name is {value.type}")
        case "getfp" | "setfp" if types[0] != I8 or (op if op.op == "getfp" else op.args[1]).type != F80:
            raise _fail(op, "takes an i8 index and f80")
        case "load" | "store" | "probe" | "jump" if types[0] != I32:
            raise _fail(op, "address is not i32")
        case "when" if types[0] != I1:
            raise _fail(op, "condition is not i1")
        case "fault" if types != [I1, I32]:
            raise _fail(op, "takes i1 and i32")
        case "fexc" if op.args[0].op not in FLOAT_OPS:
            raise _fail(op, "argument is no floating-point operation")
        case name if name in FLOAT_OPS and types[-1] != I16:
            raise _fail(op, "control word is not i16")
        case name if name in SIMD_OPS and types[-1] != I32:
            raise _fail(op, "MXCSR is not i32")
        case "raise" if any(arg.op not in SIMD_OPS for arg in op.args):
            raise _fail(op, "argument is no SIMD operation")


def _is_condition(condition: Type | None, result: Type | None) -> bool:
    assert condition is not None
    assert result is not None
    return condition.bits == 1 and condition.lanes in (1, result.lanes)


class _Scopes:
    """Which values may be used: a stack of guards, each with what it defined."""

    def __init__(self) -> None:
        self.stack: list[set[Value]] = [set()]
        self.ended = [False]  # an instruction's jump or exit was seen in this guard

    def use(self, op: Value) -> None:
        for arg in op.args:
            if not any(arg in scope for scope in self.stack):
                raise _fail(op, f"uses {arg!r}, which is not defined here")

    def enter(self) -> None:
        self.stack.append(set())
        self.ended.append(False)

    def leave(self, op: Value) -> None:
        if len(self.stack) == 1:
            raise _fail(op, "no guard is open")
        self.stack.pop()
        self.ended.pop()


def _may_fault(op: Value) -> bool:
    if op.op == "helper":
        return bool(op.attr.faults)
    return OPS[op.op].faults


def _covered(op: Value, probed: dict[Value, tuple[int, bool]]) -> bool:
    """Tell whether a probe of the same address already stands for this access."""
    if op.op not in ("load", "store") or op.args[0] not in probed:
        return False
    size, write = probed[op.args[0]]
    value = op if op.op == "load" else op.args[1]
    return value.bits // 8 <= size and (write or op.op == "load")


def verify(ops: Sequence[Value]) -> None:
    """Raise `VerifyError` at the first operation that breaks a rule. `ops` is one instruction or several."""
    scopes = _Scopes()
    effect: Value | None = None
    restartable = False
    probed: dict[Value, tuple[int, bool]] = {}
    silent: set[Value] = set()  # SIMD operations whose exceptions were not raised
    for op in ops:
        _check_types(op)
        scopes.use(op)
        if op.op in SIMD_OPS:
            silent.add(op)
        elif op.op == "raise":
            silent.difference_update(op.args)
        if silent and (op.op == "insn" or OPS[op.op].effect):
            raise _fail(op, "exceptions of SIMD operations before it are not raised")
        if op.op == "insn":
            effect, restartable = None, op.attr[0].row.restartable
            probed.clear()
            scopes.ended[-1] = False
        elif op.op == "end":
            scopes.leave(op)
            continue
        elif scopes.ended[-1] and op.op != "const":
            raise _fail(op, "follows a jump or an exit")
        if _may_fault(op) and effect is not None and not restartable and not _covered(op, probed):
            raise _fail(op, f"may fault after the effect {effect!r}")
        if op.op == "probe":
            probed[op.args[0]] = op.attr
        if OPS[op.op].effect:
            effect = op if effect is None else effect
        if op.op in ("jump", "exit"):
            scopes.ended[-1] = True
        if op.op == "when":
            scopes.enter()
        elif op.type is not None:
            scopes.stack[-1].add(op)
    if silent:
        raise VerifyError("exceptions of SIMD operations are not raised")
    if len(scopes.stack) != 1:
        raise VerifyError("a guard is not closed")


def flag_effects(ops: Sequence[Value], flags: frozenset[str]) -> tuple[set[str], set[str]]:
    """The flags that a trace reads (before it writes them) and writes."""
    reads: set[str] = set()
    writes: set[str] = set()
    for op in ops:
        if op.op == "get" and op.attr in flags and op.attr not in writes:
            reads.add(op.attr)
        elif op.op == "set" and op.attr in flags:
            writes.add(op.attr)
    return reads, writes

"""Rewrites that hold for every machine: `simplify(op, type, args)` gives a simpler value equal to the operation, or
None.

They are what turns the flags of a compare and the condition of the branch behind it into one comparison: SF xor OF,
where OF is defined as (x < y) xor SF, is x < y; CF or ZF is x <= y; ZF of a difference is x = y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.ir.types import Type

_NEUTRAL_RIGHT: Final = frozenset("add sub or xor shl shr sar".split())
_NEUTRAL_LEFT: Final = frozenset("add or xor".split())


def _is(value: Value, op: str) -> bool:
    return value.op == op


def _xor(type_: Type, x: Value, y: Value) -> Value | None:
    if x is y:
        return x.builder.const(0, type_)
    for a, b in ((x, y), (y, x)):
        if _is(b, "xor") and a in b.args:  # a ^ (a ^ c) = c
            return b.args[1] if b.args[0] is a else b.args[0]
    if y.op == "const" and y.attr == type_.mask:
        return ~x
    return None


def _or(type_: Type, x: Value, y: Value) -> Value | None:
    if x is y:
        return x
    if _is(x, "or") and y in x.args:
        return x
    if _is(y, "or") and x in y.args:
        return y
    for a, b in ((x, y), (y, x)):
        if a.op in ("ult", "slt") and _is(b, "eq") and set(a.args) == set(b.args):
            return a.builder.pure("ule" if a.op == "ult" else "sle", type_, a.args)
    return None


def _and(type_: Type, x: Value, y: Value) -> Value | None:
    if x is y:
        return x
    if y.op == "const":
        if y.attr == type_.mask:
            return x
        if y.attr == 0:
            return y
        if _is(x, "and") and x.args[1].op == "const":
            return x.args[0] & (int(x.args[1].attr) & int(y.attr))
        if _is(x, "add") and _is_masked_by(x.args[0], int(y.attr)):  # ((x & 7) + n) & 7: a register number
            return (x.args[0].args[0] + x.args[1]) & y
    if _is(x, "or") and y in x.args:  # (a | b) & b = b
        return y
    return x if _is(y, "or") and x in y.args else None


def _is_masked_by(x: Value, mask: int) -> bool:
    """Tell whether `x` is something & `mask`, all ones from bit 0."""
    return _is(x, "and") and x.args[1].op == "const" and x.args[1].attr == mask and mask & (mask + 1) == 0


def _eq(type_: Type, x: Value, y: Value) -> Value | None:
    if x is y:
        return x.builder.const(1, type_)
    if y.op == "const" and y.attr == 0 and x.op in ("sub", "xor"):
        return x.args[0].eq(x.args[1])
    if y.op == "const" and _is(x, "add") and x.args[1].op == "const":
        return x.args[0].eq(int(y.attr) - int(x.args[1].attr))
    return None


def _sub(type_: Type, x: Value, y: Value) -> Value | None:
    if y.op == "const":  # sums of constants fold, whichever way they are written
        return x + (-int(y.attr) & type_.mask)
    return x.builder.const(0, type_) if x is y else None


def _add(type_: Type, x: Value, y: Value) -> Value | None:
    if y.op == "const" and _is(x, "add") and x.args[1].op == "const":
        return x.args[0] + (int(x.args[1].attr) + int(y.attr))
    return y + x if x.op == "const" and y.op != "const" else None


def _not(type_: Type, x: Value) -> Value | None:
    return x.args[0] if _is(x, "not") else None


def _has_no_low_bits(x: Value, bits: int) -> bool:
    """Tell whether the low `bits` of `x` are surely 0."""
    known = x if x.op == "const" else x.args[1] if x.op in ("and", "shl") and x.args[1].op == "const" else None
    if known is None:
        return False
    return bool(known.attr >= bits) if x.op == "shl" else known.attr & (1 << bits) - 1 == 0


def _trunc(type_: Type, x: Value) -> Value | None:
    """Low bits of a widened, narrowed, masked or patched value: look through what does not touch them."""
    mask = type_.mask
    if x.op in ("zext", "sext"):
        inner = x.args[0]
        if inner.type == type_:
            return inner
        return inner.trunc(type_.size) if inner.bits > type_.size else None
    if _is(x, "trunc"):
        return x.args[0].trunc(type_.size)
    if _is(x, "and") and x.args[1].op == "const" and x.args[1].attr & mask == mask:
        return x.args[0].trunc(type_.size)
    if _is(x, "or"):  # a byte or word just written into a register
        for kept, new in (x.args, x.args[::-1]):
            if _has_no_low_bits(kept, type_.size):
                return new.trunc(type_.size)
    return None


def _zext(type_: Type, x: Value) -> Value | None:
    return x.args[0].zext(type_.size) if _is(x, "zext") else None


_RULES: Final[dict[str, Callable[..., Value | None]]] = {
    "xor": _xor,
    "or": _or,
    "and": _and,
    "eq": _eq,
    "sub": _sub,
    "add": _add,
    "not": _not,
    "trunc": _trunc,
    "zext": _zext,
}


_OF_ANY: Final = frozenset({"xor", "or", "and", "not"})  # rules that hold of vectors too


def simplify(op: str, type_: Type, args: tuple[Value, ...]) -> Value | None:
    """A simpler value equal to op(args), where a rule finds one."""
    if op == "select":
        condition, yes, no = args
        if condition.op == "const" and condition.type is not None and condition.type.lanes == 1:
            return yes if condition.attr else no
        return yes if yes is no else None
    if len(args) == 2:
        x, y = args
        if y.op == "const" and not y.attr and op in _NEUTRAL_RIGHT:
            return x
        if x.op == "const" and not x.attr and op in _NEUTRAL_LEFT:
            return y
    rule = _RULES.get(op)
    if rule is not None and (args[0].type is None or args[0].type.lanes > 1) and op not in _OF_ANY:
        return None
    return rule(type_, *args) if rule is not None else None

"""Pure integer operations as LLVM expressions: `integer_text(text, op, arguments)`.

LLVM leaves a shift by the width or more undefined, where `ir.ops` says what it gives: shifts whose count is known to
be small are written as they are, narrow ones in 64 bits, and only the others are guarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.ir.builder import Value

_BINARY: Final = frozenset("add sub mul and or xor udiv urem sdiv srem".split())
_COMPARE: Final = {"eq": "eq", "ult": "ult", "ule": "ule", "slt": "slt", "sle": "sle"}
_SHIFT: Final = {"shl": "shl", "shr": "lshr", "sar": "ashr"}
SATURATING: Final = {"uadds": "uadd", "sadds": "sadd", "usubs": "usub", "ssubs": "ssub"}
_COUNT: Final = {"clz": "ctlz", "ctz": "cttz"}
_WORD: Final = 64
_FP_REGISTERS: Final = 7  # the largest TOP


def most(value: Value) -> int:
    """An upper bound of an integer value, from its operations alone."""
    if value.op == "const":
        return int(value.attr)
    limit: int = (1 << value.bits) - 1
    if value.op == "get" and value.attr == "ftop":
        return _FP_REGISTERS
    if value.op == "and":
        return min(most(value.args[0]), most(value.args[1]))
    if value.op in ("zext", "trunc", "urem"):
        if value.op == "urem" and value.args[1].op == "const":
            return min(limit, int(value.args[1].attr) - 1)
        return min(limit, most(value.args[0]))
    if value.op == "sub" and value.args[0].op == "const" and most(value.args[1]) <= value.args[0].attr:
        return int(value.args[0].attr)
    if value.op == "add" and most(value.args[0]) + most(value.args[1]) <= limit:
        return most(value.args[0]) + most(value.args[1])
    return limit


def _shift(text: Text, op: Value, x: str, n: str) -> str:
    bits, name = op.bits, _SHIFT[op.op]
    count = op.args[1]
    if count.op == "const" and count.attr >= bits:
        if op.op != "sar":
            return "0"
        return text.value(f"ashr i{bits} {x}, {bits - 1}")
    if most(count) < bits:
        return text.value(f"{name} i{bits} {x}, {n}")
    if bits < _WORD and most(count) < _WORD:
        wide = text.value(f"{'sext' if op.op == 'sar' else 'zext'} i{bits} {x} to i{_WORD}")
        by = text.value(f"zext i{bits} {n} to i{_WORD}")
        shifted = text.value(f"{name} i{_WORD} {wide}, {by}")
        return text.value(f"trunc i{_WORD} {shifted} to i{bits}")
    small = text.value(f"icmp ult i{bits} {n}, {bits}")
    if op.op == "sar":
        by = text.value(f"select i1 {small}, i{bits} {n}, i{bits} {bits - 1}")
        return text.value(f"ashr i{bits} {x}, {by}")
    by = text.value(f"select i1 {small}, i{bits} {n}, i{bits} 0")
    shifted = text.value(f"{name} i{bits} {x}, {by}")
    return text.value(f"select i1 {small}, i{bits} {shifted}, i{bits} 0")


def _select(text: Text, op: Value, c: str, x: str, y: str) -> str:
    return text.value(f"select i1 {c}, i{op.bits} {x}, i{op.bits} {y}")


def _cast(text: Text, op: Value, x: str) -> str:
    return text.value(f"{op.op} i{op.args[0].bits} {x} to i{op.bits}")


def _count(text: Text, op: Value, x: str) -> str:
    return text.value(f"call i{op.bits} @llvm.{_COUNT[op.op]}.i{op.bits}(i{op.bits} {x}, i1 false)")


def _popcnt(text: Text, op: Value, x: str) -> str:
    return text.value(f"call i{op.bits} @llvm.ctpop.i{op.bits}(i{op.bits} {x})")


def parity(text: Text, byte: str) -> str:
    """1 where the i8 `byte` has an even number of ones (i1)."""
    ones = text.value(f"call i8 @llvm.ctpop.i8(i8 {byte})")
    odd = text.value(f"and i8 {ones}, 1")
    return text.value(f"icmp eq i8 {odd}, 0")


_OTHER: Final[dict[str, Callable[..., str]]] = {
    "shl": _shift,
    "shr": _shift,
    "sar": _shift,
    "not": lambda text, op, x: text.value(f"xor i{op.bits} {x}, -1"),
    "neg": lambda text, op, x: text.value(f"sub i{op.bits} 0, {x}"),
    "select": _select,
    "zext": _cast,
    "sext": _cast,
    "trunc": _cast,
    "clz": _count,
    "ctz": _count,
    "popcnt": _popcnt,
    "parity": lambda text, op, x: parity(text, x),
    "bitcast": lambda text, op, x: x,  # every value is held as the integer of its bits
}


def integer_text(text: Text, op: Value, arguments: Sequence[str]) -> str:
    """Write a pure integer operation of those names; its value's name."""
    if op.op in _BINARY:
        return text.value(f"{op.op} i{op.bits} {arguments[0]}, {arguments[1]}")
    if op.op in SATURATING:
        kind = f"i{op.bits}"
        return text.value(
            f"call {kind} @llvm.{SATURATING[op.op]}.sat.{kind}({kind} {arguments[0]}, {kind} {arguments[1]})"
        )
    if op.op in _COMPARE:
        return text.value(f"icmp {_COMPARE[op.op]} i{op.args[0].bits} {arguments[0]}, {arguments[1]}")
    return _OTHER[op.op](text, op, *arguments)


def constant(value: int, bits: int) -> str:
    """A constant as LLVM reads it."""
    if bits == 1:
        return "true" if value else "false"
    return str(value - (1 << bits) if value >> (bits - 1) else value)

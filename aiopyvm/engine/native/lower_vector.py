"""Pure operations on vectors as LLVM expressions: `pure_text(text, op, arguments)`, for scalars too.

A vector is an LLVM vector of integers, whatever its lanes are to the IR; a scalar is the integer of its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiopyvm.engine.native.hostcpu import has
from aiopyvm.engine.native.llvmtext import NUMBERS, Text
from aiopyvm.engine.native.lower_host import host_text
from aiopyvm.engine.native.lower_integer import SATURATING, constant, integer_text
from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import Type

_BINARY: Final = frozenset("add sub mul and or xor".split())
_COMPARE: Final = frozenset("eq ult ule slt sle".split())
_SHIFT: Final = {"shl": "shl", "shr": "lshr", "sar": "ashr"}
_COUNT: Final = {"clz": "ctlz", "ctz": "cttz"}


def llvm_type(type_: Type | None) -> str:
    """The LLVM type of values of a type."""
    assert type_ is not None
    return f"i{type_.bits}" if type_.lanes == 1 else f"<{type_.lanes} x i{type_.bits}>"


def constant_text(value: Value) -> str:
    """A constant, scalar or vector, as LLVM reads it."""
    type_ = value.type
    assert type_ is not None
    if type_.lanes == 1:
        return constant(value.attr, value.bits)
    if not value.attr:
        return "zeroinitializer"
    return _lanes(type_.split(value.attr), type_.bits)


def _lanes(lanes: Sequence[int], bits: int) -> str:
    return "<" + ", ".join(f"i{bits} {constant(lane, bits)}" for lane in lanes) + ">"


def _splatted(op: Value, lane: int) -> str:
    assert op.type is not None
    return _lanes([lane] * op.type.lanes, op.type.bits)


def _suffix(type_: Type | None) -> str:
    assert type_ is not None
    return f"v{type_.lanes}i{type_.bits}" if type_.lanes > 1 else f"i{type_.bits}"


def _shift(text: Text, op: Value, x: str, n: str) -> str:
    """A lane's count may be its width or more: `ir.ops` says what that gives."""
    kind, bits, name = llvm_type(op.type), op.type.bits if op.type else 0, _SHIFT[op.op]
    if op.args[1].op == "const" and op.type is not None and max(op.type.split(op.args[1].attr)) < bits:
        return text.value(f"{name} {kind} {x}, {n}")
    lanes = op.type.lanes if op.type else 0
    small = text.value(f"icmp ult {kind} {n}, {_splatted(op, bits)}")
    most = _splatted(op, bits - 1)
    by = text.value(f"select <{lanes} x i1> {small}, {kind} {n}, {kind} {most}")
    shifted = text.value(f"{name} {kind} {x}, {by}")
    if op.op == "sar":
        return shifted
    return text.value(f"select <{lanes} x i1> {small}, {kind} {shifted}, {kind} zeroinitializer")


def _select(text: Text, op: Value, c: str, x: str, y: str) -> str:
    kind = llvm_type(op.type)
    return text.value(f"select {llvm_type(op.args[0].type)} {c}, {kind} {x}, {kind} {y}")


def _cast(text: Text, op: Value, x: str) -> str:
    return text.value(f"{op.op} {llvm_type(op.args[0].type)} {x} to {llvm_type(op.type)}")


def _bitcast(text: Text, op: Value, x: str) -> str:
    source, target = llvm_type(op.args[0].type), llvm_type(op.type)
    if text.is_number(x) and source != target:
        x, source = text.as_number(x, op.bits), NUMBERS[op.bits]
    return x if source == target else text.value(f"bitcast {source} {x} to {target}")


def _counted(text: Text, op: Value, x: str) -> str:
    kind, suffix = llvm_type(op.type), _suffix(op.type)
    return text.value(f"call {kind} @llvm.{_COUNT[op.op]}.{suffix}({kind} {x}, i1 false)")


def _popcnt(text: Text, op: Value, x: str) -> str:
    kind = llvm_type(op.type)
    return text.value(f"call {kind} @llvm.ctpop.{_suffix(op.type)}({kind} {x})")


def _splat(text: Text, op: Value, x: str) -> str:
    kind = llvm_type(op.type)
    lanes = op.type.lanes if op.type else 0
    first = _with_lane(text, op, "poison", x, 0)
    return text.value(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")


def _with_lane(text: Text, op: Value, vector: str, lane: str, number: int) -> str:
    """`vector`, of the type of `op`, with another lane: as numbers where that is one."""
    assert op.type is not None
    kind, bits = llvm_type(op.type), op.type.bits
    if not text.is_number(lane):
        return text.value(f"insertelement {kind} {vector}, i{bits} {lane}, i64 {number}")
    numbers = f"<{op.type.lanes} x {NUMBERS[bits]}>"
    if vector.startswith("%"):
        vector = text.value(f"bitcast {kind} {vector} to {numbers}")
    elif vector.startswith("<"):
        vector = f"bitcast ({kind} {vector} to {numbers})"
    found = text.value(f"insertelement {numbers} {vector}, {NUMBERS[bits]} {text.as_number(lane, bits)}, i64 {number}")
    return text.value(f"bitcast {numbers} {found} to {kind}")


def _extract(text: Text, op: Value, x: str) -> str:
    return text.value(f"extractelement {llvm_type(op.args[0].type)} {x}, i64 {op.attr}")


def _insert(text: Text, op: Value, x: str, y: str) -> str:
    return _with_lane(text, op, x, y, op.attr)


def _shuffle(text: Text, op: Value, x: str, y: str) -> str:
    kind = llvm_type(op.args[0].type)
    mask = ", ".join(f"i32 {lane}" for lane in op.attr)
    return text.value(f"shufflevector {kind} {x}, {kind} {y}, <{len(op.attr)} x i32> <{mask}>")


def _permute(text: Text, op: Value, x: str, y: str) -> str:
    """Lane by lane, but where the host has an instruction for it."""
    assert op.type is not None
    table, kind = op.args[0].type, llvm_type(op.type)
    assert table is not None
    lanes = table.lanes
    numbers = text.value(f"and {kind} {y}, {_splatted(op, lanes - 1)}")
    if (op.type.bits, op.type.lanes, lanes) == (8, 16, 16) and has("ssse3"):
        return text.value(f"call {kind} @llvm.x86.ssse3.pshuf.b.128({kind} {x}, {kind} {numbers})")
    if (op.type.bits, op.type.lanes, lanes) == (32, 8, 8) and has("avx2"):
        return text.value(f"call {kind} @llvm.x86.avx2.permd({kind} {x}, {kind} {numbers})")
    result = "poison"
    for lane in range(op.type.lanes):
        number = text.value(f"extractelement {kind} {numbers}, i64 {lane}")
        found = text.value(f"extractelement {llvm_type(table)} {x}, i{op.type.bits} {number}")
        result = text.value(f"insertelement {kind} {result}, i{op.type.bits} {found}, i64 {lane}")
    return result


_OTHER: Final[dict[str, Callable[..., str]]] = {
    "not": lambda text, op, x: text.value(f"xor {llvm_type(op.type)} {x}, {_splatted(op, (1 << op.type.bits) - 1)}"),
    "neg": lambda text, op, x: text.value(f"sub {llvm_type(op.type)} zeroinitializer, {x}"),
    "select": _select,
    "zext": _cast,
    "sext": _cast,
    "trunc": _cast,
    "bitcast": _bitcast,
    "clz": _counted,
    "ctz": _counted,
    "popcnt": _popcnt,
    "splat": _splat,
    "extract": _extract,
    "insert": _insert,
    "shuffle": _shuffle,
    "permute": _permute,
}


def _of_vectors(text: Text, op: Value, arguments: Sequence[str]) -> str:
    name = op.op
    if name in _BINARY:
        return text.value(f"{name} {llvm_type(op.type)} {arguments[0]}, {arguments[1]}")
    if name in _COMPARE:
        return text.value(f"icmp {name} {llvm_type(op.args[0].type)} {arguments[0]}, {arguments[1]}")
    if name in _SHIFT:
        return _shift(text, op, *arguments)
    if name in SATURATING:
        kind, function = llvm_type(op.type), f"@llvm.{SATURATING[name]}.sat.{_suffix(op.type)}"
        return text.value(f"call {kind} {function}({kind} {arguments[0]}, {kind} {arguments[1]})")
    return _OTHER[name](text, op, *arguments)


def is_vector(value: Value) -> bool:
    """Tell whether a value is a vector."""
    return value.type is not None and value.type.lanes > 1


def pure_text(text: Text, op: Value, arguments: Sequence[str]) -> str:
    """Write a pure operation, one that moves lanes, or a helper of the host, of those names; its value's name."""
    if op.op == "helper":
        return host_text(text, op, arguments)
    if is_vector(op) or any(map(is_vector, op.args)):
        return _of_vectors(text, op, arguments)
    return integer_text(text, op, arguments)


__all__ = ["constant_text", "is_vector", "llvm_type", "pure_text"]

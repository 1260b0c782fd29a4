"""Flags as raw words (`layout.FLAG_ARGUMENTS`): the word that stands for a traced flag, and the flag that a word means.

A flag is traced as an i1: `eq(r, 0)`, the top bit of a result, the parity of a byte. Where it has such a form, its word
is a value that exists anyway; any other i1 is widened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.engine.native.lower_integer import parity
from aiopyvm.ir.builder import Value

_CONSTANT: Final = {  # words for a clear and a set flag
    "zf": ("1", "0"), "sf": ("0", "-1"), "pf": ("1", "0"), "cf": ("0", "1"), "of": ("0", "-1"), "af": ("0", "16"),
}  # fmt: skip


class Names(Protocol):
    """Gives the LLVM name of a traced value."""

    def __call__(self, value: Value) -> str: ...


def flag_of_word(text: Text, flag: str, word: str) -> str:
    """The flag (i1) that an i32 word means."""
    if flag == "zf":
        return text.value(f"icmp eq i32 {word}, 0")
    if flag in ("sf", "of"):
        return text.value(f"icmp slt i32 {word}, 0")
    if flag == "pf":
        return parity(text, text.value(f"trunc i32 {word} to i8"))
    if flag == "cf":
        return text.value(f"trunc i32 {word} to i1")
    bit = text.value(f"and i32 {word}, 16")
    return text.value(f"icmp ne i32 {bit}, 0")


def word_of_flag(text: Text, flag: str, value: Value, names: Names) -> str:
    """An i32 word that means the traced flag `value` (i1)."""
    if value.op == "const":
        return _CONSTANT[flag][value.attr]
    word = _FORMS[flag](text, value, names)
    if word:
        return word
    return _generic(text, flag, names(value))


def _generic(text: Text, flag: str, bit: str) -> str:
    if flag in ("zf", "pf"):
        return text.value(f"zext i1 {text.value(f'xor i1 {bit}, true')} to i32")
    return text.value(f"{'zext' if flag == 'cf' else 'sext'} i1 {bit} to i32")


def widened(text: Text, name: str, bits: int) -> str:
    """The low 32 bits of an integer, zero-extended."""
    if bits == 32:
        return name
    return text.value(f"{'zext' if bits < 32 else 'trunc'} i{bits} {name} to i32")


def _zero(text: Text, value: Value, names: Names) -> str:
    if value.op == "not" and value.args[0].op == "eq":  # x != 0 for a bit
        return ""
    if value.op != "eq" or value.args[0].bits > 32:
        return ""
    x, y = value.args
    bits = x.bits
    if y.op == "const" and not y.attr:
        return widened(text, names(x), bits)
    if y.op == "const":  # as the sum that was compared with 0 has it
        return widened(text, text.value(f"add i{bits} {names(x)}, {_signed(-int(y.attr), bits)}"), bits)
    return widened(text, text.value(f"sub i{bits} {names(x)}, {names(y)}"), bits)


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _shifted_bit(value: Value) -> tuple[Value, int] | None:
    """The integer and the number of the bit that an i1 is."""
    if value.op != "trunc":
        return None
    source = value.args[0]
    if source.op == "shr" and source.args[1].op == "const":
        return source.args[0], int(source.args[1].attr)
    return source, 0


def _to_top(text: Text, name: str, bits: int, number: int) -> str:
    """An i32 whose bit 31 is bit `number` of the integer."""
    if bits > 32 and number > 31:
        name, number, bits = text.value(f"lshr i{bits} {name}, {number - 31}"), 31, bits
    word = widened(text, name, bits)
    return text.value(f"shl i32 {word}, {31 - number}") if number < 31 else word


def _sign(text: Text, value: Value, names: Names) -> str:
    found = _shifted_bit(value)
    if found is None:
        return ""
    source, number = found
    return _to_top(text, names(source), source.bits, number)


def _overflow(text: Text, value: Value, names: Names) -> str:
    difference = _difference(value)
    if difference is None:
        return _sign(text, value, names)
    x, y, result = difference
    bits = x.bits
    first = text.value(f"xor i{bits} {names(x)}, {names(y)}")
    second = text.value(f"xor i{bits} {names(x)}, {names(result)}")
    return _to_top(text, text.value(f"and i{bits} {first}, {second}"), bits, bits - 1)


def _difference(value: Value) -> tuple[Value, Value, Value] | None:
    """x, y and x - y of the overflow (x < y) xor sign(x - y)."""
    if value.op != "xor" or value.args[0].op != "slt":
        return None
    x, y = value.args[0].args
    found = _shifted_bit(value.args[1])
    if found is None or found[1] != x.bits - 1:
        return None
    result = found[0]
    if result.bits == x.bits and _is_difference(x, y, result):
        return x, y, result
    return None


def _is_difference(x: Value, y: Value, result: Value) -> bool:
    if result.op == "sub":
        return result.args[0] is x and result.args[1] is y
    if result.op == "neg":
        return x.op == "const" and not x.attr and result.args[0] is y
    if result.op == "add" and y.op == "const" and result.args[1].op == "const":
        return result.args[0] is x and (result.args[1].attr + y.attr) & y.type.mask == 0 if y.type else False
    return False


def _parity(text: Text, value: Value, names: Names) -> str:
    if value.op != "parity":
        return ""
    byte = value.args[0]
    source = byte.args[0] if byte.op in ("trunc", "zext") else byte
    if source.bits < 8:
        source = byte
    return widened(text, names(source), source.bits)


def _adjust(text: Text, value: Value, names: Names) -> str:
    found = _shifted_bit(value)
    if found is None or found[1] != 4:
        return ""
    return widened(text, names(found[0]), found[0].bits)


def _carry(text: Text, value: Value, names: Names) -> str:
    return ""


_FORMS: Final[dict[str, Callable[[Text, Value, Names], str]]] = {
    "zf": _zero,
    "sf": _sign,
    "pf": _parity,
    "cf": _carry,
    "of": _overflow,
    "af": _adjust,
}

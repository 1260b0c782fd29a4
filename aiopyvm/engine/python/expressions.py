"""Pure IR operations as Python expressions: `expression(op, arguments, bounds)` gives source text and how many bits it
can have.

Values are non-negative ints (an i1 may be a bool). `bounds` are upper limits on the arguments' bit lengths; where they
show that a result fits, no mask is written. Every expression is parenthesised, or an atom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.ir.pure import signed

Text = tuple[str, int]


def _masked(text: str, bound: int, bits: int) -> Text:
    return (f"({text})", bound) if bound <= bits else (f"({text}&{(1 << bits) - 1:#x})", bits)


def _const(op: Value) -> int | None:
    return int(op.attr) if op.op == "const" else None


def _signed(text: str, bits: int, bound: int) -> str:
    """The argument read as two's complement."""
    if bound < bits:
        return text
    half = 1 << (bits - 1)
    return f"(({text}^{half:#x})-{half:#x})"


def _biased(arg: Value, text: str, bits: int, bound: int) -> str:
    """The argument with its sign bit flipped: unsigned order is then the signed order."""
    half = 1 << (bits - 1)
    constant = _const(arg)
    if constant is not None:
        return hex(constant ^ half)
    return f"({text}+{half:#x})" if bound < bits else f"({text}^{half:#x})"


def _add(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    constant = _const(op.args[1])
    if constant is not None and constant >> (op.bits - 1):
        return f"({a[0]}-{(1 << op.bits) - constant}&{(1 << op.bits) - 1:#x})", op.bits
    return _masked(f"{a[0]}+{a[1]}", max(n) + 1, op.bits)


def _shl(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    count = _const(op.args[1])
    if count is not None:
        return _masked(f"{a[0]}<<{count}", n[0] + count, op.bits) if count < op.bits else ("0", 0)
    if n[1] < 8 and (1 << n[1]) - 1 < op.bits:
        return _masked(f"({a[0]}<<{a[1]})", n[0] + (1 << n[1]) - 1, op.bits)
    return f"(({a[0]}<<{a[1]}&{(1 << op.bits) - 1:#x}) if {a[1]}<{op.bits} else 0)", op.bits


def _shr(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    count = _const(op.args[1])
    if count is None:
        return f"({a[0]}>>{a[1]})", n[0]
    return (f"({a[0]}>>{count})", n[0] - count) if count < n[0] else ("0", 0)


def _sar(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    if n[0] < op.bits:
        return f"({a[0]}>>{a[1]})", n[0]
    return f"({_signed(a[0], op.bits, n[0])}>>{a[1]}&{(1 << op.bits) - 1:#x})", op.bits


def _sext(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    source = op.args[0].bits
    if n[0] < source:
        return a[0], n[0]
    return f"({_signed(a[0], source, n[0])}&{(1 << op.bits) - 1:#x})", op.bits


def _not(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    if op.bits == 1:
        return f"(not {a[0]})", 1
    return f"({a[0]}^{(1 << op.bits) - 1:#x})", op.bits


def _signed_order(sign: str) -> Callable[[Value, Sequence[str], Sequence[int]], Text]:
    def compare(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
        bits = op.args[0].bits
        if _const(op.args[1]) == 0 and sign == "<":
            return f"({a[0]}>{(1 << (bits - 1)) - 1:#x})", 1
        if n[0] < bits and n[1] < bits:
            return f"({a[0]}{sign}{a[1]})", 1
        x, y = (_biased(arg, text, bits, bound) for arg, text, bound in zip(op.args, a, n, strict=True))
        return f"({x}{sign}{y})", 1

    return compare


def _division(name: str) -> Callable[[Value, Sequence[str], Sequence[int]], Text]:
    return lambda op, a, n: (f"{name}({a[0]},{a[1]},{op.bits})", op.bits)


def _and(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
    constant = _const(op.args[1])
    if constant is not None and (constant + 1) & constant == 0 and constant.bit_length() >= n[0]:
        return a[0], n[0]
    return f"({a[0]}&{a[1]})", min(n)


def _saturated(sign: str) -> Callable[[Value, Sequence[str], Sequence[int]], Text]:
    """A signed sum ("+") or difference ("-") that stays in its range."""

    def render(op: Value, a: Sequence[str], n: Sequence[int]) -> Text:
        x, y = (_signed(text, op.bits, bound) for text, bound in zip(a, n, strict=True))
        half = 1 << (op.bits - 1)
        return f"(min(max({x}{sign}{y},{-half}),{half - 1})&{2 * half - 1:#x})", op.bits

    return render


_RENDER: Final[dict[str, Callable[[Value, Sequence[str], Sequence[int]], Text]]] = {
    "add": _add,
    "sub": lambda op, a, n: (f"({a[0]}-{a[1]}&{(1 << op.bits) - 1:#x})", op.bits),
    "mul": lambda op, a, n: _masked(f"{a[0]}*{a[1]}", n[0] + n[1], op.bits),
    "and": _and,
    "or": lambda op, a, n: (f"({a[0]}|{a[1]})", max(n)),
    "xor": lambda op, a, n: (f"({a[0]}^{a[1]})", max(n)),
    "not": _not,
    "neg": lambda op, a, n: (f"(-{a[0]}&{(1 << op.bits) - 1:#x})", op.bits),
    "shl": _shl,
    "shr": _shr,
    "sar": _sar,
    "udiv": lambda op, a, n: (f"({a[0]}//{a[1]})", n[0]),
    "urem": lambda op, a, n: (f"({a[0]}%{a[1]})", min(n)),
    "sdiv": _division("sdiv"),
    "srem": _division("srem"),
    "eq": lambda op, a, n: (f"({a[0]}=={a[1]})", 1),
    "ult": lambda op, a, n: (f"({a[0]}<{a[1]})", 1),
    "ule": lambda op, a, n: (f"({a[0]}<={a[1]})", 1),
    "slt": _signed_order("<"),
    "sle": _signed_order("<="),
    "select": lambda op, a, n: (f"({a[1]} if {a[0]} else {a[2]})", max(n[1:])),
    "zext": lambda op, a, n: (a[0], n[0]),
    "sext": _sext,
    "trunc": lambda op, a, n: (a[0], n[0]) if n[0] <= op.bits else (f"({a[0]}&{(1 << op.bits) - 1:#x})", op.bits),
    "clz": lambda op, a, n: (f"({op.bits}-{a[0]}.bit_length())", op.bits.bit_length()),
    "ctz": lambda op, a, n: (f"(({a[0]}&-{a[0]}).bit_length()-1 if {a[0]} else {op.bits})", op.bits.bit_length()),
    "popcnt": lambda op, a, n: (f"{a[0]}.bit_count()", op.bits.bit_length()),
    "parity": lambda op, a, n: (f"PARITY[{a[0]}]", 1),
    "bitcast": lambda op, a, n: (a[0], n[0]),
    "uadds": lambda op, a, n: (f"min({a[0]}+{a[1]},{(1 << op.bits) - 1:#x})", op.bits),
    "usubs": lambda op, a, n: (f"max({a[0]}-{a[1]},0)", n[0]),
    "sadds": _saturated("+"),
    "ssubs": _saturated("-"),
}

USES_TWICE: Final = frozenset({"ctz"})  # operations whose text names its argument more than once: it must be an atom

PARITY: Final = bytes(1 - byte.bit_count() % 2 for byte in range(256))


def sdiv(x: int, y: int, bits: int) -> int:
    """Signed division, truncated toward zero (`sdiv` of the IR)."""
    a, b = signed(x, bits), signed(y, bits)
    quotient = abs(a) // abs(b)
    return (-quotient if (a < 0) != (b < 0) else quotient) & ((1 << bits) - 1)


def srem(x: int, y: int, bits: int) -> int:
    """Signed remainder with the dividend's sign (`srem` of the IR)."""
    a, b = signed(x, bits), signed(y, bits)
    remainder = abs(a) % abs(b)
    return (-remainder if a < 0 else remainder) & ((1 << bits) - 1)


def expression(op: Value, arguments: Sequence[str], bounds: Sequence[int]) -> Text:
    """The Python text of a pure operation, and an upper limit on its bit length."""
    return _RENDER[op.op](op, arguments, bounds)


def is_vector(value: Value) -> bool:
    """Tell whether a value is a vector."""
    return value.type is not None and value.type.lanes > 1

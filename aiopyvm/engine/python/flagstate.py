"""EFLAGS kept as what they would be computed from.

Between instructions the six arithmetic flags are a *thunk*: a function and up to three arguments, `fk(fa, fb, fc)`,
whose result has the flags at their EFLAGS positions, and `cf`: None when the thunk's CF counts, else CF itself (INC
and DEC keep it). What a thunk's function computes is taken from the traced instruction: `Thunks.make` compiles the
part of the flags' expressions that nothing else needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from aiopyvm.engine.python.expressions import PARITY, expression, is_vector, sdiv, srem
from aiopyvm.ir.builder import Value
from aiopyvm.ir.pure import PURE
from aiopyvm.isa.state import FLAG_BITS

ARITHMETIC: Final = ("cf", "pf", "af", "zf", "sf", "of")
WITHOUT_CARRY: Final = frozenset(ARITHMETIC) - {"cf"}

Thunk = Callable[[Any, Any, Any], int]


def packed(flags: int, _b: object = None, _c: object = None) -> int:
    """The thunk of flags that are known already: its first argument."""
    return flags


def force(fk: Thunk, fa: Any, fb: Any, fc: Any, cf: int | None) -> int:
    """The six flags at their EFLAGS positions."""
    flags = fk(fa, fb, fc)
    return flags if cf is None else flags & ~1 | cf


class Recipe:
    """How to compute some flags later: a thunk function, its name, and the values to keep for it."""

    __slots__ = ("function", "leaves", "name")

    def __init__(self, name: str, function: Thunk, leaves: tuple[Value, ...]) -> None:
        self.name = name
        self.function = function
        self.leaves = leaves


class Thunks:
    """Compiled thunk functions by what they compute, shared by everything that the engine generates.

    No more than `MOST` are kept: guests make up constants without end. No name is ever given twice.
    """

    MOST: Final = 1 << 12

    def __init__(self) -> None:
        self._functions: dict[str, tuple[str, Thunk]] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._functions)

    def make(self, flags: Mapping[str, Value], kept: Collection[Value]) -> Recipe:
        """The recipe for `flags` (name -> value), given values that are computed anyway."""
        leaves: dict[Value, str] = {}
        texts: dict[Value, tuple[str, int]] = {}
        lines: list[str] = []
        parts = [self._part(name, value, kept, leaves, texts, lines) for name, value in flags.items()]
        body = "\n ".join([*lines, "return " + ("|".join(part for part in parts if part != "0") or "0")])
        known = self._functions.get(body)
        if known is None:
            if len(self._functions) >= self.MOST:
                self._functions.clear()
            name = f"flags{self._made}"
            self._made += 1
            known = self._functions[body] = (name, _lazily(name, body, len(leaves)))
        return Recipe(*known, tuple(leaves))

    def _part(
        self, flag: str, value: Value, kept: Collection[Value], leaves: dict[Value, str],
        texts: dict[Value, tuple[str, int]], lines: list[str],
    ) -> str:  # fmt: skip
        text, _ = _render(value, kept, leaves, texts, lines)
        shift = FLAG_BITS[flag].bit_length() - 1
        return text if not shift or text == "0" else f"({text}<<{shift})"


def _render(
    value: Value,
    kept: Collection[Value],
    leaves: dict[Value, str],
    texts: dict[Value, tuple[str, int]],
    lines: list[str],
) -> tuple[str, int]:
    """The text of a value inside a thunk: constants, then kept values as its parameters, then the operation itself."""
    known = texts.get(value)
    if known is not None:
        return known
    if value.op == "const":
        result = hex(value.attr), int(value.attr).bit_length()
    elif value in kept or value.op not in PURE or any(map(is_vector, value.args)):
        leaves[value] = f"a{len(leaves)}"
        result = leaves[value], value.bits
    else:
        arguments = [_render(arg, kept, leaves, texts, lines) for arg in value.args]
        text, bound = expression(value, [text for text, _ in arguments], [bound for _, bound in arguments])
        name = f"t{len(lines)}"
        lines.append(f"{name}={text}")
        result = name, bound
    texts[value] = result
    return result


def _lazily(name: str, body: str, leaves: int) -> Thunk:
    """The thunk function, compiled when it is first called: most flags are never looked at."""
    compiled: list[Thunk] = []

    def thunk(fa: Any, fb: Any, fc: Any) -> int:
        if not compiled:
            compiled.append(_compile(name, body, leaves))
        return compiled[0](fa, fb, fc)

    return thunk


def _compile(name: str, body: str, leaves: int) -> Thunk:
    """A function of (fa, fb, fc); more than three leaves arrive as a tuple in fc."""
    names = [f"a{index}" for index in range(leaves)]
    parameters = names[:2] + (["rest"] if leaves > 3 else names[2:])
    parameters += ["_b", "_c"][-(3 - len(parameters)) :] if len(parameters) < 3 else []
    if leaves == 0:
        parameters = ["_a", "_b", "_c"]
    unpack = f"{','.join(names[2:])}=rest\n " if leaves > 3 else ""
    source = f"def {name}({','.join(parameters)}):\n {unpack}{body}\n"
    scope: dict[str, Any] = {"PARITY": PARITY, "sdiv": sdiv, "srem": srem}
    exec(compile(source, f"<{name}>", "exec"), scope)
    function: Thunk = scope[name]
    return function

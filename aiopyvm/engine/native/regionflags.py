"""The flags inside a region: not computed until somebody looks.

Where control leaves a run of nodes, the flags are told by a *recipe*, a number, and the values that it needs, in slots.
The carry has a recipe of its own, as INC and DEC leave it alone. Recipe 0 says that the words of the flags hold them.
Number and slots are local variables (`alloca`), which LLVM turns into values: where all ways into a node agree nothing
is left of them, and nothing is ever computed on a way that only overwrites flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.ir.pure import PURE

PARTS: Final = {"c": ("cf",), "r": ("zf", "sf", "pf", "of", "af")}
PART_OF: Final = {flag: part for part, flags in PARTS.items() for flag in flags}
SLOTS: Final = {"c": 2, "r": 3}
_SLOT_BITS: Final = 32

Holder = Callable[[Value], tuple[Value, int]]  # a value as another one, that is held anyway, plus a constant


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that a recipe begins with: what the slot holds, plus `offset`, is `value` in the recipe's flags."""

    value: Value
    held: Value
    offset: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to compute the flags of a part from its slots; `flags` are expressions over the `leaves`' values."""

    number: int
    flags: Mapping[str, Value]
    leaves: tuple[Leaf, ...]


class Recipes:
    """The recipes of one region, by what they compute. Number 0 is none of them."""

    def __init__(self) -> None:
        self.by_part: dict[str, list[Recipe]] = {"c": [], "r": []}
        self._known: dict[tuple[str, str], Recipe] = {}

    def find(
        self, part: str, flags: Mapping[str, Value], stops: Callable[[Value], bool], holder: Holder
    ) -> Recipe | None:
        """The recipe for a part's flags, and the values of its slots; None where there are too many of them.

        `stops` tells which values exist anyway; `holder` finds a register that holds one.
        """
        result = _result(flags)

        def wide(value: Value) -> bool:
            return value.bits > 1 and stops(value)

        def below(value: Value) -> bool:
            return value is not result and stops(value)

        ways = [_describe(part, flags, choice, holder) for choice in (wide, stops, below)]
        found = min((way for way in ways if way is not None), key=lambda way: len(way[2]), default=None)
        if found is None:
            return None
        text, spelt, leaves = found
        known = self._known.get((part, text))
        if known is None:
            recipes = self.by_part[part]
            known = self._known[part, text] = Recipe(len(recipes) + 1, spelt, leaves)
            recipes.append(known)
        return Recipe(known.number, spelt, leaves)


def _result(flags: Mapping[str, Value]) -> Value | None:
    """What the sign flag is the sign of."""
    sign = flags.get("sf")
    if sign is None or sign.op != "trunc":
        return None
    source = sign.args[0]
    return source.args[0] if source.op == "shr" and source.args[1].op == "const" else source


def _describe(
    part: str, flags: Mapping[str, Value], stops: Callable[[Value], bool], holder: Holder
) -> tuple[str, Mapping[str, Value], tuple[Leaf, ...]] | None:
    """What computes the flags as text, the same for the same computation; the flags over the leaves; the leaves."""
    leaves: list[Leaf] = []
    known: dict[Value, tuple[str, Value]] = {}

    def describe(value: Value) -> tuple[str, Value]:
        if value not in known:
            known[value] = spell(value)
        return known[value]

    def spell(value: Value) -> tuple[str, Value]:
        if value.op == "const":
            return f"{value.attr}:{value.bits}", value
        if value.bits <= _SLOT_BITS and (value.op not in PURE or stops(value)):
            leaf = Leaf(_stand_in(value), *holder(value))
            leaves.append(leaf)
            return f"s{len(leaves) - 1}:{value.bits}{leaf.offset:+d}", leaf.value
        if value.op not in PURE:
            raise OverflowError
        found = [describe(arg) for arg in value.args]
        args = tuple(arg for _, arg in found)
        rebuilt = value if args == value.args else Value(value.builder, value.op, value.type, args, value.attr)
        return f"{value.op}{value.bits}({','.join(text for text, _ in found)})", rebuilt

    try:
        parts = {flag: describe(flags[flag]) for flag in PARTS[part]}
    except (OverflowError, RecursionError):
        return None
    if len(leaves) > SLOTS[part]:
        return None
    text = ";".join(f"{flag}={text}" for flag, (text, _) in parts.items())
    return text, {flag: value for flag, (_, value) in parts.items()}, tuple(leaves)


def _stand_in(value: Value) -> Value:
    """What stands for a leaf in a recipe: where a flag's word would be made of what the leaf was computed from, which
    the recipe has not, a value that shows nothing of it. (Of a sum or difference no more than that it is one is asked.)
    """
    if value.op not in PURE or value.op in ("add", "sub", "neg"):
        return value
    return Value(value.builder, "slot", value.type, ())


__all__ = ["PARTS", "PART_OF", "SLOTS", "Leaf", "Recipe", "Recipes"]

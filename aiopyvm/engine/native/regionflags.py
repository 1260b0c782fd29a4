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
    """A value that a recipe begins with: what the slot holds, plus `offset`, is `value`."""

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
        found = _describe(part, flags, stops, holder)
        if result is not None and result.op in PURE:
            other = _describe(part, flags, lambda value: value is not result and stops(value), holder)
            if found is None or (other is not None and len(other[1]) < len(found[1])):
                found = other
        if found is None:
            return None
        text, leaves = found
        known = self._known.get((part, text))
        if known is None:
            recipes = self.by_part[part]
            known = self._known[part, text] = Recipe(len(recipes) + 1, flags, leaves)
            recipes.append(known)
        return Recipe(known.number, flags, leaves)


def _result(flags: Mapping[str, Value]) -> Value | None:
    """What the sign flag is the sign of."""
    sign = flags.get("sf")
    if sign is None or sign.op != "trunc":
        return None
    source = sign.args[0]
    return source.args[0] if source.op == "shr" and source.args[1].op == "const" else source


def _describe(
    part: str, flags: Mapping[str, Value], stops: Callable[[Value], bool], holder: Holder
) -> tuple[str, tuple[Leaf, ...]] | None:
    leaves: dict[Value, Leaf] = {}
    texts: dict[Value, str] = {}

    def describe(value: Value) -> str:
        known = texts.get(value)
        if known is not None:
            return known
        if value.op == "const":
            text = f"{value.attr}:{value.bits}"
        elif value.bits <= _SLOT_BITS and (value.op not in PURE or stops(value)):
            held, offset = holder(value)
            text = f"s{len(leaves)}:{value.bits}{offset:+d}"
            leaves[value] = Leaf(value, held, offset)
        elif value.op not in PURE:
            raise OverflowError
        else:
            text = f"{value.op}{value.bits}({','.join(map(describe, value.args))})"
        texts[value] = text
        return text

    try:
        whole = ";".join(f"{flag}={describe(flags[flag])}" for flag in PARTS[part])
    except (OverflowError, RecursionError):
        return None
    return (whole, tuple(leaves.values())) if len(leaves) <= SLOTS[part] else None


__all__ = ["PARTS", "PART_OF", "SLOTS", "Leaf", "Recipe", "Recipes"]

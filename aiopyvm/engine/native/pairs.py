"""Pairs of instructions that one handler executes: a comparison and its branch, a load and what uses it.

A pair's handler stands in the first one's record and finds the second's operands in the next record, which stays as it
is: whoever comes from elsewhere, or with only one instruction left in the budget, executes it there. So what a pair
saves is one dispatch, and loads and stores of what the two share. Both have their records in one run, and the first
never ends a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopyvm.engine.native.handlers import Shape

_PAIR: Final = "p"
_BETWEEN: Final = "_"


def pair_name(first: str, second: str) -> str:
    """The symbol of the handler for shapes of those names."""
    return f"{_PAIR}{first}{_BETWEEN}{second}"


def pairs(symbols: Mapping[str, int]) -> dict[tuple[int, int], int]:
    """The handlers of pairs, by the handlers of the two, all as distances from code_base."""
    found = {}
    for name, handler in symbols.items():
        if name[0] == _PAIR and _BETWEEN in name:
            first, second = name[1:].split(_BETWEEN)
            found[symbols[first], symbols[second]] = handler
    return found


def pair_text(first: Shape, second: Shape) -> str:
    """The definition of a pair's handler. Raises Unlowerable."""
    from aiopyvm.engine.native.calls import UNCHANGED, call, define
    from aiopyvm.engine.native.handlers import HandlerLowering
    from aiopyvm.engine.native.llvmtext import UNLIKELY, Text, Unlowerable

    text, traces = Text(), (first.trace(), second.trace())
    one, both = text.new_label(), text.new_label()
    text.branch(text.fresh("icmp ult i64 %budget, 2"), one, both, UNLIKELY)
    text.label(one)
    call(text, f"@{first.name}", "%rec", "%budget", UNCHANGED)
    text.label(both)
    before = HandlerLowering(text, first.fields, len(traces[0].params))
    before.run(traces[0].ops)
    if before.ended:
        raise Unlowerable("a pair whose first instruction leads elsewhere")
    behind = HandlerLowering(text, second.fields, len(traces[1].params), before)
    behind.run(traces[1].ops)
    behind.finish()
    before.ways_out()
    return define(pair_name(first.name, second.name), text)


def paired(handlers: Iterable[int], known: Mapping[tuple[int, int], int]) -> dict[int, int]:
    """What the records of a run, which have `handlers`, have instead: handlers of pairs by the first one's index."""
    found = list(map(known.get, pairwise(handlers)))
    return {index: pair for index, pair in enumerate(found) if pair is not None} if any(found) else {}


__all__ = ["pair_name", "pair_text", "paired", "pairs"]

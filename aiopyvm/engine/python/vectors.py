"""Operations on vectors as functions of Python ints: `vector_function`.

What is made of whole vectors at once, instead of lane by lane, is here; all else is as the IR's definition computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.pure import compute
from aiopyvm.ir.types import Type

_BITWISE: Final[dict[str, Callable[[int, int], int]]] = {
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}


@cache
def vector_function(op: str, attr: Any, r: Type, t: Type) -> Callable[..., int] | None:
    """The function of a pure operation's arguments, for a result and a first argument of these types; None: its result
    is its argument.
    """
    if op == "bitcast":
        return None
    if op in LANES:
        return partial(LANES[op], r, t, attr)
    if op in _BITWISE:
        return _BITWISE[op]
    if op in ("add", "sub"):
        return _sum(op, r)
    return partial(compute, op, r, t)


def _sum(op: str, r: Type) -> Callable[[int, int], int]:
    """Lanes added or subtracted all at once: their top bits apart, so that nothing is carried into the next lane."""
    top = r.splat(1 << r.bits - 1)
    low = r.mask ^ top
    if op == "add":
        return lambda x, y: (x & low) + (y & low) ^ (x ^ y) & top
    return lambda x, y: (x | top) - (y & low) ^ (x ^ ~y) & top


__all__ = ["vector_function"]

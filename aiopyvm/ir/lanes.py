"""What operations on vectors compute: integer operations lane by lane (`lifted`), and those that move lanes (`LANES`).

A vector is the concatenation of its lanes, lane 0 lowest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiopyvm.ir.types import Type


def lifted(function: Callable[..., int], r: Type, t: Type, *values: int) -> int:
    """Compute `function` of scalars on each lane. `t` is the type of the first value: where those are i1, the others
    are of the result's type (`select`, which may have one condition for all lanes), else they are of its own.
    """
    result, first = r.lane, t.lane
    others = Type.vector(first if t.bits > 1 else result, r.lanes)
    lanes = [t.split(values[0]) if t.lanes > 1 else [values[0]] * r.lanes, *map(others.split, values[1:])]
    return r.join(function(result, first, *arguments) for arguments in zip(*lanes, strict=True))


def _splat(r: Type, t: Type, attr: Any, x: int) -> int:
    return r.splat(x)


def _extract(r: Type, t: Type, lane: int, x: int) -> int:
    return t.split(x)[lane]


def _insert(r: Type, t: Type, lane: int, x: int, y: int) -> int:
    lanes = t.split(x)
    lanes[lane] = y
    return r.join(lanes)


def _shuffle(r: Type, t: Type, numbers: tuple[int, ...], x: int, y: int) -> int:
    lanes = t.split(x) + t.split(y)
    return r.join(lanes[number] for number in numbers)


def _permute(r: Type, t: Type, attr: Any, x: int, y: int) -> int:
    lanes = t.split(x)
    return r.join(lanes[number % t.lanes] for number in r.split(y))


LANES: Final[dict[str, Callable[..., int]]] = {
    "splat": _splat,
    "extract": _extract,
    "insert": _insert,
    "shuffle": _shuffle,
    "permute": _permute,
}

__all__ = ["LANES", "lifted"]

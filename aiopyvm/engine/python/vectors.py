"""Operations on vectors as functions of Python ints: `vector_function`.

What is made of whole vectors at once, instead of lane by lane, is here; all else is as the IR's definition computes it.
A comparison's answer, one bit a lane, is found as the lanes' top bits and brought together by halves
(`_gathered`); `_spread` is the way back. Bytes that only change places are picked by one call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from operator import itemgetter
from typing import Any, Final

from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.pure import compute
from aiopyvm.ir.types import Type

Function = Callable[..., int]

_BITWISE: Final[dict[str, Function]] = {
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}
_COMPARE: Final = frozenset("eq ult ule slt sle".split())


@cache
def vector_function(op: str, attr: Any, r: Type, t: Type) -> Function | None:
    """The function of a pure operation's arguments, for a result and a first argument of these types; None: its result
    is its argument.
    """
    if op == "bitcast":
        return None
    if op in LANES:
        return _moving(op, attr, r, t) or partial(LANES[op], r, t, attr)
    if op in _BITWISE:
        return _BITWISE[op]
    return _lanewise(op, r, t) or partial(compute, op, r, t)


def _lanewise(op: str, r: Type, t: Type) -> Function | None:
    """The function of an operation on all lanes, where there is one of whole vectors."""
    if op in ("add", "sub"):
        return _sum(op, r)
    if op in _COMPARE and _is_regular(t):
        return _comparison(op, t)
    if op == "select" and _is_regular(r) and t.lanes == r.lanes:
        return _select(r)
    if op == "sext" and t.bits == 1 and _is_regular(r):
        return partial(_spread, _spreads(r), 8 * r.bits)
    return None


def _is_regular(type_: Type) -> bool:
    """Tell whether lanes are whole bytes, as many as a power of two."""
    return type_.bits in (8, 16, 32, 64) and type_.lanes & type_.lanes - 1 == 0 and type_.lanes > 1


def _sum(op: str, r: Type) -> Function:
    """Lanes added or subtracted all at once: their top bits apart, so that nothing is carried into the next lane."""
    top = r.splat(1 << r.bits - 1)
    low = r.mask ^ top
    if op == "add":
        return lambda x, y: (x & low) + (y & low) ^ (x ^ y) & top
    return lambda x, y: (x | top) - (y & low) ^ (x ^ ~y) & top


# -- one bit a lane ----------------------------------------------------------------------------------------------------


def _steps(type_: Type) -> list[tuple[int, int]]:
    """How the lowest bits of the lanes come together, two neighbours at a time: shift and mask of each step."""
    steps, stride, width = [], type_.bits, 1
    while stride < type_.size:
        shift, stride, width = stride - width, 2 * stride, 2 * width
        steps.append((shift, sum((1 << width) - 1 << at for at in range(0, type_.size, stride))))
    return steps


def _gathered(steps: list[tuple[int, int]], value: int) -> int:
    """The lowest bits of lanes, whose other bits are 0, side by side."""
    for shift, mask in steps:
        value = (value | value >> shift) & mask
    return value


def _spreads(type_: Type) -> list[int]:
    """What each byte is with each of its bits as a whole lane."""
    ones = (1 << type_.bits) - 1
    return [sum(ones << n * type_.bits for n in range(8) if byte >> n & 1) for byte in range(256)]


def _spread(table: list[int], size: int, bits: int) -> int:
    """All ones in the lanes whose bit is set; eight lanes are `size` bits."""
    value, at = 0, 0
    while bits:
        value |= table[bits & 255] << at
        bits >>= 8
        at += size
    return value


def _comparison(op: str, t: Type) -> Function:
    """A comparison of all lanes: where it holds, a lane's top bit."""
    top, steps, down = t.splat(1 << t.bits - 1), _steps(t), t.bits - 1
    low = t.mask ^ top

    def differ(x: int, y: int) -> int:
        z = x ^ y
        return ((z & low) + low | z) & top

    def below(x: int, y: int) -> int:
        difference = (x | top) - (y & low) ^ (x ^ ~y) & top
        return (~x & y | (~x | y) & difference) & top

    tops: Function
    match op:
        case "eq":
            tops = lambda x, y: differ(x, y) ^ top  # noqa: E731
        case "ult":
            tops = below
        case "slt":
            tops = lambda x, y: below(x ^ top, y ^ top)  # noqa: E731
        case "ule":
            tops = lambda x, y: below(y, x) ^ top  # noqa: E731
        case _:
            tops = lambda x, y: below(y ^ top, x ^ top) ^ top  # noqa: E731
    return lambda x, y: _gathered(steps, tops(x, y) >> down)


def _select(r: Type) -> Function:
    table, size = _spreads(r), 8 * r.bits

    def choose(c: int, x: int, y: int) -> int:
        return (x ^ y) & _spread(table, size, c) ^ y

    return choose


# -- bytes that change places ------------------------------------------------------------------------------------------


def _moving(op: str, attr: Any, r: Type, t: Type) -> Function | None:
    """The function of a move of lanes that are whole bytes."""
    if op == "shuffle" and t.bits % 8 == 0 and r.size > 8:
        return _shuffle(attr, r, t)
    if op == "permute" and t.bits == 8 and 256 % t.lanes == 0:
        return _permute(r, t)
    return None


def _shuffle(numbers: tuple[int, ...], r: Type, t: Type) -> Function:
    size, bytes_ = t.bits // 8, t.size // 8
    pick = itemgetter(*(number * size + n for number in numbers for n in range(size)))

    def shuffle(x: int, y: int) -> int:
        return int.from_bytes(pick(x.to_bytes(bytes_, "little") + y.to_bytes(bytes_, "little")), "little")

    return shuffle


def _permute(r: Type, t: Type) -> Function:
    bytes_, numbers, times = t.size // 8, r.size // 8, 256 // t.lanes

    def permute(x: int, y: int) -> int:
        table = x.to_bytes(bytes_, "little") * times
        return int.from_bytes(y.to_bytes(numbers, "little").translate(table), "little")

    return permute


__all__ = ["vector_function"]

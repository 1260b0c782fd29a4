"""Shuffles, blends and alignment of integer lanes."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.isa.packed import define, groups, shuffled


def _four(order: int) -> list[int]:
    """The lanes that an immediate of four fields of two bits chooses."""
    return [order >> 2 * n & 3 for n in range(4)]


def _pshufd(x: Value, order: int) -> Value:
    return shuffled(x, x, lambda own, _: [own[n] for n in _four(order)])


def _pshuflw(x: Value, order: int) -> Value:
    return shuffled(x, x, lambda own, _: [*(own[n] for n in _four(order)), *own[4:]])


def _pshufhw(x: Value, order: int) -> Value:
    return shuffled(x, x, lambda own, _: [*own[:4], *(own[4 + n] for n in _four(order))])


define("pshufd", "0F 70 /r ib", 32, _pshufd, sources=1, immediate=True)
define("pshuflw", "0F 70 /r ib", 16, _pshuflw, prefix="F2", sources=1, immediate=True)
define("pshufhw", "0F 70 /r ib", 16, _pshufhw, prefix="F3", sources=1, immediate=True)
define("pshufw", "0F 70 /r ib", 16, _pshufd, xmm="", mm="sse", sources=1, immediate=True)


def _pshufb(x: Value, y: Value) -> Value:
    """The bytes of x that those of y number, within each 128 bits; 0 where a number's highest bit is set."""
    assert x.type is not None
    size = len(next(iter(groups(x))))
    numbers = y & size - 1
    if size == x.type.lanes:
        chosen = x.permute(numbers)
    else:
        low, high = (x.shuffle(own).permute(numbers.shuffle(own)) for own in groups(x))
        chosen = low.shuffle(range(x.type.lanes), high)
    return x.builder.select(y.slt(0), 0, chosen)


def _palignr(x: Value, y: Value, count: int) -> Value:
    """x:y, in each 128 bits, shifted right by `count` bytes."""
    b = x.builder
    assert x.type is not None
    size = len(next(iter(groups(x))))
    if count < size:
        return shuffled(y, x, lambda low, high: [*low[count:], *high[:count]])
    rest = count - size
    zeros = b.const(0, x.type)
    return shuffled(x, zeros, lambda own, other: [*own[rest:], *other[: min(rest, size)]])


define("pshufb", "0F 38 00 /r", 8, _pshufb, xmm="ssse3", mm="ssse3")
define("palignr", "0F 3A 0F /r ib", 8, _palignr, xmm="ssse3", mm="ssse3", immediate=True)


def _pblendw(x: Value, y: Value, chosen: int) -> Value:
    return shuffled(x, y, lambda own, other: [(other if chosen >> n & 1 else own)[n] for n in range(8)])


define("pblendw", "0F 3A 0E /r ib", 16, _pblendw, xmm="sse4_1", immediate=True)

"""The Python engine's functions of whole vectors give what the IR's definition gives lane by lane."""

from __future__ import annotations

import random

import pytest

from aiopyvm.engine.python.vectors import vector_function
from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.pure import compute
from aiopyvm.ir.types import Type, integer

TYPES = [integer(bits, size // bits) for size in (64, 128, 256) for bits in (8, 16, 32, 64) if size > bits]


def values(rng: random.Random, type_: Type) -> tuple[int, int]:
    """Two values with lanes that are equal, that differ in one bit, that are least or greatest."""
    x = [rng.choice((0, (1 << type_.bits) - 1, 1 << type_.bits - 1, rng.getrandbits(type_.bits))) for _ in range(99)]
    first = x[: type_.lanes]
    second = [
        rng.choice((lane, lane ^ 1 << rng.randrange(type_.bits), rng.getrandbits(type_.bits), x[-1])) for lane in first
    ]
    return type_.join(first), type_.join(second)


@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize("op", ["eq", "ult", "ule", "slt", "sle", "add", "sub"])
def test_lanes_of_two(op: str, type_: Type) -> None:
    rng = random.Random(f"{op} {type_}")
    result = type_ if op in ("add", "sub") else integer(1, type_.lanes)
    function = vector_function(op, None, result, type_)
    assert function is not None
    for _ in range(100):
        x, y = values(rng, type_)
        assert function(x, y) == compute(op, result, type_, x, y)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_masks_and_choice(type_: Type) -> None:
    rng = random.Random(str(type_))
    truth = integer(1, type_.lanes)
    widen, choose = vector_function("sext", None, type_, truth), vector_function("select", None, type_, truth)
    assert widen is not None
    assert choose is not None
    for _ in range(100):
        c, (x, y) = rng.getrandbits(type_.lanes), values(rng, type_)
        assert widen(c) == compute("sext", type_, truth, c)
        assert choose(c, x, y) == compute("select", type_, truth, c, x, y)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_moves(type_: Type) -> None:
    rng = random.Random(str(type_))
    for lanes in (2, type_.lanes, 2 * type_.lanes):
        numbers = tuple(rng.randrange(2 * type_.lanes) for _ in range(lanes))
        result = integer(type_.bits, lanes)
        function = vector_function("shuffle", numbers, result, type_)
        permute = vector_function("permute", None, result, type_)
        assert function is not None
        assert permute is not None
        for _ in range(20):
            x, y = values(rng, type_)
            chosen = rng.getrandbits(result.size)
            assert function(x, y) == LANES["shuffle"](result, type_, numbers, x, y)
            assert permute(x, chosen) == LANES["permute"](result, type_, None, x, chosen)

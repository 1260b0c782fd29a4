"""x87 instructions in regions: the same state as the evaluator's, to the last bit, wherever a run is cut."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from tests.engine.engines import hot_engine
from tests.engine.x87_loops import DATA, loop

pytestmark = pytest.mark.skipif(not HAS_X87, reason="the host has no x87")


@pytest.fixture(params=(CHECKED, MMU))
def memory(request: pytest.FixtureRequest) -> str:
    """The form of the regions' accesses."""
    return str(request.param)


def states(engine: Engine, make: Callable[[], Core], slices: list[int]) -> list[object]:
    """What a run is like wherever it is cut."""
    core, exit_ = make(), Exit(ExitReason.BUDGET)
    found: list[object] = []
    for budget in [*slices, 100_000]:
        if exit_.reason is ExitReason.BUDGET:
            exit_ = engine.run(core, budget)
            found.append((exit_, bytes(core.cpu), core.memory.peek(DATA, 4096)))
    return found


def hot_instructions(engine: NativeEngine) -> int:
    return engine.statistics()["instructions_hot"]


def test_random_loops(memory: str) -> None:
    rng = random.Random(11)
    evaluator, executed = PythonEngine("evaluator"), 0
    for number in range(24):
        make = loop(rng)
        slices = [rng.choice((1, 2, 3, 7, 19, 61)) for _ in range(8)]
        engine = hot_engine(memory=memory)
        assert states(engine, make, slices) == states(evaluator, make, slices), number
        executed += hot_instructions(engine)
    assert executed

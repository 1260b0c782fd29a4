"""Every tier does what the evaluator does: same state, same exit, same count, wherever a run is cut."""

from __future__ import annotations

import random

import pytest

from aiopyvm.engine.python import PythonEngine
from tests.engine.programs import program, run

TIERS = ("cold", "warm")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("itself", [False, True])
def test_random_programs(tier: str, loop: bool, itself: bool) -> None:
    evaluator = PythonEngine("evaluator")
    for seed in range(75):
        random_ = random.Random(f"{seed}{loop}{itself}")
        case = program(random_, random_.randrange(1, 16), loop, itself)
        slices = [random_.choice((1, 2, 3, 7, 61, 500)) for _ in range(20)]
        expected = run(evaluator, case, slices)
        actual = run(PythonEngine(tier), case, slices)  # type: ignore[arg-type]
        assert actual == expected, f"seed {seed}: {case.code.hex()}"

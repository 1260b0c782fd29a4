"""A few hundred hostile programs on each event loop; `tests/hostile/campaign.py` runs any number."""

from __future__ import annotations

import pytest

from tests.hostile.campaign import run
from tests.hostile.inputs import KINDS, inputs

EACH = 60


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[kind.__name__ for kind in KINDS])
async def test_hostile_programs_end_in_a_typed_way(kind: int) -> None:
    for program in list(inputs(10_000, EACH * len(KINDS)))[kind :: len(KINDS)]:
        await run(program)


@pytest.mark.anyio
async def test_on_the_evaluator_too() -> None:
    for program in inputs(20_000, 40):
        if program.kind != "mutated elf":
            await run(program, "evaluator")


def test_a_seed_makes_one_program() -> None:
    assert list(inputs(5, 8)) == list(inputs(5, 8))

"""Random blocks against this CPU, and that they are what they should be."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from aiopyvm.isa.decode import decode
from aiopyvm.mem.space import AddressSpace
from tests.hardware.campaign_blocks import EXPLAINED, after, compare, first_wrong, is_unknown, numbered
from tests.hardware.cases_blocks import blocks, patterns
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.families import family
from tests.hardware.harness import available, run_cases
from tests.hardware.machine import Machine
from tests.hardware.subjects import machine_of
from tests.hardware.wire import AREA, AREA_DATA, PAGE, Case

hardware_only = [
    pytest.mark.native,
    pytest.mark.skipif(not available(), reason="this host cannot run the harness"),
]


@pytest.mark.parametrize(
    ("engine", "count"),
    [pytest.param(*pair, marks=hardware_only) for pair in (("plain", 100), ("warm", 20), ("native", 30), ("hot", 10))],
)
def test_random_blocks_agree_with_the_hardware(engine: str, count: int) -> None:
    cases = [case for _, case in numbered(1, 0, count)]
    machine = machine_of(engine, cases)
    wrong: dict[int, list[str]] = {}
    for number, (case, hardware) in enumerate(zip(cases, run_cases(cases), strict=True)):
        assert hardware is not None
        ours = machine.run(case)
        lines = compare(case, hardware, ours)
        if lines and not is_unknown(case, ours) and not set(step := first_wrong(case)) & set(EXPLAINED):
            wrong[number] = lines + step
    assert not wrong


@pytest.mark.parametrize("neutral", [False, True])
def test_blocks_are_what_they_should_be(neutral: bool) -> None:
    machine = Machine(EvaluatorEngine(), AddressSpace())
    families: Counter[str] = Counter()
    modified = straddling = ended = 0
    cases = list(blocks(random.Random(3), 40, neutral=neutral))
    for case in cases:
        state = machine.run(case)
        ended += state.vector == 3
        modified += any(AREA <= address < AREA_DATA for address, _ in state.changes)
        straddling += case.eip < AREA + PAGE < case.eip + len(case.code)
        families[family(decode(case.code[:15]).row)] += 1
    assert min(modified, straddling, ended) > len(cases) // 3
    assert set(families) == set(patterns())


def test_a_step_goes_from_one_state_of_a_block_to_the_next() -> None:
    machine = Machine(EvaluatorEngine(), AddressSpace())
    case = Case(
        b"\x40\xc6\x05\x08\x00\x80\x00\x41\x90", eip=AREA, single_step=False, block=True
    )  # inc eax; mov [8], 41h
    whole = machine.run(case)
    for length in (1, 7, 1):
        assert decode(case.code[:15]).length == length
        case = after(case, machine.run(replace(case, single_step=True)))
    assert (case.eip + 1, case.regs) == (whole.eip, whole.regs)

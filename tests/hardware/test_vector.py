"""MMX, SSE and AVX instructions: random cases against this CPU, and that the cases are what they should be."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from aiopyvm.isa.decode import decode
from aiopyvm.mem.space import AddressSpace
from tests.hardware import vectors
from tests.hardware.campaign_vector import compare
from tests.hardware.cases_vector import cases, mxcsr, rows
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.harness import available
from tests.hardware.machine import Machine, differences
from tests.hardware.subjects import machine_of
from tests.hardware.vector_values import lanes, number
from tests.hardware.wire import Case


@pytest.mark.native
@pytest.mark.parametrize(
    ("engine", "rounds", "most"), [("plain", 4, 4000), ("warm", 1, 300), ("native", 2, 1500), ("hot", 1, 80)]
)
def test_random_cases_agree_with_the_hardware(engine: str, rounds: int, most: int) -> None:
    if not available():
        pytest.skip("this host runs no 32-bit x86 programs")
    if not vectors.same_maker():
        pytest.skip(vectors.OTHER_MAKER)
    pairs = list(cases(random.Random(7), rounds * len(rows())))
    pairs = pairs if len(pairs) <= most else random.Random(7).sample(pairs, most)
    machine = machine_of(engine, [case for _, case in pairs])
    assert not [(str(row), lines) for row, _, lines in compare(pairs, machine)]


def test_every_row_is_met() -> None:
    made = list(cases(random.Random(1), len(rows())))
    assert {row for row, _ in made} == set(rows())
    assert [row for row, _ in made] == [decode(case.code).row for _, case in made]


def test_cases_end_in_every_way() -> None:
    """Completed, #GP of an operand that is not aligned, #PF, and an exception that is not masked."""
    machine = Machine(EvaluatorEngine(), AddressSpace())
    ends = Counter(machine.run(case).vector for _, case in cases(random.Random(2), 1500))
    assert {1, 13, 14, 19} <= ends.keys()
    assert ends[1] > 900


def test_modes_and_numbers_are_of_every_kind() -> None:
    rng = random.Random(3)
    words = [mxcsr(rng) for _ in range(2000)]
    assert len({word & 0xE040 for word in words}) == 16  # four roundings, FTZ or not, DAZ or not
    assert all(word <= 0xFFFF for word in words)
    numbers = [number(rng, 32) for _ in range(3000)]
    ends = Counter((n >> 23 & 0xFF, n >> 22 & 1) for n in numbers)
    assert min(ends[exponent, quiet] for exponent in (0, 0xFF) for quiet in (0, 1)) > 20  # denormals and NaNs
    assert all(len(lanes(rng, size, kind)) == size for size in (1, 4, 8, 10, 16, 32, 64) for kind in ("ps", "pd", ""))


def test_a_wrong_lane_is_seen() -> None:
    (pair,) = list(cases(random.Random(5), 1))
    case = replace(pair[1], code=b"\x66\x0f\xef\xca", mxcsr=0x1F80)  # PXOR xmm1, xmm2
    machine = Machine(EvaluatorEngine(), AddressSpace())
    state = machine.run(case)
    other: Case = replace(case, code=b"\x66\x0f\xeb\xca")  # POR
    assert [line.split(":")[0] for line in differences(state, machine.run(other))] == ["ymm"]
    assert [line.split(":")[0] for line in differences(state, machine.run(replace(case, mxcsr=0x1F81)))] == ["mxcsr"]

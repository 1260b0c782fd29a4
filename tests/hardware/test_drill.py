"""Many states of random instructions: in virtual machines as on this CPU, and the same on every engine."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.hardware import vectors
from tests.hardware.campaign_drill import FAMILIES, compare, first_difference, in_vm, on_hardware
from tests.hardware.drill import answer_size, drills, order, rows, split_states
from tests.hardware.harness import available

hardware_only = pytest.mark.skipif(
    not available() or not vectors.same_maker(), reason="this host is not the CPU of the vectors"
)


@hardware_only
@pytest.mark.native
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ["native", "python"])
def test_instructions_do_on_every_state_what_the_hardware_does(family: str, engine: str) -> None:
    batch = list(drills(random.Random(11), family, 25))

    def run(asked: bytes) -> bytes:
        return in_vm(engine, asked)

    found, completed = compare(batch, 7, 3, 30, run)
    assert completed > 25 * 30 // 2
    assert {str(batch[n].row): first_difference(batch[n], 7 + n, 3, 30, run) for n in found} == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_drills_are_of_every_row_and_most_have_their_operand_in_memory_that_is_there(family: str) -> None:
    found = rows(family)
    made = list(drills(random.Random(2), family, len(found)))
    assert [drill.row for drill in made] == found
    sizes = Counter(bool(drill.window[1]) for drill in made)
    assert sizes[True] > len(found) // 4
    assert all(1 <= len(drill.code) <= 15 and not drill.free_gpr & 16 for drill in made)


@hardware_only
def test_a_difference_is_traced_to_its_first_state() -> None:
    (drill,) = drills(random.Random(1), "integer", 1)
    wrong_at = 5

    def run(asked: bytes) -> bytes:
        answer = bytearray(on_hardware(asked))
        if len(answer) == answer_size(range(20), 1):
            answer[8 * wrong_at] ^= 1
        return bytes(answer)

    lines = first_difference(drill, 0, 1, 20, run)
    assert lines[0] == f"state {wrong_at}"
    assert lines[-1].startswith("before: eax=")


@hardware_only
def test_a_state_depends_on_nothing_but_its_number() -> None:
    batch = list(drills(random.Random(4), "vector", 3))
    told = on_hardware(order(batch[:1], 0, 9, range(4), 0))
    (last,) = split_states(on_hardware(order(batch[:1], 0, 9, range(3, 4), 0)), batch[0])
    assert list(split_states(told, batch[0]))[3] == last

"""Recorded cases of the real CPU, replayed on every engine: no such CPU is needed here."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import engine_of
from tests.hardware import vectors
from tests.hardware.machine import Machine, differences
from tests.hardware.wire import Case

TIERS = {"evaluator": 3000, "cold": 3000, "warm": 300, "native": 1500}  # how many cases of each set at most
SHOWN = 10


def undefined_flags(case: Case) -> int:
    """EFLAGS bits that the manual leaves undefined after the case's instruction."""
    try:
        return decode(case.code).row.undefined
    except (DecodeFault, NeedMore):
        return 0


def test_there_are_vectors() -> None:
    assert vectors.names()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", vectors.names())
def test_replay(name: str, tier: str) -> None:
    machine = Machine(engine_of(tier), AddressSpace())
    pairs = list(vectors.load(name))
    assert pairs
    step = max(1, len(pairs) // TIERS[tier])
    wrong: list[str] = []
    kinds: Counter[str] = Counter()
    for case, expected in islice(pairs, 0, None, step):
        lines = differences(expected, machine.run(case), undefined_flags=undefined_flags(case))
        if lines:
            wrong.append(f"{case.code.hex()}: {'; '.join(lines)}")
            kinds[case.code[:2].hex()] += 1
    assert not wrong, f"{len(wrong)} differ: {kinds.most_common(SHOWN)}\n" + "\n".join(wrong[:SHOWN])

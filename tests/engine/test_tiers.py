"""Every tier does what the evaluator does: same state, same exit, same count, wherever a run is cut.

A sample of `tests.engine.campaign`.
"""

from __future__ import annotations

import pytest

from aiopyvm.engine.python import PythonEngine
from tests.engine.campaign import KINDS, case, differences, engines


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", range(3))
def test_random_programs(kind: str, tier: int) -> None:
    evaluator, compared = PythonEngine("evaluator"), engines(tier)
    for number in range(KINDS.index(kind), 16 * len(KINDS), len(KINDS)):
        made, slices = case(100 + tier, number)
        found = list(differences(made, slices, evaluator, compared))
        assert not found, (kind, number, made, slices, found)

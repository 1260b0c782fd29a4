"""A sample of `python -m tests.kernel.fuzz`: plausible system calls at random never surprise the kernel."""

from __future__ import annotations

import pytest

from tests.kernel import fuzz


@pytest.mark.parametrize("seed", range(12))
def test_random_calls_end_in_results_and_give_everything_back(seed: int) -> None:
    fuzz.run(seed, steps=250)

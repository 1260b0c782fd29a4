"""The decoder against iced-x86 on a sample of random strings; `campaign_decoder` runs as many as wanted."""

from __future__ import annotations

import pytest

from tests.isa.campaign_decoder import run


@pytest.mark.parametrize(("strings", "code16"), [(50_000, False), (15_000, True)])
def test_no_unexplained_difference(strings: int, code16: bool) -> None:
    counts, examples = run(strings, seed=1, code16=code16)
    assert {detail: code.hex() for detail, code in examples.items()} == {}
    assert counts["equal", ""] > strings * 2 // 3

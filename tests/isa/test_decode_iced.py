"""The decoder against iced-x86 on a sample of random strings; `campaign_decoder` runs as many as wanted."""

from __future__ import annotations

from tests.isa.campaign_decoder import run


def test_no_unexplained_difference() -> None:
    counts, examples = run(60_000, seed=1)
    assert {detail: code.hex() for detail, code in examples.items()} == {}
    assert counts["equal", ""] > 40_000

"""docs/instructions.md: what 32-bit code may have and the table has not is left out with a reason."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from tests.isa.coverage import PAGE, beginnings, left_out
from tests.isa.left_out import LEFT_OUT, group_of

_COLUMNS: Final = 5


def test_the_page_has_every_instruction_with_all_its_forms() -> None:
    """Else `python -m tests.isa.coverage` writes it anew; figures of engines and campaigns may be older."""
    lines = [line for line in PAGE.read_text().splitlines() if line.count("|") == _COLUMNS + 1]
    found = Counter("|".join(line.split("|")[:3]) + "|" for line in lines)
    found = Counter({line: count for line, count in found.items() if line.split("|")[2].strip().isdigit()})
    assert found == beginnings()


def test_what_is_left_out_has_a_reason() -> None:
    groups = {group_of(features) for features in left_out()}
    assert {group.title for group in groups} <= {group.title for group in LEFT_OUT}
    with pytest.raises(LookupError, match="nothing says why"):
        group_of("NEVER_HEARD_OF")

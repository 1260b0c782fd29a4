"""docs/instructions.md: what 32-bit code may have and the table has not is left out with a reason."""

from __future__ import annotations

import pytest

from tests.isa.coverage import left_out
from tests.isa.left_out import LEFT_OUT, group_of


def test_what_is_left_out_has_a_reason() -> None:
    groups = {group_of(features) for features in left_out()}
    assert {group.title for group in groups} <= {group.title for group in LEFT_OUT}
    with pytest.raises(LookupError, match="nothing says why"):
        group_of("NEVER_HEARD_OF")

"""The page of system calls is what the table says, and the table is Linux's."""

from __future__ import annotations

import pytest

from aiopyvm.abi.errno import EPERM
from aiopyvm.abi.numbers import NAMES
from aiopyvm.syscalls.table import TABLE
from tests.kernel.coverage import PAGE, page
from tests.kernel.machine import Machine


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.kernel.coverage"


def test_names_are_those_of_the_i386_table() -> None:
    assert {number: row.name for number, row in TABLE.items()} == {number: NAMES[number] for number in TABLE}


def test_a_refusal_says_why() -> None:
    assert not [row for row in TABLE.values() if row.refusal and not row.note]


@pytest.mark.parametrize("number", sorted(number for number, row in TABLE.items() if row.refusal))
def test_refused_calls_fail_with_their_error_whatever_they_are_given(number: int) -> None:
    m = Machine()
    assert m.call(m.thread, number, 0xFFFFFFFF, 1, 2) == -TABLE[number].refusal
    assert not m.kernel.unknown_syscalls


def test_mounting_is_not_for_guests() -> None:
    m = Machine()
    assert m.call(m.thread, "mount", 0, 0, 0, 0, 0) == -EPERM

"""Tests of native programs with pytest: `pytest examples/test_with_pytest.py`."""

from pathlib import Path

import pytest

from aiopyvm import VM, Limits, Reason

GUESTS = Path(__file__).parents[1] / "guests" / "bin"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(("text", "counts"), [(b"", b"0 0 0\n"), (b"one two\nthree", b"1 3 13\n")])
async def test_wc(text: bytes, counts: bytes) -> None:
    result = await VM().run_elf(GUESTS / "wc", stdin=text, check=True)
    assert result.stdout == counts


async def test_instructions_are_counted_exactly() -> None:
    runs = [await VM().run_elf(GUESTS / "hello") for _ in range(2)]
    assert runs[0].instructions == runs[1].instructions > 0


async def test_an_endless_loop_ends() -> None:
    result = await VM(limits=Limits(instructions=100_000)).run_elf(GUESTS / "spin")
    assert result.reason is Reason.INSTRUCTION_LIMIT
    assert result.stdout == b"spinning\n"

"""Which engine a machine gets, and what is said where it is not the one that is hoped for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from aiopyvm import VM, EngineUnavailableError
from aiopyvm.engine.native import codearena, loading
from aiopyvm.engine.native.aot import AheadOfTime, ahead_of_time
from aiopyvm.runtime import machine
from tests.conftest import GuestPaths


@pytest.fixture(autouse=True)
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test chooses anew."""
    monkeypatch.setattr(machine, "_engines", {})
    monkeypatch.delenv("AIOPYVM_ENGINE", raising=False)


@pytest.mark.skipif(codearena.unsupported() is not None, reason=str(codearena.unsupported()))
def test_auto_is_native_where_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.get_engine("auto").name == "native"
    assert machine.get_engine("auto") is machine.get_engine("native")
    monkeypatch.setenv("AIOPYVM_ENGINE", "python")
    assert machine.get_engine("auto").name == "python"
    assert machine.get_engine("native").name == "native"
    monkeypatch.setenv("AIOPYVM_ENGINE", "steam")
    with pytest.raises(ValueError, match="AIOPYVM_ENGINE must be one of"):
        VM()


@pytest.mark.skipif(codearena.unsupported() is not None, reason=str(codearena.unsupported()))
@pytest.mark.parametrize(
    ("variable", "value"), [("AIOPYVM_MEMORY", "fast"), ("AIOPYVM_HOT_AFTER", "0"), ("AIOPYVM_HOT_AFTER", "soon")]
)
def test_a_variable_that_makes_no_sense_is_complained_of(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} is .* not '{value}'"):
        VM()


def test_auto_says_once_why_it_is_python(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(loading, "unsupported", lambda: "generated code runs elsewhere only")
    with caplog.at_level(logging.INFO, "aiopyvm"):
        engines = [machine.get_engine("auto") for _ in range(3)]
    assert {engine.name for engine in engines} == {"python"}
    assert [record.getMessage() for record in caplog.records] == [
        "guests run on the Python engine: generated code runs elsewhere only"
    ]
    with pytest.raises(EngineUnavailableError, match="elsewhere only"):
        VM(engine="native")


@pytest.mark.anyio
async def test_a_build_that_fails_leaves_guests_to_python(
    guest: GuestPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if codearena.unsupported() is not None:
        pytest.skip(str(codearena.unsupported()))
    from aiopyvm.engine.native import aot
    from aiopyvm.engine.native.cache import ObjectCache

    arena = codearena.CodeArena(32 << 20)
    failing = AheadOfTime(arena, ObjectCache(tmp_path / "cache"), "aiopyvm.engine.native.generate:no_such_function")
    monkeypatch.setattr(aot, "_instances", [failing])
    assert ahead_of_time() is failing
    assert (await VM(engine="native").run_elf(guest("hello"))).stdout == b"Hello, world!\n"  # while it is being built
    with pytest.raises(EngineUnavailableError):
        failing.wait(100)
    with caplog.at_level(logging.WARNING, "aiopyvm"):
        results = [await VM(engine="native").run_elf(guest("hello")) for _ in range(2)]
    assert [result.stdout for result in results] == [b"Hello, world!\n"] * 2
    assert len([record for record in caplog.records if "guests run on the Python engine" in record.message]) == 1
    assert machine.get_engine("native").statistics()["instructions_python"] == 3 * results[0].instructions
    arena.close()

"""One seed and the virtual clock: one run, whatever executes and steps it. campaign_same_run.py tries it often."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiopyvm.runtime import driver
from tests.runtime.campaign_same_run import pipelines, transcript


@pytest.mark.both_loops
@pytest.mark.parametrize("name", ["guests", "fed"])
async def test_engines_and_warmth_do_not_show(name: str) -> None:
    stages = pipelines(None)[name]
    if name == "guests":
        stages[0][1] = "30"
    found = {await transcript(stages, engine, fed=name == "fed") for engine in ("fresh", "python", "evaluator")}
    assert len(found) == 1
    assert len(found.pop()[1].splitlines()) > 2


@pytest.mark.both_loops
async def test_the_event_loop_s_turns_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests that give way after every chunk, and guests that hardly ever do."""
    found = set()
    for turn_ns in (0, 10**10):
        monkeypatch.setattr(driver, "TURN_NS", turn_ns)
        found.add(await transcript(pipelines(None)["fed"], "python", fed=True))
    assert len(found) == 1


@pytest.mark.both_loops
async def test_the_transcript_tells_runs_apart() -> None:
    first, second = ([list(stage) for stage in pipelines(None)["guests"]] for _ in range(2))
    second[1].remove("-rn")
    assert await transcript(first, "python", fed=False) != await transcript(second, "python", fed=False)


def test_event_loops_and_hash_seeds_do_not_show() -> None:
    """Eight processes, each with another PYTHONHASHSEED, on both loops."""
    command = [sys.executable, "-m", "tests.runtime.campaign_same_run", "--count", "16", "guests", "fed"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=os.environ, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stdout
    assert [line.split(b",")[0] for line in done.stdout.splitlines()] == [b"guests: 16 runs", b"fed: 16 runs"]

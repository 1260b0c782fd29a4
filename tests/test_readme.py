"""Runs every block of README.md and compares what it prints; its commands are also what the CI script runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [(code, BLOCKS[number + 1][1]) for number, (language, code) in enumerate(BLOCKS[:-1]) if language == "python"]


def run(*command: str) -> str:
    """Run in the checkout with this environment's programs first; return what it printed. Fails on any error."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_python_block_is_followed_by_what_it_prints() -> None:
    for number, (language, code) in enumerate(BLOCKS):
        assert language in ("python", "text", "console", "sh")
        if language == "python":
            assert BLOCKS[number + 1][0] == "text", code


@pytest.mark.parametrize(("code", "expected"), PYTHON, ids=[code.split("\n\n")[1].split("\n")[0] for code, _ in PYTHON])
def test_python_block(code: str, expected: str) -> None:
    assert run(sys.executable, "-W", "error", "-c", code).strip() == expected.strip()


def test_console_blocks() -> None:
    sessions = [code for language, code in BLOCKS if language == "console"]
    assert sessions
    for session in sessions:
        for entry in session.split("$ ")[1:]:
            command, _, expected = entry.partition("\n")
            assert run(*shlex.split(command)) == expected


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    commands = [code.strip() for language, code in BLOCKS if language == "sh"]
    assert len(commands) == 2
    script = (CHECKOUT / ".ci" / "run").read_text()
    for command in commands:
        assert command in script


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (CHECKOUT / target).exists(), target

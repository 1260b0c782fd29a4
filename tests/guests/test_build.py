"""The committed guests are what their sources say (where the compiler that built them is at hand)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guests.build import BINARIES, SOURCES, differing, recipes

CHECKOUT = Path(__file__).parents[2]
BUILT_WITH = "gcc (Debian 12"


def test_every_source_is_built_and_every_binary_has_a_source() -> None:
    assert {path.name for path in BINARIES.iterdir()} == set(recipes())
    assert all((SOURCES / source).exists() for source, _ in recipes().values())


def test_binaries_are_small_and_executable() -> None:
    for name in recipes():
        path = BINARIES / name
        assert path.stat().st_size < 16_384, name
        assert name.endswith(".bin") or os.access(path, os.X_OK), name


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_same_compiler_gives_the_same_bytes(glibc_guest: object) -> None:
    version = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout
    if BUILT_WITH not in version:
        pytest.skip(f"the guests were built with {BUILT_WITH}")
    probe = subprocess.run(["gcc", "-m32", "-E", "-x", "c", os.devnull], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no gcc -m32")
    assert differing(list(recipes())) == []


def test_the_build_script_says_what_it_does() -> None:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "guests" / "build.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "--check" in done.stdout

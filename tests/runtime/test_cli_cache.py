"""`aiopyvm cache`, as a command: each call is a process of its own, with its own idea of where the cache is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiopyvm.engine.native.codearena import unsupported

needs_native = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))


def cache(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AIOPYVM_CACHE_DIR": str(directory)}
    return subprocess.run(
        [sys.executable, "-m", "aiopyvm", "cache", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


@needs_native
def test_warm_show_clear(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    directory = tmp_path / "cache"
    assert cache(directory, "path").stdout == f"{directory}\n"
    cold = cache(directory).stdout.splitlines()
    assert cold[0].startswith(f"{directory}: 0 files, 0 KiB of at most ")
    assert cold[-1].startswith("cold for this version")
    built = cache(directory, "warm")
    assert (built.returncode, built.stderr) == (0, "")
    assert built.stdout.startswith("built in ")
    shown = cache(directory, "show").stdout
    assert f"{directory}: 1 file, " in shown
    assert "handlers made ahead of time: 1 file" in shown
    assert cache(directory, "clear").stdout == f"removed 1 file from {directory}\n"
    assert [path.name for path in directory.iterdir()] == [".lock"]  # of those who build: it stays, for one may hold it


def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(0o755)
    for action in ("show", "clear", "warm"):
        run = cache(directory, action)
        assert run.returncode == 125
        assert run.stderr.count("\n") == 1, run.stderr
        assert "mode 755" in run.stderr
    (tmp_path / "file").write_bytes(b"")
    assert "no cache directory" in cache(tmp_path / "file").stderr


def test_an_action_that_is_none_is_refused(tmp_path: Path) -> None:
    run = cache(tmp_path / "cache", "remove")
    assert run.returncode == 2
    assert "invalid choice" in run.stderr
    assert not (tmp_path / "cache").exists()

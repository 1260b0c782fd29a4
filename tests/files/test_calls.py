"""A program that tries the file system calls line by line: the same lines natively and as a guest.

The program gives up root by itself, so that permissions mean the same on both sides.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from aiopyvm import VM, HostDir
from tests.native import glibc_path, native_available, run_native

pytestmark = pytest.mark.skipif(not native_available(), reason="this host runs no i386 programs")


@pytest.fixture(scope="module")
def program() -> Path:
    path = glibc_path("filecalls")
    if path is None:
        pytest.skip("no gcc -m32")
    return path


@pytest.fixture(scope="module")
def native(program: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the program says on this host."""
    directory = tmp_path_factory.mktemp("native")
    if os.geteuid() == 0:
        os.chown(directory, 1000, 1000)
        for parent in directory.parents[:3]:
            parent.chmod(0o755)
    ended = run_native(program, cwd=directory)
    assert ended.returncode == 0
    lines = ended.stdout.decode().splitlines()
    assert len(lines) > 300
    return lines


@pytest.mark.parametrize("kind", ["memory", "cow"])
def test_the_guest_says_the_same(program: Path, native: list[str], tmp_path: Path, kind: str) -> None:
    mounts = {} if kind == "memory" else {"/tmp": HostDir(tmp_path, "cow")}
    vm = VM(mounts=mounts, clock="virtual")
    result = anyio.run(lambda: vm.run_elf(program, cwd="/tmp"))
    assert result.returncode == 0, (result.reason, result.detail)
    assert not result.unknown_syscalls
    assert result.stdout.decode().splitlines() == native
    assert not os.listdir(tmp_path)

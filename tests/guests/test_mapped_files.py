"""Mappings of files that come from outside: what a guest changes in them is seen as on Linux."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiopyvm import VM, HostDir
from tests.conftest import GlibcGuests
from tests.native import NativeRun

CONTENT = bytes(n * 7 + (n >> 12) & 0xFF for n in range(3 * 4096))
pytestmark = pytest.mark.anyio


@pytest.fixture
def expected(tmp_path: Path, native: NativeRun, glibc_guest: GlibcGuests) -> bytes:
    """What Linux says."""
    path = tmp_path / "native"
    path.write_bytes(CONTENT)
    return native(glibc_guest("mapped_files"), str(path)).stdout


@pytest.mark.parametrize("kind", ["memory", "cow", "rw"])
async def test_they_show_what_others_write(
    kind: str, tmp_path: Path, expected: bytes, glibc_guest: GlibcGuests
) -> None:
    program = glibc_guest("mapped_files")
    files = tmp_path / "files"
    files.mkdir()
    (files / "x").write_bytes(CONTENT)
    mounts = {"/files": {"x": CONTENT} if kind == "memory" else HostDir(files, "cow" if kind == "cow" else "rw")}
    for _ in range(2):  # the second run is of another machine, and finds what the first one mapped
        result = await VM(mounts=mounts).run_elf(program, "/files/x")
        assert (result.stdout, result.returncode) == (expected, 0)
        if kind == "rw":
            (files / "x").write_bytes(CONTENT)

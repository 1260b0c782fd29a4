"""Files of the host that guests map: images of them are paid for by who maps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiopyvm import VM, HostDir, Limits
from tests.native import glibc_path

MIB = 1 << 20


@pytest.mark.anyio
async def test_files_of_more_than_the_memory_are_mapped_without_taking_more(tmp_path: Path) -> None:
    program = glibc_path("mapfiles")
    if program is None:
        pytest.skip("gcc -m32 is not there")
    for letter in b"abcdefghijkl":
        (tmp_path / chr(letter)).write_bytes(bytes([letter]) * MIB)
    vm = VM(root={"files": HostDir(tmp_path)}, limits=Limits(memory=10 * MIB))
    result = await vm.run_elf(program)
    assert (result.stdout, result.returncode) == (b"12\n" * 3, 0)
    assert 5 * MIB < result.peak_memory <= 10 * MIB

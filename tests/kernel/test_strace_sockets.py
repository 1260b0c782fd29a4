"""What strace shows of sockets: line by line what strace 6.1 wrote of the same program on Linux (sockettrace.txt)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiopyvm import VM
from aiopyvm.abi import socket as abi
from aiopyvm.syscalls.stracesockets import address_text
from tests.native import glibc_path

RECORDED = Path(__file__).with_name("sockettrace.txt")  # strace -o FILE sockettrace, through `plain`


def plain(line: str) -> str:
    """A line without what differs from run to run: columns, places in memory, who runs it."""
    line = re.sub(r"0x[0-9a-f]{6,8}\b", "ADDRESS", re.sub(r"\) += ", ") = ", line))
    return re.sub(r"pid=\d+, uid=\d+, gid=\d+", "WHO", line)


@pytest.mark.anyio
async def test_calls_of_sockets_are_shown_as_strace_does() -> None:
    path = glibc_path("sockettrace")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    lines: list[str] = []
    result = await VM(clock="virtual").run_elf(path, strace=lines.append)
    assert result.ok, f"{result.reason} {result.detail}"
    shown = [plain(line) for line in lines]
    first = next(n for n, line in enumerate(shown) if line.startswith("socket("))
    assert shown[first:] == RECORDED.read_text().splitlines()


@pytest.mark.parametrize("family", range(abi.AF_MAX + 2))
def test_any_bytes_are_shown_as_an_address(family: int) -> None:
    for size in range(abi.ADDRESS_MAX - 1):
        for filler in (0, 0x41, 0xFF):
            text = address_text(family.to_bytes(2, "little") + bytes([filler]) * size)
            assert text.startswith("{sa_family=")
            assert text.endswith("}")
            assert text.isprintable()

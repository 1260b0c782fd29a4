"""Debian's programs do in a guest what they do on Linux: output, exit status, files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from aiopyvm import VM, GuestPath, HostDir
from tests.guests.debian.commands import (
    ENVIRONMENT,
    EXECUTABLE,
    FILES,
    HARD_LINKS,
    LINKS,
    Outcome,
    commands,
    described,
    outcome,
    recorded,
)

pytestmark = pytest.mark.anyio
RECORDED = recorded()


def tree() -> dict[str, object]:
    made: dict[str, object] = {}
    for name, content in FILES.items():
        here = made
        *above, last = name.split("/")
        for part in above:
            here = here.setdefault(part, {})  # type: ignore[assignment]
        here[last] = content.encode()
    return made


async def run(debian: Path, line: str) -> Outcome:
    vm = VM(root=HostDir(debian, "cow"), user=0, cwd="/work", env=ENVIRONMENT, mounts={"/work": tree(), "/tmp": {}})
    work = vm.path("/work")
    for name, target in LINKS.items():
        await (work / name).symlink_to(target)
    for name, target in HARD_LINKS.items():
        await (work / name).hardlink_to(work / target)
    for name in EXECUTABLE:
        await (work / name).chmod(0o755)
    answer = await vm.run("/bin/bash", "-c", line)
    assert answer.unknown_syscalls == {}
    found: dict[str, str] = {}
    await look(work, "", found)
    return outcome(answer.returncode, answer.stdout or b"", answer.stderr or b"", dict(sorted(found.items())))


async def look(directory: GuestPath, above: str, found: dict[str, str]) -> None:
    async for path in directory.iterdir():
        name, mode = above + path.name, (await path.lstat()).st_mode
        content = await path.read_bytes() if stat.S_ISREG(mode) else b""
        found[name] = described(name, mode, str(await path.readlink()) if stat.S_ISLNK(mode) else "", content)
        if stat.S_ISDIR(mode):
            await look(path, f"{name}/", found)


def test_every_line_is_recorded() -> None:
    assert list(RECORDED) == commands()


@pytest.mark.parametrize("line", commands())
async def test_as_on_linux(line: str, debian: Path) -> None:
    assert await run(debian, line) == RECORDED[line]

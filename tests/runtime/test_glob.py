"""`GuestPath.glob` finds what `pathlib` finds in the same tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiopyvm import VM

pytestmark = pytest.mark.both_loops

TREE: dict[str, object] = {
    "a.c": b"",
    "b.h": b"",
    "d": {"a.c": b"", "e": {"x.c": b"", "y": b""}},
    ".hidden": {"z.c": b""},
}
PATTERNS = ["*.c", "*", "d/*", "**/*.c", "**/e", "?.h", "[ab].*", "d/**/*", "nothing", "**"]


def _write(tree: dict[str, object], at: Path) -> None:
    for name, content in tree.items():
        if isinstance(content, dict):
            (at / name).mkdir()
            _write(content, at / name)
        else:
            (at / name).write_bytes(b"")


def _found_by_pathlib(root: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(root)) for path in root.glob(pattern)}


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_as_pathlib(pattern: str, tmp_path: Path) -> None:
    _write(TREE, tmp_path)
    vm = VM(root={"t": TREE})
    expected = _found_by_pathlib(tmp_path, pattern)
    found = [str(path) async for path in vm.path("/t").glob(pattern)]
    assert {"." if path == "/t" else path.removeprefix("/t/") for path in found} == expected
    assert len(found) == len(set(found))


async def test_links(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for link, target in (("d/loop", "loop"), ("d/up", ".."), ("d/nowhere", "x"), ("l", "d")):
        (tmp_path / link).symlink_to(target)
    vm = VM(mounts={"/t": tmp_path})
    for pattern in ("*/*", "d/*/*", "**/up", "**/l", "l/*", "d/loop/*"):
        found = {str(path.relative_to("/t")) async for path in vm.path("/t").glob(pattern)}
        assert found == _found_by_pathlib(tmp_path, pattern), pattern


async def test_below_and_above() -> None:
    path = VM(root={"t": TREE}).path("/t")
    assert sorted([str(found) async for found in path.rglob("x.*")]) == ["/t/d/e/x.c"]
    assert [str(parent) for parent in (path / "d").parents] == ["/t", "/"]
    with pytest.raises(ValueError, match="relative pattern"):
        async for _ in path.glob("/x"):
            pass

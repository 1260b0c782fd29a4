"""No granted directory leads to where compiled code is kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from aiopyvm import VM, HostDir, HostRefusedError
from aiopyvm.abi.errno import EACCES, Errno
from aiopyvm.engine.native.cache import cache_directory
from aiopyvm.host import fence
from aiopyvm.host.files import open_host_tree
from tests.conftest import GuestPaths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a directory of compiled code, home/caches/code, and other things."""
    (tmp_path / "home/caches/code").mkdir(parents=True)
    (tmp_path / "home/caches/code").chmod(0o700)
    (tmp_path / "home/caches/code/file").write_bytes(b"compiled")
    (tmp_path / "home/caches/other").mkdir()
    (tmp_path / "home/work").mkdir()
    (tmp_path / "home/work/data").write_bytes(b"data")
    monkeypatch.setenv("AIOPYVM_CACHE_DIR", str(tmp_path / "home/caches/code"))
    cache_directory.cache_clear()
    yield tmp_path / "home"
    cache_directory.cache_clear()


@pytest.mark.parametrize("writable", [False, True])
def test_what_is_beside_it_can_be_granted(home: Path, writable: bool) -> None:
    tree = open_host_tree(home / "work", writable=writable)
    assert tree.open((b"data",), False).pread(10, 0) == b"data"
    open_host_tree(home / "caches/other", writable=writable)


@pytest.mark.parametrize("writable", [False, True])
def test_it_and_what_is_in_it_cannot(home: Path, writable: bool) -> None:
    (home / "caches/code/below").mkdir()
    (home / "work/link").symlink_to(home / "caches/code")
    for path in ("caches/code", "caches/code/below", "work/link", "work/link/below"):
        with pytest.raises(HostRefusedError, match="where compiled code is kept"):
            open_host_tree(home / path, writable=writable)


@pytest.mark.parametrize("path", ["caches", "", ".."])
def test_what_contains_it_cannot_be_changed(home: Path, path: str) -> None:
    with pytest.raises(HostRefusedError, match="contains"):
        open_host_tree(home / path, writable=True)


def test_what_contains_it_can_be_read_but_for_it(home: Path) -> None:
    tree = open_host_tree(home)
    assert tree.open((b"work", b"data"), False).pread(10, 0) == b"data"
    assert {name for _, _, name in tree.names((b"caches",))} == {b"code", b"other"}
    for attempt in (
        lambda: tree.names((b"caches", b"code")),
        lambda: tree.open((b"caches", b"code", b"file"), False),
        lambda: tree.stat((b"caches", b"code", b"file")),
        lambda: tree.names((b"caches", b"code", b"below")),
    ):
        with pytest.raises(Errno) as caught:
            attempt()
        assert caught.value.number == EACCES


def test_it_stays_out_of_reach_under_another_name(home: Path) -> None:
    tree = open_host_tree(home)
    os.rename(home / "caches", home / "work/moved")
    with pytest.raises(Errno) as caught:
        tree.names((b"work", b"moved", b"code"))
    assert caught.value.number == EACCES


def test_a_directory_above_it_that_shows_up_elsewhere_cannot_be_entered_for_changes(home: Path) -> None:
    tree = open_host_tree(home / "work", writable=True)
    os.rename(home / "caches", home / "work/caches")  # as a bind mount would let it appear
    for path in ((b"caches",), (b"caches", b"code")):
        with pytest.raises(Errno) as caught:
            tree.names(path)
        assert caught.value.number == EACCES
    with pytest.raises(Errno):
        tree.rename((b"caches", b"code"), (b"mine",))


def test_it_is_made_before_what_contains_it_is_shown(home: Path) -> None:
    os.rename(home / "caches/code", home / "gone")
    tree = open_host_tree(home)
    assert stat.S_IMODE((home / "caches/code").stat().st_mode) == 0o700
    with pytest.raises(Errno):
        tree.names((b"caches", b"code"))


def test_what_will_contain_it_cannot_be_changed_either(home: Path) -> None:
    os.rename(home / "caches", home / "gone")
    with pytest.raises(HostRefusedError, match="contains"):
        open_host_tree(home, writable=True)
    open_host_tree(home / "work", writable=True)
    assert not (home / "caches").exists()


def test_places_above_a_path_begin_with_it(home: Path) -> None:
    places = fence.lineage(os.fsencode(home / "work"))
    assert places[0] == fence.place_of(os.fsencode(home / "work"))
    assert places[1] == fence.place_of(os.fsencode(home))
    assert places[-1] == fence.place_of(b"/")
    assert fence.lineage(os.fsencode(home / "absent/x"))[0] == fence.place_of(os.fsencode(home))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "mode"), [("caches/code", "ro"), ("caches/code", "cow"), ("caches/code", "rw"), ("", "rw")]
)
async def test_a_machine_with_such_a_directory_does_not_run(
    home: Path, path: str, mode: Literal["ro", "cow", "rw"], guest: GuestPaths
) -> None:
    directory = HostDir(home / path, mode)
    for machine in (VM(root=directory), VM(mounts={"/x": directory}), VM(root={"x": directory})):
        with pytest.raises(HostRefusedError, match="where compiled code is kept"):
            await machine.run_elf(guest("hello"))

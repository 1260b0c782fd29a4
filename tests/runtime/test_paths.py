"""`GuestPath` does in the guest's files what `pathlib` does in the host's, and `GuestPath.open` what `open` does."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopyvm import VM, Limits

pytestmark = pytest.mark.both_loops

LINES = b"one\ntwo\r\nthree"


async def _tried(operation: Callable[[], Any]) -> tuple[str, object]:
    """What an awaited (guest) or plain (host) operation raises, by name and errno; or whether it says yes or no."""
    try:
        result = operation()
        if hasattr(result, "__await__"):
            result = await result
    except OSError as error:
        return type(error).__name__, error.errno
    except ValueError:
        return "ValueError", None
    return "", result if isinstance(result, bool) else None


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "w+b", "ab", "a+b", "xb", "r", "w", "a+", "rt", "+r", "x+"])
@pytest.mark.parametrize("name", ["file", "new", "dir", "file/x"])
async def test_open_as_the_host_does(mode: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LINES)
    (tmp_path / "dir").mkdir()
    vm = VM(root={"file": LINES, "dir": {}})
    here, there = tmp_path / name, vm.path(name)
    data: Any = b"ABC" if "b" in mode else "ABC"
    newline = "" if "b" not in mode else None
    try:
        host = here.open(mode, newline=newline)
    except OSError as error:
        assert await _tried(lambda: there.open(mode)) == (type(error).__name__, error.errno)  # noqa: PT017
        return
    with host:
        async with await there.open(mode, newline=newline) as file:
            assert await file.tell() == host.tell()
            assert (await _tried(lambda: file.read(2)))[0] == (await _tried(lambda: host.read(2)))[0]
            assert await file.seek(1) == host.seek(1)
            assert await _tried(lambda: file.write(data)) == await _tried(lambda: host.write(data))
            await file.flush()
            host.flush()
            assert (await _tried(lambda: file.truncate(6)))[0] == (await _tried(lambda: host.truncate(6)))[0]
    assert file.closed
    assert await there.read_bytes() == here.read_bytes()


@pytest.mark.parametrize("mode", ["", "rw", "b", "r++", "rbt", "q", "rr"])
async def test_modes_that_are_none(mode: str) -> None:
    with pytest.raises(ValueError, match="invalid mode"):
        await VM(root={"a": b""}).path("/a").open(mode)
    with pytest.raises(ValueError, match="unbuffered"):
        await VM(root={"a": b""}).path("/a").open("r", 0)
    with pytest.raises(ValueError, match="encoding"):
        await VM(root={"a": b""}).path("/a").open("rb", encoding="utf-8")


async def test_lines_and_pieces() -> None:
    path = VM(root={"file": LINES}).path("/file")
    async with await path.open() as text:
        assert [line async for line in text] == ["one\n", "two\n", "three"]
    async with await path.open(newline="") as text:
        assert await text.readlines() == ["one\n", "two\r\n", "three"]
    async with await path.open("rb") as file:
        assert await file.readline() == b"one\n"
        assert await file.read(2) == b"tw"
        assert await file.read1(1) == b"o"
        space = bytearray(2)
        assert (await file.readinto(space), bytes(space)) == (2, b"\r\n")
        assert await file.read() == b"three"
        assert await file.read() == b""
    async with await path.open("w", encoding="utf-16-le") as text:
        await text.writelines(["é", "ü"])
    assert await path.read_text("utf-16-le") == "éü"
    assert await path.write_text("a\nb", newline="\r\n") == 3
    assert (await path.read_bytes(), await path.read_text()) == (b"a\r\nb", "a\nb")
    with pytest.raises(ValueError, match="closed"):
        await text.read()
    with pytest.raises(io.UnsupportedOperation):
        await (await path.open()).write("x")


async def test_names_of_files(tmp_path: Path) -> None:
    """Each step gives the same, or raises the same, in the guest and on the host."""
    top = VM(root={"t": {}}).path("/t")
    steps: list[tuple[str, Callable[[Any], Any]]] = [
        ("touch", lambda top: (top / "a").touch()),
        ("touch, exclusively", lambda top: (top / "a").touch(exist_ok=False)),
        ("hardlink_to", lambda top: (top / "b").hardlink_to(top / "a")),
        ("hardlink_to what is not there", lambda top: (top / "c").hardlink_to(top / "nothing")),
        ("hardlink_to what is there", lambda top: (top / "b").hardlink_to(top / "a")),
        ("samefile", lambda top: (top / "a").samefile(top / "b")),
        ("samefile of nothing", lambda top: (top / "a").samefile(top / "c")),
        ("symlink_to", lambda top: (top / "l").symlink_to("d/e")),
        ("touch through a link to nothing", lambda top: (top / "l").touch()),
        ("mkdir", lambda top: (top / "d" / "e").mkdir(parents=True)),
        ("symlink_to itself", lambda top: (top / "loop").symlink_to("loop")),
        ("exists in a loop", lambda top: (top / "loop").exists()),
        ("stat in a loop", lambda top: (top / "loop").stat()),
        ("samefile through a link", lambda top: (top / "l").samefile(top / "d" / "e")),
        ("chmod", lambda top: (top / "a").chmod(0o600)),
        ("replace", lambda top: (top / "a").replace(top / "d" / "e" / "f")),
        ("rename of nothing", lambda top: (top / "a").rename(top / "x")),
        ("rename onto a directory", lambda top: (top / "b").rename(top / "d")),
        ("rmdir of a file", lambda top: (top / "b").rmdir()),
        ("unlink of a directory", lambda top: (top / "d").unlink()),
        ("unlink of nothing", lambda top: (top / "x").unlink()),
        ("readlink of a file", lambda top: (top / "b").readlink()),
        ("read_text of a directory", lambda top: (top / "d").read_text()),
        ("iterdir of a file", lambda top: (top / "b").is_dir()),
        ("is_fifo", lambda top: (top / "b").is_fifo()),
        ("is_mount", lambda top: (top / "b").is_mount()),
    ]
    for name, step in steps:
        here = await _tried(lambda step=step: step(tmp_path))  # type: ignore[misc]
        assert await _tried(lambda step=step: step(top)) == here, name  # type: ignore[misc]
    assert (await (top / "d/e/f").stat()).st_mode == (tmp_path / "d/e/f").stat().st_mode


async def test_resolve(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "l").symlink_to("d/e")
    (tmp_path / "d/e/up").symlink_to("../..")
    (tmp_path / "nowhere").symlink_to("d/missing")
    (tmp_path / "loop").symlink_to("loop/x")
    (tmp_path / "d/file").write_bytes(b"")
    vm = VM(mounts={"/t": tmp_path})
    realpath, root = os.path.realpath, os.fspath(tmp_path)
    for name in ("l", "l/..", "d/../l/up/d", "nowhere", "missing/x", "d/file", "d/file/x", ".", "l/up/l/up/d/file"):
        expected = realpath(tmp_path / name).replace(root, "/t")
        assert str(await vm.path(f"/t/{name}").resolve()) == expected, name
    for wrong in ("nowhere", "missing", "missing/x", "loop", "d/file/x"):
        kind = await _tried(lambda wrong=wrong: realpath(tmp_path / wrong, strict=True))  # type: ignore[misc]
        assert await _tried(lambda wrong=wrong: vm.path(f"/t/{wrong}").resolve(strict=True)) == kind  # type: ignore[misc]
    assert await vm.path("/t").is_mount()
    assert not await vm.path("/t/d").is_mount()
    assert await vm.path("/dev/null").is_char_device()
    assert str(await vm.path("x").absolute()) == "/x"


async def test_the_path_itself() -> None:
    vm = VM()
    path = vm.path("/a/b.tar.gz")
    assert (path.suffixes, path.stem, path.root, path.anchor) == ([".tar", ".gz"], "b.tar", "/", "/")
    assert (str(path.with_stem("c")), str(path.with_suffix(".x"))) == ("/a/c.gz", "/a/b.tar.x")
    assert (path.as_posix(), path.is_absolute(), path.match("*.gz")) == ("/a/b.tar.gz", True, True)
    assert str(path.relative_to("/a")) == "b.tar.gz"
    assert path.is_relative_to(vm.path("a"))
    with pytest.raises(ValueError):
        path.relative_to("/b")
    assert vm.path("/a") < vm.path("/b") <= vm.path("/b")
    assert vm.path("/a") == vm.path("/") / "a" != VM().path("/a")
    assert str(vm.path("/a") / vm.path("/b")) == "/b"


async def test_what_a_guest_makes_of_a_file_does_not_eat_the_host() -> None:
    """A hole of a terabyte, a device without end, a tree deeper than Python's stack."""
    vm = VM(root={"a": b""}, limits=Limits(memory=4 << 20))
    hole = vm.path("/a")
    async with await hole.open("r+b") as file:
        await file.truncate(1 << 40)
    for operation in (hole.read_bytes, hole.read_text):
        with pytest.raises(OSError, match="memory limit") as caught:
            await operation()
        assert caught.value.errno == errno.EFBIG
    async with await hole.open("rb") as file:
        assert await file.read(3) == bytes(3)
        with pytest.raises(OSError, match="memory limit"):
            await file.readline()
    await vm.path("/zero").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="Invalid argument"):
        await vm.path("/zero").read_bytes()
    with pytest.raises(OSError, match="Invalid argument"):
        await vm.path("/zero").open("w")
    deep = vm.path("/deep").joinpath(*["d"] * 1200)
    await deep.mkdir(parents=True)
    await (deep / "leaf").touch()
    assert [str(found) async for found in vm.path("/deep").rglob("leaf")] == [str(deep / "leaf")]


async def test_an_open_file_and_a_guest_see_the_same(guest: Callable[[str], Path]) -> None:
    vm = VM(root={"a": b"before"})
    async with await vm.path("/a").open("r+b") as file:
        await file.write(b"AFTER!")
        assert (await vm.run_elf(guest("cat"), "/a")).stdout == b"before"
        await file.flush()
        assert (await vm.run_elf(guest("cat"), "/a")).stdout == b"AFTER!"
        await vm.path("/a").unlink()
        await file.seek(0)
        assert await file.read() == b"AFTER!"


async def test_no_room_is_told_when_it_shows() -> None:
    path = VM(limits=Limits(memory=1 << 20)).path("/big")
    file = await path.open("wb")
    with pytest.raises(OSError, match="space") as caught:
        await file.write(bytes(4 << 20))
        await file.aclose()
    assert caught.value.errno == errno.ENOSPC

"""Trees out of tar files: what Linux's own tar would make of them, and nothing outside of them."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from aiopyvm import VM, ArchiveError, TarRoot
from aiopyvm.host import archives, unpack
from tests.files.archives import Made, entry, tar_of

Written = Callable[..., TarRoot]


@pytest.fixture
def write(tmp_path: Path) -> Written:
    """Write members as a tar file."""

    def written(*entries: Made, form: int = tarfile.PAX_FORMAT) -> TarRoot:
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of(*entries, form=form))
        return TarRoot(path)

    return written


def read(root: TarRoot, path: str) -> bytes:
    return anyio.run(VM(root=root).path(path).read_bytes)


FILES = (entry("a", b"content of a"), entry("d/e/f", b"f" * 5000, uid=7, gid=8, mode=0o640, mtime=1.5))


def packed_zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, packed_zstd])
def test_plain_and_compressed_archives_show_the_same(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "archive"
    path.write_bytes(pack(tar_of(*FILES)))
    root = TarRoot(path)
    assert (read(root, "/a"), read(root, "/d/e/f")) == (b"content of a", b"f" * 5000)
    s = anyio.run(VM(root=root).path("/d/e/f").stat)
    assert (s.st_uid, s.st_gid, s.st_mode, s.st_size, s.st_mtime_ns) == (7, 8, 0o100640, 5000, 1_500_000_000)


def test_zstd_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", none)
    (tmp_path / "a").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(ArchiveError, match="install the package zstandard"):
        TarRoot(tmp_path / "a").tree()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_names_that_are_no_text(write: Written, form: int) -> None:
    long = "/".join(["n" * 200] * 6)
    root = write(entry(long, b"1"), entry("\udcff\udcfe", b"2"), form=form)
    assert read(root, "/" + long) == b"1"
    assert read(root, "/\udcff\udcfe") == b"2"


def test_the_tree_is_one_for_all_machines(write: Written) -> None:
    root = write(*FILES)
    assert root.tree() is root.tree()
    assert root.tree().open((b"a",), False).snapshot() is root.tree().open((b"a",), False).snapshot()


def test_a_changed_archive_is_read_anew(write: Written) -> None:
    before = write(entry("a", b"old"))
    vm = VM(root=before)
    assert anyio.run(vm.path("/a").read_bytes) == b"old"
    assert read(write(entry("b", b""), entry("a", b"newer")), "/a") == b"newer"
    with pytest.raises(OSError, match="Stale"):
        anyio.run(vm.path("/a").read_bytes)


def test_what_was_read_is_bounded(tmp_path: Path) -> None:
    for n in range(archives.MOST_KEPT + 3):
        path = tmp_path / str(n)
        path.write_bytes(tar_of(entry("a", b"x")))
        TarRoot(path).tree()
    assert len(archives.TREES) == archives.MOST_KEPT


def test_links_are_one_file(write: Written) -> None:
    root = write(
        entry("a", b"0123456789"), entry("d", kind=tarfile.DIRTYPE), entry("d/b", kind=tarfile.LNKTYPE, linkname="./a"),
        entry("s", kind=tarfile.SYMTYPE, linkname="d/b"),
    )  # fmt: skip

    async def check() -> None:
        vm = VM(root=root, user=0)
        a, b = await vm.path("/a").stat(), await vm.path("/d/b").stat()
        assert (a.st_ino, a.st_nlink) == (b.st_ino, b.st_nlink) == (b.st_ino, 2)
        await vm.path("/d/b").write_bytes(b"changed")
        assert await vm.path("/a").read_bytes() == await vm.path("/s").read_bytes() == b"changed"
        await vm.path("/a").unlink()
        assert await vm.path("/d/b").read_bytes() == b"changed"
        assert (await vm.path("/d/b").stat()).st_nlink == 1
        assert await VM(root=root).path("/a").read_bytes() == b"0123456789"

    anyio.run(check)


def test_devices_are_shown_and_not_opened(write: Written) -> None:
    root = write(entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666))

    async def check() -> None:
        vm = VM(root=root, user=0)
        s = await vm.path("/null").stat()
        assert (s.st_mode, s.st_rdev) == (0o20666, 0x103)
        with pytest.raises(OSError, match="in the guest"):
            await vm.path("/null").read_bytes()

    anyio.run(check)


SPARSE = {"GNU.sparse.map": "4096,3,1048576,4", "GNU.sparse.size": "1048600", "GNU.sparse.name": "real"}


def test_a_sparse_file_has_its_holes(write: Written) -> None:
    data = read(write(entry("shown", b"abcdefg", pax_headers=SPARSE)), "/real")
    assert len(data) == 1048600
    assert data.strip(b"\0").replace(bytes(1 << 19), b"") != b""
    assert (data[4096:4099], data[1048576:1048580]) == (b"abc", b"defg")
    assert data.count(0) == len(data) - 7


@pytest.mark.parametrize("parts", ["4096,600", "4096,3,9000,5,9100,600", "4096,3,4000,4", "1,-2", "x,y", "2000000,7"])
def test_a_sparse_file_that_cannot_be(write: Written, parts: str) -> None:
    with pytest.raises(ArchiveError, match=r"a\.tar"):
        write(entry("shown", b"abcdefg", pax_headers=SPARSE | {"GNU.sparse.map": parts})).tree()


def test_nothing_outside_is_reachable(write: Written, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    out = str(tmp_path / "outside")
    root = write(
        entry("../../up", b"1"),
        entry("/abs", b"2"),
        entry("a/../../../b", b"3"),
        entry("link", kind=tarfile.SYMTYPE, linkname=out),
        entry("top", kind=tarfile.SYMTYPE, linkname="../../../.."),
        entry("top/through", b"4"),
        entry("away", kind=tarfile.SYMTYPE, linkname=str(tmp_path)),
        entry("away/made", b"5"),
    )
    assert [read(root, name) for name in ("/up", "/abs", "/b", "/through")] == [b"1", b"2", b"3", b"4"]
    with pytest.raises(FileNotFoundError):
        read(root, "/link")
    assert read(root, "/away/made") == b"5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "outside"]


def test_a_hard_link_to_the_hosts_file_is_none(write: Written, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    with pytest.raises(ArchiveError, match="no such file"):
        write(entry("h", kind=tarfile.LNKTYPE, linkname=str(tmp_path / "outside"))).tree()


def test_symbolic_links_in_a_ring_end(write: Written) -> None:
    root = write(
        entry("x", kind=tarfile.SYMTYPE, linkname="y"),
        entry("y", kind=tarfile.SYMTYPE, linkname="x"),
        entry("x/f", b"1"),
    )
    assert read(root, "/x/f") == b"1"


@pytest.mark.parametrize("size", [0, 100, 512, 1024, 1500, 2048, 7000])
def test_a_truncated_archive_says_where(tmp_path: Path, size: int) -> None:
    path = tmp_path / "short.tar"
    path.write_bytes(tar_of(entry("a", b"x" * 1000), entry("b", b"y" * 9000))[:size])
    with pytest.raises(ArchiveError, match=r"short\.tar, at byte \d+: ") as caught:
        TarRoot(path).tree()
    assert caught.value.path == str(path)
    assert caught.value.place is not None
    assert caught.value.place <= size


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, packed_zstd])
def test_a_truncated_compressed_archive_says_where(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "short"
    whole = pack(tar_of(entry("a", bytes(range(256)) * 100)))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ArchiveError, match="at byte"):
        TarRoot(path).tree()


def test_how_far_an_archive_unpacks_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_UNPACKED", 4 << 20)
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(5 << 20)))
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        TarRoot(path).tree()


def damaged(at: int, data: bytes) -> bytes:
    """An archive whose first header has `data` at `at`, with a right checksum."""
    header = bytearray(tar_of(entry("a", b"x")))
    header[at : at + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


@pytest.mark.parametrize(
    "data",
    [
        damaged(124, b"\xff" * 12),  # a size of -1
        damaged(124, b"\xff" * 10 + b"\xf8\0"),  # of -2048
        damaged(124, b"\x80" + b"\0" * 3 + b"\x7f" * 8),  # of 9 * 10**18
        damaged(156, b"L"),
        damaged(124, b"\x80" + b"\0" * 7 + b"\x7f" * 4)[:156] + b"x" + damaged(156, b"x")[157:],
        bytes(100),
        b"\x7fELF" * 1000,
    ],
)
def test_hostile_headers_are_an_error_at_once(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="hostile"):
        TarRoot(path).tree()


def test_any_damage_is_a_tree_or_an_error(tmp_path: Path) -> None:
    """Bytes all over a small archive, one after the other, with two other values."""
    whole = tar_of(
        *FILES, entry("l", kind=tarfile.SYMTYPE, linkname="a"), entry("n" * 150, b"abcdefg", pax_headers=SPARSE)
    )
    path = tmp_path / "damaged"
    trees = 0
    for place in range(0, len(whole), 101):
        for value in (0x37, 0xFF):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                TarRoot(path).tree()
                trees += 1
            except ArchiveError:
                pass
    assert trees > 50


def test_a_root_is_checked() -> None:
    with pytest.raises(TypeError):
        TarRoot(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rw"):
        TarRoot("a", "rw")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        TarRoot("/nowhere/at/all").tree()
    with pytest.raises(ArchiveError, match="no regular file"):
        TarRoot("/dev/null").tree()


def test_a_read_only_tree(write: Written) -> None:
    root = TarRoot(write(*FILES).path, "ro")

    async def check() -> None:
        vm = VM(mounts={"/m": root}, user=0)
        with pytest.raises(OSError, match="Read-only"):
            await vm.path("/m/a").write_bytes(b"")
        with pytest.raises(OSError, match="Read-only"):
            await vm.path("/m/d").chmod(0o700)
        assert sorted([path.name async for path in vm.path("/m").iterdir()]) == ["a", "d"]

    anyio.run(check)

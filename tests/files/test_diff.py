"""What guests changed: the list, and an archive which, laid over what was there, makes what the guest saw."""

from __future__ import annotations

import tarfile
from pathlib import Path

import anyio
import pytest

from aiopyvm import VM, ArchiveError, Change, HostDir, OciRoot, TarRoot
from aiopyvm.cli import main
from aiopyvm.host.tarmembers import members
from aiopyvm.host.unpack import unpack
from tests.files.archives import Layout, Made, entry, tar_of
from tests.native import glibc_path

BASE = (
    entry("keep", b"kept"), entry("change", b"before"), entry("grow", b"g" * 10_000), entry("remove", b""),
    entry("mode", b""), entry("dir/a", b"a"), entry("dir/b", b"b"), entry("moved/x/y", b"deep"),
    entry("again/old", b"o"),
    entry("tofile/in", b""), entry("todir", b""), entry("link", kind=tarfile.SYMTYPE, linkname="keep"),
    entry("deep/er/still/f", b"f"),
)  # fmt: skip

SCRIPT = """
set -e; umask 022
echo after > /change; printf x >> /grow; rm /remove; chmod 4711 /mode; rm /dir/a; echo new > /dir/n
mv /moved /elsewhere; rm -r /again; mkdir /again; echo fresh > /again/new
rm -r /tofile; echo f > /tofile; rm /todir; mkdir /todir; echo in > /todir/in
rm /link; ln -s change /link; ln /keep /hard; mkfifo /fifo; mknod /node c 1 3; chown 5:6 /dir/b
mkdir -p /n/e/w; echo w > /n/e/w/f; mv /deep/er /er; truncate -s 3 /er/still/f
echo gone > /gone; rm /gone; mkdir /empty; cat /keep > /dev/null
"""
LOOK = (
    "cd /; find . -xdev | sort | while read f; do stat -c '%n %f %u %g %h %t:%T %s %Y %N' $f; done | grep -v '^./dev'"
)
CONTENT = "cd /; find . -xdev -type f | grep -v bin | sort | while read f; do md5sum $f; done"


@pytest.fixture
def base(busybox: Path) -> tuple[Made, ...]:
    return (*BASE, entry("bin/busybox", busybox.read_bytes(), mode=0o755), entry("dev", kind=tarfile.DIRTYPE),
            entry("proc", kind=tarfile.DIRTYPE), entry("tmp", kind=tarfile.DIRTYPE))  # fmt: skip


async def sh(vm: VM, script: str) -> str:
    """What busybox's shell says, with all of its commands."""
    commands = "find sort stat grep md5sum rm chmod mv mkdir ln mkfifo mknod chown truncate cat printf".split()
    aliases = "".join(f'{name}() {{ /bin/busybox {name} "$@"; }}\n' for name in commands)
    result = await vm.run("/bin/busybox", "sh", "-c", aliases + script)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.text


def same_but_for_directories(text: str) -> list[str]:
    """Sizes and link counts of directories are the file system's own; so are the times of the top and of /proc."""
    shown = [line.split(" ") for line in text.splitlines()]
    return [
        " ".join(word for n, word in enumerate(line) if n not in (4, 6) or not line[1].startswith("4"))
        for line in shown
        if line[0] not in (".", "./proc")
    ]


def test_the_archive_over_what_was_there_is_what_the_guest_saw(tmp_path: Path, base: tuple[Made, ...]) -> None:
    lower = tar_of(*base)
    (tmp_path / "base.tar").write_bytes(lower)

    async def check() -> None:
        vm = VM(root=TarRoot(tmp_path / "base.tar"), user=0)
        await sh(vm, SCRIPT)
        seen = same_but_for_directories(await sh(vm, LOOK)), await sh(vm, CONTENT)
        assert len(seen[0]) > 30
        await vm.save_changes(tmp_path / "diff.tar")
        layout = Layout(tmp_path / "image")
        layers = lower, (tmp_path / "diff.tar").read_bytes()
        both = VM(root=OciRoot(layout.index(layout.image(*layers))), user=0)
        again = same_but_for_directories(await sh(both, LOOK)), await sh(both, CONTENT)
        assert set(again[0]) ^ set(seen[0]) == set()
        assert again[1] == seen[1]
        assert both.diff() == []

    anyio.run(check)


def test_the_list_over_a_host_directory(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, content in {"keep": b"", "change": b"1", "remove": b"", "dir/in": b"", "move/f": b"12"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    async def check() -> None:
        vm = VM(mounts={"/m": HostDir(root, "cow")}, user=0)
        assert vm.diff() == []
        await vm.path("/m/keep").read_bytes()
        assert vm.diff() == []
        await vm.path("/m/change").write_bytes(b"123")
        await vm.path("/m/remove").unlink()
        await vm.path("/m/move").rename("/m/moved")
        await vm.path("/m/dir/new").write_bytes(b"new")
        await vm.path("/elsewhere").write_bytes(b"no copy-on-write tree")
        assert vm.diff() == [
            Change("/m/change", "modified", "file", 3),
            Change("/m/dir", "modified", "directory", 0),
            Change("/m/move", "removed", "", 0),
            Change("/m/moved", "added", "directory", 0),
            Change("/m/remove", "removed", "", 0),
            Change("/m/dir/new", "added", "file", 3),
            Change("/m/moved/f", "added", "file", 2),
        ]
        await vm.save_changes(tmp_path / "diff.tar")

    anyio.run(check)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diff.tar", "root"]
    assert (root / "change").read_bytes() == b"1"


def test_all_names_of_a_changed_file_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(
        tar_of(entry("a", b"1"), entry("d/e/b", kind=tarfile.LNKTYPE, linkname="a"), entry("d/other", b""))
    )

    async def check() -> None:
        vm = VM(root=TarRoot(tmp_path / "a.tar"), user=0)
        await vm.path("/d/e/b").write_bytes(b"22")
        changed = {change for change in vm.diff() if change.type == "file"}
        assert changed == {Change("/a", "modified", "file", 2), Change("/d/e/b", "modified", "file", 2)}
        await vm.save_changes(tmp_path / "diff.tar")
        saved = [m for m in members(unpack(str(tmp_path / "diff.tar"))) if m.names[-1:] in ((b"a",), (b"b",))]
        assert sorted((m.names, m.link is not None) for m in saved) in (
            [((b"a",), False), ((b"d", b"e", b"b"), True)],
            [((b"a",), True), ((b"d", b"e", b"b"), False)],
        )

    anyio.run(check)


def test_deep_directories_and_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()

    async def check() -> None:
        vm = VM(mounts={"/m": HostDir(tmp_path / "root", "cow")}, user=0)
        await vm.path("/m/\udcff").write_bytes(b"x")
        path = vm.path("/m" + "/d" * 700)
        await path.mkdir(parents=True)
        assert len(vm.diff()) == 701
        await vm.save_changes(tmp_path / "diff.tar")

    anyio.run(check)
    names = [member.names for member in members(unpack(str(tmp_path / "diff.tar")))]
    assert (b"m", b"\xff") in names
    assert (b"m", *[b"d"] * 700) in names


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()

    async def check() -> None:
        with pytest.raises(ValueError, match="copy-on-write"):
            await VM().save_changes(tmp_path / "diff.tar")
        vm = VM(root=HostDir(tmp_path / "root", "cow"), user=0)
        await vm.path("/.wh.x").write_bytes(b"")
        with pytest.raises(ArchiveError, match="removal"):
            await vm.save_changes(tmp_path / "diff.tar")
        with pytest.raises(FileNotFoundError):
            await vm.save_changes(tmp_path / "nowhere" / "diff.tar")

    anyio.run(check)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_the_command_line(tmp_path: Path, busybox: Path) -> None:
    (tmp_path / "root" / "bin").mkdir(parents=True)
    (tmp_path / "root" / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (tmp_path / "root" / "bin" / "busybox").chmod(0o755)
    diff = tmp_path / "diff.tar"
    command = ["/bin/busybox", "sh", "-c", "echo made > /made; exit 3"]
    assert main(["run", "--root", str(tmp_path / "root"), "--diff", str(diff), *command]) == 3
    with tarfile.open(diff) as tar:
        assert tar.getnames() == ["made"]
    assert main(["run", "--diff", str(diff), str(busybox), "true"]) == 125


def test_extended_attributes_are_records_of_the_archive(tmp_path: Path) -> None:
    program = glibc_path("xattrcalls")
    if program is None:
        pytest.skip("gcc -m32 is not there")
    (tmp_path / "root" / "tmp").mkdir(parents=True)

    async def check() -> None:
        vm = VM(root=HostDir(tmp_path / "root", "cow"), user=0)
        await vm.run_elf(program)
        await vm.save_changes(tmp_path / "diff.tar")

    anyio.run(check)
    with tarfile.open(tmp_path / "diff.tar") as archive:
        found = {info.name.rpartition("/")[2]: info.pax_headers for info in archive}
    assert found["f"]["SCHILY.xattr.user.one"] == "second!"
    assert found["f"]["SCHILY.xattr.user.none"] == ""
    assert found["f"]["SCHILY.xattr.user.bytes"].encode("utf-8", "surrogateescape") == b"\0\1\xff"
    assert found["fifo"]["SCHILY.xattr.trusted.x"] == "x"
    assert found["d"]["SCHILY.xattr.user.dir"] == "d"

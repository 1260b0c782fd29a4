"""No way out of a granted host directory; what read-only and copy-on-write mean for the host."""

from __future__ import annotations

import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from aiopyvm.abi.errno import EACCES, EISDIR, ELOOP, ENFILE, ENOENT, ENOTDIR, ENXIO, EPERM, EROFS, ESTALE, EXDEV, Errno
from aiopyvm.abi.fcntl import O_CREAT, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY
from aiopyvm.abi.stat import S_IFDIR, S_IFIFO, S_IFLNK
from aiopyvm.errors import HostRefusedError
from aiopyvm.host import files
from aiopyvm.host.files import open_host_tree
from aiopyvm.kernel.hostfs import HostFs
from aiopyvm.kernel.memfs import MemFs
from aiopyvm.kernel.vfs import Vfs
from tests.files.fakes import Budget, Clock, make_vfs, user


@pytest.fixture
def top(tmp_path: Path) -> Path:
    granted = tmp_path / "granted"
    granted.mkdir()
    (granted / "inside").write_bytes(b"inside")
    (granted / "sub").mkdir()
    (granted / "sub" / "deep").write_bytes(b"deep")
    (tmp_path / "secret").write_bytes(b"secret")
    return granted


def read(vfs: Vfs, path: bytes) -> bytes:
    file = vfs.open(user(vfs), path, O_RDONLY).hold()
    try:
        return file.read(1 << 16)
    finally:
        file.release()


def write(vfs: Vfs, path: bytes, data: bytes, flags: int = O_WRONLY | O_CREAT) -> None:
    file = vfs.open(user(vfs), path, flags, 0o644).hold()
    try:
        assert file.write(data) == len(data)
    finally:
        file.release()


def fails(number: int, what: object, *args: object) -> None:
    with pytest.raises(Errno) as caught:
        what(*args)  # type: ignore[operator]
    assert caught.value.number == number, caught.value


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", ["ro", "cow", "rw"])
def test_dot_dot_stays_inside(top: Path, kind: str) -> None:
    vfs = make_vfs(kind, top)
    assert read(vfs, b"/../../inside") == b"inside"
    assert read(vfs, b"/sub/../../../inside") == b"inside"
    fails(ENOENT, read, vfs, b"/../secret")


@pytest.mark.parametrize("kind", ["ro", "cow", "rw"])
def test_links_resolve_inside(top: Path, kind: str) -> None:
    (top / "up").symlink_to("../secret")
    (top / "absolute").symlink_to(top.parent / "secret")
    (top / "root").symlink_to("/inside")
    (top / "outdir").symlink_to("..")
    (top / "conf").symlink_to("/etc")
    (top / "loop").symlink_to("loop")
    vfs = make_vfs(kind, top)
    fails(ENOENT, read, vfs, b"/up")
    fails(ENOENT, read, vfs, b"/absolute")
    assert read(vfs, b"/root") == b"inside"
    fails(ENOENT, read, vfs, b"/outdir/secret")
    fails(ENOENT, read, vfs, b"/conf/passwd")
    fails(ELOOP, read, vfs, b"/loop")
    assert vfs.readlink(user(vfs), b"/up") == b"../secret"


@pytest.mark.parametrize("kind", ["ro", "cow", "rw"])
def test_a_directory_that_becomes_a_link_is_not_followed(top: Path, kind: str) -> None:
    """The race: a directory was looked up, then somebody puts a link to elsewhere in its place."""
    vfs = make_vfs(kind, top)
    ctx = user(vfs)
    sub = vfs.lookup(ctx, b"/sub")
    (top / "sub").rename(top / "moved")
    (top / "sub").symlink_to("..")
    (top.parent / "deep").write_bytes(b"secret too")
    assert isinstance(sub.kind, int)
    fails(ENOTDIR, vfs.open, ctx, b"deep", O_RDONLY, 0, sub)
    if kind == "rw":
        fails(ENOTDIR, vfs.open, ctx, b"new", O_WRONLY | O_CREAT, 0o644, sub)
    assert not (top.parent / "new").exists()


def test_a_file_that_becomes_a_link_is_not_followed(top: Path) -> None:
    tree = open_host_tree(top, writable=True)
    (top / "inside").unlink()
    (top / "inside").symlink_to(top.parent / "secret")
    fails(ENXIO, tree.open, (b"inside",), False)
    fails(ENXIO, tree.open, (b"inside",), True)
    fails(95, tree.set_mode, (b"inside",), 0o600)
    assert stat.S_IMODE((top.parent / "secret").stat().st_mode) != 0o600


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"../secret", b"a\0b"])
def test_the_tree_takes_plain_names_only(top: Path, name: bytes) -> None:
    tree = open_host_tree(top, writable=True)
    fails(ENOENT, tree.stat, (name,))
    fails(ENOENT, tree.open, (name,), False)
    fails(ENOENT, tree.make, (name,), S_IFDIR | 0o755, b"")
    fails(ENOENT, tree.stat, (name, b"inside"))


def test_magic_links_of_the_host_are_plain_links(top: Path) -> None:
    (top / "magic").symlink_to("/proc/self/root/etc/passwd")
    (top / "fd").symlink_to("/proc/self/fd/0")
    vfs = make_vfs("ro", top)
    fails(ENOENT, read, vfs, b"/magic")
    fails(ENOENT, read, vfs, b"/fd")


@pytest.mark.parametrize("kind", ["ro", "cow", "rw"])
def test_what_is_no_file_is_not_opened(top: Path, kind: str) -> None:
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "socket"))
        vfs = make_vfs(kind, top)
        for name, mode in ((b"/fifo", stat.S_IFIFO), (b"/socket", stat.S_IFSOCK)):
            assert stat.S_IFMT(vfs.lookup(user(vfs), name).stat().mode) == mode
            fails(ENXIO, vfs.open, user(vfs), name, O_RDONLY | O_NONBLOCK)
            fails(ENXIO, vfs.open, user(vfs), name, O_WRONLY | O_NONBLOCK)


def test_read_only_changes_nothing(top: Path) -> None:
    vfs = make_vfs("ro", top)
    ctx = user(vfs)
    inside = vfs.lookup(ctx, b"/inside")
    fails(EROFS, vfs.open, ctx, b"/inside", O_WRONLY)
    fails(EROFS, vfs.open, ctx, b"/inside", O_RDONLY | O_TRUNC)
    fails(EROFS, vfs.open, ctx, b"/new", O_WRONLY | O_CREAT)
    fails(EROFS, vfs.make, ctx, b"/dir", S_IFDIR | 0o755)
    fails(EROFS, vfs.unlink, ctx, b"/inside")
    fails(EROFS, vfs.rename, ctx, b"/inside", b"/other")
    fails(EROFS, vfs.link, ctx, inside, b"/other")
    fails(EROFS, inside.truncate, 0)
    fails(EROFS, inside.set_mode, 0o600)
    assert (top / "inside").read_bytes() == b"inside"


def test_a_tree_granted_read_only_refuses_by_itself(top: Path) -> None:
    tree = open_host_tree(top)
    fs = HostFs(tree, readonly=False)
    assert fs.readonly
    fails(EROFS, tree.open, (b"inside",), True)
    fails(EROFS, tree.make, (b"new",), S_IFDIR | 0o755, b"")
    fails(EROFS, tree.unlink, (b"inside",))
    fails(EROFS, tree.rename, (b"inside",), (b"other",))
    fails(EROFS, tree.set_times, (b"inside",), 0, 0)


def test_copy_on_write_leaves_the_host_alone(top: Path) -> None:
    vfs = make_vfs("cow", top)
    ctx = user(vfs)
    write(vfs, b"/inside", b"IN", O_WRONLY)
    assert read(vfs, b"/inside") == b"INside"
    vfs.rename(ctx, b"/sub", b"/sub2")
    fails(ENOENT, vfs.lookup, ctx, b"/sub/deep")
    assert read(vfs, b"/sub2/deep") == b"deep"
    write(vfs, b"/sub2/new", b"new")
    vfs.unlink(ctx, b"/sub2/deep")
    vfs.lookup(ctx, b"/inside").set_mode(0o600)
    assert (top / "inside").read_bytes() == b"inside"
    assert sorted(os.listdir(top)) == ["inside", "sub"]
    assert sorted(os.listdir(top / "sub")) == ["deep"]


def test_a_file_both_open_for_reading_and_changed_is_one_file(top: Path) -> None:
    vfs = make_vfs("cow", top)
    reader = vfs.open(user(vfs), b"/inside", O_RDONLY).hold()
    assert reader.read(2) == b"in"
    write(vfs, b"/inside", b"INSIDE", O_WRONLY)
    assert reader.read(9) == b"SIDE"
    reader.release()


def test_copy_on_write_gives_memory_back_for_what_was_only_looked_at(top: Path) -> None:
    for n in range(200):
        (top / f"f{n}").write_bytes(b"x")
    budget = Budget()
    vfs = make_vfs("cow", top, budget)
    before = budget.used
    for n in range(200):
        assert read(vfs, b"/f%d" % n) == b"x"
    assert budget.used == before


def test_inode_numbers_stay(top: Path) -> None:
    for kind in ("ro", "rw", "cow"):
        vfs = make_vfs(kind, top)
        ctx = user(vfs)
        number = vfs.lookup(ctx, b"/inside").stat().ino
        assert vfs.lookup(ctx, b"/inside").stat().ino == number
        listed = {entry.name: entry.ino for entry in vfs.open(ctx, b"/", O_RDONLY).hold().entries()}
        assert listed[b"inside"] == number
        if kind == "cow":
            vfs.lookup(ctx, b"/inside").set_mode(0o640)
            assert vfs.lookup(ctx, b"/inside").stat().ino == number


def test_the_host_may_change_under_a_live_mount(top: Path) -> None:
    vfs = make_vfs("ro", top)
    assert read(vfs, b"/inside") == b"inside"
    (top / "inside").write_bytes(b"changed!")
    assert read(vfs, b"/inside") == b"changed!"
    (top / "inside").unlink()
    fails(ENOENT, read, vfs, b"/inside")
    (top / "inside").mkdir()
    fails(EISDIR, read_file, vfs, b"/inside")


def read_file(vfs: Vfs, path: bytes) -> bytes:
    file = vfs.open(user(vfs), path, O_RDONLY).hold()
    try:
        return file.read(10)
    finally:
        file.release()


def test_a_truncated_host_file_reads_short_and_harms_nobody(top: Path) -> None:
    (top / "big").write_bytes(b"x" * 100_000)
    for kind in ("ro", "cow"):
        (top / "big").write_bytes(b"x" * 100_000)
        vfs = make_vfs(kind, top)
        flags = O_RDWR if kind == "cow" else O_RDONLY
        file = vfs.open(user(vfs), b"/big", flags).hold()
        if kind == "cow":
            file.pwrite(b"y", 50_000)
        os.truncate(top / "big", 10)
        data = file.pread(100_000, 0)
        assert data[:10] == b"x" * 10
        assert set(data[10:4096]) <= {0}
        assert len(data) == (10 if kind == "ro" else 100_000)
        file.release()


def test_no_set_id_bits_and_no_devices_on_the_host(top: Path) -> None:
    vfs = make_vfs("rw", top)
    ctx = user(vfs)
    fails(EPERM, vfs.lookup(ctx, b"/inside").set_mode, 0o4755)
    fails(EPERM, vfs.make, ctx, b"/fifo", S_IFIFO | 0o644)
    assert os.listdir(top) == os.listdir(top)
    assert not (top / "fifo").exists()


def test_no_descriptor_stays_open(top: Path) -> None:
    before = open_descriptors()
    for kind in ("ro", "rw", "cow"):
        vfs = make_vfs(kind, top)
        ctx = user(vfs)
        read(vfs, b"/sub/deep")
        fails(ENOENT, read, vfs, b"/nothing/here")
        fails(ENOTDIR, read, vfs, b"/inside/here")
        held = vfs.open(ctx, b"/inside", O_RDONLY).hold()
        again = vfs.open(ctx, b"/inside", O_RDONLY).hold()
        assert open_descriptors() == before + 1
        held.release()
        assert again.read(6) == b"inside"
        again.release()
        list(vfs.open(ctx, b"/", O_RDONLY).hold().entries())
        vfs.open(ctx, b"/inside", O_PATH).hold()
        assert open_descriptors() == before


def test_an_open_file_outlives_its_name(top: Path) -> None:
    for kind in ("rw", "cow"):
        (top / "inside").write_bytes(b"inside")
        vfs = make_vfs(kind, top)
        ctx = user(vfs)
        file = vfs.open(ctx, b"/inside", O_RDWR).hold()
        vfs.unlink(ctx, b"/inside")
        assert file.pread(6, 0) == b"inside"
        assert file.pwrite(b"I", 0) == 1
        assert file.stat().nlink == 0
        file.release()


def test_renames_do_not_cross_mounts(top: Path) -> None:
    clock, budget = Clock(), Budget()
    vfs = Vfs(clock=clock, budget=budget, uid=os.geteuid(), gid=os.getegid())
    vfs.mount(b"/host/here", HostFs(open_host_tree(top, writable=True)))
    vfs.mount(b"/mem", MemFs(clock, budget, uid=os.geteuid(), gid=os.getegid()))
    ctx = user(vfs)
    fails(EXDEV, vfs.rename, ctx, b"/host/here/inside", b"/mem/inside")
    fails(EXDEV, vfs.link, ctx, vfs.lookup(ctx, b"/host/here/inside"), b"/mem/inside")
    fails(16, vfs.rmdir, ctx, b"/mem")
    fails(16, vfs.rename, ctx, b"/host", b"/other")
    assert read(vfs, b"/host/here/../here/sub/../../here/inside") == b"inside"
    assert vfs.context(cwd=b"/host/here/sub").cwd.path(vfs.root) == b"/host/here/sub"
    names = {entry.name for entry in vfs.open(ctx, b"/host", O_RDONLY).hold().entries()}
    assert names == {b".", b"..", b"here"}


def test_a_mount_point_is_made_without_touching_a_read_only_host(top: Path) -> None:
    vfs = make_vfs("ro", top)
    vfs.mount(b"/not/there/yet", MemFs(vfs.clock, vfs.budget, uid=os.geteuid(), gid=os.getegid()))
    write(vfs, b"/not/there/yet/file", b"data")
    assert read(vfs, b"/not/there/yet/file") == b"data"
    assert sorted(os.listdir(top)) == ["inside", "sub"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_hosts_permissions_hold(top: Path) -> None:
    (top / "inside").chmod(0)
    vfs = make_vfs("ro", top)
    fails(EACCES, read, vfs, b"/inside")


def test_links_made_by_a_guest_are_not_followed_on_the_host(top: Path) -> None:
    vfs = make_vfs("rw", top)
    ctx = user(vfs)
    vfs.make(ctx, b"/evil", S_IFLNK | 0o777, target=b"..")
    fails(ENOENT, vfs.open, ctx, b"/evil/planted", O_RDONLY)
    write(vfs, b"/evil/planted", b"x")
    assert (top / "planted").exists()
    assert not (top.parent / "planted").exists()


def test_what_takes_the_place_of_a_granted_directory_is_not_entered(top: Path, tmp_path: Path) -> None:
    """By a guest that may change what is above it, through another grant."""
    (top / "sub" / "lower").mkdir()
    (top / "sub" / "lower" / "ok").write_bytes(b"ok")
    outside = tmp_path / "outside"
    (outside / "lower").mkdir(parents=True)
    (outside / "lower" / "secret").write_bytes(b"secret")
    vfs = make_vfs("memory", tmp_path)
    vfs.make(user(vfs), b"/above", S_IFDIR | 0o755)
    vfs.make(user(vfs), b"/below", S_IFDIR | 0o755)
    vfs.mount(b"/above", HostFs(open_host_tree(top, writable=True)))
    vfs.mount(b"/below", HostFs(open_host_tree(top / "sub" / "lower", writable=True)))
    assert read(vfs, b"/below/ok") == b"ok"
    (top / "sub").rename(top / "moved")
    (top / "sub").symlink_to(outside)
    fails(ESTALE, read, vfs, b"/below/secret")
    fails(ESTALE, write, vfs, b"/below/new", b"x")
    assert not (outside / "lower" / "new").exists()
    with pytest.raises(HostRefusedError, match="through a link"):
        open_host_tree(top / "sub" / "lower")
    (top / "sub").unlink()
    (top / "moved").rename(top / "sub")
    assert read(vfs, b"/below/ok") == b"ok"
    assert open_host_tree(top / "sub" / "lower").stat(()).mode & S_IFDIR


def test_links_above_what_guests_may_change_are_followed(top: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    tree = HostFs(open_host_tree(tmp_path / "link" / "granted", writable=True))
    assert tree is not None
    assert open_host_tree(tmp_path / "link" / "granted" / "sub").names(())


@pytest.mark.parametrize("mode", ["rw", "cow"])
def test_a_walk_that_links_make_long_ends(top: Path, mode: str) -> None:
    deep = top
    for _ in range(60):
        deep = deep / "d"
        deep.mkdir()
    (deep / "x").mkdir()
    for n in range(30):
        (deep / f"s{n}").symlink_to("x/../" * 100 + f"s{n + 1}")
    (deep / "s30").mkdir()
    vfs = make_vfs(mode, top)
    place = b"/d" * 60
    fails(ELOOP, vfs.lookup, user(vfs), place + b"/s0")
    assert vfs.lookup(user(vfs), place + b"/s28").kind == S_IFDIR


def test_guests_leave_half_of_the_hosts_descriptors(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, most = open_host_tree(top), len(files._descriptors) + 2
    monkeypatch.setattr(files, "most_descriptors", lambda: most)
    held = [tree.open((b"inside",), False) for _ in range(2)]
    before = open_descriptors()
    fails(ENFILE, tree.open, (b"inside",), False)
    assert open_descriptors() == before
    held.pop().close()
    again = tree.open((b"inside",), False)
    assert again.pread(9, 0) == held[0].pread(9, 0) == b"inside"


def test_the_bound_is_half_of_what_the_host_allows() -> None:
    assert files.most_descriptors() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 > 0

"""The in-memory file system's own promises: memory is charged and comes back, holes, cookies, permissions, times."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopyvm.abi.errno import EACCES, EBUSY, ENAMETOOLONG, ENOENT, ENOSPC, ENXIO, EPERM, Errno
from aiopyvm.abi.fcntl import (
    O_APPEND,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
    SEEK_DATA,
    SEEK_HOLE,
    SEEK_SET,
)
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFREG
from aiopyvm.kernel.fs import Directory, need_directory
from aiopyvm.kernel.fscontent import Content
from aiopyvm.kernel.fscontext import FsContext
from aiopyvm.kernel.memfs import MemFs
from aiopyvm.kernel.vfs import Vfs
from tests.files.fakes import Budget, Clock


@pytest.fixture
def budget() -> Budget:
    return Budget()


@pytest.fixture
def vfs(budget: Budget) -> Vfs:
    return Vfs(clock=Clock(), budget=budget)


@pytest.fixture
def ctx(vfs: Vfs) -> FsContext:
    return vfs.context()


def fails(number: int, what: object, *args: object, **kwargs: object) -> None:
    with pytest.raises(Errno) as caught:
        what(*args, **kwargs)  # type: ignore[operator]
    assert caught.value.number == number, caught.value


changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 30000), st.binary(max_size=9000)),
        st.tuples(st.just("truncate"), st.integers(0, 40000), st.just(b"")),
        st.tuples(st.just("punch"), st.integers(0, 30000), st.binary(max_size=20)),
        st.tuples(st.just("snapshot"), st.just(0), st.just(b"")),
    ),
    max_size=25,
)


@given(st.binary(max_size=20000), changes, st.booleans())
@settings(max_examples=100, deadline=None)
def test_content_is_a_bytearray_with_holes(base: bytes, steps: list[tuple[str, int, bytes]], lower: bool) -> None:
    budget = Budget()
    reader = lambda offset, n: base[offset : offset + n]  # noqa: E731
    content = Content.over(budget, reader, len(base)) if lower else Content(budget, base)
    model = bytearray(base)
    for what, at, data in steps:
        if what == "write":
            assert content.write(at, data) == len(data)
            if data:
                model.extend(bytes(max(0, at + len(data) - len(model))))
                model[at : at + len(data)] = data
        elif what == "truncate":
            content.truncate(at)
            model = model[:at] + bytes(max(0, at - len(model)))
        elif what == "punch":
            length = len(data) * 1000
            content.punch(at, length)
            end = min(at + length, len(model))
            model[at:end] = bytes(max(0, end - at))
        else:
            assert content.snapshot() == model
        assert content.size == len(model)
        assert content.read(0, 1 << 20) == model
        assert content.read(at, 5000) == model[at : at + 5000]
        held = (content.allocated - (len(base) + 4095) // 4096) * 4096
        assert held <= budget.used
    content.free()
    assert budget.used == 0


def test_sparse_files_cost_what_is_written(vfs: Vfs, ctx: FsContext, budget: Budget) -> None:
    before = budget.used
    file = vfs.open(ctx, b"/f", O_RDWR | O_CREAT | 0o100000, 0o644).hold()
    assert file.pwrite(b"end", 1 << 40) == 3
    assert budget.used - before < 8192
    assert file.pread(10, (1 << 40) - 5) == b"\0" * 5 + b"end"
    s = file.stat()
    assert (s.size, s.blocks) == ((1 << 40) + 3, 8)
    assert file.seek(0, SEEK_DATA) == 1 << 40
    assert file.seek(0, SEEK_HOLE) == 0
    assert file.seek(1 << 40, SEEK_HOLE) == (1 << 40) + 3
    fails(ENXIO, file.seek, (1 << 40) + 3, SEEK_DATA)
    vfs.unlink(ctx, b"/f")
    assert file.pread(3, 1 << 40) == b"end"
    file.release()
    assert budget.used == before


def test_everything_comes_back(vfs: Vfs, ctx: FsContext, budget: Budget) -> None:
    before = budget.used
    for n in range(50):
        vfs.make(ctx, b"/d%d" % n, S_IFDIR | 0o755)
        file = vfs.open(ctx, b"/d%d/f" % n, O_WRONLY | O_CREAT, 0o644).hold()
        file.write(b"x" * 10000)
        file.release()
        vfs.make(ctx, b"/d%d/link" % n, S_IFLNK | 0o777, target=b"somewhere" * 10)
        vfs.link(ctx, vfs.lookup(ctx, b"/d%d/f" % n), b"/d%d/g" % n)
        vfs.rename(ctx, b"/d%d/f" % n, b"/d%d/longer name" % n)
        vfs.rename(ctx, b"/d%d/g" % n, b"/d%d/link" % n)
    for n in range(50):
        for name in (b"link", b"longer name"):
            vfs.unlink(ctx, b"/d%d/%s" % (n, name))
        vfs.rmdir(ctx, b"/d%d" % n)
    assert budget.used == before


def test_a_full_budget_is_enospc_and_harms_nothing() -> None:
    budget = Budget(200_000)
    vfs = Vfs(clock=Clock(), budget=budget)
    ctx = vfs.context()
    file = vfs.open(ctx, b"/f", O_RDWR | O_CREAT, 0o644).hold()
    written = file.write(b"x" * 300_000)
    assert 100_000 < written < 200_000
    assert written % 4096 == 0
    fails(ENOSPC, file.write, b"y")
    fails(ENOSPC, lambda: [vfs.make(ctx, b"/%d" % n, S_IFDIR | 0o755) for n in range(100)])
    assert file.pread(10, 0) == b"x" * 10
    file.truncate(0)
    assert file.pwrite(b"z" * 50_000, 0) == 50_000


def test_given_bytes_are_shared_until_they_are_written(vfs: Vfs, budget: Budget) -> None:
    data = b"program" * 10000
    content = Content(budget, data)
    before = budget.used
    assert content.snapshot() is data
    content.write(0, b"P")
    assert budget.used - before == 4096
    assert content.read(0, 8) == b"Programp"
    assert data[:1] == b"p"
    assert content.snapshot() is content.snapshot()


def test_reading_a_directory_while_it_changes(vfs: Vfs, ctx: FsContext) -> None:
    for n in range(300):
        vfs.make(ctx, b"/n%d" % n, S_IFREG | 0o644)
    file = vfs.open(ctx, b"/", O_RDONLY | O_DIRECTORY).hold()
    seen = []
    while True:
        part = [entry for _, entry in zip(range(7), file.entries(), strict=False)]
        if not part:
            break
        file.offset = part[-1].cookie
        for entry in part:
            if entry.name not in (b".", b".."):
                seen.append(entry.name)
                vfs.unlink(ctx, b"/" + entry.name)
    assert seen == [b"n%d" % n for n in range(300)]
    file.seek(0, SEEK_SET)
    assert [entry.name for entry in file.entries()] == [b".", b".."]


def test_permissions(vfs: Vfs) -> None:
    root = vfs.administrator()
    root.umask = 0
    vfs.make(root, b"/tmp", S_IFDIR | 0o1777)
    vfs.make(root, b"/shut", S_IFDIR | 0o700)
    vfs.make(root, b"/shut/in", S_IFREG | 0o666)
    alice = vfs.context()
    bob = vfs.context()
    bob.uid, bob.gid, bob.groups = 2000, 2000, frozenset({3000})
    vfs.make(alice, b"/tmp/a", S_IFREG | 0o640)
    fails(EACCES, vfs.open, bob, b"/tmp/a", O_RDONLY)
    fails(EPERM, vfs.unlink, bob, b"/tmp/a")
    fails(EPERM, vfs.rename, bob, b"/tmp/a", b"/tmp/b")
    fails(EACCES, vfs.lookup, alice, b"/shut/in")
    fails(EACCES, vfs.open, bob, b"/f", O_WRONLY | O_CREAT, 0o644)
    vfs.lookup(root, b"/tmp/a").set_owner(-1, 3000)
    assert vfs.open(bob, b"/tmp/a", O_RDONLY)
    fails(EACCES, vfs.open, bob, b"/tmp/a", O_WRONLY)
    assert vfs.open(root, b"/tmp/a", O_WRONLY)
    vfs.unlink(alice, b"/tmp/a")


def test_new_files_take_the_group_of_a_set_gid_directory(vfs: Vfs, ctx: FsContext) -> None:
    directory = vfs.make(vfs.administrator(), b"/shared", S_IFDIR | 0o777)
    directory.set_owner(-1, 77)
    directory.set_mode(0o2777)
    assert vfs.make(ctx, b"/shared/f", S_IFREG | 0o644).stat().gid == 77
    below = vfs.make(ctx, b"/shared/d", S_IFDIR | 0o755).stat()
    assert (below.gid, below.mode & 0o7777) == (77, 0o2755)


def test_times(vfs: Vfs, ctx: FsContext) -> None:
    file = vfs.open(ctx, b"/f", O_RDWR | O_CREAT, 0o644).hold()
    made = file.stat()
    assert made.atime == made.mtime == made.ctime == made.btime
    file.write(b"x")
    written = file.stat()
    assert written.mtime > made.mtime
    assert written.atime == made.atime
    file.pread(1, 0)
    read = file.stat()
    assert read.atime > written.atime
    assert read.mtime == written.mtime
    vfs.lookup(ctx, b"/f").set_mode(0o600)
    changed = file.stat()
    assert changed.ctime > read.ctime
    assert changed.mtime == read.mtime
    before = vfs.lookup(ctx, b"/").stat().mtime
    vfs.rename(ctx, b"/f", b"/g")
    assert vfs.lookup(ctx, b"/").stat().mtime > before


def test_links_and_loops(vfs: Vfs, ctx: FsContext) -> None:
    vfs.make(ctx, b"/d", S_IFDIR | 0o755)
    vfs.make(ctx, b"/l0", S_IFLNK | 0o777, target=b"d")
    for n in range(40):
        vfs.make(ctx, b"/l%d" % (n + 1), S_IFLNK | 0o777, target=b"l%d" % n)
    assert isinstance(vfs.lookup(ctx, b"/l39"), Directory)
    fails(40, vfs.lookup, ctx, b"/l40")
    fails(ENAMETOOLONG, vfs.lookup, ctx, b"/" + b"n" * 256)
    fails(ENAMETOOLONG, vfs.lookup, ctx, b"/" * 4096)
    assert vfs.lookup(ctx, b"/" * 4095) is vfs.root
    fails(ENOENT, vfs.lookup, ctx, b"")


def test_a_removed_directory_is_empty_for_ever(vfs: Vfs, ctx: FsContext) -> None:
    vfs.make(ctx, b"/d", S_IFDIR | 0o755)
    vfs.chdir(ctx, vfs.lookup(ctx, b"/d"))
    vfs.rmdir(ctx, b"/d")
    fails(ENOENT, vfs.open, ctx, b"f", O_WRONLY | O_CREAT, 0o644)
    fails(ENOENT, ctx.cwd.path, vfs.root)
    assert vfs.lookup(ctx, b"..") is vfs.root
    assert list(vfs.open(ctx, b".", O_RDONLY).entries()) == []


def test_files_without_a_name(vfs: Vfs, ctx: FsContext, budget: Budget) -> None:
    before = budget.used
    file = vfs.open(ctx, b"/", O_TMPFILE | O_RDWR, 0o600).hold()
    file.write(b"x" * 5000)
    assert file.stat().nlink == 0
    file.release()
    assert budget.used == before


def test_flags_of_open(vfs: Vfs, ctx: FsContext) -> None:
    file = vfs.open(ctx, b"/f", O_RDWR | O_CREAT | O_EXCL, 0o666).hold()
    assert file.stat().mode == S_IFREG | 0o644
    file.write(b"0123456789")
    appender = vfs.open(ctx, b"/f", O_WRONLY | O_APPEND).hold()
    file.seek(2, SEEK_SET)
    appender.write(b"ab")
    assert file.read(100) == b"23456789ab"
    vfs.open(ctx, b"/f", O_WRONLY | O_TRUNC).hold()
    assert file.stat().size == 0
    fails(EBUSY, vfs.rmdir, ctx, b"/")


def test_mounts(vfs: Vfs, ctx: FsContext, budget: Budget) -> None:
    vfs.mount(b"/a/b", MemFs(vfs.clock, budget, uid=1000, gid=1000))
    fails(EBUSY, vfs.mount, b"/a/b", MemFs(vfs.clock, budget))
    vfs.make(ctx, b"/a/b/f", S_IFREG | 0o644)
    assert vfs.lookup(ctx, b"/a/b/..") is vfs.lookup(ctx, b"/a")
    assert need_directory(vfs.lookup(ctx, b"/a/b")).path(vfs.root) == b"/a/b"
    assert vfs.lookup(ctx, b"/a/b").stat().dev != vfs.lookup(ctx, b"/a").stat().dev
    fails(EBUSY, vfs.rename, ctx, b"/a/b", b"/c")

"""The same operations on a real directory and on ours (memory, read-write, copy-on-write): same results and errors."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiopyvm.abi.errno import Errno
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFREG
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fs import Directory
from tests.files.fakes import make_vfs, user

NAMES = ["a", "b", "c", "d"]
TOP = "top"  # where paths begin: a link to "." and then ".." leads out of it, to what both sides have too
LIBC = ctypes.CDLL(None, use_errno=True)

paths = st.builds(
    lambda parts, slash: "/".join(parts) + slash,
    st.lists(st.sampled_from([*NAMES, *NAMES, ".", ".."]), min_size=1, max_size=3),
    st.sampled_from(["", "", "", "", "/"]),
).filter(lambda p: not p.startswith("..") and "../.." not in p and not p.startswith("./..") and escapes(p) >= 0)


def escapes(path: str) -> int:
    """How deep below the top the path stays at least; links are made so that they stay below too."""
    depth = low = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        low = min(low, depth)
    return low


operations = st.one_of(
    st.tuples(st.just("mkdir"), paths, st.sampled_from([0o777, 0o700, 0o1755])),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rename"), paths, paths, st.sampled_from([0, 0, 0, 1, 2])),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("symlink"), st.sampled_from([*NAMES, "a/b", "b/", ".", "b/c", "nowhere"]), paths),
    st.tuples(st.just("readlink"), paths),
    st.tuples(st.just("create"), paths, st.sampled_from(["", "x", "excl", "nofollow", "directory", "trunc"])),
    st.tuples(st.just("write"), paths, st.integers(0, 9000), st.integers(0, 9000)),
    st.tuples(st.just("append"), paths, st.integers(0, 5000)),
    st.tuples(st.just("truncate"), paths, st.integers(0, 13000)),
    st.tuples(st.just("read"), paths),
    st.tuples(st.just("stat"), paths),
    st.tuples(st.just("lstat"), paths),
    st.tuples(st.just("list"), paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o755, 0o644])),
    st.tuples(st.just("utime"), paths, st.integers(0, 2**31 - 1)),
)

CREATE = {
    "": os.O_RDWR | os.O_CREAT,
    "x": os.O_RDONLY | os.O_CREAT,
    "excl": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "nofollow": os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
    "directory": os.O_RDONLY | os.O_DIRECTORY,
    "trunc": os.O_WRONLY | os.O_TRUNC,
}


class Linux:
    """The operations on a real directory."""

    def __init__(self, top: str) -> None:
        self.top = top

    def at(self, path: str) -> str:
        return f"{self.top}/{TOP}/{path}"

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rename(self, old: str, new: str, flags: int) -> None:
        if LIBC.renameat2(-100, self.at(old).encode(), -100, self.at(new).encode(), flags):
            raise OSError(ctypes.get_errno(), old)

    def link(self, old: str, new: str) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.at(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self.at(path))

    def create(self, path: str, how: str) -> None:
        os.close(os.open(self.at(path), CREATE[how], 0o666))

    @contextmanager
    def opened(self, path: str, flags: int) -> Iterator[int]:
        fd = os.open(self.at(path), flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def write(self, path: str, offset: int, n: int) -> int:
        with self.opened(path, os.O_RDWR) as fd:
            return os.pwrite(fd, pattern(n), offset)

    def append(self, path: str, n: int) -> int:
        with self.opened(path, os.O_WRONLY | os.O_APPEND) as fd:
            return os.write(fd, pattern(n))

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self.at(path), size)

    def read(self, path: str) -> bytes:
        with self.opened(path, os.O_RDONLY) as fd:
            return os.read(fd, 1 << 20)

    def shown(self, s: os.stat_result) -> tuple[Any, ...]:
        kind = stat.S_IFMT(s.st_mode)
        size = 0 if kind == stat.S_IFDIR else s.st_size
        return s.st_mode, size, s.st_nlink if kind == stat.S_IFREG else 0

    def stat(self, path: str) -> Any:
        return self.shown(os.stat(self.at(path)))

    def lstat(self, path: str) -> Any:
        return self.shown(os.lstat(self.at(path)))

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(self.at(path)))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.at(path), mode)

    def utime(self, path: str, seconds: int) -> int:
        os.utime(self.at(path), (seconds, seconds))
        return os.stat(self.at(path)).st_mtime_ns


class Ours:
    """The operations on a tree of ours."""

    def __init__(self, kind: str, top: str) -> None:
        self.vfs = make_vfs(kind, Path(top))
        self.ctx = user(self.vfs)
        self.links_counted = kind != "cow"

    def mkdir(self, path: str, mode: int) -> None:
        self.vfs.make(self.ctx, b(path), S_IFDIR | mode & 0o1777)

    def rmdir(self, path: str) -> None:
        self.vfs.rmdir(self.ctx, b(path))

    def unlink(self, path: str) -> None:
        self.vfs.unlink(self.ctx, b(path))

    def rename(self, old: str, new: str, flags: int) -> None:
        self.vfs.rename(self.ctx, b(old), b(new), flags=flags)

    def link(self, old: str, new: str) -> None:
        inode = self.vfs.lookup(self.ctx, b(old), follow=False)
        self.vfs.link(self.ctx, inode, b(new))

    def symlink(self, target: str, path: str) -> None:
        self.vfs.make(self.ctx, b(path), S_IFLNK | 0o777, target=target.encode())

    def readlink(self, path: str) -> str:
        return self.vfs.readlink(self.ctx, b(path)).decode()

    @contextmanager
    def opened(self, path: str, flags: int) -> Iterator[File]:
        file = self.vfs.open(self.ctx, b(path), flags, 0o666).hold()
        try:
            yield file
        finally:
            file.release()

    def create(self, path: str, how: str) -> None:
        with self.opened(path, CREATE[how]):
            pass

    def write(self, path: str, offset: int, n: int) -> int:
        with self.opened(path, os.O_RDWR) as file:
            return file.pwrite(pattern(n), offset)

    def append(self, path: str, n: int) -> int:
        with self.opened(path, os.O_WRONLY | os.O_APPEND) as file:
            return file.write(pattern(n))

    def truncate(self, path: str, size: int) -> None:
        inode = self.vfs.lookup(self.ctx, b(path))
        if inode.kind == S_IFDIR:
            raise Errno(21)
        inode.truncate(size)

    def read(self, path: str) -> bytes:
        with self.opened(path, os.O_RDONLY) as file:
            return file.read(1 << 20)

    def shown(self, inode: Any) -> tuple[Any, ...]:
        s = inode.stat()
        kind = stat.S_IFMT(s.mode)
        return s.mode, 0 if kind == S_IFDIR else s.size, s.nlink if kind == S_IFREG and self.links_counted else 0

    def stat(self, path: str) -> Any:
        return self.shown(self.vfs.lookup(self.ctx, b(path)))

    def lstat(self, path: str) -> Any:
        return self.shown(self.vfs.lookup(self.ctx, b(path), follow=False))

    def list(self, path: str) -> list[str]:
        with self.opened(path, os.O_RDONLY | os.O_DIRECTORY) as file:
            return sorted(entry.name.decode() for entry in file.entries() if entry.name not in (b".", b".."))

    def chmod(self, path: str, mode: int) -> None:
        self.vfs.lookup(self.ctx, b(path)).set_mode(mode)

    def utime(self, path: str, seconds: int) -> int:
        inode = self.vfs.lookup(self.ctx, b(path))
        inode.set_times(seconds * 10**9, seconds * 10**9)
        return inode.stat().mtime


def b(path: str) -> bytes:
    return f"{TOP}/{path}".encode()


def pattern(n: int) -> bytes:
    return bytes(i % 251 + 1 for i in range(n))


def attempt(what: Callable[..., Any], *args: Any) -> Any:
    """Return what a call returns, or its error number."""
    try:
        return what(*args)
    except OSError as error:
        return f"errno {error.errno}"
    except Errno as error:
        return f"errno {error.number}"


def furnish(top: str) -> None:
    """A few things that are there already (for a copy-on-write tree: on the host)."""
    top += f"/{TOP}"
    for path in ("", "/a", "/a/b"):
        os.mkdir(top + path, 0o755)
    Path(top, "a/c").write_bytes(b"lower a/c" * 1000)
    Path(top, "b").write_bytes(b"lower b")
    os.symlink("a", top + "/d")


def populate(ours: Ours) -> None:
    """The same in memory."""
    for path in ("", "a", "a/b"):
        ours.mkdir(path, 0o755)
    for path, data in (("a/c", b"lower a/c" * 1000), ("b", b"lower b")):
        with ours.opened(path, os.O_WRONLY | os.O_CREAT) as file:
            file.write(data)
        ours.chmod(path, 0o644)
    ours.symlink("a", "d")


@pytest.fixture(params=["memory", "rw", "cow"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@given(st.lists(operations, min_size=1, max_size=25))
@example([("symlink", ".", "c"), ("create", "c/../a", ""), ("rmdir", "c/.."), ("stat", "c/../top")])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sequences_of_operations(kind: str, steps: list[tuple[Any, ...]]) -> None:
    old_umask = os.umask(0o022)
    top = tempfile.mkdtemp()
    try:
        real, mirror = top + "/real", top + "/mirror"
        for path in (real, mirror):
            os.mkdir(path, 0o755)
        furnish(real)
        if kind != "memory":
            furnish(mirror)
        linux, ours = Linux(real), Ours(kind, mirror)
        if kind == "memory":
            populate(ours)
        for step in steps:
            name, *args = step
            if kind == "rw" and name == "rename":
                args[2] &= ~2  # RENAME_EXCHANGE is not passed on to the host
            want = attempt(getattr(linux, name), *args)
            if not ours.links_counted and isinstance(want, tuple):
                want = (*want[:2], 0)
            assert attempt(getattr(ours, name), *args) == want, step
        assert everything(ours) == everything_real(real)
        if kind == "cow":
            assert everything_real(mirror) == everything_real(furnished(top))
    finally:
        os.umask(old_umask)
        shutil.rmtree(top)


def furnished(top: str) -> str:
    os.mkdir(top + "/fresh", 0o755)
    furnish(top + "/fresh")
    return top + "/fresh"


def everything_real(top: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(directory, name)
            key = "../" + os.path.relpath(path, top)
            if os.path.islink(path):
                found[key] = os.readlink(path)
            elif os.path.isdir(path):
                found[key] = "directory"
            else:
                found[key] = Path(path).read_bytes()
    return found


def everything(ours: Ours) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pending = [".."]
    while pending:
        at = pending.pop()
        for name in ours.list(at):
            key = f"{at}/{name}"
            inode = ours.vfs.lookup(ours.ctx, b(key), follow=False)
            if isinstance(inode, Directory):
                found[key] = "directory"
                pending.append(key)
            elif inode.kind == S_IFLNK:
                found[key] = ours.readlink(key)
            else:
                found[key] = ours.read(key)
    return found

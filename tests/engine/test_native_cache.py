"""Compiled code on disk: whole or absent, ours alone, bounded; the object made ahead of time comes from it."""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aiopyvm.engine.native import cachekey
from aiopyvm.engine.native.aot import AheadOfTime, pack_image, unpack_image
from aiopyvm.engine.native.cache import ObjectCache, cache_directory
from aiopyvm.engine.native.cachekey import name_of, toolchain_key
from aiopyvm.engine.native.codearena import FIXED_END, FIXED_START, CodeArena, unsupported
from aiopyvm.engine.native.objectfile import BadObjectError, Image
from aiopyvm.errors import EngineUnavailableError, HostRefusedError

NAMES = [f"code-{n:064x}" for n in range(20)]


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "above" / "cache")


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_was_put_comes_back(cache: ObjectCache) -> None:
    assert cache.get(NAMES[0]) is None
    assert cache.put(NAMES[0], b"first")
    assert cache.put(NAMES[0], b"second")
    assert cache.put(NAMES[1], b"")
    again = ObjectCache(cache.root)
    assert (again.get(NAMES[0]), again.get(NAMES[1]), again.get(NAMES[2])) == (b"second", b"", None)
    assert (again.hits, again.misses) == (2, 1)
    assert stat.S_IMODE(cache.root.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in cache.root.iterdir())


@pytest.mark.parametrize("name", ["", "code", "../code-" + "0" * 64, "code-" + "0" * 63, "code-" + "G" * 64, "a\0"])
def test_a_name_is_no_path(cache: ObjectCache, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        cache.get(name)
    with pytest.raises(ValueError, match="not a name"):
        cache.put(name, b"")


@pytest.mark.parametrize("at", [0, 20, 60, -1])
def test_damage_is_found_and_removed(cache: ObjectCache, at: int) -> None:
    cache.put(NAMES[0], b"content" * 10)
    file = cache.root / NAMES[0]
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert cache.get(NAMES[0]) is None
    assert not file.exists()


def test_a_file_that_is_cut_off_or_has_another_s_name_is_damaged(cache: ObjectCache) -> None:
    for length in (0, 10, 40, 55):
        cache.put(NAMES[0], b"content" * 10)
        os.truncate(cache.root / NAMES[0], length)
        assert cache.get(NAMES[0]) is None
    cache.put(NAMES[0], b"content")
    os.rename(cache.root / NAMES[0], cache.root / NAMES[1])
    assert cache.get(NAMES[1]) is None


def test_a_directory_that_others_may_use_is_refused(cache: ObjectCache, caplog: pytest.LogCaptureFixture) -> None:
    cache.put(NAMES[0], b"content")
    cache.root.chmod(0o770)
    with pytest.raises(HostRefusedError, match="mode 770"):
        cache.check()
    with caplog.at_level(logging.WARNING, "aiopyvm"):
        assert cache.get(NAMES[0]) is None
        assert not cache.put(NAMES[1], b"x")
    assert len(caplog.records) == 1
    assert "mode 770" in caplog.text
    cache.root.chmod(0o700)
    assert cache.get(NAMES[0]) == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_a_directory_or_file_of_another_user_is_refused(cache: ObjectCache) -> None:
    cache.put(NAMES[0], b"content")
    os.chown(cache.root / NAMES[0], 12345, -1)
    assert cache.get(NAMES[0]) is None
    os.chown(cache.root / NAMES[0], 0, -1)
    os.chown(cache.root, 12345, -1)
    assert cache.get(NAMES[0]) is None
    with pytest.raises(HostRefusedError, match="belongs to user 12345"):
        cache.check()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "readable by others", "directory", "fifo"])
def test_only_private_regular_files_are_read(cache: ObjectCache, tmp_path: Path, kind: str) -> None:
    cache.put(NAMES[0], b"content")
    file, other = cache.root / NAMES[0], tmp_path / "other"
    if kind == "readable by others":
        file.chmod(0o640)
    elif kind == "hard link":
        os.link(file, other)
    else:
        os.rename(file, other)
        if kind == "symlink":
            file.symlink_to(other)
        elif kind == "directory":
            file.mkdir()
        else:
            os.mkfifo(file, 0o600)
    assert cache.get(NAMES[0]) is None


@pytest.mark.parametrize("where", ["file", "below a file"])
def test_a_place_that_is_no_directory_is_told(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = ObjectCache(tmp_path / "file" / ("x" if where != "file" else ""))
    with pytest.raises(HostRefusedError, match="no cache directory"):
        cache.check()
    assert cache.get(NAMES[0]) is None
    assert not cache.put(NAMES[0], b"")


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", max_bytes=10_000)
    for n, name in enumerate(NAMES[:9]):
        assert cache.put(name, bytes(1000))
        os.utime(cache.root / name, (n + 1, n + 1))
    assert cache.get(NAMES[0]) is not None  # used just now
    assert cache.put(NAMES[9], bytes(1000))
    kept = {entry.name for entry in cache.entries()}
    assert kept == {NAMES[0], *NAMES[4:10]}
    assert sum(entry.size for entry in cache.entries()) <= 7500
    assert not cache.put(NAMES[10], bytes(10_000))


def test_programs_of_guests_crowd_out_nothing_else(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", max_bytes=40_000)
    assert cache.put(NAMES[0], bytes(1000))
    os.utime(cache.root / NAMES[0], (1, 1))
    for n in range(40):
        assert cache.put(f"program-{n:064x}", bytes(1000))
        programs = [entry for entry in cache.entries() if entry.name.startswith("program")]
        assert sum(entry.size for entry in programs) <= 10_000
    assert len(programs) > 4
    assert f"program-{39:064x}" in {entry.name for entry in programs}
    assert cache.get(NAMES[0]) is not None


def test_leftovers_go_and_foreign_files_stay(cache: ObjectCache) -> None:
    cache.check()
    (cache.root / ".new-00").write_bytes(b"cut off long ago")
    os.utime(cache.root / ".new-00", (1, 1))
    (cache.root / ".new-01").write_bytes(b"being written")
    (cache.root / "notes").write_bytes(b"somebody's")
    cache.put(NAMES[0], b"x")
    assert {file.name for file in cache.root.iterdir()} == {".new-01", "notes", NAMES[0]}
    assert cache.clear() == 1
    assert {file.name for file in cache.root.iterdir()} == {".new-01", "notes"}
    assert cache.clear() == 0


def test_many_processes_at_once(cache: ObjectCache) -> None:
    script = f"""
import sys
from aiopyvm.engine.native.cache import ObjectCache
cache = ObjectCache({str(cache.root)!r}, max_bytes=200_000)
seed = int(sys.argv[1])
for n in range(150):
    name = f"code-{{n * 7 % 10:064x}}"
    found = cache.get(name)
    assert found is None or (len(set(found)) == 1 and len(found) == 20_000), found[:10]
    assert cache.put(name, bytes([n + seed & 255]) * 20_000)
    if n % 50 == 49:
        cache.clear()
"""
    runs = [subprocess.Popen([sys.executable, "-c", script, str(n)], stderr=subprocess.PIPE) for n in range(4)]
    ends = [(run.communicate(timeout=60)[1], run.returncode) for run in runs]
    assert ends == [(b"", 0)] * 4
    assert all(not entry.name.startswith(".new-") for entry in cache.entries())


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"AIOPYVM_CACHE_DIR": "/a/b", "XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/a/b"),
        ({"AIOPYVM_CACHE_DIR": "", "XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/aiopyvm"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/d"}, "/d/.cache/aiopyvm"),
        ({"HOME": "/d"}, "/d/.cache/aiopyvm"),
    ],
)
def test_the_environment_says_where(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], directory: str
) -> None:
    for name in ("AIOPYVM_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_directory.__wrapped__() == directory


# --- what code depends on ---------------------------------------------------------------------------------------------

needs_llvmlite = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))
pytest.importorskip("llvmlite")


def test_names_differ_by_all_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name_of("a"), name_of("b"), name_of("a", b"x"), name_of("a", b"x", b""), name_of("a", b"", b"x")}
    assert len(names) == 5
    before = toolchain_key()
    for part in ("_llvm", "_processor", "_sources"):
        with monkeypatch.context() as patch:
            patch.setattr(cachekey, part, lambda: b"another")
            assert toolchain_key.__wrapped__() != before
    assert toolchain_key.__wrapped__() == before


def test_every_source_counts_but_those_without_a_say() -> None:
    names = {os.path.relpath(path, cachekey._PACKAGE) for path in cachekey._files()}
    assert {"isa/insns/arith.py", "ir/ops.py", "engine/native/layout.py", "engine/shapes.py", "mem/layout.py"} <= names
    assert not names & {"engine/native/cache.py", "engine/native/worker.py", "kernel/kernel.py"}
    assert all("__pycache__" not in name for name in names)


def test_without_llvmlite_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailableError, match="llvmlite is not installed"):
        toolchain_key.__wrapped__()


def test_the_version_is_known_without_an_import() -> None:
    import llvmlite

    assert cachekey.llvmlite_version() == llvmlite.__version__


# --- the object made ahead of time ------------------------------------------------------------------------------------

GENERATOR = "tests.engine.worker_jobs:three"


@pytest.fixture
def arena() -> CodeArena:
    return CodeArena(FIXED_END + (1 << 20))


def three(found: AheadOfTime) -> int:
    loaded = found.poll()
    assert loaded is not None
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(loaded.address("three"))()
    return result


@needs_llvmlite
def test_it_is_built_once_then_read(cache: ObjectCache, arena: CodeArena) -> None:
    first = AheadOfTime(arena, cache, GENERATOR)
    assert first.poll() is None  # nobody waits for LLVM
    assert first.wait(60) is first.poll()
    assert (three(first), first.from_cache) == (3, False)
    second = AheadOfTime(CodeArena(FIXED_END), cache, GENERATOR)
    assert (three(second), second.from_cache) == (3, True)
    assert first.loaded is not None
    assert second.loaded is not None
    assert first.loaded.symbols == second.loaded.symbols


@needs_llvmlite
def test_a_damaged_one_is_built_again(cache: ObjectCache, arena: CodeArena) -> None:
    AheadOfTime(CodeArena(FIXED_END), cache, GENERATOR).wait(60)
    (entry,) = cache.entries()
    cache.put(entry.name, b"whole, but no image")
    again = AheadOfTime(arena, cache, GENERATOR)
    again.wait(60)
    assert (three(again), again.from_cache) == (3, False)
    assert AheadOfTime(CodeArena(FIXED_END), cache, GENERATOR).poll() is not None


@needs_llvmlite
def test_it_is_there_without_a_cache(tmp_path: Path, arena: CodeArena) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = AheadOfTime(arena, ObjectCache(tmp_path / "file"), GENERATOR)
    found.wait(60)
    assert three(found) == 3


@needs_llvmlite
@pytest.mark.parametrize(
    ("generator", "what"),
    [
        ("tests.engine.worker_jobs:describe", "cannot be compiled"),
        ("tests.engine.worker_jobs:leave", "died"),
        ("tests.engine.worker_jobs:absent", "no attribute"),
        ("tests.engine.worker_jobs:data", "cannot be loaded"),
    ],
)
def test_that_there_will_be_none_is_told(cache: ObjectCache, arena: CodeArena, generator: str, what: str) -> None:
    found = AheadOfTime(arena, cache, generator)
    with pytest.raises(EngineUnavailableError, match=what):
        found.wait(60)
    with pytest.raises(EngineUnavailableError, match=what):
        found.poll()
    assert cache.entries() == []


@needs_llvmlite
def test_a_warm_start_neither_imports_llvmlite_nor_starts_a_process(cache: ObjectCache) -> None:
    script = f"""
import sys
from aiopyvm.engine.native import cachekey
from aiopyvm.engine.native.aot import AheadOfTime
from aiopyvm.engine.native.cache import ObjectCache
cachekey._sources = lambda: b"the same, whoever is at work on them"
found = AheadOfTime(None, ObjectCache({str(cache.root)!r}), {GENERATOR!r})
found.wait(60)
print(found.from_cache, "aiopyvm.engine.native.detached" in sys.modules, "llvmlite" in sys.modules)
"""
    for seen in ("False True False\n", "True False False\n"):
        run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
        assert (run.stdout, run.stderr) == (seen, "")


def test_an_image_survives_its_packing() -> None:
    image = Image(FIXED_START, b"code", {"a": FIXED_START, "b": FIXED_START + 4}, {".text": (FIXED_START, 4)})
    data = pack_image(image)
    assert unpack_image(data) == image
    for damaged in (b"", data[:3], data[:20], b"\xff" * 8 + data[8:], data.replace(b".text", b".te\0t")):
        with pytest.raises(BadObjectError):
            unpack_image(damaged)
    outside = Image(FIXED_START, b"code", {"a": FIXED_START - 1}, {})
    with pytest.raises(BadObjectError, match="outside"):
        unpack_image(pack_image(outside))


@needs_llvmlite
def test_a_forked_child_starts_anew(cache: ObjectCache) -> None:
    """What the parent's threads were about to do does not happen in the child: it builds for itself."""
    script = f"""
import os, sys
from aiopyvm.engine.native import aot
from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.worker import compiler
aot._instances.append(aot.AheadOfTime(None, ObjectCache({str(cache.root)!r}), "tests.engine.worker_jobs:slow"))
assert aot.ahead_of_time().poll() is None
child = os.fork()
if child == 0:
    assert not aot._instances
    assert compiler().compile("define void @f() {{ ret void }}", timeout=60)
    compiler().close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(ObjectCache({str(cache.root)!r}).entries())
assert aot.ahead_of_time().wait(60)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")

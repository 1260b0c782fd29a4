"""The object made ahead of time is built by one process at a time, which outlives those that wanted it."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aiopyvm.engine.native.aot import AheadOfTime
from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.codearena import FIXED_END, CodeArena
from aiopyvm.engine.native.detached import Detached, order
from aiopyvm.errors import EngineUnavailableError
from tests.engine.test_native_cache import needs_llvmlite

pytestmark = needs_llvmlite
JOBS = "tests.engine.worker_jobs"
NAME = "aot-" + "0" * 64

WANTS = """
import sys
from aiopyvm.engine.native import cachekey
from aiopyvm.engine.native.aot import AheadOfTime
from aiopyvm.engine.native.cache import ObjectCache
cachekey._sources = lambda: b"the same, whoever is at work on them"
found = AheadOfTime(None, ObjectCache(sys.argv[1]), "tests.engine.worker_jobs:" + sys.argv[2])
assert found.poll() is None
print("left", flush=True)
if sys.argv[3:] == ["killed"]:
    import os, signal
    os.killpg(0, signal.SIGKILL)
if sys.argv[3:] == ["waits"]:
    import ctypes, os
    print(ctypes.CFUNCTYPE(ctypes.c_int)(found.wait(60).address("three"))(), found.from_cache)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no child is left")
"""


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "cache")


def wants(cache: ObjectCache, job: str, *how: str) -> list[str]:
    """The command of a process that wants an object."""
    return [sys.executable, "-W", "error", "-c", WANTS, str(cache.root), job, *how]


def until(condition: Callable[[], object]) -> None:
    """Wait, a minute at most."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_it_is_built_when_the_process_that_wanted_it_has_ended(cache: ObjectCache, how: str) -> None:
    run = subprocess.run(
        wants(cache, "slow", how), capture_output=True, text=True, timeout=60, start_new_session=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (-9 if how == "killed" else 0, "left\n", "")
    assert cache.entries() == []
    until(cache.entries)
    until(lambda: not builders(cache))


def builders(cache: ObjectCache) -> list[int]:
    """The processes that have the cache's lock open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue  # it has ended, or is another user's
        if str(cache.root / ".lock") in links:
            found.append(int(process.name))
    return found


def test_many_processes_have_it_built_once(cache: ObjectCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPYVM_TEST_COUNT", str(tmp_path / "count"))
    hasty = subprocess.run(wants(cache, "counted"), capture_output=True, text=True, timeout=60, check=False)
    assert (hasty.stdout, hasty.stderr) == ("left\n", "")
    processes = [
        subprocess.Popen(wants(cache, "counted", "waits"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    until(lambda: not builders(cache))
    assert len((tmp_path / "count").read_text().splitlines()) == 1
    late = "AssertionError"  # it was there already when the last ones looked
    assert all(out == "left\n3 True\nno child is left\n" or late in err for out, err in answers), answers
    assert len(cache.entries()) == 1


def test_who_builds_and_stays_has_no_child_left(cache: ObjectCache) -> None:
    run = subprocess.run(wants(cache, "three", "waits"), capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr) == ("left\n3 False\nno child is left\n", "")


def test_a_builder_inherits_the_lock_alone(cache: ObjectCache) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        with pytest.raises(EngineUnavailableError) as caught:
            AheadOfTime(CodeArena(FIXED_END), cache, f"{JOBS}:describe").wait(60)
    finally:
        os.close(reader)
        os.close(writer)
    found = re.search(r"session=(\d+) fds=\[([\d, ]*)\]", str(caught.value))
    assert found is not None, caught.value
    assert int(found[1]) != os.getsid(0)
    assert len(found[2].split(",")) == 5, found[0]  # 0 to 2, the lock, and the listing of them itself


def test_the_lock_ends_with_its_holder(cache: ObjectCache) -> None:
    found = AheadOfTime(CodeArena(FIXED_END), cache, f"{JOBS}:kill")
    assert found.poll() is None
    with pytest.raises(EngineUnavailableError, match="died of SIGKILL"):
        found.wait(60)
    lock = cache.try_lock()
    assert lock is not None
    assert cache.try_lock() is None
    os.close(lock)


def test_who_waits_for_a_builder_that_fails_builds(cache: ObjectCache) -> None:
    lock = cache.try_lock()
    assert lock is not None
    found = AheadOfTime(CodeArena(FIXED_END), cache, f"{JOBS}:three")
    assert found.poll() is None
    time.sleep(0.3)
    assert found.poll() is None
    os.close(lock)
    loaded = found.wait(60)
    assert ctypes.CFUNCTYPE(ctypes.c_int)(loaded.address("three"))() == 3
    assert found.kept


@pytest.mark.parametrize(
    ("job", "cause"), [("spin", "SIGXCPU"), ("eat", "out of memory"), ("three", None), ("sleep", "SIGALRM")]
)
def test_a_builder_has_limits(cache: ObjectCache, job: str, cause: str | None) -> None:
    wanted = order(cache.root, NAME, f"{JOBS}:{job}", 2, 0.0 if job == "spin" else 20.0)
    wanted["memory"] = 1 << 30
    wanted["wall_seconds"] = 1 if job == "sleep" else 60
    lock = cache.try_lock()
    assert lock is not None
    if cause is None:
        assert Detached(lock, wanted).wait()
        assert cache.get(NAME)
        return
    with pytest.raises(EngineUnavailableError, match=cause):
        Detached(lock, wanted).wait()
    assert cache.get(NAME) is None


def test_where_no_builder_can_be_started_the_worker_of_the_process_builds(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: int, _: object) -> None:
        os.close(lock)
        raise OSError(12, "no process")

    monkeypatch.setattr("aiopyvm.engine.native.detached.Detached", refuse)
    found = AheadOfTime(CodeArena(FIXED_END), cache, f"{JOBS}:three")
    assert ctypes.CFUNCTYPE(ctypes.c_int)(found.wait(60).address("three"))() == 3
    assert found.kept


def test_a_cache_that_takes_nothing_is_told(tmp_path: Path, cache: ObjectCache) -> None:
    lock = cache.try_lock()
    assert lock is not None
    (tmp_path / "file").write_bytes(b"")
    assert Detached(lock, order(tmp_path / "file", NAME, f"{JOBS}:three", 2, 20)).wait() is False

"""How long regions live: while a space uses them or there is room, on disk for other processes; and who makes them."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.hot import Hot
from aiopyvm.engine.native.hotstate import Region
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.native.worker import Compiler, Job, compiler
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from tests.engine.engines import hot_engine, native_handlers
from tests.engine.test_native_hot import looping, made, regions


@pytest.fixture(params=(CHECKED, MMU))
def memory(request: pytest.FixtureRequest) -> str:
    """The form of the regions' accesses."""
    return str(request.param)


def test_spaces_come_and_go_and_their_regions_with_them(memory: str) -> None:
    """There is room for two regions: of four in use two are forgotten, and live on as long as their spaces; a fifth is
    not made."""
    engine = hot_engine(2, memory=memory)
    cores: list[Core] = []
    found: list[Region] = []
    for number in range(0x1234561, 0x1234566):  # regions of one size
        core = looping(f"mov ecx, 50; again: add eax, {number}; dec ecx; jnz again; int 0x80")
        assert engine.run(core, 1000) == Exit(ExitReason.SYSCALL)
        assert core.cpu.eax == 50 * number & 0xFFFFFFFF
        found += regions_of(engine, core)
        cores.append(core)
        assert engine.hot is not None
        engine.hot._most_bytes = 2 * found[0].loaded.size
    size = found[0].loaded.size
    assert [(region.users, region.kept, region.loaded.size) for region in found] == [
        (1, False, size), (1, False, size), (1, True, size), (1, True, size),
    ]  # fmt: skip
    assert regions(engine, "evicted") == 2
    left = []
    while cores:
        left.append(engine.statistics()["region_bytes"] // size)
        cores.pop(0).memory.close()
        del core
        gc.collect()
        core = looping("hlt")
    assert left == [4, 3, 2, 2, 2]
    assert engine.statistics()["region_bytes"] == 2 * size
    assert [region.users for region in found] == [0] * 4


def test_a_region_that_is_too_large_is_none() -> None:
    table = native_handlers()
    engine = NativeEngine(lambda: table, lambda symbols: Hot(symbols, 2, wait=True, most_bytes=1))
    core = looping("mov ecx, 50; again: add eax, 5; dec ecx; jnz again; int 0x80")
    assert engine.run(core, 1000) == Exit(ExitReason.SYSCALL)
    assert core.cpu.eax == 250
    assert (regions_of(engine, core), made(engine), regions(engine, "evicted")) == ([], 1, 1)
    assert engine.statistics()["region_bytes"] == 0


def test_regions_that_are_kept_outlive_their_spaces(memory: str) -> None:
    engine = hot_engine(2, memory=memory)
    size = 0
    for number in range(4):
        core = looping("mov ecx, 50; again: add eax, 3; dec ecx; jnz again; int 0x80")
        assert engine.run(core, 1000) == Exit(ExitReason.SYSCALL)
        core.memory.close()
        del core
        gc.collect()
        size = size or engine.statistics()["region_bytes"]
        assert (made(engine), regions(engine, "adopted")) == (1, number)
        assert engine.statistics()["region_bytes"] == size > 0


def regions_of(engine: NativeEngine, core: Core) -> list[Region]:
    """The regions that are installed in the core's space."""
    hot = engine.hot
    assert hot is not None
    (code,) = (code for code in core.memory.translations.values() if isinstance(code, SpaceCode))
    return list(hot._spaces[code].roots.values())


def test_a_space_that_is_collected_anywhere_does_no_harm(memory: str) -> None:
    engine = hot_engine(2, memory=memory)
    core = looping("mov ecx, 50; again: add eax, 1; dec ecx; jnz again; int 0x80")
    engine.run(core, 1000)
    hot = engine.hot
    assert hot is not None
    (region,) = hot._order
    assert region.users == 1
    hot._discard(region)
    with hot._queue_lock, hot.epochs._lock:  # as the collector may find them, in any thread
        core.memory.translations.clear()
        core.memory.code_listeners.clear()
        del core
        other = threading.Thread(target=gc.collect)
        other.start()
        other.join(10)
        assert not other.is_alive()
    assert engine.statistics()["region_bytes"] == 0


def test_a_child_of_fork_makes_its_own_regions(tmp_path: Path) -> None:
    table, cache = native_handlers(), ObjectCache(tmp_path / "objects")
    silent = cast("Compiler", SimpleNamespace(submit_job=lambda job: None))  # as one whose thread the child has not
    engine = NativeEngine(lambda: table, lambda symbols: Hot(symbols, 5, make=silent, cache=cache))
    core = looping("again: dec ecx; jnz again; int 0x80")
    core.cpu.ecx = 1 << 30
    engine.run(core, 10_000)
    hot = engine.hot
    assert hot is not None
    assert (len(hot._making), hot._submitted) == (1, 1)
    with hot._lock, hot._queue_lock, hot.epochs._lock:
        child = os.fork()
        if not child:
            status = 1
            try:
                hot._make, hot._wait = None, True
                engine.run(core, 10_000)
                status = 0 if (made(engine), len(hot._making), hot._submitted) == (1, 0, 0) else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (len(hot._making), hot._submitted) == (1, 1)


def test_a_space_that_waits_for_the_compiler_has_its_turn(tmp_path: Path) -> None:
    table, jobs, done = native_handlers(), list[Job](), threading.Event()

    def compile_now() -> None:
        done.clear()
        job = jobs.pop()
        tell = job.callback
        assert tell is not None

        def told(job: Job) -> None:
            tell(job)
            done.set()

        job.callback = told
        compiler().submit_job(job)
        assert done.wait(60)

    held = cast("Compiler", SimpleNamespace(submit_job=jobs.append))
    cache = ObjectCache(tmp_path / "objects")
    engine = NativeEngine(lambda: table, lambda symbols: Hot(symbols, 5, make=held, cache=cache))
    first, second = (looping(f"again: add eax, {n}; dec ecx; jnz again; int 0x80") for n in (1, 2))
    for core in (first, second):
        core.cpu.ecx = 1 << 30
        engine.run(core, 1000)
    assert len(jobs) == 1
    compile_now()
    engine.run(first, 1000)  # takes what was made
    assert made(engine) == 1
    engine.run(second, 1000)
    assert len(jobs) == 1
    compile_now()
    engine.run(second, 1000)
    assert made(engine) == 2


def test_what_was_compiled_is_found_on_disk(tmp_path: Path, memory: str) -> None:
    for compiled, cached in ((1, 0), (0, 1)):
        core = looping("mov ecx, 77; again: add eax, ecx; dec ecx; jnz again; int 0x80")
        engine = hot_engine(3, ObjectCache(tmp_path / "objects"), memory)
        engine.run(core, 1000)
        assert core.cpu.eax == 77 * 78 // 2
        assert (regions(engine, "compiled"), regions(engine, "cached")) == (compiled, cached)

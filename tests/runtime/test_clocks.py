"""Programs that tell the time by the vdso: as on Linux, without system calls, and by a clock that somebody sets."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiopyvm import VM, SyscallHook, assemble
from aiopyvm.engine.protocol import ExitReason
from aiopyvm.host import clock as clocks
from aiopyvm.host.clock import WALL, RealClock
from aiopyvm.kernel.clockpage import ClockPage
from aiopyvm.loader.vdsoclocks import MODE, SEQUENCE, TO_ADD
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import native_engine
from tests.engine.test_code import machine
from tests.native import NativeRun, glibc_path

SECOND = 1_000_000_000


@pytest.fixture
def program() -> Any:
    path = glibc_path("clockcalls")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    return path


@pytest.mark.native
@pytest.mark.anyio
async def test_clocks_answer_as_the_hosts_do(program: Any, native: NativeRun) -> None:
    result = await VM(engine="native").run_elf(program)
    assert result.stdout == native(program).stdout


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{"clock": "virtual"}, {"seed": 1}, {"engine": "python"}])
async def test_elsewhere_the_calls_are_made(program: Any, native: NativeRun, options: dict[str, Any]) -> None:
    """Where time is not the host's, or RDTSC is slow: with the same answers, but for bad pointers."""
    result = await VM(**options).run_elf(program)
    different = ("bad pointer", "mprotect")
    lines = [line for line in result.text.splitlines() if not line.startswith(different)]
    assert lines == [line for line in native(program).stdout.decode().splitlines() if not line.startswith(different)]


@pytest.mark.anyio
async def test_the_page_of_clocks_is_shown_as_on_linux(busybox: Path) -> None:
    for vm in (VM(engine="native"), VM(engine="native", clock="virtual")):
        result = await vm.run_elf(busybox, "grep", "-A1", "vvar", "/proc/self/maps")
        lines = [line.split() for line in result.text.splitlines()]
        assert [line[1] for line in lines] == ["r--p", "r-xp"]
        assert [line[-1] for line in lines] == ["[vvar]", "[vdso]"]
        assert lines[0][0].split("-")[1] == lines[1][0].split("-")[0]


@pytest.mark.anyio
async def test_hooks_see_all_calls(program: Any) -> None:
    seen: list[str] = []

    def hook(event: Any) -> None:
        seen.append(event.name)

    for hooks in ([], [SyscallHook(hook, "clock_gettime64")]):
        await VM(engine="native").run_elf(program, hooks=hooks)
    assert len(seen) >= 300  # of every clock a quarter by the library, and by the vdso


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What the host's wall clock was put forward."""
    by, time_ns = [0], time.time_ns

    class Time:
        monotonic_ns = staticmethod(time.monotonic_ns)

        @staticmethod
        def time_ns() -> int:
            return time_ns() + by[0]

    monkeypatch.setattr(clocks, "time", Time)
    yield by
    by[0] = 0
    WALL.look(time.monotonic_ns())


def added(page: ClockPage) -> int:
    """What the page says is to be added, as a program reads it."""
    content = page.read_at(0, 4096)
    mode, sequence = struct.unpack_from("<II", content, MODE)
    assert (mode, SEQUENCE) == (1, MODE + 4)
    ahead: int = struct.unpack_from("<q", content, TO_ADD + 8 * (sequence & 1))[0]
    return ahead


def test_a_clock_that_is_set_is_followed(step: list[int]) -> None:
    clock = RealClock()
    assert abs(clock.realtime_ns() - time.time_ns()) < SECOND
    page = ClockPage(clock.ahead_ns())
    clock.follow(lambda: page.show(clock.ahead_ns()))
    before = clock.ahead_ns()
    for by in (3600 * SECOND, -7200 * SECOND, 5 * SECOND):
        assert added(page) == clock.ahead_ns()
        step[0] = by
        WALL.look(time.monotonic_ns())
        assert abs(clock.ahead_ns() - before - by) < SECOND // 1000
        assert abs(clock.realtime_ns() - time.time_ns() - by) < SECOND
        assert added(page) == clock.ahead_ns()


def test_a_small_difference_is_none(step: list[int]) -> None:
    clock = RealClock()
    before = clock.ahead_ns()
    step[0] = 1
    WALL.look(time.monotonic_ns())
    assert clock.ahead_ns() == before


def test_programs_look_at_the_page_itself() -> None:
    """Not at a copy: what is shown later is seen."""
    space, page = AddressSpace(), ClockPage(7)
    space.map(0x10000, 4096, 1, page, shared=True)
    assert space.load(0x10000 + TO_ADD, 4) == 7
    page.show(9)
    assert space.load(0x10000 + SEQUENCE, 4) == 1
    assert space.load(0x10000 + TO_ADD + 8, 4) == 9
    page.hide()
    assert space.load(0x10000 + MODE, 4) == 0
    space.close()


def test_generated_code_reads_the_hosts_clock() -> None:
    """The counter is nanoseconds since its zero, and Python is not asked."""
    engine = native_engine()
    before = time.monotonic_ns()
    code = assemble("mov ecx, 100\nagain: rdtsc\nloop again\nint 0x80")
    core = machine(code)
    core.counter_zero, core.rdtsc = before - 5, lambda: time.monotonic_ns() - before + 5
    assert engine.run(core, 1000).reason is ExitReason.SYSCALL
    counter = core.cpu.edx << 32 | core.cpu.eax
    assert 5 <= counter <= time.monotonic_ns() - before + 5
    assert engine.statistics()["instructions_evaluated"] + engine.statistics()["instructions_python"] == 0


def test_a_counter_that_is_not_the_hosts_is_asked() -> None:
    engine = native_engine()
    core, numbers = machine(assemble("mov ecx, 100\nagain: rdtsc\nloop again\nint 0x80")), iter(range(1000))
    core.rdtsc = lambda: next(numbers) << 32 | 7
    assert engine.run(core, 1000).reason is ExitReason.SYSCALL
    assert (core.cpu.edx, core.cpu.eax) == (99, 7)

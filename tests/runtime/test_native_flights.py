"""The native engine's generated code on worker threads: results as without them, two guests on two cores, killed in the
middle, code that changes itself, and an event loop that is never late for long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aiopyvm import Limits, Reason, Runtime, assemble
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.runtime import flights, machine
from tests.conftest import GuestPaths
from tests.engine.engines import native_engine
from tests.runtime.machine_code import program
from tests.runtime.test_blocks import idle

both_loops = pytest.mark.both_loops
SPIN = assemble("again: inc eax; jmp again")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[NativeEngine]:
    """A fresh one, for every machine of the test."""
    engine = native_engine()
    for name in ("auto", "native"):
        monkeypatch.setitem(machine._engines, name, engine)
    yield engine
    assert not engine.in_flight


@pytest.fixture
def small_flights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything flies, and often."""
    monkeypatch.setattr(flights, "WORTH_NS", 1)
    monkeypatch.setattr(flights, "SHORT_NS", 0)
    monkeypatch.setattr(flights, "FIRST_REACH", 4000)
    monkeypatch.setattr(flights, "MOST_REACH", 12_000)


async def _results(guest: GuestPaths, workers: int) -> tuple[dict[str, object], int]:
    programs = [("sieve", "3000"), ("fib", "16"), ("quicksort", "500"), ("sha256", "20"), ("matrix", "12"), ("hello",)]
    found: dict[str, object] = {}
    flown = 0

    async def run(runtime: Runtime, name: str, *args: str) -> None:
        nonlocal flown
        async with runtime.vm(engine="native").open_elf(guest(name), *args) as process:
            assert process.stdout is not None
            output = b"".join([chunk async for chunk in process.stdout])
            await process.wait()
            flown += process.runs[0].flown
        found[name] = process.result.reason, process.returncode, output, process.result.instructions

    async with Runtime(workers=workers) as runtime, anyio.create_task_group() as tasks:
        for name, *args in programs:
            tasks.start_soon(run, runtime, name, *args)
    return found, flown


@both_loops
@pytest.mark.usefixtures("small_flights")
async def test_results_do_not_depend_on_workers(guest: GuestPaths, engine: NativeEngine) -> None:
    expected: dict[str, object] = {}
    for workers in (0, 1, 3):
        found, flown = await _results(guest, workers)
        expected = expected or found
        assert found == expected
        assert (flown > 100_000) == (workers > 0)


@both_loops
@pytest.mark.usefixtures("small_flights")
async def test_code_that_changes_itself_in_the_air(engine: NativeEngine) -> None:
    """An immediate is written anew in each pass; the sum tells whether each pass used the new one."""
    code = program(
        "xor edx, edx; mov ecx, 3000; "
        "again: mov byte ptr [patched + 1], cl; patched: mov al, 0; movzx eax, al; add edx, eax; dec ecx; jnz again; "
        "mov ebx, edx; and ebx, 127; mov eax, 1; int 0x80"
    )
    expected = sum(n & 255 for n in range(1, 3001)) & 127
    async with Runtime(workers=2) as runtime, anyio.create_task_group() as tasks:

        async def run() -> None:
            result = await runtime.vm(engine="native").run_bytes(code)
            assert (result.reason, result.returncode) == (Reason.EXITED, expected)

        for _ in range(4):
            tasks.start_soon(run)


@both_loops
async def test_killed_in_the_air(engine: NativeEngine) -> None:
    for _ in range(10):
        async with Runtime(workers=2) as runtime, runtime.vm(engine="native").open_bytes(SPIN) as process:
            run = process.runs[0]
            with anyio.fail_after(20):
                while not run.flies:
                    await anyio.lowlevel.checkpoint()
            before = run.executed_instructions
            process.kill()
            result = process.result
            assert result.instructions > before
            assert result.registers.eax == (result.instructions + 1) // 2 & 0xFFFFFFFF
            assert not engine.in_flight
    assert idle()


@both_loops
async def test_limits_are_exact_in_the_air(engine: NativeEngine) -> None:
    vm = Runtime(workers=2).vm(engine="native")
    result = await vm.run_bytes(SPIN, limits=Limits(instructions=12_345_678))
    assert (result.reason, result.instructions) == (Reason.INSTRUCTION_LIMIT, 12_345_678)
    assert result.registers.eax == 12_345_678 // 2


@both_loops
async def test_the_loop_has_its_passes_while_two_guests_are_in_the_air(engine: NativeEngine) -> None:
    """How fast two are, and how late the loop, is a matter for the bench."""
    async with Runtime(workers=2) as runtime, anyio.create_task_group() as tasks:
        vms = [runtime.vm(engine="native") for _ in range(2)]
        for vm in vms:
            tasks.start_soon(vm.run_bytes, SPIN)
        both = 0
        with anyio.fail_after(20):
            while both < 200:
                await anyio.lowlevel.checkpoint()
                both += sum(process.runs[0].flies for process in runtime.processes()) == 2
        tasks.cancel_scope.cancel()


@both_loops
async def test_a_guest_that_comes_back_soon_stays(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 512 pages is touched for the first time after some thousand instructions: Python has to do something."""
    code = program(
        "mov eax, 45; xor ebx, ebx; int 0x80; mov esi, eax; lea ebx, [eax + 0x200000]; mov edi, ebx; mov eax, 45; "
        "int 0x80; again: mov ecx, 20000; spin: dec ecx; jnz spin; inc dword ptr [esi]; add esi, 4096; "
        "cmp esi, edi; jb again; mov eax, 1; xor ebx, ebx; int 0x80"
    )
    monkeypatch.setattr(flights, "WORTH_NS", 1)
    monkeypatch.setattr(flights, "SHORT_NS", 1 << 62)
    started = 0
    fly = flights._fly

    def counted(*arguments: Any) -> bool:
        nonlocal started
        started += 1
        return fly(*arguments)

    monkeypatch.setattr(flights, "_fly", counted)
    async with Runtime(workers=1) as runtime:
        result = await runtime.vm(engine="native").run_bytes(code)
    assert result.returncode == 0
    assert 0 < started < 200

"""Guests whose instructions worker threads execute: the same results for any number of workers, at most so many flights
at once, nothing left in the air when a guest is killed; timers, hooks, limits and questions as without workers."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from aiopyvm import PIPE, CodeHook, Limits, Process, Reason, Runtime, SyscallHook, assemble
from aiopyvm.host.threads import WORKERS
from aiopyvm.runtime import flights
from aiopyvm.runtime.hooks import Event
from tests.conftest import GuestPaths
from tests.runtime.flying import FlyingEngine, fly
from tests.runtime.machine_code import call, exit_after, program, sleeper
from tests.runtime.test_blocks import idle

both_loops = pytest.mark.both_loops
NUMBERS = (0, 1, 2, 4)
SPIN = assemble("again: inc eax; jmp again")


async def until(condition: Callable[[], bool]) -> None:
    """Wait, twenty seconds at most."""
    with anyio.fail_after(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlyingEngine]:
    engine = fly(monkeypatch)
    yield engine
    assert engine.idle


# --- the same results -------------------------------------------------------------------------------------------------


async def feed() -> AsyncIterator[bytes]:
    for i in range(12):
        yield b"%d\n" % (i * 7919 % 1000)
        for _ in range(i % 4):
            await anyio.lowlevel.checkpoint()


async def transcript(workers: int, guest: GuestPaths, quantum: int) -> list[object]:
    """All system calls of a pipeline with a seed on the virtual clock, in their order, and the results."""
    lines: list[object] = []
    vm = Runtime(workers=workers).vm(seed=3, clock="virtual", quantum=quantum)
    stages: list[list[str | Path]] = [[guest("cat")], [guest("sort"), "-rn"], [guest("head"), "-3"]]
    async with vm.pipeline(*stages, stdin=feed(), strace=lines.append) as pipeline:
        assert pipeline.stdout is not None
        lines.append(b"".join([chunk async for chunk in pipeline.stdout]))
    return lines + [(r.reason, r.returncode, r.instructions, r.guest_time) for r in pipeline.results]


@both_loops
@pytest.mark.parametrize("quantum", [1000, 10_000])
async def test_with_a_seed_the_number_of_workers_does_not_show(
    guest: GuestPaths, engine: FlyingEngine, quantum: int
) -> None:
    transcripts = [await transcript(workers, guest, quantum) for workers in NUMBERS]
    assert all(transcript == transcripts[0] for transcript in transcripts)
    assert len(transcripts[0]) > 30


@both_loops
async def test_outputs_and_counts_of_each_guest_do_not_depend_on_workers(
    guest: GuestPaths, engine: FlyingEngine
) -> None:
    programs = [("sieve", "300"), ("fib", "12"), ("quicksort", "60"), ("sha256", "2"), ("bytecode", "20"), ("hello",)]
    found = []
    for workers in NUMBERS:
        results: dict[str, object] = {}

        async def run(runtime: Runtime, name: str, *args: str, results: dict[str, object] = results) -> None:
            r = await runtime.vm().run_elf(guest(name), *args)
            results[name] = r.reason, r.returncode, r.stdout, r.instructions

        before = engine.flights
        async with Runtime(workers=workers) as runtime, anyio.create_task_group() as tasks:
            for name, *args in programs:
                tasks.start_soon(run, runtime, name, *args)
        assert (engine.flights == before) == (workers == 0)
        found.append(results)
    assert all(results == found[0] for results in found)
    assert len(found[0]) == len(programs)


@both_loops
async def test_threads_of_a_guest_take_turns_at_counts(engine: FlyingEngine) -> None:
    """Parent and child count in shared memory until each has seen the other a hundred times."""
    source = (
        "mov eax, 90; mov ebx, 0x800; int 0x80; mov esi, eax; "  # old mmap: a shared page
        + call("fork")
        + """
        mov edi, eax
        test eax, eax; setz cl; movzx ecx, cl        # the child is 1
        xor ebp, ebp
        again: inc dword ptr [esi + ecx * 4 + 8]
        mov eax, [esi]; cmp eax, ecx; jne again      # not this one's turn
        inc ebp
        mov eax, 1; sub eax, ecx; mov [esi], eax
        cmp ebp, 100; jb again
        test edi, edi; jz leave
        """
        + "mov eax, 7; mov ebx, edi; xor ecx, ecx; xor edx, edx; int 0x80; "
        + "leave: mov eax, [esi + 8]; add eax, [esi + 12]; mov [0x900], eax; "
        + call("write", 1, 0x900, 4)
        + call("exit", 0)
    )
    code = program(_without_comments(source))
    image = bytearray(code)
    image[0x800:0x818] = b"".join(v.to_bytes(4, "little") for v in (0, 4096, 3, 0x21, 0xFFFFFFFF, 0))
    found = set()
    for workers in NUMBERS:
        vm = Runtime(workers=workers).vm(quantum=500)
        result = await vm.run_bytes(bytes(image), limits=Limits(instructions=3_000_000))
        assert result.reason is Reason.EXITED
        assert result.stdout is not None
        assert len(result.stdout) == 8
        found.add((result.stdout, result.instructions))
    assert len(found) == 1


def _without_comments(source: str) -> str:
    return "; ".join(line.partition("#")[0].strip().rstrip(";") for line in source.splitlines() if line.strip())


# --- flights ----------------------------------------------------------------------------------------------------------


async def spin(runtime: Runtime, instructions: int, done: list[int]) -> None:
    result = await runtime.vm().run_bytes(SPIN, limits=Limits(instructions=instructions))
    assert result.reason is Reason.INSTRUCTION_LIMIT
    assert result.instructions == instructions
    done.append(len(done))


@both_loops
@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_no_more_flights_at_once_than_workers(engine: FlyingEngine, workers: int) -> None:
    done: list[int] = []
    engine.meeting = threading.Barrier(workers)
    async with Runtime(workers=workers) as runtime, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(spin, runtime, 60_000, done)
    assert len(done) == 8
    assert engine.most == workers
    assert threading.get_ident() not in engine.threads
    assert WORKERS.threads >= workers


@both_loops
async def test_each_runtime_has_its_own_workers(engine: FlyingEngine) -> None:
    done: list[int] = []
    async with Runtime(workers=1) as first, Runtime(workers=2) as second, anyio.create_task_group() as tasks:
        for runtime in (first, second) * 4:
            tasks.start_soon(spin, runtime, 60_000, done)
    assert len(done) == 8
    assert engine.most == 3


@both_loops
async def test_lanes_in_line_have_their_share(engine: FlyingEngine) -> None:
    """Six guests that spin for ever, one worker: nobody starves, and who weighs more gets more."""
    weights = (1, 1, 1, 1, 2, 4)
    processes: list[Process] = []
    async with Runtime(workers=1) as runtime:

        async def run(weight: int) -> None:
            async with runtime.vm(weight=weight).open_bytes(SPIN) as process:
                processes.append(process)
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            for weight in weights:
                tasks.start_soon(run, weight)
            await until(lambda: len(processes) == 6 and sum(p.runs[0].flown for p in processes) > 400_000)
            flown = sorted(p.runs[0].flown for p in processes)
            tasks.cancel_scope.cancel()
    assert flown[0] > 20_000
    assert flown[5] > 2 * flown[0]
    assert flown[4] > 1.3 * flown[0]


@both_loops
async def test_the_event_loop_goes_on_during_a_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flight takes 50 ms here: the loop has many passes meanwhile, and is not late for them."""
    engine = fly(monkeypatch, us=10_000)
    monkeypatch.setattr(flights, "FIRST_REACH", 5000)
    passes = 0
    async with Runtime(workers=1).vm().open_bytes(SPIN) as process:
        await until(lambda: engine.flights > 0)
        run = process.runs[0]
        flown = run.flown
        with anyio.fail_after(10):
            while run.flown == flown:
                await anyio.lowlevel.checkpoint()
                passes += 1
        process.kill()
    assert passes > 20
    assert engine.idle


# --- ends -------------------------------------------------------------------------------------------------------------


@both_loops
async def test_killing_waits_for_the_landing_and_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fly(monkeypatch, us=3000)
    async with Runtime(workers=1).vm().open_bytes(SPIN) as process:
        run = process.runs[0]
        await until(lambda: run.flies)
        before = run.executed_instructions
        process.kill()
        assert engine.idle
        assert process.result.reason is Reason.KILLED
        assert process.result.instructions >= before + 1000
        assert process.result.registers.eax > 0
    assert idle()


@both_loops
async def test_a_guest_that_stands_in_line_can_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fly(monkeypatch, us=3000)
    async with Runtime(workers=1) as runtime, runtime.vm().open_bytes(SPIN) as first:
        async with runtime.vm().open_bytes(SPIN) as second:
            await until(lambda: second.runs[0].lane.resting and not second.runs[0].flies)
            second.kill()
            assert second.result.reason is Reason.KILLED
        flown = first.runs[0].flown
        await until(lambda: first.runs[0].flown > flown)
        first.kill()
    assert engine.idle
    assert idle()


@both_loops
async def test_cancelled_after_any_time(engine: FlyingEngine) -> None:
    """Nothing flies, and nothing is scheduled, when the block has been left."""
    for passes in range(40):
        async with anyio.create_task_group() as tasks, Runtime(workers=2) as runtime:
            tasks.start_soon(runtime.vm().run_bytes, SPIN)
            tasks.start_soon(runtime.vm().run_bytes, SPIN)
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert engine.idle
        assert idle()


def test_an_exception_of_generated_code_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fly(monkeypatch)

    def broken(us: int) -> None:
        raise ArithmeticError("broken")

    monkeypatch.setattr(engine, "_enter", broken)

    async def main() -> None:
        await Runtime(workers=1).vm().run_bytes(SPIN, limits=Limits(instructions=50_000))

    with pytest.raises(Exception, match=r"the engine failed at eip .*broken"):
        anyio.run(main)


# --- everything else as ever ------------------------------------------------------------------------------------------


@both_loops
async def test_limits_hold_in_the_air(engine: FlyingEngine) -> None:
    vm = Runtime(workers=2).vm()
    result = await vm.run_bytes(SPIN, limits=Limits(instructions=123_456))
    assert (result.reason, result.instructions) == (Reason.INSTRUCTION_LIMIT, 123_456)
    result = await vm.run_bytes(SPIN, limits=Limits(wall_time=0.1))
    assert result.reason is Reason.TIME_LIMIT
    virtual = Runtime(workers=2).vm(clock="virtual")
    results = [await virtual.run_bytes(SPIN, limits=Limits(guest_time=0.0002)) for _ in range(2)]
    assert {result.reason for result in results} == {Reason.TIME_LIMIT}
    assert results[0].instructions == results[1].instructions
    assert 200_000 <= results[0].instructions <= 220_000


@both_loops
async def test_a_signal_comes_between_flights(engine: FlyingEngine) -> None:
    handler = "handler: mov eax, 1; mov ebx, 5; int 0x80; "
    code = program("jmp start; " + handler + "start: " + call("signal", 14, 2) + call("alarm", 1) + "again: jmp again")
    started = time.monotonic()
    result = await Runtime(workers=1).vm().run_bytes(code, limits=Limits(wall_time=20))
    assert (result.reason, result.returncode) == (Reason.EXITED, 5)
    assert time.monotonic() - started > 0.9
    assert engine.flights > 3


@both_loops
async def test_a_timer_of_the_virtual_clock_is_due_at_the_same_count(engine: FlyingEngine) -> None:
    handler = "handler: mov eax, 1; mov ebx, 5; int 0x80; "
    set_timer = "mov eax, 104; xor ebx, ebx; mov ecx, 0x800; xor edx, edx; int 0x80; "  # setitimer(ITIMER_REAL)
    text = "jmp start; " + handler + "start: " + call("signal", 14, 2) + set_timer + "again: inc esi; jmp again"
    image = bytearray(program(text))
    image[0x800:0x810] = bytes(12) + (300).to_bytes(4, "little")  # 300 us: 300,000 instructions
    found = set()
    for workers in NUMBERS:
        vm = Runtime(workers=workers).vm(clock="virtual", seed=1)
        result = await vm.run_bytes(bytes(image), limits=Limits(instructions=1_000_000))
        assert (result.reason, result.returncode) == (Reason.EXITED, 5)
        found.add(result.instructions)
    assert len(found) == 1
    assert 300_000 <= found.pop() <= 312_000


@both_loops
async def test_sleepers_wake_while_others_fly(engine: FlyingEngine) -> None:
    async with Runtime(workers=1) as runtime, anyio.create_task_group() as tasks:
        tasks.start_soon(spin, runtime, 10_000_000, [])
        with anyio.fail_after(10):
            result = await runtime.vm().run_bytes(sleeper(20_000_000, 3))
        assert result.returncode == 3
        tasks.cancel_scope.cancel()


@both_loops
async def test_async_hooks_questions_and_the_start_of_a_task(guest: GuestPaths, engine: FlyingEngine) -> None:
    seen: list[str] = []

    async def hook(event: Event) -> None:
        await anyio.sleep(0.001)
        seen.append(event.name)

    runtime = Runtime(workers=2)
    async with runtime, anyio.create_task_group() as tasks:
        busy: Process = await tasks.start(runtime.vm().run_bytes, SPIN)
        with anyio.fail_after(20):
            result = await runtime.vm().run_elf(guest("hello"), hooks=[SyscallHook(hook, "write")])
            assert (result.stdout, seen) == (b"Hello, world!\n", ["write"])
            async with runtime.vm().open_elf(guest("calculator"), stdin=PIPE) as process:
                assert await process.ask(b"6 * 7\n") == b"> 42\n> "
                assert await process.ask(b"1 + 1\n") == b"2\n> "
        tasks.cancel_scope.cancel()
        assert busy.returncode is None or busy.result.reason is Reason.CANCELLED


@both_loops
async def test_hooks_run_on_the_event_loop_s_thread(engine: FlyingEngine) -> None:
    threads = set()
    code = assemble("mov ecx, 5000; again: dec ecx; jnz again; nop; nop")

    def hook(event: Event) -> None:
        threads.add(threading.get_ident())

    await Runtime(workers=2).vm().run_bytes(code, hooks=[CodeHook(code.index(b"\x90\x90"), hook)])
    assert threads == {threading.get_ident()}


@both_loops
async def test_deadlocks_are_seen(engine: FlyingEngine) -> None:
    busy = "mov ecx, 40000; again: dec ecx; jnz again; "
    waits = program(busy + call("pipe", 0x900) + "mov ebx, [0x900]; mov eax, 3; mov ecx, 0x800; mov edx, 1; int 0x80")
    result = await Runtime(workers=2).vm().run_bytes(waits)
    assert result.reason is Reason.DEADLOCK
    assert engine.flights > 3


@both_loops
async def test_exit_status_after_flights(engine: FlyingEngine) -> None:
    code = exit_after("mov ecx, 30000; xor eax, eax; again: inc eax; and eax, 63; dec ecx; jnz again; ")
    result = await Runtime(workers=1).vm().run_bytes(code)
    assert result.returncode == 30000 % 64
    assert engine.flights > 3


@pytest.mark.trio
async def test_a_clock_that_a_test_moves_has_no_workers(engine: FlyingEngine, autojump_clock: object) -> None:
    """Such a clock would jump while nothing but a flight is under way."""
    with anyio.fail_after(3600):
        result = await Runtime(workers=2).vm().run_bytes(SPIN, limits=Limits(instructions=100_000))
    assert result.reason is Reason.INSTRUCTION_LIMIT
    assert engine.flights == 0


@both_loops
async def test_registers_and_memory_are_looked_at_after_the_landing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fly(monkeypatch, us=3000)
    code = program("again: inc dword ptr [0x800]; jmp again")
    async with Runtime(workers=1).vm().open_bytes(code) as process:
        run = process.runs[0]
        registers, memory = process.registers, process.memory
        for look in (lambda: registers.eip, lambda: memory.read_u32(0x800), lambda: memory.write_u32(0x804, 1)):
            await until(lambda: run.flies and engine.inside == 1)
            look()
            assert engine.inside == 0
        process.kill()
    assert process.result.registers.eip in (0, 6)


@both_loops
async def test_what_is_written_to_a_machine_in_the_air_waits_in_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of the child's waits while its parent flies: nobody puts bytes into the machine's memory meanwhile."""
    engine = fly(monkeypatch, us=3000)
    code = program(
        call("fork")
        + "test eax, eax; jz child; again: jmp again; child: "
        + call("read", 0, 0x900, 5)
        + call("write", 1, 0x900, 5)
        + call("exit", 0)
    )
    async with Runtime(workers=1).vm().open_bytes(code, stdin=PIPE, stdout=PIPE) as process:
        run = process.runs[0]
        await until(lambda: any("read" in words for _, words in run.kernel.parked()))
        (child,) = (t for t in run.kernel.threads.values() if t is not run.main)
        await until(lambda: run.flies and engine.inside == 1)
        assert process.stdin.send_nowait(b"hello") == 5
        assert engine.inside == 1
        assert child.call is not None
        assert child.memory.peek(0x900, 5) == bytes(5)
        with anyio.fail_after(20):
            assert await process.stdout.receive() == b"hello"
        process.kill()
    assert engine.idle

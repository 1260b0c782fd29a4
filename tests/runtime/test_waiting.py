"""Time, virtual time, deadlocks: what happens when guests wait."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import anyio
import pytest

from aiopyvm import PIPE, VM, Limits, Reason, Runtime, pipe
from tests.conftest import GuestPaths
from tests.runtime.machine_code import call, exit_after, program, sleeper

pytestmark = pytest.mark.both_loops

HOUR = 3600 * 10**9


async def test_sleeping_takes_its_time() -> None:
    result = await VM().run_bytes(sleeper(50_000_000, status=7))
    assert result.returncode == 7
    assert result.wall_time >= 0.05


async def test_the_virtual_clock_jumps_when_everybody_sleeps() -> None:
    started = time.monotonic()
    result = await VM(clock="virtual").run_bytes(sleeper(HOUR, status=7))
    assert result.returncode == 7
    assert time.monotonic() - started < 3600


async def test_virtual_time_is_the_same_in_every_run() -> None:
    text = call("clock_gettime", 1, 0x800) + "mov eax, [0x804]; "
    vm = VM(clock="virtual", seed=1)
    results = [await vm.run_bytes(exit_after(text + "and eax, 0xff; ")) for _ in range(3)]
    assert len({result.returncode for result in results}) == 1
    assert len({result.instructions for result in results}) == 1


async def test_parked_guests_cost_no_instructions_and_wall_time_counts() -> None:
    result = await VM(limits=Limits(wall_time=0.05)).run_bytes(sleeper(HOUR))
    assert result.reason is Reason.TIME_LIMIT
    assert result.instructions < 20


async def test_waiting_for_a_signal_that_nobody_can_send_is_a_deadlock() -> None:
    result = await VM(name="waiter").run_bytes(program(call("pause")))
    assert result.reason is Reason.DEADLOCK
    assert result.returncode == -9
    assert "waiter" in result.detail
    assert "pause" in result.detail


async def test_a_timer_that_wakes_nobody_leaves_a_deadlock() -> None:
    """SIGALRM is ignored, an alarm is set, the guest pauses: once the alarm has gone off, nothing can wake it."""
    code = program(call("signal", 14, 1) + call("alarm", 7) + call("pause"))
    with anyio.fail_after(30):
        result = await VM(clock="virtual").run_bytes(code)
    assert result.reason is Reason.DEADLOCK


@pytest.mark.parametrize(("clock", "late"), [("virtual", True), ("virtual", False), ("real", False)])
async def test_an_alarm_wakes_a_reader_unless_it_went_off_before(clock: Literal["virtual", "real"], late: bool) -> None:
    """signal(2), alarm(2), read(2) of its own pipe: EINTR; where the alarm ended a sleep before, nobody wakes it."""
    handler, at = "handler: inc esi; ret; ", 0x800
    text = call("pipe", at + 16) + call("signal", 14, 2) + call("alarm", 1)
    if late:
        text += call("nanosleep", at)
    text += f"mov ebx, [{at + 16}]; mov eax, 3; mov ecx, {at + 32}; mov edx, 1; int 0x80; neg eax; "
    image = bytearray(exit_after("jmp start; " + handler + "start: " + text))
    image[at : at + 4] = (60).to_bytes(4, "little")  # seconds
    with anyio.fail_after(30):
        result = await VM(clock=clock).run_bytes(bytes(image))
    assert (result.reason, result.returncode) == ((Reason.DEADLOCK, -9) if late else (Reason.EXITED, 4))


async def test_in_a_block_python_may_send_it() -> None:
    async with VM().open_bytes(program(call("pause"))) as process:
        await anyio.sleep(0.02)
        assert process.returncode is None
        process.terminate()
        assert await process.wait() == -15
    async with VM().open_bytes(program(call("pause"))) as process:
        await anyio.sleep(0.02)
    assert process.result.reason is Reason.DEADLOCK


async def test_a_reader_of_its_own_pipe_is_a_deadlock() -> None:
    text = call("pipe", 0x800) + "mov ebx, [0x800]; mov eax, 3; mov ecx, 0x810; mov edx, 1; int 0x80; "
    result = await VM().run_bytes(exit_after(text))
    assert result.reason is Reason.DEADLOCK
    assert "read" in result.detail


async def test_two_guests_that_wait_for_each_other(guest: GuestPaths) -> None:
    to_a, to_b = pipe(), pipe()
    details = []

    async def run(name: str, stdin: object, stdout: object) -> None:
        result = await VM(name=name).run_elf(guest("cat"), stdin=stdin, stdout=stdout)
        details.append((result.reason, result.detail))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "left", to_a.receive, to_b.send)
        tasks.start_soon(run, "right", to_b.receive, to_a.send)
    assert [reason for reason, _ in details] == [Reason.DEADLOCK] * 2
    assert "left" in details[0][1]
    assert "right" in details[0][1]


async def test_an_end_in_pythons_hands_is_no_deadlock(guest: GuestPaths) -> None:
    send, receive = pipe()
    async with anyio.create_task_group() as tasks:
        process = await tasks.start(lambda **o: VM().run_elf(guest("cat"), stdin=receive, **o))
        await anyio.sleep(0.02)
        assert process.returncode is None
        await send.aclose()
    assert process.result.reason is Reason.EXITED


async def test_host_input_that_is_slow_is_no_deadlock(guest: GuestPaths) -> None:
    async def slow() -> AsyncIterator[bytes]:
        await anyio.sleep(0.03)
        yield b"late\n"

    for clock in ("real", "virtual"):
        result = await VM(clock=clock).run_elf(guest("cat"), stdin=slow())
        assert result.stdout == b"late\n"


async def test_virtual_time_waits_for_host_input(guest: GuestPaths) -> None:
    async with VM(clock="virtual").open_elf(guest("calculator"), stdin=PIPE) as process:
        assert await process.ask() == b"> "
        await anyio.sleep(0.02)
        assert await process.ask(b"1+1\n") == b"2\n> "


async def test_same_seed_same_run(guest: GuestPaths) -> None:
    transcripts = set()
    for _ in range(3):
        lines: list[str] = []
        stages: list[list[str | Path]] = [[guest("seq"), "300"], [guest("sort"), "-rn"], [guest("head"), "-5"]]
        vm = VM(seed=7, clock="virtual", quantum=500)
        async with vm.pipeline(*stages, strace=lines.append) as pipeline:
            assert pipeline.stdout is not None
            async for _ in pipeline.stdout:
                pass
        transcripts.add(tuple(lines))
    assert len(transcripts) == 1
    assert len(transcripts.pop()) > 5


async def test_another_seed_gives_other_random_bytes() -> None:
    text = "mov eax, 355; mov ebx, 0x800; mov ecx, 4; mov edx, 0; int 0x80; mov eax, [0x800]; and eax, 0x7f; "

    async def draw(seed: int | None) -> int:
        return (await VM(seed=seed).run_bytes(exit_after(text))).returncode

    assert await draw(1) == await draw(1)
    assert len({await draw(seed) for seed in range(8)}) > 3


async def test_the_event_loop_is_not_held_up(guest: GuestPaths) -> None:
    delays: list[float] = []

    async def measure() -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.001)
            delays.append(time.perf_counter() - before - 0.001)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(lambda: VM().run_elf(guest("spin"), limits=Limits(wall_time=1)))
        tasks.start_soon(measure)
        await anyio.sleep(1.2)
        tasks.cancel_scope.cancel()
    delays.sort()
    assert len(delays) > 20
    assert delays[len(delays) // 2] < 0.2


async def test_weights_share_the_processor(guest: GuestPaths) -> None:
    executed: dict[float, int] = {}
    one = Runtime(workers=1)  # with a worker for each there is nothing to share

    async def run(weight: float) -> None:
        async with one.vm(weight=weight).open_elf(guest("spin")) as process:
            await anyio.sleep(0.8)
            process.kill()
        executed[weight] = process.result.instructions

    await VM().run_elf(guest("spin"), limits=Limits(instructions=300_000))  # its code is translated by now
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, 1)
        tasks.start_soon(run, 3)
    assert 1.5 < executed[3] / executed[1] < 6

"""A pipeline cancelled at every point at which it awaits: nothing is left behind, and its guests have ended."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from aiopyvm import PIPE, VM, Process, Reason
from aiopyvm.mem.reservation import HOST_MAPPINGS
from aiopyvm.runtime import driver
from tests.conftest import GuestPaths
from tests.runtime.test_blocks import idle

pytestmark = pytest.mark.both_loops


async def feed() -> AsyncIterator[bytes]:
    for i in range(5):
        yield b"%d\n" % i
        await anyio.lowlevel.checkpoint()


async def scenario(guest: GuestPaths, seen: list[Process]) -> list[bytes]:
    """Awaits in every way: a pipeline with a generator, a question in a block, a run in a task."""
    vm = VM()
    lines = []
    async with vm.pipeline([guest("cat")], [guest("sort"), "-rn"], [guest("head"), "-3"], stdin=feed()) as pipeline:
        seen.extend(pipeline.processes)
        assert pipeline.stdout is not None
        async for line in pipeline.stdout.lines():
            lines.append(line)
    async with vm.open_elf(guest("calculator"), stdin=PIPE) as process, anyio.create_task_group() as tasks:
        seen.append(process)
        seen.append(await tasks.start(vm.run_elf, guest("hello")))
        await process.ask(b"1 + 1\n")
    return lines


async def cancelled_after(passes: int, guest: GuestPaths) -> bool:
    """Run the scenario and cancel it after so many passes of the event loop; whether it came to its end before."""
    seen: list[Process] = []
    finished = False
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def count() -> None:
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        tasks.start_soon(count)
        with scope:
            assert await scenario(guest, seen) == [b"4", b"3", b"2"]
            finished = True
        tasks.cancel_scope.cancel()
    assert idle()
    assert all(process.returncode is not None for process in seen)
    if not finished:
        assert {process.result.reason for process in seen} <= {Reason.EXITED, Reason.CANCELLED, Reason.SIGNALED}
    return finished


def mappings() -> int:
    """How many host mappings machines have; those of the whole process come and go with other things."""
    gc.collect()
    return HOST_MAPPINGS.used


@pytest.mark.parametrize("turn_ns", [driver.TURN_NS, 0])
async def test_cancelled_at_every_point(guest: GuestPaths, turn_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With turns of no length the event loop has its pass after every chunk: there are more points, and other ones."""
    monkeypatch.setattr(driver, "TURN_NS", turn_ns)
    async with anyio.create_task_group():
        await scenario(guest, [])  # what is made once is made
        descriptors, mapped = len(os.listdir("/proc/self/fd")), mappings()
        for passes in range(2000):
            if await cancelled_after(passes, guest):
                break
        else:
            pytest.fail("the scenario never came to its end")
        assert passes > 20
    assert mappings() <= mapped
    assert len(os.listdir("/proc/self/fd")) <= descriptors

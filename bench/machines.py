"""How many machines a second, how many at once, and what a parked one costs."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack

import anyio

from aiopyvm import PIPE, VM, Runtime
from bench.table import GUESTS, Row


def measure_rate(quick: bool) -> list[Row]:
    """Hello guests one after another, and all at once."""
    count = 100 if quick else 1000
    return [
        Row("hello, in turn", "aiopyvm", count / anyio.run(_in_turn, count), "machines/s", f"{count} of them"),
        Row("hello, at once", "aiopyvm", count / anyio.run(_at_once, count), "machines/s", f"{count} of them"),
    ]


async def _in_turn(count: int) -> float:
    vm = VM()
    before = time.perf_counter()
    for _ in range(count):
        await vm.run_elf(GUESTS / "hello", check=True)
    return time.perf_counter() - before


async def _at_once(count: int) -> float:
    vm = VM()

    async def one() -> None:
        await vm.run_elf(GUESTS / "hello", check=True)

    before = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return time.perf_counter() - before


def measure_memory(quick: bool) -> list[Row]:
    """Guests parked in a read: host memory for each, and what the process computes while they wait."""
    return anyio.run(_parked, 500 if quick else 10_000)


async def _parked(count: int) -> list[Row]:
    empty = _resident_bytes()
    before = time.perf_counter()
    async with Runtime() as runtime, AsyncExitStack() as stack:
        vm = runtime.vm()
        processes = [
            await stack.enter_async_context(vm.open_elf(GUESTS / "echo", stdin=PIPE, stdout=PIPE)) for _ in range(count)
        ]
        for process in processes:
            await process.ask(b"hello\n")
        ready = time.perf_counter() - before
        each = (_resident_bytes() - empty) / count
        busy = time.process_time()
        await anyio.sleep(2)
        idle = (time.process_time() - busy) / 2
        for process in processes:
            process.kill()
    return [
        Row("parked guest", "aiopyvm", each / 1024, "KiB", f"{count} of them"),
        Row("to start and park all", "aiopyvm", ready, "s", f"{count} of them"),
        Row("processor while parked", "aiopyvm", idle * 100, "%", "of one core"),
    ]


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

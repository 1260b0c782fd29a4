"""How much more two busy machines get done than one, where each has a worker thread; and what that costs the processor.

On a host that has other work to do the machines do not get two cores: the note says how much they got.
"""

from __future__ import annotations

import time

import anyio

from aiopyvm import Limits, Runtime, assemble
from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.errors import EngineUnavailableError
from bench.table import Row

LOOP = assemble("again: inc eax; add ebx, eax; xor ecx, ebx; jmp again")
ROUNDS = 3


def measure(quick: bool) -> list[Row]:
    """Instructions a second of one and of two machines on the native engine; nothing where that cannot run."""
    try:
        ahead_of_time().wait(300)
    except EngineUnavailableError as refused:
        print(f"  workers: {refused}")
        return []
    return anyio.run(_measure, 1.0 if quick else 3.0)


async def _measure(seconds: float) -> list[Row]:
    rows = []
    for workers in (0, 1, 2):
        runtime = Runtime(engine="native", workers=workers)
        await runtime.vm().run_bytes(LOOP, limits=Limits(instructions=50_000_000))  # its code is translated by now
        figures: dict[int, tuple[float, float]] = {1: (0.0, 0.0), 2: (0.0, 0.0)}
        for _ in range(ROUNDS):
            for machines, best in figures.items():
                figures[machines] = max(best, await _rate(runtime, machines, seconds))
        for machines, (rate, cores) in figures.items():
            note = f"with {cores:.2f} cores"
            if machines == 2:
                note += f"; {rate / figures[1][0]:.2f} times as much as one"
            rows.append(Row(f"busy machines: {machines}", f"{workers} workers", rate / 1e6, "M instr./s", note))
    return rows


async def _rate(runtime: Runtime, machines: int, seconds: float) -> tuple[float, float]:
    """Instructions a second of so many machines, and how many cores we got."""

    async def run() -> None:
        await runtime.vm().run_bytes(LOOP)

    async with anyio.create_task_group() as tasks:
        for _ in range(machines):
            tasks.start_soon(run)
        await anyio.sleep(0.2)
        before = runtime.instructions.used, time.process_time(), time.perf_counter()
        await anyio.sleep(seconds)
        after = runtime.instructions.used, time.process_time(), time.perf_counter()
        tasks.cancel_scope.cancel()
    done, processor, passed = (b - a for a, b in zip(before, after, strict=True))
    return done / passed, processor / passed

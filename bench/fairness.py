"""Shares of the processor: a guest that only makes system calls and guests that only compute, by their weights."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

from aiopyvm import Process, Runtime, assemble
from bench.latency import GETPID
from bench.table import Row

COMPUTE = "again: inc eax; add ebx, eax; xor ecx, ebx; jmp again"
LOADS = (
    ("getpid loop", GETPID, 1),
    ("computing", COMPUTE, 1),
    ("getpid loop, weight 3", GETPID, 3),
    ("computing, weight 3", COMPUTE, 3),
)
PARKED = 200


def measure(quick: bool) -> list[Row]:
    """Each guest's share of the time and of the cost (instructions, 200 for a system call), and what the first should
    be: all of them on the event loop's thread."""
    return anyio.run(_measure, 2.0 if quick else 10.0)


async def _measure(seconds: float) -> list[Row]:
    async with Runtime(workers=0) as runtime, AsyncExitStack() as stack:
        for _ in range(PARKED):  # they are not in the way
            await stack.enter_async_context(runtime.vm().open_bytes(assemble("mov eax, 29; int 0x80")))
        await anyio.sleep(0.1)
        processes: list[Process] = []
        for _, text, weight in LOADS:
            code = assemble(text)
            opening = runtime.vm(weight=weight).open_bytes(code + bytes(16))
            processes.append(await stack.enter_async_context(opening))
        before = [(process.runs[0].cost, process.runs[0].guest_time.used) for process in processes]
        await anyio.sleep(seconds)
        after = [(process.runs[0].cost, process.runs[0].guest_time.used) for process in processes]
        for process in runtime.processes():
            process.kill()
    costs, times = ([b[i] - a[i] for a, b in zip(before, after, strict=True)] for i in (0, 1))
    rows = []
    weights = sum(weight for _, _, weight in LOADS)
    for (name, _, weight), cost, taken in zip(LOADS, costs, times, strict=True):
        note = f"should be {100 * weight / weights:.1f} %; {100 * cost / sum(costs):.1f} % of the cost"
        rows.append(Row(name, "aiopyvm", 100 * taken / sum(times), "%", note))
    return rows

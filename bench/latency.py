"""How long the event loop's other tasks wait while a hundred guests are busy, system calls in a loop among them.

Two figures, as the machine may be busy with other work: `late`, how late a task is that asks to be woken every few
milliseconds; `pass`, the event loop's processor time between two turns of a task that always asks for its next one,
which neither other work on the machine lengthens nor what workers execute. The second also counts compiling, as nothing
is warm at the start.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel

from aiopyvm import DEVNULL, VM, assemble, pipe
from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.errors import EngineUnavailableError
from bench.table import GUESTS, Row

ENGINES = ("python", "evaluator", "native")
MACHINES = 100
PERIOD_S = 0.005
LOADS = {  # and the argument with which it takes longer than we look
    "getpid": "",
    "write": "",
    "ping": "100000000",
    "sha256": "1000000",
    "sieve": "40000000",
    "quicksort": "500000",
    "fib": "40",
    "bytecode": "1000000",
    "matrix": "300",
    "flood": "",
}
GETPID = "again: mov eax, 20; int 0x80; jmp again"
WRITE = "mov ecx, 0x1000; mov edx, 64; again: mov eax, 4; mov ebx, 1; int 0x80; jmp again"


def measure(quick: bool) -> list[Row]:
    """Measure every engine on both event loops, as far as they are there."""
    rows: list[Row] = []
    seconds = 3.0 if quick else 10.0
    for engine in ENGINES:
        for loop in ("asyncio", "trio"):
            try:
                late, passes = anyio.run(_measure, engine, seconds, backend=loop)
            except (ImportError, EngineUnavailableError) as missing:
                print(f"  {engine}, {loop}: {missing}")
                continue
            for name, values in (("late", late), ("pass", passes)):
                values.sort()
                median, p99, most = (values[i] * 1000 for i in (len(values) // 2, len(values) * 99 // 100, -1))
                note = f"max {most:.1f} ms, median {median:.2f} ms, {len(values)} of them"
                rows.append(Row(f"{name}, p99, {loop}", f"aiopyvm {engine}", p99, "ms", note))
    return rows


async def _measure(engine: str, seconds: float) -> tuple[list[float], list[float]]:
    if engine == "native":
        ahead_of_time().wait(300)
    async with _busy(engine):
        late = await _late(seconds)
    async with _busy(engine):
        passes = await _passes(seconds)
    return late, passes


async def _late(seconds: float) -> list[float]:
    delays: list[float] = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        await anyio.sleep(PERIOD_S)
        delays.append(time.perf_counter() - before - PERIOD_S)
    return delays


async def _passes(seconds: float) -> list[float]:
    passes: list[float] = []
    end = time.thread_time() + seconds
    before = time.thread_time()
    while before < end:
        await anyio.lowlevel.checkpoint()
        now = time.thread_time()
        if now - before > 0.0002:  # the guests had their turn
            passes.append(now - before)
        before = now
    return passes


@asynccontextmanager
async def _busy(engine: str) -> AsyncIterator[None]:
    """A hundred machines that never rest."""
    async with AsyncExitStack() as stack:
        processes = []
        for i in range(MACHINES):
            vm = VM(engine=engine)
            load, scale = list(LOADS.items())[i % len(LOADS)]
            if load in ("getpid", "write"):
                code = assemble(GETPID if load == "getpid" else WRITE)
                opening = vm.open_bytes(code + bytes(0x2000 - len(code)), stdout=DEVNULL)
            elif load == "ping":
                there, back = pipe(), pipe()
                cat = vm.open_elf(GUESTS / "cat", stdin=there.receive, stdout=back.send)
                processes.append(await stack.enter_async_context(cat))
                opening = vm.open_elf(GUESTS / "ping", scale, stdin=back.receive, stdout=there.send)
            else:
                opening = vm.open_elf(GUESTS / load, scale, stdout=DEVNULL)
            processes.append(await stack.enter_async_context(opening))
        yield
        ended = [process for process in processes if process.returncode is not None]
        if len(ended) > MACHINES // 5:  # on a fast engine some come to their end
            raise RuntimeError(f"{len(ended)} have ended: {ended[0].result}")
        for process in processes:
            if process not in ended:
                process.kill()

"""How many machines a second, how many at once, and what a parked one costs."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from multiprocessing import get_context
from pathlib import Path

import anyio

from aiopyvm import PIPE, VM, Runtime
from bench.table import GUESTS, Row, engines, peers

IDLE_S = 5.0


def measure_rate(quick: bool) -> list[Row]:
    """Hello guests one after another, and all at once, on each engine; as many processes of the host."""
    count = 100 if quick else 1000
    rows = []
    for engine in engines():
        anyio.run(_in_turn, 10, engine)  # what is made once is made
        for name, function in (("hello, in turn", _in_turn), ("hello, at once", _at_once)):
            computed = time.process_time()
            seconds = anyio.run(function, count, engine)
            computed = time.process_time() - computed
            note = f"{count} in {seconds:.2f} s, {computed:.2f} s of processor time"
            rows.append(Row(name, f"aiopyvm {engine}", count / seconds, "machines/s", note))
    for name, command in peers().items():
        some = count if name == "native" else count // 10
        seconds = anyio.run(_processes, some, [*command, str(GUESTS / "hello")])
        rows.append(Row("hello, in turn", name, some / seconds, "processes/s", f"{some} in {seconds:.2f} s"))
    return rows


async def _processes(count: int, command: list[str]) -> float:
    before = time.perf_counter()
    for _ in range(count):
        await anyio.run_process(command)
    return time.perf_counter() - before


async def _in_turn(count: int, engine: str) -> float:
    vm = VM(engine=engine)
    before = time.perf_counter()
    for _ in range(count):
        await vm.run_elf(GUESTS / "hello", check=True)
    return time.perf_counter() - before


async def _at_once(count: int, engine: str) -> float:
    vm = VM(engine=engine)

    async def one() -> None:
        await vm.run_elf(GUESTS / "hello", check=True)

    before = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return time.perf_counter() - before


def measure_memory(quick: bool) -> list[Row]:
    """Guests parked in a read, on each engine: host memory for each, what the process computes while they wait,
    mappings. Each in a process of its own: no memory is left from another.
    """
    rows: list[Row] = []
    for engine in engines():
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows += pool.submit(_all_parked, 500 if quick else 10_000, engine).result()
    return rows


def _all_parked(count: int, engine: str) -> list[Row]:
    engines()
    return anyio.run(_parked, count, engine)


async def _parked(count: int, engine: str) -> list[Row]:
    async with VM(engine=engine).open_elf(GUESTS / "echo", stdin=PIPE, stdout=PIPE) as process:
        await process.ask(b"hello\n")  # what is made once is made
    gc.collect()
    resident, tables, mappings = _host_memory()
    before, computed = time.perf_counter(), time.process_time()
    async with Runtime(engine=engine) as runtime, AsyncExitStack() as stack:
        vm = runtime.vm()
        processes = [
            await stack.enter_async_context(vm.open_elf(GUESTS / "echo", stdin=PIPE, stdout=PIPE)) for _ in range(count)
        ]
        for process in processes:
            await process.ask(b"hello\n")
        ready, started = time.perf_counter() - before, time.process_time() - computed
        now = _host_memory()
        computed = time.process_time()
        await anyio.sleep(IDLE_S)
        idle = (time.process_time() - computed) / IDLE_S
        for process in processes:
            process.kill()
    note, who = f"{count} of them", f"aiopyvm {engine}"
    return [
        Row("parked guest, resident", who, (now[0] - resident) / count, "KiB", note),
        Row("parked guest, page tables", who, (now[1] - tables) / count, "KiB", note),
        Row("host mappings", who, now[2], "", f"{(now[2] - mappings) / count:.2f} for each; 65,530 are allowed"),
        Row("to start and park all", who, ready, "s", f"{started:.1f} s of processor time"),
        Row("processor while parked", who, idle * 100, "%", f"of one core, for {IDLE_S:.0f} s"),
    ]


def _host_memory() -> tuple[int, int, int]:
    """Resident memory and page tables in KiB (proc_pid_status(5), VmRSS and VmPTE), and how many mappings there are."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sizes = [int(status[name].split()[0]) for name in ("VmRSS", "VmPTE")]
    return sizes[0], sizes[1], len(Path("/proc/self/maps").read_text().splitlines())

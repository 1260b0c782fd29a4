"""Bytes through pipes, and single bytes there and back."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from aiopyvm import DEVNULL, VM, pipe
from bench.table import GUESTS, Row, best, engines, peers


def measure_throughput(quick: bool) -> list[Row]:
    """Many bytes through three cats in three machines, on each engine, and in three processes of the host."""
    size = (4 if quick else 64) << 20
    rows = []
    for engine in engines():
        for name, function in (("cat | cat | cat", _through_cats), ("cat | cat | cat > /dev/null", _to_nowhere)):
            anyio.run(function, 1 << 20, engine)
            computed = time.process_time()
            seconds = anyio.run(function, size, engine)
            computed = time.process_time() - computed
            note = f"{size >> 20} MiB in 64 KiB pieces; {size / computed / 1e6:,.0f} MB a second of processor time"
            rows.append(Row(name, f"aiopyvm {engine}", size / seconds / 1e6, "MB/s", note))
    for name, command in peers().items():
        cat = shlex.join([*command, str(GUESTS / "cat")])
        line = f"head -c {size} /dev/zero | {cat} | {cat} | {cat} > /dev/null"
        seconds = best(3, partial(subprocess.run, ["/bin/sh", "-c", line], check=True))
        note = f"{size >> 20} MiB; with the start of the processes"
        rows.append(Row("cat | cat | cat > /dev/null", name, size / seconds / 1e6, "MB/s", note))
    return rows


async def _through_cats(size: int, engine: str) -> float:
    data = bytes(range(256)) * (size // 256)
    cat: Path = GUESTS / "cat"
    received = 0
    before = time.perf_counter()
    async with VM(engine=engine).pipeline([cat], [cat], [cat], stdin=data) as pipeline:
        async for chunk in pipeline.stdout:
            received += len(chunk)
    if received != size:
        raise RuntimeError(f"{received} bytes of {size} came through")
    return time.perf_counter() - before


async def _to_nowhere(size: int, engine: str) -> float:
    data = bytes(range(256)) * (size // 256)
    cat: Path = GUESTS / "cat"
    before = time.perf_counter()
    async with VM(engine=engine).pipeline([cat], [cat], [cat], stdin=data, stdout=DEVNULL) as pipeline:
        await pipeline.wait()
    return time.perf_counter() - before


def measure_ping_pong(quick: bool) -> list[Row]:
    """One byte between two machines and back, on each engine."""
    rounds = 2_000 if quick else 50_000
    rows = []
    for engine in engines():
        anyio.run(_ping_pong, 200, engine)
        computed = time.process_time()
        seconds = anyio.run(_ping_pong, rounds, engine)
        computed = time.process_time() - computed
        note = f"{rounds} of them; {rounds / computed:,.0f} in a second of processor time"
        rows.append(Row("ping-pong", f"aiopyvm {engine}", rounds / seconds, "round trips/s", note))
    for name, command in peers().items():
        seconds = best(3, partial(_ping_pong_of_the_host, command, rounds))
        note = f"{rounds} of them, processes on one core, with their start"
        rows.append(Row("ping-pong", name, rounds / seconds, "round trips/s", note))
    return rows


def _ping_pong_of_the_host(command: Sequence[str], rounds: int) -> None:
    there, back = os.pipe(), os.pipe()
    core = min(os.sched_getaffinity(0))
    processes = [
        subprocess.Popen(
            [*command, GUESTS / name, *arguments],
            stdin=stdin, stdout=stdout, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        for name, arguments, stdin, stdout in (
            ("ping", (str(rounds),), back[0], there[1]),
            ("cat", (), there[0], back[1]),
        )
    ]  # fmt: skip
    for end in (*there, *back):
        os.close(end)
    if any(process.wait() for process in processes):
        raise RuntimeError("ping-pong of processes failed")


async def _ping_pong(rounds: int, engine: str) -> float:
    there, back = pipe(), pipe()
    vm = VM(engine=engine)
    before = time.perf_counter()
    async with (
        vm.open_elf(GUESTS / "ping", str(rounds), stdin=back.receive, stdout=there.send) as ping,
        VM(engine=engine).open_elf(GUESTS / "cat", stdin=there.receive, stdout=back.send),
    ):
        await ping.wait()
        taken = time.perf_counter() - before
    if ping.returncode != 0:
        raise RuntimeError(f"ping ended with {ping.returncode}")
    return taken

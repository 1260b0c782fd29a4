"""Bytes through pipes, and single bytes there and back."""

from __future__ import annotations

import time
from pathlib import Path

import anyio

from aiopyvm import VM, pipe
from bench.table import GUESTS, Row


def measure_throughput(quick: bool) -> list[Row]:
    """Many bytes through three cats in three machines."""
    size = (4 if quick else 64) << 20
    computed = time.process_time()
    seconds = anyio.run(_through_cats, size)
    computed = time.process_time() - computed
    note = f"{size >> 20} MiB in 64 KiB pieces; {size / computed / 1e6:,.0f} MB a second of processor time"
    return [Row("cat | cat | cat", "aiopyvm", size / seconds / 1e6, "MB/s", note)]


async def _through_cats(size: int) -> float:
    data = bytes(range(256)) * (size // 256)
    cat: Path = GUESTS / "cat"
    received = 0
    before = time.perf_counter()
    async with VM().pipeline([cat], [cat], [cat], stdin=data) as pipeline:
        async for chunk in pipeline.stdout:
            received += len(chunk)
    if received != size:
        raise RuntimeError(f"{received} bytes of {size} came through")
    return time.perf_counter() - before


def measure_ping_pong(quick: bool) -> list[Row]:
    """One byte between two machines and back."""
    rounds = 2_000 if quick else 50_000
    computed = time.process_time()
    seconds = anyio.run(_ping_pong, rounds)
    computed = time.process_time() - computed
    note = f"{rounds} of them; {rounds / computed:,.0f} in a second of processor time"
    return [Row("ping-pong", "aiopyvm", rounds / seconds, "round trips/s", note)]


async def _ping_pong(rounds: int) -> float:
    there, back = pipe(), pipe()
    before = time.perf_counter()
    async with (
        VM().open_elf(GUESTS / "ping", str(rounds), stdin=back.receive, stdout=there.send) as ping,
        VM().open_elf(GUESTS / "cat", stdin=there.receive, stdout=back.send),
    ):
        await ping.wait()
        taken = time.perf_counter() - before
    if ping.returncode != 0:
        raise RuntimeError(f"ping ended with {ping.returncode}")
    return taken

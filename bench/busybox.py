"""`seq 100000 | sort -rn | head` with busybox: three machines, against the host's three processes."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path

import anyio

from aiopyvm import VM, Limits
from bench.table import Row, best
from tests.native import busybox_path


def measure(quick: bool) -> list[Row]:
    """Measure both; no rows where there is no busybox (`python tests/busybox.py` fetches one)."""
    busybox = busybox_path()
    if busybox is None:
        return []
    count = "10000" if quick else "100000"
    expected = _natively(busybox, count)
    before, computed = time.perf_counter(), time.process_time()
    output, instructions = anyio.run(_in_machines, busybox, count)
    seconds, computed = time.perf_counter() - before, time.process_time() - computed
    if output != expected:
        raise RuntimeError(f"{output!r} is not what the host prints: {expected!r}")
    native = best(3, partial(_natively, busybox, count))
    what = f"seq {count} | sort | head"
    speed = f"{computed:.2f} s of processor time, {instructions / computed / 1e6:.1f} million instructions a second"
    return [
        Row(what, "aiopyvm", seconds, "s", speed),
        Row(what, "native", native, "s", f"{seconds / native:,.0f} times as fast; same bytes"),
    ]


async def _in_machines(busybox: Path, count: str) -> tuple[bytes, int]:
    output = b""
    stages: list[list[str | Path]] = [[busybox, "seq", count], [busybox, "sort", "-rn"], [busybox, "head"]]
    async with VM(limits=Limits(instructions=10**11)).pipeline(*stages) as pipeline:
        async for chunk in pipeline.stdout:
            output += chunk
    return output, sum(result.instructions for result in pipeline.results)


def _natively(busybox: Path, count: str) -> bytes:
    script = f'"$0" seq {count} | "$0" sort -rn | "$0" head'
    return subprocess.run(["/bin/sh", "-c", script, busybox], stdout=subprocess.PIPE, check=True).stdout

"""Guest instructions per second of processor time on the Python engine, by program; the same programs on the host,
qemu-i386 and Unicorn, where they are.
"""

from __future__ import annotations

import math
import subprocess
import time
from functools import partial

import anyio

from aiopyvm import VM
from bench import unicorn_peer
from bench.table import GUESTS, Row, best, peers, processor_time

# Scales at which the Python engine takes about a second, and at which --quick takes a few tenths.
PROGRAMS = {
    "sieve": (1_000_000, 150_000),
    "sha256": (160, 24),
    "quicksort": (60_000, 9_000),
    "fib": (27, 22),
    "bytecode": (600, 100),
    "matrix": (70, 30),
}
GEOMETRIC_MEAN_OF = ("sieve", "sha256", "quicksort", "fib", "bytecode")
NATIVE_RUNS = 30
RESOLUTION_S = 1e-4


def measure(quick: bool) -> list[Row]:
    """Measure every program on everybody who is there."""
    rows: list[Row] = []
    speeds: list[float] = []
    empty = {name: _computed([*peer, str(GUESTS / "hello")]) for name, peer in peers().items()}
    for program, scales in PROGRAMS.items():
        scale = str(scales[quick])
        seconds, instructions, output = _aiopyvm(program, scale)
        speed = instructions / seconds / 1e6
        rows.append(Row(program, "aiopyvm python", speed, "MIPS", f"{instructions:,} instructions in {seconds:.2f} s"))
        if program in GEOMETRIC_MEAN_OF:
            speeds.append(speed)
        for name, command in peers().items():
            line = [*command, str(GUESTS / program), scale]
            if _run(line) != output:
                raise RuntimeError(f"{program} {scale} prints something else under {name}")
            taken = max(_computed(line) - empty[name], RESOLUTION_S)
            rows.append(Row(program, name, instructions / taken / 1e6, "MIPS", f"{seconds / taken:,.0f} times as fast"))
        if unicorn_peer.available():
            taken = best(3, partial(unicorn_peer.run, GUESTS / program, [program, scale]), time.process_time)
            rows.append(
                Row(program, "unicorn", instructions / taken / 1e6, "MIPS", f"{seconds / taken:,.0f} times as fast")
            )
    mean = math.exp(sum(map(math.log, speeds)) / len(speeds))
    rows.append(Row("geometric mean", "aiopyvm python", mean, "MIPS", f"of {', '.join(GEOMETRIC_MEAN_OF)}"))
    return rows


def _aiopyvm(program: str, scale: str) -> tuple[float, int, bytes]:
    before = time.process_time()
    result = anyio.run(VM(engine="python").run_elf, GUESTS / program, scale)
    taken = time.process_time() - before
    result.check_returncode()
    return taken, result.instructions, result.stdout or b""


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def _computed(command: list[str]) -> float:
    """The least processor time in seconds of several runs, which what else the machine does hardly lengthens."""
    return min(processor_time(command) for _ in range(NATIVE_RUNS))

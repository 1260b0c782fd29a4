"""The native engine on integer programs that take the host about half a second, beside the host itself, qemu-i386 and
the cold tier alone: all in one run, in processor time.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from aiopyvm import VM
from aiopyvm.runtime import machine
from bench.table import GUESTS, Row, engines, output_and_time, peers

HOT_AFTER = "AIOPYVM_HOT_AFTER"
MEMORY = "AIOPYVM_MEMORY"
CHECKED = "checked"
NEVER = str(1 << 62)
RUNS = 3


@dataclass(frozen=True, slots=True)
class Load:
    """A program's argument; for one that reads, how many bytes of standard input."""

    scale: int
    reads: bool = False

    def command(self, part: int) -> tuple[list[str], bytes]:
        """Arguments and standard input for a part of the load."""
        amount = max(self.scale // part, 1)
        return ([], bytes(range(256)) * (amount // 256)) if self.reads else ([str(amount)], b"")


LOADS = {
    "sieve": Load(80_000_000),
    "sha256": Load(80_000),
    "quicksort": Load(4_000_000),
    "fib": Load(41),
    "bytecode": Load(120_000),
    "bubblesort": Load(25_000),
    "base64": Load(40_000_000, reads=True),
    "copy": Load(30_000),
    "states": Load(250_000),
    "list": Load(10_000),
}
LESS = {"fib": {10: 36, 100: 31}, "bubblesort": {10: 8_000, 100: 2_500}}  # what does not grow as its argument does


def load(program: str, part: int) -> tuple[list[str], bytes]:
    """Arguments and standard input of a program for about 1 / `part` (1, 10, 100) of its load."""
    if part > 1 and program in LESS:
        return [str(LESS[program][part])], b""
    return LOADS[program].command(part)


def measure(quick: bool) -> list[Row]:
    """Both tiers, as guests have them by default; the Python engine at a hundredth of the load, the host, qemu-i386."""
    return _measure(10 if quick else 1, "", "native")


def measure_checked(quick: bool) -> list[Row]:
    """Both tiers, where compiled code looks at the page table before each access."""
    return _measure(10 if quick else 1, "", "checked", CHECKED)


def measure_cold(quick: bool) -> list[Row]:
    """The cold tier alone: no region is ever compiled."""
    return _measure(100 if quick else 10, NEVER, "cold")


def _measure(part: int, hot_after: str, name: str, memory: str = "") -> list[Row]:
    if "native" not in engines():
        return []
    rows: list[Row] = []
    ratios: dict[str, list[float]] = {}
    speeds: list[float] = []
    for program in LOADS:
        args, stdin = load(program, part)
        with _hot_after(hot_after, memory):
            taken = [ours("native", program, args, stdin) for _ in range(RUNS)]
        seconds = min(taken)[0]
        instructions, output = taken[0][1:]
        speeds.append(instructions / seconds / 1e6)
        note = f"{instructions:,} instructions in {seconds:.2f} s, {taken[0][0]:.2f} s the first time"
        rows.append(Row(program, f"aiopyvm {name}", speeds[-1], "MIPS", note))
        if not hot_after and not memory:
            slowly, done, _ = ours("python", program, *load(program, 100))
            speed = done / slowly / 1e6
            rows.append(Row(program, "aiopyvm python", speed, "MIPS", times(speed / speeds[-1])))
        for peer, spent in theirs(program, args, stdin, output).items():
            ratios.setdefault(peer, []).append(seconds / spent)
            rows.append(Row(program, peer, instructions / spent / 1e6, "MIPS", times(seconds / spent)))
    rows.append(Row("geometric mean", f"aiopyvm {name}", mean(speeds), "MIPS", f"least {min(speeds):,.0f}"))
    for peer, found in ratios.items():
        note = f"as fast as the engine; {min(found):.2f} to {max(found):.2f}"
        rows.append(Row("geometric mean", peer, mean(found), "times", note))
    return rows


def theirs(program: str, args: list[str], stdin: bytes, output: bytes, only: str = "") -> Mapping[str, float]:
    """The least processor time of each peer, or of one, after it printed the same."""
    found = {}
    for name, command in peers().items():
        if only and name != only:
            continue
        line = [*command, str(GUESTS / program), *args]
        spent = []
        for _ in range(RUNS if name == "native" else 1):
            printed, taken = output_and_time(line, stdin)
            if printed != output:
                raise RuntimeError(f"{program} {' '.join(args)} prints something else under {name}")
            spent.append(taken)
        found[name] = max(min(spent), 1e-3)
    return found


def ours(engine: str, program: str, args: list[str], stdin: bytes) -> tuple[float, int, bytes]:
    """Processor time, instructions and output of a guest, by its name or its whole path."""
    before = time.process_time()
    result = anyio.run(_run, engine, program, args, stdin)
    return time.process_time() - before, result[0], result[1]


async def _run(engine: str, program: str, args: list[str], stdin: bytes) -> tuple[int, bytes]:
    result = await VM(engine=engine).run_elf(GUESTS / program, *args, stdin=stdin, check=True)
    return result.instructions, result.stdout or b""


@contextmanager
def _hot_after(passes: str, memory: str = "") -> Iterator[None]:
    """A native engine of our own, which compiles what was passed so often, for memory of that form; "": as it is by
    default."""
    kept = machine._engines.pop("native", None)
    wanted = {HOT_AFTER: passes, MEMORY: memory}
    before = {name: os.environ.pop(name, "") for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value:
                os.environ[name] = value
        machine._engines.pop("native", None)
        if kept is not None:
            machine._engines["native"] = kept


def times(ratio: float) -> str:
    """`ratio`: our time by theirs."""
    return f"{ratio:.2f} times as fast as the engine" if ratio >= 1 else f"the engine is {1 / ratio:.2f} times as fast"


def mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))

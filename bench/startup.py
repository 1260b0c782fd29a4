"""From process start to exit: an empty anyio program; a hello of ours, and a static glibc one where it can be built, by
`aiopyvm run` and by a program that calls the library."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from bench.table import GUESTS, Row, engines, processor_time
from tests.native import glibc_path

EMPTY = "import anyio\nasync def main(): pass\nanyio.run(main)"
HELLO = "import anyio\nfrom aiopyvm import VM\nprint(anyio.run(VM(engine={engine!r}).run_elf, {path!r}).text, end='')"


def measure(quick: bool) -> list[Row]:
    """Measure whole processes; the notes say how much more than the empty program each took."""
    runs = 3 if quick else 10
    empty, computed = _best(runs, ["-c", EMPTY])
    rows = [Row("empty anyio.run", "python", empty * 1000, "ms", f"{computed * 1000:.0f} ms of processor time")]
    guests = {"hello": GUESTS / "hello"}
    if (glibc := glibc_path("hello")) is not None:
        guests["static glibc hello"] = glibc
    programs = [("import aiopyvm", "aiopyvm", ["-c", "import anyio, aiopyvm\n" + EMPTY])]
    for name, path in guests.items():
        for engine in engines():
            programs.append((name, f"aiopyvm {engine}", ["-c", HELLO.format(path=str(path), engine=engine)]))
        programs.append((name, "aiopyvm run", ["-m", "aiopyvm", "run", str(path)]))
    for name, who, arguments in programs:
        taken, mine = _best(runs, arguments)
        note = f"{(taken - empty) * 1000:+.0f} ms; {(mine - computed) * 1000:+.0f} ms of processor time"
        rows.append(Row(name, who, taken * 1000, "ms", note))
    return rows


def _best(runs: int, arguments: list[str]) -> tuple[float, float]:
    """The shortest wall time and the least processor time of several runs."""
    found = []
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    for _ in range(runs + 1):  # the first one compiles
        before = time.perf_counter()
        mine = processor_time([sys.executable, *arguments], environment)
        found.append((time.perf_counter() - before, mine))
    return min(wall for wall, _ in found[1:]), min(mine for _, mine in found[1:])

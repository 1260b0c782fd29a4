"""From process start to exit: an empty anyio program, a hello of ours, and a static glibc one where it can be built."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from bench.table import GUESTS, Row, processor_time
from tests.native import glibc_path

EMPTY = "import anyio\nasync def main(): pass\nanyio.run(main)"
HELLO = "import anyio\nfrom aiopyvm import VM\nprint(anyio.run(VM().run_elf, {path!r}).text, end='')"


def measure(quick: bool) -> list[Row]:
    """Measure whole processes; the notes say how much more than the empty program each took."""
    runs = 3 if quick else 10
    empty, computed = _best(runs, EMPTY)
    rows = [Row("empty anyio.run", "python", empty * 1000, "ms", f"{computed * 1000:.0f} ms of processor time")]
    programs = {"import aiopyvm": "import anyio, aiopyvm\n" + EMPTY, "hello": HELLO.format(path=str(GUESTS / "hello"))}
    if (glibc := glibc_path("hello")) is not None:
        programs["static glibc hello"] = HELLO.format(path=str(glibc))
    for name, program in programs.items():
        taken, mine = _best(runs, program)
        note = f"{(taken - empty) * 1000:+.0f} ms; {(mine - computed) * 1000:+.0f} ms of processor time"
        rows.append(Row(name, "aiopyvm", taken * 1000, "ms", note))
    return rows


def _best(runs: int, program: str) -> tuple[float, float]:
    """The shortest wall time and the least processor time of several runs."""
    found = []
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    for _ in range(runs + 1):  # the first one compiles
        before = time.perf_counter()
        mine = processor_time([sys.executable, "-c", program], environment)
        found.append((time.perf_counter() - before, mine))
    return min(wall for wall, _ in found[1:]), min(mine for _, mine in found[1:])

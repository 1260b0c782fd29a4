"""From process start to exit: an empty anyio program, a hello of ours, and a static glibc one where it can be built."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from bench.table import GUESTS, Row, best
from tests.native import glibc_path

EMPTY = "import anyio\nasync def main(): pass\nanyio.run(main)"
HELLO = "import anyio\nfrom aiopyvm import VM\nprint(anyio.run(VM().run_elf, {path!r}).text, end='')"


def measure(quick: bool) -> list[Row]:
    """Measure whole processes; the notes say how much more than the empty program each took."""
    runs = 3 if quick else 10
    empty = best(runs, partial(_python, EMPTY))
    rows = [Row("empty anyio.run", "python", empty * 1000, "ms")]
    programs = {"import aiopyvm": "import anyio, aiopyvm\n" + EMPTY, "hello": HELLO.format(path=str(GUESTS / "hello"))}
    if (glibc := glibc_path("hello")) is not None:
        programs["static glibc hello"] = HELLO.format(path=str(glibc))
    for name, program in programs.items():
        taken = best(runs, partial(_python, program))
        rows.append(Row(name, "aiopyvm", taken * 1000, "ms", f"{(taken - empty) * 1000:+.0f} ms"))
    return rows


def _python(program: str) -> None:
    checkout = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=True, cwd=checkout)

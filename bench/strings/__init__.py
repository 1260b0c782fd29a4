"""The string routines of a static glibc on the native engine, beside the host itself: processor time of many calls, by
size. Which variants glibc chooses follows CPUID, the guest's and the host's. No rows where `gcc -m32` cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.native import RUNS, mean, ours, theirs, times
from bench.table import Row, engines
from tests.native import c_program

SOURCE: Final = Path(__file__).parent / "strings.c"
ROUTINES: Final = ("memcpy", "memset", "strlen", "memchr", "strcmp", "inline-memcpy", "inline-memset")
# Bytes of a string, and of all calls: some tenths of a second of the host's time, and a tenth of it.
LOADS: Final = dict.fromkeys((64, 1 << 10, 1 << 14, 1 << 18, 1 << 20), (1 << 32, 1 << 29))


def measure(quick: bool) -> list[Row]:
    """Both tiers, as guests have them by default; a first run makes the regions."""
    program = c_program(SOURCE)
    if program is None or "native" not in engines():
        return []
    rows: list[Row] = []
    ratios: list[float] = []
    for routine in ROUTINES:
        for size, totals in LOADS.items():
            args = [routine, str(size), str(totals[quick] // size)]
            seconds, instructions, output = min(ours("native", str(program), args, b"") for _ in range(RUNS))
            what = f"{routine} {size:,}"
            rows.append(
                Row(what, "aiopyvm native", totals[quick] / seconds / 1e9, "GB/s", f"{instructions:,} instructions")
            )
            native = theirs(str(program), args, b"", output, "native").get("native")
            if native:
                ratios.append(seconds / native)
                rows.append(Row(what, "native", totals[quick] / native / 1e9, "GB/s", times(ratios[-1])))
    if ratios:
        note = f"as fast as the engine; {min(ratios):.2f} to {max(ratios):.2f}"
        rows.append(Row("geometric mean", "native", mean(ratios), "times", note))
    return rows

"""The native engine on floating-point programs in x87, SSE2 and AVX code, beside the host itself and qemu-i386: all in
one run, in processor time. The programs are built from the C sources here; no rows where `gcc -m32` cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.native import RUNS, mean, ours, theirs, times
from bench.table import Row, engines
from tests.native import c_program

SOURCES: Final = Path(__file__).parent
LOADS: Final = {  # arguments for about half a second of the host's time, and for --quick
    "mandelbrot": (1_800, 600),
    "matrix_double": (500, 230),
    "nbody": (4_000_000, 400_000),
    "fft": (3_000, 300),
    "mandelbrot_sse2": (1_800, 600),
    "matrix_sse2": (1_000, 400),
    "matrix_avx": (1_200, 500),
}


def measure(quick: bool) -> list[Row]:
    """Both tiers, as guests have them by default; a first run makes the regions."""
    rows: list[Row] = []
    ratios: dict[str, list[float]] = {}
    for name, scales in LOADS.items():
        program = c_program(SOURCES / f"{name}.c")
        if program is None or "native" not in engines():
            return []
        args = [str(scales[quick])]
        taken = [ours("native", str(program), args, b"") for _ in range(RUNS)]
        seconds, instructions, output = min(taken)
        note = f"{instructions:,} instructions in {seconds:.2f} s, {taken[0][0]:.2f} s the first time"
        rows.append(Row(name, "aiopyvm native", instructions / seconds / 1e6, "MIPS", note))
        for peer, spent in theirs(str(program), args, b"", output).items():
            ratios.setdefault(peer, []).append(seconds / spent)
            rows.append(Row(name, peer, instructions / spent / 1e6, "MIPS", times(seconds / spent)))
    for peer, found in ratios.items():
        note = f"as fast as the engine; {min(found):.2f} to {max(found):.2f}"
        rows.append(Row("geometric mean", peer, mean(found), "times", note))
    return rows

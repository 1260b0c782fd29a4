"""How long Debian's programs take from start to end, inside a process that runs already: `true`, a shell, Python.

Beside the host (through the root's own ld.so) and qemu-i386, whose runs are processes. `python tests/debian.py` first.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from aiopyvm import VM, HostDir
from bench.table import Row, peers
from tests.debian import debian_root

PROGRAMS: dict[str, Sequence[str]] = {
    "true": ["/bin/true"],
    "bash -c 'echo hi'": ["/bin/bash", "-c", "echo hi"],
    "python3 -c pass": ["/usr/bin/python3", "-c", "pass"],
    "bash, 10 fork + exec": ["/bin/bash", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done"],
}
LIBRARIES = ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu")


def measure(quick: bool) -> list[Row]:
    """Measure each program on everybody who is there: the best of several runs."""
    root = debian_root()
    if root is None:
        return [Row("programs of Debian", "nobody", 0, "ms", "python tests/debian.py fetches them")]
    runs = 5 if quick else 20
    rows: list[Row] = []
    for name, argv in PROGRAMS.items():
        ours = anyio.run(_ours, root, argv, runs)
        rows.append(Row(name, "aiopyvm", ours * 1000, "ms"))
        if "exec" in name:
            continue  # children would be looked for on the host
        for who, command in others(root, argv).items():
            taken = _best(runs, lambda command=command: _run(command))  # type: ignore[misc]
            rows.append(Row(name, who, taken * 1000, "ms", f"aiopyvm takes {ours / taken:.1f} times as long"))
    return rows


async def _ours(root: Path, argv: Sequence[str], runs: int) -> float:
    vm = VM(root=HostDir(root, "cow", steady=True), user=0)
    best = float("inf")
    for _ in range(runs + 3):
        before = time.perf_counter()
        result = await vm.run(*argv)
        best = min(best, time.perf_counter() - before)
        assert result.ok, result
    return best


def others(root: Path, argv: Sequence[str]) -> dict[str, list[str]]:
    """The commands by which the others who are there run a program of the root, whose path is the first of `argv`."""
    program = os.fspath(root) + argv[0]
    path = ":".join(os.fspath(root / directory) for directory in LIBRARIES)
    loader = [os.fspath(root / "lib" / "ld-linux.so.2"), "--library-path", path]
    found = {"native": [*loader, program, *argv[1:]]}
    for who, command in peers().items():
        if "qemu" in who:
            found[who] = [*command, "-L", os.fspath(root), program, *argv[1:]]
    return found


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def _best(runs: int, run: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(runs):
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best

"""Figures and how they are shown."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what was measured, by whom, how much, in which unit, and what it is compared with."""

    what: str
    who: str
    value: float
    unit: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def show(title: str, rows: list[Row]) -> None:
    """Print the rows as a table."""
    print(f"\n{title}")
    for row in rows:
        print(f"  {row.what:24} {row.who:16} {row.value:12,.3f} {row.unit:14} {row.note}".rstrip(), flush=True)


def best(runs: int, function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the shortest time in seconds of `runs` calls."""
    shortest = float("inf")
    for _ in range(runs):
        before = clock()
        function()
        shortest = min(shortest, clock() - before)
    return shortest


def processor_time(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Run a command, its output thrown away, and return the seconds of processor time that it took.

    Raises CalledProcessError where its status is not 0.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return usage.ru_utime + usage.ru_stime

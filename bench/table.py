"""Figures and how they are shown."""

from __future__ import annotations

import time
from collections.abc import Callable
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


def best(runs: int, function: Callable[[], object]) -> float:
    """Return the shortest time in seconds of `runs` calls."""
    shortest = float("inf")
    for _ in range(runs):
        before = time.perf_counter()
        function()
        shortest = min(shortest, time.perf_counter() - before)
    return shortest

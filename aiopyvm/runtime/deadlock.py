"""Deadlocks: every guest of a group waits for another of the group, and nobody outside can wake any of them.

A group is what is joined by pipes. It is deadlocked when none of its runs can go on: no thread is runnable, no timer is
set, no hook or debugger holds it, and no thread waits on something that the host or Python can change. The rule may see
a deadlock late (a guest that never ends keeps its whole group from being one), never where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiopyvm.runtime.waits import peers, stuck, whom

if TYPE_CHECKING:
    from aiopyvm.runtime.run import Run


def find_deadlock(run: Run) -> list[tuple[Run, str]]:
    """Return the runs of `run`'s group with what to say of each, if all are stuck; else nothing."""
    group: dict[Run, None] = {}
    for member in _group(run):
        if not stuck(member):
            return []
        group[member] = None
    detail = describe(list(group))
    return [(member, detail) for member in group]


def _group(run: Run) -> Iterator[Run]:
    """Walk over the runs that are joined with `run`, itself first."""
    seen = {run: None}
    todo = [run]
    while todo:
        member = todo.pop(0)
        yield member
        for peer in peers(member):
            if peer not in seen:
                seen[peer] = None
                todo.append(peer)


def describe(group: list[Run]) -> str:
    """Return who waits for what and for whom: 'a: read: pipe: data from b; b: ...'."""
    return "; ".join(line for run in group for line in _waits(run))


def _waits(run: Run) -> Iterator[str]:
    for thread, reason in run.kernel.parked():
        names = sorted({peer.name for peer in whom(run, thread)})
        answer = f", which {' and '.join(names)} must answer" if names else ""
        yield f"{run.name} [{thread.tid}] waits for {reason}{answer}"

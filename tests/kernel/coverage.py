"""Writes docs/system-calls.md: every number of the i386 table, and how much of the call a guest has.

`python -m tests.kernel.coverage` writes the page, from the table of system calls alone.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from aiopyvm.abi import errno
from aiopyvm.abi.numbers import NAMES
from aiopyvm.syscalls.table import TABLE

PAGE: Final = Path(__file__).parents[2] / "docs" / "system-calls.md"
_HEAD: Final = """# System calls

What `python -m tests.kernel.coverage` writes: do not edit. Every number of the i386 table up to Linux 6.10, its name
there, and how much of it a guest has:

- **full**: all that its manual page tells of and an unprivileged program can have.
- **partial**: what the note says is missing or different.
- **refused**: it always fails with the error named, on purpose; the note says why.
- **missing**: nobody has made it yet: ENOSYS, and it is counted in the result's `unknown_syscalls`.

"""


def row_of(number: int) -> tuple[str, str]:
    """Return how much there is of a call, and its note."""
    row = TABLE.get(number)
    if row is None:
        return "missing", ""
    if row.refusal:
        return f"refused: {errno.NAMES[row.refusal]}", row.note
    return ("partial" if row.note else "full"), row.note


def page() -> str:
    """Return the whole page."""
    rows = {number: row_of(number) for number in sorted(NAMES)}
    counts = Counter(how.partition(":")[0] for how, _ in rows.values())
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("full", "partial", "refused", "missing"))
    lines = [f"Of {len(rows)} calls: {told}.\n", "| number | call | | note |", "| ---: | --- | --- | --- |"]
    lines += [f"| {number} | `{NAMES[number]}` | {how} | {note} |" for number, (how, note) in rows.items()]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

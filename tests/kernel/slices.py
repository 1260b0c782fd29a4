"""How long one system call can hold up everybody else: the longest slice of calls that a guest makes as long as it can.

    python -m tests.kernel.slices [NAME...]

Each case prepares a kernel, then makes one call; the table shows how many slices it took (a call that is split goes on
after others had their turn), the longest one and all together, in milliseconds of processor time.
"""

from __future__ import annotations

import sys

from aiopyvm.loader.elf import parse_elf
from tests.kernel import slices_events, slices_files, slices_memory, slices_programs
from tests.kernel.slicing import CASES, PAGE, elf

__all__ = ["slices_events", "slices_files", "slices_memory", "slices_programs"]  # they enter their cases


def main(names: list[str]) -> None:
    """Print the table."""
    parse_elf(elf([(0x8048000, PAGE, 5)]))  # imports what it needs
    for name, run in CASES.items():
        if names and name not in names:
            continue
        calls = run()
        for n, slices in enumerate(calls):
            worst, total = max(slices.costs) * 1e3, sum(slices.costs) * 1e3
            mark = " <---" if worst > 10 else ""
            title = "" if n else name
            print(f"{title:26}{slices.result!s:>12}{len(slices.costs):6}{worst:9.2f}{total:9.1f}{mark}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

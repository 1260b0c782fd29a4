"""Compares random x87 cases with the real CPU: `python -m tests.hardware.campaign_x87 --cases N --seed S`.

`--engine NAME` runs them on that engine (`subjects.py`).

Prints each difference and a count by row; exits with 1 where there was any. `--record NAME` writes a set of vectors
instead.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Final

from aiopyvm.isa.spec import Row
from tests.hardware import counts
from tests.hardware.cases_x87 import cases, rows
from tests.hardware.harness import run_cases
from tests.hardware.machine import Machine, differences
from tests.hardware.subjects import ENGINES, machine_of, summary
from tests.hardware.vectors import record, same_maker
from tests.hardware.wire import X87_INITIAL, Case, State
from tests.hardware.x87_values import parts

_BATCH = 2000
SAME_MAKER = same_maker()  # others update the addresses of the last x87 instruction at other times
_STORED: Final = "the processor stores in pieces; here an instruction that faults has stored nothing"
EXPLAINED: Final = {"fstp": f"80 bits: {_STORED}", "fbstp": _STORED}  # what is not compared, and why


def _explained(case: Case, lines: list[str], hardware: State, ours: State) -> list[str]:
    """`lines`, the x87 image taken to pieces."""
    found = [line for line in lines if not line.startswith("x87")]
    before, want, got = (parts(image or X87_INITIAL) for image in (case.x87, hardware.x87, ours.x87))
    found += [f"{name}: hardware {want[name]:x}, engine {got[name]:x}" for name in want if want[name] != got[name]]
    return [*found, "before: " + " ".join(f"{name}={value:x}" for name, value in before.items())]


def is_known(row: Row, hardware: State, ours: State) -> bool:
    """Whether the difference is one that we want: FSTP m80fp and FBSTP over the end of what can be written.

    The hardware stores significand and exponent apart, and the first has happened when the second faults. Here an
    instruction that faults has stored nothing.
    """
    return (
        row.operands in (("m80fp",), ("m80dec",))
        and hardware.vector == 14
        and replace(ours, changes=hardware.changes) == hardware
    )


def compare(pairs: list[tuple[Row, Case]], machine: Machine) -> list[tuple[Row, Case, list[str]]]:
    """Run each case on the hardware and on `machine`; return those that differ."""
    found = []
    for (row, case), state in zip(pairs, run_cases([case for _, case in pairs]), strict=True):
        if state is None:
            found.append((row, case, ["the case killed the harness"]))
            continue
        ours = machine.run(case)
        lines = differences(state, ours, x87_pointers=SAME_MAKER)
        if lines and not is_known(row, state, ours):
            found.append((row, case, _explained(case, lines, state, ours)))
    return found


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=ENGINES, default="plain")
    parser.add_argument("--show", type=int, default=3, help="differences printed for each row")
    parser.add_argument("--only", metavar="NAMES", default="", help="instructions, separated by commas")
    parser.add_argument("--record", metavar="NAME", help="write --cases cases to tests/vectors/NAME.xz")
    parser.add_argument("--count", action="store_true", help="add the cases to tests/hardware/counts.json")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else []
    listed = [row for row in rows() if not names or row.name in names]
    stream = cases(random.Random(options.seed), options.cases, listed)
    if options.record:
        print(record(options.record, [case for _, case in stream], f"x87, seed {options.seed}"), "cases written")
        return 0
    wrong: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    done, start = 0, time.monotonic()
    while batch := list(islice(stream, _BATCH)):
        machine = machine_of(options.engine, [case for _, case in batch])
        tried.update(str(row) for row, _ in batch)
        for row, case, lines in compare(batch, machine):
            wrong[str(row)] += 1
            if wrong[str(row)] <= options.show:
                print(f"{row}: {case.code.hex()} eflags {case.eflags:x}", *lines, sep="\n    ", flush=True)
        print(summary(machine), end="\n" if summary(machine) else "", flush=True)
        machine.memory.close()
        done += len(batch)
    if options.count:
        counts.add(tried, wrong)
    print(f"{done} cases over {len(rows())} rows in {time.monotonic() - start:.0f} s: {wrong.total()} differences")
    for name, count in wrong.most_common():
        print(f"{count:8} {name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Compares random MMX, SSE and AVX cases with the real CPU.

`python -m tests.hardware.campaign_vector --cases N --seed S --engine hot`.

`--engine NAME` runs them on that engine (`subjects.py`), `--only NAME` tries the rows of one mnemonic, `--vex` those
with VEX.

Prints each difference with what is needed to try it again, and a count by row; exits with 1 where there was any.
`--record NAME` writes a set of vectors instead.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Final

from aiopyvm.isa.spec import Row
from aiopyvm.isa.vectors import GP
from tests.hardware import counts
from tests.hardware.cases_vector import cases, rows
from tests.hardware.harness import run_cases
from tests.hardware.machine import Machine, differences
from tests.hardware.subjects import ENGINES, machine_of, summary
from tests.hardware.vectors import record, same_maker
from tests.hardware.wire import X87_INITIAL, Case, State
from tests.hardware.x87_values import parts

_BATCH = 2000
SAME_MAKER = same_maker()  # others update the addresses of the last x87 instruction at other times
_COMPLETED, _PAGE_FAULT = 1, 14

Excuse = Callable[[State, State], State]  # the hardware's state, as far as it is not to be compared, made ours


def _stored(hardware: State, ours: State) -> State:
    """What a store over the end of what can be written has changed before its fault."""
    return replace(hardware, changes=ours.changes) if hardware.vector == ours.vector == _PAGE_FAULT else hardware


def _entered(hardware: State, ours: State) -> State:
    """TOP and tags that an MMX store has set before its fault."""
    faulted = hardware.vector == ours.vector != _COMPLETED
    return replace(_stored(hardware, ours), x87=ours.x87) if faulted else hardware


def _elsewhere(hardware: State, ours: State) -> State:
    """The byte that a page fault tells."""
    return replace(hardware, cr2=ours.cr2) if hardware.vector == ours.vector == _PAGE_FAULT else hardware


def _partly(hardware: State, ours: State) -> State:
    """What XRSTOR has loaded when it finds MXCSR to be wrong."""
    return replace(hardware, x87=ours.x87, ymm=ours.ymm) if hardware.vector == ours.vector == GP else hardware


_ENTERED: Final = (
    "the processor sets TOP and the tags before it stores or computes; here an instruction that faults has done nothing"
)
_CONVERSIONS: Final = ("cvtpi2ps", "cvtps2pi", "cvttps2pi", "cvtpd2pi", "cvttpd2pi")

# Row's mnemonic: what is not compared, and why.
MASKED: Final[dict[str, tuple[Excuse, str]]] = {
    "xrstor": (_partly, "from the compacted format the processor loads x87 and YMM before it looks at MXCSR"),
    **dict.fromkeys(
        ("vmaskmovps", "vmaskmovpd", "vpmaskmovd", "vpmaskmovq"),
        (
            _elsewhere,
            "where a masked store crosses a page, the processor tells of one byte or another behind the border",
        ),
    ),
    "fxsave": (_stored, "the processor stores in pieces; here an instruction that faults has stored nothing"),
    **dict.fromkeys(
        ("maskmovdqu", "vmaskmovdqu"),
        (_stored, "the processor stores in pieces; here an instruction that faults has stored nothing"),
    ),
    **dict.fromkeys(("maskmovq", "movntq", "movq", "movd", *_CONVERSIONS), (_entered, _ENTERED)),
}


def explained(row: Row, hardware: State, ours: State) -> State:
    """The hardware's state, without what `MASKED` tells of."""
    if row.name not in MASKED:
        return hardware
    excuse, _ = MASKED[row.name]
    return excuse(hardware, ours)


def _described(case: Case, hardware: State, ours: State) -> list[str]:
    """How the states differ, and what was before."""
    found = [line for line in differences(hardware, ours) if not line.startswith("x87")]
    before, want, got = (parts(image or X87_INITIAL) for image in (case.x87, hardware.x87, ours.x87))
    found += [f"{name}: hardware {want[name]:x}, engine {got[name]:x}" for name in want if want[name] != got[name]]
    vectors = " ".join(f"{n}={data.hex()}" for n, data in enumerate(case.ymm or ()))
    found.append(f"before: mxcsr={case.mxcsr:x} ymm {vectors} patches {[(hex(a), d.hex()) for a, d in case.patches]}")
    if case.x87 is not None:
        found.append("before: " + " ".join(f"{name}={value:x}" for name, value in before.items()))
    return found


def compare(pairs: list[tuple[Row, Case]], machine: Machine) -> list[tuple[Row, Case, list[str]]]:
    """Run each case on the hardware and on `machine`; return those that differ."""
    found = []
    for (row, case), state in zip(pairs, run_cases([case for _, case in pairs]), strict=True):
        if state is None:
            found.append((row, case, ["the case killed the harness"]))
            continue
        ours = machine.run(case)
        expected = explained(row, state, ours)
        if differences(expected, ours, x87_pointers=SAME_MAKER):
            found.append((row, case, _described(case, expected, ours)))
    return found


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=ENGINES, default="plain")
    parser.add_argument("--only", metavar="NAME", help="rows of this mnemonic alone")
    parser.add_argument("--vex", action="store_true", help="rows with VEX alone")
    parser.add_argument("--show", type=int, default=3, help="differences printed for each row")
    parser.add_argument("--record", metavar="NAME", help="write --cases cases to tests/vectors/NAME.xz")
    parser.add_argument("--count", action="store_true", help="add the cases to tests/hardware/counts.json")
    options = parser.parse_args()
    listed = [row for row in rows() if options.only in (None, row.name) and row.vex >= options.vex]
    stream = cases(random.Random(options.seed), options.cases, listed)
    if options.record:
        print(record(options.record, [case for _, case in stream], f"vectors, seed {options.seed}"), "cases written")
        return 0
    wrong: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    done, start = 0, time.process_time()
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
    seconds = time.process_time() - start
    print(f"{done} cases over {len(listed)} rows in {seconds:.0f} s of processor time: {wrong.total()} differences")
    for name, count in wrong.most_common():
        print(f"{count:8} {name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Millions of states for random instructions: the real CPU and a virtual machine run one program, digests compared.

`python -m tests.hardware.campaign_drill --family x87 --instructions 5000 --states 1000 --seed S --engine native`.

The program is guests/src/drill.c. Digests that differ are traced to the first state that does, and told with what was
before. The exit status is 1 where there was any. What the virtual machine's engine is like beyond its name is said by
the environment, as for any run (AIOPYVM_HOT_AFTER, AIOPYVM_MEMORY).
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import anyio

from aiopyvm import VM, Limits
from tests.hardware import counts
from tests.hardware.drill import Drill, answer_size, drills, order, rows, split_states

PROGRAM = Path(__file__).parents[2] / "guests" / "bin" / "drill"
FAMILIES = ("integer", "x87", "vector")
_BATCH = 500  # instructions of one run
_TIMEOUT_S = 120

Run = Callable[[bytes], bytes]


def on_hardware(order: bytes) -> bytes:
    """The program's answer on this CPU. Raises RuntimeError where it did not come to its end."""
    done = subprocess.run([PROGRAM], input=order, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"the program ended with {done.returncode} on the hardware")
    return done.stdout


def in_vm(engine: str, order: bytes) -> bytes:
    """The program's answer in a virtual machine. Raises RuntimeError where it did not come to its end."""
    vm = VM(engine=engine, cpu="max", limits=Limits(output=1 << 30))
    result = anyio.run(partial(vm.run_elf, PROGRAM, stdin=order))
    if not result.ok:
        raise RuntimeError(f"the program ended in the virtual machine: {result!r}")
    assert isinstance(result.stdout, bytes)
    return result.stdout


def first_difference(drill: Drill, number: int, seed: int, states: int, run: Run) -> list[str]:
    """The first state that the two do otherwise: its number, how it differs, what was before."""
    each = order([drill], number, seed, range(states), 1)
    want, got = on_hardware(each), run(each)
    wrong = next((n for n in range(states) if want[8 * n : 8 * n + 8] != got[8 * n : 8 * n + 8]), None)
    if wrong is None:
        return ["no state differs" + ("" if want == got else ", but memory beside the operand at the end")]
    one = order([drill], number, seed, range(wrong, wrong + 1), 0)
    (before, hardware), (_, ours) = (next(split_states(answer(one), drill)) for answer in (on_hardware, run))
    lines = [f"{name}: hardware {hardware[name]}, engine {ours[name]}" for name in ours if hardware[name] != ours[name]]
    return [f"state {wrong}", *lines, "before: " + " ".join(f"{name}={value}" for name, value in before.items())]


def compare(batch: list[Drill], base: int, seed: int, states: int, run: Run) -> tuple[list[int], int]:
    """Which of a batch's instructions differ, and how many states came to an end without a fault."""
    asked = order(batch, base, seed, range(states), states)
    want, got = on_hardware(asked), run(asked)
    size = answer_size(range(states), states)
    if len(want) != len(got) or len(want) != size * len(batch):
        raise RuntimeError(f"{len(want)} and {len(got)} bytes of {size * len(batch)} were written")
    parts = [(want[at : at + size], got[at : at + size]) for at in range(0, len(want), size)]
    completed = sum(int.from_bytes(ours[-4:], "little") for _, ours in parts)
    return [n for n, (hardware, ours) in enumerate(parts) if hardware != ours], completed


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="integer")
    parser.add_argument("--instructions", type=int, default=1000)
    parser.add_argument("--states", type=int, default=1000, help="of each instruction")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="native")
    parser.add_argument("--only", metavar="NAMES", default="", help="rows of these mnemonics alone")
    parser.add_argument("--show", type=int, default=2, help="instructions of a row told when they differ")
    parser.add_argument("--count", action="store_true", help="add the cases to tests/hardware/counts.json")
    options = parser.parse_args()
    run = partial(in_vm, options.engine)
    names = options.only.split(",") if options.only else []
    listed = [row for row in rows(options.family) if not names or row.name in names]
    stream = drills(random.Random(options.seed), options.family, options.instructions, listed)
    wrong: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    done = completed = 0
    start = time.process_time()
    while batch := list(islice(stream, _BATCH)):
        found, without_fault = compare(batch, done, options.seed, options.states, run)
        for n in found:
            row = str(batch[n].row)
            wrong[row] += 1
            if wrong[row] <= options.show:
                lines = first_difference(batch[n], done + n, options.seed, options.states, run)
                print(f"{row}: {batch[n].code.hex()}", *lines, sep="\n    ", flush=True)
        done += len(batch)
        for drill in batch:
            tried[str(drill.row)] += options.states
        completed += without_fault
    if options.count:
        counts.add(tried, wrong)
    print(f"{done} instructions of {len(listed)} rows, {done * options.states} states, {completed} without a fault,")
    print(f"in {time.process_time() - start:.0f} s of processor time: {wrong.total()} instructions differ")
    for name, count in wrong.most_common():
        print(f"{count:8} {name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs hostile programs and says how they ended: `python -m tests.hostile.campaign --count N --seed S`.

Exits with 1 when one ended otherwise than in a typed result, took longer than the time limit, or when the process grew
by more than a guest's budget and 20 MB.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter

import anyio

from aiopyvm import VM, Limits, Reason
from aiopyvm.errors import LoadError
from tests.hostile.inputs import Input, inputs

MEMORY = 32 << 20
LIMITS = Limits(instructions=1_000_000, memory=MEMORY, output=1 << 20, wall_time=600.0, processes=32, open_files=64)
ROOM = 20 << 20  # what the process may grow beyond a guest's budget
TYPED = frozenset(Reason) - {Reason.CANCELLED, Reason.KILLED, Reason.TIME_LIMIT}


async def run(program: Input, engine: str = "auto") -> str:
    """Run one program to its end and return how it ended. Anything but a typed end passes on as the exception it is."""
    vm = VM(clock="virtual", seed=program.seed, limits=LIMITS, engine=engine)
    try:
        if program.elf:
            result = await vm.run_elf(program.data, stdin=program.stdin)
        else:
            result = await vm.run_bytes(program.data, stdin=program.stdin)
    except LoadError:
        return "LoadError"
    if result.reason not in TYPED:
        raise AssertionError(f"{program.kind}, seed {program.seed}: ended with {result.reason}")
    return result.reason.name


async def campaign(first_seed: int, count: int, engine: str) -> int:
    """Run `count` programs; print what came of them; return how many went wrong."""
    ends: Counter[str] = Counter()
    wrong = 0
    slowest = (0.0, "")
    for program in inputs(first_seed, count):
        before = time.perf_counter()
        try:
            ends[f"{program.kind}: {await run(program, engine)}"] += 1
        except Exception as error:
            wrong += 1
            print(f"{program.kind}, seed {program.seed}: {type(error).__name__}: {error}", flush=True)
        slowest = max(slowest, (time.perf_counter() - before, f"{program.kind}, seed {program.seed}"))
    for name, number in sorted(ends.items()):
        print(f"{number:8} {name}")
    print(f"slowest: {slowest[0]:.2f} s, {slowest[1]}")
    return wrong


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    anyio.run(campaign, 0, 40, arguments.engine)  # what every run keeps: code, caches
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong: int = anyio.run(campaign, arguments.seed, arguments.count, arguments.engine)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{arguments.count} programs, {wrong} ended wrongly; the process grew by {grown / 1e6:.1f} MB")
    return int(wrong > 0 or grown > MEMORY + ROOM)


if __name__ == "__main__":
    sys.exit(main())

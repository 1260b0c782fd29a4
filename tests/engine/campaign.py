"""Compare the tiers on many random programs: `python -m tests.engine.campaign --programs 20000 --seed 1`.

Every program runs on the evaluator, on cold code, and on regions made early, cut into slices at random; each difference
is printed with what is needed to run it again. The exit status is 1 where there was one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.protocol import Engine
from aiopyvm.engine.python import PythonEngine
from aiopyvm.engine.python.engine import Tier
from tests.engine.engines import hot_engine, native_handlers
from tests.engine.programs import Outcome, Program, flag_program, program, run, x87_program

KINDS = (
    "straight", "loop", "itself", "loop itself", "x87", "x87 loop", "flags loop",
    "rare", "rare loop itself", "rare x87 loop",
)  # fmt: skip


def engines(number: int) -> dict[str, Engine]:
    """The engines that are compared with the evaluator, fresh: no regions, and regions sooner or later."""
    tiers: tuple[tuple[Tier, int], ...] = (("auto", 3), ("warm", 0), ("auto", 16))
    regions = PythonEngine(*tiers[number % 3])
    return {"cold": PythonEngine("cold"), f"{regions.tier} {regions.warm_after}": regions}


def case(seed: int, number: int) -> tuple[Program, list[int]]:
    """Program `number` of the campaign `seed`, and where its run is cut."""
    random_ = random.Random(f"{seed} {number}")
    kind = KINDS[number % len(KINDS)]
    length = random_.randrange(1, 16)
    if "x87" in kind:
        made = x87_program(random_, length, "loop" in kind)
    elif "flags" in kind:
        made = flag_program(random_, 3 * length, "loop" in kind)
    else:
        made = program(random_, length, "loop" in kind, "itself" in kind)
    if "rare" in kind:
        made = replace(made, rare=True)
    cut = random_.choice(((1, 2, 3, 7, 61, 500), (500,), (61, 500), (2, 61)))
    return made, [random_.choice(cut) for _ in range(20)]


def differences(made: Program, slices: list[int], evaluator: Engine, compared: dict[str, Engine]) -> Iterator[str]:
    """The names of the engines that do not do what the evaluator does, with the first slice that shows it."""
    expected = run(evaluator, made, slices)
    for name, engine in compared.items():
        actual = run(engine, made, slices)
        if actual != expected:
            at = next((i for i, (a, b) in enumerate(zip(actual, expected, strict=False)) if a != b), -1)
            yield f"{name}, slice {at}: {describe(actual[at], expected[at])}"


def describe(actual: Outcome, expected: Outcome) -> str:
    """What two outcomes differ in."""
    if actual.exit != expected.exit:
        return f"{actual.exit} instead of {expected.exit}"
    if actual.cpu != expected.cpu:
        return "registers at " + ", ".join(
            f"{i}: {a:02x} not {b:02x}" for i, (a, b) in enumerate(zip(actual.cpu, expected.cpu, strict=True)) if a != b
        )
    at = next(i for i, (a, b) in enumerate(zip(actual.memory, expected.memory, strict=True)) if a != b)
    return f"memory at {at:#x}"


def main() -> int:
    """Run the campaign; the number of differing programs decides the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--fresh", type=int, default=50, help="programs that share engines")
    parser.add_argument("--native", action="store_true", help="compare the native engine alone, with cold code")
    parser.add_argument("--regions", choices=(CHECKED, MMU), help="compare its regions of that memory form alone")
    options = parser.parse_args()
    failed = 0
    evaluator = PythonEngine("cold" if options.native or options.regions else "evaluator")
    compared = engines(0)
    table = native_handlers() if options.native else None
    began = time.monotonic()
    for number in range(options.first, options.first + options.programs):
        if number % options.fresh == 0:
            compared = engines(number // options.fresh)
            if options.regions:
                compared = {"hot": hot_engine(after=1 + number // options.fresh % 3, memory=options.regions)}
            if table is not None:
                table.collect(60)  # handlers for what the programs before had and no handler was there for
                compared = {"native": NativeEngine(lambda: table)}
        made, slices = case(options.seed, number)
        try:
            found = list(differences(made, slices, evaluator, compared))
        except Exception as error:
            found = [f"raised {type(error).__name__}: {error}"]
        if found:
            failed += 1
            shown = replace(made, code=b"")
            print(f"program {number} {made.code.hex()} {shown} {slices}\n  " + "\n  ".join(found), flush=True)
    print(f"{options.programs} programs, {failed} differ, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

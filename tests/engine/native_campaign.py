"""Random instructions on the native engine's handlers and on the evaluator: `python -m tests.engine.native_campaign`.

`--cases N --seed S --x87`. Every shape gets its handler first. Prints what differs; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from itertools import islice

from aiopyvm.engine.native.handlers import Shape, Shapes
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.mem.space import AddressSpace
from tests.engine.native_steps import NativeSteps
from tests.hardware import cases, cases_x87
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.machine import Machine, differences
from tests.hardware.wire import Case

_BATCH = 20_000
_SHOWN = 20


def shapes_of(listed: list[Case]) -> list[Shape]:
    """The shapes of the cases' instructions."""
    found, shapes = Shapes(1 << 16), dict[str, Shape]()
    for case in listed:
        try:
            shape = found.find(decode(case.code))
        except (DecodeFault, NeedMore):
            continue
        shapes[shape.name] = shape
    return list(shapes.values())


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--x87", action="store_true")
    options = parser.parse_args()
    stream = (cases_x87 if options.x87 else cases).cases(random.Random(options.seed), options.cases)
    expected = Machine(EvaluatorEngine(), AddressSpace())
    wrong: Counter[str] = Counter()
    while listed := [case for _, case in islice(stream, _BATCH)]:
        engine = NativeSteps(shapes_of(listed))
        machine = Machine(engine, AddressSpace())
        for case in listed:
            lines = differences(expected.run(case), machine.run(case), x87_pointers=True)
            if lines:
                row = str(decode(case.code).row)
                wrong[row] += 1
                if wrong.total() <= _SHOWN:
                    print(f"{case.code.hex()} {row}: {'; '.join(lines)}")
        print(f"{len(listed)} cases: {engine.statistics()}, {len(engine.without)} shapes without handler", flush=True)
    print(f"{wrong.total()} differ: {wrong.most_common(_SHOWN)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

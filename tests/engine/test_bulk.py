"""REP MOVS and REP STOS in bulk leave what single iterations leave: overlaps, page edges, faults in the middle, every
cut.
"""

from __future__ import annotations

import random

import pytest

from aiopyvm.engine.python import PythonEngine
from tests.engine.programs import DATA, DATA_SIZE, Program, run

_CODES = {
    "rep movsb": b"\xf3\xa4",
    "rep movsw": b"\x66\xf3\xa5",
    "rep movsd": b"\xf3\xa5",
    "rep stosb": b"\xf3\xaa",
    "rep stosd": b"\xf3\xab",
    "movsd xmm4, [esi]": b"\xf2\x0f\x10\x26",  # which shares its name with a string instruction
}


@pytest.mark.parametrize("name", _CODES)
def test_bulk_is_many_iterations(name: str) -> None:
    evaluator, bulk = PythonEngine("evaluator"), PythonEngine("warm")
    random_ = random.Random(name)
    for _ in range(12):
        source = DATA + random_.randrange(DATA_SIZE)
        near = source + random_.choice((1, 2, 3, 4, 5, 64, -1, -3, -64, 0))
        destination = random_.choice((near, DATA + random_.randrange(DATA_SIZE)))
        count = random_.choice((0, 1, 3, 5, 40, 700))
        registers = (0x12345678, count, 0, 0, 0, 0, source, destination)
        case = Program(_CODES[name], registers, 0x602 if random_.random() < 0.2 else 0x202, random_.getrandbits(32))
        slices = [random_.choice((1, 7, 100, 1000)) for _ in range(200)]
        assert run(bulk, case, slices) == run(evaluator, case, slices), (name, case)

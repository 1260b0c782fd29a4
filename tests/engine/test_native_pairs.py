"""Pairs that one handler executes: against the evaluator, with budgets that end inside, with faults in each half."""

from __future__ import annotations

import random

import pytest

from aiopyvm.engine.native.commonpairs import PAIRS
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.layout import RECORD_SIZE
from aiopyvm.engine.native.pairs import pair_name
from aiopyvm.engine.protocol import Core, Engine, Exit
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.decode import decode
from aiopyvm.isa.state import GPR32
from tests.engine.engines import native_engine, native_handlers
from tests.engine.test_code import BASE, machine
from tests.engine.test_native_engine import code_of

PAGES = 8
DATA = BASE + 0x4000


def shapes(codes: str) -> list[Shape]:
    return [Shape(decode(bytes.fromhex(code))) for code in codes.split(".")]


def prepared(codes: str, seed: int) -> Core:
    """A core at the pair; registers point around in data, or beyond it now and then."""
    rng = random.Random(seed)
    core = machine(bytes.fromhex(codes.replace(".", "")) + b"\xcd\x80", pages=PAGES)
    core.memory.write(DATA, rng.randbytes(0x4000))
    for name in GPR32:
        setattr(
            core.cpu, name, rng.choice((DATA + 4 * rng.randrange(0x400), rng.randrange(64), rng.randrange(1 << 32)))
        )
    core.cpu.esp = DATA + 0x1000 + 4 * rng.randrange(0x400)
    core.cpu.eflags = rng.randrange(1 << 12) & 0x8D5 | 2
    return core


def after(engine: Engine, core: Core, budgets: tuple[int, ...]) -> list[tuple[Exit, bytes]]:
    return [(engine.run(core, budget), bytes(core.cpu)) for budget in budgets]


def test_each_pair_does_what_its_instructions_do() -> None:
    table = native_handlers()
    evaluator, native = PythonEngine("evaluator"), native_engine()
    fused = 0
    for number, codes in enumerate(PAIRS.split()):
        first, second = shapes(codes)
        handler = table.symbols[pair_name(first.name, second.name)]
        for seed in range(6):
            for budgets in ((2,), (1, 1), (3, 1)):
                cores = [prepared(codes, 10 * number + seed) for _ in range(2)]
                assert after(evaluator, cores[0], budgets) == after(native, cores[1], budgets), (codes, seed, budgets)
                assert cores[0].memory.peek(DATA, 0x4000) == cores[1].memory.peek(DATA, 0x4000), (codes, seed)
                code = code_of(cores[1])
                fused += code.arena.handler(code.record(BASE)) == handler
    assert fused > 15 * len(PAIRS.split())


def test_both_halves_can_be_come_to_and_changed() -> None:
    # again: mov eax, ebx; inc eax; dec ecx; jnz to the second half; then the first half's code is written over
    engine = native_engine()
    text = bytes.fromhex("89d8404975fccd80")
    core = machine(text)
    core.cpu.ecx, core.cpu.ebx = 10, 5
    engine.run(core, 1000)
    assert (core.cpu.eax, core.cpu.ecx) == (15, 0)
    code = code_of(core)
    at = code.record(BASE)
    assert code.record(BASE + 2) == at + RECORD_SIZE
    core.memory.write(BASE + 2, b"\x48")  # dec eax
    core.cpu.eip, core.cpu.ecx = BASE, 10
    engine.run(core, 1000)
    assert core.cpu.eax == 5 - 10 & 0xFFFFFFFF


@pytest.mark.parametrize("codes", ["89d8.40", "39d8.7510"])
def test_a_run_that_ends_between_the_two_has_no_pair(codes: str) -> None:
    """Where the second half has its record elsewhere, the first one's handler must not look for it behind its own."""
    engine = native_engine()
    text = bytes.fromhex(codes.replace(".", ""))
    core = machine(text + b"\xcd\x80" + b"\x90" * 32)
    core.cpu.eip = BASE + 2  # the second half is translated first
    engine.run(core, 1)
    core.cpu.eip = BASE
    engine.run(core, 1)
    code = code_of(core)
    assert code.record(BASE + 2) != code.record(BASE) + RECORD_SIZE
    handler = code.arena.handler(code.record(BASE))
    assert handler == native_handlers().symbols[shapes(codes)[0].name]

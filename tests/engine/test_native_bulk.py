"""REP MOVS and REP STOS through their handlers leave the state of as many single iterations, for any budget."""

from __future__ import annotations

import random

import pytest

from aiopyvm.engine.native.bulk import is_bulk
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.engine.protocol import Core, ExitReason
from aiopyvm.isa.decode import decode
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.space import AddressSpace
from tests.engine.native_steps import NativeSteps
from tests.hardware.evaluator import EvaluatorEngine

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(not HAS_X87, reason="the host has no such instructions")

CODE, DATA, PAGES = 0x1000, 0x10000, 6
STRINGS = [bytes((0xF3, *prefix, opcode)) for opcode in (0xA4, 0xA5, 0xAA, 0xAB) for prefix in ((), (0x66,))]


def machine(code: bytes, seed: int) -> Core:
    """A random copy or fill that begins in the data area: one page of it is read-only, those around are missing."""
    rng = random.Random(seed)
    space = AddressSpace()
    space.map(CODE, 0x1000, 7)
    space.poke(CODE, code)
    space.map(DATA, PAGES << 12, 3)
    space.write(DATA, rng.randbytes(PAGES << 12))
    space.protect(DATA + (4 << 12), 0x1000, 1)
    cpu = CpuState()
    cpu.eip = CODE
    near = DATA + rng.randrange(PAGES << 12)
    cpu.edi, cpu.esi = near, rng.choice((near + rng.randrange(-20, 20), DATA + rng.randrange(PAGES << 12)))
    cpu.ecx = rng.choice((0, 1, 7, 8, 9, rng.randrange(64), rng.randrange(9000)))
    cpu.eax = rng.getrandbits(32)
    cpu.df = rng.randrange(8) == 0
    return Core(cpu, space)


def outcome(engine: NativeSteps | EvaluatorEngine, core: Core, budgets: list[int]) -> tuple[object, ...]:
    exits: list[object] = []
    for budget in budgets:
        left = budget
        while left > 0:
            before = core.cpu.instructions
            exit_ = engine.run(core, left)
            left -= core.cpu.instructions - before
            if exit_.reason != ExitReason.BUDGET or core.cpu.eip != CODE:
                return (*exits, exit_, left, *state(core))
        exits.append(state(core))
    return tuple(exits)


def state(core: Core) -> tuple[object, ...]:
    cpu = core.cpu
    content = core.memory.peek(DATA, PAGES << 12)
    return cpu.eip, cpu.ecx, cpu.esi, cpu.edi, cpu.eax, cpu.eflags, cpu.instructions, hash(content)


@pytest.fixture(scope="module")
def native() -> NativeSteps:
    return NativeSteps([Shape(decode(code)) for code in STRINGS])


@pytest.mark.parametrize("code", STRINGS, ids=bytes.hex)
def test_same_state(native: NativeSteps, code: bytes) -> None:
    assert is_bulk(decode(code))
    evaluator = EvaluatorEngine()
    native.largest = 0
    for seed in range(40):
        budgets = random.Random(seed).choice(([1 << 14], [1, 2, 3, 7, 8, 61, 997], [100] * 20))
        want = outcome(evaluator, machine(code, seed), budgets)
        got = outcome(native, machine(code, seed), budgets)
        assert got == want, f"{code.hex()} seed {seed}"
    assert native.largest > 500  # iterations of one run of generated code


def test_same_name() -> None:
    """MOVSD of an XMM register, which F2 is part of, is no loop."""
    assert not is_bulk(decode(b"\xf2\x0f\x10\x26"))

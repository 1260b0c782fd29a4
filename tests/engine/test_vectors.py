"""Vector registers, their operations and MXCSR: the same on every engine, wherever a run is cut."""

from __future__ import annotations

import itertools
import random
import struct

import pytest

from aiopyvm.engine.protocol import Core, Engine
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from tests.engine.engines import ENGINES, engine_of
from tests.engine.test_code import BASE, machine

DATA = BASE + 0x1000
VALUES = (
    struct.pack("<4f2d", 1.5, -0.0, 1e-40, 3.25e38, 1 / 3, 2.0**-1060) + bytes(range(16)) + b"\xff" * 8 + b"\x80" * 8
)
PROGRAM = f"""
    mov ecx, 300
    mov ebx, {DATA}
    movups xmm0, xmmword ptr [ebx]
    movaps xmm1, xmmword ptr [ebx + 16]
    movdqa xmm6, xmmword ptr [ebx + 32]
    movdqu xmm7, xmmword ptr [ebx + 41]
again:
    paddd xmm6, xmm7
    psubw xmm6, xmmword ptr [ebx + 48]
    addps xmm2, xmm0
    addsd xmm3, qword ptr [ebx + 16]
    mulpd xmm5, xmm1
    divss xmm4, dword ptr [ebx + 4]
    pxor xmm7, xmm5
    pcmpeqb xmm7, xmm6
    movdqa xmmword ptr [ebx + 64], xmm7
    paddb xmm7, xmmword ptr [ebx + 64]
    movupd xmmword ptr [ebx + 81], xmm2
    dec ecx
    jnz again
    hlt
"""


def prepared() -> Core:
    core = machine(assemble(PROGRAM, BASE))
    core.memory.write(DATA, VALUES)
    for number in range(2, 6):
        setattr(core.cpu, f"ymm{number}", random.Random(number).getrandbits(256))
    return core


def outcome(engine: Engine, slices: itertools.repeat[int]) -> tuple[bytes, bytes]:
    """The state and the data when the program is over."""
    core = prepared()
    while engine.run(core, next(slices)).vector != 13:
        pass
    return bytes(core.cpu), core.memory.read(DATA, 128)


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("budget", [1_000_000, 61, 7])
def test_engines_agree(tier: str, budget: int) -> None:
    expected = outcome(PythonEngine("evaluator"), itertools.repeat(1_000_000))
    engine = engine_of(tier)
    assert outcome(engine, itertools.repeat(budget)) == expected
    if tier in ("hot", "guarded"):
        assert engine.statistics()["regions_failed"] == 0
        assert engine.statistics()["instructions_hot"] or budget < 61


@pytest.mark.parametrize("tier", ENGINES)
def test_a_misaligned_operand_faults_before_its_page_is_looked_at(tier: str) -> None:
    core = machine(assemble("movaps xmm0, xmmword ptr [0x7001]", BASE))
    exit_ = engine_of(tier).run(core, 10)
    assert (exit_.vector, exit_.error_code, core.cpu.eip) == (13, 0, BASE)


@pytest.mark.parametrize("tier", ENGINES)
def test_an_unmasked_exception_leaves_its_flag_and_nothing_else(tier: str) -> None:
    core = machine(assemble("divps xmm0, xmm1", BASE))
    core.cpu.mxcsr = 0x1F80 & ~0x200  # ZE
    core.cpu.xmm0 = int.from_bytes(struct.pack("<4f", 1, 1, 1, 1e30), "little")
    before = core.cpu.xmm0
    exit_ = engine_of(tier).run(core, 10)
    assert (exit_.vector, core.cpu.eip, core.cpu.xmm0, core.cpu.mxcsr) == (19, BASE, before, 0x1D84)


@pytest.mark.parametrize("tier", ENGINES)
def test_a_store_to_xmm_keeps_the_upper_half(tier: str) -> None:
    core = machine(assemble("pxor xmm1, xmm1\nhlt", BASE))
    core.cpu.ymm1 = 5 << 200 | 7
    engine_of(tier).run(core, 10)
    assert core.cpu.ymm1 == 5 << 200

"""Unmasked floating-point exceptions in generated code: the evaluator's state, and Python only for what raises one."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.vectors import GP, MF, XM
from tests.engine.engines import hot_engine, native_engine
from tests.engine.test_code import BASE, machine
from tests.engine.x87_loops import DATA as LOOPS_DATA
from tests.engine.x87_loops import loop

pytestmark = pytest.mark.skipif(not HAS_X87, reason="the host has no x87")

DATA = BASE + 0x1000
CONTROLS = (0x372, 0x37B, 0xF72, 0x27E, 0x360, 0x340)  # IE ZE OE; ZE; the same, cut; IE in doubles; DE to UE; all
FLOATS = f"""
    mov ecx, 400
    mov ebx, {DATA}
again:
    fld qword ptr [ebx]
    fmul qword ptr [ebx + 8]
    fadd qword ptr [ebx + 16]
    fst qword ptr [ebx + 16]
    fldcw word ptr [ebx + 24]
    fistp dword ptr [ebx + 28]
    fldcw word ptr [ebx + 26]
    {{more}}
    dec ecx
    jnz again
    hlt
"""
MIXED = f"""
    mov ecx, 300
    mov ebx, {DATA}
    mov edx, 0x5F80
again:
    movdqu xmm1, xmmword ptr [ebx]
    paddd xmm1, xmm1
    movdqu xmmword ptr [ebx + 64], xmm1
    imul eax, ecx, 77
    xor edi, eax
    cmp ecx, 150
    jne same
    mov [ebx + 32], edx
    ldmxcsr dword ptr [ebx + 32]
    and edx, 0xFFFFFDFF
    mov [ebx + 32], edx
    ldmxcsr dword ptr [ebx + 32]
    stmxcsr dword ptr [ebx + 36]
same:
    {{more}}
    dec ecx
    jnz again
    hlt
"""


def prepared(program: str, control: int = 0x37F) -> Callable[[], Core]:
    def make() -> Core:
        core = machine(assemble(program, BASE))
        words = (control | 0xC00, control)
        core.memory.write(DATA, struct.pack("<3d2H", 1.5, -0.25, 0.75, *words).ljust(64, b"\0"))
        core.cpu.fcw = control
        return core

    return make


def states(engine: Engine, make: Callable[[], Core], slices: list[int], data: int = DATA) -> list[object]:
    """What a run is like wherever it is cut."""
    core, exit_ = make(), Exit(ExitReason.BUDGET)
    found: list[object] = []
    for budget in [*slices, 100_000]:
        if exit_.reason is ExitReason.BUDGET:
            exit_ = engine.run(core, budget)
            found.append((exit_, bytes(core.cpu), core.memory.peek(data, 128)))
    return found


def in_python(engine: NativeEngine) -> int:
    figures = engine.statistics()
    return figures["instructions_evaluated"] + figures["instructions_python"]


def compared(make: Callable[[], Core]) -> tuple[int, Exit]:
    """Run a program on all of them; how many instructions handlers left to Python, and how it ended."""
    rng, left = random.Random(3), 0
    for slices in ([], [rng.choice((1, 2, 7, 61)) for _ in range(30)]):
        expected = states(PythonEngine("evaluator"), make, slices)
        cold = native_engine()
        for engine in (cold, hot_engine()):
            assert states(engine, make, slices) == expected
        left = max(left, in_python(cold))
    exit_ = expected[-1][0]  # type: ignore[index]
    assert isinstance(exit_, Exit)
    return left, exit_


@pytest.mark.parametrize("control", CONTROLS[:4])
def test_what_raises_nothing_unmasked_is_executed(control: int) -> None:
    left, exit_ = compared(prepared(FLOATS.format(more=""), control))
    assert exit_.vector == GP
    assert left < 20


@pytest.mark.parametrize("more", ["fldz\nfld1\nfdivrp", "fldz\nfdiv st, st", "fld1", "fstp st", "fldz\nfsqrt"])
@pytest.mark.parametrize("control", CONTROLS)
def test_what_raises_one_faults_where_the_next_one_waits(control: int, more: str) -> None:
    _, exit_ = compared(prepared(FLOATS.format(more=more), control))
    if control == 0x340 or (control == 0x372 and more != "fldz\nfsqrt"):
        assert exit_.vector == MF


@pytest.mark.parametrize("control", CONTROLS)
def test_random_loops(control: int) -> None:
    rng = random.Random(control)
    for number in range(6):
        made = loop(rng)

        def make(made: Callable[[], Core] = made) -> Core:
            core = made()
            core.cpu.fcw = control
            return core

        slices = [rng.choice((1, 2, 3, 7, 19, 61)) for _ in range(8)]
        expected = states(PythonEngine("evaluator"), make, slices, LOOPS_DATA)
        for engine in (native_engine(), hot_engine()):
            assert states(engine, make, slices, LOOPS_DATA) == expected, number


@pytest.mark.parametrize(
    ("more", "vector"), [("", GP), ("mulsd xmm2, xmm3", GP), ("cvtsi2ss xmm4, ecx\ndivss xmm4, xmm5", XM)]
)
def test_simd_exceptions_unmasked_on_the_way(more: str, vector: int) -> None:
    def make() -> Core:
        core = prepared(MIXED.format(more=more))()
        core.cpu.xmm2 = core.cpu.xmm3 = struct.unpack("<Q", struct.pack("<d", 0.99))[0]
        return core

    left, exit_ = compared(make)
    assert exit_.vector == vector
    assert left < 20

"""Seats: the same states and counts at the same system calls as `run`, whatever generated code comes back for."""

from __future__ import annotations

import random

import pytest

from aiopyvm import assemble
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.seat import PATIENCE
from aiopyvm.engine.protocol import Core, ExitReason
from aiopyvm.isa.state import CpuState
from aiopyvm.isa.vectors import BP, DE
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import engine_of

CODE = 0x10000
LOOP = (  # calls, returns and indirect jumps to a few places, a store, and a system call each time
    "mov esp, 0x20f00; xor ebx, ebx; again: inc ebx; mov ecx, ebx; and ecx, 3; lea edx, [ecx*4+0x10100]; push ebx; "
    "call edx; pop eax; mov [0x20000+ecx*4], ebx; mov eax, 20; int 0x80; add edi, eax; jmp again"
)
Trace = list[tuple[int, ...]]


def _core(text: str) -> Core:
    space = AddressSpace(Unlimited())
    space.map(CODE, 0x1000, 7)
    space.map(0x20000, 0x1000, 3)
    space.poke(CODE, assemble(text, CODE))
    for at in range(4):
        space.poke(CODE + 0x100 + 4 * at, assemble("inc esi; ret"))
    cpu = CpuState()
    cpu.eip = CODE
    return Core(cpu, space)


def _state(core: Core) -> tuple[int, ...]:
    cpu = core.cpu
    return (cpu.eip, cpu.instructions, cpu.eax, cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.esp, cpu.eflags)


def _run(engine: NativeEngine, core: Core, calls: int) -> Trace:
    trace: Trace = []
    while len(trace) < calls:
        assert engine.run(core, 1000).reason is ExitReason.SYSCALL
        trace.append(_state(core))
        core.cpu.eax = len(trace)
    return trace


def _sit(engine: NativeEngine, core: Core, calls: int, budgets: random.Random) -> Trace:
    trace: Trace = []
    seat = engine.seat(core)
    again = False
    while len(trace) < calls:
        begun, before = seat.begin(again=again), core.cpu.instructions
        again = True
        for _ in range(budgets.choice((1, 1, 5, 50)) if begun else 0):
            budget, count = budgets.choice((1, 2, 7, 100)), core.cpu.instructions
            left = seat.enter(budget)
            assert core.cpu.instructions - count <= budget
            if left < 0:
                assert seat.exit is None
                break
            assert core.cpu.instructions - count == budget - left
            trace.append(_state(core))
            core.cpu.eax = len(trace)
        if begun:
            assert seat.taken
            assert seat.done == core.cpu.instructions - before
            seat.end()
        assert not seat.taken
        if engine.run(core, 3).reason is ExitReason.SYSCALL:
            trace.append(_state(core))
            core.cpu.eax = len(trace)
    return trace


@pytest.mark.parametrize("kind", ["native", "hot", "guarded"])
def test_calls_are_the_same(kind: str) -> None:
    engine, other = engine_of(kind), engine_of(kind)
    assert isinstance(engine, NativeEngine)
    assert isinstance(other, NativeEngine)
    expected = _run(other, _core(LOOP), 400)
    assert _sit(engine, _core(LOOP), 400, random.Random(5))[:400] == expected


def _exits(text: str) -> tuple[int, Core, int]:
    engine, core = engine_of("native"), _core(text)
    assert isinstance(engine, NativeEngine)
    engine.run(core, 1)
    seat = engine.seat(core)
    assert seat.begin(again=False)
    left = seat.enter(100)
    seat.end()
    assert left < 0
    return (seat.exit.vector if seat.exit is not None else -1), core, engine.run(core, 100).vector


def test_a_trap_is_told_once_and_a_fault_by_run() -> None:
    vector, core, later = _exits("nop; int3; int 0x80")
    assert (vector, core.cpu.instructions, later) == (BP, 3, -1)
    vector, core, later = _exits("nop; xor ecx, ecx; div ecx")
    assert (vector, core.cpu.instructions, later) == (-1, 2, DE)


def test_rare_modes_and_breakpoints_are_for_run() -> None:
    engine, core = engine_of("native"), _core(LOOP)
    assert isinstance(engine, NativeEngine)
    seat = engine.seat(core)
    core.breakpoints.add(CODE)
    assert not seat.begin(again=False)
    core.breakpoints.clear()
    core.cpu.system_flags |= 0x100
    assert not seat.begin(again=False)


def test_it_gives_up_where_there_is_always_more_to_supply() -> None:
    engine = engine_of("native")
    assert isinstance(engine, NativeEngine)
    core = _core("".join(f"jmp l{n}; nop; l{n}: " for n in range(200)) + "int 0x80")
    engine.run(core, 1)
    seat = engine.seat(core)
    assert seat.begin(again=False)
    assert seat.enter(1000) < 0
    seat.end()
    assert 0 < core.cpu.instructions <= 2 + len(PATIENCE) * 2


@pytest.mark.parametrize("kind", ["native", "hot", "guarded"])
@pytest.mark.parametrize("shared", [False, True])
def test_several_are_taken_at_a_time(kind: str, shared: bool) -> None:
    engine, other = engine_of(kind), engine_of(kind)
    assert isinstance(engine, NativeEngine)
    assert isinstance(other, NativeEngine)
    cores = [_core(LOOP), _core(LOOP)]
    if shared:
        cores[1] = Core(CpuState(), cores[0].memory)
        cores[1].cpu.eip = CODE
    seats = [engine.seat(core) for core in cores]
    traces: list[Trace] = [[], []]
    for turn in range(600):
        who = turn * 7 // 3 % 2
        seat, core, trace = seats[who], cores[who], traces[who]
        if not (seat.taken and seat.again()):
            if seat.taken:
                seat.end()
            assert seat.begin(again=turn > 0)
        while seat.enter(50) < 0:
            assert seat.exit is None
            seat.end()
            engine.run(core, 1)
            assert seat.begin(again=False)
        trace.append(_state(core))
        core.cpu.eax = len(trace)
    for seat in seats:
        seat.end()
    for trace in traces:
        assert trace == _run(other, _core(LOOP), len(trace))
    assert engine.statistics()["instructions"] == sum(core.cpu.instructions for core in cores)

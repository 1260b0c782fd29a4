"""The contract of `engine.protocol`, exit by exit, on every tier."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.state import AC, AF, CF, OSZAPC, SF, TF, USER_DS
from tests.engine.engines import ENGINES, engine_of
from tests.engine.test_code import BASE, counting, machine

DATA = BASE + 4096


def fault(core: Core, tier: str, budget: int = 100) -> tuple[int, int, int]:
    """Vector, EIP from BASE, and count of the fault that `core` runs into."""
    exit_ = engine_of(tier).run(core, budget)
    assert exit_.reason is ExitReason.FAULT
    return exit_.vector, core.cpu.eip - BASE, core.cpu.instructions


@pytest.mark.parametrize("tier", ENGINES)
def test_a_budget_is_spent_to_the_instruction(tier: str) -> None:
    engine = engine_of(tier)
    core = machine(counting(1, 100))
    for budget in (1, 1, 2, 3, 7, 50, 1, 100):
        before = core.cpu.instructions
        assert engine.run(core, budget) == Exit(ExitReason.BUDGET)
        assert core.cpu.instructions - before == budget
    executed = core.cpu.instructions
    assert core.cpu.eax == (executed - 1 + 2) // 3
    assert core.cpu.eip == BASE + (5, 10, 11)[(executed - 1) % 3]


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_is_positive(tier: str, budget: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        engine_of(tier).run(machine(b"\x90"), budget)


@pytest.mark.parametrize("tier", ENGINES)
def test_a_system_call_leaves_behind_its_instruction(tier: str) -> None:
    core = machine(b"\x40\xcd\x80\x43")
    engine = engine_of(tier)
    assert engine.run(core, 100) == Exit(ExitReason.SYSCALL)
    assert (core.cpu.eip, core.cpu.instructions) == (BASE + 3, 2)
    assert engine.run(core, 1) == Exit(ExitReason.BUDGET)
    assert core.cpu.ebx == 1


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\x40\x0f\x0b", (6, 1, 1)),  # UD2
        (b"\x40\xf4", (13, 1, 1)),  # HLT
        (b"\x40\xcc\x40", (3, 2, 2)),  # INT3 is a trap
        (b"\x40\xf7\xf1", (0, 1, 1)),  # DIV ECX by 0
        (b"\x40\xa1\0\0\0\0", (14, 1, 1)),
        (b"\x40\xff\xff", (6, 1, 1)),  # no such instruction
        (b"\x40" + b"\x66" * 15 + b"\x90", (13, 1, 1)),  # longer than 15 bytes
        (b"\x40\xcd\x03", (13, 1, 1)),  # INT 3 in two bytes: its gate
    ],
)
def test_faults(tier: str, text: bytes, expected: tuple[int, int, int]) -> None:
    if text[1] == 0xCD:
        expected = fault(machine(text), "evaluator")
    assert fault(machine(text), tier) == expected


@pytest.mark.parametrize("tier", ENGINES)
def test_a_page_fault_tells_address_access_and_code(tier: str) -> None:
    core = machine(b"\xa3" + struct.pack("<I", 0x5000))
    assert engine_of(tier).run(core, 5) == Exit(ExitReason.FAULT, 14, 6, 0x5000, "w")
    core = machine(b"\xeb\xfe")
    core.cpu.eip = 0x7000
    assert engine_of(tier).run(core, 5) == Exit(ExitReason.FAULT, 14, 20, 0x7000, "x")


@pytest.mark.parametrize("tier", ENGINES)
def test_a_fault_in_warm_code_leaves_the_state_before_its_instruction(tier: str) -> None:
    # l: add ebx, ecx; mov [edx], ebx; add edx, 4; inc esi; jmp l -- until the pages end
    core = machine(b"\x01\xcb\x89\x1a\x83\xc2\x04\x46\xeb\xf6", pages=3)
    core.cpu.edx, core.cpu.ecx = BASE + 3 * 4096 - 400, 0xFFFFFFFF
    assert fault(core, tier, 100_000) == (14, 2, 501)
    assert (core.cpu.esi, core.cpu.edx) == (100, BASE + 3 * 4096)
    assert core.cpu.ebx == -101 & 0xFFFFFFFF
    assert core.cpu.eflags & OSZAPC == SF | AF | CF  # as ADD left them


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize(("count", "counted"), [(0, 1), (1, 1), (5, 5), (300, 300)])
@pytest.mark.parametrize("text", [b"\xf3\xaa", b"\xf3\xa5", b"\xf3\xac"])
def test_each_iteration_counts(tier: str, count: int, counted: int, text: bytes) -> None:
    core = machine(text + b"\xf4", pages=4)
    core.cpu.ecx, core.cpu.edi, core.cpu.esi = count, DATA, DATA + 4096
    assert fault(core, tier, 10_000) == (13, 2, counted)
    assert core.cpu.ecx == 0


@pytest.mark.parametrize("tier", ENGINES)
def test_a_rep_that_faults_keeps_what_it_did(tier: str) -> None:
    core = machine(b"\xf3\xaa", pages=2)
    core.cpu.ecx, core.cpu.edi = 50, BASE + 2 * 4096 - 20
    assert fault(core, tier) == (14, 0, 20)
    assert (core.cpu.ecx, core.cpu.edi) == (30, BASE + 2 * 4096)


@pytest.mark.parametrize("tier", ENGINES)
def test_breakpoints(tier: str) -> None:
    engine = engine_of(tier)
    core = machine(counting(1, 30))
    core.breakpoints.add(BASE + 10)
    for times in range(1, 31):
        assert engine.run(core, 1000) == Exit(ExitReason.BREAKPOINT)
        assert (core.cpu.eip, core.cpu.eax) == (BASE + 10, times)
    core.breakpoints.clear()
    assert engine.run(core, 1000).vector == 13
    assert core.cpu.instructions == 91


@pytest.mark.parametrize("tier", ENGINES)
def test_a_breakpoint_where_a_run_begins_is_passed(tier: str) -> None:
    core = machine(b"\x40\x40\x40")
    core.breakpoints.update({BASE, BASE + 1})
    engine = engine_of(tier)
    assert engine.run(core, 10).reason is ExitReason.BREAKPOINT
    assert core.cpu.eip == BASE + 1
    assert engine.run(core, 1).reason is ExitReason.BUDGET
    assert core.cpu.eax == 2


@pytest.mark.parametrize("tier", ENGINES)
def test_a_breakpoint_set_in_warm_code_holds_at_once(tier: str) -> None:
    engine = engine_of(tier)
    core = machine(counting(1, 1000))
    engine.run(core, 601)
    core.breakpoints.add(BASE + 11)
    assert engine.run(core, 100).reason is ExitReason.BREAKPOINT
    assert core.cpu.instructions == 603


@pytest.mark.parametrize("tier", ENGINES)
def test_the_end_of_code_goes_before_a_breakpoint(tier: str) -> None:
    core = machine(b"\x40\x40", stop=BASE + 2)
    core.breakpoints.add(BASE + 2)
    engine = engine_of(tier)
    assert engine.run(core, 100) == Exit(ExitReason.END_OF_CODE)
    assert engine.run(core, 100) == Exit(ExitReason.END_OF_CODE)
    assert core.cpu.instructions == 2


@pytest.mark.parametrize("tier", ENGINES)
def test_an_instruction_over_the_end_of_code_runs_past_it(tier: str) -> None:
    core = machine(b"\x40\x05\x01\0\0\0\xf4", stop=BASE + 3)
    assert fault(core, tier) == (13, 6, 2)


@pytest.mark.parametrize("tier", ENGINES)
def test_a_16_bit_branch_cuts_eip(tier: str) -> None:
    core = machine(b"\x40\x66\xeb\x00")
    assert fault(core, tier) == (14, (BASE + 4 & 0xFFFF) - BASE, 2)
    assert fault(machine(b"\x40\x66\x0f\x84\x05\0\xf4"), tier) == (13, 6, 2)  # JE, not taken: EIP stays whole


@pytest.mark.parametrize("tier", ENGINES)
def test_single_stepping_traps_after_each_instruction(tier: str) -> None:
    core = machine(b"\x9c\x81\x0c\x24\0\x01\0\0\x9d\x40\x40\x43")  # pushf; or [esp], TF; popf; inc eax ...
    engine = engine_of(tier)
    assert engine.run(core, 100).vector == 1
    assert (core.cpu.eax, core.cpu.instructions) == (1, 4)
    assert engine.run(core, 100).vector == 1
    assert core.cpu.eax == 2
    core.cpu.system_flags &= ~TF
    assert engine.run(core, 1).reason is ExitReason.BUDGET


@pytest.mark.parametrize("tier", ENGINES)
def test_modes_may_change_in_the_middle_of_a_run(tier: str) -> None:
    # l: dec ecx; jnz l; mov ds, dx; mov eax, [1] (DS is null: #GP)
    core = machine(b"\x49\x75\xfd\x8e\xda\xa1\x01\0\0\0")
    core.cpu.ecx = 20
    assert fault(core, tier) == (13, 5, 41)
    # alignment checking from POPF on, and off again
    text = b"\x9c\x81\x0c\x24\0\0\x04\0\x9d\xa1" + struct.pack("<I", DATA + 1) + b"\xf4"
    aligned = machine(text)
    assert fault(aligned, tier) == (17, 9, 3)
    aligned.cpu.system_flags &= ~AC
    assert fault(aligned, tier) == (13, 14, 4)
    assert aligned.cpu.ds == USER_DS


@pytest.mark.parametrize("tier", ENGINES)
def test_the_time_stamp_counter_is_the_cores(tier: str) -> None:
    core = machine(b"\x0f\x31\xf4")
    core.rdtsc = lambda: 0x1_2345_6789
    assert fault(core, tier) == (13, 2, 1)
    assert (core.cpu.edx, core.cpu.eax) == (1, 0x23456789)


@pytest.mark.parametrize("tier", ENGINES)
def test_random_numbers_are_the_cores(tier: str) -> None:
    core = machine(assemble("rdrand eax; rdseed bx; rdtscp; hlt"))
    numbers = iter((b"\x01\x02\x03\x84", b"\x05\x06\x07\x08"))
    core.random, core.rdtsc = lambda n: next(numbers)[:n], lambda: 7 << 32 | 9
    core.cpu.ecx, core.cpu.eflags = 5, 0xAD4
    assert fault(core, tier)[0] == 13
    assert (core.cpu.ebx & 0xFFFF, core.cpu.edx, core.cpu.eax, core.cpu.ecx) == (0x0605, 7, 9, 0)
    assert core.cpu.eflags & 0x8D5 == 1


def test_statistics() -> None:
    engine = PythonEngine("auto", warm_after=3)
    core = machine(counting(1, 100))
    engine.run(core, 50)
    engine.run(core, 10_000)
    found = engine.statistics()
    assert (found["instructions"], found["exits_budget"], found["exits_fault"]) == (301, 1, 1)
    assert found["regions"] >= 1
    assert found["blocks"] >= 3


@pytest.mark.parametrize("tier", ENGINES)
def test_an_unmasked_exception_keeps_its_own_opcode(tier: str) -> None:
    engine = engine_of(tier)
    for register in range(8):
        core = machine(bytes((0xD8, 0xC0 + register)))  # fadd st, st(i): the stack is empty
        core.cpu.fcw = 0x37E
        assert engine.run(core, 1) == Exit(ExitReason.BUDGET)
        assert (core.cpu.fop, core.cpu.fip) == (0x0C0 + register, BASE)

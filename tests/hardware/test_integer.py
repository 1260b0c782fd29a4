"""Integer and system instructions: random cases against this CPU, and what no case can show."""

from __future__ import annotations

import random
import struct

import pytest

from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.decode import DecodeFault, decode
from aiopyvm.isa.processors import MAX
from aiopyvm.isa.spec import Row, table
from aiopyvm.mem.space import AddressSpace
from tests.hardware import vectors
from tests.hardware.campaign import compare
from tests.hardware.cases import NOT_RUN, cases, rows
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.families import family
from tests.hardware.harness import available, run_cases
from tests.hardware.machine import Machine
from tests.hardware.subjects import machine_of
from tests.hardware.wire import CODE, DATA, DEFAULT_EIP, DEFAULT_ESP, STACK, Case, State

# Linux or the processor goes on behind these before the harness can look: the recorded cases leave them out.
_RECORDED = ("integer", "x87", "x87functions", "x87state")  # sets of cases, but for vectors and blocks
_NOT_RECORDED = frozenset({"sgdt", "sidt", "sldt", "str", "smsw"})


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(EvaluatorEngine(), AddressSpace())


@pytest.mark.native
@pytest.mark.parametrize(
    ("engine", "count"), [("plain", 3 * len(rows())), ("native", len(rows())), ("hot", 300), ("guarded", 300)]
)
def test_random_cases_agree_with_the_hardware(engine: str, count: int) -> None:
    if not available():
        pytest.skip("this host runs no 32-bit x86 programs")
    if not vectors.same_maker():
        pytest.skip(vectors.OTHER_MAKER)
    pairs = random.Random(7).sample(list(cases(random.Random(7), max(count, len(rows())))), count)
    states = run_cases([case for _, case in pairs])
    triples = [(row, case, state) for (row, case), state in zip(pairs, states, strict=True) if state is not None]
    assert len(triples) == len(pairs)
    machine = machine_of(engine, [case for _, case, _ in triples])
    assert not [(str(row), lines) for row, _, lines, undefined in compare(triples, machine) if not undefined]


def test_every_row_is_met() -> None:
    met = {row for row, _ in cases(random.Random(1), len(rows()))}
    assert met == {row for row in table() if family(row) == "integer" and row.name not in NOT_RUN}


def test_the_recorded_cases_are_of_every_row() -> None:
    recorded = {row_of(case) for name in _RECORDED for case, _ in vectors.load(name)}
    wanted = [row for row in table() if family(row) != "vector" and row.name not in _NOT_RECORDED | NOT_RUN.keys()]
    missing = {row for row in wanted if row not in recorded}
    assert {str(row) for row in missing} <= {"o* 17  pop ss"}


def row_of(case: Case) -> Row | None:
    """The row of a case's instruction; None: it is none, by its prefixes."""
    try:
        return decode(case.code).row
    except DecodeFault:
        return None


def registers(**values: int) -> tuple[int, int, int, int, int, int, int, int]:
    """EAX.. EDI, zero but for ESP and those named."""
    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    eax, ecx, edx, ebx, esp, ebp, esi, edi = ({"esp": DEFAULT_ESP, **values}.get(name, 0) for name in names)
    return eax, ecx, edx, ebx, esp, ebp, esi, edi


def run(machine: Machine, code: str, **values: int) -> State:
    return machine.run(Case(bytes.fromhex(code), registers(**values), patches=((DATA, bytes(64)),)))


def test_cpuid_tells_what_there_is(machine: Machine) -> None:
    for leaf, subleaf in ((0, 0), (1, 0), (4, 1), (7, 0), (7, 1), (0x80000000, 0), (0x80000002, 0), (0x12345, 0)):
        state = run(machine, "0fa2", eax=leaf, ecx=subleaf)
        eax, ecx, edx, ebx = state.regs[:4]
        assert (eax, ebx, ecx, edx) == MAX.cpuid(leaf, subleaf)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("0f01e1", 0x80050033), ("660f01e1", 0x12340033), ("0f00c9", 0x40), ("660f00c9", 0x12340040), ("0f00c1", 0)],
)
def test_system_registers_as_linux_gives_them(machine: Machine, code: str, expected: int) -> None:
    assert run(machine, code, ecx=0x12345678).regs[1] == expected
    if available():
        (hardware,) = run_cases([Case(bytes.fromhex(code), registers(ecx=0x12345678))])
        assert hardware is not None
        assert hardware.regs[1] == expected


@pytest.mark.parametrize(("code", "base"), [("0f0100", 0xFFFE0000), ("0f0108", 0xFFFF0000), ("660f0100", 0xFFFE0000)])
def test_tables_as_linux_gives_them(machine: Machine, code: str, base: int) -> None:
    state = run(machine, code, eax=DATA)
    assert machine.memory.peek(DATA, 6) == struct.pack("<HI", 0, base)
    assert state.completed
    case = Case(bytes.fromhex(code), registers(eax=DATA), patches=((DATA, bytes(64)),))
    if available():
        (hardware,) = run_cases([case])
        assert hardware is not None
        assert hardware.changes == state.changes


@pytest.mark.parametrize("code", ["0f34", "0f35", "0f05", "0faa"])
def test_fast_system_calls_are_not_there(machine: Machine, code: str) -> None:
    assert (run(machine, code).vector, run(machine, code).eip) == (6, DEFAULT_EIP)


def test_the_64_bit_code_segment_is_refused(machine: Machine) -> None:
    state = run(machine, "ea000040003300")
    assert (state.vector, state.error_code) == (13, 0x30)


def test_time_stamp_is_the_core_s(machine: Machine) -> None:
    assert run(machine, "0f31", eax=5, edx=6).regs[:3] == (0, 0, 0)


@pytest.mark.parametrize(("code", "esp"), [("60", STACK + 12), ("c8100003", STACK + 6), ("9a000040002300", STACK + 4)])
def test_several_stores_are_all_or_none(machine: Machine, code: str, esp: int) -> None:
    state = run(machine, code, esp=esp, ebp=DATA + 64)
    assert state.vector == 14
    assert state.changes == ()
    assert state.regs == registers(esp=esp, ebp=DATA + 64)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_pop_into_memory_sees_esp_after_the_pop_and_other_bases_as_they_were(machine: Machine, first: int) -> None:
    """[esp+16] and [ebp+16] are one shape of operand and two meanings, whichever comes first."""
    codes = ("8f442410", "8f4510", "8f442510")
    cold = Machine(PythonEngine("cold"), AddressSpace())
    for code in codes[first:] + codes[:first]:
        case = Case(bytes.fromhex(code), registers(ebp=DEFAULT_ESP))
        assert cold.run(case) == machine.run(case)
    popped = machine.run(Case(b"\x8f\x44\x24\x10", registers(), patches=((DEFAULT_ESP, b"\1\2\3\4" + bytes(24)),)))
    assert popped.changes == ((DEFAULT_ESP + 20, b"\1\2\3\4"),)


def test_a_load_of_ss_ends_no_case(machine: Machine) -> None:
    state = machine.run(Case(b"\x17", registers(), patches=((DEFAULT_ESP, b"\x2b\0\0\0"),)))
    assert (state.vector, state.regs[4], state.segments[5]) == (1, DEFAULT_ESP + 4, 0x2B)
    assert state.eip == DEFAULT_EIP + 1
    assert CODE < state.eip

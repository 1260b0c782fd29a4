"""x87 instructions: random cases against this CPU, and sequences that single cases cannot show, on every tier."""

from __future__ import annotations

import random
import struct

import pytest

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import engine_of
from tests.hardware import vectors
from tests.hardware.campaign_x87 import compare
from tests.hardware.cases_x87 import cases, rows
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.harness import available, run_cases
from tests.hardware.machine import Machine
from tests.hardware.subjects import machine_of
from tests.hardware.wire import CODE, DATA, READ_ONLY, Case
from tests.hardware.x87_values import image

TIERS = ("evaluator", "cold", "warm", "native", "hot")
ONE = 0x3FFF8 << 60


@pytest.mark.native
@pytest.mark.parametrize(("engine", "rounds"), [("plain", 20), ("native", 3)])
def test_random_cases_agree_with_the_hardware(engine: str, rounds: int) -> None:
    if not available():
        pytest.skip("this host runs no 32-bit x86 programs")
    if not vectors.same_maker():
        pytest.skip(vectors.OTHER_MAKER)
    pairs = list(cases(random.Random(7), rounds * len(rows())))
    machine = machine_of(engine, [case for _, case in pairs])
    assert not [(str(row), lines) for row, _, lines in compare(pairs, machine)]


def test_every_row_is_met() -> None:
    met = {row for row, _ in cases(random.Random(1), len(rows()))}
    assert met == set(rows())


def run(code: bytes, tier: str, data: bytes = b"") -> tuple[Exit, CpuState, AddressSpace]:
    """Run `code` to its INT 0x80 or its fault."""
    memory = AddressSpace()
    memory.map(CODE, 4096, 5)
    memory.map(DATA, 4096, 3)
    memory.poke(CODE, code + b"\xcd\x80")
    memory.poke(DATA, data)
    core = Core(CpuState(), memory)
    core.cpu.eip = CODE
    return engine_of(tier).run(core, 100_000), core.cpu, memory


def at(opcode: bytes, offset: int) -> bytes:
    """An instruction with [DATA + offset] as its operand; `opcode` has ModRM with mod 00, r/m 101."""
    return opcode + struct.pack("<I", DATA + offset)


@pytest.mark.parametrize("tier", TIERS)
def test_unmasked_exception_comes_at_the_next_waiting_instruction(tier: str) -> None:
    # fldcw [unmasks ZE]; fld1; fldz; fdivp; fnstsw ax; fwait
    code = at(b"\xd9\x2d", 0) + b"\xd9\xe8\xd9\xee\xde\xf9\xdf\xe0"
    outcome, cpu, _ = run(code + b"\x9b", tier, struct.pack("<H", 0x37B))
    assert (outcome.reason, outcome.vector) == (ExitReason.FAULT, 16)
    assert cpu.eip == CODE + len(code)
    assert cpu.eax & 0x80FF == 0x8084
    assert cpu.ftop == 6  # nothing was popped


@pytest.mark.parametrize("tier", TIERS)
def test_masked_again_it_never_comes(tier: str) -> None:
    # fldcw [unmasks ZE]; fld1; fldz; fdivp; fldcw faults; so: fnclex; fldcw [masks all]; fdivp; fwait
    code = at(b"\xd9\x2d", 0) + b"\xd9\xe8\xd9\xee\xde\xf9" + b"\xdb\xe2" + at(b"\xd9\x2d", 2) + b"\xde\xf9\x9b"
    outcome, cpu, _ = run(code, tier, struct.pack("<HH", 0x37B, 0x37F))
    assert outcome.reason == ExitReason.SYSCALL
    assert cpu.fsw & 0x80FF == 0x0004
    assert bytes(cpu.fpr[7])[:10] == (0x7FFF8 << 60).to_bytes(10, "little")


@pytest.mark.parametrize("tier", TIERS)
def test_control_word_in_a_loop_rounds_each_time(tier: str) -> None:
    """The C compiler's (int) cast: fnstcw, or, fldcw, fistp, fldcw, a thousand times."""
    body = (
        at(b"\xd9\x3d", 0)  # fnstcw [0]
        + b"\x66\xa1" + struct.pack("<I", DATA)  # mov ax, [0]
        + b"\x80\xcc\x0c"  # or ah, 0Ch
        + b"\x66\xa3" + struct.pack("<I", DATA + 2)  # mov [2], ax
        + at(b"\xdd\x05", 8)  # fld qword [8]
        + at(b"\xdc\x05", 8)  # fadd qword [8]
        + at(b"\xd9\x2d", 2)  # fldcw [2]
        + at(b"\xdb\x1d", 4)  # fistp dword [4]
        + at(b"\xd9\x2d", 0)  # fldcw [0]
        + b"\x03\x15" + struct.pack("<I", DATA + 4)  # add edx, [4]
        + b"\x49"  # dec ecx
    )  # fmt: skip
    code = b"\xb9\xe8\x03\x00\x00" + body + b"\x0f\x85" + struct.pack("<i", -len(body) - 6)
    outcome, cpu, memory = run(code, tier, bytes(8) + struct.pack("<d", 1.375))
    assert outcome.reason == ExitReason.SYSCALL
    assert cpu.edx == 2000
    assert memory.load(DATA, 2) == 0x37F


@pytest.mark.parametrize("tier", TIERS)
def test_state_goes_to_memory_and_back(tier: str) -> None:
    # fldpi; fld1; fnsave [0]; frstor [0]; fnsave [128]
    code = b"\xd9\xeb\xd9\xe8" + at(b"\xdd\x35", 0) + at(b"\xdd\x25", 0) + at(b"\xdd\x35", 128)
    outcome, cpu, memory = run(code, tier)
    assert outcome.reason == ExitReason.SYSCALL
    saved = memory.peek(DATA, 108)
    assert saved == memory.peek(DATA + 128, 108)
    assert struct.unpack_from("<3I", saved) == (0xFFFF037F, 0xFFFF3000, 0xFFFF0FFF)
    assert int.from_bytes(saved[28:38], "little") == ONE
    assert (cpu.fcw, cpu.fvalid, cpu.ftop) == (0x37F, 0, 0)


@pytest.mark.parametrize("tier", TIERS)
def test_stack_goes_round(tier: str) -> None:
    """A ninth push overflows: the indefinite, IE, SF and C1."""
    outcome, cpu, _ = run(b"\xd9\xe8" * 9 + b"\xdf\xe0", tier)
    assert outcome.reason == ExitReason.SYSCALL
    assert cpu.eax & 0xFFFF == 0x3800 | 0x241
    assert bytes(cpu.fpr[7])[:10] == (0xFFFFC << 60).to_bytes(10, "little")


def test_a_store_that_faults_has_stored_nothing() -> None:
    """FSTP m80fp with its exponent on a read-only page: the hardware has stored the significand, we have not."""
    address = READ_ONLY - 8
    case = Case(b"\xdb\x3d" + struct.pack("<I", address), x87=image(0x37F, 0, 0, [ONE] * 8))
    state = Machine(EvaluatorEngine(), AddressSpace()).run(case)
    assert (state.vector, state.cr2, state.changes) == (14, READ_ONLY, ())
    if available():
        (hardware,) = run_cases([case])
        assert hardware is not None
        assert (hardware.vector, hardware.cr2) == (14, READ_ONLY)

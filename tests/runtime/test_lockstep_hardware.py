"""Engines against this host's processor, stepped through ptrace."""

from __future__ import annotations

import platform

import pytest

from aiopyvm import assemble
from aiopyvm.cli import main
from aiopyvm.engine.protocol import Core, Engine, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.errors import EngineUnavailableError
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.space import AddressSpace
from aiopyvm.runtime.hardware import HardwareEngine
from aiopyvm.runtime.lockstep import Lockstep, Outcome
from aiopyvm.runtime.side import Setup
from tests.conftest import GuestPaths
from tests.hardware import vectors
from tests.runtime.test_lockstep import WrongEngine, elf, flat


def available() -> bool:
    try:
        HardwareEngine().close()
    except EngineUnavailableError:
        return False
    return True


pytestmark = [pytest.mark.native, pytest.mark.skipif(not available(), reason="this host's processor cannot be stepped")]


def compare(setup: Setup, engine: Engine, limit: int | None = None) -> Outcome:
    hardware = HardwareEngine()
    try:
        with Lockstep(setup, (engine, hardware)) as lockstep:
            return lockstep.run(limit)
    finally:
        hardware.close()


@pytest.mark.parametrize("name", ["hello", "hello_pie", "echo", "crash", "rpn"])
@pytest.mark.parametrize("engine", ["python", "evaluator"])
def test_guests_do_what_they_do_on_the_hardware(guest: GuestPaths, name: str, engine: str) -> None:
    python = PythonEngine("evaluator" if engine == "evaluator" else "auto")
    found = compare(elf(guest(name), "null", stdin=b"1 2 +\n"), python, 1500)
    assert str(found.difference) == "None"
    assert found.instructions > 50


CASES = {
    "arithmetic and its flags": "mov eax, -1; mov ecx, 40; add eax, ecx; sbb eax, 3; imul eax, ecx; shl eax, 5",
    "undefined flags": "mov eax, 1234; mov ecx, 7; mul ecx; shl eax, cl; bsf edx, eax; and eax, ecx; aam 10; aad 10",
    "strings": "mov edi, 0x11000; mov ecx, 300; mov eax, 65; rep stosb; mov esi, 0x11000; mov ecx, 20; rep movsd",
    "two pages": "mov edi, 0x11ffe; mov eax, 0x12345678; mov [edi], eax; xadd [edi], eax; mov edx, [edi]",
    "x87": "fldpi; fld1; faddp; fsqrt; push eax; fstp dword ptr [esp]; fldz; fldl2e; fxch; fnstcw [0x11000]",
    "x87 environment": "fld1; fldz; fxch; fnstenv [0x11000]",
    "pushf": "push 0x246; popfd; stc; pushfd; pop eax; std; pushfd; pop ebx; cld",
    "what the guest is told": "mov eax, 1; cpuid; rdtsc; sgdt [0x11000]; smsw ecx; str edx",
    "segments": "mov eax, ds; push es; pop fs; mov gs, eax; xor ecx, ecx; mov fs, ecx; mov eax, ss; mov ss, eax",
    "its own code": "mov byte ptr [0x10008], 0x41; inc eax; inc eax; nop",
    "the stack grows": "mov ecx, 3; again: sub esp, 4096; push ecx; loop again; pop eax",
    "a call whose answer is its number": "mov eax, 4; mov ebx, 1; mov ecx, 0x10000; mov edx, eax; int 0x80; dec eax",
    "divide error": "xor ecx, ecx; mov eax, 5; div ecx",
    "breakpoint": "mov eax, 3; int3",
    "no instruction": "mov eax, 3; ud2",
    "general protection": "mov eax, 3; hlt",
    "overflow": "mov eax, 0x7fffffff; inc eax; into",
    "bound": "mov dword ptr [0x11000], 5; mov eax, 3; bound eax, [0x11000]",
    "a read of nothing": "mov eax, [0x90000000]",
    "a write to nothing": "push esp; pop eax; mov [0x90000000], eax",
    "a jump to nothing": "mov eax, 0x90000000; jmp eax",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_instructions(text: str) -> None:
    if "fnstenv" in text and not vectors.same_maker():
        pytest.skip(vectors.OTHER_MAKER)
    found = compare(flat(f"{text}\nmov ebx, 7; mov eax, 1; int 0x80"), PythonEngine())
    assert str(found.difference) == "None"
    assert found.calls == text.count("int 0x80") + (found.ending == "exit status 7")
    assert found.ending in ("exit status 7", "signal 4", "signal 5", "signal 8", "signal 11")


def test_faults_end_the_guest_alike() -> None:
    assert compare(flat("int3"), PythonEngine()).ending == "signal 5"
    assert compare(flat("ud2"), PythonEngine()).ending == "signal 4"
    assert compare(flat("xor ecx, ecx; div ecx"), PythonEngine()).ending == "signal 8"


def test_a_wrong_engine_is_found() -> None:
    def spoil(core: Core, address: int) -> None:
        if core.memory.peek(address, 2) == assemble("imul edx, ecx, 3")[:2] and core.cpu.edx == 3 * 3:
            core.cpu.of ^= 1

    difference = compare(flat("mov ecx, 5; again: imul edx, ecx, 3; loop again; nop"), WrongEngine(spoil)).difference
    assert difference is not None
    assert difference.exact
    assert (difference.text, difference.executed) == ("imul edx, ecx, 0x3", 5)
    assert dict(difference.registers) == {"of": (1, 0)}
    assert difference.names == ("wrong", "hardware")


def test_a_store_to_a_wrong_place_is_found() -> None:
    def spoil(core: Core, address: int) -> None:
        if core.cpu.eax == 2 and core.memory.peek(address, 1) == b"\x40":
            core.memory.poke(0x12345, b"!")

    difference = compare(flat("xor eax, eax; inc eax; inc eax; inc eax"), WrongEngine(spoil)).difference
    assert difference is not None
    assert (difference.text, difference.executed) == ("inc eax", 2)
    assert [(change.address, change.after) for change in difference.memory] == [(0x12345, (b"!", b"\0"))]


def test_it_is_an_engine() -> None:
    """Runs of more than one instruction, breakpoints, the end of the code."""
    engine = HardwareEngine()
    space = AddressSpace()
    space.map(0x10000, 0x2000, 7)
    space.write(0x10000, assemble("inc eax; inc eax; inc eax; mov [0x11000], eax", 0x10000))
    cpu = CpuState()
    cpu.eip, cpu.eax = 0x10000, 10
    core = Core(cpu, space, end_of_code=0x10008)
    try:
        assert engine.run(core, 2).reason is ExitReason.BUDGET
        assert (cpu.eax, cpu.instructions) == (12, 2)
        core.breakpoints.add(0x10003)
        assert engine.run(core, 100).reason is ExitReason.BREAKPOINT
        assert engine.run(core, 100).reason is ExitReason.END_OF_CODE
        assert (space.load(0x11000, 4), cpu.instructions) == (13, 4)
        assert engine.statistics()["instructions"] == 4
    finally:
        space.close()
        engine.close()


def test_processes_end_with_their_address_space() -> None:
    engine = HardwareEngine()
    space = AddressSpace()
    space.map(0x10000, 0x1000, 7)
    cpu = CpuState()
    cpu.eip = 0x10000
    engine.run(Core(cpu, space), 1)
    assert engine.statistics()["processes"] == 1
    space.close()
    assert engine.statistics()["processes"] == 0
    engine.close()


def test_where_there_is_no_such_processor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(EngineUnavailableError, match="x86-64"):
        HardwareEngine()
    assert main(["lockstep", "--against", "hardware", __file__]) in (125, 126)
    assert capsys.readouterr().err


def test_the_command(guest: GuestPaths, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["lockstep", "--against", "hardware", str(guest("hello"))]) == 0
    said = capfd.readouterr()
    assert said.out == "Hello, world!\n"
    assert "python and hardware did the same: 179 instructions" in said.err

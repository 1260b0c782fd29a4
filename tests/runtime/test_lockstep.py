"""Lockstep: engines that agree, and engines made wrong on purpose, which are found at the right instruction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiopyvm import assemble
from aiopyvm.cli import main
from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.runtime.lockstep import Lockstep, Outcome
from aiopyvm.runtime.pages import changes
from aiopyvm.runtime.program import Program
from aiopyvm.runtime.side import Setup
from tests.conftest import GuestPaths
from tests.engine.engines import engine_of

LOAD_AT = 0x10000
BUFFER = 0x11000
LOOP = """
    mov ecx, 1000
    mov edi, 0x11000
again:
    add eax, ecx
    imul edx, eax, 3
    mov [edi], edx
    add edi, 4
    adc esi, 0
    dec ecx
    jnz again
    mov eax, 1
    xor ebx, ebx
    int 0x80
"""


class WrongEngine:
    """A Python engine whose state `spoil` gets after each instruction, with the instruction's address."""

    name = "wrong"

    def __init__(self, spoil: Callable[[Core, int], object]) -> None:
        self._engine = PythonEngine()
        self._spoil = spoil

    def run(self, core: Core, budget: int) -> Exit:
        for _ in range(budget):
            at = core.cpu.eip
            exit_ = self._engine.run(core, 1)
            self._spoil(core, at)
            if exit_.reason is not ExitReason.BUDGET:
                return exit_
        return Exit(ExitReason.BUDGET)

    def statistics(self) -> dict[str, int]:
        return {}


class WrongInLongRuns(WrongEngine):
    """Spoils the state at the end of a run of more than 100 instructions: as a region would."""

    def run(self, core: Core, budget: int) -> Exit:
        before = core.cpu.instructions
        exit_ = self._engine.run(core, budget)
        if core.cpu.instructions - before > 100:
            self._spoil(core, core.cpu.eip)
        return exit_


def flat(text: str) -> Setup:
    code = assemble(text, LOAD_AT).ljust(0x4000, b"\0")
    return Setup(program=Program(("flat",), (b"flat",), code, (LOAD_AT, LOAD_AT)))


def elf(
    path: Path, *args: str, stdin: bytes = b"", output: Callable[[int, bytes], object] = lambda fd, data: 0
) -> Setup:
    argv = tuple(arg.encode() for arg in (path.name, *args))
    return Setup(program=Program(argv, argv, path.read_bytes()), stdin=stdin, output=output)


def compare(setup: Setup, wrong: Engine, limit: int | None = None) -> Outcome:
    with Lockstep(setup, (PythonEngine(), wrong)) as lockstep:
        return lockstep.run(limit)


@pytest.mark.parametrize("name", ["hello", "structs", "hello_zero", "hello_pie", "echo", "crash", "wc"])
def test_engines_that_agree(guest: GuestPaths, name: str) -> None:
    written: list[bytes] = []
    setup = elf(guest(name), "null", stdin=b"one\ntwo\n", output=lambda fd, data: written.append(data))
    found = compare(setup, PythonEngine("evaluator"))
    assert found.difference is None
    assert found.instructions > 50
    assert found.ending == ("signal 11" if name == "crash" else "exit status 0")
    assert b"".join(written)


@pytest.mark.parametrize("name", ["structs", "sort", "crash"])
@pytest.mark.parametrize("engine", ["native", "hot"])
def test_native_code_agrees(guest: GuestPaths, name: str, engine: str) -> None:
    found = compare(elf(guest(name), "null", stdin=b"one\ntwo\n"), engine_of(engine))
    assert str(found.difference) == "None"
    assert found.instructions > 200


def test_a_wrong_flag_is_found_at_its_instruction() -> None:
    at = LOAD_AT + len(assemble("mov ecx, 1000; mov edi, 0x11000; add eax, ecx; imul edx, eax, 3; mov [edi], edx"))

    def spoil(core: Core, address: int) -> None:
        if address == at and core.cpu.ecx == 777:  # the 224th time
            core.cpu.cf ^= 1

    difference = compare(flat(LOOP), WrongEngine(spoil)).difference
    assert difference is not None
    assert difference.exact
    assert difference.text == "add edi, 0x4"
    assert difference.address == at
    assert difference.executed == 2 + 7 * 223 + 3
    assert dict(difference.registers) == {"cf": (0, 1)}
    assert difference.before.ecx == 777
    assert difference.counts == (difference.stretch, difference.stretch)
    text = str(difference)
    assert "add edi, 0x4" in text
    assert "IR:" in text
    assert "ecx=00000309" in text


def test_what_the_next_instruction_hides_is_found_by_short_stretches() -> None:
    def spoil(core: Core, address: int) -> None:
        if core.cpu.ecx == 995:
            core.cpu.af ^= core.memory.peek(address, 1) == b"\x83"  # add edi, 4; adc esi, 0 sets AF again

    assert compare(flat(LOOP), WrongEngine(spoil)).difference is None
    with Lockstep(flat(LOOP), (PythonEngine(), WrongEngine(spoil)), stretch=1) as lockstep:
        difference = lockstep.run().difference
    assert difference is not None
    assert (difference.text, set(difference.registers)) == ("add edi, 0x4", {"af"})


def test_wrong_memory_is_found_at_its_instruction() -> None:
    def spoil(core: Core, address: int) -> None:
        if core.cpu.ecx == 500 and bytes(core.memory.peek(address, 2)) == b"\x89\x17":  # mov [edi], edx
            core.memory.poke(core.cpu.edi + 6000, b"\x12")

    difference = compare(flat(LOOP), WrongEngine(spoil)).difference
    assert difference is not None
    assert difference.exact
    assert difference.text == "mov dword ptr [edi], edx"
    assert not difference.registers
    (change,) = difference.memory
    assert change.address == BUFFER + 4 * 500 + 6000
    assert change.after == (b"\0", b"\x12")
    assert difference.operands == ((BUFFER + 4 * 500, b"\0\0\0\0"),)
    assert f"[{BUFFER + 4 * 500:#010x}] = 00 00 00 00" in str(difference)


def test_a_wrong_count_is_found() -> None:
    def spoil(core: Core, address: int) -> None:
        if core.cpu.ecx == 900 and core.memory.peek(address, 1) == b"\x49":  # dec ecx
            core.cpu.instructions += 1

    difference = compare(flat(LOOP), WrongEngine(spoil)).difference
    assert difference is not None
    assert difference.text == "dec ecx"
    assert difference.counts[1] == difference.counts[0] + 1


def test_a_missed_fault_is_found() -> None:
    wrong = WrongEngine(lambda core, address: None)
    engine = wrong._engine

    def run(core: Core, budget: int) -> Exit:
        exit_ = WrongEngine.run(wrong, core, budget)
        return exit_ if exit_.reason is not ExitReason.FAULT else Exit(ExitReason.FAULT, 13)

    wrong.run = run  # type: ignore[method-assign]
    difference = compare(flat("mov eax, 5; nop; mov [0], eax"), wrong).difference
    assert engine.name == "python"
    assert difference is not None
    assert difference.exact
    assert difference.text.startswith("mov dword ptr [0x0], eax")
    assert [exit_.vector for exit_ in difference.exits] == [14, 13]


def test_what_is_wrong_only_in_long_runs_is_found_there() -> None:
    def spoil(core: Core, address: int) -> None:
        core.cpu.edx ^= 1 << 20

    difference = compare(flat(LOOP), WrongInLongRuns(spoil)).difference
    assert difference is not None
    assert difference.exact
    assert difference.stretch == 101  # executed at once
    assert difference.executed == 100


def test_what_does_not_show_again_is_said_to_be_so() -> None:
    spoilt: list[int] = []

    def spoil(core: Core, address: int) -> None:
        if core.cpu.ecx == 3 and not spoilt:
            spoilt.append(address)
            core.cpu.ebp ^= 1

    difference = compare(flat(LOOP), WrongEngine(spoil)).difference
    assert difference is not None
    assert not difference.exact
    assert set(difference.registers) == {"ebp"}
    assert "did not show" in str(difference)


def test_the_limit_ends_it(guest: GuestPaths) -> None:
    found = compare(elf(guest("spin")), PythonEngine(), 12_345)
    assert (found.difference, found.instructions) == (None, 12_345)


def test_changes_near_to_one_another_are_one() -> None:
    before, after = bytes(100), bytearray(100)
    after[3] = after[9] = after[60] = 1
    assert list(changes(before, bytes(after))) == [(3, 10), (60, 61)]


def test_the_command(guest: GuestPaths, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["lockstep", str(guest("hello"))]) == 0
    said = capfd.readouterr()
    assert said.out == "Hello, world!\n"
    assert said.err.startswith("aiopyvm: lockstep: python and evaluator did the same: ")
    assert said.err.endswith("exit status 0\n")
    assert main(["lockstep", "--engines", "python", str(guest("hello"))]) == 125
    assert "--engines takes two names" in capfd.readouterr().err
    assert main(["lockstep", "--engines", "native,steam", str(guest("hello"))]) == 125
    assert "native, python, evaluator, hot, hardware, not 'steam'" in capfd.readouterr().err
    assert main(["lockstep", "--mount", "/tmp:/x:rw", str(guest("hello"))]) == 125
    assert main(["lockstep", "/no/such/program"]) == 127

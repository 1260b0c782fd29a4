"""EFLAGS.TF: behind which instructions the engine tells of a #DB, and where."""

from __future__ import annotations

import pytest

from aiopyvm.engine.protocol import Core, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.state import TF, CpuState
from aiopyvm.mem.space import AddressSpace

CODE, STACK = 0x1000, 0x8000


def traps(source: str, limit: int = 50) -> list[tuple[int, bool]]:
    """Where #DBs come, as offsets, and whether each is a single step's; TF is set before the first instruction."""
    code = assemble(source, CODE)
    memory = AddressSpace()
    memory.map(CODE, 4096, 5)
    memory.map(STACK, 4096, 3)
    memory.poke(CODE, code)
    core = Core(CpuState(), memory, end_of_code=CODE + len(code))
    core.cpu.eip, core.cpu.esp = CODE, STACK + 4096
    core.cpu.system_flags |= TF
    found: list[tuple[int, bool]] = []
    for _ in range(limit):
        exit_ = PythonEngine().run(core, 100)
        if exit_.reason == ExitReason.END_OF_CODE:
            return found
        assert (exit_.reason, exit_.vector) == (ExitReason.FAULT, 1)
        found.append((core.cpu.eip - CODE, exit_.stepped))
    raise AssertionError(f"more than {limit} traps: {found}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nop; nop", [1, 2]),
        ("mov eax, ss; mov ss, eax; nop; nop", [2, 5, 6]),
        ("push ss; pop ss; nop; nop", [1, 3, 4]),
        ("mov eax, ds; mov ds, eax; nop", [2, 4, 5]),
        ("mov ecx, 2; mov edi, esp; sub edi, 64; rep stosb; nop", [5, 7, 10, 10, 12, 13]),
        ("pushfd; and dword [esp], -257; popfd; nop; nop", [1, 8, 9]),
    ],
)
def test_single_steps(source: str, expected: list[int]) -> None:
    assert traps(source) == [(offset, True) for offset in expected]


def test_int1_is_no_single_step() -> None:
    assert traps("nop; int1; nop") == [(1, True), (2, False), (3, True)]

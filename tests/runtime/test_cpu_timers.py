"""Timers and limits of a process's CPU time (setitimer(2), setrlimit(2)) while it computes, on every engine at the same
counts."""

from __future__ import annotations

import struct

import pytest

from aiopyvm import Limits, Reason, Runtime
from aiopyvm.abi.resource import RLIMIT_CPU
from aiopyvm.abi.time import ITIMER_PROF, ITIMER_VIRTUAL
from tests.kernel.machine import SCRATCH, Machine
from tests.runtime.flying import fly
from tests.runtime.machine_code import call, program

SIGVTALRM, SIGPROF = 26, 27
SIGNALS = {ITIMER_VIRTUAL: SIGVTALRM, ITIMER_PROF: SIGPROF}
MILLISECOND = 1_000_000


def _ticks(which: int) -> bytes:
    """A program that computes until three signals of its timer of 1 ms have come."""
    handler = call("signal", SIGNALS[which], 2)  # 2 is the handler, which is reset at each signal
    text = (
        f"jmp main; inc dword ptr [0xa00]; {handler}ret; main: {handler}"
        f"mov eax, 104; mov ebx, {which}; mov ecx, 0x800; xor edx, edx; int 0x80; "  # setitimer
        "again: cmp dword ptr [0xa00], 3; jb again; " + call("exit", 0)
    )
    image = bytearray(program(text))
    image[0x800:0x810] = struct.pack("<4I", 0, 1000, 0, 1000)
    return bytes(image)


@pytest.mark.anyio
@pytest.mark.parametrize("which", list(SIGNALS))
async def test_a_timer_of_a_process_that_computes(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    async def instructions(engine: str, workers: int) -> int:
        vm = Runtime(workers=workers, engine=engine).vm(limits=Limits(instructions=20 * MILLISECOND))
        result = await vm.run_bytes(_ticks(which))
        assert (result.reason, result.returncode) == (Reason.EXITED, 0)
        return result.instructions

    counts = {await instructions("python", 0), await instructions("auto", 0)}
    fly(monkeypatch)
    counts |= {await instructions("python", workers) for workers in (0, 2)}
    assert len(counts) == 1
    assert 3 * MILLISECOND <= counts.pop() < 7 * MILLISECOND


def test_a_limit_is_looked_at_in_children_too() -> None:
    m = Machine()
    assert not m.process.metered
    m.put(struct.pack("<II", 5, 10))
    assert m.call(m.thread, "setrlimit", RLIMIT_CPU, SCRATCH) == 0
    assert m.process.metered
    assert m.fork().process.metered

"""CPUID, segment registers and EFLAGS in generated code against the evaluator."""

from __future__ import annotations

import random

import pytest

from aiopyvm.engine.protocol import Core, Engine, Exit
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.state import FIRST_TLS_ENTRY, TLS_ENTRIES, USER_DS
from tests.engine.engines import native_engine
from tests.engine.test_code import machine

SELECTORS = [0, 3, 0x23, 0x2B, 0x33, 0x7B, 0x63, 0x6B, 0x73, 0x60, 0x64, 0x67, 0x10, 0x83, 0xFFFF]
ACCESSES = [0, 0x00C0F300, 0x00C0F200, 0x00D0F300, 0x0040F300, 0x00C0F700, 0x00C07300, 0x00C0FB00, 0x00C0F100]
LIMITS = [0xFFFFFFFF, 0xFFFFF, 0x1000, 0]


def outcome(engine: Engine, core: Core) -> tuple[Exit, bytes]:
    """How INT 0x80 behind the instruction was come to."""
    return engine.run(core, 100), bytes(core.cpu)


def both(code: bytes, prepare: object = None, **registers: int) -> int:
    """Run `code` on both engines; how many instructions generated code left to Python. They have to agree."""
    native = native_engine()
    results = []
    for engine in (PythonEngine("evaluator"), native):
        core = machine(code + b"\xcd\x80")
        for name, value in registers.items():
            setattr(core.cpu, name, value)
        if callable(prepare):
            prepare(core)
        results.append(outcome(engine, core))
    assert results[0] == results[1], (code.hex(), registers)
    return native.statistics()["instructions_evaluated"] + native.statistics()["instructions_python"]


@pytest.mark.parametrize("subleaf", [0, 1])
@pytest.mark.parametrize("leaf", [*range(9), *range(0x80000000, 0x8000000A), 0xFFFFFFFF])
def test_cpuid(leaf: int, subleaf: int) -> None:
    assert both(b"\x0f\xa2", eax=leaf, ecx=subleaf) == 0


@pytest.mark.parametrize("code", ["8ee8", "8ee0", "8ed8", "8ec0", "8ed0", "0f02d8", "0f03d8", "0f00e0", "0f00e8"])
def test_selectors(code: str) -> None:
    rng = random.Random(3)
    left = 0
    for selector in SELECTORS:
        for _ in range(3):
            entries = [(rng.randrange(1 << 32), rng.choice(LIMITS), rng.choice(ACCESSES)) for _ in range(TLS_ENTRIES)]

            def prepare(core: Core, entries: list[tuple[int, int, int]] = entries) -> None:
                for entry, values in zip(core.cpu.tls, entries, strict=True):
                    entry.base, entry.limit, entry.access = values

            left += both(bytes.fromhex(code), prepare, eax=selector)
    assert left < 3 * len(SELECTORS) or code in ("8ed8", "8ed0")  # their handlers are made when they are met


@pytest.mark.parametrize("code", ["8ec0", "061e071f", "16501f17", "50508bccc439"])
def test_the_flat_segment_is_loaded_in_generated_code(code: str) -> None:
    def prepare(core: Core) -> None:
        core.cpu.esp = core.cpu.eip + 0x1800

    assert both(bytes.fromhex(code), prepare, eax=USER_DS) == 0


def test_the_thread_pointer_is_loaded_in_generated_code() -> None:
    def prepare(core: Core) -> None:
        core.cpu.tls[1].base, core.cpu.tls[1].limit, core.cpu.tls[1].access = core.cpu.eip, 0xFFFFFFFF, 0x00D0F300

    selector = FIRST_TLS_ENTRY + 1 << 3 | 3
    assert both(b"\x8e\xe8\x65\x8b\x1d\0\0\0\0", prepare, eax=selector) == 0  # mov gs, eax; mov ebx, gs:[0]


@pytest.mark.parametrize("code", ["9c58", "9c589c5b", "9c519d9c5a", "5166519d669d9c5a"])
def test_popf(code: str) -> None:
    rng = random.Random(4)
    for bit in [*range(32), *[None] * 20]:
        flags = 1 << bit if bit is not None else rng.randrange(1 << 32)
        left = both(bytes.fromhex("509d" + code), eax=flags & ~0x40100, ecx=~flags & ~0x40100 & 0xFFFFFFFF)
        assert left == 0 or "669d" in code  # whose handler is made when it is met
    for flags in (0x100, 0x40000, 0x40100):
        both(bytes.fromhex("509d90909d"), eax=flags)

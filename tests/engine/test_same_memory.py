"""Two addresses of the same memory: what is stored at one is read at the other, on every engine.

The values expected are the meaning of memory itself: one byte has one value, whatever it is called.
"""

from __future__ import annotations

import pytest

from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.isa.assemble import assemble
from aiopyvm.mem.backing import SharedBacking
from aiopyvm.mem.layout import PAGE
from tests.engine.engines import ENGINES, engine_of
from tests.engine.test_code import BASE, machine

AT = 0x40000
LOOPS = {
    "register": "mov eax, [edi]; mov [edi+4096], ecx; mov ebx, [edi]",
    "constant": "mov eax, [0x40000]; mov dword ptr [0x41000], ecx; add [0x40000], ecx; mov ebx, [0x40000]; dec ebx",
    "stored": "mov eax, ecx; mov [edi+4096], ecx; mov dword ptr [edi], 1; mov ebx, [edi+4096]",
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tier", ENGINES)
def test_shared_memory_that_is_mapped_twice(tier: str, loop: str) -> None:
    core = machine(assemble(f"again: {LOOPS[loop]}; dec ecx; jnz again; int 0x80", BASE), pages=3)
    shared = SharedBacking(PAGE)
    for place in (AT, AT + PAGE):
        core.memory.map(place, PAGE, 3, shared, shared=True)
        core.memory.store(place, 4, 0)
    core.cpu.edi, core.cpu.ecx = AT, 20
    assert engine_of(tier).run(core, 10_000) == Exit(ExitReason.SYSCALL)
    assert core.cpu.ebx == 1  # of the last pass
    assert core.memory.load(AT, 4) == core.memory.load(AT + PAGE, 4)


@pytest.mark.parametrize(("source", "target"), [(AT, AT + PAGE + 1), (AT + PAGE, AT + 1)])
@pytest.mark.parametrize("tier", ENGINES)
def test_a_string_that_is_copied_onto_its_own_next_byte(tier: str, source: int, target: int) -> None:
    core = machine(assemble("rep movsb; int 0x80", BASE), pages=3)
    shared = SharedBacking(PAGE)
    for place in (AT, AT + PAGE):
        core.memory.map(place, PAGE, 3, shared, shared=True)
        core.memory.store(place, 4, 0x12345678)
    core.cpu.esi, core.cpu.edi, core.cpu.ecx = source, target, 7
    assert engine_of(tier).run(core, 100) == Exit(ExitReason.SYSCALL)
    assert core.memory.read(AT, 9) == core.memory.read(AT + PAGE, 9) == b"x" * 8 + b"\0"


@pytest.mark.parametrize("tier", ENGINES)
def test_a_store_that_wraps_around_the_address_space_is_seen(tier: str) -> None:
    text = (
        "again: mov ebx, [edi-0x80000000]; add eax, 0x10001; mov [edi+0x7ffffffe], eax; mov edx, [edi-0x80000000];"
        "dec ecx; jnz again; int 0x80"
    )
    core = machine(assemble(text, BASE), pages=3)
    core.memory.map(AT, 2 * PAGE, 3)
    core.cpu.edi, core.cpu.ecx = AT + PAGE + 0x80000000, 20
    assert engine_of(tier).run(core, 10_000) == Exit(ExitReason.SYSCALL)
    assert (core.cpu.ebx, core.cpu.edx) == (19, 20)

"""Translated code and the memory under it: changes of every kind, other spaces, what is touched, what is bounded."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine, code, shapes
from aiopyvm.engine.python.blocks import Block
from aiopyvm.engine.python.code import Code
from aiopyvm.isa.state import AC, CpuState
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import ENGINES, engine_of

BASE = 0x10000
RWX, RX, RW = 7, 5, 3


def machine(text: bytes, *, pages: int = 2, stop: int = -1, at: int = BASE) -> Core:
    """A core at `at`, `pages` pages of writable code from BASE."""
    space = AddressSpace()
    space.map(BASE, pages * 4096, RWX)
    space.write(at, text)
    cpu = CpuState()
    cpu.eip = at
    cpu.esp = BASE + pages * 4096
    return Core(cpu, space, end_of_code=stop)


def translations(core: Core) -> Code:
    (made,) = core.memory.translations.values()
    assert isinstance(made, Code)
    return made


def counting(constant: int, times: int) -> bytes:
    """mov ecx, times; l: add eax, constant; dec ecx; jnz l; hlt."""
    return b"\xb9" + struct.pack("<I", times) + b"\x05" + struct.pack("<I", constant) + b"\x49\x75\xf8\xf4"


@pytest.mark.parametrize("tier", ENGINES)
def test_two_spaces_run_different_bytes_at_one_address(tier: str) -> None:
    engine = engine_of(tier)
    for constant in (1, 5, 1, 7):
        core = machine(counting(constant, 50))
        assert engine.run(core, 1000).vector == 13
        assert core.cpu.eax == 50 * constant
        assert core.cpu.instructions == 151


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("stop", [BASE + 11, BASE + 13])
def test_a_region_made_for_another_end_of_code_is_not_used(tier: str, stop: int) -> None:
    engine = engine_of(tier)
    text = b"\xb9\x32\0\0\0" + b"\x05\x01\0\0\0" + b"\x90\x90\x90" + b"\x49\x75\xf5\xf4"
    for _ in range(2):
        assert engine.run(machine(text), 10000).vector == 13
    core = machine(text, stop=stop)
    assert engine.run(core, 10000) == Exit(ExitReason.END_OF_CODE)
    assert (core.cpu.eip, core.cpu.eax) == (stop, 1)


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("how", ["write", "poke", "remap", "shared"])
def test_the_kernel_changes_code_between_runs(tier: str, how: str) -> None:
    engine = engine_of(tier)
    core = machine(counting(1, 1000))
    if how == "shared":
        core.memory.map(BASE, 4096, RWX, shared=True)
        core.memory.write(BASE, counting(1, 1000))
    assert engine.run(core, 601).reason is ExitReason.BUDGET
    assert core.cpu.eax == 200
    if how == "remap":
        core.memory.map(BASE, 4096, RWX)
        core.memory.write(BASE, counting(3, 1000))
    else:
        (core.memory.poke if how == "poke" else core.memory.write)(BASE + 6, b"\x03")
    assert engine.run(core, 600).reason is ExitReason.BUDGET
    assert core.cpu.eax == 200 + 200 * 3


@pytest.mark.parametrize("tier", ENGINES)
def test_code_that_loses_its_permission_or_page_faults(tier: str) -> None:
    for unmapped in (False, True):
        engine = engine_of(tier)
        core = machine(counting(1, 1000))
        engine.run(core, 601)
        if unmapped:
            core.memory.unmap(BASE, 4096)
        else:
            core.memory.protect(BASE, 4096, RW)
        exit_ = engine.run(core, 10)
        assert (exit_.vector, exit_.access, exit_.address) == (14, "x", core.cpu.eip)
        assert core.cpu.instructions == 601


@pytest.mark.parametrize("tier", ENGINES)
def test_a_fork_that_changes_its_code_changes_nobody_elses(tier: str) -> None:
    engine = engine_of(tier)
    core = machine(counting(1, 1000))
    engine.run(core, 601)
    child = Core(core.cpu.copy(), core.memory.fork(Unlimited()))
    child.memory.write(BASE + 6, b"\x09")
    engine.run(child, 300)
    engine.run(core, 300)
    assert (core.cpu.eax, child.cpu.eax) == (300, 200 + 100 * 9)


@pytest.mark.parametrize("tier", ENGINES)
def test_a_loop_that_rewrites_itself_runs_what_it_wrote(tier: str) -> None:
    # l: add eax, 1 (its immediate is incremented); inc byte [l+1]; dec ecx; jnz l; hlt
    text = b"\x05\x01\0\0\0" + b"\xfe\x05" + struct.pack("<I", BASE + 1) + b"\x49\x75\xf2\xf4"
    core = machine(text)
    core.cpu.ecx = 40
    assert engine_of(tier).run(core, 10000).vector == 13
    assert core.cpu.eax == sum(range(1, 41))
    assert core.cpu.instructions == 160


@pytest.mark.parametrize("tier", ENGINES)
def test_an_instruction_that_overwrites_its_successor(tier: str) -> None:
    # mov byte [next], 0x43 (inc ebx); next: inc eax; hlt -- entered many times first with 0x40
    text = b"\xc6\x05" + struct.pack("<I", BASE + 7) + b"\x40" + b"\x40\x49\x75\xf5\xc6\x05"
    text += struct.pack("<I", BASE + 18) + b"\x43" + b"\x40\xf4"
    core = machine(text)
    core.cpu.ecx = 30
    assert engine_of(tier).run(core, 10000).vector == 13
    assert (core.cpu.eax, core.cpu.ebx) == (30, 1)


@pytest.mark.parametrize("tier", ENGINES)
def test_an_instruction_over_two_pages(tier: str) -> None:
    at = BASE + 4096 - 2
    core = machine(b"\x05\x01\0\0\0\x49\x75\xf8\xf4", at=at)
    core.cpu.ecx = 20
    assert engine_of(tier).run(core, 1000).vector == 13
    assert core.cpu.eax == 20
    second = machine(b"\x05\x01\0\0\0", at=at)
    second.memory.protect(BASE + 4096, 4096, RW)
    exit_ = engine_of(tier).run(second, 1000)
    assert (exit_.vector, exit_.address, exit_.access) == (14, BASE + 4096, "x")
    assert (second.cpu.eip, second.cpu.instructions) == (at, 0)


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("offset", [4096 - 3, 4096 - 100])
def test_no_page_is_touched_but_those_that_are_executed(tier: str, offset: int) -> None:
    engine = engine_of(tier)
    for _ in range(3):
        core = machine(b"\x40\x40\xf4" + b"\x90" * 200, at=BASE + offset, pages=4)
        core.memory.map(BASE + 4096, 8192, RWX)  # untouched
        before = core.memory.resident_pages
        assert engine.run(core, 100).vector == 13
        assert core.memory.resident_pages == before


def test_a_region_of_another_space_touches_nothing() -> None:
    engine = PythonEngine("auto", warm_after=3)
    # l: cmp eax, 10; ja far; inc eax; jmp l; ... far, on the next page: loops, then HLT
    text = b"\x83\xf8\x0a\x0f\x87" + struct.pack("<i", 4096 - 9) + b"\x40\xeb\xf4"
    far = b"\x40\x83\xf8\x50\x75\xfa\xc7\x05" + struct.pack("<I", BASE + 4096 + 64) + b"\0\0\0\0\xf4"
    resident = []
    for _ in range(3):
        core = machine(text, pages=4)
        core.memory.write(BASE + 4096, far)
        core.memory.protect(BASE + 4096, 4096, RX)
        core.memory.discard(BASE + 8192, 8192)
        before = core.memory.resident_pages
        engine.run(core, 20)
        resident.append(core.memory.resident_pages - before)
        engine.run(core, 1000)
    assert resident == [0, 0, 0]


def test_a_page_without_code_left_is_fast_again() -> None:
    engine = PythonEngine("auto")
    core = machine(b"\x40\xc3", at=BASE + 4096)
    call = b"\xe8" + struct.pack("<i", 4096 - 5)
    core.memory.write(BASE, call + b"\xc6\x05" + struct.pack("<I", BASE + 4096) + b"\0\xf4")
    core.cpu.eip = BASE
    assert engine.run(core, 100).vector == 13
    assert BASE + 4096 in core.memory.writable


def endless(blocks: int) -> bytes:
    """`blocks` times: add eax, something; jmp to what follows."""
    return b"".join(b"\x05" + struct.pack("<I", 3 * n) + b"\xeb\0" for n in range(blocks))


def test_what_is_translated_for_one_space_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MOST_CODE", 300)
    monkeypatch.setattr(code, "MOST_DECODED", 500)
    engine = PythonEngine("auto")
    core = machine(endless(1000) + b"\xf4", pages=4)
    for _ in range(20):
        if engine.run(core, 100).reason:
            break
        assert len(translations(core).blocks) <= 152
    assert core.cpu.eax == sum(3 * n for n in range(1000))
    assert len(engine._shared._decoded) <= 251


def test_regions_and_thunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MOST_SHARED", 40)
    monkeypatch.setattr(code, "MOST_CODE", 200)
    engine = PythonEngine("warm")
    monkeypatch.setattr(type(engine._shared.thunks), "MOST", 30)
    for constant in range(1, 60):
        text = b"".join(counting(constant + i, 3)[:-1] for i in range(4)) + b"\xf4"
        core = machine(text)
        assert engine.run(core, 1000).vector == 13
        assert core.cpu.eax == sum(3 * (constant + i) for i in range(4))
        assert sum(len(kept) for kept in engine._shared._regions.values()) <= 40
        assert len(engine._shared.thunks) <= 30


def test_code_that_changes_for_ever_is_compiled_less_and_less() -> None:
    engine = PythonEngine("auto", warm_after=4)
    # l: inc byte [k+1]; mov ecx, 40; k: add eax, 0; dec ecx; jnz k; jmp l
    text = b"\xfe\x05" + struct.pack("<I", BASE + 12) + b"\xb9\x28\0\0\0" + b"\x05\0\0\0\0\x49\x75\xf8\xeb\xeb"
    core = machine(text)
    assert engine.run(core, 60_000).reason is ExitReason.BUDGET
    assert engine.statistics()["regions"] <= 8
    assert core.cpu.instructions == 60_000


def test_far_pointers_make_no_endless_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MOST_SHAPES", 50)
    engine = PythonEngine("cold")
    core = machine(b"")
    for n in range(200):
        core.memory.write(BASE, b"\xea" + struct.pack("<IH", n, n & 0xFFFF | 4))
        core.cpu.eip = BASE
        engine.run(core, 1)
    assert engine.statistics()["shapes"] <= 50


def test_stores_beside_code_are_told_only_to_the_blocks_near_by() -> None:
    engine = PythonEngine("cold")
    core = machine(b"\x90" * 3000 + b"\xf4", pages=1)
    for offset in range(0, 3000, 12):
        core.cpu.eip = BASE + offset
        engine.run(core, 1)
    code_ = translations(core)
    before = len(code_.blocks)
    core.memory.write(BASE + 3500, b"x")  # no code there
    assert len(code_.blocks) == before
    core.memory.write(BASE + 1500, b"\x90")  # as it is
    assert len(code_.blocks) == before
    core.memory.write(BASE + 1500, b"\x91")
    assert 0 < before - len(code_.blocks) <= 12
    core.memory.write(BASE, b"\x91" * 4096)
    assert not code_.blocks
    assert not code_._lines
    assert BASE in core.memory.writable


@pytest.mark.parametrize("tier", ENGINES)
def test_one_address_has_a_block_for_each_mode(tier: str) -> None:
    engine = engine_of(tier)
    core = machine(b"\xa1" + struct.pack("<I", BASE + 4097) + b"\xeb\xf9")  # mov eax, [BASE + 4097]; jmp to it
    for _ in range(3):
        core.cpu.system_flags &= ~AC
        assert engine.run(core, 40) == Exit(ExitReason.BUDGET)
        core.cpu.system_flags |= AC
        assert engine.run(core, 40) == Exit(ExitReason.FAULT, 17, 0)
    core.memory.write(BASE + 1, struct.pack("<I", BASE + 4100))  # aligned now, in either mode
    for flags in (AC, 0, AC):
        core.cpu.system_flags = flags
        assert engine.run(core, 40) == Exit(ExitReason.BUDGET)
    if tier not in ("evaluator", "native", "hot", "guarded"):
        core.memory.write(BASE, b"\x91" * 16)
        code_ = translations(core)
        assert not code_.blocks
        assert not any(code_.blocks_of(mode) for mode in range(32))
        assert BASE in core.memory.writable


def test_a_rare_mode_translates_a_long_run_of_zeros_once() -> None:
    engine = PythonEngine()
    core = machine(b"", pages=64)
    core.cpu.system_flags |= AC
    core.cpu.eax = BASE + 65 * 2048
    assert engine.run(core, 60_000) == Exit(ExitReason.BUDGET)  # add [eax], al
    assert core.cpu.eip == BASE + 120_000
    assert engine.statistics()["shapes"] == 1
    assert engine.statistics()["invalidations"] == 0


def test_the_spaces_of_one_machine_share_the_room_for_translations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MOST_CODE", 400)
    engine = PythonEngine("cold")
    first = machine(bytes(range(0x40, 0x48)) * 50)  # inc eax ... inc edi
    cores = [first] + [Core(first.cpu.copy(), first.memory.fork(first.memory.budget)) for _ in range(5)]
    other = machine(bytes(range(0x40, 0x48)) * 10)
    engine.run(other, 50)
    for core in cores:
        engine.run(core, 300)
        assert core.cpu.instructions == 300
        assert sum(len(block.insns) for each in cores for block in blocks(each)) <= 400 + 32
    assert blocks(cores[-1])
    assert not blocks(first)
    assert blocks(other)
    for core in cores[1:]:
        core.memory.close()
    engine.run(first, 80)
    room = translations(first)._room
    assert list(room.holders) == [translations(first)]
    assert room.used == sum(len(block.insns) for block in blocks(first))


def blocks(core: Core) -> list[Block]:
    return [block for made in core.memory.translations.values() for block in made.blocks.values()]  # type: ignore[attr-defined]

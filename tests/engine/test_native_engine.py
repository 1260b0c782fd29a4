"""The native engine's own machinery: links, the jump cache, counters, what is full, what changes, what is missing."""

from __future__ import annotations

import gc
import itertools
import random
import struct
import weakref
from collections.abc import Callable

import pytest

from aiopyvm.engine.native import recordarena
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from aiopyvm.mem.budget import Unlimited
from tests.engine.campaign import KINDS, case, differences
from tests.engine.engines import native_engine, native_handlers
from tests.engine.test_code import BASE, RX, counting, endless, machine

SLICES = (1, 2, 3, 7, 61, 997, 65_536, 1_000_000)


def code_of(core: Core) -> SpaceCode:
    """What the native engine has made for the core's space."""
    (made,) = [made for made in core.memory.translations.values() if isinstance(made, SpaceCode)]
    return made


def left(engine: Engine, reason: str) -> int:
    """How often generated code came back for a reason."""
    return engine.statistics()[f"left_{reason}"]


# A guest of everything that leads from block to block: calls, returns, indirect jumps and calls, loops, REP, faults
# that the kernel would handle, flags over branches.
MIXED = """
    mov esp, 0x12f00
    xor ebx, ebx
    mov esi, 60
again:
    push esi
    call first
    call [0x12000]
    mov eax, esi
    and eax, 3
    jmp [0x12010 + eax * 4]
zero:
    add ebx, 1
    jmp next
one:
    rol ebx, 7
    jmp next
two:
    adc ebx, 0x12345
    jmp next
three:
    sbb ebx, esi
next:
    pop esi
    mov edi, 0x12800
    mov ecx, 9
    mov eax, ebx
    rep stosd
    cmp [0x12810], ebx
    jnz wrong
    dec esi
    jnz again
    mov eax, 1
    int 0x80
first:
    lea ebx, [ebx + esi * 2]
    ret
second:
    imul ebx, ebx, 0x1003
    xor ebx, esi
    ret
wrong:
    hlt
"""


def mixed() -> Core:
    """A core about to run MIXED at BASE, its jump tables in the third page."""
    names = {}
    for name in ("first", "second", "zero", "one", "two", "three"):
        # where the label is: the address that a jump to it is encoded with
        text = MIXED + f"\n    mov eax, {name}\n"
        names[name] = int.from_bytes(assemble(text, BASE)[-4:], "little")
    core = machine(assemble(MIXED, BASE), pages=3)
    core.memory.write(0x12000, struct.pack("<I", names["second"]))
    core.memory.write(0x12010, struct.pack("<4I", *(names[name] for name in ("zero", "one", "two", "three"))))
    core.memory.protect(BASE, 4096, RX)
    return core


def finish(engine: Engine, core: Core, budgets: Callable[[], int]) -> tuple[int, bytes, bytes, Exit]:
    """Run to the first exit but BUDGET; count, registers, memory and exit."""
    while True:
        budget = budgets()
        before = core.cpu.instructions
        exit_ = engine.run(core, budget)
        done = core.cpu.instructions - before
        assert done == budget if exit_.reason is ExitReason.BUDGET else done <= budget
        if exit_.reason is not ExitReason.BUDGET:
            return core.cpu.instructions, bytes(core.cpu), core.memory.peek(BASE, 3 * 4096), exit_


def test_every_slicing_ends_the_same() -> None:
    expected = finish(PythonEngine("evaluator"), mixed(), lambda: 100_000)
    assert expected[3] == Exit(ExitReason.SYSCALL)
    engine = native_engine()
    for budget in SLICES:
        assert finish(engine, mixed(), itertools.repeat(budget).__next__) == expected, budget
    random_ = random.Random(5)
    for _ in range(20):
        assert finish(engine, mixed(), lambda: random_.randrange(1, 200)) == expected
    assert engine.statistics()["instructions_python"] == 0


def test_what_was_linked_does_not_come_back() -> None:
    engine = native_engine()
    core = mixed()
    finish(engine, core, lambda: 100_000)
    came_back = sum(count for name, count in engine.statistics().items() if name.startswith("left_"))
    core.cpu.eip = BASE
    finish(engine, core, lambda: 1_000_000)
    after = sum(count for name, count in engine.statistics().items() if name.startswith("left_"))
    assert after == came_back + 1  # the system call


def test_what_is_common_is_decoded_without_the_table() -> None:
    engine = native_engine()
    finish(engine, mixed(), lambda: 100_000)
    statistics = engine.statistics()
    assert statistics["decoded"] > 30
    assert statistics["decoded_by_table"] == 0


def test_calls_and_loops_are_counted() -> None:
    core = mixed()
    finish(native_engine(), core, lambda: 100_000)
    code = code_of(core)
    loop = next(address for address in code.counters if code.record(address))
    passes = {address: code.arena.values(at)[0] for address, at in code.counters.items()}
    assert loop in passes
    assert code.first - min(passes.values()) in (58, 59, 60)


def test_a_counter_that_runs_out_begins_again() -> None:
    engine = native_engine()
    core = machine(counting(1, 1000))
    engine.run(core, 20)
    code = code_of(core)
    (counter,) = code.counters.values()
    code.arena.set_value(counter, 5)
    assert engine.run(core, 10_000).vector == 13
    assert (left(engine, "hot"), core.cpu.eax, core.cpu.instructions) == (1, 1000, 3001)


@pytest.mark.parametrize("kind", KINDS)
def test_random_programs(kind: str) -> None:
    table = native_handlers()
    engine, evaluator = NativeEngine(lambda: table), PythonEngine("cold")
    for number in range(KINDS.index(kind), 24 * len(KINDS), len(KINDS)):
        made, slices = case(7, number)
        assert not list(differences(made, slices, evaluator, {"native": engine})), (kind, number, made, slices)


def test_a_full_arena_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordarena, "RUNS_END", 40 * 24)
    engine = native_engine()
    core = machine(endless(300) + b"\xf4", pages=4)
    assert engine.run(core, 10_000).vector == 13
    assert core.cpu.eax == sum(3 * n for n in range(300))
    assert code_of(core).generation >= 300 * 2 // 40
    assert len(code_of(core)._entries) <= 40
    core = mixed()
    assert finish(engine, core, lambda: 61) == finish(PythonEngine("cold"), mixed(), lambda: 100_000)
    assert code_of(core).generation >= 2


def test_single_records_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordarena, "SINGLES_END", recordarena.RUNS_END + 12 * 24)
    engine = native_engine()
    core = machine(endless(300) + b"\xf4", pages=4)
    assert engine.run(core, 10_000).vector == 13
    assert core.cpu.eax == sum(3 * n for n in range(300))


def test_the_jump_cache_grows() -> None:
    # l: jmp [table + ecx * 4], each entry leads to: dec ecx; jns l; hlt -- 3000 landing places of 8 bytes
    core = machine(b"", pages=16)
    back = BASE
    core.memory.write(BASE, b"\xff\x24\x8d" + struct.pack("<I", BASE + 0x8000))
    places = [BASE + 0x1000 + 8 * n for n in range(3000)]
    for place in places:
        core.memory.write(place, b"\x49\x0f\x89" + struct.pack("<i", back - place - 7) + b"\xf4")
    core.memory.write(BASE + 0x8000, struct.pack("<3000I", *places))
    engine = native_engine()
    for _ in range(2):
        core.cpu.ecx, core.cpu.eip = 2999, BASE
        assert engine.run(core, 100_000).vector == 13
    assert core.cpu.instructions == 2 * 9000
    assert code_of(core).arena.jump_mask + 1 >= 1024
    assert code_of(core).context.jump_mask == code_of(core).arena.jump_mask


def test_code_beside_data_keeps_its_records() -> None:
    # l: inc dword [data, same page]; dec ecx; jnz l; hlt
    core = machine(b"\xff\x05" + struct.pack("<I", BASE + 2048) + b"\x49\x75\xf7\xf4", pages=1)
    core.cpu.ecx = 50
    engine = native_engine()
    assert engine.run(core, 1000).vector == 13
    assert core.memory.read(BASE + 2048, 4) == struct.pack("<I", 50)
    assert code_of(core).invalidations == 0


def test_an_immediate_that_is_patched_again_and_again_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiopyvm.engine.native.engine._DENSE", 1 << 30)  # generated code tries each time
    # l: inc byte [k+1]; k: add eax, 0; dec ecx; jnz l; hlt
    text = b"\xfe\x05" + struct.pack("<I", BASE + 7) + b"\x05\0\0\0\0" + b"\x49\x75\xf2\xf4"
    core = machine(text)
    core.cpu.ecx = 200
    engine = native_engine()
    engine.run(core, 100)
    top = code_of(core).arena.top
    assert engine.run(core, 10_000).vector == 13
    assert core.cpu.eax == sum(range(1, 201))
    assert code_of(core).arena.top == top + 2 * 24  # HLT and what is behind it
    assert code_of(core).invalidations >= 199


def test_where_nearly_all_is_left_to_python_the_python_engine_goes_on() -> None:
    # l: inc byte [k+1]; k: add eax, 0; dec ecx; jnz l; then a loop that generated code can run; hlt
    text = b"\xfe\x05" + struct.pack("<I", BASE + 7) + b"\x05\0\0\0\0" + b"\x49\x75\xf2"
    text += b"\xb9" + struct.pack("<I", 400_000) + b"\x49\x75\xfd\xf4"
    core = machine(text)
    core.cpu.ecx = 5000
    engine = native_engine()
    assert engine.run(core, 1_000_000).vector == 13
    assert core.cpu.eax == sum(n & 255 for n in range(1, 5001))
    assert core.cpu.instructions == 4 * 5000 + 1 + 2 * 400_000
    assert 10_000 < engine.statistics()["instructions_python"] < 100_000


def test_a_long_run_that_python_executes_in_part_pauses() -> None:
    left = "rdtsc; " * 10  # these make the Python engine go on for a while, and the loop lets generated code again
    core = machine(assemble(f"again: mov ecx, 400; x: dec ecx; jnz x; {left} dec edi; jnz again; hlt", BASE))
    core.cpu.edi = 1 << 30
    engine = native_engine()
    pauses = 0
    while engine.run(core, 1_000_000 - core.cpu.instructions, patience=100).reason is ExitReason.PAUSE:
        pauses += 1
    assert core.cpu.instructions == 1_000_000
    assert pauses > 20


def test_mapping_over_code_and_back() -> None:
    engine = native_engine()
    core = machine(counting(1, 100_000))
    for constant in (2, 3, 4):
        engine.run(core, 301)
        core.memory.unmap(BASE, 4096)
        exit_ = engine.run(core, 10)
        assert (exit_.vector, exit_.access, exit_.address) == (14, "x", core.cpu.eip)
        core.memory.map(BASE, 4096, 7)
        core.memory.write(BASE, counting(constant, 100_000))
    before = core.cpu.eax
    engine.run(core, 300)
    assert core.cpu.eax - before == 400


def test_a_child_has_its_own_records() -> None:
    engine = native_engine()
    core = machine(counting(1, 1000))
    engine.run(core, 601)
    child = Core(core.cpu.copy(), core.memory.fork(Unlimited()))
    assert not child.memory.translations
    child.memory.write(BASE + 6, b"\x05")
    engine.run(child, 600)
    engine.run(core, 600)
    assert (core.cpu.eax, child.cpu.eax) == (400, 200 + 5 * 200)
    assert code_of(child) is not code_of(core)


def test_a_closed_space_leaves_nothing_behind() -> None:
    engine = native_engine()
    core = mixed()
    finish(engine, core, lambda: 100_000)
    code = weakref.ref(code_of(core))
    core.memory.close()
    gc.collect()
    assert code() is None


def test_python_executes_until_the_handlers_are_there() -> None:
    table: list[HandlerTable] = []
    engine = NativeEngine(lambda: table[0] if table else None)
    core = mixed()
    assert engine.run(core, 500).reason is ExitReason.BUDGET
    assert engine.statistics()["instructions_python"] == 500
    table.append(native_handlers())
    result = finish(engine, core, lambda: 100)
    assert result == finish(PythonEngine("cold"), mixed(), lambda: 100_000)
    assert engine.statistics()["instructions_python"] == 500
    assert len(core.memory.translations) == len(core.memory.code_listeners) == 1


def test_a_shape_without_handler_gets_one_when_it_is_used_often() -> None:
    # no compiler writes that
    table = HandlerTable(native_handlers().loaded)
    engine = NativeEngine(lambda: table)
    text = assemble("l: shld word ptr [esi * 2 + 0x11000], dx, 3; dec ecx; jnz l; hlt", BASE)
    core = machine(text, pages=4)
    core.cpu.ecx, core.cpu.edx = 4000, 0x8421
    reference = machine(text, pages=4)
    reference.cpu.ecx, reference.cpu.edx = 4000, 0x8421
    engine.run(core, 600)
    assert 0 < engine.statistics()["instructions_evaluated"] <= 200
    table.collect(100)
    engine.run(core, 3)
    before = engine.statistics()["instructions_evaluated"]
    engine.run(core, 6000)
    assert engine.statistics()["instructions_evaluated"] <= before + 1
    PythonEngine("cold").run(reference, 6603)
    assert bytes(core.cpu) == bytes(reference.cpu)
    assert core.memory.peek(BASE, 0x2000) == reference.memory.peek(BASE, 0x2000)

"""Programs that map their libraries when they run find their code translated, and only while they map the same."""

from __future__ import annotations

from pathlib import Path

from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.snapshotfile import SnapshotFiles
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.backing import ImageBacking
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import native_engine, native_handlers

TEXT, LIBRARY = 0x8048000, 0xF7D00000
ROUNDS = 20
CODE = assemble(
    "mov esi, 20; int 0x80; again: mov eax, 0xf7d00000; call eax; mov eax, 0xf7d00100; call eax; dec esi; jnz again; "
    "int 0x80",
    TEXT,
)


def library(step: int) -> ImageBacking:
    first = assemble(f"add ebx, {step}; test ebx, 4; jz even; inc edx; even: ret", LIBRARY)
    second = assemble("lea ecx, [ecx + 2]; ret", LIBRARY + 0x100)
    return ImageBacking((first.ljust(0x100, b"\x90") + second).ljust(4096, b"\xcc"))


PROGRAM = ImageBacking(CODE.ljust(4096, b"\xcc"))
RX, RW = 5, 3


def begin() -> Core:
    space = AddressSpace()
    space.label = b"a program"
    space.map(TEXT, 4096, RX, PROGRAM)
    space.map(0x20000, 4096, RW)
    cpu = CpuState()
    cpu.eip, cpu.esp = TEXT, 0x21000
    return Core(cpu, space)


def to_call(engine: NativeEngine, core: Core) -> list[int]:
    """Run to INT 0x80; how often generated code came back for links and jumps."""
    before = engine.statistics()
    assert engine.run(core, 1_000_000) == Exit(ExitReason.SYSCALL)
    after = engine.statistics()
    return [after[name] - before[name] for name in ("left_link", "left_jump")]


def run(engine: NativeEngine, shown: ImageBacking) -> tuple[tuple[int, int, int, int], list[int]]:
    core = begin()
    to_call(engine, core)
    core.memory.map(LIBRARY, 4096, RX, shown)
    back = to_call(engine, core)
    cpu = core.cpu
    state = cpu.ebx, cpu.ecx, cpu.edx, int(cpu.instructions)
    core.memory.close()
    return state, back


def code_of(core: Core) -> SpaceCode:
    (code,) = core.memory.translations.values()
    assert isinstance(code, SpaceCode)
    return code


def test_a_library_that_is_mapped_later_is_known() -> None:
    engine, shown = native_engine(), library(3)
    expected, back = run(engine, shown)
    assert back[0] > 0
    assert back[1] > 0
    assert run(engine, shown) == (expected, [0, 1])  # once, to find out that it is there now
    assert run(engine, library(3)) == (expected, [0, 1])


def test_code_of_a_library_that_is_not_mapped_is_not_executed() -> None:
    engine = native_engine()
    run(engine, library(3))
    core = begin()
    to_call(engine, core)
    assert code_of(core).record(TEXT) != 0
    assert code_of(core).record(LIBRARY) == 0
    exit_ = engine.run(core, 1_000_000)
    assert (exit_.reason, exit_.address) == (ExitReason.FAULT, LIBRARY)


def test_another_library_in_its_place_is_translated_anew() -> None:
    engine = native_engine()
    run(engine, library(3))
    expected, _ = run(native_engine(), library(5))
    assert run(engine, library(5))[0] == expected
    assert run(engine, library(3))[0] == run(native_engine(), library(3))[0]


def test_a_library_that_takes_the_place_of_another_is_known_to_the_next() -> None:
    engine = native_engine()
    run(engine, library(3))
    expected, _ = run(native_engine(), library(5))
    assert run(engine, library(5))[1] != [0, 1]
    assert run(engine, library(5)) == (expected, [0, 1])
    for step in (3, 5, 3, 5):  # to and fro: always exact, whatever is known
        assert run(engine, library(step))[0] == run(native_engine(), library(step))[0]


def test_what_was_asleep_stays_known_to_the_next() -> None:
    engine, shown = native_engine(), library(3)
    expected, _ = run(engine, shown)
    core = begin()
    to_call(engine, core)
    code = code_of(core)
    code.enter(TEXT + 2)  # something new, in the program
    made = code.snapshot()
    assert made is not None
    assert {home.start for home in made.homes} == {TEXT, LIBRARY}
    assert dict(made.entries)[LIBRARY]
    core.memory.close()
    assert run(engine, shown) == (expected, [0, 1])


def test_a_change_of_the_program_forgets_what_is_asleep() -> None:
    engine = native_engine()
    expected, _ = run(engine, library(3))
    core = begin()
    to_call(engine, core)
    core.memory.protect(TEXT, 4096, RX)  # as good as a change: all that was translated from it is void
    assert code_of(core).record(LIBRARY) == 0
    core.memory.map(LIBRARY, 4096, RX, library(3))
    to_call(engine, core)
    assert (core.cpu.ebx, core.cpu.ecx, core.cpu.edx, core.cpu.instructions) == expected


def test_code_that_leads_from_one_image_to_another_is_adopted_as_a_whole() -> None:
    """A direct call into the library: without that, it must not be followed."""
    code = assemble("int 0x80; call 0xf7d00000; int 0x80", TEXT)
    program = ImageBacking(code.ljust(4096, b"\xcc"))
    engine = native_engine()

    def core() -> Core:
        made = begin()
        made.memory.map(TEXT, 4096, RX, program)
        return made

    first = core()
    to_call(engine, first)
    first.memory.map(LIBRARY, 4096, RX, library(3))
    to_call(engine, first)
    made = code_of(first).snapshot()
    assert made is not None
    assert made.whole
    first.memory.close()
    second = core()
    to_call(engine, second)
    exit_ = engine.run(second, 1000)
    assert (exit_.reason, exit_.address) == (ExitReason.FAULT, LIBRARY)


def test_parts_are_kept_for_the_next_process(tmp_path: Path) -> None:
    shown = library(3)

    def engine() -> NativeEngine:
        table = HandlerTable(native_handlers().loaded)
        return NativeEngine(lambda: table, make_store=lambda table: SnapshotFiles(table, ObjectCache(tmp_path / "c")))

    expected, _ = run(engine(), shown)
    assert run(engine(), shown) == (expected, [0, 1])

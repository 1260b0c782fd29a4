"""Spaces that run the same program share what was translated, and nobody sees it but the clock."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aiopyvm.engine.native import recordarena
from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.snapshot import GROWN, MOST, NOTHING, WORTH
from aiopyvm.engine.native.snapshotfile import SnapshotFiles
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.backing import ImageBacking
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.reservation import HOST_MAPPINGS
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import native_engine, native_handlers

TEXT = 0x8048000
RX, RW = 5, 3
_PROCEDURES = 24
_SOURCE = "".join(f"call f{n}; " for n in range(_PROCEDURES)) + "dec ecx; jnz 0x8048000; mov eax, 1; int 0x80; "
_SOURCE += "".join(f"f{n}: add ebx, {n + 3}; test bl, 1; jz g{n}; inc edx; g{n}: ret; " for n in range(_PROCEDURES))
CODE = assemble(_SOURCE, TEXT)
ROUNDS = 50


def image(code: bytes = CODE) -> ImageBacking:
    """An image of two pages that begins with `code`."""
    return ImageBacking(code.ljust(8192, b"\xcc"))


def core(shown: ImageBacking, *, at: int = TEXT, stop: int = -1) -> Core:
    """A core at `at`, where `shown` is mapped, with a stack."""
    space = AddressSpace()
    space.map(at, 8192, RX, shown)
    space.map(0x20000, 4096, RW)
    cpu = CpuState()
    cpu.eip, cpu.esp, cpu.ecx = at, 0x21000, ROUNDS
    return Core(cpu, space, end_of_code=stop)


def code_of(made: Core) -> SpaceCode:
    (code,) = made.memory.translations.values()
    assert isinstance(code, SpaceCode)
    return code


def finish(engine: NativeEngine, made: Core) -> tuple[bytes, int, int, list[int]]:
    """Run to INT 0x80; what must be the same for all, and how often generated code came back for links and jumps."""
    before = engine.statistics()
    assert engine.run(made, 1_000_000) == Exit(ExitReason.SYSCALL)
    after = engine.statistics()
    assert after["instructions_python"] == 0
    back = [after[name] - before[name] for name in ("left_link", "left_jump")]
    return bytes(made.cpu), made.memory.resident_pages, made.memory.peak_resident_pages, back


def test_the_second_run_of_a_program_finds_everything() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    *expected, back = finish(engine, first)
    assert back[0] > _PROCEDURES
    assert back[1] > 0
    first.memory.close()
    for backing in (shown, image()):  # the same bytes are the same image
        second = core(backing)
        *actual, back = finish(engine, second)
        assert actual == expected
        assert back == [0, 0]
        second.memory.close()
    assert (engine.statistics()["snapshots_taken"], engine.statistics()["snapshots_adopted"]) == (1, 2)


def test_a_space_that_is_still_there_helps_too() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    *expected, _ = finish(engine, first)
    *actual, back = finish(engine, core(shown))
    assert (actual, back) == (expected, [0, 0])


def test_what_another_thread_translates_is_left_alone() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    *expected, _ = finish(engine, first)
    found: list[tuple[bytes, int, int, list[int]]] = []
    other = threading.Thread(target=lambda: found.append(finish(engine, core(shown))))
    other.start()
    other.join()
    ((*actual, back),) = found
    assert actual == expected
    assert back[0] > _PROCEDURES  # it has translated everything itself
    assert engine.statistics()["snapshots_taken"] == 0
    first.memory.close()
    *actual, back = finish(engine, core(shown))
    assert (actual, back) == (expected, [0, 0])


def test_what_is_remembered_of_growing_spaces_is_bounded() -> None:
    engine = native_engine()
    for number in range(3 * MOST):
        finish(engine, core(image(CODE + bytes((number & 0xFF, number >> 8)))))
    assert len(engine._snapshots._growing) <= MOST


def test_a_child_begins_with_what_its_parent_has() -> None:
    engine = native_engine()
    parent = core(image())
    engine.run(parent, 4000)
    child = Core(parent.cpu.copy(), parent.memory.fork(Unlimited()))
    *expected, _ = finish(engine, parent)
    *actual, back = finish(engine, child)
    assert actual[0] == expected[0]
    assert back[0] <= 1


def test_another_image_or_place_or_end_is_another_program() -> None:
    engine = native_engine()
    first = core(image())
    finish(engine, first)
    first.memory.close()
    other = bytearray(CODE)
    at = CODE.index(b"\x83\xc3\x05")  # add ebx, 5
    other[at + 2] = 6
    changed = core(image(bytes(other)))
    finish(engine, changed)
    assert changed.cpu.ebx == sum(range(3, 3 + _PROCEDURES)) * ROUNDS + ROUNDS
    moved = core(image(assemble(_SOURCE.replace("0x8048000", "0x9000000"), 0x9000000)), at=0x9000000)
    finish(engine, moved)
    ended = core(image(), stop=TEXT + 10)
    assert engine.run(ended, 1000).reason is ExitReason.END_OF_CODE
    assert engine.statistics()["snapshots_adopted"] == 0


def test_an_image_with_a_changed_page_is_looked_at_again() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    finish(engine, first)
    first.memory.close()
    second = core(shown)
    at = CODE.index(b"\x83\xc3\x05")
    second.memory.poke(TEXT + at + 2, b"\x07")
    finish(engine, second)
    assert second.cpu.ebx == sum(range(3, 3 + _PROCEDURES)) * ROUNDS + 2 * ROUNDS
    assert engine.statistics()["snapshots_adopted"] == 0


def test_code_that_is_not_to_be_executed_faults() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    finish(engine, first)
    first.memory.close()
    second = core(shown)
    second.memory.protect(TEXT, 8192, RW)
    exit_ = engine.run(second, 10)
    assert (exit_.vector, exit_.address, exit_.access) == (14, TEXT, "x")


@pytest.mark.parametrize("how", ["poke", "protect", "unmap"])
def test_adopted_code_can_change(how: str) -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    *expected, _ = finish(engine, first)
    first.memory.close()
    second = core(shown)
    engine.run(second, 1000)
    assert code_of(second)._base is not NOTHING
    at = TEXT + CODE.index(b"\x83\xc3\x05") + 2
    if how == "poke":
        second.memory.poke(at, b"\x25")
    elif how == "protect":
        second.memory.protect(TEXT, 4096, 7)
        second.memory.write(at, b"\x25")
    else:
        second.memory.unmap(TEXT, 4096)
        assert (engine.run(second, 10).vector, second.cpu.eip) == (14, second.cpu.eip)
        second.memory.map(TEXT, 4096, 7)
        changed = bytearray(CODE.ljust(4096, b"\xcc"))
        changed[at - TEXT] = 0x25
        second.memory.write(TEXT, bytes(changed))
    assert code_of(second)._base is NOTHING
    finish(engine, second)
    done = sum(range(3, 3 + _PROCEDURES)) * ROUNDS
    assert 0 < second.cpu.ebx - done <= 0x20 * ROUNDS
    second.memory.close()
    third = core(shown)
    *actual, _ = finish(engine, third)
    assert actual[0] == expected[0]


def test_more_is_kept_when_a_run_goes_other_ways() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    engine.run(first, 60)
    first.memory.close()
    second = core(shown)
    *expected, back = finish(engine, second)
    assert back[0] > 16
    second.memory.close()
    third = core(shown)
    *actual, back = finish(engine, third)
    assert (actual[0], back) == (expected[0], [0, 0])


def test_a_little_that_is_found_again_and_again_is_kept_in_the_end() -> None:
    engine = native_engine()
    source = "test esi, esi; jz common; call more; more: inc edx; common: " + _SOURCE.replace("0x8048000", "common")
    shown = image(assemble(source, TEXT))

    def run(esi: int) -> list[int]:
        made = core(shown)
        made.cpu.esi = esi
        *_, back = finish(engine, made)
        made.memory.close()
        return back

    run(0)
    assert run(0) == [0, 0]
    little = run(1)
    assert 0 < sum(little) < WORTH
    found = sum(little)
    while run(1) == little:
        found += sum(little)
        assert found < 2 * GROWN
    assert (run(1), run(0)) == ([0, 0], [0, 0])
    assert engine.statistics()["snapshots_taken"] == 2


def test_a_crowd_of_jumps_gets_room() -> None:
    made = recordarena.RecordArena()
    size = made.jump_mask + 1
    pair = size - 2
    crowd = [eip for eip in range(0x1000, 64 * size) if (eip ^ eip >> 12) & pair == 0x20][:4]
    assert [made.remember_jump(eip, 24) for eip in crowd] == [True, True, False, False]
    assert made.crowd == 2
    assert set(made.spread()) == set(crowd[2:])
    assert (made.jump_mask + 1, made.crowd) == (2 * size, 0)
    assert not tuple(made.spread())
    assert made.jump_mask + 1 == 2 * size
    assert all(made._jumps.get(eip) == 24 for eip in crowd[:2])


def test_what_has_more_stays_when_a_space_with_less_is_closed() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    engine.run(first, 60)
    first.memory.close()
    second, third = core(shown), core(shown)
    engine.run(third, 30)  # it begins before the second one is of use for others
    engine.run(second, 400)
    *expected, back = finish(engine, third)
    assert back[0] > 16
    third.memory.close()
    second.memory.close()
    *actual, back = finish(engine, core(shown))
    assert (actual[0], back) == (expected[0], [0, 0])
    assert engine.statistics()["snapshots_taken"] == 2


def test_records_are_in_memory_once() -> None:
    engine, shown = native_engine(), image()
    first = core(shown)
    *expected, _ = finish(engine, first)
    first.memory.close()
    spaces = [core(shown) for _ in range(4)]
    for one in spaces:
        engine.run(one, 1)
    extents = [code_of(one).arena._extent for one in spaces]
    assert extents[0] is None  # for one alone a copy is cheaper
    assert extents[1] is not None
    assert extents[1:] == [extents[1]] * 3
    for one in spaces:  # each has its own counters, links and jumps
        *actual, back = finish(engine, one)
        assert (actual, back) == (expected, [0, 0])
    spaces[1].memory.poke(TEXT + CODE.index(b"\x83\xc3\x05") + 2, b"\x25")
    for one, more in ((spaces[1], 0x20), (spaces[2], 0), (core(shown), 0)):
        one.cpu.eip, one.cpu.ecx, one.cpu.ebx = TEXT, 1, 0
        finish(engine, one)
        assert one.cpu.ebx == sum(range(3, 3 + _PROCEDURES)) + more


def test_where_nothing_can_be_shown_records_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordarena, "map_private", lambda *what: False)
    engine, shown = native_engine(), image()
    first = core(shown)
    *expected, _ = finish(engine, first)
    first.memory.close()
    for _ in range(3):
        other = core(shown)
        *actual, back = finish(engine, other)
        assert (actual, back) == (expected, [0, 0])
        assert code_of(other).arena._extent is None


def test_records_are_a_mapping_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = HOST_MAPPINGS.used
    made = recordarena.RecordArena()
    assert HOST_MAPPINGS.used == before + 1
    monkeypatch.setattr(HOST_MAPPINGS, "limit", before + 1)
    with pytest.raises(OSError, match="mappings"):
        recordarena.RecordArena()
    del made
    assert HOST_MAPPINGS.used == before


def test_what_is_jumped_to_once_takes_nobodys_place() -> None:
    made = recordarena.RecordArena()
    size = made.jump_mask + 1
    pair = size - 2  # what addresses of one pair of places have in common
    first, second, third = [eip for eip in range(0x1000, 64 * size) if (eip ^ eip >> 12) & pair == 0x20][:3]
    assert made.remember_jump(first, 24)
    assert made.remember_jump(second, 48)
    shown = made.copy().jumps
    assert not made.remember_jump(third, 72)
    assert made.copy().jumps == shown
    assert not made.remember_jump(third, 72)
    made.replace_jump(third, 96)  # it is there now
    assert made.copy().jumps != shown


def kept(tmp_path: Path, passes: int = 0) -> tuple[NativeEngine, HandlerTable]:
    """An engine as a new process has it, whose snapshots are kept in a directory."""
    table = HandlerTable(native_handlers().loaded)
    return NativeEngine(
        lambda: table, make_store=lambda table: SnapshotFiles(table, ObjectCache(tmp_path / "c"), passes=passes)
    ), table


def test_the_next_process_begins_with_what_this_one_has(tmp_path: Path) -> None:
    first = core(image())
    *expected, _ = finish(kept(tmp_path)[0], first)
    first.memory.close()
    engine, _ = kept(tmp_path)
    second = core(image())
    *actual, back = finish(engine, second)
    assert (actual, back) == (expected, [0, 0])
    assert engine.statistics()["decoded"] == 0
    assert code_of(second).blocks(TEXT, TEXT + 1)
    second.memory.poke(TEXT + CODE.index(b"\x83\xc3\x05") + 2, b"\x25")  # its blocks are known too
    second.cpu.eip, second.cpu.ecx, second.cpu.ebx = TEXT, 1, 0
    engine.run(second, 100_000)
    assert second.cpu.ebx == sum(range(3, 3 + _PROCEDURES)) + 0x20


def test_counters_begin_with_what_this_process_wants(tmp_path: Path) -> None:
    adopted = []
    for passes in (20_000, 5, 20_000):
        engine, _ = kept(tmp_path, passes)
        first = core(image())
        finish(engine, first)
        first.memory.close()
        adopted.append(engine.statistics()["snapshots_adopted"])
    assert adopted == [0, 0, 1]


def test_a_handler_made_on_demand_is_waited_for_again(tmp_path: Path) -> None:
    engine, table = kept(tmp_path)
    text = _SOURCE.replace("dec ecx", "shld word ptr [ecx * 2 + 0x20100], dx, 3; dec ecx")
    first = core(image(assemble(text, TEXT)))
    first.cpu.ecx = 900
    engine.run(first, 10_000)
    table.collect(100)
    before = engine.statistics()["instructions_evaluated"]
    *expected, _ = finish(engine, first)
    assert engine.statistics()["instructions_evaluated"] == before
    first.memory.close()
    engine, table = kept(tmp_path)
    second = core(image(assemble(text, TEXT)))
    second.cpu.ecx = 900
    engine.run(second, 100)
    assert len(code_of(second).waiting) == 1
    engine.run(second, 10_000)
    table.collect(100)  # nobody has decoded anything in this process, and still it is made
    before = engine.statistics()["instructions_evaluated"]
    *actual, _ = finish(engine, second)
    assert actual == expected
    assert engine.statistics()["instructions_evaluated"] == before
    third = core(image(assemble(text, TEXT)))
    third.cpu.ecx = 900
    *actual, _ = finish(engine, third)  # which has the handler from the start, though the snapshot on disk has it not
    assert actual == expected
    assert engine.statistics()["instructions_evaluated"] == before


def test_what_is_no_snapshot_is_made_anew(tmp_path: Path) -> None:
    first = core(image())
    *expected, _ = finish(kept(tmp_path)[0], first)
    first.memory.close()
    cache = ObjectCache(tmp_path / "c")
    (entry,) = cache.entries()
    for data in (b"", b"\x01\0\0\0{", b"\x02\0\0\0{}", b"\xff" * 100):
        cache.put(entry.name, data)
        *actual, back = finish(kept(tmp_path)[0], core(image()))
        assert actual == expected
        assert back[0] > 0

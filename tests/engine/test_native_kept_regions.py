"""Regions that an earlier process made of an image's code: found wherever their code is, whatever else was executed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aiopyvm.engine.native import hot
from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.regionfile import name_in_image, pack, unpack
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.assemble import assemble
from aiopyvm.mem.backing import BytesBacking
from tests.engine.engines import hot_engine, native_engine
from tests.engine.test_native_snapshots import RX, TEXT, core, image

# What ESI does not choose is not executed, and so not known where a region is made.
_SOURCE = """
    test esi, 1; jz even; add ebx, 7; jmp on; even: add ebx, 2; on: test esi, 2; jz small; xor edx, ecx; small:
    dec ecx; jnz {0}; mov eax, 1; int 0x80
"""


def code_at(at: int) -> bytes:
    """The loop of the tests, to be executed at `at`."""
    return assemble(_SOURCE.format(at), at)


def run(engine: NativeEngine, made: Core, ways: int = 0) -> tuple[int, int, int]:
    """Run to INT 0x80, going the ways that `ways` chooses; the registers that tell."""
    made.cpu.esi = ways
    assert engine.run(made, 1_000_000) == Exit(ExitReason.SYSCALL)
    return made.cpu.ebx, made.cpu.edx, made.cpu.instructions


def counts(engine: NativeEngine) -> tuple[int, int]:
    """Regions compiled, and found on disk."""
    found = engine.statistics()
    return found["regions_compiled"], found["regions_cached"]


def test_found_where_another_way_was_gone(tmp_path: Path) -> None:
    kept, shown = ObjectCache(tmp_path / "objects"), image(code_at(TEXT))
    for ways in (0, 1, 3):
        engine = hot_engine(3, kept)
        assert run(engine, core(shown), ways) == run(native_engine(), core(shown), ways)
        assert bool(counts(engine)[1]) == bool(ways)  # where the region is left, another one may have been compiled


def test_what_is_kept_is_asked_for_sooner_than_a_region_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is passed 50 times: nothing is made for less, and what was not found counts on."""
    monkeypatch.setattr(hot, "AFTER_KEPT", 5)
    kept, shown, executed = ObjectCache(tmp_path / "objects"), image(code_at(TEXT)), []
    for after, expected in ((60, (0, 0)), (40, (1, 0)), (60, (0, 1))):
        engine = hot_engine(after, kept)
        assert run(engine, core(shown)) == run(native_engine(), core(shown))
        assert counts(engine) == expected
        executed.append(engine.statistics()["instructions_hot"])
    assert executed[0] == 0
    assert 0 < 3 * executed[1] < executed[2]


def test_another_image_at_the_same_place_has_its_own(tmp_path: Path) -> None:
    kept = ObjectCache(tmp_path / "objects")
    for _ in range(2):
        for tail in (b"\x01", b"\x02"):
            shown = image(code_at(TEXT) + tail)
            run(hot_engine(3, kept), core(shown))
    assert len(kept.entries()) == 2


def test_each_place_of_an_image_has_its_own(tmp_path: Path) -> None:
    kept = ObjectCache(tmp_path / "objects")
    for at in (TEXT, TEXT + 0x10000):
        engine = hot_engine(3, kept)
        run(engine, core(image(code_at(TEXT)), at=at))
        assert counts(engine) == (1, 0)


def test_not_where_code_that_it_was_made_from_differs(tmp_path: Path) -> None:
    """The root is of an image, what it calls is not."""
    kept, far = ObjectCache(tmp_path / "objects"), TEXT + 0x10000
    shown = image(assemble(f"call {far}; dec ecx; jnz {TEXT}; mov eax, 1; int 0x80", TEXT))
    for step, expected in ((3, (1, 0)), (5, (1, 0)), (5, (0, 1))):
        engine, made = hot_engine(3, kept), core(shown)
        made.memory.map(far, 4096, RX, BytesBacking(assemble(f"add ebx, {step}; ret", far).ljust(4096, b"\xcc")))
        made.memory.fetch(far, 1)
        assert run(engine, made)[0] == 50 * step
        assert counts(engine)[0] >= expected[0]
        assert bool(counts(engine)[1]) == bool(expected[1])


def test_code_that_is_no_image_s_any_more_is_kept_by_all_of_it(tmp_path: Path) -> None:
    kept, shown = ObjectCache(tmp_path / "objects"), image(code_at(TEXT))
    made = core(shown)
    assert name_in_image(made.memory, TEXT, "checked") is not None
    made.memory.poke(TEXT + 4096, b"\x90")
    assert name_in_image(made.memory, TEXT, "checked") is not None
    made.memory.poke(TEXT, made.memory.peek(TEXT, 1))
    assert name_in_image(made.memory, TEXT, "checked") is None
    for expected in ((1, 0), (0, 1)):
        engine, again = hot_engine(3, kept), core(shown)
        again.memory.poke(TEXT, again.memory.peek(TEXT, 1))
        run(engine, again)
        assert counts(engine) == expected


def test_a_damaged_object_is_made_again(tmp_path: Path) -> None:
    kept, shown = ObjectCache(tmp_path / "objects"), image(code_at(TEXT))
    run(hot_engine(3, kept), core(shown))
    (entry,) = kept.entries()
    whole = kept.get(entry.name)
    assert whole is not None
    covered, _ = unpack(whole)
    for damaged in (pack(covered, b"\x7fELF"), b"", whole[:5], pack((), b"")):
        kept.put(entry.name, damaged)
        engine = hot_engine(3, kept)
        assert run(engine, core(shown)) == run(native_engine(), core(shown))
        assert counts(engine) == (1, 0)
        assert kept.get(entry.name) == whole


def test_what_is_read_is_what_was_written() -> None:
    random_ = random.Random(3)
    for _ in range(50):
        covered = tuple((random_.getrandbits(20), random_.randbytes(random_.randrange(1, 60))) for _ in range(4))
        data = random_.randbytes(100)
        whole = pack(covered, data)
        assert unpack(whole) == (covered, data)
        with pytest.raises(ValueError, match="region's code"):
            unpack(whole[: random_.randrange(len(whole) - len(data))])
    with pytest.raises(ValueError, match="damaged"):
        unpack(pack(((0xFFFFFFFF, b"\x90\x90"),), b""))

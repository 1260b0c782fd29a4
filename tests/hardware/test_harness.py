"""The harness itself: what the CPU answers where the manual fixes the result, and that it survives anything."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.hardware import vectors
from tests.hardware.harness import available, run_cases
from tests.hardware.wire import (
    AREA,
    AREA_DATA,
    CODE,
    DATA,
    DEFAULT_EIP,
    DEFAULT_ESP,
    PAGE,
    READ_ONLY,
    SIGVTALRM,
    SMALL_SELECTOR,
    STACK,
    TABLE,
    WHOLE_SELECTOR,
    X87_INITIAL,
    Case,
    State,
    changed_runs,
)  # fmt: skip

pytestmark = [pytest.mark.native, pytest.mark.skipif(not available(), reason="this host does not run i386 programs")]


def run(case: Case) -> State:
    (state,) = run_cases([case])
    assert state is not None
    return state


@pytest.mark.parametrize("single_step", [True, False])
def test_registers_and_flags(single_step: bool) -> None:
    after = run(
        Case(b"\x01\xd8", regs=(0xFFFFFFFF, 2, 3, 1, DEFAULT_ESP, 6, 7, 8), eflags=0x402, single_step=single_step)
    )
    assert after.completed
    assert after.regs == (0, 2, 3, 1, DEFAULT_ESP, 6, 7, 8)
    assert after.eflags == 0x202 | 0x400 | 0x55  # DF stays; ZF AF PF CF
    assert after.eip == DEFAULT_EIP + 2
    assert after.changes == ()


@pytest.mark.parametrize("flag", [1 << 14, 1 << 21, 1 << 10, 0x8D5])
def test_flags_are_loaded_and_reported(flag: int) -> None:
    assert run(Case(b"\x90", eflags=2 | flag)).eflags == 0x202 | flag


def test_alignment_check() -> None:
    after = run(Case(b"\xa1" + (DATA + 1).to_bytes(4, "little"), eflags=2 | 1 << 18))
    assert (after.signal, after.vector) == (7, 17)


def test_stores_are_reported_as_runs() -> None:
    case = Case(b"\xc7\x05" + (DATA + 6).to_bytes(4, "little") + b"\xaa\xbb\xcc\xdd", patches=((DATA + 6, bytes(4)),))
    assert run(case).changes == ((DATA + 6, b"\xaa\xbb\xcc\xdd"),)
    assert changed_runs(DATA, b"abcd", b"aXcY") == ((DATA + 1, b"X"), (DATA + 3, b"Y"))


def test_memory_is_what_the_case_says() -> None:
    case = Case(b"\xa1" + (DATA + 8).to_bytes(4, "little"), fill=1234)
    assert run(case).regs[0] == int.from_bytes(TABLE[1242:1246], "little")
    patched = Case(case.code, fill=1234, patches=((DATA + 8, b"\1\2\3\4"),))
    assert run(patched).regs[0] == 0x04030201
    assert run(Case(b"\x58", fill=77)).regs[0] == int.from_bytes(TABLE[77 + PAGE + 0x800 :][:4], "little")
    read_only = run(Case(b"\xa1" + READ_ONLY.to_bytes(4, "little")))
    assert read_only.regs[0] == int.from_bytes(TABLE[:4], "little")


@pytest.mark.parametrize(
    ("code", "signal", "vector", "error_code", "cr2"),
    [
        ("f7f1", 8, 0, 0, 0),
        ("0f0b", 4, 6, 0, 0),
        ("f4", 11, 13, 0, 0),
        ("cd13", 11, 13, 0x13 * 8 + 2, 0),
        ("a100205000", 11, 14, 4, READ_ONLY + PAGE),
        ("a300105000", 11, 14, 7, READ_ONLY),
        ("a3ffff4f00", 11, 14, 6, DATA - 1),
        ("a300004000", 11, 14, 7, CODE),
        ("c705fdff5f0000000000", 11, 14, 6, STACK - 3),
        ("cd80", 31, 0x80, 0, 0),
    ],
)
def test_faults_leave_the_state(code: str, signal: int, vector: int, error_code: int, cr2: int) -> None:
    case = Case(bytes.fromhex(code))
    after = run(case)
    assert (after.signal, after.vector, after.error_code, after.cr2) == (signal, vector, error_code, cr2)
    assert after.regs == case.regs
    assert after.eip == DEFAULT_EIP + (2 if vector == 0x80 else 0)
    assert after.changes == ()


def test_sixteen_bytes_are_too_long() -> None:
    assert run(Case(b"\x66" * 14 + b"\x90")).completed
    assert run(Case(b"\x66" * 15 + b"\x90")).vector == 13


def test_code_is_cut_at_the_end_of_its_page() -> None:
    after = run(Case(b"\xb8\1\2\3\4", eip=CODE + PAGE - 3))
    assert (after.vector, after.error_code & ~0x10, after.cr2) == (14, 4, CODE + PAGE)


def test_segments() -> None:
    load = b"\x65\xa1\x08\0\0\0"
    at_8 = int.from_bytes(TABLE[8:12], "little")
    assert run(Case(load, segments=(0x2B, 0x2B, 0, WHOLE_SELECTOR))).regs[0] == at_8
    assert run(Case(load, segments=(0x2B, 0x2B, 0, SMALL_SELECTOR))).regs[0] == at_8
    assert run(Case(b"\x65\xa1\xfd\x07\0\0", segments=(0x2B, 0x2B, 0, SMALL_SELECTOR))).vector == 13
    assert run(Case(load)).vector == 13


def test_rep_is_stepped_or_run_whole() -> None:
    case = Case(b"\xf3\xaa", regs=(0, 5, 0, 0, DEFAULT_ESP, 0, 0, DATA))
    stepped = run(case)
    assert (stepped.regs[1], stepped.eip) == (4, DEFAULT_EIP)
    whole = run(Case(case.code, case.regs, single_step=False))
    assert (whole.regs[1], whole.eip, whole.vector) == (0, DEFAULT_EIP + 2, 1)


def test_x87_image_goes_in_and_comes_out() -> None:
    pi = bytes.fromhex("35c26821a2da0fc90040")
    image = X87_INITIAL[:4] + b"\0\x38\xff\xff\xff\x3f\xff\xff" + X87_INITIAL[12:28] + pi + bytes(70)
    after = run(Case(b"\xd9\xe0", x87=image))  # FCHS
    assert after.x87[28:38] == pi[:9] + b"\xc0"
    assert after.x87[:28] == run(Case(b"\x90", x87=image)).x87[:12] + after.x87[12:28]
    assert run(Case(b"\x9b", x87=X87_INITIAL[:4] + b"\x81\x80\xff\xff" + X87_INITIAL[8:])).completed  # masked: no #MF
    unmasked = b"\x7e\x03\xff\xff\x81\x80\xff\xff" + X87_INITIAL[8:]
    assert (run(Case(b"\x9b", x87=unmasked)).signal, run(Case(b"\x9b", x87=unmasked)).vector) == (8, 16)


def test_random_bytes_are_survived_and_answered_the_same_twice() -> None:
    rng = random.Random(1)
    cases: list[Case] = []
    while len(cases) < 3000:
        code = rng.randbytes(12)
        if b"\x0f\x34" in code or b"\x0f\x31" in code or b"\x0f\x05" in code or b"\x0f\xc7" in code:
            continue  # SYSENTER leaves the case; RDTSC, RDRAND differ from run to run
        regs = tuple(rng.choice((0, DATA + 64, STACK + 64, rng.getrandbits(32))) for _ in range(8))
        cases.append(Case(code, regs, single_step=True, fill=rng.randrange(8192)))  # type: ignore[arg-type]
    first, second = list(run_cases(cases)), list(run_cases(cases))
    assert first == second
    assert sum(state is None for state in first) <= 1


def test_a_case_that_never_ends_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hardware.harness.TIMEOUT_S", 0.3)
    cases = [Case(b"\x40"), Case(b"\xeb\xfe", single_step=False), Case(b"\x41")]
    first, lost, last = run_cases(cases)
    assert first is not None
    assert first.regs[0] == 1
    assert lost is None
    assert last is not None
    assert last.regs[1] == 1


def test_records_survive_the_round_trip() -> None:
    case = Case(b"\x90", (1, 2, 3, 4, 5, 6, 7, 8), 0x8D7, CODE, (0, 0x2B, 0x63, 0x6B), 9, bytes(range(108)),
                ((DATA, b"abc"), (STACK + 4095, b"z")), False)  # fmt: skip
    assert Case.unpack(case.pack()) == case
    state = run(Case(b"\x50"))
    assert State.unpack(state.pack()) == state


YMM = tuple(bytes(range(32 * n, 32 * n + 32)) for n in range(8))
HAS_AVX = {"avx"} <= set(Path("/proc/cpuinfo").read_text().split())


def test_vector_registers_go_in_and_come_out() -> None:
    after = run(Case(b"\x66\x0f\xef\xca", ymm=YMM, mxcsr=0x9FC0))  # PXOR xmm1, xmm2
    mixed = bytes(x ^ y for x, y in zip(YMM[1][:16], YMM[2][:16], strict=True))
    assert after.completed
    assert after.mxcsr == 0x9FC0
    assert after.ymm == ((1, mixed + YMM[1][16:]),)
    assert run(Case(b"\x90")).mxcsr is None


@pytest.mark.skipif(not HAS_AVX, reason="this CPU has no AVX")
def test_upper_halves_go_in_and_come_out() -> None:
    after = run(Case(b"\xc5\xfd\x6f\xca", ymm=YMM))  # VMOVDQA ymm1, ymm2
    assert after.ymm == ((1, YMM[2]),)
    after = run(Case(b"\xc5\xf8\x77", ymm=YMM))  # VZEROUPPER
    assert after.ymm == tuple((n, YMM[n][:16] + bytes(16)) for n in range(8))


def test_exceptions_of_vector_instructions() -> None:
    ones = struct.pack("<f", 1.0) * 8
    zeros = bytes(32)
    divide = b"\x0f\x5e\xc1"  # DIVPS xmm0, xmm1
    masked = run(Case(divide, ymm=(ones, *([zeros] * 7)), mxcsr=0x1F81))
    assert (masked.mxcsr, masked.ymm) == (0x1F85, ((0, struct.pack("<f", float("inf")) * 4 + ones[16:]),))
    unmasked = run(Case(divide, ymm=(ones, *([zeros] * 7)), mxcsr=0x1D80))
    assert (unmasked.signal, unmasked.vector, unmasked.mxcsr, unmasked.ymm) == (8, 19, 0x1D84, ())
    aligned = b"\x0f\x28\x05"  # MOVAPS xmm0, [..]
    assert run(Case(aligned + struct.pack("<I", DATA + 8), ymm=YMM)).vector == 13
    assert run(Case(aligned + struct.pack("<I", DATA + 16), ymm=YMM)).ymm == ((0, TABLE[16:32] + YMM[0][16:]),)


def test_mmx_registers_are_those_of_the_x87() -> None:
    image = X87_INITIAL[:4] + b"\0\x38\xff\xff" + X87_INITIAL[8:28] + bytes(range(80))
    after = run(Case(b"\x0f\x6e\xc8", (0x12345678, *Case(b"\x90").regs[1:]), x87=image))  # MOVD mm1, eax
    # TOP was 7, so ST(2) was R1; now TOP is 0, R1 is ST(1) and nothing is empty
    assert after.x87[4:6] == b"\0\0"
    assert after.x87[38:48] == struct.pack("<QH", 0x12345678, 0xFFFF)
    assert int.from_bytes(after.x87[8:10], "little") & 0xC == 0x8


def block(code: bytes, **parts: Any) -> State:
    return run(Case(code, eip=AREA + PAGE - 6, single_step=False, block=True, **parts))


def test_a_block_runs_until_something_ends_it() -> None:
    after = block(b"\x40\x41\x42" * 4)  # over the page's end
    assert (after.signal, after.vector, after.eip) == (5, 3, AREA + PAGE + 7)
    assert after.regs[:3] == (4, 4, 4)
    assert block(b"\x40\xf4").vector == 13
    assert (block(b"\xcd\x80").signal, block(b"\xcd\x80").eip) == (31, AREA + PAGE - 4)


def test_a_block_may_change_itself() -> None:
    after = block(b"\xc6\x05" + struct.pack("<I", AREA + PAGE + 3) + b"\x41\x90\x40\x40")  # INC EAX becomes INC ECX
    assert after.regs[:2] == (1, 1)
    assert after.changes == ((AREA + PAGE + 3, b"\x41"),)


def test_a_block_sees_its_data() -> None:
    load = b"\xa1" + struct.pack("<I", AREA_DATA + PAGE - 2) + b"\xa3" + struct.pack("<I", AREA_DATA)
    after = block(load, fill=5)
    assert after.regs[0] == int.from_bytes(TABLE[5 + PAGE - 2 :][:4], "little")
    assert run(Case(load[:5])).vector == 14  # only blocks have these pages


def test_a_block_that_never_ends_is_ended_and_the_rest_goes_on() -> None:
    endless = Case(b"\x40\xeb\xfd", eip=AREA, single_step=False, block=True)
    first, second, third = run_cases([endless, Case(b"\x40"), endless])
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.signal, second.vector, third.signal) == (SIGVTALRM, 1, SIGVTALRM)


def test_records_of_blocks_and_vectors_survive_the_round_trip() -> None:
    case = Case(b"\x90" * 700, eip=AREA + 9, fill=3, patches=((AREA_DATA, b"x"),), single_step=False, mxcsr=0x7FFF,
                ymm=(*YMM[:4], *(TABLE[3 + 32 * n :][:32] for n in range(4, 8))), block=True)  # fmt: skip
    packed = case.pack()
    assert Case.unpack(packed) == case
    assert len(packed) < 700 + 4 * 32 + 200  # what the table has is not told
    state = run(Case(b"\x0f\x57\xc0", ymm=YMM))
    assert state.ymm == ((0, bytes(16) + YMM[0][16:]),)
    assert State.unpack(state.pack()) == state


def test_recording(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "DIRECTORY", tmp_path)
    cases = [Case(b"\x40"), Case(b"\xf4")]
    assert vectors.record("two", cases, "for this test") == 2
    assert vectors.names() == ["two"]
    loaded = list(vectors.load("two"))
    assert [case for case, _ in loaded] == cases
    assert [state.vector for _, state in loaded] == [1, 13]


@pytest.mark.parametrize("patch", [(DATA - 1, b"ab"), (DATA + PAGE - 1, b"ab"), (CODE, b"a"), (DATA, b"")])
def test_a_case_outside_its_places_is_refused(patch: tuple[int, bytes]) -> None:
    with pytest.raises(ValueError, match="not inside"):
        Case(b"\x90", patches=(patch,)).pack()

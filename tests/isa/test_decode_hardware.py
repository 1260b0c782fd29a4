"""How many bytes of an instruction the CPU fetches before it faults or runs: ours against the hardware's, byte by byte.

The code stands at the end of its page and the next page is unmapped. As long as the CPU answers with a page fault
there, the instruction, or what is none, is longer. How much is fetched of what is none differs between makers (AMD's
look no further where Intel's do, and further at XOP's prefix), so on a CPU of another maker only instructions count.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from tests.hardware import vectors
from tests.hardware.harness import available, run_cases
from tests.hardware.wire import CODE, PAGE, Case, State
from tests.isa.random_code import random_bytes

END = CODE + PAGE
PAGE_FAULT = 14

# Bytes that have another meaning on processors later than ours, which knows no EVEX, RTM.
LATER = 0x62


def excluded(code: bytes) -> bool:
    """System calls, and what only later processors know."""
    body = code.lstrip(bytes((0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)))
    if body[:1] == b"\xcd" or body[:2] in (b"\x0f\x05", b"\x0f\x34", b"\x0f\x07", b"\x0f\x35"):
        return True
    if len(body) > 1 and body[0] == LATER and body[1] >= 0xC0:
        return True
    if body[:2] in (b"\xc6\xf8", b"\xc7\xf8"):
        return True
    return body[:1] == b"\x0f" and body[1] == 0x78  # SSE4A's prefixed forms


def our_length(code: bytes) -> int:
    """The bytes that we look at before we know: at most 15."""
    for n in range(1, 16):
        try:
            decode(code[:n])
        except NeedMore:
            continue
        except DecodeFault:
            return n
        return n
    raise AssertionError(code.hex())


def is_instruction(code: bytes) -> bool:
    try:
        return decode(code).row.name not in ("ud0", "ud1")  # Intel's have a ModRM byte, AMD's have none
    except DecodeFault:
        return False


def wants_more(state: State | None, eip: int) -> bool:
    return state is not None and (state.vector, state.cr2, state.eip) == (PAGE_FAULT, END, eip)


def codes() -> Iterator[bytes]:
    tail = bytes.fromhex("2500000000000000000000")
    for escape in (b"", b"\x0f"):
        for opcode in range(256):
            for modrm in (0x00, 0x05, 0x42, 0x84, 0xC1, 0xF9, 0x08, 0x38):
                yield (escape + bytes((opcode, modrm)) + tail)[:15]
    rng = random.Random(5)
    for _ in range(4000):
        yield random_bytes(rng)


@pytest.mark.native
@pytest.mark.skipif(not available(), reason="this host does not run 32-bit x86 programs")
def test_as_many_bytes_as_the_hardware() -> None:
    cases = []
    same_maker = vectors.same_maker()
    for code in codes():
        if excluded(code) or not (same_maker or is_instruction(code)):
            continue
        n = our_length(code)
        if n > 1:
            cases.append((code, n - 1, True))
        cases.append((code, n, False))
    states = run_cases(Case(code[:n], eip=END - n) for code, n, _ in cases)
    wrong = [
        f"{code.hex()} at {n}"
        for (code, n, more), state in zip(cases, states, strict=True)
        if state is not None and wants_more(state, END - n) != more
    ]
    assert wrong == []


@pytest.mark.native
@pytest.mark.skipif(not available(), reason="this host does not run 32-bit x86 programs")
def test_too_long_is_a_general_protection_fault() -> None:
    codes = [
        bytes([0x66] * n) + tail for n in range(10, 15) for tail in (b"\x90", b"\x0f\x04", b"\x01\xc0", b"\x05\0\0")
    ]
    codes = [(code + b"\x90" * 16)[:16] for code in codes]
    for code, state in zip(codes, run_cases(Case(code) for code in codes), strict=True):
        assert state is not None
        assert state.vector == our_vector(code), code.hex()


def our_vector(code: bytes) -> int:
    try:
        decode(code)
    except DecodeFault as fault:
        return fault.vector
    return 1  # completed: the single step

"""XSAVE and its like where the campaign does not go: components in their initial configuration, XCR0, CPUID's leaf.

What is expected was seen on the hardware, behind VZEROALL, XRSTOR and LDMXCSR, which is when it counts as we do.
"""

from __future__ import annotations

import struct

import pytest

from aiopyvm.isa.vectors import GP
from aiopyvm.isa.xarea import HEADER, MXCSR, XCR0, XMM, XSAVE_SIZE, YMM_HIGH, leaf
from tests.hardware.subjects import machine_of
from tests.hardware.wire import DATA, MXCSR_INITIAL, Case, State
from tests.hardware.x87_values import parts

_ZEROS = (bytes(32),) * 8
_XGETBV, _XSETBV = b"\x0f\x01\xd0", b"\x0f\x01\xd1"
_XSAVE, _XSAVEOPT, _XSAVEC, _XRSTOR = b"\x0f\xae\x26", b"\x0f\xae\x36", b"\x0f\xc7\x26", b"\x0f\xae\x2e"  # [esi]
_ENGINES = ("plain", "warm", "native")
_FILLED = b"\xaa" * HEADER + bytes(64) + b"\xaa" * (XSAVE_SIZE - YMM_HIGH)


def _run(engine: str, code: bytes, mask: int, area: bytes, **state: object) -> tuple[State, bytes]:
    """The state after an instruction on an area at DATA, and the area then."""
    regs = (mask, 0, 0, 0, 0x600800, 0, DATA, 0)
    case = Case(code, regs, patches=((DATA, area),), **{"ymm": _ZEROS, **state})  # type: ignore[arg-type]
    after = machine_of(engine, [case]).run(case)
    memory = bytearray(area)
    for address, data in after.changes:
        memory[address - DATA : address - DATA + len(data)] = data
    return after, bytes(memory)


def _header(area: bytes) -> tuple[int, int]:
    present, format_ = struct.unpack_from("<2Q", area, HEADER)
    return present, format_


@pytest.mark.parametrize("engine", _ENGINES)
def test_xsave_writes_what_is_initial_and_xsaveopt_does_not(engine: str) -> None:
    _, saved = _run(engine, _XSAVE, 7, _FILLED)
    assert _header(saved) == (0, 0)
    assert saved[:4] == b"\x7f\x03\x00\x00"
    assert saved[XMM : XMM + 16] == saved[YMM_HIGH : YMM_HIGH + 16] == bytes(16)
    assert saved[YMM_HIGH + 128 :] == b"\xaa" * 128  # of registers that 32-bit programs have not
    _, left = _run(engine, _XSAVEOPT, 7, _FILLED)
    assert left == _FILLED[:MXCSR] + struct.pack("<II", MXCSR_INITIAL, 0xFFFF) + _FILLED[MXCSR + 8 :]


@pytest.mark.parametrize("engine", _ENGINES)
def test_xsavec_has_mxcsr_with_sse_alone(engine: str) -> None:
    _, initial = _run(engine, _XSAVEC, 7, _FILLED)
    assert _header(initial) == (0, 1 << 63 | 7)
    assert initial[:HEADER] == _FILLED[:HEADER]
    _, changed = _run(engine, _XSAVEC, 7, _FILLED, mxcsr=0x9F80)
    assert _header(changed) == (2, 1 << 63 | 7)
    assert changed[MXCSR : MXCSR + 4] == b"\x80\x9f\x00\x00"
    assert changed[XMM : XMM + 16] == bytes(16)
    _, upper = _run(engine, _XSAVEC, 4, _FILLED, mxcsr=0x9F80)
    assert _header(upper) == (0, 1 << 63 | 4)
    assert upper[:HEADER] == _FILLED[:HEADER]


@pytest.mark.parametrize("engine", _ENGINES)
def test_xrstor_without_components_gives_initial_values(engine: str) -> None:
    area = bytearray(XSAVE_SIZE)
    area[MXCSR : MXCSR + 4] = b"\x80\x9f\x00\x00"
    ones = (b"\xff" * 32,) * 8
    state, _ = _run(engine, _XRSTOR, 7, bytes(area), ymm=ones, x87=b"\x7f\x1f" + bytes(106))
    assert state.mxcsr == 0x9F80  # in the standard format from memory, whatever is there
    assert dict(state.ymm) == dict.fromkeys(range(8), bytes(32))
    assert parts(state.x87)["control"] == 0xFFFF037F
    state, _ = _run(engine, _XRSTOR, 2, bytes(area), ymm=ones)
    assert dict(state.ymm) == dict.fromkeys(range(8), bytes(16) + b"\xff" * 16)


@pytest.mark.parametrize("engine", _ENGINES)
def test_xgetbv_tells_what_is_enabled_and_what_is_in_use(engine: str) -> None:
    def ask(number: int, **state: object) -> State:
        case = Case(_XGETBV, (9, number, 9, 0, 0x600800, 0, 0, 0), **{"ymm": _ZEROS, **state})  # type: ignore[arg-type]
        return machine_of(engine, [case]).run(case)

    assert ask(0).regs[0] == XCR0
    assert ask(0).regs[2] == 0
    assert ask(1).regs[0] == 0
    assert ask(1, mxcsr=0x9F80).regs[0] == 2
    assert ask(1, ymm=(bytes(16) + b"\1" + bytes(15), *_ZEROS[1:])).regs[0] == 4
    assert ask(1, x87=b"\x7f\x1f" + bytes(106)).regs[0] == 1
    assert ask(2).vector == GP


@pytest.mark.parametrize("code", [_XSETBV, b"\x0f\xc7\x2e", b"\x0f\xc7\x1e"])
def test_what_is_privileged_is_a_general_protection_fault(code: bytes) -> None:
    case = Case(code)
    assert machine_of("plain").run(case).vector == GP


def test_the_leaf_of_cpuid_follows_the_features() -> None:
    assert leaf((), 0) == (0, 0, 0, 0)
    assert leaf({"xsave"}, 0) == (3, 576, 576, 0)
    assert leaf({"xsave", "avx"}, 0) == (7, 832, 832, 0)
    assert leaf({"xsave", "avx", "xsaveopt", "xsavec", "xgetbv1"}, 1) == (7, 832, 0, 0)
    assert leaf({"xsave", "avx"}, 2) == (256, 576, 0, 0)
    assert leaf({"xsave"}, 2) == (0, 0, 0, 0)

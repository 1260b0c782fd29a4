"""The floating-point state of signal frames for processors that have less than the host's (`test_like_linux`)."""

from __future__ import annotations

import pytest

from aiopyvm.abi.sigframe import FREGS_SIZE
from aiopyvm.isa.state import CpuState
from aiopyvm.isa.xarea import HEADER, MXCSR, XSAVE_SIZE
from aiopyvm.kernel import fpstate
from aiopyvm.kernel.fpstate import BadFrame, Format
from aiopyvm.mem.space import AddressSpace

_PAGE = 0x10000
_SIZES = {Format.FSAVE: FREGS_SIZE, Format.FXSAVE: FREGS_SIZE + 512, Format.XSAVE: FREGS_SIZE + XSAVE_SIZE + 4}


def _filled() -> CpuState:
    cpu = CpuState()
    cpu.fcw, cpu.ftop, cpu.fvalid, cpu.mxcsr = 0x27F, 7, 0x80, 0x3F80
    for n in range(8):
        cpu.fpr[n][:10] = bytes(range(n, n + 10))
        cpu.ymm[n][:] = bytes(range(n + 1, n + 33))
    return cpu


def _loaded(image: bytes, format_: Format, address: int = _PAGE) -> CpuState:
    memory = AddressSpace()
    memory.map(_PAGE, 4096, 3)
    memory.poke(_PAGE, image)
    cpu = CpuState()
    cpu.fcw, cpu.mxcsr, cpu.ymm[3][:] = 0x7F, 0x7F80, b"\xee" * 32
    fpstate.load(memory, address, format_).apply(cpu)
    return cpu


def test_the_format_follows_the_features() -> None:
    assert fpstate.format_of(("fpu",)) is Format.FSAVE
    assert fpstate.format_of(("fpu", "fxsr", "sse2")) is Format.FXSAVE
    assert fpstate.format_of(("fpu", "fxsr", "xsave", "avx")) is Format.XSAVE


@pytest.mark.parametrize("format_", list(Format))
def test_a_state_is_below_the_top_and_its_area_aligned(format_: Format) -> None:
    for top in range(0x8000, 0x8100, 4):
        at = fpstate.place(format_, top)
        assert top - 64 < at + _SIZES[format_] <= top
        assert (at + (0 if format_ is Format.FSAVE else FREGS_SIZE)) % 64 == 0


@pytest.mark.parametrize("format_", list(Format))
def test_a_state_comes_back_as_far_as_the_processor_has_it(format_: Format) -> None:
    before = _filled()
    image = fpstate.save(before, format_)
    assert len(image) == _SIZES[format_]
    after = _loaded(image, format_)
    assert (after.fcw, after.ftop, after.fvalid) == (0x27F, 7, 0x80)
    assert [bytes(x)[:10] for x in after.fpr] == [bytes(x)[:10] for x in before.fpr]
    kept = {Format.FSAVE: 0, Format.FXSAVE: 16, Format.XSAVE: 32}[format_]
    assert [bytes(x) for x in after.ymm] == [bytes(x)[:kept].ljust(32, b"\0") for x in before.ymm]
    assert after.mxcsr == (0x1F80 if format_ is Format.FSAVE else 0x3F80)


@pytest.mark.parametrize(("at", "byte"), [(MXCSR + 2, 1), (HEADER + 1, 1), (HEADER + 8, 7), (HEADER + 63, 1)])
def test_what_no_processor_has_is_a_bad_frame(at: int, byte: int) -> None:
    image = bytearray(fpstate.save(_filled(), Format.XSAVE))
    image[FREGS_SIZE + at] = byte
    with pytest.raises(BadFrame):
        _loaded(bytes(image), Format.XSAVE)
    if at >= HEADER:
        assert _loaded(bytes(image[: FREGS_SIZE + HEADER]), Format.FXSAVE).mxcsr == 0x3F80


@pytest.mark.parametrize("format_", list(Format))
def test_a_state_that_cannot_be_read_is_a_bad_frame(format_: Format) -> None:
    with pytest.raises(BadFrame):
        _loaded(bytes(16), format_, 0x20000)

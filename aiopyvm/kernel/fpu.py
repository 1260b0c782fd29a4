"""The states of x87, SSE and AVX as images in memory: FSAVE's 108 bytes in 32-bit protected mode, FXSAVE's 512 and the
standard XSAVE area as a 64-bit kernel stores them (Intel SDM vol. 2A, FSAVE, FXSAVE; `isa/xarea.py` has the layout).
"""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from aiopyvm.isa import xarea
from aiopyvm.isa.state import CpuState
from aiopyvm.isa.xarea import FXSAVE_SIZE, MXCSR_MASK, REGISTERS, STACK, STEP, XMM, YMM_HIGH, YMM_HIGH_SIZE

_ENVIRONMENT: Final = struct.Struct("<7I")
_TOP: Final = 7 << 11
_FX_HEAD: Final = struct.Struct("<HHBxHQQII")  # control, status, tags, opcode, FIP, FDP, MXCSR, its mask
_HEADER: Final = struct.Struct("<QQ48x")  # XSTATE_BV, XCOMP_BV
_FPR_SIZE: Final = 10  # bytes of the STEP that a register takes
_FPRS: Final = int.from_bytes((b"\xff" * _FPR_SIZE).ljust(STEP, b"\0") * REGISTERS, "little")
_EMPTY: Final = 0xFFFF  # all registers, in a tag word


def fsave_image(cpu: CpuState) -> bytes:
    """Return the FSAVE image; the state stays.

    As a 64-bit kernel makes it for a signal frame: the selectors are the task's CS and DS, there is no opcode.
    """
    status = status_word(cpu)
    tags = sum(_tag(cpu, n) << 2 * n for n in range(REGISTERS)) if cpu.fvalid else _EMPTY
    environment = _ENVIRONMENT.pack(
        cpu.fcw | 0xFFFF0000,
        status | 0xFFFF0000,
        tags | 0xFFFF0000,
        cpu.fip,
        cpu.cs,
        cpu.fdp,
        cpu.ds | 0xFFFF0000,
    )
    stack = _stack(cpu)
    return environment + b"".join([stack[at : at + _FPR_SIZE] for at in range(0, len(stack), STEP)])


def _stack(cpu: CpuState) -> bytes:
    """The registers ST(0) to ST(7), each in STEP bytes."""
    registers, first = bytes(cpu.fpr), STEP * cpu.ftop
    return registers[first:] + registers[:first]


def status_word(cpu: CpuState) -> int:
    """Return the status word with TOP in it."""
    word: int = cpu.fsw & ~_TOP | cpu.ftop << 11
    return word


def restore_fsave_image(cpu: CpuState, image: bytes) -> None:
    """Load an FSAVE image, whatever its bytes are (FRSTOR)."""
    control, status, tags, fip, fcs_fop, fdp, _ = _ENVIRONMENT.unpack_from(image)
    cpu.fcw = control & 0x1F7F | 0x40
    cpu.ftop = top = status >> 11 & 7
    pending = status & ~cpu.fcw & 0x3F  # ES and B follow from flags and masks, whatever the image says
    cpu.fsw = status & 0x477F | (0x8080 if pending else 0)
    cpu.fvalid = sum(1 << n for n in range(8) if tags >> 2 * n & 3 != 3)
    cpu.fip, cpu.fop, cpu.fdp = fip, fcs_fop >> 16 & 0x7FF, fdp  # selectors are deprecated: the CPU keeps none
    registers = _bytes(cpu.fpr)
    for i in range(REGISTERS):
        at, source = STEP * (top + i & 7), _ENVIRONMENT.size + _FPR_SIZE * i
        registers[at : at + _FPR_SIZE] = image[source : source + _FPR_SIZE]


def _tag(cpu: CpuState, n: int) -> int:
    """The tag word's two bits of physical register `n`: 0 valid, 1 zero, 2 special, 3 empty."""
    if not cpu.fvalid >> n & 1:
        return 3
    raw = bytes(cpu.fpr[n])
    mantissa, exponent = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:10], "little") & 0x7FFF
    if exponent == 0 and mantissa == 0:
        return 1
    return 0 if 0 < exponent < 0x7FFF and mantissa >> 63 else 2


def fxsave_image(cpu: CpuState) -> bytes:
    """Return the FXSAVE image: x87, MXCSR and XMM; the state stays. Bytes that FXSAVE leaves alone are 0."""
    head = _FX_HEAD.pack(
        cpu.fcw, status_word(cpu), cpu.fvalid, cpu.fop, cpu.fip, cpu.fdp, cpu.mxcsr, MXCSR_MASK
    )  # fmt: skip
    stack = (int.from_bytes(_stack(cpu), "little") & _FPRS).to_bytes(STEP * REGISTERS, "little")
    vectors = _halves(bytes(cpu.ymm), 0)
    return (head + stack + vectors).ljust(FXSAVE_SIZE, b"\0")


def restore_fxsave_image(cpu: CpuState, image: bytes) -> None:
    """Load x87, MXCSR and XMM from an FXSAVE image that a processor made."""
    cpu.fcw, status, cpu.fvalid, cpu.fop, fip, fdp, _, _ = _FX_HEAD.unpack_from(image)
    cpu.fsw, cpu.ftop = status & ~_TOP, status >> 11 & 7
    cpu.fip, cpu.fdp = fip & 0xFFFFFFFF, fdp & 0xFFFFFFFF
    for n in range(REGISTERS):
        at = STACK + STEP * n
        cpu.fpr[cpu.ftop + n & 7][:10] = image[at : at + 10]
    restore_sse(cpu, image)


def restore_sse(cpu: CpuState, image: bytes) -> None:
    """Load MXCSR and XMM from an FXSAVE image; bits that MXCSR has not are dropped."""
    cpu.mxcsr = mxcsr(image) & MXCSR_MASK
    _set_halves(cpu, 0, image[XMM:])


def mxcsr(image: bytes) -> int:
    """MXCSR in an FXSAVE image."""
    return int(_FX_HEAD.unpack_from(image)[6])


def xsave_image(cpu: CpuState) -> bytes:
    """Return the standard XSAVE area; the state stays. AVX is in use where an upper half is not 0."""
    high = _halves(bytes(cpu.ymm), STEP)
    header = _HEADER.pack(xarea.X87 | xarea.SSE | (xarea.AVX if any(high) else 0), 0)
    return fxsave_image(cpu) + header + high.ljust(YMM_HIGH_SIZE, b"\0")


def restore_upper(cpu: CpuState, image: bytes) -> None:
    """Load the upper halves of YMM from an XSAVE area."""
    _set_halves(cpu, STEP, image[YMM_HIGH:])


def _bytes(array: ctypes.Array[ctypes.Array[ctypes.c_uint8]]) -> memoryview:
    return memoryview(array).cast("B")


def _halves(registers: bytes, half: int) -> bytes:
    """The lower (0) or upper (STEP) halves of `registers`, one after the other."""
    return b"".join([registers[at : at + STEP] for at in range(half, len(registers), 2 * STEP)])


def _set_halves(cpu: CpuState, half: int, values: bytes) -> None:
    registers = _bytes(cpu.ymm)
    for n in range(REGISTERS):
        at = half + 2 * STEP * n
        registers[at : at + STEP] = values[STEP * n : STEP * (n + 1)]


def reset(cpu: CpuState, components: int = xarea.XCR0) -> None:
    """Give components (bits of XCR0) the state in which Linux starts a program."""
    if components & xarea.X87:
        fresh = CpuState()
        cpu.fcw, cpu.fsw, cpu.ftop, cpu.fvalid, cpu.fpr = fresh.fcw, fresh.fsw, fresh.ftop, fresh.fvalid, fresh.fpr
        cpu.fip, cpu.fop, cpu.fdp = 0, 0, 0
    if components & xarea.SSE:
        _set_halves(cpu, 0, bytes(STEP * REGISTERS))
        cpu.mxcsr = CpuState().mxcsr
    if components & xarea.AVX:
        _set_halves(cpu, STEP, bytes(STEP * REGISTERS))

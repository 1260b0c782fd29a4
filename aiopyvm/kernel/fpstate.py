"""The floating-point state in signal frames: what fpstate in a sigcontext points to (arch/x86/kernel/fpu/signal.c).

A processor with FXSAVE has the FSAVE image first, for old programs, and the FXSAVE or XSAVE area behind it; the way
back takes the x87 from the first and all else from the second. An XSAVE area is one where two magic words say so, one
in the bytes that are left to software, one behind it; without them it counts as an FXSAVE area, and what that lacks
becomes initial. A frame that says what no processor could have is a `BadFrame`; then nothing of it was taken.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiopyvm.abi import sigframe as layouts
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.sigframe import FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FREGS_SIZE, FpxSwBytes
from aiopyvm.isa.state import CpuState
from aiopyvm.isa.xarea import (
    AVX,
    FXSAVE_SIZE,
    HEADER,
    HEADER_SIZE,
    MXCSR_MASK,
    SOFTWARE,
    SSE,
    X87,
    XCR0,
    XSAVE_SIZE,
    YMM_HIGH,
)
from aiopyvm.kernel import fpu
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.space import AddressSpace

_SOFTWARE: Final = codec_of(FpxSwBytes)
_HEADER: Final = struct.Struct("<QQ48s")
_MAGIC2: Final = struct.Struct("<I")


class BadFrame(Exception):
    """A frame that the thread cannot go on from."""


class Format(enum.Enum):
    """What a processor stores; the value is the size of its area in bytes."""

    FSAVE = 0
    FXSAVE = FXSAVE_SIZE
    XSAVE = XSAVE_SIZE


def format_of(features: Collection[str]) -> Format:
    """The format for a processor with `features`, as /proc/cpuinfo calls them."""
    if "fxsr" not in features:
        return Format.FSAVE
    return Format.XSAVE if "xsave" in features else Format.FXSAVE


def place(format_: Format, top: int) -> int:
    """The address of the highest state that fits below `top`; may be negative."""
    if format_ is Format.FSAVE:
        return top - FREGS_SIZE & -layouts.FPSTATE_ALIGNMENT
    size: int = format_.value + (_MAGIC2.size if format_ is Format.XSAVE else 0)
    return (top - size & -layouts.FPSTATE_ALIGNMENT) - FREGS_SIZE


def save(cpu: CpuState, format_: Format) -> bytes:
    """The state of `cpu` as a frame has it."""
    legacy = fpu.fsave_image(cpu) + struct.pack("<HH", fpu.status_word(cpu), layouts.FXSR_MAGIC)
    match format_:
        case Format.FSAVE:
            return legacy
        case Format.FXSAVE:
            return legacy + fpu.fxsave_image(cpu)
    area = fpu.xsave_image(cpu)
    whole = FREGS_SIZE + XSAVE_SIZE + _MAGIC2.size
    software = _SOFTWARE.pack(FpxSwBytes(FP_XSTATE_MAGIC1, whole, XCR0, XSAVE_SIZE))
    end = SOFTWARE + len(software)
    return b"".join((legacy, area[:SOFTWARE], software, area[end:], _MAGIC2.pack(FP_XSTATE_MAGIC2)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A state from a frame: the components (bits of XCR0) that it has, the others being initial.

    `legacy` is the FSAVE image, `area` the XSAVE area or as much as there is of it.
    """

    components: int
    legacy: bytes = b""
    area: bytes = b""

    def apply(self, cpu: CpuState) -> None:
        """Give `cpu` this state."""
        fpu.reset(cpu, XCR0 & ~self.components)
        if self.components & X87:
            fpu.restore_fsave_image(cpu, self.legacy)
        if self.components & SSE:
            fpu.restore_sse(cpu, self.area)
        if self.components & AVX:
            fpu.restore_upper(cpu, self.area)


INITIAL: Final = Loaded(0)


def load(memory: AddressSpace, address: int, format_: Format) -> Loaded:
    """Read the state at `address`. Raises BadFrame, and MemoryFault where there is no memory left to have it in."""
    try:
        legacy = memory.read(address, FREGS_SIZE)
        if format_ is Format.FSAVE:
            return Loaded(X87, legacy)
        return _extended(memory, address + FREGS_SIZE, legacy, format_)
    except MemoryFault as fault:
        if fault.out_of_memory:
            raise
        raise BadFrame from fault


def _extended(memory: AddressSpace, area: int, legacy: bytes, format_: Format) -> Loaded:
    """The state whose FXSAVE or XSAVE area is at `area`."""
    image = memory.read(area, FXSAVE_SIZE)
    software = _SOFTWARE.unpack(image, SOFTWARE)
    if format_ is not Format.XSAVE or not _is_xsave(memory, area, software):
        _check_mxcsr(image)
        return Loaded(X87 | SSE, legacy, image)
    components, format_bits, rest = _HEADER.unpack(memory.read(area + HEADER, HEADER_SIZE))
    if components & ~XCR0 or format_bits or any(rest):
        raise BadFrame
    if components:
        _check_mxcsr(image)
    if components & AVX:
        image += bytes(HEADER_SIZE) + memory.read(area + YMM_HIGH, XSAVE_SIZE - YMM_HIGH)
    return Loaded(components & software.xfeatures, legacy, image)


def _is_xsave(memory: AddressSpace, area: int, software: FpxSwBytes) -> bool:
    """Whether the magic words are there. Raises MemoryFault where the second cannot be read."""
    fits = YMM_HIGH <= software.xstate_size <= min(XSAVE_SIZE, software.extended_size)
    if software.magic1 != FP_XSTATE_MAGIC1 or not fits:
        return False
    return memory.read(area + software.xstate_size, _MAGIC2.size) == _MAGIC2.pack(FP_XSTATE_MAGIC2)


def _check_mxcsr(image: bytes) -> None:
    if fpu.mxcsr(image) & ~MXCSR_MASK:
        raise BadFrame


__all__ = ["INITIAL", "BadFrame", "Format", "Loaded", "format_of", "load", "place", "save"]

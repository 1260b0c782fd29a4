"""The x87 state as FSAVE stores it in 32-bit protected mode: 108 bytes (Intel SDM vol. 2A, FSAVE)."""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.isa.state import CpuState

FSAVE_SIZE: Final = 108
_ENVIRONMENT: Final = struct.Struct("<7I")
_TOP: Final = 7 << 11


def fsave_image(cpu: CpuState) -> bytes:
    """Return the FSAVE image; the state stays.

    As a 64-bit kernel makes it for a signal frame: the selectors are the task's CS and DS, there is no opcode.
    """
    status = status_word(cpu)
    tags = sum(_tag(cpu, n) << 2 * n for n in range(8))
    environment = _ENVIRONMENT.pack(
        cpu.fcw | 0xFFFF0000,
        status | 0xFFFF0000,
        tags | 0xFFFF0000,
        cpu.fip,
        cpu.cs,
        cpu.fdp,
        cpu.ds | 0xFFFF0000,
    )
    return environment + b"".join(bytes(cpu.fpr[cpu.ftop + i & 7])[:10] for i in range(8))


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
    for i in range(8):
        cpu.fpr[top + i & 7][:10] = image[28 + 10 * i : 38 + 10 * i]


def _tag(cpu: CpuState, n: int) -> int:
    """The tag word's two bits of physical register `n`: 0 valid, 1 zero, 2 special, 3 empty."""
    if not cpu.fvalid >> n & 1:
        return 3
    raw = bytes(cpu.fpr[n])
    mantissa, exponent = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:10], "little") & 0x7FFF
    if exponent == 0 and mantissa == 0:
        return 1
    return 0 if 0 < exponent < 0x7FFF and mantissa >> 63 else 2

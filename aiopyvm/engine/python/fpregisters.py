"""The registers of the x87 and of vectors, read and written in one piece of the CPU's buffer: `getfp`, `setfp`, `getv`
and `setv` of generated code.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from aiopyvm.isa.state import CpuState

_OFFSET: Final = CpuState.fpr.offset
_UNPACK: Final = struct.Struct("<QH").unpack_from
_PACK: Final = struct.Struct("<QH").pack_into
_SIGNIFICAND: Final = (1 << 64) - 1


def read_fp(cpu: Any, index: int) -> int:
    """The 80 bits of physical x87 register `index` (0..7)."""
    significand, exponent = _UNPACK(cpu, _OFFSET + 16 * index)
    return int(exponent << 64 | significand)


def write_fp(cpu: Any, index: int, value: int) -> None:
    """Set the 80 bits of physical x87 register `index` (0..7)."""
    _PACK(cpu, _OFFSET + 16 * index, value & _SIGNIFICAND, value >> 64)


_VECTORS: Final = CpuState.ymm.offset
_VECTOR_SIZE: Final = 32


def read_vector(cpu: Any, index: int, size: int) -> int:
    """The low `size` bytes (16 or 32) of vector register `index` (0..7)."""
    start = _VECTORS + _VECTOR_SIZE * index
    return int.from_bytes(memoryview(cpu).cast("B")[start : start + size], "little")


def write_vector(cpu: Any, index: int, size: int, value: int) -> None:
    """Set the low `size` bytes (16 or 32) of vector register `index` (0..7); those above stay."""
    start = _VECTORS + _VECTOR_SIZE * index
    memoryview(cpu).cast("B")[start : start + size] = value.to_bytes(size, "little")

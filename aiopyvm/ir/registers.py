"""Names that `get` and `set` accept, and their widths in bits: fields of `isa.state.CpuState`."""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.types import V128, V256, Type, integer

_GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_FLAGS = ("cf", "pf", "af", "zf", "sf", "of", "df")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")

GENERAL: Final = frozenset(_GENERAL)
FLAGS: Final = frozenset(_FLAGS)

REGISTERS: Final[dict[str, int]] = {
    **dict.fromkeys(_GENERAL, 32),
    **dict.fromkeys(_FLAGS, 1),
    "system_flags": 32,
    **dict.fromkeys(_SEGMENTS, 16),
    **{f"{name}_{part}": 32 for name in _SEGMENTS for part in ("base", "limit", "access")},
    "fcw": 16,
    "fsw": 16,
    "ftop": 8,
    "fvalid": 8,
    "fop": 16,
    "fip": 32,
    "fcs": 16,
    "fds": 16,
    "fdp": 32,
    "portable_math": 8,
    "mxcsr": 32,
    **{f"xmm{n}": 128 for n in range(8)},
    **{f"ymm{n}": 256 for n in range(8)},  # XMM n is the lower half of YMM n
}

# What one of them shows of another: whoever sets the one changes the other.
OVERLAPS: Final[dict[str, str]] = {
    **{f"xmm{n}": f"ymm{n}" for n in range(8)},
    **{f"ymm{n}": f"xmm{n}" for n in range(8)},
}
VECTORS: Final = frozenset(OVERLAPS)

TYPES: Final[dict[str, Type]] = {
    name: {128: V128, 256: V256}[bits] if name in VECTORS else integer(bits) for name, bits in REGISTERS.items()
}

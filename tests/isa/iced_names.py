"""Where iced-x86 and the manual's table name things differently, and what the table leaves out on purpose."""

from __future__ import annotations

from typing import Final

# iced's mnemonic -> ours, where it is not simply the same word.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "WAIT": ("fwait",),
}

# CPUID features of a Pentium II without MMX: an instruction that needs nothing else belongs into the table.
GENERAL_PURPOSE_FEATURES: Final = frozenset(
    {
        *("INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486"),
        *("FPU", "FPU287", "FPU387", "CPUID", "CMOV", "CX8", "TSC", "MSR", "RDPMC", "MULTIBYTENOP", "PAUSE"),
    }
)

# What iced decodes and the table does not have: iced's mnemonic or code -> the reason.
HOLES: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("F2XM1", "FYL2X", "FYL2XP1", "FPTAN", "FPATAN", "FSIN", "FCOS", "FSINCOS"),
        "x87 transcendental functions are not implemented",
    ),
}

# What we decode and iced does not: our mnemonic -> the reason.
OURS_ALONE: Final[dict[str, str]] = {}

"""Where iced-x86 and the manual's table name things differently, and what the table leaves out on purpose."""

from __future__ import annotations

from typing import Final

# iced's mnemonic -> ours, where it is not simply the same word.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "WAIT": ("fwait",),
    "SAL": ("sal", "shl"),
    "RESERVEDNOP": ("nop",),
}

# CPUID features of a Pentium II without MMX, and what is there of later ones: an instruction that needs nothing else
# belongs into the table.
GENERAL_PURPOSE_FEATURES: Final = frozenset(
    {
        *("MMX", "SSSE3", "AES", "PCLMULQDQ", "SHA", "AVX", "AVX2", "FMA", "F16C"),
        *("INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486"),
        *("FPU", "FPU287", "FPU387", "CPUID", "CMOV", "CX8", "TSC", "MSR", "RDPMC", "MULTIBYTENOP", "PAUSE"),
        *(
            "POPCNT",
            "LZCNT",
            "BMI1",
            "BMI2",
            "MOVBE",
            "ADX",
            "RDRAND",
            "RDSEED",
            "RDTSCP",
            "RDPID",
            "CLFLUSHOPT",
            "CLWB",
        ),
    }
)

# What iced decodes and the table does not have: iced's mnemonic or code -> the reason.
HOLES: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("F2XM1", "FYL2X", "FYL2XP1", "FPTAN", "FPATAN", "FSIN", "FCOS", "FSINCOS"),
        "x87 transcendental functions are not implemented",
    ),
}

# What iced gives a later meaning: iced's mnemonic -> ours, and the reason.
INSTEAD: Final[dict[str, tuple[str, str]]] = {
    "WBNOINVD": ("wbinvd", "without WBNOINVD the F3 before WBINVD means nothing"),
    **dict.fromkeys(
        ("PREFETCHIT0", "PREFETCHIT1", "CLDEMOTE"),
        ("nop", "a hint where the processor has it, NOP where it has not"),
    ),
    **dict.fromkeys(
        ("PREFETCH", "PREFETCHWT1", *(f"PREFETCHRESERVED{n}" for n in range(4, 8))),
        ("prefetchw", "all of 0F 0D is the same hint to a processor that has only PREFETCHW"),
    ),
    "RDSSPD": ("nop", "NOP without CET"),
}

# Registers of which at most 16 bits are read: the manual says r/m16 where iced names the 32-bit register.
READS_16_BITS: Final = ("arpl", "verr", "verw", "mov", "lldt", "ltr", "lmsw", "nop")

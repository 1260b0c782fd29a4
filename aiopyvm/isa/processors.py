"""The processors that a machine may have, by name.

Each is one that there was, or what a level of the x86-64 ABI asks of 32-bit code; only what a program sees of it is
modelled: features, signature, leaves of CPUID. An instruction that a processor lacks is #UD. `max` has all that is
implemented, whatever the host has.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.isa.cpuid import EXTENDED, FEATURES, WITHOUT_BIT, Cache, Processor

# Features of which the instruction table does not have every instruction: nothing announces them. SYSENTER has no
# system behind it.
MISSING: Final = ("sep", "vaes", "vpclmulqdq", "xsaves")

_INTEL: Final = b"GenuineIntel"
_I486: Final = ("fpu",)
_PENTIUM3: Final = (*_I486, "tsc", "msr", "cx8", "sep", "cmov", "mmx", "fxsr", "sse", "nopl")
_PENTIUM4: Final = (*_PENTIUM3, "clflush", "sse2")
_V2: Final = (
    *_PENTIUM4, "pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "lahf_lm", "3dnowprefetch", "rdtscp",
)  # fmt: skip
_V3: Final = (
    *_V2, "pclmulqdq", "fma", "movbe", "aes", "xsave", "osxsave", "avx", "f16c", "rdrand", "bmi1", "avx2", "bmi2",
    "erms", "abm",
)  # fmt: skip
_KIB: Final = 1 << 10
_CACHES: Final = (
    Cache(1, 1, 32 * _KIB, 8),
    Cache(2, 1, 32 * _KIB, 8),
    Cache(3, 2, 256 * _KIB, 8),
    Cache(3, 3, 8192 * _KIB, 16),
)
_SEE_LEAF_4: Final = (0x00FF0001, 0, 0, 0)  # leaf 2: it is leaf 4 that tells of caches


def _ordered(features: tuple[str, ...]) -> tuple[str, ...]:
    """Those of which everything is there, in the order of /proc/cpuinfo: that of the bits."""
    return tuple(name for name in (*FEATURES, *WITHOUT_BIT) if name in features and name not in MISSING)


def _level(name: str, model: int, stepping: int, features: tuple[str, ...], *, whole: bool = False) -> Processor:
    """A processor of today's kind, which says its name in full."""
    brand, told = b"aiopyvm %s processor" % name.encode(), _ordered(features)
    last = 13 if "xsave" in told else 7
    return Processor(name, _INTEL, 6, model, stepping, brand, told, last, EXTENDED + 8, _SEE_LEAF_4, _CACHES, 36, whole)


_ALL: Final = (
    # 486 DX4: the first with CPUID and an FPU on every copy.
    Processor("i486", _INTEL, 4, 8, 3, b"486 DX/4", _ordered(_I486), 1),
    Processor(
        "pentium3", _INTEL, 6, 8, 10, b"Pentium III (Coppermine)", _ordered(_PENTIUM3), 2,
        descriptors=(0x03020101, 0, 0, 0x0C040882), address_bits=36,
    ),
    Processor(
        "pentium4", _INTEL, 15, 2, 9, b"Intel(R) Pentium(R) 4 CPU 2.80GHz", _ordered(_PENTIUM4), 2, EXTENDED + 4,
        descriptors=(0x665B5101, 0, 0, 0x007A7040), address_bits=36,
    ),
    _level("x86-64-v2-32", 26, 5, _V2),  # as Nehalem
    _level("x86-64-v3-32", 60, 3, _V3),  # as Haswell
    _level("max", 143, 8, (*FEATURES, *WITHOUT_BIT), whole=True),
)  # fmt: skip
PROCESSORS: Final = {processor.name: processor for processor in _ALL}
MAX: Final = PROCESSORS["max"]
DEFAULT: Final = PROCESSORS["x86-64-v3-32"]


def find_processor(name: str) -> Processor:
    """The processor of that name; "default" is the newest one of which everything is there.

    Raises TypeError for what is no str, ValueError for a name that is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"cpu is str, not {name!r}")
    processor = DEFAULT if name == "default" else PROCESSORS.get(name)
    if processor is None:
        raise ValueError(f"cpu must be one of default, {', '.join(PROCESSORS)}, not {name!r}")
    return processor

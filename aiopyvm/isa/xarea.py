"""The XSAVE area (Intel SDM vol. 1, chapter 13): where in memory it has what, and what CPUID tells of it.

Its first 512 bytes are the FXSAVE area. A header follows: XSTATE_BV and XCOMP_BV, of 64 bits each, and 48 bytes of
zeros. Then come the extended components, of which there is one: the upper halves of the YMM registers. It stands at the
same place in the standard format and in the compacted one. Everything that reads or writes such an image (FXSAVE and
XSAVE, signal frames) has its layout from here; offsets and sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

# Components of the state: their bits in XCR0, in XSTATE_BV, in EDX:EAX of XSAVE.
X87: Final = 1
SSE: Final = 2
AVX: Final = 4
XCR0: Final = X87 | SSE | AVX  # what the system enables

FXSAVE_SIZE: Final = 512
FDP: Final = 16
MXCSR: Final = 24  # and behind it the bits that it has
MXCSR_MASK: Final = 0xFFFF  # the bits that MXCSR has
STACK: Final = 32  # ST(0), the others behind it
XMM: Final = 160  # XMM0, the others behind it
STEP: Final = 16  # from one register to the next
REGISTERS: Final = 8
RESERVED: Final = 416  # from here on FXSAVE writes nothing
SOFTWARE: Final = 464  # from here on nothing is ever defined: a system's own
HEADER: Final = FXSAVE_SIZE
XCOMP_BV: Final = HEADER + 8
HEADER_SIZE: Final = 64
YMM_HIGH: Final = HEADER + HEADER_SIZE  # the upper half of YMM0, the others behind it
YMM_HIGH_SIZE: Final = 256  # for the sixteen registers of 64-bit mode
XSAVE_SIZE: Final = YMM_HIGH + YMM_HIGH_SIZE
COMPACTED: Final = 1 << 63  # in XCOMP_BV

_LEAF_FEATURES: Final = ("xsaveopt", "xsavec", "xgetbv1", "xsaves")  # CPUID.(0DH, 1):EAX, bit 0 first


def leaf(features: Collection[str], subleaf: int) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of CPUID leaf 0DH for a processor with `features`, as /proc/cpuinfo calls them.

    All zero for one without "xsave". Source: Intel SDM vol. 2A, CPUID, leaf 0DH.
    """
    if "xsave" not in features:
        return (0, 0, 0, 0)
    enabled, size = (XCR0, XSAVE_SIZE) if "avx" in features else (X87 | SSE, YMM_HIGH)
    if subleaf == 0:
        return (enabled, size, size, 0)
    if subleaf == 1:
        known = sum(1 << bit for bit, name in enumerate(_LEAF_FEATURES) if name in features)
        return (known, size if "xsavec" in features or "xsaves" in features else 0, 0, 0)
    return (YMM_HIGH_SIZE, YMM_HIGH, 0, 0) if subleaf == 2 and enabled & AVX else (0, 0, 0, 0)

"""What CPUID tells: the features that are announced, their bits, the leaves made of them (Intel SDM vol. 2A, CPUID).

Features are called as /proc/cpuinfo calls them. What always holds: a feature is announced (`ANNOUNCED`) only where the
instruction table has every instruction of it; HWCAP and /proc/cpuinfo tell the same as CPUID.
"""

from __future__ import annotations

from typing import Final

EAX, EBX, ECX, EDX = range(4)
# name: leaf, register, bit
FEATURES: Final = {
    **{
        name: (1, EDX, bit)
        for name, bit in {
            "fpu": 0, "tsc": 4, "msr": 5, "cx8": 8, "sep": 11, "cmov": 15, "clflush": 19, "mmx": 23, "fxsr": 24,
            "sse": 25, "sse2": 26,
        }.items()
    },
    **{
        name: (1, ECX, bit)
        for name, bit in {
            "pni": 0, "pclmulqdq": 1, "ssse3": 9, "fma": 12, "sse4_1": 19, "sse4_2": 20, "movbe": 22, "popcnt": 23,
            "aes": 25, "xsave": 26, "osxsave": 27, "avx": 28, "f16c": 29, "rdrand": 30,
        }.items()
    },
    **{
        name: (7, EBX, bit)
        for name, bit in {
            "bmi1": 3, "avx2": 5, "bmi2": 8, "erms": 9, "rdseed": 18, "adx": 19, "clflushopt": 23, "clwb": 24,
            "sha_ni": 29,
        }.items()
    },
    **{
        name: (7, ECX, bit)
        for name, bit in {"vaes": 9, "vpclmulqdq": 10, "rdpid": 22, "movdiri": 27}.items()
    },
    **{name: (0x80000001, ECX, bit) for name, bit in {"lahf_lm": 0, "abm": 5, "3dnowprefetch": 8}.items()},
    "rdtscp": (0x80000001, EDX, 27),
    "xsaveopt": (0xD, EAX, 0),
    "xsavec": (0xD, EAX, 1),
    "xgetbv1": (0xD, EAX, 2),
    "xsaves": (0xD, EAX, 3),
}  # fmt: skip
WITHOUT_BIT: Final = ("nopl",)  # NOP with an operand (0F 18 to 0F 1F): Linux finds it out by trying
ANNOUNCED: Final = (
    "fpu", "tsc", "cx8", "cmov", "clflush", "movbe", "popcnt", "rdrand", "bmi1", "bmi2", "rdseed", "adx", "clflushopt",
    "clwb", "rdpid", "movdiri", "abm", "3dnowprefetch", "rdtscp",
)  # fmt: skip

VENDOR: Final = b"GenuineIntel"
BRAND: Final = b"aiopyvm IA-32 processor"
FAMILY, MODEL, STEPPING = 6, 5, 2
LINE: Final = 64  # bytes that CLFLUSH flushes
LAST: Final = 7
LAST_EXTENDED: Final = 0x80000008
_CACHES: Final = (0x03020101, 0, 0, 0x0C040843)  # leaf 2: TLBs, 16 + 16 KiB first-level, 512 KiB second-level cache
_ADDRESS_BITS: Final = 32 << 8 | 32

Leaf = tuple[int, int, int, int]


def _flags(leaf: int, register: int) -> int:
    """The announced features of a register."""
    where = [FEATURES[name] for name in ANNOUNCED]
    return sum(1 << bit for found, which, bit in where if (found, which) == (leaf, register))


def _words(text: bytes) -> list[int]:
    return [int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4)]


def _make_leaves() -> dict[int, Leaf]:
    b, d, c = _words(VENDOR)
    brand = _words(BRAND.ljust(48, b"\0"))
    signature = MODEL >> 4 << 16 | FAMILY << 8 | (MODEL & 15) << 4 | STEPPING
    names = {0x80000002 + n: (brand[4 * n], brand[4 * n + 1], brand[4 * n + 2], brand[4 * n + 3]) for n in range(3)}
    return {
        0: (LAST, b, c, d),
        1: (signature, LINE // 8 << 8, _flags(1, ECX), _flags(1, EDX)),
        2: _CACHES,
        3: (0, 0, 0, 0),
        4: (0, 0, 0, 0),
        5: (0, 0, 0, 0),
        6: (0, 0, 0, 0),
        7: (0, _flags(7, EBX), _flags(7, ECX), 0),
        0x80000000: (LAST_EXTENDED, 0, 0, 0),
        0x80000001: (0, 0, _flags(0x80000001, ECX), _flags(0x80000001, EDX)),
        **names,
        0x80000005: (0, 0, 0, 0),
        0x80000006: (0, 0, 512 << 16 | 6 << 12 | LINE, 0),  # second-level cache: KiB, ways, bytes of a line
        0x80000007: (0, 0, 0, 0),
        LAST_EXTENDED: (_ADDRESS_BITS, 0, 0, 0),
    }


LEAVES: Final = _make_leaves()
OTHERS: Final = LEAVES[LAST]  # a leaf above the last gives the last
WITH_SUBLEAVES: Final = 7  # of which only 0 tells something


def cpuid(leaf: int, subleaf: int) -> Leaf:
    """EAX, EBX, ECX, EDX for EAX = `leaf` and ECX = `subleaf`."""
    number = leaf if leaf in LEAVES else LAST
    return (0, 0, 0, 0) if number == WITH_SUBLEAVES and subleaf else LEAVES[number]


def hwcap() -> int:
    """AT_HWCAP: CPUID.1:EDX."""
    return LEAVES[1][EDX]

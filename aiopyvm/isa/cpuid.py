"""What CPUID tells of a processor: the features that there are, their bits, and the leaves (Intel SDM vol. 2A, CPUID).

Features are called as /proc/cpuinfo calls them. A `Processor` is a maker's signature and a set of features; all else
follows: its leaves, AT_HWCAP, AT_PLATFORM, and which rows of the instruction table are instructions (`Row.cpuid`). The
processors to choose from are in `isa/processors.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

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

LINE: Final = 64  # bytes that CLFLUSH flushes
EXTENDED: Final = 0x80000000  # the first leaf of the extended ones
_BRAND: Final = EXTENDED + 2  # the first of three leaves
_BRAND_BYTES: Final = 48
_ANY: Final = -1  # a leaf that does not look at ECX

Registers = tuple[int, int, int, int]


class Cache(NamedTuple):
    """A cache as leaf 4 tells it. `kind`: 1 data, 2 instructions, 3 both; `size` in bytes."""

    kind: int
    level: int
    size: int
    ways: int

    @property
    def registers(self) -> Registers:
        """The subleaf: lines of `LINE` bytes, shared with no other processor."""
        sets = self.size // (self.ways * LINE)
        initializing = 1 << 8
        return initializing | self.level << 5 | self.kind, (self.ways - 1) << 22 | LINE - 1, sets - 1, 0


class Entry(ctypes.Structure):
    """One answer of CPUID, for generated code: it is for `leaf` where ECX & `mask` is `subleaf`."""

    _fields_ = (
        ("leaf", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("subleaf", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("registers", ctypes.c_uint32 * 4),  # EAX, EBX, ECX, EDX
    )


ENTRIES: Final = 32  # of a processor's table


class Processor:
    """One kind of processor; never changed.

    `last` and `last_extended` (0: there is none) are the highest leaves; `descriptors` the bytes of leaf 2 as words;
    `address_bits` are those of physical addresses. `features` are those that CPUID and /proc/cpuinfo show. `whole`: it
    executes every row of the instruction table, announced or not.
    """

    def __init__(
        self,
        name: str,
        vendor: bytes,
        family: int,
        model: int,
        stepping: int,
        brand: bytes,
        features: tuple[str, ...],
        last: int,
        last_extended: int = 0,
        descriptors: Registers = (0, 0, 0, 0),
        caches: tuple[Cache, ...] = (),
        address_bits: int = 32,
        whole: bool = False,
    ) -> None:
        self.name = name
        self.vendor = vendor
        self.family, self.model, self.stepping = family, model, stepping
        self.brand = brand
        self.features = features
        self.last, self.last_extended = last, last_extended
        self.descriptors = descriptors
        self.caches = caches
        self.address_bits = address_bits
        self.whole = whole

    @cached_property
    def allowed(self) -> frozenset[str] | None:
        """The features whose rows it executes; None: all rows."""
        return None if self.whole else frozenset(self.features)

    @property
    def hwcap(self) -> int:
        """AT_HWCAP: CPUID.1:EDX."""
        return self.cpuid(1, 0)[EDX]

    @property
    def platform(self) -> bytes:
        """AT_PLATFORM, and the machine of uname(2): i486 to i686 (arch/x86/kernel/setup.c)."""
        return b"i%d86" % min(self.family, 6)

    def cpuid(self, leaf: int, subleaf: int) -> Registers:
        """EAX, EBX, ECX, EDX for EAX = `leaf` and ECX = `subleaf`; a leaf that there is not is the last basic one."""
        there = (leaf, _ANY) in self.leaves or (leaf, 0) in self.leaves
        number = leaf if there else self.last
        return self.leaves.get((number, _ANY)) or self.leaves.get((number, subleaf), (0, 0, 0, 0))

    @cached_property
    def leaves(self) -> dict[tuple[int, int], Registers]:
        """All answers by leaf and subleaf; subleaves that are not there are 0."""
        return {**dict(self._basic()), **dict(self._extended())}

    @cached_property
    def table(self) -> ctypes.Array[Entry]:
        """The same for generated code; entries that are not needed give what there is anyway."""
        rows = [
            Entry(leaf, 0 if subleaf == _ANY else 0xFFFFFFFF, max(subleaf, 0), 0, registers)
            for (leaf, subleaf), registers in self.leaves.items()
        ]
        rows.sort(key=lambda row: row.leaf != self.last)  # the first one is of the leaf that unknown leaves give
        return (Entry * ENTRIES)(*rows, *[rows[0]] * (ENTRIES - len(rows)))

    def _bits(self, leaf: int, register: int) -> int:
        """The features of a register."""
        where = [FEATURES[name] for name in self.features if name not in WITHOUT_BIT]
        return sum(1 << bit for found, which, bit in where if (found, which) == (leaf, register))

    def _basic(self) -> Iterator[tuple[tuple[int, int], Registers]]:
        b, d, c = _words(self.vendor)
        yield (0, _ANY), (self.last, b, c, d)
        high = self.model >> 4 << 16 if self.family in (6, 15) else 0
        signature = high | self.family << 8 | (self.model & 15) << 4 | self.stepping
        line = LINE // 8 << 8 if "clflush" in self.features else 0
        yield (1, _ANY), (signature, line, self._bits(1, ECX), self._bits(1, EDX))
        for leaf in range(2, self.last + 1):
            if leaf == 2:
                yield (2, _ANY), self.descriptors
            elif leaf == 4:
                yield from (((4, n), cache.registers) for n, cache in enumerate(self.caches))
                yield (4, len(self.caches)), (0, 0, 0, 0)
            elif leaf == 13:
                from aiopyvm.isa import xarea  # few programs ask

                yield from (((13, n), xarea.leaf(self.features, n)) for n in range(3))
            elif leaf == 7:
                yield (7, 0), (0, self._bits(7, EBX), self._bits(7, ECX), 0)
            else:
                yield (leaf, _ANY), (0, 0, 0, 0)

    def _extended(self) -> Iterator[tuple[tuple[int, int], Registers]]:
        brand = _words(self.brand.ljust(_BRAND_BYTES, b"\0"))
        second = next((cache for cache in self.caches if cache.level == 2), None)
        for leaf in range(EXTENDED, self.last_extended + 1):
            registers = (0, 0, 0, 0)
            if leaf == EXTENDED:
                registers = (self.last_extended, 0, 0, 0)
            elif leaf == EXTENDED + 1:
                registers = (0, 0, self._bits(leaf, ECX), self._bits(leaf, EDX))
            elif _BRAND <= leaf < _BRAND + 3:
                at = 4 * (leaf - _BRAND)
                registers = (brand[at], brand[at + 1], brand[at + 2], brand[at + 3])
            elif leaf == EXTENDED + 6 and second is not None:  # size in KiB, ways (6: eight), bytes of a line
                registers = (0, 0, second.size >> 10 << 16 | 6 << 12 | LINE, 0)
            elif leaf == EXTENDED + 8:
                registers = (32 << 8 | self.address_bits, 0, 0, 0)
            yield (leaf, _ANY), registers


def _words(text: bytes) -> list[int]:
    return [int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4)]

"""Types of IR values: integers of 1 to 256 bits, binary floating point, and (by `lanes`) vectors of either.

The evaluator holds every value as a non-negative Python int: an integer modulo 2**bits, a float as its encoded bits. A
vector is the concatenation of its lanes, lane 0 lowest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final, Literal


class Type:
    """`kind` "i" or "f"; `bits` of one lane; number of `lanes`; `size`: bits of the whole value; `mask`: all ones of
    that size.

    There is one object of each type: compare with `is` or `==`, make with `integer`, `floating`.

    """

    __slots__ = ("bits", "kind", "lanes", "mask", "size")

    def __init__(self, kind: Literal["i", "f"], bits: int, lanes: int = 1) -> None:
        self.kind = kind
        self.bits = bits
        self.lanes = lanes
        self.size = bits * lanes
        self.mask = (1 << self.size) - 1

    def __repr__(self) -> str:
        return f"{self.kind}{self.bits}" if self.lanes == 1 else f"<{self.lanes} x {self.kind}{self.bits}>"

    @staticmethod
    def vector(lane: Type, lanes: int) -> Type:
        """The type of vectors of `lanes` such lanes (1: the lane's own)."""
        return integer(lane.bits, lanes) if lane.kind == "i" else floating(lane.bits, lanes)

    @property
    def lane(self) -> Type:
        """The type of one lane."""
        return integer(self.bits) if self.kind == "i" else floating(self.bits)

    def split(self, value: int) -> list[int]:
        """The lanes of a value of this type."""
        mask = (1 << self.bits) - 1
        return [value >> shift & mask for shift in range(0, self.size, self.bits)]

    def join(self, lanes: Iterable[int]) -> int:
        """The value that has these lanes (0 <= lane < 2**bits)."""
        value = 0
        for number, lane in enumerate(lanes):
            value |= lane << number * self.bits
        return value

    def splat(self, lane: int) -> int:
        """The value all of whose lanes are `lane`, modulo 2**bits."""
        return self.join([lane & (1 << self.bits) - 1] * self.lanes)


@cache
def _only(kind: Literal["i", "f"], bits: int, lanes: int) -> Type:
    """The one object of a type."""
    return Type(kind, bits, lanes)


def integer(bits: int, lanes: int = 1) -> Type:
    """The integer type of `bits` (1..256) bits, or of vectors of them."""
    if not 1 <= bits <= 256:
        raise ValueError(f"no integer type of {bits} bits")
    return _only("i", bits, lanes)


def floating(bits: int, lanes: int = 1) -> Type:
    """The binary floating-point type of 32, 64 or 80 bits, or of vectors of them."""
    if bits not in (32, 64, 80):
        raise ValueError(f"no floating-point type of {bits} bits")
    return _only("f", bits, lanes)


I1: Final = integer(1)
I8: Final = integer(8)
I16: Final = integer(16)
I32: Final = integer(32)
I64: Final = integer(64)
I80: Final = integer(80)
I128: Final = integer(128)
F32: Final = floating(32)
F64: Final = floating(64)
F80: Final = floating(80)
V128: Final = integer(64, 2)  # an XMM register
V256: Final = integer(64, 4)  # a YMM register
FLOATS: Final = {32: F32, 64: F64, 80: F80}

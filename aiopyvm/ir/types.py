"""Types of IR values: integers of 1 to 128 bits, binary floating point, and (by `lanes`) vectors of either.

The evaluator holds every value as a non-negative Python int: an integer modulo 2**bits, a float as its encoded bits. A vector is
the concatenation of its lanes, lane 0 lowest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Type:
    """`kind` "i" or "f"; `bits` of one lane; number of `lanes`."""

    kind: Literal["i", "f"]
    bits: int
    lanes: int = 1

    @property
    def size(self) -> int:
        """Bits of the whole value."""
        return self.bits * self.lanes

    @property
    def mask(self) -> int:
        """All ones of that size."""
        return (1 << self.size) - 1

    def __str__(self) -> str:
        return f"{self.kind}{self.bits}" if self.lanes == 1 else f"<{self.lanes} x {self.kind}{self.bits}>"


@cache
def integer(bits: int) -> Type:
    """The integer type of `bits` (1..128) bits."""
    if not 1 <= bits <= 128:
        raise ValueError(f"no integer type of {bits} bits")
    return Type("i", bits)


I1: Final = integer(1)
I8: Final = integer(8)
I16: Final = integer(16)
I32: Final = integer(32)
I64: Final = integer(64)
I80: Final = integer(80)
I128: Final = integer(128)
F32: Final = Type("f", 32)
F64: Final = Type("f", 64)
F80: Final = Type("f", 80)
FLOATS: Final = {32: F32, 64: F64, 80: F80}

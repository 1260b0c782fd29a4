"""The comparisons of PCMPESTRx and PCMPISTRx (Intel SDM vol. 1, "SSE4.2 Text and String Processing").

What gives a mask, PCMPxSTRM, returns IntRes2 in bits 0-15 of 18, in bit 16 whether the second operand ends within the
register (ZF), in bit 17 whether the first does (SF). What gives an index, PCMPxSTRI, returns that in bits 1-5 of 16, OF
in bit 0, and in bits 8-15 the flags as LAHF has them: it is in every pass of a loop that this is put together.
`control` is the instruction's immediate.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.helpers import helper
from aiopyvm.ir.pure import signed
from aiopyvm.ir.types import Type, integer

MASK: Final = integer(18)  # what the helpers return
INDEX: Final = integer(16)
CARRY, ZERO, SIGN, OVERFLOW = 8, 14, 15, 0  # where INDEX has flags
_ONE: Final = 1 << 9  # LAHF has it so
LAST: Final = 0x40  # of `control`: the last index
_BYTES: Final = integer(8, 16)
_WORDS: Final = integer(16, 8)


def elements(control: int) -> Type:
    """What the operands are: 16 bytes or 8 words."""
    return _WORDS if control & 1 else _BYTES


def _equal_any(x: list[int], y: list[int], count: int) -> int:
    return sum(1 << j for j, element in enumerate(y) if element in x)


def _ranges(x: list[int], y: list[int], count: int) -> int:
    pairs = list(zip(x[::2], x[1::2], strict=False))
    return sum(1 << j for j, element in enumerate(y) if any(low <= element <= high for low, high in pairs))


def _equal_each(x: list[int], y: list[int], count: int) -> int:
    ours, theirs = ([*values, *[None] * (count - len(values))] for values in (x, y))
    return sum(1 << i for i in range(count) if ours[i] == theirs[i])


def _equal_ordered(x: list[int], y: list[int], count: int) -> int:
    return sum(1 << j for j in range(count) if x[: count - j] == y[j : j + len(x[: count - j])])


_AGGREGATIONS: Final = (_equal_any, _ranges, _equal_each, _equal_ordered)


def _compared(x: list[int], y: list[int], control: int) -> int:
    """IntRes2 and the two flags, of the elements that are valid."""
    type_ = elements(control)
    count, ends = type_.lanes, (len(y) < type_.lanes) << 16 | (len(x) < type_.lanes) << 17
    if control & 2:
        x, y = ([signed(value, type_.bits) for value in values] for values in (x, y))
    result = _AGGREGATIONS[control >> 2 & 3](x, y, count)
    if control & 0x10:
        result ^= (1 << (len(y) if control & 0x20 else count)) - 1
    return result | ends


@helper()
def pcmpestr(x: int, y: int, eax: int, edx: int, control: int) -> int:
    """Compare strings of |EAX| and |EDX| elements, at most as many as there are."""
    type_ = elements(control)
    lengths = (min(abs(signed(length, 32)), type_.lanes) for length in (eax, edx))
    (ours, theirs) = (type_.split(value)[:length] for value, length in zip((x, y), lengths, strict=True))
    return _compared(ours, theirs, control)


@helper()
def pcmpistr(x: int, y: int, control: int) -> int:
    """Compare strings that end before their first 0."""
    ours, theirs = (elements(control).split(value) for value in (x, y))
    return _compared(_until_zero(ours), _until_zero(theirs), control)


@helper()
def pcmpestri(x: int, y: int, eax: int, edx: int, control: int) -> int:
    """As `pcmpestr`."""
    return _index(pcmpestr.function(x, y, eax, edx, control), control)


@helper()
def pcmpistri(x: int, y: int, control: int) -> int:
    """As `pcmpistr`."""
    return _index(pcmpistr.function(x, y, control), control)


def _index(compared: int, control: int) -> int:
    """The number of the last or the first element that is set, of all elements where none is, and the flags."""
    bits, ends = compared & 0xFFFF, compared >> 16
    flags = _ONE | ends << ZERO
    if not bits:
        return elements(control).lanes << 1 | flags
    index = bits if control & LAST else bits & -bits
    return (index.bit_length() - 1) << 1 | flags | 1 << CARRY | (bits & 1) << OVERFLOW


def _until_zero(values: list[int]) -> list[int]:
    return values[: values.index(0)] if 0 in values else values


__all__ = [
    "CARRY",
    "INDEX",
    "MASK",
    "OVERFLOW",
    "SIGN",
    "ZERO",
    "elements",
    "pcmpestr",
    "pcmpestri",
    "pcmpistr",
    "pcmpistri",
]

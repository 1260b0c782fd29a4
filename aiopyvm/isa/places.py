"""Operands as places: what an instruction's function loads from and stores to.

A place knows its `width` in bits. Effective addresses are computed when a place is made, at the instruction's entry, so that a
function may write registers in any order. Only memory places may fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import Type, integer
from aiopyvm.isa.state import GPR32, SEGMENTS

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer


class RegisterPlace:
    """A general register, or its low word, or one of its low two bytes. 16- and 8-bit stores keep the other bits."""

    __slots__ = ("b", "name", "shift", "width")

    def __init__(self, b: Tracer, number: int, width: int) -> None:
        self.b = b
        self.width = width
        high_byte = width == 8 and number >= 4
        self.name = GPR32[number - 4 if high_byte else number]
        self.shift = 8 if high_byte else 0

    def load(self) -> Value:
        """The register's value."""
        return (self.b.get(self.name) >> self.shift).trunc(self.width)

    def store(self, value: Value | int) -> None:
        """Set the register's value."""
        new = self.b.lift(value, integer(self.width))
        if self.width != 32:
            mask = ((1 << self.width) - 1) << self.shift
            new = (self.b.get(self.name) & ~mask & 0xFFFFFFFF) | (new.zext(32) << self.shift)
        self.b.set(self.name, new)

    def prepare_store(self) -> None:
        """Fault now if `store` would."""


class SegmentPlace:
    """A segment register's selector. Storing is `Tracer.load_segment`: it reads a descriptor and may fault."""

    __slots__ = ("b", "name", "width")

    def __init__(self, b: Tracer, number: int) -> None:
        self.b = b
        self.width = 16
        self.name = SEGMENTS[number]

    def load(self) -> Value:
        """The selector."""
        return self.b.get(self.name)


class MemoryPlace:
    """Memory at `segment:offset`; `offset` (i32, the effective address) is fixed at entry."""

    __slots__ = ("b", "offset", "segment", "width")

    def __init__(self, b: Tracer, segment: str, offset: Value, width: int) -> None:
        self.b = b
        self.segment = segment
        self.offset = offset
        self.width = width

    def load(self, width: int = 0, at: int = 0) -> Value:
        """Load `width` bits (the place's own where 0) at byte `at` of the place."""
        return self.load_as(integer(width or self.width), at)

    def load_as(self, type_: Type, at: int = 0) -> Value:
        """Load a value of any type at byte `at` of the place."""
        return self.b.load(self._linear(type_.size // 8, at, write=False), type_)

    def store(self, value: Value | int, at: int = 0) -> None:
        """Store `value` (an int: of the place's width) at byte `at` of the place."""
        stored = value if isinstance(value, Value) else self.b.const(value, integer(self.width))
        self.b.store(self._linear(stored.bits // 8, at, write=True), stored)

    def prepare_store(self, size: int = 0, at: int = 0) -> None:
        """Fault now if storing `size` bytes (the place's own where 0) would."""
        n = size or self.width // 8
        self.b.probe(self._linear(n, at, write=True), n, True)

    def _linear(self, size: int, at: int, *, write: bool) -> Value:
        return self.b.linear(self.segment, self.offset + at if at else self.offset, size, write=write)


class ImmediatePlace:
    """An immediate. `int()` works where its row marks it static, or where it is concrete."""

    __slots__ = ("value", "width")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.width = value.bits

    def load(self) -> Value:
        """The constant."""
        return self.value

    def __index__(self) -> int:
        return self.value.__index__()


class StackPlace:
    """ST(i) of the x87. `number` is static; the physical register depends on TOP."""

    __slots__ = ("b", "number", "width")

    def __init__(self, b: Tracer, number: int) -> None:
        self.b = b
        self.number = number
        self.width = 80

    def __index__(self) -> int:
        return self.number


Place = RegisterPlace | SegmentPlace | MemoryPlace | ImmediatePlace | StackPlace

__all__ = ["ImmediatePlace", "MemoryPlace", "Place", "RegisterPlace", "SegmentPlace", "StackPlace"]

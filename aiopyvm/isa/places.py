"""Operands as places: what an instruction's function loads from and stores to.

A place knows its `width` in bits. Effective addresses are computed when a place is made, at the instruction's entry,
so that a function may write registers in any order. Only memory places and segment registers may fault. A memory
place checks its segment once for each access that it makes, however often that access is repeated, so that
`prepare_store` and `modify` leave nothing that can fault for the `store` behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F80, I64, V128, V256, Type, integer
from aiopyvm.isa.segments import load_segment
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
        value = self.b.get(self.name)
        return (value >> self.shift if self.shift else value).trunc(self.width)

    def modify(self) -> Value:
        """The register's value, for a `store` that follows."""
        return self.load()

    def store(self, value: Value | int) -> None:
        """Set the register's value."""
        new = self.b.lift(value, integer(self.width))
        if self.width != 32:
            mask = ((1 << self.width) - 1) << self.shift
            inserted = new.zext(32) << self.shift if self.shift else new.zext(32)
            new = self.b.get(self.name) & (~mask & 0xFFFFFFFF) | inserted
        self.b.set(self.name, new)

    def prepare_store(self) -> None:
        """Fault now if `store` would."""


class SegmentPlace:
    """A segment register's selector. Storing reads a descriptor and may fault: nothing else may fault behind it."""

    __slots__ = ("b", "name", "width")

    def __init__(self, b: Tracer, number: int) -> None:
        self.b = b
        self.width = 16
        self.name = SEGMENTS[number]

    def load(self) -> Value:
        """The selector."""
        return self.b.get(self.name)

    def store(self, selector: Value) -> None:
        """Load the register with `selector` (i16) and its descriptor; see `aiopyvm.isa.segments`."""
        load_segment(self.b, self.name, selector)


class MemoryPlace:
    """Memory at `segment:offset`; `offset` (i32, the effective address) is fixed at entry."""

    __slots__ = ("_linear_at", "b", "offset", "segment", "width", "wrap")

    def __init__(self, b: Tracer, segment: str, offset: Value, width: int, wrap: int = 0xFFFFFFFF) -> None:
        self.b = b
        self.segment = segment
        self.offset = offset
        self.width = width
        self.wrap = wrap  # mask of the address size
        self._linear_at: dict[tuple[int, int, bool], Value] = {}

    def linear(self, *, write: bool = False) -> Value:
        """The linear address, its segment checked for an access of the place's width."""
        return self._linear(self.width // 8, 0, write=write)

    def load(self, width: int = 0, at: int = 0) -> Value:
        """Load `width` bits (the place's own where 0) at byte `at` of the place."""
        return self.load_as(integer(width or self.width), at)

    def load_as(self, type_: Type, at: int = 0) -> Value:
        """Load a value of any type at byte `at` of the place."""
        return self.b.load(self._linear(type_.size // 8, at, write=False), _memory_type(type_)).cast(type_)

    def modify(self) -> Value:
        """Load for a `store` that follows: faults as a write does, so that the store itself cannot."""
        self.prepare_store()
        return self.b.load(self._linear(self.width // 8, 0, write=True), integer(self.width))

    def store(self, value: Value | int, at: int = 0) -> None:
        """Store `value` (an int: of the place's width) at byte `at` of the place."""
        stored = value if isinstance(value, Value) else self.b.const(value, integer(self.width))
        assert stored.type is not None
        self.b.store(self._linear(stored.bits // 8, at, write=True), stored.cast(_memory_type(stored.type)))

    def prepare_store(self, size: int = 0, at: int = 0) -> None:
        """Fault now if storing `size` bytes (the place's own where 0) would."""
        n = size or self.width // 8
        self.b.probe(self._linear(n, at, write=True), n, True)

    def prepare_load(self) -> None:
        """Fault now if `load` would."""
        size = self.width // 8
        self.b.probe(self._linear(size, 0, write=False), size, False)

    def displaced(self, distance: Value | int) -> MemoryPlace:
        """The place of the same width `distance` (i32) bytes further, wrapped at the address size."""
        return MemoryPlace(self.b, self.segment, self._wrapped(distance), self.width, self.wrap)

    def _wrapped(self, distance: Value | int) -> Value:
        offset = self.offset + distance
        return offset if self.wrap == 0xFFFFFFFF else offset & self.wrap

    def _linear(self, size: int, at: int, *, write: bool) -> Value:
        key = (size, at, write)
        if key not in self._linear_at:
            self._linear_at[key] = self.b.linear(self.segment, self._wrapped(at), size, write=write)
        return self._linear_at[key]


def _memory_type(type_: Type) -> Type:
    """The type in which all values of a size are loaded and stored."""
    if type_.lanes == 1:
        return type_
    return {128: V128, 256: V256}.get(type_.size) or integer(type_.size)


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


class VectorPlace:
    """An XMM or YMM register. A store to XMM keeps the upper half of the YMM register, or, `zeroing`, clears it."""

    __slots__ = ("_value", "b", "load_from", "name", "type", "width", "zeroing")

    def __init__(self, b: Tracer, number: int, width: int, zeroing: bool = False) -> None:
        self.b = b
        self.zeroing = zeroing
        self.width = width
        self.load_from = self
        self._value: Value | None = None
        self.type = V128 if width == 128 else V256
        self.name = f"{'xmm' if width == 128 else 'ymm'}{number}"

    def load(self) -> Value:
        """All of the register as it was at entry, as lanes of 64 bits."""
        if self.load_from is not self:
            return self.load_from.load()
        if self._value is None:
            self._value = self.b.get_vector(self.name, self.type)
        return self._value

    def reading(self, source: VectorPlace) -> VectorPlace:
        """The same register to be set, with the value of another one to be read."""
        place = VectorPlace(self.b, 0, self.width, self.zeroing)
        place.name, place.load_from = self.name, source
        return place

    def store(self, value: Value) -> None:
        """Set the register."""
        whole = value.lanes(64)
        if self.zeroing and self.width == 128:
            name = self.name if self.name[0] == "$" else f"ymm{self.name[-1]}"
            self.b.set_vector(name, whole.shuffle((0, 1, 2, 2), self.b.const(0, V128)))
        else:
            self.b.set_vector(self.name, whole)


class VsibPlace:
    """Elements of memory, each at `offset` (i32, from the base register) plus an element of `index`, scaled."""

    __slots__ = ("b", "index", "offset", "scale", "segment")

    def __init__(self, b: Tracer, segment: str, offset: Value, index: VectorPlace, scale: int) -> None:
        self.b = b
        self.segment = segment
        self.offset = offset
        self.index = index
        self.scale = scale

    def load(self, index: Value, bits: int) -> Value:
        """The element of `bits` whose index is `index` (i32)."""
        shift = self.scale.bit_length() - 1
        offset = self.offset + (index << shift if shift else index)
        return self.b.load(self.b.linear(self.segment, offset, bits // 8, write=False), integer(bits))


class MmxPlace:
    """MM n: the significand of the physical x87 register n. A store sets its exponent to all ones.

    What MMX instructions do to TOP and the tags is their own affair (`isa.mmx`).
    """

    __slots__ = ("b", "number", "width")

    def __init__(self, b: Tracer, number: Value) -> None:
        self.b = b
        self.number = number  # i8
        self.width = 64

    def load(self) -> Value:
        """The register (i64)."""
        return self.b.getfp(self.number).cast(integer(80)).trunc(64)

    def store(self, value: Value) -> None:
        """Set the register."""
        self.b.setfp(self.number, (value.cast(I64).zext(80) | (0xFFFF << 64)).cast(F80))


class SystemPlace:
    """A control or debug register, which no program may access."""

    __slots__ = ("number", "width")

    def __init__(self, number: int) -> None:
        self.number = number
        self.width = 32


Place = (
    RegisterPlace
    | SegmentPlace
    | MemoryPlace
    | ImmediatePlace
    | StackPlace
    | VectorPlace
    | VsibPlace
    | MmxPlace
    | SystemPlace
)
Destination = RegisterPlace | MemoryPlace  # r/m
Source = RegisterPlace | MemoryPlace | ImmediatePlace  # r/m or an immediate

__all__ = [
    "Destination", "ImmediatePlace", "MemoryPlace", "MmxPlace", "Place", "RegisterPlace", "SegmentPlace", "Source",
    "StackPlace", "SystemPlace", "VectorPlace", "VsibPlace",
]  # fmt: skip

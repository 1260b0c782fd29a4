"""Structure layouts: a NamedTuple's fields, in the order and the widths of a `struct` format.

    @layout("<ii")
    class Timespec32(NamedTuple):
        tv_sec: int
        tv_nsec: int

Files of structures have no `from __future__ import annotations`: NamedTuple compiles every annotation that is a string,
at each start. `codec_of(Timespec32)` packs and unpacks it. Padding is in the format; a field that is an array is a
field of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Codec(Generic[T]):
    """Turns guest bytes into a value and back. `size` is the structure's, in bytes."""

    __slots__ = ("_make", "_struct", "_unpack_from", "pack", "scalar", "size", "type")

    def __init__(self, cls: type[T], fmt: str, *, scalar: bool = False) -> None:
        self.type = cls
        self._struct = struct.Struct(fmt)
        self.size: Final = self._struct.size
        self.scalar: Final = scalar
        self._unpack_from = self._struct.unpack_from
        self._make: Callable[[tuple[Any, ...]], T] = (lambda t: t[0]) if scalar else getattr(cls, "_make")  # noqa: B009
        self.pack: Callable[[T], bytes] = self._pack_scalar if scalar else self._pack_tuple

    def unpack(self, data: bytes | memoryview, offset: int = 0) -> T:
        """Read one value at `offset` of `data`."""
        return self._make(self._unpack_from(data, offset))

    def unpack_all(self, data: bytes) -> list[T]:
        """Read the values that `data` consists of; its length is a multiple of `size`."""
        return [self._make(t) for t in self._struct.iter_unpack(data)]

    def _pack_scalar(self, value: T) -> bytes:
        return self._struct.pack(value)

    def _pack_tuple(self, value: T) -> bytes:
        return self._struct.pack(*value)  # type: ignore[misc]


CODECS: Final[dict[Any, Codec[Any]]] = {}


def layout(fmt: str) -> Callable[[type[T]], type[T]]:
    """Give a NamedTuple its byte layout (a `struct` format, little-endian, one code a field)."""

    def register(cls: type[T]) -> type[T]:
        CODECS[cls] = Codec(cls, fmt)
        return cls

    return register


def codec_of(cls: type[T]) -> Codec[T]:
    """Return the codec that `@layout` gave to `cls`; KeyError when it has none."""
    return CODECS[cls]

"""Compiled regions on disk, so that the next process finds what an earlier one made.

What a region is made from depends on what had been executed when its turn came, so no two processes ask for quite the
same. Therefore a region of code in an image is kept under the image and the place of its root there: whoever comes to
that root may have it where all code that it was made from is there too, which is what any region needs to be installed.
Code that is in no image comes and goes; its regions are kept under all that they were made from.

A file holds the code that the region was made from, then the object.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from aiopyvm.engine.native.cache import ObjectCache, object_cache
from aiopyvm.engine.native.cachekey import name_of
from aiopyvm.errors import AiopyvmError
from aiopyvm.mem.layout import PAGE
from aiopyvm.mem.space import AddressSpace

KIND: Final = "region"
CHUNK: Final = 4
_RUN: Final = struct.Struct("<II")

Covered = tuple[tuple[int, bytes], ...]  # runs of code, by address


def chunks_of(covered: Covered) -> frozenset[int]:
    """The chunks of memory (`CHUNK` bits of an address) that have a byte of a region's code."""
    return frozenset(n for at, code in covered for n in range(at >> CHUNK, (at + len(code) - 1 >> CHUNK) + 1))


def features_text(allowed: frozenset[str] | None) -> str:
    """What a processor with the features `allowed` (None: all that there are) is called in names."""
    return "all" if allowed is None else ",".join(sorted(allowed))


def name_in_image(space: AddressSpace, root: int, memory: str, allowed: frozenset[str] | None = None) -> str | None:
    """What the region at `root` of a space is kept under, for accesses of the form `memory` and a processor with the
    features `allowed`; None: it is in no image, or its page does not show the image's own bytes.
    """
    page = root & -PAGE
    shown = space.shown_image(page, page + PAGE)
    if shown is None:
        return None
    image, offset = shown
    return name_of(KIND, image.digest, f"{page - offset} {root} {memory} {features_text(allowed)}".encode())


def name_of_request(text: str) -> str:
    """What the region of a request, as text, is kept under."""
    return name_of(KIND, text.encode())


class RegionFiles:
    """Regions in a cache (None: the process's own). Nothing is kept where that has no directory."""

    def __init__(self, cache: ObjectCache | None = None) -> None:
        self._cache = cache

    def get(self, name: str) -> tuple[Covered, bytes] | None:
        """The code and the object of a region that was kept."""
        try:
            data = (self._cache or object_cache()).get(name)
            return unpack(data) if data is not None else None
        except (AiopyvmError, ValueError):
            return None  # it is made again

    def put(self, name: str, covered: Covered, data: bytes) -> None:
        """Keep a region."""
        try:
            (self._cache or object_cache()).put(name, pack(covered, data))
        except AiopyvmError:
            pass  # there is no directory: said in the log by whoever kept the handlers


def pack(covered: Covered, data: bytes) -> bytes:
    """A region as bytes: its code, its object."""
    return table_of(covered) + b"".join(code for _, code in covered) + data


def unpack(data: bytes) -> tuple[Covered, bytes]:
    """What `pack` was given. Raises ValueError where it cannot have been."""
    try:
        runs = read_table(data)
    except struct.error:
        raise ValueError("the region's code is cut off") from None
    at = _RUN.size * (len(runs) + 1)
    covered = []
    for address, length in runs:
        covered.append((address, data[at : at + length]))
        at += length
    if not runs or at > len(data) or any(address + len(code) > 1 << 32 for address, code in covered):
        raise ValueError("the region's code is damaged")
    return tuple(covered), data[at:]


def table_of(covered: Iterable[tuple[int, bytes]]) -> bytes:
    """Where the code of a region stands: how many runs, and address and length of each."""
    runs = [_RUN.pack(address, len(code)) for address, code in covered]
    return _RUN.pack(len(runs), 0) + b"".join(runs)


def read_table(data: bytes) -> list[tuple[int, int]]:
    """The runs (address, bytes) that `table_of` gave, which `data` begins with. Raises struct.error."""
    count, _ = _RUN.unpack_from(data, 0)
    return [_RUN.unpack_from(data, _RUN.size * (index + 1)) for index in range(count)]


def read_covered(data: bytes, read: Callable[[int, int], bytes]) -> Covered:
    """The code of a region whose table `data` begins with, by `read(address, length)`."""
    return tuple((address, read(address, length)) for address, length in read_table(data))


__all__ = [
    "CHUNK", "Covered", "RegionFiles", "chunks_of", "features_text", "name_in_image", "name_of_request", "pack",
    "read_covered", "table_of", "unpack",
]  # fmt: skip

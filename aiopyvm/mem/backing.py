"""What a mapping shows: fixed bytes, an image that many spaces share, or memory that all who map it write.

No backing (None) is zeros. Backings are counted by Python's references: what nobody maps is freed. A kernel file can be
mapped when its content is a `Backing`; it calls `changed` after it was written by other means than a mapping.
"""

from __future__ import annotations

import hashlib
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Final

from aiopyvm.mem.arena import Extent, arena
from aiopyvm.mem.budget import Budget, MemoryBudget
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT

if TYPE_CHECKING:
    from aiopyvm.mem.space import AddressSpace


_NOBODY: Final[weakref.WeakSet[AddressSpace]] = weakref.WeakSet()


class Backing:
    """Bytes by offset. A page that starts at or past `size()` is a bus fault; the rest of the last page is zero."""

    _mappers: weakref.WeakSet[AddressSpace] = _NOBODY
    has_code: bool = False  # some space runs code from a shared mapping of it
    extent: Extent | None = None  # where the bytes are attachable by the host, at the same offsets
    attach_shared: bool = False  # attached for all to write (else: privately, copied by the host when written)
    tells_writes: bool = False
    writable: bool = True  # programs may write it through shared mappings
    frozen: bool = False  # nobody writes, shared or not, until `thaw`

    def size(self) -> int:
        """Size in bytes."""
        raise NotImplementedError

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer where the content ends. OSError is a bus fault for the guest."""
        raise NotImplementedError

    def write_at(self, offset: int, data: bytes) -> None:
        """Store through a shared mapping; never past `size()`. OSError is a bus fault for the guest."""
        raise NotImplementedError

    def admit(self, offset: int, budget: Budget) -> bool:
        """Charge the page at `offset` on its first touch through a shared mapping; False when refused."""
        return True

    def has_page(self, offset: int, *, write: bool) -> bool:
        """The page at `offset` is touched where its extent is attached, to be written if `write`: whether the extent
        has it. A page that was read is asked for again when it is written where `tells_writes`.
        """
        return True

    def hide(self) -> None:
        """Pages that the extent had are in it no longer: whoever is shown them touches them anew."""
        for space in tuple(self._mappers):
            space.rest()
            space.backing_thawed(self)

    # Code in shared memory: a write by one space must reach the translations of every other.

    def join(self, space: AddressSpace) -> None:
        """`space` maps this backing shared from now on."""
        if self._mappers is _NOBODY:
            self._mappers = weakref.WeakSet()
        self._mappers.add(space)

    def thaw(self) -> None:
        """Somebody is about to write what was frozen: from now on there is no extent that shows it."""
        if self.frozen:
            self.frozen, self.extent = False, None
            for space in tuple(self._mappers):
                space.backing_thawed(self)

    def code_found(self) -> None:
        """A space runs code from a shared mapping of this: no store to it may go unseen any more."""
        if not self.has_code:
            self.has_code = True
            for space in tuple(self._mappers):
                space.backing_has_code(self)

    def changed(self, offset: int, length: int) -> None:
        """Tell who maps it shared that the bytes [offset, offset+length) may have changed."""
        if self.has_code:
            for space in tuple(self._mappers):
                space.backing_changed(self, offset, length)


class BytesBacking(Backing):
    """Immutable content, such as a file read whole; for private mappings."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def write_at(self, offset: int, data: bytes) -> None:
        raise PermissionError("immutable bytes are never mapped shared and writable")


class ImageBacking(Backing):
    """Immutable content for private mappings in many spaces: it exists once in the host."""

    extent: Extent | None = None  # None: the host has none to attach

    def __init__(self, data: bytes) -> None:
        self._size = len(data)
        self._memory = arena().allocate(len(data))
        self._memory.write(0, data)
        if self._memory.fd >= 0:
            self.extent = self._memory

    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        return self._memory.read(offset, min(length, self._size - offset))

    def write_at(self, offset: int, data: bytes) -> None:
        raise PermissionError("an image is never mapped shared and writable")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the content: what tells that two images are the same, also in another process."""
        return hashlib.sha256(self.read_at(0, self._size)).digest()


class HeldImage(ImageBacking):
    """An image as one budget pays for it: whole, until nobody maps it through this any more."""

    def __init__(self, image: ImageBacking, budget: Budget) -> None:
        self._image, self._budget = image, budget
        self._size, self._memory, self.extent = image.size(), image._memory, image.extent

    @property
    def digest(self) -> bytes:
        return self._image.digest

    def __del__(self) -> None:
        self._budget.charge(-self._size)


class HeldImages:
    """The images that are mapped on one budget: each is charged once, whole, while anybody maps it.

    An image exists once for all budgets, and each pays for the whole: what one of them holds does not depend on others.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._held: weakref.WeakValueDictionary[int, HeldImage] = weakref.WeakValueDictionary()  # by id of the image

    def hold(self, image: ImageBacking, share: int = 1) -> HeldImage | None:
        """What to map for `image`; None where it would take more than one part in `share` of the room that is left."""
        held = self._held.get(id(image))
        if held is None:
            size, room = image.size(), self._budget.room()
            if (room is None or size * share <= room) and self._budget.charge(size):
                held = self._held[id(image)] = HeldImage(image, self._budget)
        return held


class SharedBacking(Backing):
    """Zeroed memory that every shared mapping of it sees (MAP_SHARED | MAP_ANONYMOUS, and what is like it).

    Its pages are charged to the budget of whoever touches first, and given back when nobody maps it any more.
    """

    attach_shared = True

    def __init__(self, size: int) -> None:
        self.extent: Extent | None = arena().allocate(size)
        self._charged: dict[int, Budget] = {}

    def size(self) -> int:
        assert self.extent is not None
        return self.extent.size

    def read_at(self, offset: int, length: int) -> bytes:
        assert self.extent is not None
        return self.extent.read(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        assert self.extent is not None
        self.extent.write(offset, data)

    def admit(self, offset: int, budget: Budget) -> bool:
        page = offset >> PAGE_SHIFT
        if page not in self._charged:
            if not budget.charge(PAGE):
                return False
            self._charged[page] = budget
        return True

    def __del__(self) -> None:
        for budget in self._charged.values():
            budget.charge(-PAGE)

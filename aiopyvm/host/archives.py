"""Archives that were read, kept for the next machine that uses them: one index per archive and process.

An index is kept by the identity of its files (`unpack.identity_of`), so that a changed archive is read anew. As many as
`MOST_KEPT` stay when nobody uses them; those in use are always found again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from aiopyvm.host.archivetree import ArchiveTree, TreeBuilder
from aiopyvm.host.tarmembers import members
from aiopyvm.host.unpack import identity_of, open_plain, unpack

MOST_KEPT: Final = 8

T = TypeVar("T")


class Kept(Generic[T]):
    """Things made once, by key; thread-safe. What was not used for longest goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._recent: OrderedDict[object, T] = OrderedDict()
        self._living: WeakValueDictionary[object, T] = WeakValueDictionary()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._recent)

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Return what is kept under `key`, or what `make` returns. Raises what that raises."""
        with self._lock:
            value = self._living.get(key)
            if value is None:
                value = make()
                self._living[key] = value
            self._recent[key] = value
            self._recent.move_to_end(key)
            while len(self._recent) > self._most:
                self._recent.popitem(last=False)
            return value


TREES: Final[Kept[ArchiveTree]] = Kept(MOST_KEPT)


def tar_tree(path: str) -> ArchiveTree:
    """Return the tree in the tar file `path`. Raises OSError, ArchiveError."""
    with open_plain(path) as file:
        key = ("tar", *identity_of(file.fileno()))
    return TREES.get(key, lambda: _read_tar(path))


def _read_tar(path: str) -> ArchiveTree:
    archive = unpack(path)
    builder = TreeBuilder()
    builder.add(archive, members(archive))
    return ArchiveTree(builder.root)

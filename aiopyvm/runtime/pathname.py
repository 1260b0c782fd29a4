"""`PathName`: what can be said of a guest's path without looking at the guest, with the words of `pathlib.PurePath`.

What always holds. A path is absolute: a relative one starts at "/". `..` is kept, as it may follow a symbolic link.
"""

from __future__ import annotations

import functools
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Self

from aiopyvm.abi.errno import EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

if TYPE_CHECKING:
    from aiopyvm.kernel.vfs import Vfs

NOT_THERE: Final = (ENOENT, ENOTDIR, EINVAL, ELOOP, ENAMETOOLONG)
"""Errors that say that no path leads to such a file."""


@functools.total_ordering
class PathName:
    """An absolute path in the guest machine whose file system is `vfs`."""

    __slots__ = ("_path", "_vfs")

    def __init__(self, vfs: Vfs, path: str | PurePosixPath) -> None:
        self._vfs = vfs
        self._path = PurePosixPath("/", path)

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathName) and self._vfs is other._vfs and self._path == other._path

    def __hash__(self) -> int:
        return hash((id(self._vfs), self._path))

    def __lt__(self, other: PathName) -> bool:
        return self._path < other._path if isinstance(other, PathName) else NotImplemented

    def __truediv__(self, name: str | PurePosixPath | PathName) -> Self:
        return self.joinpath(name)

    def _other(self, path: PurePosixPath) -> Self:
        return type(self)(self._vfs, path)

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The last part's suffix."""
        return self._path.suffix

    @property
    def suffixes(self) -> list[str]:
        """The last part's suffixes."""
        return self._path.suffixes

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, "/" first."""
        return self._path.parts

    @property
    def root(self) -> str:
        """ "/"."""
        return self._path.root

    @property
    def anchor(self) -> str:
        """ "/"."""
        return self._path.anchor

    @property
    def parent(self) -> Self:
        """The directory above."""
        return self._other(self._path.parent)

    @property
    def parents(self) -> tuple[Self, ...]:
        """The directories above, the nearest first."""
        return tuple(self._other(path) for path in self._path.parents)

    def as_posix(self) -> str:
        """The path as text."""
        return str(self)

    def is_absolute(self) -> bool:
        """True."""
        return True

    def is_relative_to(self, other: str | PathName) -> bool:
        """It is `other`, or below it."""
        return self._path.is_relative_to(str(self.joinpath("/", other)))

    def relative_to(self, other: str | PathName) -> PurePosixPath:
        """Return the way from `other` down to here. Raises ValueError when it is not below `other`."""
        return self._path.relative_to(str(self.joinpath("/", other)))

    def match(self, pattern: str) -> bool:
        """It matches a `pattern`, from the right where that is relative."""
        return self._path.match(pattern)

    def joinpath(self, *names: str | PurePosixPath | PathName) -> Self:
        """Return the path below this one; an absolute name starts anew."""
        parts = (name._path if isinstance(name, PathName) else name for name in names)
        return self._other(self._path.joinpath(*parts))

    def with_name(self, name: str) -> Self:
        """Return the path with another last part. Raises ValueError where there is none."""
        return self._other(self._path.with_name(name))

    def with_stem(self, stem: str) -> Self:
        """Return the path with another last part before the suffix. Raises ValueError where there is none."""
        return self._other(self._path.with_stem(stem))

    def with_suffix(self, suffix: str) -> Self:
        """Return the path with another suffix. Raises ValueError for what is none."""
        return self._other(self._path.with_suffix(suffix))

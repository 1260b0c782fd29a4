"""The members of a tar archive, read once and checked: ustar, GNU (long names, sparse files) and pax.

The standard library's `tarfile` decodes headers; it sees the archive through `_Guarded`, which bounds what a header can
make it read. What always holds for what `members` returns: data lies inside of the archive, members lie one behind the
other, parts of a sparse file are in order and inside of the file, names have no "..", "." or empty part.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import IO, Any, Final, NamedTuple, cast

from aiopyvm.abi.fcntl import MAX_FILE_SIZE
from aiopyvm.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, makedev
from aiopyvm.errors import ArchiveError
from aiopyvm.host.unpack import ArchiveBytes

MOST_MEMBERS: Final = 1 << 20  # of one archive, or of all layers of an image
MOST_HEADER: Final = 1 << 20  # bytes of one long name, or of one member's pax records
MOST_PARTS: Final = 1 << 16  # of one sparse file
MOST_NAME: Final = 4095  # bytes of a whole name (PATH_MAX)
NAME_MAX: Final = 255
_BLOCK: Final = 512
_LAST_NS: Final = (1 << 63) - 1
_TYPES: Final = {
    tarfile.DIRTYPE: S_IFDIR,
    tarfile.SYMTYPE: S_IFLNK,
    tarfile.CHRTYPE: S_IFCHR,
    tarfile.BLKTYPE: S_IFBLK,
    tarfile.FIFOTYPE: S_IFIFO,
}

Names = tuple[bytes, ...]
Parts = tuple[tuple[int, int, int], ...]  # of a file, in order: (offset in it, length, offset in the archive)


class Member(NamedTuple):
    """One member. `link` is the name of the member that it is another name of; `target` a symbolic link's."""

    names: Names
    mode: int  # with the type
    uid: int
    gid: int
    size: int
    times: tuple[int, int, int]  # of access, modification, change, in nanoseconds
    rdev: int
    target: bytes
    link: Names | None
    parts: Parts
    place: int  # of its header, in bytes from the archive's start


class _Guarded:
    """The archive as a file for `tarfile`: no read is longer than a header may be."""

    def __init__(self, archive: ArchiveBytes) -> None:
        self._archive = archive
        self._at = 0

    def read(self, n: int = -1) -> bytes:
        """Return at most `n` bytes. Raises ArchiveError for more than MOST_HEADER."""
        if not 0 <= n <= MOST_HEADER + _BLOCK:
            raise ArchiveError(self._archive.path, self._at, f"a header of {n} bytes")
        data = self._archive.pread(n, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to `offset`. Raises ArchiveError outside of the archive."""
        if whence or not 0 <= offset <= self._archive.size + _BLOCK:
            raise ArchiveError(self._archive.path, self._at, "truncated, or a size that leads out of it")
        self._at = offset
        return offset

    def tell(self) -> int:
        """Return the position."""
        return self._at


def members(archive: ArchiveBytes) -> Iterator[Member]:
    """Iterate over an archive's members, in its order. Raises ArchiveError, which names the archive and the place."""
    guarded = _Guarded(archive)
    end = count = 0
    try:
        tar = tarfile.TarFile(fileobj=cast("IO[bytes]", guarded), encoding="utf-8", errors="surrogateescape")
        kept: list[object] = vars(tar)["members"]  # by `tarfile`, of all that it has seen
        while (info := tar.next()) is not None:
            kept.clear()
            count += 1
            if info.offset < end or info.size < 0 or count > MOST_MEMBERS:
                raise ArchiveError(archive.path, info.offset, "a header that cannot be, or too many of them")
            end = info.offset + _BLOCK
            member = _member(archive, info, min(tar.offset, archive.size))
            if member is not None:
                yield member
        _need_end(archive, tar.offset)
    except ArchiveError:
        raise
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, EOFError, RecursionError) as error:
        raise ArchiveError(archive.path, guarded.tell(), f"no tar archive, or a damaged one: {error}") from None


def _need_end(archive: ArchiveBytes, place: int) -> None:
    """The block at `place` is one of zeros: `tarfile` takes whatever is no header for the end."""
    if archive.pread(_BLOCK, place) != bytes(_BLOCK):
        raise ArchiveError(archive.path, place, "truncated or damaged: there is neither a member nor the end")


def _member(archive: ArchiveBytes, info: tarfile.TarInfo, end: int) -> Member | None:
    names = clean(info.name.encode("utf-8", "surrogateescape"))
    place = info.offset
    if sum(map(len, names)) + len(names) > MOST_NAME or any(len(name) > NAME_MAX for name in names):
        raise ArchiveError(archive.path, place, "a name that is too long")
    if any(b"\0" in name for name in names):
        raise ArchiveError(archive.path, place, "a name with NUL in it")
    target = info.linkname.encode("utf-8", "surrogateescape")
    if info.issym() and (not 0 < len(target) <= MOST_NAME or b"\0" in target):
        raise ArchiveError(archive.path, place, "a symbolic link that cannot be")
    kind = _TYPES.get(info.type, S_IFREG)
    regular = kind == S_IFREG and not info.islnk()
    device = makedev(info.devmajor & 0xFFF, info.devminor & 0xFFFFF) if kind in (S_IFCHR, S_IFBLK) else 0
    return Member(
        names, kind | info.mode & 0o7777, info.uid & 0xFFFFFFFF, info.gid & 0xFFFFFFFF, info.size if regular else 0,
        _times(info), device, target if info.issym() else b"", clean(target) if info.islnk() else None,
        _parts(archive, info, end) if regular else (), place,
    )  # fmt: skip


def clean(name: bytes) -> Names:
    """Return the parts of a name, as they are below the tree's top: ".." of the top is the top."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


def _times(info: tarfile.TarInfo) -> tuple[int, int, int]:
    """Pax records have fractions of a second, which TarInfo.mtime as a float would round."""
    modified = _nanoseconds(info.pax_headers.get("mtime", info.mtime))
    return (
        _nanoseconds(info.pax_headers["atime"]) if "atime" in info.pax_headers else modified,
        modified,
        _nanoseconds(info.pax_headers["ctime"]) if "ctime" in info.pax_headers else modified,
    )


def _nanoseconds(seconds: str | float) -> int:
    try:
        exact = Decimal(seconds)
        if not -(1 << 34) <= exact <= 1 << 34:
            return 0
        return max(-_LAST_NS, min(_LAST_NS, int(exact * 10**9)))
    except InvalidOperation:
        return 0


def _parts(archive: ArchiveBytes, info: tarfile.TarInfo, last: int) -> Parts:
    """Where a file's data lies, up to byte `last`. Raises ArchiveError for what lies elsewhere."""
    given: Any = info.sparse  # typed as an int
    sparse: list[tuple[int, int]] = given if given is not None else [(0, info.size)]
    parts = []
    at, end = info.offset_data, 0
    for offset, length in sparse:
        if length < 0 or offset < end or offset + length > info.size:
            raise ArchiveError(archive.path, info.offset, "parts of a sparse file that cannot be")
        if length:
            parts.append((offset, length, at))
        at, end = at + length, offset + length
    if at > last:
        raise ArchiveError(archive.path, info.offset, f"truncated: a file's data would end at {at} bytes")
    if info.size > MAX_FILE_SIZE or len(parts) > MOST_PARTS:
        raise ArchiveError(archive.path, info.offset, "a file that is too large")
    return tuple(parts)

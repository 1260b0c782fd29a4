"""Writes changes of a tree as a tar archive: a layer, as the OCI image-spec has it, with ".wh." names for removals.

The archive is written beside its place and put there when it is whole.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self, cast

from aiopyvm.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, Stat
from aiopyvm.errors import ArchiveError

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_XATTR: Final = "SCHILY.xattr."
_SECOND_NS: Final = 10**9
_TYPES: Final = {
    S_IFREG: tarfile.REGTYPE,
    S_IFDIR: tarfile.DIRTYPE,
    S_IFLNK: tarfile.SYMTYPE,
    S_IFCHR: tarfile.CHRTYPE,
    S_IFBLK: tarfile.BLKTYPE,
    S_IFIFO: tarfile.FIFOTYPE,
}


class ChangesFile:
    """The archive, as a context: what it is left with an exception is nothing. Every method may raise OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._partial = f"{path}.{os.getpid()}.part"
        self._links: dict[tuple[int, int], str] = {}  # the first name of a file with several, by device and inode

    def __enter__(self) -> Self:
        self._file = os.fdopen(os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")
        self._tar = tarfile.TarFile(
            fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._tar.close()
                self._file.close()
                os.replace(self._partial, self._path)
                return
        except BaseException:
            self._discard()
            raise
        self._discard()

    def _discard(self) -> None:
        self._file.close()
        os.unlink(self._partial)

    def remove(self, path: bytes) -> None:
        """Add the removal of `path`."""
        above, slash, name = path.rpartition(b"/")
        self._tar.addfile(_info(above + slash + WHITEOUT + name))

    def add(
        self, path: bytes, s: Stat, target: bytes, content: File | None, whole: bool, extended: Mapping[bytes, bytes]
    ) -> None:
        """Add what is at `path`: its attributes, a symbolic link's target, a regular file's content, extended
        attributes as records of GNU tar. `whole` hides all
        that lower layers have in the directory. Sockets, which no archive has, are left out. Raises ArchiveError for a
        name that would be a removal."""
        if path.rpartition(b"/")[2].startswith(WHITEOUT):
            raise ArchiveError(self._path, None, f"a file called {os.fsdecode(path)!r} would mean a removal")
        kind = s.mode & S_IFMT
        if kind not in _TYPES:
            return
        info = _info(path or b".")
        info.type, info.mode, info.uid, info.gid = _TYPES[kind], s.mode & 0o7777, s.uid, s.gid
        info.linkname = _text(target)
        info.devmajor, info.devminor = s.rdev >> 8 & 0xFFF, s.rdev & 0xFF | s.rdev >> 12 & 0xFFF00
        info.mtime, fraction = divmod(s.mtime, _SECOND_NS)
        records: dict[str, str] = {}
        if fraction:
            records["mtime"] = str(Decimal(s.mtime) / _SECOND_NS)
        for name, value in sorted(extended.items()):
            records[_XATTR + _text(name)] = _text(value)
        info.pax_headers = records
        if (
            kind == S_IFREG
            and s.nlink > 1
            and (first := self._links.setdefault((s.dev, s.ino), info.name)) != info.name
        ):
            info.type, info.linkname = tarfile.LNKTYPE, first
        elif content is not None:
            info.size = s.size
        self._tar.addfile(info, cast("IO[bytes]", _Reader(content)) if info.size and content is not None else None)
        if whole:
            self._tar.addfile(_info(path + b"/" + OPAQUE))


class _Reader:
    """An open file of a guest for `tarfile`."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._at = 0

    def read(self, n: int) -> bytes:
        """Return the next bytes."""
        data = self._file.pread(n, self._at)
        self._at += len(data)
        return data


def _info(path: bytes) -> tarfile.TarInfo:
    return tarfile.TarInfo(_text(path))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

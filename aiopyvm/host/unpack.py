"""The bytes of an archive file, unpacked once: what other modules read at offsets.

A plain archive is read where it lies. A compressed one is unpacked into a file without a name in the host's directory
for temporary files, which goes with its last user; contents are never held in memory as a whole. How far an archive
may unpack is `MOST_UNPACKED`.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib
import lzma
import os
import stat
import tempfile
import zlib
from io import FileIO
from typing import IO, Any, Final, Protocol
from weakref import finalize

from aiopyvm.abi.errno import ESTALE, Errno
from aiopyvm.errors import ArchiveError

MOST_UNPACKED: Final = 16 << 30  # bytes that a compressed archive may unpack to
CHUNK: Final = 1 << 20
_DAMAGED: Final = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ArchiveBytes:
    """An archive's bytes, unpacked. `identity` tells this content of this file from all others; `size` is in bytes."""

    def __init__(self, path: str, file: IO[bytes] | FileIO, original: FileIO, unpacked_sha256: str | None) -> None:
        self.path = path
        self.identity = identity_of(original.fileno())
        self.size = os.fstat(file.fileno()).st_size
        self.unpacked_sha256 = unpacked_sha256  # None where it was not compressed
        self._fd = file.fileno()
        self._original = original.fileno()
        self._close = finalize(self, _close, file, original)

    def pread(self, n: int, offset: int) -> bytes:
        """Return at most `n` bytes at `offset`. Raises OSError."""
        return os.pread(self._fd, n, offset)

    def need_unchanged(self) -> None:
        """Raise Errno(ESTALE) where the archive was changed after it was read."""
        if identity_of(self._original) != self.identity:
            raise Errno(ESTALE)


def _close(*files: IO[bytes] | FileIO) -> None:
    for file in files:
        file.close()


def identity_of(fd: int) -> tuple[int, ...]:
    """Return what changes when the content of an open file does: device, inode, size, times of change."""
    s = os.fstat(fd)
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


def open_plain(path: str) -> FileIO:
    """Open a regular file for reading. Raises OSError; ArchiveError for what is no regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ArchiveError(path, None, "no regular file")
    return FileIO(fd, "rb")


def unpack(path: str) -> ArchiveBytes:
    """Return the bytes of the archive `path`, unpacked where it is compressed: gzip, bzip2, xz or zstd, by its content.

    Raises OSError (it cannot be opened, or there is no room for what is in it) and ArchiveError: damaged, truncated,
    more than MOST_UNPACKED bytes, or zstd without a library that reads it.
    """
    original = open_plain(path)
    try:
        stream = _decompressor(path, original)
        if stream is None:
            return ArchiveBytes(path, original, original, None)
        file = tempfile.TemporaryFile(prefix="aiopyvm-")  # noqa: SIM115  # ArchiveBytes closes it
        try:
            digest = _copy(path, stream, file)
            return ArchiveBytes(path, file, original, digest)
        except BaseException:
            file.close()
            raise
    except BaseException:
        original.close()
        raise


def _decompressor(path: str, original: FileIO) -> _Readable | None:
    magic = os.pread(original.fileno(), 6, 0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=original)
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMAFile(original)
    if magic[:3] == b"BZh":
        return bz2.BZ2File(original)
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        return _zstd(path, original)
    return None


def _zstd(path: str, original: FileIO) -> _Readable:
    """Python's own module (3.14), else the package zstandard."""
    found: Any
    try:
        found = importlib.import_module("compression.zstd")
        return found.ZstdFile(original)  # type: ignore[no-any-return]
    except ImportError:
        pass
    try:
        found = importlib.import_module("zstandard")
    except ImportError:
        raise ArchiveError(path, None, "compressed with zstd: install the package zstandard, or aiopyvm[zst]") from None
    return found.ZstdDecompressor(max_window_size=1 << 27).stream_reader(original, read_across_frames=True)  # type: ignore[no-any-return]


def _copy(path: str, stream: _Readable, file: IO[bytes]) -> str:
    """Copy a compressed stream; return the SHA-256 of what came out. Raises ArchiveError, OSError (no room)."""
    done = 0
    digest = hashlib.sha256()
    while True:
        try:
            chunk = stream.read(CHUNK)
        except Exception as error:
            if isinstance(error, _DAMAGED) or type(error).__name__ == "ZstdError":
                raise ArchiveError(path, done, f"damaged or truncated where it unpacks: {error}") from None
            raise
        if not chunk:
            file.flush()
            return digest.hexdigest()
        done += len(chunk)
        if done > MOST_UNPACKED:
            raise ArchiveError(path, done, f"unpacks to more than {MOST_UNPACKED >> 30} GiB")
        digest.update(chunk)
        file.write(chunk)

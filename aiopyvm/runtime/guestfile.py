"""`GuestFile`: an open file of a guest machine, with the methods of `anyio.AsyncFile`.

How it works. Python's own buffers and text layer stand on `RawGuestFile`, which reads and writes the kernel's file at
once; each method goes through the event loop once and then does its work without waiting.

What always holds. Only regular files are opened: no method can wait for a guest. What a guest makes of a file's size is
no promise: what has no length of its own (`read()`, a line) is refused beyond `bound` bytes, the machine's memory
limit, so that an endless hole cannot eat the host's memory.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import AsyncIterator, Iterable
from typing import IO, TYPE_CHECKING, Any, AnyStr, Final, Generic

import anyio.abc
import anyio.lowlevel

from aiopyvm.abi.errno import Errno
from aiopyvm.abi.fcntl import O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY
from aiopyvm.runtime.program import guest_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from aiopyvm.kernel.file import File

CHUNK: Final = 1 << 20
_FLAGS: Final = {"r": 0, "w": O_CREAT | O_TRUNC, "a": O_CREAT | O_APPEND, "x": O_CREAT | O_EXCL}


def open_flags(mode: str) -> int:
    """Return open(2)'s flags for a mode of `open`. Raises ValueError for what is none."""
    letters = [letter for letter in mode if letter in _FLAGS]
    if len(letters) != 1 or set(mode) - set("rwxab+t") or len(set(mode)) != len(mode) or {"b", "t"} <= set(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    access = O_RDWR if "+" in mode else O_RDONLY if letters == ["r"] else O_WRONLY
    return access | _FLAGS[letters[0]]


def open_stream(
    raw: RawGuestFile, mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """Return `raw` as what `open` returns for these arguments. Raises ValueError, LookupError; then `raw` is closed."""
    try:
        return _layers(raw, mode, buffering, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise


def _layers(
    raw: RawGuestFile, mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    binary = "b" in mode
    if binary and (encoding is not None or errors is not None or newline is not None):
        raise ValueError("binary mode takes no encoding, errors or newline")
    if buffering == 0:
        if not binary:
            raise ValueError("can't have unbuffered text I/O")
        return raw  # type: ignore[return-value]  # a RawIOBase is what open() returns, too
    kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
    buffered = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
    if binary:
        return buffered
    return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)


class RawGuestFile(io.RawIOBase):
    """The kernel's regular file `file`, at once and without buffers; closing it lets go of the file."""

    def __init__(self, file: File, path: str) -> None:
        super().__init__()
        self._file = file.hold()
        self.name = path
        if file.flags & O_APPEND:
            self.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            super().close()
            self._file.release()

    def readable(self) -> bool:
        """The mode allows reading."""
        return self._file.readable

    def writable(self) -> bool:
        """The mode allows writing."""
        return self._file.writable

    def seekable(self) -> bool:
        """There is a position."""
        return self._file.seekable

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into `buffer`; return how much. Raises OSError."""
        self._need(self._file.readable, "readable")
        view = memoryview(buffer).cast("B")
        try:
            data = self._file.read(len(view))
        except Errno as error:
            raise guest_error(error, self.name) from None
        view[: len(data)] = data
        return len(data)

    def write(self, data: ReadableBuffer) -> int:
        """Write the beginning of `data`; return how much. Raises OSError."""
        self._need(self._file.writable, "writable")
        try:
            return self._file.write(bytes(memoryview(data).cast("B")[:CHUNK]))
        except Errno as error:
            raise guest_error(error, self.name) from None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it. Raises OSError."""
        self._need(self._file.seekable, "seekable")
        try:
            return self._file.seek(offset, whence)
        except Errno as error:
            raise guest_error(error, self.name) from None

    def truncate(self, size: int | None = None) -> int:
        """Set the size (None: the position); return it. Raises OSError."""
        self._need(self._file.writable, "writable")
        size = self.tell() if size is None else size
        try:
            self._file.truncate(size)
        except Errno as error:
            raise guest_error(error, self.name) from None
        return size

    def _need(self, allowed: bool, word: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not allowed:
            raise io.UnsupportedOperation(f"not {word}")


class GuestFile(anyio.abc.AsyncResource, Generic[AnyStr]):
    """An open file of a guest, as `GuestPath.open` returns it: a stream of bytes or text, and an async context manager.

    Methods raise OSErrors, ValueError on a closed file, `io.UnsupportedOperation` (also OSError) where the mode forbids
    it.
    """

    def __init__(self, stream: IO[AnyStr], bound: int | None) -> None:
        self._stream: IO[AnyStr] = stream
        self._bound = bound

    def __repr__(self) -> str:
        return f"GuestFile({self._stream.name!r}, {'closed' if self._stream.closed else 'open'})"

    @property
    def name(self) -> str:
        """The path by which it was opened."""
        return self._stream.name

    @property
    def closed(self) -> bool:
        """It was closed."""
        return self._stream.closed

    async def aclose(self) -> None:
        """Write what is buffered, and close it, also when that is cancelled."""
        self._stream.close()
        await anyio.lowlevel.checkpoint()

    async def __aiter__(self) -> AsyncIterator[AnyStr]:
        while line := await self.readline():
            yield line

    async def read(self, size: int = -1) -> AnyStr:
        """Return at most `size` bytes or characters, fewer at the end; all that is left when negative.

        Raises OSError (EFBIG) when all that is left is more than the machine's memory limit.
        """
        if size >= 0:
            await anyio.lowlevel.checkpoint()
            return self._stream.read(size)
        parts = []
        total = 0
        while part := await self.read(CHUNK):
            parts.append(part)
            total += len(part)
            self._check(total)
        return part.join(parts)

    async def read1(self, size: int = -1) -> bytes:
        """Return 1 to `size` bytes by one read at most; b"" at the end."""
        await anyio.lowlevel.checkpoint()
        data: bytes = self._binary("read1")(size)
        return data

    async def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into `buffer`; return how many bytes."""
        await anyio.lowlevel.checkpoint()
        n: int = self._binary("readinto")(buffer)
        return n

    async def readline(self) -> AnyStr:
        """Return the next line with its end; empty at the end of the file. Raises OSError (EFBIG), as `read`."""
        await anyio.lowlevel.checkpoint()
        if self._bound is None:
            return self._stream.readline()
        line = self._stream.readline(self._bound + 1)
        self._check(len(line))
        return line

    async def readlines(self) -> list[AnyStr]:
        """Return all lines that are left. Raises OSError (EFBIG), as `read`."""
        lines = []
        total = 0
        async for line in self:
            lines.append(line)
            total += len(line)
            self._check(total)
        return lines

    async def write(self, data: AnyStr) -> int:
        """Write all of `data`; return its length (unbuffered: how much was written)."""
        await anyio.lowlevel.checkpoint()
        return self._stream.write(data)

    async def writelines(self, lines: Iterable[AnyStr]) -> None:
        """Write all of `lines`; nothing is put between them."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Let the guest see what is buffered."""
        await anyio.lowlevel.checkpoint()
        self._stream.flush()

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it."""
        await anyio.lowlevel.checkpoint()
        return self._stream.seek(offset, whence)

    async def tell(self) -> int:
        """Return the position."""
        await anyio.lowlevel.checkpoint()
        return self._stream.tell()

    async def truncate(self, size: int | None = None) -> int:
        """Set the size (None: the position); return it."""
        await anyio.lowlevel.checkpoint()
        return self._stream.truncate(size)

    def _binary(self, method: str) -> Any:
        found = getattr(self._stream, method, None)
        if found is None:
            raise io.UnsupportedOperation(f"{method} is for buffered binary files")
        return found

    def _check(self, size: int) -> None:
        if self._bound is not None and size > self._bound:
            raise OSError(errno.EFBIG, "more than the guest's memory limit: read it in pieces", self.name)

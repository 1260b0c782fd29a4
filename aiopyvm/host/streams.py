"""Every kind of stream that a caller may give a guest, behind two small classes: `Source` and `Sink`.

What always holds. A source is read once for each `receive`, and for at most what was asked where the stream lets one
say so. Nobody's stream is closed here, but an async generator, by `finish`, in the task that ran it. A `Sink.send`
raises `Broken` where the other side is gone; every other exception is the stream's own and passes through.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import anyio.abc

PIPE_BUF: Final = 4096


class Broken(Exception):
    """The receiving side of an output stream is gone."""


class Source:
    """Bytes from the host: `receive(n)` returns 1 to n bytes (more where the stream knows no sizes), b"" at the end."""

    def __init__(self, receive: Callable[[int], Awaitable[bytes]]) -> None:
        self.receive = receive

    async def finish(self) -> None:
        """No more will be read."""


class Sink:
    """Bytes to the host. `direct(data)` takes what goes through without waiting and returns how much (None: it
    cannot)."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[object]], direct: Callable[[bytes], int] | None = None
    ) -> None:
        self._send = send
        self.direct = direct

    async def send(self, data: bytes) -> None:
        """Deliver all of `data`. Raises Broken."""
        try:
            await self._send(data)
        except BaseException as error:
            if is_broken(error):
                raise Broken from error
            raise


def is_broken(error: BaseException) -> bool:
    """Tell whether `error` says that the other side of a stream is gone."""
    if isinstance(error, (anyio.BrokenResourceError, anyio.ClosedResourceError, BrokenPipeError, ConnectionError)):
        return True
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError))


def open_source(stream: Any) -> Source:
    """Return the source for `stream` (None: the host's own standard input). Raises TypeError for what is no byte
    stream."""
    if stream is None:
        return _descriptor_source(0)
    if isinstance(stream, anyio.abc.ByteReceiveStream):
        return Source(_byte_receiver(stream))
    if hasattr(stream, "receive_some"):
        return Source(stream.receive_some)
    if _is_asyncio_reader(stream):
        return Source(stream.read)
    if hasattr(stream, "__aiter__"):
        return _Chunks(stream)
    if isinstance(stream, io.TextIOBase) or not hasattr(stream, "read"):
        raise TypeError(f"standard input must be bytes or a stream of bytes, not {type(stream).__name__}")
    return _file_source(stream)


def open_sink(stream: Any, default: int = 1) -> Sink:
    """Return the sink for `stream` (None: the host's own descriptor `default`). Raises TypeError for what is no byte
    stream."""
    if stream is None:
        return _descriptor_sink(default)
    if isinstance(stream, (anyio.abc.ByteSendStream, anyio.abc.ObjectSendStream)):
        return Sink(stream.send)
    if hasattr(stream, "send_all"):
        return Sink(stream.send_all)
    if hasattr(stream, "drain") and hasattr(stream, "write"):
        return Sink(_asyncio_writer(stream))
    if hasattr(stream, "send_nowait") and hasattr(stream, "send"):  # trio's memory channels
        return Sink(stream.send)
    if isinstance(stream, io.TextIOBase) or not hasattr(stream, "write"):
        raise TypeError(f"an output must be PIPE, DEVNULL or a stream of bytes, not {type(stream).__name__}")
    return _file_sink(stream)


# --- streams of the event loops ---------------------------------------------------------------------------------------


def _byte_receiver(stream: anyio.abc.ByteReceiveStream) -> Callable[[int], Awaitable[bytes]]:
    async def receive(n: int) -> bytes:
        while True:
            try:
                data = await stream.receive(n)
            except anyio.EndOfStream:
                return b""
            if data:
                return data

    return receive


def _is_asyncio_reader(stream: Any) -> bool:
    import asyncio

    return isinstance(stream, asyncio.StreamReader)


def _asyncio_writer(stream: Any) -> Callable[[bytes], Awaitable[None]]:
    async def send(data: bytes) -> None:
        if stream.is_closing():
            raise BrokenPipeError("the StreamWriter is closing")
        stream.write(data)
        await stream.drain()

    return send


class _Chunks(Source):
    """An async iterable of bytes."""

    def __init__(self, stream: Any) -> None:
        super().__init__(self._next)
        self._iterator: AsyncIterator[bytes] = aiter(stream)
        self._given = self._iterator is stream

    async def _next(self, n: int) -> bytes:
        while True:
            try:
                data = await anext(self._iterator)
            except StopAsyncIteration:
                return b""
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(f"standard input's iterable must give bytes, not {type(data).__name__}")
            if data:
                return bytes(data)

    async def finish(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None and hasattr(self._iterator, "asend"):  # a generator: nobody else can close it
            await close()


# --- files and descriptors --------------------------------------------------------------------------------------------


def _descriptor_of(stream: Any) -> int | None:
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return number if isinstance(number, int) and number >= 0 else None


def _is_pollable(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


def _has_read_ahead(file: Any, fd: int) -> bool:
    """Tell whether `file` holds bytes that its descriptor, which has nothing to read now, knows nothing of."""
    if not isinstance(file, io.BufferedReader):
        return False
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    try:
        return bool(file.peek(1))
    finally:
        os.set_blocking(fd, blocking)


def _file_source(file: Any) -> Source:
    read: Callable[[int], bytes | None] = getattr(file, "read1", file.read)
    fd = _descriptor_of(file)

    async def receive(n: int) -> bytes:
        if fd is None:
            data = read(n)
        elif _is_pollable(fd):
            if not _ready_now(fd, select.POLLIN) and not _has_read_ahead(file, fd):
                await anyio.wait_readable(fd)
            data = read(n)
        else:
            data = await anyio.to_thread.run_sync(read, n)
        if data is None:
            data = b""
        if not isinstance(data, (bytes, bytearray)):
            raise TypeError(f"standard input's file must give bytes, not {type(data).__name__}")
        return bytes(data)

    return Source(receive)


_NAMES: Final = {0: "standard input", 1: "standard output", 2: "standard error"}


@contextmanager
def _named(fd: int) -> Iterator[None]:
    """An error of descriptor `fd` says which it was."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or _NAMES.get(fd, fd)
        raise


def _descriptor_source(fd: int) -> Source:
    async def receive(n: int) -> bytes:
        with _named(fd):
            if _is_pollable(fd):
                await anyio.wait_readable(fd)
            return os.read(fd, n)

    return Source(receive)


def _ready_now(fd: int, events: int) -> bool:
    poller = select.poll()
    poller.register(fd, events)
    return bool(poller.poll(0))


def _file_sink(file: Any) -> Sink:
    fd = _descriptor_of(file)
    flush: Callable[[], object] = getattr(file, "flush", lambda: None)
    pollable = fd is not None and _is_pollable(fd)
    raw = isinstance(file, io.RawIOBase)

    def direct(data: bytes) -> int:
        done = 0
        while done < len(data):
            if pollable and fd is not None and not _ready_now(fd, select.POLLOUT):
                break
            piece = data[done : done + PIPE_BUF] if pollable else data[done:]
            taken = file.write(piece)
            if taken is None and not raw:
                taken = len(piece)  # something with a `write` that does not count
            flush()
            if not taken:
                break
            done += taken
        return done

    return Sink(_patient(direct, fd if pollable else None), direct)


def _descriptor_sink(fd: int) -> Sink:
    with _named(fd):
        pollable = _is_pollable(fd)

    def direct(data: bytes) -> int:
        done = 0
        with _named(fd):
            while done < len(data) and (not pollable or _ready_now(fd, select.POLLOUT)):
                done += os.write(fd, data[done : done + PIPE_BUF] if pollable else data[done:])
        return done

    return Sink(_patient(direct, fd if pollable else None), direct)


def _patient(direct: Callable[[bytes], int], fd: int | None) -> Callable[[bytes], Awaitable[None]]:
    """Return a function that calls `direct` until all is taken, and waits for `fd` between."""

    async def send(data: bytes) -> None:
        data = data[direct(data) :]
        while data:
            if fd is not None:
                await anyio.wait_writable(fd)
            else:
                await anyio.sleep(0.01)
            data = data[direct(data) :]

    return send

"""Python's ends of in-runtime pipes: anyio byte streams over a kernel `Pipe`, which never goes through the event loop
itself.

What always holds. An end is open, closed, or moved into a guest; only an open one can be used. While Python holds the
end of one side, the queue on which guests of the other side wait is marked `external`, so that no deadlock is seen
where Python may still act. Bytes are taken from the pipe after the last point at which a `receive` can be cancelled:
none are lost.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.abc
import anyio.lowlevel

from aiopyvm.abi.errno import EAGAIN, EPIPE, Errno
from aiopyvm.abi.fcntl import O_RDONLY, O_WRONLY
from aiopyvm.kernel.hoststream import MeteredEnd
from aiopyvm.kernel.pipe import DEFAULT_CAPACITY, MAX_CAPACITY, PipeEnd
from aiopyvm.kernel.pipe import Pipe as KernelPipe

if TYPE_CHECKING:
    from aiopyvm.kernel.hoststream import Meter
    from aiopyvm.kernel.wait import WaitQueue
    from aiopyvm.runtime.run import Run


class Channel:
    """A kernel pipe and the runs that hold its ends: what tells who waits for whom."""

    __slots__ = ("held", "pipe", "readers", "source", "writers")

    def __init__(self, pipe: KernelPipe) -> None:
        self.pipe = pipe
        self.readers: list[Run] = []
        self.writers: list[Run] = []
        self.source: MeteredEnd | None = None  # the guest's end, while Python reads
        self.held: dict[WaitQueue, int] = {}  # how many ends Python has that wake the queue


class _End(anyio.abc.AsyncResource):
    """One end in Python's hands. `file` is None when it was closed or moved."""

    def __init__(self, channel: Channel, file: PipeEnd, waiting: WaitQueue, other: WaitQueue) -> None:
        self._channel = channel
        self._file: PipeEnd | None = file
        self._waiting = waiting  # where this end waits
        self._other = other  # where guests at the other end wait
        self._event: anyio.Event | None = None
        file.hold()
        other.external = "python"
        channel.held[other] = channel.held.get(other, 0) + 1

    @property
    def waiting_queue(self) -> WaitQueue:
        """The queue that is woken when this end may go on."""
        return self._waiting

    def _open_file(self) -> PipeEnd:
        if self._file is None:
            raise anyio.ClosedResourceError
        return self._file

    async def _wait(self) -> None:
        if self._event is not None:
            raise anyio.BusyResourceError("using" if isinstance(self, SendEnd) else "reading from")
        event = self._event = anyio.Event()
        self._waiting.listeners[event.set] = None
        try:
            await event.wait()
        finally:
            self._event = None
            del self._waiting.listeners[event.set]

    def _detach(self) -> PipeEnd:
        file = self._open_file()
        self._file = None
        held = self._channel.held
        held[self._other] -= 1
        if not held[self._other]:
            self._other.external = ""
        if self._event is not None:
            self._event.set()
        return file

    def close(self) -> None:
        """Close now; nothing happens when it is closed or moved already."""
        if self._file is not None:
            self._detach().release()

    async def aclose(self) -> None:
        """Close; the other side sees the end of file, or a broken pipe."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    def __repr__(self) -> str:
        state = "open" if self._file is not None else "closed or moved"
        return f"<{type(self).__name__} {state}>"


class ReceiveEnd(_End, anyio.abc.ByteReceiveStream):
    """The reading end of a pipe. Given to a guest as its standard input it moves there and is closed for Python."""

    def __init__(self, channel: Channel) -> None:
        pipe = channel.pipe
        self._ahead = b""  # read from the pipe and not yet given out
        super().__init__(channel, PipeEnd(pipe, O_RDONLY), pipe.read_queue, pipe.write_queue)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return 1 to `max_bytes` bytes.

        Raises ValueError for `max_bytes` < 1, and anyio's EndOfStream, ClosedResourceError, BusyResourceError.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        await anyio.lowlevel.checkpoint()
        if not self._ahead:
            return await self._receive(max_bytes)
        self._open_file()
        data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
        return data

    async def _receive(self, max_bytes: int) -> bytes:
        while True:
            data = self.receive_nowait(max_bytes)
            if data is not None:
                return data
            await self._wait()

    def receive_nowait(self, max_bytes: int = 65536) -> bytes | None:
        """Return what is there now, None when that is nothing. Raises anyio's EndOfStream, ClosedResourceError."""
        file = self._open_file()
        if self._ahead:
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            return data
        try:
            data = file.read(max_bytes)
        except Errno as error:
            if error.number == EAGAIN:
                return None
            raise
        if not data:
            raise anyio.EndOfStream
        self._tell_writer()
        return data

    def _tell_writer(self) -> None:
        """There is room again in a pipe that was stretched."""
        source = self._channel.source
        if source is not None and source.elastic is not None and not source.overfull:
            self._other.wake()
            for run in self._channel.writers:
                run.answered()

    async def receive_exactly(self, nbytes: int) -> bytes:
        """Return exactly `nbytes` bytes.

        Raises ValueError for a negative number, anyio's IncompleteRead at an earlier end (what was there is kept),
        ClosedResourceError, BusyResourceError.
        """
        if nbytes < 0:
            raise ValueError(f"nbytes must not be negative: {nbytes}")
        await anyio.lowlevel.checkpoint()
        self._open_file()
        while len(self._ahead) < nbytes:
            await self._read_ahead()
        data, self._ahead = self._ahead[:nbytes], self._ahead[nbytes:]
        return data

    async def receive_until(self, delimiter: bytes, max_bytes: int = 65536) -> bytes:
        """Return the bytes before `delimiter`, which is read too.

        Raises ValueError for an empty delimiter, anyio's DelimiterNotFound when it is not among the next `max_bytes`,
        IncompleteRead at an earlier end, ClosedResourceError, BusyResourceError.
        """
        if not delimiter:
            raise ValueError("a delimiter is at least one byte")
        await anyio.lowlevel.checkpoint()
        self._open_file()
        start = 0
        while (at := self._ahead.find(delimiter, start)) < 0:
            if len(self._ahead) >= max_bytes:
                raise anyio.DelimiterNotFound(max_bytes)
            start = max(0, len(self._ahead) - len(delimiter) + 1)
            await self._read_ahead()
        data, self._ahead = self._ahead[:at], self._ahead[at + len(delimiter) :]
        return data

    async def receive_to(self, pattern: bytes | re.Pattern[bytes], max_bytes: int = 65536) -> bytes:
        """Return the bytes up to the first match of `pattern` (bytes as they are, or a compiled expression), which is
        read too.

        Raises ValueError for a pattern that matches nothing at all, anyio's DelimiterNotFound when it does not match
        within the next `max_bytes`, IncompleteRead at an earlier end (what was there is kept), ClosedResourceError,
        BusyResourceError.
        """
        if isinstance(pattern, bytes):
            pattern = re.compile(re.escape(pattern))
        if pattern.match(b""):
            raise ValueError("a pattern matches at least one byte")
        await anyio.lowlevel.checkpoint()
        self._open_file()
        while (match := pattern.search(self._ahead)) is None:
            if len(self._ahead) >= max_bytes:
                raise anyio.DelimiterNotFound(max_bytes)
            await self._read_ahead()
        data, self._ahead = self._ahead[: match.end()], self._ahead[match.end() :]
        return data

    async def _read_ahead(self) -> None:
        """Add what comes next to `_ahead`."""
        ahead, self._ahead = self._ahead, b""
        data = b""
        try:
            data = await self._receive(65536)
        except anyio.EndOfStream:
            raise anyio.IncompleteRead from None
        finally:
            self._ahead = ahead + data

    def share(self, run: Run, meter: Meter) -> MeteredEnd:
        """Let a further guest write to this pipe (a pipeline's standard error); return its end."""
        self._open_file()
        self._channel.writers.append(run)
        run.link(self._channel)
        return _metered(self._channel, run, meter)

    def lines(self, encoding: str | None = None) -> Lines:
        """Iterate over lines without their newline: `str` when an encoding is given, else `bytes`.

        Raises LookupError for an encoding that does not exist.
        """
        if encoding is not None:
            codecs.lookup(encoding)
        return Lines(self, encoding)

    async def _line(self) -> bytes:
        """Return the next line with its newline, b"" at the end."""
        await anyio.lowlevel.checkpoint()
        parts: list[bytes] = []
        try:
            while True:
                cut = self._ahead.find(b"\n") + 1
                if cut:
                    parts.append(self._ahead[:cut])
                    self._ahead = self._ahead[cut:]
                    line = b"".join(parts)
                    parts.clear()
                    return line
                if self._ahead:
                    parts.append(self._ahead)
                    self._ahead = b""
                try:
                    self._ahead = await self._receive(65536)
                except anyio.EndOfStream:
                    line = b"".join(parts)
                    parts.clear()
                    return line
        finally:
            if parts:  # cancelled: nothing is lost
                self._ahead = b"".join(parts) + self._ahead

    def move(self, run: Run) -> PipeEnd:
        """Give this end to `run`. Raises anyio.ClosedResourceError where it is not open."""
        file = self._detach()
        if self._ahead:
            file.unread(self._ahead)
            self._ahead = b""
        channel = self._channel
        channel.readers.append(run)
        if channel.source is not None:
            channel.source.settle()
        run.link(channel)
        return file


class Lines:
    """What `ReceiveEnd.lines` returns: an async iterator over lines."""

    __slots__ = ("_encoding", "_end")

    def __init__(self, end: ReceiveEnd, encoding: str | None) -> None:
        self._end = end
        self._encoding = encoding

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        line = await self._end._line()
        if not line:
            raise StopAsyncIteration
        line = line.removesuffix(b"\n")
        return line if self._encoding is None else line.decode(self._encoding)


class SendEnd(_End, anyio.abc.ByteSendStream):
    """The writing end of a pipe. Given to a guest as an output it moves there and is closed for Python."""

    def __init__(self, channel: Channel) -> None:
        pipe = channel.pipe
        super().__init__(channel, PipeEnd(pipe, O_WRONLY), pipe.write_queue, pipe.read_queue)

    @property
    def reading_queue(self) -> WaitQueue:
        """Where guests wait for what is sent here."""
        return self._other

    @property
    def drained(self) -> bool:
        """All that was sent has been read."""
        return not self._channel.pipe.size

    async def send(self, item: bytes) -> None:
        """Write all of `item`; waits while the pipe is full.

        Raises TypeError for what is not bytes, and anyio's BrokenResourceError, ClosedResourceError, BusyResourceError.
        """
        if not isinstance(item, (bytes, bytearray, memoryview)):
            raise TypeError(f"a pipe takes bytes, not {type(item).__name__}")
        await anyio.lowlevel.checkpoint()
        data = bytes(item)
        at = 0
        while True:
            n = self.send_nowait(data[at:] if at else data)
            at += n
            if at >= len(data):
                return
            if not n:
                await self._wait()

    def send_nowait(self, data: bytes) -> int:
        """Write what there is room for; return how much. Raises anyio's BrokenResourceError, ClosedResourceError."""
        try:
            return self._open_file().write(data)
        except Errno as error:
            if error.number == EAGAIN:
                return 0
            if error.number == EPIPE:
                raise anyio.BrokenResourceError from None
            raise

    def move(self, run: Run) -> PipeEnd:
        """Give this end to `run`. Raises anyio.ClosedResourceError where it is not open."""
        file = self._detach()
        self._channel.writers.append(run)
        run.link(self._channel)
        return file


class Pipe(NamedTuple):
    """The two ends of a pipe, both in Python's hands."""

    send: SendEnd
    receive: ReceiveEnd


def pipe(capacity: int = DEFAULT_CAPACITY) -> Pipe:
    """Make a pipe of at least `capacity` bytes (a power of two of pages). Its ends are for Python, for guests, or one
    for each.

    Raises ValueError unless 1 <= capacity <= 1 MiB, TypeError for what is no integer.
    """
    if not isinstance(capacity, int):
        raise TypeError(f"a pipe's capacity is a number of bytes, not {capacity!r}")
    if not 1 <= capacity <= MAX_CAPACITY:
        raise ValueError(f"a pipe's capacity is 1 to {MAX_CAPACITY} bytes, not {capacity}")
    channel = Channel(KernelPipe(None, capacity))
    return Pipe(SendEnd(channel), ReceiveEnd(channel))


class Shared(NamedTuple):
    """Stands for "the pipe that `end` reads" where an output is asked for."""

    end: ReceiveEnd


def _metered(channel: Channel, run: Run, meter: Meter) -> MeteredEnd:
    file = MeteredEnd(channel.pipe, meter)
    if run.ordered:
        file.stretch(DEFAULT_CAPACITY)
        run.outputs.append(file)
    return file


def output_pipe(run: Run, meter: Meter) -> tuple[PipeEnd, ReceiveEnd]:
    """Make a pipe from `run` to Python; return the guest's file and Python's end."""
    channel = Channel(KernelPipe())
    channel.writers.append(run)
    channel.source = file = _metered(channel, run, meter)
    run.link(channel)
    return file, ReceiveEnd(channel)


def input_pipe(run: Run) -> tuple[PipeEnd, SendEnd]:
    """Make a pipe from Python to `run`; return the guest's file and Python's end."""
    channel = Channel(KernelPipe())
    channel.readers.append(run)
    run.link(channel)
    file = PipeEnd(channel.pipe, O_RDONLY)
    return file, SendEnd(channel)

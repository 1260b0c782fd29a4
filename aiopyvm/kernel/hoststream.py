"""Standard streams whose other side is outside the guest machines: plain buffers that a pump of the runtime fills and
drains.

How it works. `HostInput` asks (`on_want`) when a guest reads and nothing is there; somebody answers with `feed`,
`feed_eof` or `fail`. It asks for one thing at a time and never for more than the guest did. `HostOutput` first offers
bytes to `direct`, which takes what it can at once; the rest waits in a buffer of a pipe's size, and `on_data` says that
there is something to `take`.

What always holds: nothing here waits; a buffer never holds more than CAPACITY bytes of output; a closed file asks for
nothing. Those that are told by signals of their input (sigio.py) have asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from aiopyvm.abi.errno import EAGAIN, EPIPE, Errno
from aiopyvm.abi.fcntl import O_RDONLY, O_WRONLY
from aiopyvm.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_IN, POLL_OUT
from aiopyvm.abi.stat import S_IFIFO, Stat
from aiopyvm.kernel.file import UNKNOWN, File
from aiopyvm.kernel.pipe import PAGE, PIPE_BUF, Pipe, PipeEnd
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.sigio import Fasync
    from aiopyvm.mem.space import AddressSpace

CAPACITY: Final = 65536


class Meter(Protocol):
    """What counts a guest's output and stops it at a limit."""

    def allow(self, n: int) -> int:
        """How many of `n` bytes may be written; where that is less, the run is about to end."""
        ...

    def wrote(self, data: bytes) -> None:
        """`data` was written."""
        ...


class Stream(File):
    """What the standard streams have in common: they look like pipes to the guest."""

    def __init__(self, flags: int, name: str) -> None:
        super().__init__(flags)
        self.name = name.encode()
        self._queue = WaitQueue(name, "host" if self.host else "")
        self.closed = False
        self.told: Fasync = {}  # who is told by signals

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """One queue for everything."""
        return (self._queue,)

    def fasync(self) -> tuple[Fasync, ...]:
        """One table for everything: what comes and what goes is told."""
        return (self.told,)

    def _came(self, reason: int) -> None:
        """Something happened: wake who waits, and tell by signals."""
        self._queue.wake()
        self._tell(reason)

    def _tell(self, reason: int) -> None:
        if self.told:
            from aiopyvm.kernel.sigio import kill_fasync  # at the first use: few ask for it

            kill_fasync(self.told, reason)

    def stat(self) -> Stat:
        """A pipe's attributes."""
        return Stat(ino=1, mode=S_IFIFO | 0o600)

    def close(self) -> None:
        """Forget the buffers; whoever waits is told."""
        self.closed = True
        self._queue.wake()


class BytesInput(Stream):
    """Input that is known beforehand, then end of file."""

    def __init__(self, data: bytes, name: str = "pipe:[stdin]") -> None:
        super().__init__(O_RDONLY, name)
        self._data = data
        self._view = memoryview(data)
        self._at = 0

    def read(self, n: int) -> bytes:
        """Return the next 1 to `n` bytes, b"" at the end."""
        return bytes(self.lend(n))

    def lend(self, n: int) -> memoryview:
        """Show the next 1 to `n` bytes; they never change."""
        start = self._at
        data = self._view[start : start + n]
        self._at = start + len(data)
        return data

    def pull(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `lend`, into memory."""
        start, left = self._at, len(self._data) - self._at
        n = n if n < left else left
        if n:
            room = memory.room(address, n)
            if room is None:
                return UNKNOWN
            room[:] = self._view[start : start + n]
            self._at = start + n
        return n

    def unread(self, data: bytes) -> None:
        """Put back the tail of the last read."""
        self._at -= len(data)

    def poll(self) -> int:
        """Always readable; POLLHUP at the end, as a pipe without writers."""
        return READABLE if self._at < len(self._data) else POLLHUP

    def available(self) -> int:
        """Bytes left."""
        return len(self._data) - self._at


class HostInput(Stream):
    """Input that the host is asked for when a guest reads."""

    host = True

    def __init__(self, name: str = "pipe:[stdin]") -> None:
        super().__init__(O_RDONLY, name)
        self._data = b""
        self._at = 0
        self._eof = False
        self._error = 0
        self.wanted = 0  # bytes asked for and not yet answered; 0: nothing is under way
        self.on_want: Callable[[], None] | None = None

    def read(self, n: int) -> bytes:
        """Return 1 to `n` bytes, b"" at the end. Raises Errno: EAGAIN after asking the host, or what the host
        answered."""
        return bytes(self.lend(n))

    def lend(self, n: int) -> bytes | memoryview:
        """As `read`, without a copy."""
        start = self._at
        if start < len(self._data):
            data = memoryview(self._data)[start : start + n]
            self._at = end = start + len(data)
            if self.told and end == len(self._data) and not (self._eof or self._error):
                self._want(PAGE)
            return data
        if self._error:
            raise Errno(self._error)
        if self._eof or not n:
            return b""
        self._want(n)
        raise Errno(EAGAIN)

    def unread(self, data: bytes) -> None:
        """Put back the tail of the last read."""
        self._at -= len(data)

    def poll(self) -> int:
        """Readable when something is there; asks the host for one byte when nothing is, for a page where it tells by
        signals."""
        if self._at < len(self._data):
            return READABLE
        if self._error:
            return READABLE | POLLERR
        if self._eof:
            return POLLHUP
        self._want(PAGE if self.told else 1)
        return 0

    def available(self) -> int:
        """Bytes that are here."""
        return len(self._data) - self._at

    def _want(self, n: int) -> None:
        if not self.wanted and not self.closed:
            self.wanted = n
            if self.on_want is not None:
                self.on_want()

    def feed(self, data: bytes) -> None:
        """Answer with `data` (not empty)."""
        self.wanted = 0
        if not self.closed:
            self._data = self._data[self._at :] + data if self._at < len(self._data) else data
            self._at = 0
            self._came(POLL_IN)

    def feed_eof(self) -> None:
        """Answer that there is no more."""
        self.wanted = 0
        self._eof = True
        self._queue.external = ""  # nobody can change anything any more
        self._came(POLL_IN)

    def fail(self, errno: int) -> None:
        """Answer with an error that every further read gets."""
        self.wanted = 0
        self._error = errno
        self._queue.external = ""
        self._came(POLL_IN)

    def close(self) -> None:
        """Drop what was read and tell the pump."""
        self._data, self._at = b"", 0
        super().close()
        if self.on_want is not None:
            self.on_want()


class Collector(Stream):
    """Output that `meter` keeps, as much as it allows."""

    def __init__(self, meter: Meter, name: str = "pipe:[stdout]") -> None:
        super().__init__(O_WRONLY, name)
        self._meter = meter

    def write(self, data: bytes | memoryview) -> int:
        """Hand over all that the meter allows. Raises Errno(EAGAIN) when that is nothing."""
        allowed = self._meter.allow(len(data))
        if not allowed and data:
            raise Errno(EAGAIN)
        kept = bytes(data[:allowed])
        self._meter.wrote(kept)
        if self.told and kept:
            self._tell(POLL_OUT)
        return allowed

    def borrow(self, data: bytes | memoryview) -> int:
        """As `write`, which keeps none of it."""
        return self.write(data)

    def poll(self) -> int:
        """Always writable."""
        return WRITABLE


class MeteredEnd(PipeEnd):
    """The writing end of a pipe whose reader is Python; `meter` becomes None when another guest takes over the
    reading."""

    def __init__(self, pipe: Pipe, meter: Meter) -> None:
        super().__init__(pipe, O_WRONLY)
        self.meter: Meter | None = meter
        self.elastic: int | None = None  # see `stretch`

    def stretch(self, capacity: int) -> None:
        """Take each write wholly while less than `capacity` bytes are there, so that how fast Python reads decides
        nothing that the guest can see. Whoever runs the guest stops it while the pipe is `overfull`."""
        self.elastic = capacity
        self.pipe.slots = 1 << 20

    def settle(self) -> None:
        """Be an ordinary end from now on: another guest reads."""
        self.meter = None
        if self.elastic is not None:
            self.pipe.slots = self.elastic // PAGE
            self.elastic = None

    @property
    def overfull(self) -> bool:
        """More is there than the pipe's capacity, because of `stretch`."""
        return self.elastic is not None and self.pipe.size >= self.elastic and self.pipe.readers > 0

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `borrow`, out of memory."""
        pipe, meter = self.pipe, self.meter
        if meter is None:
            return super().push(memory, address, n)
        if not n or not pipe.readers or self.elastic is not None or meter.allow(n) < n:
            return UNKNOWN
        data = memory.read(address, n)
        taken = pipe.put(data)
        if taken > 0:
            meter.wrote(data)
        return taken

    def write(self, data: bytes | memoryview) -> int:
        """Take bytes, as many as the meter allows. Raises Errno: EPIPE, EAGAIN, ENOMEM."""
        meter = self.meter
        if meter is None:
            return super().write(data)
        if self.overfull:
            raise Errno(EAGAIN)
        allowed = meter.allow(len(data)) if self.pipe.readers else len(data)
        if not allowed and data:
            raise Errno(EAGAIN)
        kept = bytes(data[:allowed])
        n = self.pipe.write(kept)
        meter.wrote(kept[:n])
        return n


class HostOutput(Stream):
    """Output that goes to the host: at once through `direct`, else through a buffer that a pump drains."""

    host = True

    def __init__(self, meter: Meter, name: str = "pipe:[stdout]", direct: Callable[[bytes], int] | None = None) -> None:
        super().__init__(O_WRONLY, name)
        self._queue.external = ""
        self._meter = meter
        self._direct = direct
        self._chunks: list[bytes] = []
        self._size = 0
        self.taken = 0  # bytes that the pump took and has not delivered yet
        self.broken = False
        self.elastic = False  # take each write wholly while there is room for any of it (as MeteredEnd.stretch)
        self.on_data: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Take 1 to len(data) bytes; up to PIPE_BUF all or nothing. Raises Errno: EPIPE when broken, EAGAIN without
        room."""
        if self.broken:
            raise Errno(EPIPE)
        n = len(data)
        room = CAPACITY - self.pending
        if self.elastic and room > 0:
            room = max(room, n)
        if n and (room <= 0 or room < n <= PIPE_BUF):
            raise Errno(EAGAIN)
        allowed = self._meter.allow(min(n, room))
        if not allowed and n:
            raise Errno(EAGAIN)
        kept = bytes(data[:allowed])
        self._meter.wrote(kept)
        if self._direct is not None and not self._size and not self.taken:
            kept = kept[self._direct(kept) :]
        if kept:
            self._chunks.append(kept)
            self._size += len(kept)
            self._queue.external = "host"
            if self.on_data is not None:
                self.on_data()
        elif self.told and n:
            self._tell(POLL_OUT)
        return allowed

    def borrow(self, data: bytes | memoryview) -> int:
        """As `write`, which keeps none of it."""
        return self.write(data)

    def poll(self) -> int:
        """Writable when PIPE_BUF bytes fit; POLLERR when broken."""
        if self.broken:
            return WRITABLE | POLLERR
        return WRITABLE if self.elastic or CAPACITY - self.pending >= PIPE_BUF else 0

    @property
    def overfull(self) -> bool:
        """More is there than fits, because it is elastic."""
        return self.elastic and self.pending >= CAPACITY and not self.broken

    @property
    def pending(self) -> int:
        """Bytes that the host has not got yet."""
        return self._size + self.taken

    def take(self) -> bytes:
        """Return all that is buffered, to be delivered; `delivered` says when that is done."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.taken += len(data)
        self._size = 0
        return data

    def delivered(self, n: int) -> None:
        """`n` of the bytes taken have arrived."""
        self.taken -= n
        if not self.pending:
            self._queue.external = ""  # there is nothing that the host could make room from
        self._came(POLL_OUT)
        if self.on_room is not None:
            self.on_room()

    def break_off(self) -> None:
        """Nobody receives any more: writing gives EPIPE from now on."""
        self.broken = True
        self._chunks.clear()
        self._size = self.taken = 0
        self._queue.external = ""
        self._came(POLL_OUT)
        if self.on_room is not None:
            self.on_room()

    def close(self) -> None:
        """The guest has closed its last descriptor; what is buffered is still delivered."""
        super().close()
        if self.on_data is not None:
            self.on_data()

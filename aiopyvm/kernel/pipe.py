"""Pipes and FIFOs, as pipe(7) and Linux's page slots have them.

How it works. A pipe has room for `slots` pages (16: 64 KiB). A write takes whole pages; its first len % 4096 bytes go
into the last page when they fit there, so that small writes share pages. Hence a write of at most PIPE_BUF bytes is
never split: it finds its place at once or EAGAIN. Bytes are kept as the chunks that were written; a chunk occupies
the pages of it that are not yet read. A pipe joins two kernels as well as two processes: its ends are files, and
threads wait on its two queues.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import EAGAIN, EBUSY, EINVAL, ENOMEM, ENXIO, EPERM, EPIPE, Errno
from aiopyvm.abi.fcntl import O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from aiopyvm.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_IN, POLL_OUT
from aiopyvm.abi.stat import S_IFIFO, Stat
from aiopyvm.kernel.file import LATER, UNKNOWN, File
from aiopyvm.kernel.ports import Budget
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.memfs import MemFifo
    from aiopyvm.kernel.sigio import Fasync
    from aiopyvm.mem.space import AddressSpace

PAGE = 4096
PIPE_BUF = 4096
DEFAULT_CAPACITY = 65536
MAX_CAPACITY = 1 << 20  # /proc/sys/fs/pipe-max-size


class Pipe:
    """The buffer between reading and writing ends; `readers` and `writers` count open ends.

    `read_queue` is woken when bytes or the end of file came, `write_queue` when room came or the last reader went.
    """

    __slots__ = (
        "_budget",
        "_chunks",
        "_start",
        "_used",
        "attributes",
        "fasync_readers",
        "fasync_writers",
        "number",
        "opened_readers",
        "opened_writers",
        "read_queue",
        "readers",
        "size",
        "slots",
        "write_queue",
        "writers",
    )

    def __init__(self, budget: Budget | None = None, capacity: int = DEFAULT_CAPACITY, number: int = 1) -> None:
        self._budget = budget
        self.number = number
        self.attributes = Stat(ino=number, mode=S_IFIFO | 0o600, dev=14)  # of one that is no FIFO
        self._chunks: deque[bytes | bytearray] = deque()
        self._start = 0  # bytes of the first chunk that were read
        self._used = 0  # pages occupied
        self.size = 0  # bytes held
        self.slots = pages_for(capacity)
        self.readers = 0
        self.writers = 0
        self.opened_readers = 0  # how often an end was opened: what an open(2) of a FIFO waits for
        self.opened_writers = 0
        self.fasync_readers: Fasync = {}  # who is told by signals (sigio.py)
        self.fasync_writers: Fasync = {}
        self.read_queue = WaitQueue("pipe: data")
        self.write_queue = WaitQueue("pipe: room")

    @property
    def capacity(self) -> int:
        """Room in bytes, used or not."""
        return self.slots * PAGE

    @property
    def full(self) -> bool:
        """Whether no page is free."""
        return self._used >= self.slots

    def resize(self, capacity: int) -> int:
        """Set the capacity; return what it became (F_SETPIPE_SZ). Raises Errno: EINVAL, EPERM, EBUSY."""
        if not 0 <= capacity <= 1 << 31:
            raise Errno(EINVAL)
        if capacity > MAX_CAPACITY:
            raise Errno(EPERM)
        slots = pages_for(capacity)
        if slots < self._used:
            raise Errno(EBUSY)
        self.slots = slots
        self.write_queue.wake()
        return self.capacity

    @property
    def tells(self) -> bool:
        """Whether somebody is told by signals of what comes or of room: nothing may then pass it by."""
        return bool(self.fasync_readers or self.fasync_writers)

    # --- data -------------------------------------------------------------------------------------------------------

    def read(self, n: int) -> bytes:
        """Return 1 to `n` bytes; b"" at the end of file. Raises Errno(EAGAIN) when nothing is there yet."""
        data = self.find(n)
        if data is None:
            raise Errno(EAGAIN)
        return data

    def find(self, n: int) -> bytes | None:
        """As `read`; None when nothing is there yet."""
        if not self.size:
            return None if n and self.writers else b""
        if n <= 0:
            return b""
        was_full = self.full
        data = self._take(n)
        self.size -= len(data)
        if self._budget is not None:
            self._budget.charge(-len(data))
        if was_full and not self.full:
            self.write_queue.wake()
        if self.fasync_writers:
            self._tell(self.fasync_writers, POLL_OUT)
        return data

    def peek(self, n: int) -> bytes:
        """Return the first `n` bytes, or as many as there are, and leave them (tee(2))."""
        parts, start = [], self._start
        for chunk in self._chunks:
            if n <= 0:
                break
            parts.append(bytes(memoryview(chunk)[start : start + n]))
            n -= len(parts[-1])
            start = 0
        return b"".join(parts)

    @property
    def room(self) -> int:
        """How many bytes the free pages hold."""
        return (self.slots - self._used) * PAGE

    def _take(self, n: int) -> bytes:
        chunks = self._chunks
        parts: list[bytes | bytearray | memoryview] = []
        while n and chunks:
            chunk, start = chunks[0], self._start
            left = len(chunk) - start
            if left <= n:
                parts.append(memoryview(chunk)[start:] if start else chunk)
                n -= left
                self._used -= pages_in(start, len(chunk))
                self._start = 0
                chunks.popleft()
            else:
                parts.append(memoryview(chunk)[start : start + n])
                self._used -= (start + n) // PAGE - start // PAGE
                self._start = start + n
                n = 0
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return parts[0]
        return b"".join(parts)

    def unread(self, data: bytes) -> None:
        """Put back the tail of what `read` just returned."""
        if not data:
            return
        if self._budget is not None:
            self._budget.charge(len(data))
        self.size += len(data)
        if self._start:
            self._used -= pages_in(self._start, len(self._chunks[0]))
            data += bytes(memoryview(self._chunks.popleft())[self._start :])
            self._start = 0
        self._chunks.appendleft(data)
        self._used += pages_in(0, len(data))
        self.read_queue.wake()

    def write(self, data: bytes | memoryview) -> int:
        """Take `data` or, if it is longer than PIPE_BUF, a part of it; return how many bytes.

        Raises Errno: EPIPE without readers, EAGAIN when there is no room, ENOMEM when the budget refuses.
        """
        if not self.readers:
            raise Errno(EPIPE)
        if not data:
            return 0
        if self.tells:
            n = self._keep(data)
            self._tell(self.fasync_readers, POLL_IN)
            return n
        queue = self.read_queue
        if queue.threads and not self.size and (handed := queue.hand_over(data)):
            return handed if handed == len(data) else handed + self._keep_rest(data[handed:])
        return self._keep(data)

    def put(self, data: bytes | memoryview) -> int:
        """Take all of `data`, and return how many bytes these are; UNKNOWN, and nothing is taken, where it has no room
        for all, LATER where it has none at all.

        Raises Errno(ENOMEM) when the budget refuses; nothing is taken then.
        """
        n = len(data)
        if self.tells:
            return UNKNOWN
        queue = self.read_queue
        if queue.threads and not self.size and queue.hand_over(data, True):
            return n
        free = (self.slots - self._used) * PAGE
        if n > free and n > (free := free + self._mergeable(n)):
            return UNKNOWN if free > 0 else LATER
        return self._keep(data)

    def take(self, room: memoryview) -> None:
        """Move as many bytes as there is room for, which are there, into `room`."""
        was_full = self._used >= self.slots
        n = len(room)
        chunk, start = self._chunks[0], self._start
        if len(chunk) - start == n:
            room[:] = memoryview(chunk)[start:] if start else chunk
            self._chunks.popleft()
            self._used -= pages_in(start, len(chunk))
            self._start = 0
        else:
            room[:] = self._take(n)
        self.size -= n
        if self._budget is not None:
            self._budget.charge(-n)
        queue = self.write_queue
        if was_full and self._used < self.slots and (queue.threads or queue.listeners) and not queue.take_over():
            queue.wake()
        if self.fasync_writers:
            self._tell(self.fasync_writers, POLL_OUT)

    def _keep_rest(self, data: bytes | memoryview) -> int:
        """What is left of a write whose beginning was read already."""
        try:
            return self._keep(data)
        except Errno:
            return 0

    def _keep(self, data: bytes | memoryview) -> int:
        n = len(data)
        merged = self._mergeable(n)
        room = merged + (self.slots - self._used) * PAGE
        if room <= 0:
            raise Errno(EAGAIN)
        if n > room:
            n, data = room, data[:room]
        if self._budget is not None and not self._budget.charge(n):
            raise Errno(ENOMEM)
        if merged:
            self._merge(data[:merged])
        if n > merged:
            self._chunks.append(bytes(data[merged:] if merged else data))
            self._used += (n - merged + PAGE - 1) // PAGE
        self.size += n
        queue = self.read_queue
        if queue.threads or queue.listeners:
            queue.wake()
        return n

    def _mergeable(self, n: int) -> int:
        """How many of the first bytes of a write of `n` go into the last page."""
        first = n % PAGE
        if not first or not self.size:
            return 0
        filled = len(self._chunks[-1]) % PAGE
        return first if filled and filled + first <= PAGE else 0

    def _merge(self, data: bytes | memoryview) -> None:
        last = self._chunks[-1]
        if isinstance(last, bytearray) and len(last) < PAGE:
            last += data
        elif len(last) < PAGE:
            self._chunks[-1] = bytearray(last) + data
        else:  # a long chunk keeps its whole pages; its last page becomes a chunk of its own
            self._split_last_page(data)

    def _split_last_page(self, data: bytes | memoryview) -> None:
        last = self._chunks.pop()
        cut = len(last) - len(last) % PAGE
        alone = not self._chunks
        if alone and self._start >= cut:
            self._start -= cut
        else:
            self._chunks.append(bytes(last[:cut]))
        self._chunks.append(bytearray(last[cut:]) + data)

    def drain(self) -> None:
        """Forget what nobody can read any more."""
        if self._budget is not None:
            self._budget.charge(-self.size)
        self._chunks.clear()
        self._start = self._used = self.size = 0

    # --- ends -------------------------------------------------------------------------------------------------------

    def add(self, reader: bool, writer: bool) -> None:
        """Count an opened end."""
        self.readers += reader
        self.writers += writer
        self.opened_readers += reader
        self.opened_writers += writer
        if reader:
            self.write_queue.wake()
        if writer:
            self.read_queue.wake()

    def remove(self, reader: bool, writer: bool) -> None:
        """Count a closed end; the other side learns of the last one."""
        self.readers -= reader
        self.writers -= writer
        if not self.readers:
            self.write_queue.wake()
        if not self.writers:
            self.read_queue.wake()
        if not self.readers and not self.writers:
            self.drain()
        elif not self.readers or not self.writers:
            self._tell(self.fasync_readers, POLL_IN)
            self._tell(self.fasync_writers, POLL_OUT)

    def _tell(self, table: Fasync, reason: int) -> None:
        """Send signals to those of a table, if there are any."""
        if table:
            from aiopyvm.kernel.sigio import kill_fasync  # at the first use: few ask for it

            kill_fasync(table, reason)


class PipeEnd(File):
    """A reading, writing or (a FIFO opened O_RDWR) two-way end of a pipe."""

    endless = True
    unit = PAGE
    cost = 2048  # with half of the pipe

    def __init__(self, pipe: Pipe, flags: int, fifo: MemFifo | None = None) -> None:
        super().__init__(flags, fifo)
        self.pipe = pipe
        access = flags & O_ACCMODE
        self._reader = access in (O_RDONLY, O_RDWR)
        self._writer = access in (O_WRONLY, O_RDWR)
        self.name = b"pipe:[%d]" % pipe.number
        self._queues: tuple[WaitQueue, ...] = (pipe.read_queue,) if self._reader else (pipe.write_queue,)
        if self._reader and self._writer:
            self._queues = (pipe.read_queue, pipe.write_queue)
        self._writers_at_open = -1 if pipe.writers else pipe.opened_writers
        if fifo is not None:
            fifo.opened()
        pipe.add(self._reader, self._writer)

    def close(self) -> None:
        """Count this end out."""
        self.pipe.remove(self._reader, self._writer)
        fifo = self.inode
        if fifo is not None:
            if not self.pipe.readers and not self.pipe.writers:
                fifo.pipe = None  # type: ignore[attr-defined]  # a MemFifo
            fifo.closed()  # type: ignore[attr-defined]

    def read(self, n: int) -> bytes:
        """Return 1 to `n` bytes; b"" at the end of file. Raises Errno(EAGAIN)."""
        return self.pipe.read(n)

    def unread(self, data: bytes) -> None:
        """Put back the tail of what `read` just returned."""
        self.pipe.unread(data)

    def lend(self, n: int) -> bytes | None:
        """As `read`; None for EAGAIN."""
        return self.pipe.find(n)

    def pull(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `lend`, into memory."""
        pipe = self.pipe
        size = pipe.size
        if not size:
            return LATER if n and pipe.writers else 0
        if not n:
            return 0
        room = memory.room(address, n if n < size else size)
        if room is None:
            return UNKNOWN
        pipe.take(room)
        return len(room)

    def write(self, data: bytes | memoryview) -> int:
        """Take bytes. Raises Errno: EPIPE, EAGAIN, ENOMEM."""
        return self.pipe.write(data)

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `borrow`, out of memory."""
        pipe = self.pipe
        return pipe.put(memory.glance(address, n)) if n and pipe.readers else UNKNOWN

    def borrow(self, data: bytes | memoryview) -> int:
        """As `write`, which keeps none of it."""
        return self.write(data)

    def poll(self) -> int:
        """Return the events that hold now (poll(2))."""
        pipe = self.pipe
        events = 0
        if self._reader:
            events |= READABLE if pipe.size else 0
            events |= POLLHUP if not pipe.writers and pipe.opened_writers != self._writers_at_open else 0
        if self._writer:
            events |= 0 if pipe.full else WRITABLE
            events |= 0 if pipe.readers else POLLERR
        return events

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the queue of this end's side, or both."""
        return self._queues

    def fasync(self) -> tuple[Fasync, ...]:
        """The tables of this end's side, or both."""
        pipe = self.pipe
        return (pipe.fasync_readers,) * self._reader + (pipe.fasync_writers,) * self._writer

    def available(self) -> int:
        """Return the bytes held."""
        return self.pipe.size

    def stat(self) -> Stat:
        """Return the attributes: a FIFO's, or an anonymous pipe's."""
        if self.inode is not None:
            return self.inode.stat()
        return self.pipe.attributes

    def change(self, **attributes: int) -> None:
        """Set some of them, for both ends."""
        self.pipe.attributes = self.pipe.attributes._replace(**attributes)


def make_pipe(
    budget: Budget | None = None, capacity: int = DEFAULT_CAPACITY, *, flags: int = 0, number: int = 1
) -> tuple[PipeEnd, PipeEnd]:
    """Return the (reading, writing) ends of a new pipe; `flags` may hold O_NONBLOCK (pipe2(2))."""
    pipe = Pipe(budget, capacity, number)
    return PipeEnd(pipe, O_RDONLY | flags), PipeEnd(pipe, O_WRONLY | flags)


def open_fifo(fifo: MemFifo, flags: int) -> PipeEnd:
    """Open an end of a FIFO without waiting. Raises Errno(ENXIO): O_WRONLY and O_NONBLOCK without a reader."""
    if fifo.pipe is None:
        fifo.pipe = Pipe(fifo.fs.budget)
    if flags & O_ACCMODE == O_WRONLY and flags & O_NONBLOCK and not fifo.pipe.readers:
        if not fifo.pipe.writers:
            fifo.pipe = None
        raise Errno(ENXIO)
    return PipeEnd(fifo.pipe, flags, fifo)


def fifo_partner(end: PipeEnd) -> tuple[WaitQueue, int]:
    """Return what an open(2) of a FIFO waits for: the queue, and how many partners were opened until now."""
    pipe = end.pipe
    if end.flags & O_ACCMODE == O_RDONLY:
        return pipe.read_queue, pipe.opened_writers
    return pipe.write_queue, pipe.opened_readers


def pages_in(start: int, length: int) -> int:
    """How many pages of a chunk of `length` bytes are not wholly read when `start` bytes are."""
    return (length + PAGE - 1) // PAGE - start // PAGE


def pages_for(capacity: int) -> int:
    """Return the pages of a pipe of at least `capacity` bytes: a power of two."""
    pages = max(1, (capacity + PAGE - 1) // PAGE)
    return 1 << (pages - 1).bit_length()

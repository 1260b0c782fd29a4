"""Sockets: what all families have in common (socket(7), socket(2)).

How it works. A socket is a file. What it can do is said by its family's class; this base refuses as Linux does where a
family lacks an operation. Nothing here waits: `send`, `receive`, `accept` and `connect` raise `Errno(EAGAIN)` (or
EINPROGRESS) when nothing can be done yet, and `queues` are woken when `poll()` may have changed: `read_queue` for data,
connections and ends, `write_queue` for room; both for errors. Addresses are the bytes of a `struct sockaddr`.

What always holds. What is on its way to a socket is charged to that socket's budget and given back when it is taken or
dropped; a message holds the files that it carries (SCM_RIGHTS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import EBADF, EINVAL, ENOBUFS, ENOTCONN, EOPNOTSUPP, Errno
from aiopyvm.abi.fcntl import O_RDWR
from aiopyvm.abi.poll import POLLERR, POLLHUP, POLLPRI, POLLRDHUP, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_IN, POLL_OUT, POLL_PRI
from aiopyvm.abi.socket import Ucred
from aiopyvm.abi.stat import S_IFSOCK, Stat
from aiopyvm.kernel.file import File
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.sigio import Fasync
    from aiopyvm.kernel.thread import Thread

RCV_SHUTDOWN: Final = 1
SEND_SHUTDOWN: Final = 2
SHUTDOWN_MASK: Final = 3
MESSAGE_BYTES: Final = 768  # what a message costs beside its data: of the budget, and of buffer sizes
SOCKFS_DEVICE: Final = 8


class Outgoing(NamedTuple):
    """What one sendmsg(2) sends: `address` is the destination's, None: none was given; `control` as in `Incoming`."""

    data: bytes
    flags: int = 0
    address: bytes | None = None
    files: tuple[File, ...] = ()
    creds: Ucred | None = None
    control: tuple[tuple[int, int, bytes], ...] = ()


class Incoming(NamedTuple):
    """What one recvmsg(2) gets. `length` is a whole datagram's; `flags` are to be told; `files` are the caller's to
    release; `creds` is None where SO_PASSCRED is off; `control` has more that goes along, (level, type, data)."""

    data: bytes
    length: int = -1
    address: bytes | None = None
    flags: int = 0
    files: tuple[File, ...] = ()
    creds: Ucred | None = None
    control: tuple[tuple[int, int, bytes], ...] = ()


class Options:
    """The options of SOL_SOCKET that are mere values, as setsockopt(2) sets them; times in ns, None: for ever."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {abi.SO_SNDBUF: abi.BUFFER_SIZE, abi.SO_RCVBUF: abi.BUFFER_SIZE}
        self.linger: int | None = None  # seconds; None: off
        self.receive_timeout: int | None = None
        self.send_timeout: int | None = None
        self.fixed_send_buffer = False  # SO_SNDBUF was set

    def __getitem__(self, option: int) -> int:
        return self.values.get(option, 0)

    def copy(self) -> Options:
        """Return an independent copy, for an accepted connection."""
        made = Options()
        made.__dict__.update(self.__dict__, values=dict(self.values))
        return made


class Socket(File):
    """A socket of any family; see the module's docstring.

    `number` is its inode's; `budget` pays for what it receives. `endless` as of files: streams of bytes.
    """

    cost = 6144
    socket = True
    domain = abi.AF_UNSPEC
    attributes: Stat | None = None  # once some were changed

    def __init__(self, kind: int, protocol: int, budget: Budget, number: int, flags: int = 0) -> None:
        super().__init__(O_RDWR | flags)
        self.kind = kind
        self.protocol = protocol
        self.budget = budget
        self.number = number
        self.name = b"socket:[%d]" % number
        self.endless = kind == abi.SOCK_STREAM
        self.options = Options()
        self.error = 0  # SO_ERROR
        self.shut = 0  # RCV_SHUTDOWN, SEND_SHUTDOWN
        self.listening = False
        self.unclaimed = False  # not accepted yet: what it costs is charged to its budget, not to an open file
        self.owner = (0, 0)
        self.told: Fasync = {}  # itself, where data and room send signals (sigio.py)
        self.no_space = False  # a send found no room
        self.read_queue = WaitQueue("socket: data")
        self.write_queue = WaitQueue("socket: room")

    # --- naming and connecting --------------------------------------------------------------------------------------

    def bind(self, t: Thread, address: bytes) -> None:
        """bind(2). Raises Errno."""
        raise Errno(EOPNOTSUPP)

    def connect(self, t: Thread, address: bytes) -> None:
        """connect(2). Raises Errno: EINPROGRESS once where it has begun, EAGAIN where it cannot begin yet."""
        raise Errno(EOPNOTSUPP)

    def connected(self) -> bool:
        """Whether a connection that `connect` has begun is made. Raises Errno where it failed."""
        return True

    def listen(self, t: Thread, backlog: int) -> None:
        """listen(2). Raises Errno."""
        raise Errno(EOPNOTSUPP)

    def accept(self, t: Thread) -> Socket:
        """Return the next connection's socket, which nobody holds. Raises Errno: EAGAIN."""
        raise Errno(EOPNOTSUPP)

    def local_address(self) -> bytes:
        """getsockname(2)."""
        raise NotImplementedError

    def peer_address(self) -> bytes:
        """getpeername(2). Raises Errno(ENOTCONN)."""
        raise Errno(ENOTCONN)

    def shutdown(self, how: int) -> None:
        """shutdown(2). Raises Errno."""
        raise Errno(EOPNOTSUPP)

    # --- data -------------------------------------------------------------------------------------------------------

    def send(self, t: Thread, message: Outgoing) -> int:
        """Take a message, or of a stream's data at least one byte; return how many bytes. Raises Errno: EAGAIN."""
        raise Errno(EOPNOTSUPP)

    def receive(self, t: Thread, n: int, flags: int) -> Incoming:
        """Return the next message, or 1 to `n` bytes; b"" at the end of a stream. Raises Errno: EAGAIN."""
        raise Errno(EOPNOTSUPP)

    def unreceive(self, data: bytes) -> None:
        """Put back the tail of what `receive` just returned, of a stream: the caller could not take it."""

    def at_mark(self) -> bool:
        """Whether the next byte is urgent: what is received ends before it."""
        return False

    def may_receive(self) -> None:
        """Raise Errno where receiving is an error whatever there is."""

    # --- options ----------------------------------------------------------------------------------------------------

    def get_option(self, t: Thread, level: int, option: int, size: int) -> bytes | None:
        """Return an option that only this family has; None: it has no such one. Raises Errno."""
        return None

    def set_option(self, t: Thread, level: int, option: int, data: bytes) -> bool:
        """Set an option that only this family has; False: it has no such one. Raises Errno."""
        return False

    def peer_credentials(self) -> Ucred:
        """SO_PEERCRED."""
        return abi.NOBODY

    def control(self, t: Thread, request: int, arg: int) -> int:
        """ioctl(2): what this family knows, and network interfaces. Raises Errno: ENOTTY."""
        from aiopyvm.kernel.interfaces import control

        return control(t.kernel.net.inet, t, request, arg)

    def claimed(self) -> None:
        """Give back what it costs while nobody has it open."""
        if self.unclaimed:
            self.unclaimed = False
            self.budget.charge(-self.cost)

    def take_error(self) -> int:
        """Return the pending error and forget it (SO_ERROR)."""
        error, self.error = self.error, 0
        return error

    def raise_error(self) -> None:
        """Raise the pending error, which is forgotten with that."""
        if self.error:
            raise Errno(self.take_error())

    # --- a file -----------------------------------------------------------------------------------------------------

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """The queues of the directions asked for; of both where it is neither."""
        reads = events & (READABLE | POLLRDHUP | POLLPRI)
        writes = events & WRITABLE
        if reads and not writes:
            return (self.read_queue,)
        return (self.write_queue,) if writes and not reads else (self.read_queue, self.write_queue)

    def state_events(self) -> int:
        """The events of poll(2) that errors and ends make, alike in all families."""
        events = POLLERR if self.error else 0
        if self.shut == SHUTDOWN_MASK:
            events |= POLLHUP
        return events | READABLE | POLLRDHUP if self.shut & RCV_SHUTDOWN else events

    def wake(self) -> None:
        """Tell everybody that waits."""
        self.read_queue.wake()
        self.write_queue.wake()

    def data_came(self) -> None:
        """Something can be received now: wake who waits for it, and tell by a signal."""
        if self.told:
            self.tell_reader(POLL_IN)
        self.read_queue.wake()

    def room_came(self) -> None:
        """Something can be sent now."""
        if (queue := self.write_queue).threads or queue.listeners:
            queue.wake()
        if self.told and self.no_space and self.poll() & WRITABLE:
            self.no_space = False
            self.tell_async(POLL_OUT)

    def tell_reader(self, reason: int) -> None:
        """Send the signals of what came, unless somebody waits in a call to receive of a stream."""
        calls = [thread.call.name for thread in self.read_queue if thread.call is not None]
        received = [name for name in calls if "poll" not in name and "select" not in name]
        if not received or self.listening or not self.endless:
            self.tell_async(reason)

    def tell_urgent(self) -> None:
        """Tell by signals that something urgent came: SIGURG, and where another signal was asked for that too."""
        if self.io_owner is not None:
            from aiopyvm.kernel.sigio import send_sigurg

            send_sigurg(self)
            if self.io_signal:
                self.tell_async(POLL_PRI)

    def tell_async(self, reason: int) -> None:
        """Send signals, where O_ASYNC asks for them: POLL_IN and the like."""
        if self.told:
            from aiopyvm.kernel.sigio import kill_fasync  # at the first use: few ask for it

            kill_fasync(self.told, reason)

    def fasync(self) -> tuple[Fasync, ...]:
        """Its own table."""
        return (self.told,)

    def stat(self) -> Stat:
        """A socket's attributes."""
        if self.attributes is not None:
            return self.attributes
        uid, gid = self.owner
        return Stat(ino=self.number, mode=S_IFSOCK | 0o777, dev=SOCKFS_DEVICE, uid=uid, gid=gid)

    def change(self, **attributes: int) -> None:
        """Set some of them."""
        self.attributes = self.stat()._replace(**attributes)

    def pay(self, size_bytes: int) -> None:
        """Charge a message to this socket's budget. Raises Errno(ENOBUFS)."""
        if not self.budget.charge(size_bytes + MESSAGE_BYTES):
            raise Errno(ENOBUFS)

    def repay(self, size_bytes: int) -> None:
        """Give back what `pay` took."""
        self.budget.charge(-size_bytes - MESSAGE_BYTES)


def credentials_of(t: Thread) -> Ucred:
    """Return who makes the present call."""
    who = t.credentials
    return Ucred(t.process.pid, who.euid, who.egid)


def family_of(address: bytes) -> int:
    """Return the family of a socket address. Raises Errno(EINVAL) for one without."""
    if len(address) < 2:
        raise Errno(EINVAL)
    return int.from_bytes(address[:2], "little")


def need_alive(file: File) -> File:
    """Return an open file. Raises Errno(EBADF) where it was closed meanwhile."""
    if not file.refs:
        raise Errno(EBADF)
    return file

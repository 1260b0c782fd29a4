"""AF_UNIX sockets: streams, datagrams and sequenced packets between the processes of one kernel (unix(7)).

How it works. Each socket has an inbox of messages; a stream's messages are its sender's pieces, so that the files and
credentials that come with one are never mixed with another's. A sender's bytes that wait in inboxes count against its
SO_SNDBUF (`sent`). A listening socket has `arrivals`: connected sockets that nobody accepted yet. Names are kept by the
kernel's `UnixNames`: abstract ones by type and bytes, path names by the file system's device and inode number.

An urgent byte (MSG_OOB) is a message of its own, which stays in its place, empty, when recv(2) with MSG_OOB takes it.

What always holds. `peer` stays when the peer is closed (`dead`), as writing must say EPIPE then; files in inboxes are
held by their message; a cycle of sockets that only their own inboxes hold is found when one closes (`unixgc.py`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import (
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EEXIST,
    EINVAL,
    EISCONN,
    EMSGSIZE,
    ENOMEM,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    EPROTOTYPE,
    ETOOMANYREFS,
    Errno,
)
from aiopyvm.abi.fcntl import W_OK
from aiopyvm.abi.poll import POLLHUP, POLLPRI, POLLWRBAND, READABLE, WRITABLE
from aiopyvm.abi.resource import RLIMIT_NOFILE
from aiopyvm.abi.signal import POLL_HUP, POLL_IN
from aiopyvm.abi.socket import AF_UNIX, MSG_PEEK, MSG_TRUNC, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, Ucred
from aiopyvm.abi.stat import S_IFSOCK
from aiopyvm.kernel.file import LATER, UNKNOWN
from aiopyvm.kernel.fs import need
from aiopyvm.kernel.socket import (
    MESSAGE_BYTES,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    Incoming,
    Outgoing,
    Socket,
    credentials_of,
    family_of,
    need_alive,
)
from aiopyvm.kernel.unixgc import collect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.mem.space import AddressSpace

FAMILY: Final = AF_UNIX.to_bytes(2, "little")
CONNECTED: Final = (SOCK_STREAM, SOCK_SEQPACKET)

Name = tuple[int, bytes] | tuple[int, int]  # abstract with its type of socket, or where its file is


class UnixNames:
    """The bound sockets of one kernel, and all that have files in their inboxes."""

    def __init__(self) -> None:
        self.bound: dict[Name, UnixSocket] = {}
        self.sockets: dict[UnixSocket, None] = {}  # all that are open or on their way
        self.in_flight = 0  # files that are in inboxes
        self.collecting = False  # see unixgc.py
        self._dropped: list[File] | None = None  # to be let go of, while that is done
        self._automatic = 0

    def drop(self, files: Iterable[File]) -> None:
        """Let go of files that were in an inbox: one after the other, however long a chain of sockets they close."""
        if self._dropped is not None:
            self._dropped += files
            return
        left = self._dropped = list(files)
        while left:
            left.pop().release()
        self._dropped = None

    def automatic(self, kind: int) -> bytes:
        """Return an abstract name that is free for sockets of a type (unix(7), "Autobind feature")."""
        while True:
            self._automatic = self._automatic + 1 & 0xFFFFF
            name = b"\0%05x" % self._automatic
            if (kind, name) not in self.bound:
                return name


class Message:
    """What waits in an inbox: data from `start` on, who sent it, and what comes with it."""

    __slots__ = ("creds", "data", "files", "sender", "size", "start")

    def __init__(self, sender: UnixSocket, data: bytes, files: tuple[File, ...], creds: Ucred | None) -> None:
        self.sender = sender
        self.data = data
        self.size = len(data)  # charged
        self.start = 0
        self.files = files
        self.creds = creds


class UnixSocket(Socket):
    """A socket of the family AF_UNIX; its `kind` decides what it does."""

    domain = AF_UNIX

    def __init__(self, names: UnixNames, kind: int, budget: Budget, number: int, flags: int = 0) -> None:
        super().__init__(kind, 0, budget, number, flags)
        self.names = names
        self.key: Name | None = None
        self.path = b""  # sun_path as it was bound
        self.peer: UnixSocket | None = None
        self.inbox: deque[Message] = deque()
        self.arrivals: deque[UnixSocket] = deque()
        self.backlog = 0
        self.sent = 0  # bytes of it in inboxes
        self.credentials = abi.NOBODY  # of the other end
        self.dead = False
        self.urgent: Message | None = None  # of the inbox: the last byte that was sent with MSG_OOB, until it is taken
        self.embryo = False  # on its way to be accepted
        self.established = False
        names.sockets[self] = None

    # --- names ------------------------------------------------------------------------------------------------------

    def bind(self, t: Thread, address: bytes) -> None:
        """Take a name. Raises Errno: EINVAL for what is none, or has one; EADDRINUSE; those of a path."""
        path = self._path_of(address)
        if not path:
            if self.key is None:
                self._take_abstract(self.names.automatic(self.kind))
            return
        if path[0] == 0:
            if self.key is not None:
                raise Errno(EINVAL)
            if (self.kind, path) in self.names.bound:
                raise Errno(EADDRINUSE)
            self._take_abstract(path)
            return
        if self.key is not None:
            raise Errno(EINVAL)
        path = path.partition(b"\0")[0]
        ctx = t.fs
        try:
            inode = ctx.vfs.make(ctx, path, S_IFSOCK | 0o777)
        except Errno as error:
            raise Errno(EADDRINUSE if error.number == EEXIST else error.number) from None
        self._take((inode.fs.device, inode.stat().ino), path + b"\0")

    def _take_abstract(self, name: bytes) -> None:
        self._take((self.kind, name), name)

    def _take(self, key: Name, path: bytes) -> None:
        self.key, self.path = key, path
        self.names.bound[key] = self

    @staticmethod
    def _path_of(address: bytes) -> bytes:
        if len(address) > abi.UNIX_PATH_MAX + 2 or family_of(address) != AF_UNIX:
            raise Errno(EINVAL)
        return address[2:]

    def _find(self, t: Thread, address: bytes) -> UnixSocket:
        """Return the socket that is bound to an address. Raises Errno: ECONNREFUSED where there is none."""
        path = self._path_of(address)
        if not path:
            raise Errno(EINVAL)
        key: Name = (self.kind, path)
        if path[0]:
            ctx = t.fs
            inode = ctx.vfs.lookup(ctx, path.partition(b"\0")[0])
            need(inode, ctx, W_OK)
            if inode.kind != S_IFSOCK:
                raise Errno(ECONNREFUSED)
            key = (inode.fs.device, inode.stat().ino)
        found = self.names.bound.get(key)
        if found is None:
            raise Errno(ECONNREFUSED)
        if found.kind != self.kind:
            raise Errno(EPROTOTYPE)
        return found

    def local_address(self) -> bytes:
        """Return the name; only a family where there is none."""
        return FAMILY + self.path

    def peer_address(self) -> bytes:
        """Return the peer's name. Raises Errno(ENOTCONN)."""
        if self.peer is None:
            raise Errno(ENOTCONN)
        return self.peer.local_address()

    def peer_credentials(self) -> Ucred:
        """Who connected, or listened, or made the pair."""
        return self.credentials

    # --- connections ------------------------------------------------------------------------------------------------

    def pair(self, other: UnixSocket, who: Ucred) -> None:
        """Connect two new sockets (socketpair(2))."""
        for one, two in ((self, other), (other, self)):
            one.peer = two
            one.credentials = who
            one.established = self.kind in CONNECTED

    def connect(self, t: Thread, address: bytes) -> None:
        """Connect; EAGAIN where the other's backlog is full."""
        if self.kind == SOCK_DGRAM:
            self._set_destination(t, address)
            return
        self._autobind()
        other = self._find(t, address)
        if not other.listening or other.shut & RCV_SHUTDOWN:
            raise Errno(ECONNREFUSED)
        if len(other.arrivals) > other.backlog and not (self.established or self.listening):
            raise Errno(EAGAIN)
        if self.established:
            raise Errno(EISCONN)
        if self.listening:
            raise Errno(EINVAL)
        if not other.budget.charge(self.cost):
            raise Errno(ENOMEM)
        made = UnixSocket(self.names, self.kind, other.budget, t.kernel.net.next_number())
        made.unclaimed = True
        made.options = other.options.copy()
        made.path = other.path
        made.embryo = made.established = self.established = True
        made.peer, self.peer = self, made
        made.credentials, self.credentials = credentials_of(t), other.credentials
        other.arrivals.append(made)
        other.data_came()

    def _set_destination(self, t: Thread, address: bytes) -> None:
        if family_of(address) == abi.AF_UNSPEC:
            self.peer = None
            return
        other = self._find(t, address)
        self._autobind()
        if other.peer is not None and other.peer is not self:
            raise Errno(EPERM)
        self.peer = other
        self.wake()

    def _autobind(self) -> None:
        if self.options[abi.SO_PASSCRED] and self.key is None and not self.path:
            self._take_abstract(self.names.automatic(self.kind))

    def waits_on(self, t: Thread, address: bytes) -> tuple[UnixSocket, ...]:
        """Return whose `write_queue` tells that a refused `connect` or `send` may be tried again."""
        try:
            return (self._find(t, address),)
        except Errno:
            return ()

    def listen(self, t: Thread, backlog: int) -> None:
        """Take connections. Raises Errno: EOPNOTSUPP of datagrams, EINVAL without a name."""
        if self.kind not in CONNECTED:
            raise Errno(EOPNOTSUPP)
        if self.key is None or self.established:
            raise Errno(EINVAL)
        self.listening = True
        if backlog > self.backlog:
            self.write_queue.wake()
        self.backlog = backlog
        self.credentials = credentials_of(t)

    def accept(self, t: Thread) -> UnixSocket:
        """Return the next connection. Raises Errno: EAGAIN, EINVAL of one that does not listen."""
        if self.kind not in CONNECTED:
            raise Errno(EOPNOTSUPP)
        if not self.listening:
            raise Errno(EINVAL)
        if not self.arrivals:
            raise Errno(EINVAL if self.shut & RCV_SHUTDOWN else EAGAIN)
        made = self.arrivals.popleft()
        made.embryo = False
        made.claimed()
        self.write_queue.wake()
        return made

    def shutdown(self, how: int) -> None:
        """Close a direction, or both."""
        mode = how + 1
        self.shut |= mode
        peer = self.peer
        if peer is not None and self.kind in CONNECTED:
            peer.shut |= (SEND_SHUTDOWN if mode & RCV_SHUTDOWN else 0) | (RCV_SHUTDOWN if mode & SEND_SHUTDOWN else 0)
            if mode & SEND_SHUTDOWN:
                peer.tell_reader(POLL_HUP if mode == SHUTDOWN_MASK else POLL_IN)
            peer.wake()
        self.wake()

    def close(self) -> None:
        """Let the peer know; drop what waits here."""
        self.dead = True
        self.claimed()
        self.established = False
        self.shut = SHUTDOWN_MASK
        if self.key is not None and self.names.bound.get(self.key) is self:
            del self.names.bound[self.key]
        peer = self.peer
        if peer is not None and self.kind in CONNECTED and not peer.dead:
            peer.shut = SHUTDOWN_MASK
            if self.embryo or any(message.start < message.size for message in self.inbox):
                peer.error = ECONNRESET
            peer.tell_reader(POLL_HUP)
            peer.wake()
        self.names.sockets.pop(self, None)
        while self.arrivals:
            self.arrivals.popleft().close()
        self.empty()
        self.wake()
        if self.names.in_flight:
            collect(self.names)

    def empty(self) -> None:
        """Drop all messages, with the files in them."""
        while self.inbox:
            self._drop(0)

    def _settle(self, message: Message) -> None:
        """A message leaves the inbox: its sender has room again."""
        self.repay(message.size)
        sender = message.sender
        sender.sent -= message.size + MESSAGE_BYTES
        sender.room_came()
        if self.kind == SOCK_DGRAM and len(self.inbox) == abi.MAX_DATAGRAMS:
            self.write_queue.wake()  # who sends here without being connected waits for that

    # --- sending ----------------------------------------------------------------------------------------------------

    def send(self, t: Thread, message: Outgoing) -> int:
        """Put a message, or a piece of a stream, into the other's inbox."""
        urgent = message.flags & abi.MSG_OOB
        if urgent and (self.kind != SOCK_STREAM or not message.data):
            raise Errno(EOPNOTSUPP)
        if self.kind == SOCK_DGRAM:
            return self._send_datagram(t, message)
        if self.kind == SOCK_STREAM and message.address is not None:
            raise Errno(EISCONN if self.established else EOPNOTSUPP)
        peer = self.peer
        if self.kind == SOCK_SEQPACKET:
            self.raise_error()
        if peer is None or (self.kind == SOCK_SEQPACKET and not self.established):
            raise Errno(ENOTCONN)
        if self.shut & SEND_SHUTDOWN or peer.dead or peer.shut & RCV_SHUTDOWN:
            raise Errno(EPIPE)
        if self.kind == SOCK_SEQPACKET:
            return self._post(t, peer, message, len(message.data))
        if not message.data:
            return 0
        self.raise_error()
        room = self.options[abi.SO_SNDBUF] - self.sent
        if room <= 0:
            self.no_space = True
            raise Errno(EAGAIN)
        n = min(len(message.data), max(room - MESSAGE_BYTES, 1024))
        if not urgent or len(message.data) > 1:
            return self._post(t, peer, message, n - (urgent and n == len(message.data)))
        return self._post(t, peer, message, 1, True)

    def _send_datagram(self, t: Thread, message: Outgoing) -> int:
        self._autobind()
        if message.address is None:
            if self.peer is None:
                raise Errno(ENOTCONN)
            other = self.peer
        self._check_size(message)
        self.raise_error()
        if self.shut & SEND_SHUTDOWN:
            raise Errno(EPIPE)
        self._need_room(len(message.data))
        if message.address is not None:
            other = self._find(t, message.address)
        elif other.dead:
            self.peer = None
            raise Errno(ECONNREFUSED)
        if other.peer is not None and other.peer is not self:
            raise Errno(EPERM)
        if other.shut & RCV_SHUTDOWN:
            raise Errno(EPIPE)
        if other is not self and other.peer is not self and len(other.inbox) > abi.MAX_DATAGRAMS:
            raise Errno(EAGAIN)
        return self._post(t, other, message, len(message.data))

    def _check_size(self, message: Outgoing) -> None:
        if len(message.data) > self.options[abi.SO_SNDBUF] - 32:
            raise Errno(EMSGSIZE)

    def _need_room(self, n: int) -> None:
        if self.sent and self.sent + n + MESSAGE_BYTES > self.options[abi.SO_SNDBUF]:
            self.no_space = True
            raise Errno(EAGAIN)

    def _post(self, t: Thread, other: UnixSocket, message: Outgoing, n: int, urgent: bool = False) -> int:
        if self.kind == SOCK_SEQPACKET:
            self._check_size(message)
            self._need_room(n)
        creds = message.creds
        if creds is None and (self.options[abi.SO_PASSCRED] or other.options[abi.SO_PASSCRED] or other.embryo):
            creds = credentials_of(t)._replace(uid=t.credentials.uid, gid=t.credentials.gid)
        if message.files:
            self._admit(len(message.files), t.process.limits[RLIMIT_NOFILE][0])
        other.pay(n)
        for file in message.files:
            need_alive(file).hold()
        self.names.in_flight += len(message.files)
        self.sent += n + MESSAGE_BYTES
        data = message.data if n == len(message.data) else message.data[:n]
        posted = Message(self, data, message.files, creds)
        other.inbox.append(posted)
        if urgent:
            other.urgent = posted
            other.tell_urgent()
        other.data_came()
        return n

    def _admit(self, count: int, limit: int) -> None:
        """Let `count` files more be on their way. Raises Errno(ETOOMANYREFS)."""
        if self.names.in_flight + count > limit:
            collect(self.names)
            if self.names.in_flight + count > limit:
                raise Errno(ETOOMANYREFS)

    # --- receiving --------------------------------------------------------------------------------------------------

    def may_receive(self) -> None:
        """A stream or a connection of packets must be connected. Raises Errno: EINVAL, ENOTCONN."""
        if self.kind == SOCK_STREAM and not self.established:
            raise Errno(EINVAL)
        if self.kind == SOCK_SEQPACKET and not self.established:
            raise Errno(ENOTCONN)

    def receive(self, t: Thread, n: int, flags: int) -> Incoming:
        """Take from the inbox."""
        if flags & abi.MSG_OOB:
            if self.kind != SOCK_STREAM:
                raise Errno(EOPNOTSUPP)
            return self._receive_urgent(n, flags)
        self.may_receive()
        if self.kind == SOCK_STREAM:
            received = self._receive_stream(n, flags)
        else:
            received = self._receive_message(n, flags) if self.inbox else None
        if received is None:
            self.raise_error()
            if self.shut & RCV_SHUTDOWN and (self.kind != SOCK_DGRAM or not flags & abi.MSG_DONTWAIT):
                return Incoming(b"", 0)
            raise Errno(EAGAIN)
        return received

    def _receive_message(self, n: int, flags: int) -> Incoming:
        message = self.inbox[0]
        data = message.data if n >= message.size else message.data[:n]
        files = message.files
        if flags & MSG_PEEK:
            for file in files:
                file.hold()
        else:
            self.inbox.popleft()
            self._settle(message)
            self.names.in_flight -= len(files)
        short = MSG_TRUNC if n < message.size else 0
        path = message.sender.path
        return Incoming(data, message.size, FAMILY + path if path else b"", short, files, self._told(message))

    def _told(self, message: Message) -> Ucred | None:
        """Who sent a message, where that was asked for."""
        if not self.options[abi.SO_PASSCRED]:
            return None
        return message.creds or abi.OVERFLOW

    def _receive_stream(self, n: int, flags: int) -> Incoming | None:
        """Join what comes from one sender, up to a message that carried files, or to the urgent byte; None: there is
        nothing."""
        peek, passcred = bool(flags & MSG_PEEK), self.options[abi.SO_PASSCRED]
        parts: list[bytes] = []
        files: tuple[File, ...] = ()
        first: Message | None = None
        at = 0
        while (found := self._readable(at, peek, first is not None)) is not None:
            message = self.inbox[found]
            first = first or message
            if passcred and message.creds != first.creds:
                break
            part = message.data[message.start : message.start + n]
            parts.append(part)
            n -= len(part)
            if message.files:
                files, message.files = self._take_files(message, flags)
            if peek:
                at = found + 1
            else:
                message.start += len(part)
                if message.start < message.size:
                    break
                self._drop(0)
            if files or not n:
                break
        if first is None:
            return None
        path = first.sender.path
        return Incoming(b"".join(parts), -1, FAMILY + path if path else b"", 0, files, self._told(first))

    def _drop(self, at: int) -> None:
        """Take a message out of the inbox, with the files that nobody got."""
        message = self.inbox[at]
        del self.inbox[at]
        self._settle(message)
        self.names.in_flight -= len(message.files)
        self.names.drop(message.files)

    # --- urgent data (net/unix/af_unix.c, manage_oob and unix_stream_recv_urg) ----------------------------------------

    def _readable(self, at: int, peek: bool, more: bool) -> int | None:
        """Which message of the inbox is read, of those from `at` on; None: there is none, or (`more`: something was
        read already) it is not read together with what was. Unless `peek`, what is passed over is dropped."""
        inbox = self.inbox
        if at < len(inbox) and inbox[at].start >= inbox[at].size:  # an urgent byte that was taken
            if more and self.urgent is None:
                return None
            if peek:
                at += 1
            else:
                self._drop(0)
        if at >= len(inbox):
            return None
        if inbox[at] is self.urgent:
            if more:
                return None
            stays = self.options[abi.SO_OOBINLINE]
            if not peek:
                self.urgent = None
            if not stays and peek:
                at += 1
            elif not stays:
                self._drop(0)
        return at if at < len(inbox) else None

    def _receive_urgent(self, n: int, flags: int) -> Incoming:
        """recv(2) with MSG_OOB. Raises Errno(EINVAL) where there is nothing urgent (any more)."""
        self.may_receive()
        message, inbox = self.urgent, self.inbox
        if message is None or self.options[abi.SO_OOBINLINE]:
            raise Errno(EINVAL)
        data = message.data
        if not flags & MSG_PEEK:
            self.urgent = None
            message.start = 1
            place = inbox.index(message)
            if place and inbox[place - 1].start >= inbox[place - 1].size:
                self._drop(place - 1)
        return Incoming(data[:n], 1, flags=abi.MSG_OOB)

    def at_mark(self) -> bool:
        """Whether the next byte is the urgent one, or was before that was taken."""
        inbox = self.inbox
        if not inbox:
            return False
        urgent, first = self.urgent, inbox[0]
        after = inbox[1] if len(inbox) > 1 else None
        return first is urgent or (first.start >= first.size and (urgent is None or after is urgent))

    def _take_files(self, message: Message, flags: int) -> tuple[tuple[File, ...], tuple[File, ...]]:
        """Return the files that go to the receiver, and those that stay with the message."""
        if flags & MSG_PEEK:
            return tuple(file.hold() for file in message.files), message.files
        self.names.in_flight -= len(message.files)
        return message.files, ()

    def unreceive(self, data: bytes) -> None:
        """Put the tail of what was taken back."""
        if not data:
            return
        message = Message(self, data, (), None)
        message.size = len(data)
        self.pay(message.size)
        self.sent += message.size + MESSAGE_BYTES
        self.inbox.appendleft(message)

    # --- at once ----------------------------------------------------------------------------------------------------

    def pull(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `receive` of a stream that has one message with neither files nor credentials, into memory."""
        options, inbox = self.options, self.inbox
        if self.kind != SOCK_STREAM or not n or options[abi.SO_PASSCRED] or options[abi.SO_RCVLOWAT] > 1:
            return UNKNOWN
        if not inbox:
            quiet = self.established and not (self.error or self.shut & RCV_SHUTDOWN)
            return LATER if quiet and options.receive_timeout is None else UNKNOWN
        message = inbox[0]
        start = message.start
        left = message.size - start
        if message.files or not left or message is self.urgent or (left < n and len(inbox) > 1):
            return UNKNOWN
        room = memory.room(address, min(n, left))
        if room is None:
            return UNKNOWN
        room[:] = memoryview(message.data)[start : start + len(room)]
        message.start = start + len(room)
        if message.start >= message.size:
            inbox.popleft()
            self._settle(message)
        return len(room)

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `send` of a stream that has room for all, out of memory."""
        peer = self.peer
        if self.kind != SOCK_STREAM or peer is None or not n or self.error or self.shut & SEND_SHUTDOWN:
            return UNKNOWN
        if peer.dead or peer.shut & RCV_SHUTDOWN or peer.embryo or peer.options[abi.SO_PASSCRED] or peer.told:
            return UNKNOWN
        room = self.options[abi.SO_SNDBUF] - self.sent
        if room <= 0 or n > max(room - MESSAGE_BYTES, 1024) or self.options[abi.SO_PASSCRED]:
            return UNKNOWN
        data, queue = memory.glance(address, n), peer.read_queue
        if queue.threads and not peer.inbox and queue.hand_over(data, True):
            return n
        peer.pay(n)
        self.sent += n + MESSAGE_BYTES
        peer.inbox.append(Message(self, bytes(data), (), None))
        queue.wake()
        return n

    # --- readiness --------------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Return the events that hold now (net/unix/af_unix.c, unix_poll)."""
        events = self.state_events()
        if self.inbox or self.arrivals:
            events |= READABLE
        if self.urgent is not None:
            events |= POLLPRI
        if self.kind in CONNECTED and not self.established and not self.listening:
            events |= POLLHUP
        if not self.listening and self.sent << 2 <= self.options[abi.SO_SNDBUF] and not self._destination_full():
            events |= WRITABLE | POLLWRBAND
        return events

    def _destination_full(self) -> bool:
        peer = self.peer
        return (
            self.kind == SOCK_DGRAM
            and peer is not None
            and peer.peer is not self
            and len(peer.inbox) > abi.MAX_DATAGRAMS
        )

    def available(self) -> int:
        """Bytes to be read: of a datagram socket, of the next message. Raises Errno(EINVAL) of a listening one."""
        if self.listening:
            raise Errno(EINVAL)
        if self.kind == SOCK_DGRAM:
            return self.inbox[0].size if self.inbox else 0
        return sum(message.size - message.start for message in self.inbox)

    def get_option(self, t: Thread, level: int, option: int, size: int) -> bytes | None:
        """There are none but those of SOL_SOCKET. Raises Errno(EOPNOTSUPP) for another level."""
        if level != abi.SOL_SOCKET:
            raise Errno(EOPNOTSUPP)
        return None

    def set_option(self, t: Thread, level: int, option: int, data: bytes) -> bool:
        """As `get_option`."""
        return self.get_option(t, level, option, 0) is not None

    def control(self, t: Thread, request: int, arg: int) -> int:
        """TIOCOUTQ: bytes that nobody has read yet; SIOCATMARK. Raises Errno."""
        if request == abi.SIOCATMARK:
            if self.kind != SOCK_STREAM:
                raise Errno(EOPNOTSUPP)
            t.memory.write(arg, int(self.at_mark()).to_bytes(4, "little"))
            return 0
        if request != abi.SIOCOUTQ:
            return super().control(t, request, arg)
        if self.listening:
            raise Errno(EINVAL)
        t.memory.write(arg, self.sent.to_bytes(4, "little"))
        return 0

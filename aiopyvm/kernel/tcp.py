"""TCP between the hosts of one network, as tcp(7) and Linux's state machine have it, without packets.

How it works. A connection is two sockets that name each other; what one sends goes into the other's inbox, which has
room for the receiver's and the sender's buffer together. The handshake is over at once where the listener's backlog has
room; else the socket stays in SYN_SENT on the listener's `waiting` list. Closing with unread bytes, or SO_LINGER with
0, resets the connection; else the other end sees the end of file, and what it sends then is answered with a reset.

The end of a connection that is outside (a stream of the host, or Python's) is a `TcpSocket` too, which the runtime
drives with `put` and `take`: it has no descriptor and no thread. It takes urgent data as any other.

Urgent data (MSG_OOB) is one byte of the stream, at the mark: what is received ends before it, then it is passed over,
unless SO_OOBINLINE is set. A later one moves the mark, and the byte is as any other.

What always holds. Data that arrived stays readable whatever happens to the connection; what is paid for it is in
tcpbuffer.py.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import inet as abi
from aiopyvm.abi import socket as sockets
from aiopyvm.abi.errno import (
    EADDRINUSE,
    EAGAIN,
    EALREADY,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EINPROGRESS,
    EINVAL,
    EISCONN,
    ENETUNREACH,
    ENOBUFS,
    ENOTCONN,
    EPIPE,
    Errno,
)
from aiopyvm.abi.inet import TcpState
from aiopyvm.abi.poll import POLLHUP, POLLPRI, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_ERR, POLL_HUP, POLL_IN, POLL_OUT
from aiopyvm.abi.socket import AF_UNSPEC, MSG_PEEK, MSG_TRUNC, SOCK_STREAM, SOL_IP, SOL_TCP
from aiopyvm.kernel import multicast
from aiopyvm.kernel.file import LATER, UNKNOWN
from aiopyvm.kernel.inet import NETWORK
from aiopyvm.kernel.socket import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    Incoming,
    Outgoing,
    family_of,
)
from aiopyvm.kernel.tcpbuffer import BufferedSocket, Urgent

if TYPE_CHECKING:
    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.timewait import Remains
    from aiopyvm.mem.space import AddressSpace

ROOM: Final = 262144  # what an end can send ahead at least, unless SO_SNDBUF was set
SURE: Final = 4096  # bytes: there is room for them, whatever the sizes of the buffers
_INFO: Final = struct.Struct("<8B24I")


class TcpSocket(BufferedSocket):
    """A TCP socket, or the outside end of a connection; see the module's docstring."""

    def __init__(self, host: Inet, domain: int, budget: Budget, number: int, flags: int = 0) -> None:
        super().__init__(host, domain, SOCK_STREAM, abi.IPPROTO_TCP, budget, number, flags)
        self.state = TcpState.CLOSE
        self.peer: TcpSocket | None
        self.arrivals: deque[TcpSocket] = deque()
        self.waiting: deque[TcpSocket] = deque()  # that connect while the backlog is full
        self.asked: TcpSocket | None = None  # whose `waiting` list this is on
        self.backlog = 0
        self.connecting = False  # connect(2) has begun and nobody was told how it went
        self.ended = False  # the other end sends no more
        self.gone = False  # closed: who sends here is reset
        self.first = False  # it ended its direction before the other end did
        self.remains: Remains | None = None  # what is left of it in its host

    # --- connecting -------------------------------------------------------------------------------------------------

    def connect(self, t: Thread | None, address: bytes) -> None:
        """Begin to connect. Raises Errno: EINPROGRESS always, when that has begun; else why it has not."""
        if len(address) >= 2 and family_of(address) == AF_UNSPEC:
            was = self.state
            self._disconnect()
            self.error = ECONNRESET if was not in (TcpState.CLOSE, TcpState.LISTEN) else 0
            return
        if self.connecting:
            if self.connected():
                return
            raise Errno(EALREADY)
        if self.state != TcpState.CLOSE:
            raise Errno(EISCONN)
        ip, port = self.destination(address)
        source = self.host_inet.source(ip) if not self.bound_ip else self.ip
        self.need_port(source)
        self.peer_ip, self.peer_port = ip, port
        self.shut = self.error = 0
        self.connecting = True
        self.state = TcpState.SYN_SENT
        self._knock()
        raise Errno(EINPROGRESS)

    def _knock(self) -> None:
        host = self.host_inet.route(self.peer_ip)
        if host is None:
            gateway = self.host_inet.gateway
            if gateway is None or not gateway.connect(self):
                self.reset(ENETUNREACH)
            return
        listener = host.find(abi.IPPROTO_TCP, self.peer_ip, self.peer_port)
        if not isinstance(listener, TcpSocket) or not listener.listening:
            self.reset(ECONNREFUSED)
        else:
            listener.knocked(self)

    def knocked(self, caller: TcpSocket) -> None:
        """Somebody connects to this listening socket."""
        if len(self.arrivals) > self.backlog:
            caller.asked = self
            self.waiting.append(caller)
            return
        if not self.budget.charge(self.cost):
            caller.reset(ECONNREFUSED)
            return
        made = TcpSocket(self.host_inet, self.domain, self.budget, self.number_of_next())
        made.unclaimed = True
        made.options = self.options.copy()
        made.values = dict(self.values)
        made.owner = self.owner
        self.host_inet.add(made, caller.peer_ip, self.port)
        made.bound_ip = made.bound_port = True
        made.peer_ip, made.peer_port = caller.ip, caller.port
        made.establish(caller)
        caller.establish(made)
        self.arrivals.append(made)
        self.data_came()

    def number_of_next(self) -> int:
        """An inode number for a connection that is accepted."""
        self.host_inet.numbers += 1
        return self.host_inet.numbers

    def establish(self, peer: TcpSocket) -> None:
        """The handshake is over."""
        self.peer = peer
        if peer.host_inet is not self.host_inet:
            self.mark(NETWORK)
        self.state = TcpState.ESTABLISHED
        self.asked = None
        self.tell_async(POLL_OUT)
        self.write_queue.wake()

    def mark(self, who: str) -> None:
        """Tell who, other than this machine's guests, may wake whoever waits here (`WaitQueue.external`)."""
        self.read_queue.external = self.write_queue.external = who

    def connected(self) -> bool:
        """Whether the connection is made, which is told once. Raises Errno where it failed."""
        if self.state == TcpState.SYN_SENT:
            return False
        self.connecting = False
        if self.state == TcpState.CLOSE:
            error = self.take_error() or ECONNABORTED
            self._disconnect()
            raise Errno(error)
        return True

    def _disconnect(self) -> None:
        """Be as a new socket, but bound where bind(2) put it."""
        if self.state == TcpState.LISTEN:
            self._stop_listening()
        elif self.peer is not None and not self.gone:
            self._cut()
        self._stop_asking()
        self.peer = None
        self.state = TcpState.CLOSE
        self.connecting = self.ended = self.first = False
        self.shut = self.error = 0
        self.peer_port = 0
        self.forget()
        if not self.bound_ip:
            self.ip = abi.ANY4 if self.domain == sockets.AF_INET else abi.ANY6
        if not self.bound_port and self.port:
            self.leave_port()
        self.wake()

    def _stop_asking(self) -> None:
        if self.asked is not None:
            self.asked.waiting.remove(self)
            self.asked = None

    # --- listening --------------------------------------------------------------------------------------------------

    def listen(self, t: Thread | None, backlog: int) -> None:
        """Take connections; where it has no port yet, on any. Raises Errno: EINVAL, EADDRINUSE."""
        if self.state not in (TcpState.CLOSE, TcpState.LISTEN) or self.connecting:
            raise Errno(EINVAL)
        self.backlog = backlog
        if self.listening:
            self._admit()
            return
        if not self.port:
            self.host_inet.claim(self, self.ip, 0)
        bound = self.host_inet.ports[self.protocol, self.port]
        if any(other.listening and other is not self and other.conflicts(self, self.ip) for other in bound):
            raise Errno(EADDRINUSE)
        self.state = TcpState.LISTEN
        self.listening = True
        self.shut = 0
        if self.host_inet.reachable:
            self.read_queue.external = NETWORK
        self.host_inet.opened.wake()

    def accept(self, t: Thread | None) -> TcpSocket:
        """Return the next connection. Raises Errno: EAGAIN, EINVAL of one that does not listen."""
        if not self.listening:
            raise Errno(EINVAL)
        if not self.arrivals:
            raise Errno(EAGAIN)
        made = self.arrivals.popleft()
        made.claimed()
        self._admit()
        return made

    def _admit(self) -> None:
        """Let those in for whom there is room now."""
        while self.waiting and len(self.arrivals) <= self.backlog:
            self.knocked(self.waiting.popleft())

    def _stop_listening(self) -> None:
        self.listening = False
        while self.arrivals:
            made = self.arrivals.popleft()
            made.options.linger = 0
            made.close()
        while self.waiting:
            caller = self.waiting.popleft()
            caller.asked = None
            caller.reset(ECONNREFUSED)

    # --- ends -------------------------------------------------------------------------------------------------------

    def reset(self, error: int = 0) -> None:
        """The other end has reset the connection, or nobody is there: `error`, else what Linux says in this state."""
        if self.gone:
            self._leave_nothing()
            return
        if not error:
            error = EPIPE if self.state == TcpState.CLOSE_WAIT else ECONNRESET
        self.error = error
        self.tell_async(POLL_ERR)
        self._done()

    def _done(self) -> None:
        self._stop_asking()
        self.state = TcpState.CLOSE
        self.shut = SHUTDOWN_MASK
        self.peer = None
        self.wake()

    def _cut(self) -> None:
        """Reset the connection from this side."""
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.reset()

    def finish(self) -> None:
        """The other end sends no more."""
        self.ended = True
        self.shut |= RCV_SHUTDOWN
        if self.state == TcpState.ESTABLISHED:
            self.state = TcpState.CLOSE_WAIT
        if self.told:
            self.tell_reader(POLL_HUP if self.shut == SHUTDOWN_MASK else POLL_IN)
            self.tell_reader(POLL_IN)
        if self.remains is not None:
            self.host_inet.resting.finish(self.remains)
        self.wake()

    def _end(self, peer: TcpSocket) -> None:
        """Send no more."""
        self.first = not self.ended
        peer.finish()

    def _leave_nothing(self) -> None:
        if self.remains is not None:
            self.host_inet.resting.drop(self.remains)
            self.remains = None

    def shutdown(self, how: int) -> None:
        """Close a direction, or both. Raises Errno(ENOTCONN)."""
        mode = how + 1
        if self.state == TcpState.LISTEN:
            if mode & RCV_SHUTDOWN:
                self._stop_listening()
                self.state = TcpState.CLOSE
                self.wake()
            return
        was = self.shut
        self.shut |= mode
        if self.state == TcpState.SYN_SENT:
            self._disconnect()
            return
        if self.peer is not None and mode & SEND_SHUTDOWN and not was & SEND_SHUTDOWN:
            self._end(self.peer)
        self.wake()
        if self.state == TcpState.CLOSE:
            raise Errno(ENOTCONN)

    def close(self) -> None:
        """End the connection; a listening socket's, all that nobody accepted."""
        if self.listening:
            self._stop_listening()
        self._stop_asking()
        peer = self.peer
        if peer is not None:
            if self.inbox_size or self.options.linger == 0:
                self._cut()
            elif not self.shut & SEND_SHUTDOWN:
                self._end(peer)
        if self.first and self.peer is not None and self.port:
            state = TcpState.TIME_WAIT if self.ended else TcpState.FIN_WAIT2
            self.remains = self.host_inet.resting.keep(self, state)
        self.claimed()
        self.gone = True
        self.state = TcpState.CLOSE
        self.shut = SHUTDOWN_MASK
        self.forget()
        if self.port:
            self.leave_port()
        if peer is not None:
            peer.write_queue.wake()  # what it sends is not kept any more
        self.wake()

    # --- sending ----------------------------------------------------------------------------------------------------

    def send(self, t: Thread, message: Outgoing) -> int:
        """Send what there is room for. Raises Errno: EAGAIN, EPIPE, ECONNRESET."""
        if self.state == TcpState.SYN_SENT and not self.error:
            raise Errno(EAGAIN)
        self.raise_error()
        if self.peer is None or self.shut & SEND_SHUTDOWN:
            raise Errno(EPIPE)
        if not message.data:
            return 0
        peer = self.peer
        urgent = bool(message.flags & sockets.MSG_OOB)
        n = self.put(message.data, urgent)
        if not n:
            self.no_space = True
            raise Errno(EAGAIN)
        if urgent and not peer.gone:
            peer.urge(n, message.data[n - 1])
        return n

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        peer = self.peer
        if peer is None:
            return 0
        if peer.gone:
            return ROOM
        options = self.options
        size = options.values[sockets.SO_SNDBUF]
        if size < ROOM and not options.fixed_send_buffer:
            size = ROOM  # as `ahead`
        return peer.options.values[sockets.SO_RCVBUF] + size - peer.inbox_size

    @property
    def ahead(self) -> int:
        """Bytes that it holds beyond what its peer does: the sender's buffer."""
        options = self.options
        size = options.values[sockets.SO_SNDBUF]
        return size if size >= ROOM or options.fixed_send_buffer else ROOM

    def put(self, data: bytes, urgent: bool = False) -> int:
        """Send a part of `data`, as much as there is room for; return how many bytes. Raises Errno(ENOBUFS).

        `urgent`: its last byte is, of which the other end is told first.
        """
        peer = self.peer
        if peer is None:
            return 0
        if peer.gone:
            peer.reset()
            self.reset()
            return len(data)
        n, size = len(data), peer.inbox_size
        if size + n > SURE and n > (room := self.room):
            if room <= 0:
                return 0
            n, data = room, data[:room]
        queue = peer.read_queue
        if queue.threads and not (size or urgent or peer.told) and queue.hand_over(data, True):
            return n
        if size + n > peer.held and not peer.admit(n):
            raise Errno(ENOBUFS)
        peer.keep(data)
        if urgent:
            peer.urgent_came()
        if peer.told:
            peer.data_came()
        else:
            queue.wake()
        return n

    def urgent_came(self) -> None:
        """Tell by signals that something urgent is there, before it is."""
        self.tell_urgent()
        if self.told and self.io_owner is not None:
            self.tell_reader(POLL_IN)

    def urge(self, n: int, value: int) -> None:
        """The last of the `n` bytes that just came, `value`, is urgent."""
        if self.at_mark() and self.inbox_size > n:
            self._pass_over()
        self.urgent = Urgent(self.inbox_size - 1, value)
        self.read_queue.wake()

    # --- receiving --------------------------------------------------------------------------------------------------

    def at_mark(self) -> bool:
        """Whether the next byte is the urgent one."""
        return self.urgent is not None and not self.urgent.ahead

    def _pass_over(self) -> None:
        """Drop the urgent byte, which is the next, unless it is to stay in the stream."""
        if not self.options[sockets.SO_OOBINLINE]:
            self.take(1)

    def _receive_urgent(self, n: int, flags: int) -> Incoming:
        """recv(2) with MSG_OOB. Raises Errno(EINVAL) where there is nothing urgent (any more)."""
        urgent = self.urgent
        if urgent is None or urgent.taken or self.options[sockets.SO_OOBINLINE]:
            raise Errno(EINVAL)
        if not flags & MSG_PEEK:
            urgent.taken = True
        if not n or flags & MSG_TRUNC:
            return Incoming(b"", min(n, 1), flags=sockets.MSG_OOB | (0 if n else MSG_TRUNC))
        return Incoming(bytes((urgent.value,)), flags=sockets.MSG_OOB)

    def receive(self, t: Thread, n: int, flags: int) -> Incoming:
        """Return what came, in order. Raises Errno: EAGAIN, EINVAL (MSG_OOB), ENOTCONN, and the pending error."""
        if self.listening:
            raise Errno(ENOTCONN)
        if flags & sockets.MSG_OOB:
            return self._receive_urgent(n, flags)
        skipped = 0
        if (urgent := self.urgent) is not None:
            if urgent.ahead:
                n = min(n, urgent.ahead)
            elif flags & MSG_PEEK and not self.options[sockets.SO_OOBINLINE]:
                skipped = 1
            else:
                self._pass_over()
        if self.inbox_size == skipped:
            if self.ended:
                return Incoming(b"")
            self.raise_error()
            if self.shut & RCV_SHUTDOWN:
                return Incoming(b"")
            raise Errno(ENOTCONN if self.state == TcpState.CLOSE else EAGAIN)
        if flags & MSG_PEEK:
            return Incoming(self.look(n + skipped)[skipped:])
        data = self.take(n)
        return Incoming(b"", len(data)) if flags & MSG_TRUNC else Incoming(data)

    def pull(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `take` of what is in one piece, into memory."""
        options, inbox = self.options, self.inbox
        if not n or self.listening or self.urgent is not None or options.values.get(sockets.SO_RCVLOWAT, 0) > 1:
            return UNKNOWN
        if not self.inbox_size:
            quiet = self.state == TcpState.ESTABLISHED and not (self.error or self.shut & RCV_SHUTDOWN)
            return LATER if quiet and options.receive_timeout is None else UNKNOWN
        piece, start = inbox[0], self.inbox_start
        left = len(piece) - start
        if left <= n:
            if left < n and len(inbox) > 1:
                return UNKNOWN
            n = left
        room = memory.room(address, n)
        if room is None:
            return UNKNOWN
        room[:] = piece if n == left and not start else memoryview(piece)[start : start + n]
        if n == left:
            inbox.popleft()
            self.inbox_start = 0
        else:
            self.inbox_start = start + n
        self.taken(n)
        return n

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """As `put` of all, out of memory."""
        peer = self.peer
        if peer is None or not n or self.error or self.shut & SEND_SHUTDOWN or peer.gone or peer.told:
            return UNKNOWN
        size = peer.inbox_size
        if size + n > SURE and self.room < n:
            return UNKNOWN
        data, queue = memory.glance(address, n), peer.read_queue
        if queue.threads and not size and queue.hand_over(data, True):
            return n
        if size + n > peer.held and not peer.admit(n):
            return UNKNOWN
        peer.keep(data)
        queue.wake()
        return n

    # --- readiness --------------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Return the events that hold now (net/ipv4/tcp.c, tcp_poll)."""
        if self.listening:
            return READABLE if self.arrivals else 0
        events = self.state_events() if self.error or self.shut else 0
        if self.state == TcpState.CLOSE:
            events |= POLLHUP
        if self.state != TcpState.SYN_SENT:
            least = self.options.values.get(sockets.SO_RCVLOWAT) or 1
            if (urgent := self.urgent) is not None:
                least += not urgent.ahead and not self.options[sockets.SO_OOBINLINE]
                if not urgent.taken:
                    events |= POLLPRI
            if self.inbox_size >= least:
                events |= READABLE
            peer = self.peer
            if peer is None or not peer.inbox_size or self.shut & SEND_SHUTDOWN or 3 * self.room >= self.ahead:
                events |= WRITABLE
        return events

    def available(self) -> int:
        """Bytes to be read before the mark, if there is one. Raises Errno(EINVAL) of a listening socket."""
        if self.listening:
            raise Errno(EINVAL)
        if self.urgent is not None and not self.options[sockets.SO_OOBINLINE]:
            return self.urgent.ahead
        return self.inbox_size

    def is_connected(self) -> bool:
        """Whether it has a peer."""
        return self.peer_port != 0 and self.state not in (TcpState.CLOSE, TcpState.SYN_SENT)

    def is_idle(self) -> bool:
        """Whether it neither listens nor connects."""
        return self.state == TcpState.CLOSE

    def fits(self, ip: bytes, source: tuple[bytes, int] | None) -> int:
        """Only a listening socket takes what is new."""
        return super().fits(ip, source) if self.listening else 0

    # --- options ----------------------------------------------------------------------------------------------------

    def option_table(self, level: int) -> dict[int, tuple[int, int, int]] | None:
        """TCP's too."""
        return abi.TCP_OPTIONS if level == SOL_TCP else super().option_table(level)

    def get_option(self, t: Thread, level: int, option: int, size: int) -> bytes | None:
        """TCP_INFO, TCP_CONGESTION, TCP_MAXSEG and what is a mere value."""
        if level == SOL_TCP:
            if option == abi.TCP_INFO:
                return _INFO.pack(self.state, *bytes(7), 200000, 40000, abi.MTU - 40, 536, *bytes(20))
            if option == abi.TCP_CONGESTION:
                return b"cubic".ljust(16, b"\0")
            if option == abi.TCP_MAXSEG:
                return struct.pack("<i", abi.MTU - 53 if self.is_connected() else 536)
        return super().get_option(t, level, option, size)

    def set_option(self, t: Thread, level: int, option: int, data: bytes) -> bool:
        """TCP_MAXSEG and TCP_CONGESTION beside mere values."""
        if level == SOL_IP and option in abi.GROUP_OPTIONS:
            multicast.refuse(option, data)
        if level == SOL_TCP and option in abi.TCP_BOOLEANS:
            data = struct.pack("<i", int(any(data[:4]))) if len(data) >= 4 else data
        if level == SOL_TCP and option in (abi.TCP_MAXSEG, abi.TCP_WINDOW_CLAMP):
            return True
        if level == SOL_TCP and option == abi.TCP_CONGESTION and data.rstrip(b"\0") in (b"cubic", b"reno"):
            return True
        return super().set_option(t, level, option, data)

    def control(self, t: Thread, request: int, arg: int) -> int:
        """SIOCATMARK and TIOCOUTQ beside those of interfaces. Raises Errno."""
        if request == sockets.SIOCOUTQ:
            if self.listening:
                raise Errno(EINVAL)
            t.memory.write(arg, bytes(4))  # all that was sent has arrived
            return 0
        if request == sockets.SIOCATMARK:
            t.memory.write(arg, struct.pack("<i", self.at_mark()))
            return 0
        return super().control(t, request, arg)

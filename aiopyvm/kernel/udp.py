"""UDP and UDP-Lite between the hosts of one network (udp(7), udplite(7)).

A datagram goes into the inbox of the socket that fits best, or is dropped where that is full (SO_RCVBUF). Where nobody
is bound a connected sender learns of it: ECONNREFUSED at its next call. Port 53 without anybody there, of whatever
address, is the resolver of this network (`dns.py`). A socket of UDP-Lite, whose `protocol` is another one, meets others
of its kind alone; no checksum is ever wrong here, but one that covers less than a receiver asks for drops the datagram.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import inet as abi
from aiopyvm.abi import socket as sockets
from aiopyvm.abi.errno import (
    EACCES,
    EAFNOSUPPORT,
    EAGAIN,
    ECONNREFUSED,
    EDESTADDRREQ,
    EINVAL,
    EMSGSIZE,
    ENETUNREACH,
    ENOTCONN,
    EOPNOTSUPP,
    EPIPE,
    Errno,
)
from aiopyvm.abi.inet import ANY4, ANY6, is_mapped, is_multicast, pack_address, unpack_address
from aiopyvm.abi.poll import POLLWRBAND, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_ERR
from aiopyvm.abi.socket import AF_INET, AF_INET6, AF_UNSPEC, MSG_PEEK, MSG_TRUNC, SOCK_DGRAM
from aiopyvm.kernel import dns, multicast
from aiopyvm.kernel.inet import NETWORK
from aiopyvm.kernel.inetsocket import InetSocket
from aiopyvm.kernel.packetinfo import ETHERNET, HOPS, LOOPBACK, Datagram, Path, path_of, told
from aiopyvm.kernel.socket import MESSAGE_BYTES, RCV_SHUTDOWN, SEND_SHUTDOWN, Incoming, Outgoing, family_of
from aiopyvm.kernel.sockopts import word_of

if TYPE_CHECKING:
    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.thread import Thread

_LEVELS: Final = (sockets.SOL_UDP, sockets.SOL_UDPLITE)
_COVERAGES: Final = (abi.UDPLITE_SEND_CSCOV, abi.UDPLITE_RECV_CSCOV)
NOWHERE: Final = Path(None, HOPS, 0)


class UdpSocket(InetSocket):
    """A UDP socket, or one of UDP-Lite."""

    def __init__(self, host: Inet, domain: int, budget: Budget, number: int, flags: int = 0) -> None:
        super().__init__(host, domain, SOCK_DGRAM, abi.IPPROTO_UDP, budget, number, flags)
        self.inbox: deque[Datagram] = deque()
        self.inbox_size = 0
        self._outside = False
        self._coverage: dict[int, int] = {}  # UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV
        self._membership: multicast.Membership | None = None

    def membership(self) -> multicast.Membership:
        """What it has to do with multicast groups."""
        if self._membership is None:
            self._membership = multicast.Membership()
        return self._membership

    def bind(self, t: Thread, address: bytes) -> None:
        """As of any; on a network of several machines, whoever comes may send here from now on."""
        super().bind(t, address)
        self._tell_who_sends()

    def _tell_who_sends(self) -> None:
        anybody = self.bound_port and not self.is_connected() and self.host_inet.network is not None
        self.read_queue.external = "host" if self._outside else NETWORK if anybody else ""

    def reach_outside(self) -> None:
        """It has sent to a granted host outside, from where something may come."""
        self._outside = True
        self._tell_who_sends()

    def connect(self, t: Thread, address: bytes) -> None:
        """Set where datagrams go and come from; AF_UNSPEC: nowhere and anywhere."""
        if len(address) >= 2 and family_of(address) == AF_UNSPEC:
            self._disconnect()
            return
        ip, port = self.destination(self._as_six(address, EAFNOSUPPORT))
        self._check_broadcast(ip)
        source = multicast.way_out(self, NOWHERE)[1] if is_multicast(ip) else self._source(ip, port)
        self.need_port(source)
        if not self.bound_ip:
            self.ip = source
        self.peer_ip, self.peer_port = ip, port
        self._tell_who_sends()

    def _as_six(self, address: bytes, error: int) -> bytes:
        """Return a sockaddr_in that an AF_INET6 socket is given as a sockaddr_in6; others as they are.

        Raises Errno: EINVAL where it is too short, `error` of a socket for IPv6 alone.
        """
        if self.domain != AF_INET6 or len(address) < 2 or family_of(address) != AF_INET:
            return address
        if self.only_six:
            raise Errno(error)
        return pack_address(AF_INET6, *unpack_address(AF_INET, address))

    def _disconnect(self) -> None:
        self.peer_port = 0
        if not self.bound_ip:
            self.ip = ANY4 if self.domain == AF_INET else ANY6
        if not self.bound_port and self.port:
            self.leave_port()
        self._tell_who_sends()

    def _check_broadcast(self, ip: bytes) -> None:
        if ip == abi.BROADCAST and not self.options[sockets.SO_BROADCAST]:
            raise Errno(EACCES)

    def shutdown(self, how: int) -> None:
        """Close a direction for this socket alone. Raises Errno(ENOTCONN), having done so."""
        self.shut |= how + 1
        self.wake()
        if not self.is_connected():
            raise Errno(ENOTCONN)

    def close(self) -> None:
        """Drop what is there."""
        self.inbox.clear()
        self.budget.charge(-self.inbox_size)
        self.inbox_size = 0
        if self.port:
            self.leave_port()
        if self._membership is not None:
            multicast.leave_all(self, self._membership)
        self.wake()

    # --- data -------------------------------------------------------------------------------------------------------

    def send(self, t: Thread, message: Outgoing) -> int:
        """Send a datagram. Raises Errno."""
        data = message.data
        self.need_port(self.ip)
        if len(data) > 0xFFFF:
            raise Errno(EMSGSIZE)
        if message.flags & sockets.MSG_OOB:
            raise Errno(EOPNOTSUPP)
        if message.address is not None:
            ip, port = self._given_destination(message.address)
        elif not self.is_connected():
            raise Errno(EDESTADDRREQ)
        else:
            ip, port = self.peer_ip, self.peer_port
        self._check_broadcast(ip)
        path = path_of(self, ip, message.control)
        interface = LOOPBACK
        if is_multicast(ip):
            interface, source = multicast.way_out(self, path)
        else:
            own = self.bound_ip and not is_multicast(self.ip)
            source = path.source or (self.ip if own else self._source(ip, port))
        self.raise_error()
        if self.shut & SEND_SHUTDOWN:
            raise Errno(EPIPE)
        if len(data) > (abi.LARGEST_UDP if is_mapped(ip) else abi.LARGEST_UDP6):
            raise Errno(EMSGSIZE)
        covered = self._coverage.get(abi.UDPLITE_SEND_CSCOV, 0)
        covered = covered if covered < len(data) + abi.LEAST_COVERAGE else 0
        self._deliver(Datagram(data, source, self.port, ip, path.hops, path.traffic, interface, covered), port)
        return len(data)

    def _source(self, ip: bytes, port: int) -> bytes:
        """As `Inet.source`; a resolver is wherever one asks for it."""
        return abi.LOOPBACK4 if port == dns.PORT and is_mapped(ip) else self.host_inet.source(ip)

    def _given_destination(self, address: bytes) -> tuple[bytes, int]:
        if len(address) >= 2 and family_of(address) == AF_UNSPEC and self.domain == AF_INET and len(address) >= 16:
            address = AF_INET.to_bytes(2, "little") + address[2:]
        ip, port = self.destination(self._as_six(address, ENETUNREACH))
        if not port:
            raise Errno(EINVAL)
        return ip, port

    def _deliver(self, each: Datagram, port: int) -> None:
        ip = each.to
        if is_multicast(ip):
            multicast.deliver(self, each, port)
            return
        host = self.host_inet.route(ip)
        found = host.find(self.protocol, ip, port, (each.ip, self.port)) if host is not None else None
        if isinstance(found, UdpSocket):
            found.arrive(each if host is self.host_inet else each._replace(interface=ETHERNET))
            return
        error = ENETUNREACH
        lite = self.protocol != abi.IPPROTO_UDP
        if host is None and self.host_inet.gateway is not None and not lite:
            error = self.host_inet.gateway.send(self, each, port)
            if not error:
                return
        if port == dns.PORT and not lite:
            answer = dns.answer(each.data, self.host_inet.resolve, self.host_inet.name_of)
            if answer is not None:
                self.arrive(Datagram(answer, ip, port, each.ip))
            return
        if host is None and error != ECONNREFUSED:
            raise Errno(error)
        self.refused(ip, port, ECONNREFUSED)

    def refused(self, ip: bytes, port: int, error: int) -> None:
        """Learn that what was sent there did not arrive, where it is connected there."""
        if self.is_connected() and (ip, port) == (self.peer_ip, self.peer_port):
            self.error = error
            self.tell_async(POLL_ERR)
            self.wake()

    def arrive_from(self, each: Datagram) -> None:
        """As `arrive`, of what comes from outside: a socket that is connected elsewhere does not take it."""
        if self.refs and (not self.is_connected() or (self.peer_ip, self.peer_port) == (each.ip, each.port)):
            self.arrive(each)

    def arrive(self, each: Datagram) -> None:
        """Keep a datagram, where there is room."""
        size = len(each.data) + MESSAGE_BYTES
        if self.inbox_size and self.inbox_size + size > self.options[sockets.SO_RCVBUF]:
            return
        asked = self._coverage.get(abi.UDPLITE_RECV_CSCOV, 1)
        if each.covered and (not asked or each.covered < asked):
            return
        if self.shut & RCV_SHUTDOWN or not self.budget.charge(size):
            return
        self.inbox_size += size
        self.inbox.append(each)
        self.data_came()

    def receive(self, t: Thread, n: int, flags: int) -> Incoming:
        """Return the next datagram."""
        self.raise_error()
        if not self.inbox:
            if self.shut & RCV_SHUTDOWN and not flags & sockets.MSG_DONTWAIT:
                return Incoming(b"", 0)
            raise Errno(EAGAIN)
        each = self.inbox[0]
        data = each.data
        if not flags & MSG_PEEK:
            self.inbox.popleft()
            size = len(data) + MESSAGE_BYTES
            self.inbox_size -= size
            self.budget.charge(-size)
        short = MSG_TRUNC if n < len(data) else 0
        control = told(self, each) if self.values else ()
        address = pack_address(self.domain, each.ip, each.port)
        return Incoming(data[:n], len(data), address, short, control=control)

    def get_option(self, t: Thread, level: int, option: int, size: int) -> bytes | None:
        """IP_MULTICAST_IF too."""
        if (level, option) == (sockets.SOL_IP, abi.IP_MULTICAST_IF):
            return self.membership().source[12:]
        if level in _LEVELS and option in _COVERAGES:
            return struct.pack("<i", self._coverage.get(option, 0))
        return super().get_option(t, level, option, size)

    def set_option(self, t: Thread, level: int, option: int, data: bytes) -> bool:
        """Those of multicast groups too."""
        if level in _LEVELS and option in _COVERAGES and self.protocol == abi.IPPROTO_UDPLITE:
            value = word_of(data)
            self._coverage[option] = 0 if not value else min(max(value, abi.LEAST_COVERAGE), 0xFFFF)
            return True
        if level == sockets.SOL_IP and multicast.set_option(self, option, data):
            return True
        return super().set_option(t, level, option, data)

    def poll(self) -> int:
        """Return the events that hold now; there is always room to send."""
        return self.state_events() | WRITABLE | POLLWRBAND | (READABLE if self.inbox else 0)

    def available(self) -> int:
        """The size of the next datagram."""
        return len(self.inbox[0].data) if self.inbox else 0

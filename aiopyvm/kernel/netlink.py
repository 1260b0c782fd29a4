"""AF_NETLINK sockets of NETLINK_ROUTE: what getifaddrs(3) and if_nameindex(3) ask for (netlink(7), rtnetlink(7)).

A request is answered when it is sent: its answer waits as two datagrams, the entries and the end of the list. Links and
addresses can be listed (NLM_F_DUMP), nothing else: changes are EPERM, other requests EOPNOTSUPP, in an NLMSG_ERROR.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import EADDRINUSE, EAGAIN, EINVAL, ENOBUFS, EOPNOTSUPP, EPERM, Errno
from aiopyvm.abi.inet import LOOPBACK6
from aiopyvm.abi.poll import READABLE, WRITABLE
from aiopyvm.abi.socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, MSG_PEEK, MSG_TRUNC
from aiopyvm.kernel.interfaces import IFF_LOOPBACK, hardware_address, interfaces
from aiopyvm.kernel.socket import MESSAGE_BYTES, Incoming, Outgoing, Socket, family_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.thread import Thread

NETLINK_ROUTE: Final = 0
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 1
NLM_F_MULTI: Final = 2
NLM_F_DUMP: Final = 0x300
RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_BASE: Final = 16
RTM_MAX: Final = 127
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN = 1, 3, 4, 13
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL = 1, 2, 3
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_HOST: Final = 254
MOST_REQUESTS: Final = 64  # in one message that is sent

_HEADER: Final = struct.Struct("<IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK: Final = struct.Struct("<BxHiII")  # struct ifinfomsg
_ADDRESS: Final = struct.Struct("<BBBBI")  # struct ifaddrmsg
_SOCKADDR: Final = struct.Struct("<HHII")  # struct sockaddr_nl: family, pad, port, groups


class NetlinkSocket(Socket):
    """A socket of NETLINK_ROUTE. `port` is its address, 0 while it is not bound."""

    domain = AF_NETLINK

    def __init__(self, host: Inet, kind: int, budget: Budget, number: int, flags: int = 0) -> None:
        super().__init__(kind, NETLINK_ROUTE, budget, number, flags)
        self.inet = host
        self.port = 0
        self.groups = 0
        self.inbox: deque[bytes] = deque()
        self.inbox_size = 0

    # --- names ------------------------------------------------------------------------------------------------------

    def bind(self, t: Thread, address: bytes) -> None:
        """Take a port; 0: one that is free. Raises Errno: EINVAL, EADDRINUSE, EPERM for groups."""
        port, groups = self._parse(address)
        if self.port and port != self.port:
            raise Errno(EINVAL)
        if not self.port:
            self._take(t, port)
        self.groups = groups

    def _take(self, t: Thread, port: int) -> None:
        taken = self.inet.netlink_ports
        if port and port in taken:
            raise Errno(EADDRINUSE)
        port = port or t.process.pid
        while port in taken:
            port = port + 0x1000 & 0x7FFFFFFF
        taken[port] = None
        self.port = port

    @staticmethod
    def _parse(address: bytes) -> tuple[int, int]:
        if len(address) < _SOCKADDR.size or family_of(address) != AF_NETLINK:
            raise Errno(EINVAL)
        _, _, port, groups = _SOCKADDR.unpack_from(address)
        return port, groups

    def connect(self, t: Thread, address: bytes) -> None:
        """There is nobody but the kernel. Raises Errno: EINVAL, EPERM."""
        if len(address) >= 2 and family_of(address) == AF_UNSPEC:
            return
        if any(self._parse(address)):
            raise Errno(EPERM)
        if not self.port:
            self._take(t, 0)

    def local_address(self) -> bytes:
        """Return the port and groups."""
        return _SOCKADDR.pack(AF_NETLINK, 0, self.port, self.groups)

    def peer_address(self) -> bytes:
        """The kernel's."""
        return _SOCKADDR.pack(AF_NETLINK, 0, 0, 0)

    def close(self) -> None:
        """Give back what waits."""
        self.inet.netlink_ports.pop(self.port, None)
        self.inbox.clear()
        self.budget.charge(-self.inbox_size)
        self.inbox_size = 0
        self.wake()

    # --- data -------------------------------------------------------------------------------------------------------

    def send(self, t: Thread, message: Outgoing) -> int:
        """Answer requests. Raises Errno: EOPNOTSUPP for MSG_OOB, EPERM for another's port, ENOBUFS."""
        if message.flags & abi.MSG_OOB:
            raise Errno(EOPNOTSUPP)
        if message.address is not None and any(self._parse(message.address)):
            raise Errno(EPERM)
        if not self.port:
            self._take(t, 0)
        data, at = message.data, 0
        for _ in range(MOST_REQUESTS):
            if at + _HEADER.size > len(data):
                break
            length, *_ = _HEADER.unpack_from(data, at)
            if not _HEADER.size <= length <= len(data) - at:
                break
            self._answer(data[at : at + length])
            at += length + 3 & ~3
        return len(data)

    def _answer(self, request: bytes) -> None:
        _, kind, flags, sequence, _ = _HEADER.unpack_from(request)
        if not flags & NLM_F_REQUEST or kind < RTM_BASE:
            return
        family = request[_HEADER.size] if len(request) > _HEADER.size else AF_UNSPEC
        if kind in (RTM_GETLINK, RTM_GETADDR) and flags & NLM_F_DUMP == NLM_F_DUMP:
            answer, bodies = (
                (RTM_NEWLINK, self._links()) if kind == RTM_GETLINK else (RTM_NEWADDR, self._addresses(family))
            )
            self._post(b"".join(self._message(answer, NLM_F_MULTI, sequence, body) for body in bodies))
            self._post(self._message(NLMSG_DONE, NLM_F_MULTI, sequence, bytes(4)))
            return
        reads = kind <= RTM_MAX and kind & 3 == 2
        error = struct.pack("<i", -(EOPNOTSUPP if reads else EPERM)) + request[: _HEADER.size]
        self._post(self._message(NLMSG_ERROR, 0, sequence, error))

    def _message(self, kind: int, flags: int, sequence: int, body: bytes) -> bytes:
        return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, self.port) + body

    def _links(self) -> Iterator[bytes]:
        for each in interfaces(self.inet):
            yield _LINK.pack(AF_UNSPEC, each.hardware, each.number, each.flags, 0) + b"".join(
                (
                    _attribute(IFLA_IFNAME, each.name + b"\0"),
                    _attribute(IFLA_TXQLEN, struct.pack("<I", each.queue)),
                    _attribute(IFLA_MTU, struct.pack("<I", each.mtu)),
                    _attribute(IFLA_ADDRESS, hardware_address(each)),
                )
            )

    def _addresses(self, family: int) -> Iterator[bytes]:
        for each in interfaces(self.inet):
            own = bool(each.flags & IFF_LOOPBACK)
            scope = RT_SCOPE_HOST if own else RT_SCOPE_UNIVERSE
            if family in (AF_UNSPEC, AF_INET):
                prefix = int.from_bytes(each.mask, "big").bit_count()
                yield _ADDRESS.pack(AF_INET, prefix, 0x80, scope, each.number) + b"".join(
                    (
                        _attribute(IFA_ADDRESS, each.ip),
                        _attribute(IFA_LOCAL, each.ip),
                        _attribute(IFA_LABEL, each.name + b"\0"),
                    )
                )
            if own and family in (AF_UNSPEC, AF_INET6):
                yield _ADDRESS.pack(AF_INET6, 128, 0x80, scope, each.number) + _attribute(IFA_ADDRESS, LOOPBACK6)

    def _post(self, data: bytes) -> None:
        size = len(data) + MESSAGE_BYTES
        if self.inbox_size + size > self.options[abi.SO_RCVBUF] or not self.budget.charge(size):
            raise Errno(ENOBUFS)
        self.inbox_size += size
        self.inbox.append(data)
        self.data_came()

    def receive(self, t: Thread, n: int, flags: int) -> Incoming:
        """Return the next datagram."""
        if not self.inbox:
            raise Errno(EAGAIN)
        data = self.inbox[0]
        if not flags & MSG_PEEK:
            self.inbox.popleft()
            self.inbox_size -= len(data) + MESSAGE_BYTES
            self.budget.charge(-len(data) - MESSAGE_BYTES)
        return Incoming(data[:n], len(data), self.peer_address(), MSG_TRUNC if n < len(data) else 0)

    def poll(self) -> int:
        """There is always room to ask."""
        return self.state_events() | WRITABLE | (READABLE if self.inbox else 0)

    def available(self) -> int:
        """The size of the next datagram."""
        return len(self.inbox[0]) if self.inbox else 0


def _attribute(kind: int, data: bytes) -> bytes:
    """Return a struct rtattr with its data, aligned."""
    size = 4 + len(data)
    return struct.pack("<HH", size, kind) + data + bytes(-size % 4)

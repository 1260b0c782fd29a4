"""Multicast of IPv4 (ip(7), IP_ADD_MEMBERSHIP and the like; net/ipv4/igmp.c of the Linux source).

How it works. A UDP socket joins a group on an interface, and its host counts who has (`Inet.groups`): what is sent to
the group on that interface goes to all of the host's sockets that are bound to the port, to those that did not join
too (IP_MULTICAST_ALL). On a network of several hosts it goes to all of them that have somebody in the group. A group is
on lo or on eth0; on lo everything comes back, on eth0 what IP_MULTICAST_LOOP lets.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import inet as abi
from aiopyvm.abi.errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENOBUFS, ENODEV, EPROTO, Errno
from aiopyvm.abi.inet import ANY4, LOOPBACK4, MAPPED, is_any, is_loopback, is_multicast
from aiopyvm.abi.socket import AF_INET, SOL_IP
from aiopyvm.kernel.packetinfo import ETHERNET, LOOPBACK, Datagram, Path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.udp import UdpSocket

MOST_GROUPS: Final = 20  # of one socket (igmp_max_memberships)
MOST_RECEIVERS: Final = 4096  # of one datagram; others miss it
ALL_HOSTS: Final = MAPPED + b"\xe0\0\0\1"  # everybody is in it
_GROUP_REQUEST: Final = struct.Struct("<IH2x4s120x")
_JOINS: Final = (abi.IP_ADD_MEMBERSHIP, abi.MCAST_JOIN_GROUP)

Group = tuple[bytes, int]  # its address and the number of an interface


class Membership:
    """What one socket has to do with groups: those that it is in, each with the address that it was joined by, and
    where what it sends to any goes out: `interface` (0: wherever), `source`."""

    __slots__ = ("groups", "interface", "source")

    def __init__(self) -> None:
        self.groups: dict[Group, bytes] = {}
        self.interface = 0
        self.source = ANY4


class Request(NamedTuple):
    """struct ip_mreqn."""

    group: bytes
    address: bytes
    interface: int


def refuse(option: int, data: bytes) -> None:
    """What a socket of another kind than UDP answers. Raises Errno: EINVAL, EPROTO."""
    if option not in (abi.IP_ADD_MEMBERSHIP, abi.IP_DROP_MEMBERSHIP):
        _request(option, data)
    raise Errno(EINVAL if option == abi.IP_MULTICAST_IF else EPROTO)


def _request(option: int, data: bytes) -> Request:
    """Return what an option of groups is given. Raises Errno(EINVAL)."""
    if option in (abi.MCAST_JOIN_GROUP, abi.MCAST_LEAVE_GROUP):
        if len(data) < _GROUP_REQUEST.size:
            raise Errno(EINVAL)
        interface, family, _ = _GROUP_REQUEST.unpack_from(data)
        if family != AF_INET:
            raise Errno(EINVAL)
        return Request(MAPPED + data[8:12], ANY4, interface)
    if len(data) < 8 and option != abi.IP_MULTICAST_IF:
        raise Errno(EINVAL)
    if len(data) < 4:
        raise Errno(EINVAL)
    if len(data) < 8:
        return Request(ANY4, MAPPED + data[:4], 0)
    number = int.from_bytes(data[8:12], "little", signed=True) if len(data) >= 12 else 0
    return Request(MAPPED + data[:4], MAPPED + data[4:8], number)


def _interface(host: Inet, request: Request) -> int:
    """The interface that a request means; 0: none. That of no address and no number is the way to the group."""
    if request.interface:
        return request.interface if request.interface in _interfaces(host) else 0
    if not is_any(request.address):
        return interface_of(host, request.address)
    return ETHERNET if host.ip is not None else 0


def _interfaces(host: Inet) -> tuple[int, ...]:
    return (LOOPBACK,) if host.ip is None else (LOOPBACK, ETHERNET)


def interface_of(host: Inet, ip: bytes) -> int:
    """The interface that has an address; 0: none."""
    return LOOPBACK if is_loopback(ip) else ETHERNET if ip == host.ip else 0


def set_option(socket: UdpSocket, option: int, data: bytes) -> bool:
    """Set an option of groups; False where it is none. Raises Errno."""
    if option not in abi.GROUP_OPTIONS:
        return False
    request, host, own = _request(option, data), socket.host_inet, socket.membership()
    found = _interface(host, request)
    if option == abi.IP_MULTICAST_IF:
        if not request.interface and is_any(request.address):
            own.interface, own.source = 0, ANY4
            return True
        if not found:
            raise Errno(EADDRNOTAVAIL)
        own.interface, own.source = found, request.address
    elif option in _JOINS:
        _join(socket, own, request, found)
    else:
        _leave(socket, own, request, found)
    return True


def _join(socket: UdpSocket, own: Membership, request: Request, interface: int) -> None:
    if not is_multicast(request.group):
        raise Errno(EINVAL)
    if not interface:
        raise Errno(ENODEV)
    group = request.group, interface
    if group in own.groups:
        raise Errno(EADDRINUSE)
    if len(own.groups) >= MOST_GROUPS:
        raise Errno(ENOBUFS)
    own.groups[group] = request.address
    socket.host_inet.groups[group] += 1


def _leave(socket: UdpSocket, own: Membership, request: Request, interface: int) -> None:
    if not interface and not request.interface and is_any(request.address):
        raise Errno(ENODEV)
    number = request.interface or interface
    for group, address in own.groups.items():
        if group[0] == request.group and (number == group[1] if number else address == request.address):
            del own.groups[group]
            _forget(socket.host_inet, group)
            return
    raise Errno(EADDRNOTAVAIL)


def _forget(host: Inet, group: Group) -> None:
    host.groups[group] -= 1
    if not host.groups[group]:
        del host.groups[group]


def leave_all(socket: UdpSocket, own: Membership) -> None:
    """Leave every group: the socket is closed."""
    for group in own.groups:
        _forget(socket.host_inet, group)
    own.groups.clear()


def way_out(socket: UdpSocket, path: Path) -> tuple[int, bytes]:
    """Return the interface, and the source, of what a socket sends to a group. Raises Errno(ENETUNREACH)."""
    host, own = socket.host_inet, socket.membership()
    own_address = socket.ip if socket.bound_ip and not is_multicast(socket.ip) else ANY4
    source = next((ip for ip in (path.source, own_address, own.source) if ip and not is_any(ip)), None)
    interface = path.interface or own.interface or (interface_of(host, source) if source else 0)
    if not interface:
        if host.ip is None:
            raise Errno(ENETUNREACH)
        interface = ETHERNET
    return interface, source or host.ip or LOOPBACK4


def deliver(sender: UdpSocket, each: Datagram, port: int) -> None:
    """Give a datagram to all who get what is sent to its group."""
    for socket in tuple(islice(_receivers(sender, each, port), MOST_RECEIVERS)):
        socket.arrive(each)


def _receivers(sender: UdpSocket, each: Datagram, port: int) -> Iterator[UdpSocket]:
    from aiopyvm.kernel.udp import UdpSocket  # which needs this module

    for host in _hosts(sender, each):
        if (each.to, each.interface) in host.groups or each.to == ALL_HOSTS:
            for socket in host.ports.get((sender.protocol, port), ()):
                if isinstance(socket, UdpSocket) and _takes(socket, each):
                    yield socket


def _hosts(sender: UdpSocket, each: Datagram) -> Iterator[Inet]:
    host = sender.host_inet
    if each.interface == LOOPBACK or sender.option(SOL_IP, abi.IP_MULTICAST_LOOP):
        yield host
    if each.interface == ETHERNET and each.hops and host.network is not None:
        yield from (other for other in host.network.hosts.values() if other is not host)


def _takes(socket: UdpSocket, each: Datagram) -> bool:
    """Whether a socket that is bound to the port gets what is sent to the group."""
    if socket.is_connected() and (socket.peer_ip, socket.peer_port) != (each.ip, each.port):
        return False
    if socket.only_six or not (is_any(socket.ip) or socket.ip == each.to):
        return False
    joined = (each.to, each.interface) in socket.membership().groups
    return joined or bool(socket.option(SOL_IP, abi.IP_MULTICAST_ALL))

"""What goes along with a datagram: the address that it was sent to, its interface, hop limit and traffic class.

A sender says so by control messages (`path_of`), a receiver is told what it asked for (`told`), as RFC 3542, ip(7)
and ipv6(7) have it. Sockets of AF_INET6 tell of IPv4 datagrams by the options of both levels.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import inet as abi
from aiopyvm.abi.errno import EINVAL, ENETUNREACH, ENODEV, Errno
from aiopyvm.abi.inet import LOOPBACK4, MAPPED, is_any, is_mapped, is_multicast
from aiopyvm.abi.socket import AF_INET6, SOL_IP, SOL_IPV6

if TYPE_CHECKING:
    from aiopyvm.kernel.inetsocket import InetSocket

Controls = tuple[tuple[int, int, bytes], ...]
HOPS: Final = 64
LOOPBACK, ETHERNET = 1, 2  # numbers of interfaces (interfaces.py)


class Path(NamedTuple):
    """How a datagram goes: `source` is None where the sender did not say, `interface` 0; `hops` is the TTL, `traffic`
    the TOS."""

    source: bytes | None
    hops: int
    traffic: int
    interface: int = 0


class Datagram(NamedTuple):
    """A datagram that has arrived, from `ip` and `port`, for `to`. `covered`: how many of its bytes, with its header,
    the checksum of UDP-Lite does; 0: all."""

    data: bytes
    ip: bytes
    port: int
    to: bytes
    hops: int = HOPS
    traffic: int = 0
    interface: int = LOOPBACK
    covered: int = 0


def path_of(socket: InetSocket, ip: bytes, control: Controls) -> Path:
    """Return how what `socket` sends to `ip` goes. Raises Errno: EINVAL, ENODEV, ENETUNREACH."""
    if is_mapped(ip):
        hops = abi.IP_MULTICAST_TTL if is_multicast(ip) else abi.IP_TTL
        path = Path(None, socket.option(SOL_IP, hops), socket.option(SOL_IP, abi.IP_TOS))
    else:
        hops, traffic = socket.option(SOL_IPV6, abi.IPV6_UNICAST_HOPS), socket.option(SOL_IPV6, abi.IPV6_TCLASS)
        path = Path(None, HOPS if hops < 0 else hops, max(traffic, 0))
    for level, kind, data in control:
        if level == SOL_IP and is_mapped(ip):
            path = _four(socket, path, kind, data)
        elif level == SOL_IPV6 and socket.domain == AF_INET6:
            path = _six(socket, path, kind, data, four=is_mapped(ip))
    return path


def _four(socket: InetSocket, path: Path, kind: int, data: bytes) -> Path:
    if kind == abi.IP_PKTINFO and len(data) == 12:
        (number,) = struct.unpack_from("<i", data)
        return _from(socket, path, MAPPED + data[4:8], number)
    if kind == abi.IP_TTL and len(data) == 4 and 1 <= _word(data) <= 255:
        return path._replace(hops=_word(data))
    if kind == abi.IP_TOS and len(data) in (1, 4) and 0 <= (traffic := int.from_bytes(data, "little")) <= 255:
        return path._replace(traffic=traffic)
    raise Errno(EINVAL)


def _six(socket: InetSocket, path: Path, kind: int, data: bytes, *, four: bool) -> Path:
    if kind == abi.IPV6_PKTINFO and len(data) >= 20:
        source, number = data[:16], _word(data[16:20])
        if four and not is_mapped(source):
            raise Errno(EINVAL)
        return _from(socket, path, source, number)
    if four:
        return path  # ip_cmsg_send() passes over the rest
    if kind == abi.IPV6_HOPLIMIT and len(data) == 4 and -1 <= (hops := _word(data)) <= 255:
        return path._replace(hops=HOPS if hops < 0 else hops)
    if kind == abi.IPV6_TCLASS and len(data) == 4 and -1 <= (traffic := _word(data)) <= 255:
        return path._replace(traffic=max(traffic, 0))
    raise Errno(EINVAL)


def _from(socket: InetSocket, path: Path, source: bytes, number: int) -> Path:
    host = socket.host_inet
    if number and number != LOOPBACK and (number != ETHERNET or host.ip is None):
        raise Errno(ENODEV)
    path = path._replace(interface=number)
    if is_any(source):
        return path
    if not host.is_mine(source):
        raise Errno(ENETUNREACH if is_mapped(source) else EINVAL)
    return path._replace(source=source)


def _word(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def told(socket: InetSocket, each: Datagram) -> Controls:
    """Return what `socket` wants to know of a datagram, in Linux's order."""
    control: list[tuple[int, int, bytes]] = []
    if socket.domain == AF_INET6 and socket.option(SOL_IPV6, abi.IPV6_RECVPKTINFO):
        control.append((SOL_IPV6, abi.IPV6_PKTINFO, each.to + struct.pack("<i", each.interface)))
    if is_mapped(each.to):
        if socket.option(SOL_IP, abi.IP_PKTINFO):
            here = each.to
            if is_multicast(here):
                here = (socket.host_inet.ip if each.interface == ETHERNET else None) or LOOPBACK4
            control.append((SOL_IP, abi.IP_PKTINFO, struct.pack("<i", each.interface) + here[12:] + each.to[12:]))
        if socket.option(SOL_IP, abi.IP_RECVTTL):
            control.append((SOL_IP, abi.IP_TTL, struct.pack("<i", each.hops)))
        if socket.option(SOL_IP, abi.IP_RECVTOS):
            control.append((SOL_IP, abi.IP_TOS, bytes((each.traffic,))))
        return tuple(control)
    if socket.option(SOL_IPV6, abi.IPV6_RECVHOPLIMIT):
        control.append((SOL_IPV6, abi.IPV6_HOPLIMIT, struct.pack("<i", each.hops)))
    if socket.option(SOL_IPV6, abi.IPV6_RECVTCLASS):
        control.append((SOL_IPV6, abi.IPV6_TCLASS, struct.pack("<i", each.traffic)))
    return tuple(control)

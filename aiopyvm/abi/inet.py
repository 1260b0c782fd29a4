"""Internet addresses and the options of IP, IPv6, TCP and UDP (ip(7), ipv6(7), tcp(7), udp(7)).

An address is kept as 16 bytes, an IPv4 one mapped into IPv6 (::ffff:a.b.c.d), so that sockets of both families meet.
"""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.abi.errno import EAFNOSUPPORT, EINVAL, Errno
from aiopyvm.abi.socket import AF_INET, AF_INET6, AF_UNSPEC

IPPROTO_IP: Final = 0
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_UDPLITE: Final = 136
IPPROTO_MPTCP: Final = 262

MAPPED: Final = bytes(10) + b"\xff\xff"
ANY4: Final = MAPPED + bytes(4)
ANY6: Final = bytes(16)
LOOPBACK4: Final = MAPPED + b"\x7f\0\0\1"
LOOPBACK6: Final = bytes(15) + b"\1"
BROADCAST: Final = MAPPED + b"\xff\xff\xff\xff"

FIRST_PORT: Final = 32768  # /proc/sys/net/ipv4/ip_local_port_range
LAST_PORT: Final = 60999
PRIVILEGED: Final = 1024  # ports below are the superuser's
LARGEST_UDP: Final = 65507
LARGEST_UDP6: Final = 65527

TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_SYNCNT: Final = 7
TCP_LINGER2: Final = 8
TCP_DEFER_ACCEPT: Final = 9
TCP_WINDOW_CLAMP: Final = 10
TCP_INFO: Final = 11
TCP_QUICKACK: Final = 12
TCP_CONGESTION: Final = 13
TCP_USER_TIMEOUT: Final = 18
TCP_FASTOPEN: Final = 23

# Options that are mere values here: what they are at first, and the least and the largest value that is taken.
TCP_OPTIONS: Final = {
    TCP_NODELAY: (0, -(1 << 31), 1 << 31),
    TCP_CORK: (0, -(1 << 31), 1 << 31),
    TCP_KEEPIDLE: (7200, 1, 32767),
    TCP_KEEPINTVL: (75, 1, 32767),
    TCP_KEEPCNT: (9, 1, 127),
    TCP_SYNCNT: (6, 1, 127),
    TCP_LINGER2: (60, -(1 << 31), 1 << 31),
    TCP_DEFER_ACCEPT: (0, -(1 << 31), 1 << 31),
    TCP_QUICKACK: (1, -(1 << 31), 1 << 31),
    TCP_USER_TIMEOUT: (0, 0, 1 << 31),
}
TCP_BOOLEANS: Final = (TCP_NODELAY, TCP_CORK, TCP_QUICKACK)

UDPLITE_SEND_CSCOV: Final = 10
UDPLITE_RECV_CSCOV: Final = 11
LEAST_COVERAGE: Final = 8  # bytes, of a UDP-Lite packet: its header

IP_TOS: Final = 1
IP_TTL: Final = 2
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IP_RECVERR: Final = 11
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
IP_MTU: Final = 14
IP_FREEBIND: Final = 15
IP_BIND_ADDRESS_NO_PORT: Final = 24
IP_MULTICAST_TTL: Final = 33
IP_MULTICAST_LOOP: Final = 34
IP_MULTICAST_IF: Final = 32
IP_ADD_MEMBERSHIP: Final = 35
IP_DROP_MEMBERSHIP: Final = 36
MCAST_JOIN_GROUP: Final = 42
MCAST_LEAVE_GROUP: Final = 45
IP_MULTICAST_ALL: Final = 49
GROUP_OPTIONS: Final = (
    IP_MULTICAST_IF,
    IP_ADD_MEMBERSHIP,
    IP_DROP_MEMBERSHIP,
    MCAST_JOIN_GROUP,
    MCAST_LEAVE_GROUP,
)
IP_OPTIONS: Final = {
    IP_TOS: (0, 0, 255),
    IP_TTL: (64, 1, 255),
    IP_MTU_DISCOVER: (1, 0, 5),
    IP_RECVERR: (0, 0, 1),
    IP_PKTINFO: (0, 0, 1),
    IP_RECVTTL: (0, 0, 1),
    IP_RECVTOS: (0, 0, 1),
    IP_FREEBIND: (0, 0, 1),
    IP_BIND_ADDRESS_NO_PORT: (0, 0, 1),
    IP_MULTICAST_TTL: (1, 0, 255),
    IP_MULTICAST_LOOP: (1, 0, 1),
    IP_MULTICAST_ALL: (1, 0, 1),
}

IPV6_UNICAST_HOPS: Final = 16
IPV6_MULTICAST_HOPS: Final = 18
IPV6_MULTICAST_LOOP: Final = 19
IPV6_MTU_DISCOVER: Final = 23
IPV6_RECVERR: Final = 25
IPV6_V6ONLY: Final = 26
IPV6_RECVPKTINFO: Final = 49
IPV6_PKTINFO: Final = 50
IPV6_RECVHOPLIMIT: Final = 51
IPV6_HOPLIMIT: Final = 52
IPV6_RECVTCLASS: Final = 66
IPV6_TCLASS: Final = 67
IPV6_OPTIONS: Final = {
    IPV6_UNICAST_HOPS: (64, -1, 255),
    IPV6_MULTICAST_HOPS: (1, -1, 255),
    IPV6_MULTICAST_LOOP: (1, 0, 1),
    IPV6_MTU_DISCOVER: (1, 0, 5),
    IPV6_RECVERR: (0, 0, 1),
    IPV6_TCLASS: (0, -1, 255),
    IPV6_RECVPKTINFO: (0, 0, 1),
    IPV6_RECVHOPLIMIT: (0, 0, 1),
    IPV6_RECVTCLASS: (0, 0, 1),
}
MTU: Final = 65536  # of the loopback interface


class TcpState:
    """The states of TCP_INFO and /proc/net/tcp."""

    ESTABLISHED: Final = 1
    SYN_SENT: Final = 2
    FIN_WAIT2: Final = 5
    TIME_WAIT: Final = 6
    CLOSE: Final = 7
    CLOSE_WAIT: Final = 8
    LISTEN: Final = 10


def pack_address(family: int, ip: bytes, port: int) -> bytes:
    """Return the sockaddr_in or sockaddr_in6 that a socket of `family` sees."""
    if family == AF_INET:
        return struct.pack("<H", AF_INET) + struct.pack(">H", port) + ip[12:] + bytes(8)
    return struct.pack("<H", AF_INET6) + struct.pack(">H4x", port) + ip + bytes(4)


def unpack_address(family: int, address: bytes, *, binding: bool = False) -> tuple[bytes, int]:
    """Return (address, port) from a sockaddr. Raises Errno: EINVAL where it is too short, EAFNOSUPPORT.

    A sockaddr_in of AF_UNSPEC is taken for 0.0.0.0 where one binds; an AF_INET6 socket does not take AF_INET.
    """
    least = 16 if family == AF_INET else 24
    if len(address) < least:
        raise Errno(EINVAL)
    given = int.from_bytes(address[:2], "little")
    port = int.from_bytes(address[2:4], "big")
    if family == AF_INET:
        if given != AF_INET and not (binding and given == AF_UNSPEC and not any(address[4:8])):
            raise Errno(EAFNOSUPPORT)
        return MAPPED + address[4:8], port
    if given != AF_INET6:
        raise Errno(EAFNOSUPPORT)
    return address[8:24], port


def is_mapped(ip: bytes) -> bool:
    """Whether this is an IPv4 address."""
    return ip[:12] == MAPPED


def is_any(ip: bytes) -> bool:
    """Whether this is 0.0.0.0 or ::."""
    return ip in (ANY4, ANY6)


def is_multicast(ip: bytes) -> bool:
    """Whether this is in 224.0.0.0/4."""
    return ip[12] >> 4 == 14 and is_mapped(ip)


def is_loopback(ip: bytes) -> bool:
    """Whether this is ::1 or in 127.0.0.0/8."""
    return ip == LOOPBACK6 or (is_mapped(ip) and ip[12] == 127)


def overlap(one: bytes, two: bytes, one_only: bool, two_only: bool) -> bool:
    """Whether two bound addresses can get the same packet; `*_only`: it is of a socket for IPv6 alone."""
    if one == two:
        return True
    if not (is_any(one) or is_any(two)):
        return False
    if is_mapped(one) == is_mapped(two):
        return True
    six_only = two_only if is_mapped(one) else one_only
    six = two if is_mapped(one) else one
    return six == ANY6 and not six_only

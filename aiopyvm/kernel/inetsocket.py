"""What TCP and UDP sockets have in common: addresses, ports and options (ip(7), ipv6(7))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from aiopyvm.abi import inet as abi
from aiopyvm.abi import socket as sockets
from aiopyvm.abi.errno import (
    EACCES,
    EADDRNOTAVAIL,
    EINVAL,
    ENETUNREACH,
    ENOTCONN,
    EOPNOTSUPP,
    Errno,
)
from aiopyvm.abi.inet import ANY4, ANY6, is_any, is_mapped, is_multicast, overlap, pack_address, unpack_address
from aiopyvm.abi.socket import AF_INET, AF_INET6, SOL_IP, SOL_IPV6
from aiopyvm.kernel.socket import Socket
from aiopyvm.kernel.sockopts import word_of

if TYPE_CHECKING:
    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.thread import Thread


class InetSocket(Socket):
    """A socket of AF_INET or AF_INET6 of `host`. `port` is 0 while it is not bound, `peer_port` while not connected."""

    def __init__(
        self, host: Inet, domain: int, kind: int, protocol: int, budget: Budget, number: int, flags: int = 0
    ) -> None:
        super().__init__(kind, protocol, budget, number, flags)
        self.domain = domain
        self.host_inet = host
        self.only_six = False
        self.ip = ANY4 if domain == AF_INET else ANY6
        self.port = 0
        self.bound_ip = False  # the address was chosen by bind(2)
        self.bound_port = False
        self.peer_ip = self.ip
        self.peer_port = 0
        self.values: dict[tuple[int, int], int] = {}  # options of IP, IPv6 and TCP that were set
        if self.endless:
            self.options.values |= {sockets.SO_SNDBUF: 16384, sockets.SO_RCVBUF: 131072}

    # --- names ------------------------------------------------------------------------------------------------------

    def bind(self, t: Thread, address: bytes) -> None:
        """Take an address and a port. Raises Errno: EINVAL, EAFNOSUPPORT, EADDRNOTAVAIL, EACCES, EADDRINUSE."""
        ip, port = unpack_address(self.domain, address, binding=True)
        self._check_family(ip, EINVAL)
        free = self.values.get((SOL_IP, abi.IP_FREEBIND), 0)
        if not (is_any(ip) or self.host_inet.is_mine(ip) or is_multicast(ip) or free):
            raise Errno(EADDRNOTAVAIL)
        if 0 < port < abi.PRIVILEGED and t.credentials.euid:
            raise Errno(EACCES)
        if self.port or self.is_connected():
            raise Errno(EINVAL)
        self.host_inet.claim(self, ip, port)
        self.bound_ip = not is_any(ip)
        self.bound_port = port != 0

    def _check_family(self, ip: bytes, error: int) -> None:
        if self.only_six and is_mapped(ip):
            raise Errno(error)

    def is_connected(self) -> bool:
        """Whether it has a peer."""
        return self.peer_port != 0

    def is_idle(self) -> bool:
        """Whether it is merely bound, if at all: /proc/net/tcp shows none of those."""
        return False

    def destination(self, address: bytes) -> tuple[bytes, int]:
        """Return where a sockaddr leads; 0.0.0.0 is this host. Raises Errno: EINVAL, EAFNOSUPPORT, ENETUNREACH."""
        ip, port = unpack_address(self.domain, address)
        if ip == ANY4:
            ip = abi.LOOPBACK4
        elif ip == ANY6:
            ip = abi.LOOPBACK4 if is_mapped(self.ip) else abi.LOOPBACK6
        self._check_family(ip, ENETUNREACH)
        if not is_mapped(ip) and is_mapped(self.ip):
            raise Errno(ENETUNREACH)
        return ip, port

    def need_port(self, ip: bytes) -> None:
        """Bind to any port where it is not bound; then `ip` is its address, where it has none."""
        if not self.port:
            self.host_inet.claim(self, self.ip, 0)
        if is_any(self.ip) and self.endless:
            self.ip = ip

    def conflicts(self, other: Socket, ip: bytes) -> bool:
        """Whether `other` cannot be bound to `ip` and this one's port."""
        assert isinstance(other, InetSocket)
        if not overlap(self.ip, ip, self.only_six, other.only_six):
            return False
        both = self.options[sockets.SO_REUSEPORT] and other.options[sockets.SO_REUSEPORT]
        if both and self.owner == other.owner:
            return False
        reuse = self.options[sockets.SO_REUSEADDR] and other.options[sockets.SO_REUSEADDR]
        return not (reuse and not self.listening)

    def fits(self, ip: bytes, source: tuple[bytes, int] | None) -> int:
        """How well what comes from `source` for `ip` fits this socket; 0: not at all."""
        if self.ip != ip and not (is_any(self.ip) and overlap(self.ip, ip, self.only_six, False)):
            return 0
        score = 1 + 2 * (self.ip == ip) + (self.domain == (AF_INET if is_mapped(ip) else AF_INET6))
        if self.is_connected():
            return score + 8 if source == (self.peer_ip, self.peer_port) else 0
        return score

    def local_address(self) -> bytes:
        """Return the address and port."""
        ip = self.ip
        if self.domain == AF_INET6 and ip == ANY4:
            ip = ANY6
        return pack_address(self.domain, ip, self.port)

    def peer_address(self) -> bytes:
        """Return the peer's. Raises Errno(ENOTCONN)."""
        if not self.is_connected():
            raise Errno(ENOTCONN)
        return pack_address(self.domain, self.peer_ip, self.peer_port)

    def leave_port(self) -> None:
        """Be bound no more."""
        self.host_inet.drop(self)
        self.port = 0

    # --- options ----------------------------------------------------------------------------------------------------

    def get_option(self, t: Thread, level: int, option: int, size: int) -> bytes | None:
        """Return an option of IP or IPv6; a byte where there is room for no more.

        Raises Errno(EOPNOTSUPP) for a level that a socket of AF_INET does not have.
        """
        if level == SOL_IP and option == abi.IP_MTU:
            if not self.is_connected():
                raise Errno(ENOTCONN)
            return struct.pack("<i", abi.MTU)
        if level == SOL_IPV6 and option == abi.IPV6_V6ONLY and self.domain == AF_INET6:
            return struct.pack("<i", self.only_six)
        table = self.option_table(level)
        if table is None and self.domain == AF_INET and level not in (sockets.SOL_SOCKET, self.protocol):
            raise Errno(EOPNOTSUPP)
        if table is None or option not in table:
            return None
        value = self.values.get((level, option), table[option][0])
        if level == SOL_IP and 0 < size < 4:
            return struct.pack("<B", value & 0xFF)
        return struct.pack("<i", value)

    def set_option(self, t: Thread, level: int, option: int, data: bytes) -> bool:
        """Set an option of IP or IPv6. Raises Errno(EINVAL)."""
        if level == SOL_IPV6 and option == abi.IPV6_V6ONLY and self.domain == AF_INET6:
            if self.port:
                raise Errno(EINVAL)
            self.only_six = word_of(data) != 0
            return True
        table = self.option_table(level)
        if table is None or option not in table:
            return False
        if self.endless and (level, option) == (SOL_IP, abi.IP_MULTICAST_TTL):
            raise Errno(EINVAL)
        value = data[0] if level == SOL_IP and 0 < len(data) < 4 else word_of(data)
        if (level, option) == (SOL_IP, abi.IP_MULTICAST_TTL) and value == -1:
            value = 1
        if (level, option) == (SOL_IP, abi.IP_MULTICAST_ALL) and value not in (0, 1):
            raise Errno(EINVAL)
        _, least, most = table[option]
        if (least, most) == (0, 1):
            value = int(value != 0)
        if not least <= value <= most:
            raise Errno(EINVAL)
        self.values[level, option] = value
        return True

    def option(self, level: int, option: int) -> int:
        """Return the value of an option that is a mere value."""
        table = abi.IP_OPTIONS if level == SOL_IP else abi.IPV6_OPTIONS
        return self.values.get((level, option), table[option][0])

    def option_table(self, level: int) -> dict[int, tuple[int, int, int]] | None:
        """The options of a level that are mere values."""
        if level == SOL_IP:
            return abi.IP_OPTIONS
        if level == SOL_IPV6 and self.domain == AF_INET6:
            return abi.IPV6_OPTIONS
        return None

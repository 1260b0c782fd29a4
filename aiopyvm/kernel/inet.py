"""Addresses and ports of one kernel, and the network on which kernels reach each other.

How it works. `Inet` is one host: its ports, with the sockets that are bound to each. Its loopback addresses reach only
itself. A `Network` joins hosts: each has an address of it and a name. What is neither is unreachable, unless the host
has a `gateway` (ports.py), which the runtime gives it: that alone knows of anything outside.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import EADDRINUSE, EADDRNOTAVAIL, ENETUNREACH, Errno
from aiopyvm.abi.inet import (
    FIRST_PORT,
    LAST_PORT,
    LOOPBACK4,
    LOOPBACK6,
    MAPPED,
    is_loopback,
    is_mapped,
)
from aiopyvm.kernel.timewait import TimeWait
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.inetsocket import InetSocket
    from aiopyvm.kernel.multicast import Group
    from aiopyvm.kernel.ports import Clock, Gateway

FIRST_HOST: Final = 0x0A000002  # 10.0.0.2; 10.0.0.1 is whoever is outside
OUTSIDE: Final = MAPPED + b"\x0a\0\0\1"
MOST_HOSTS: Final = 1 << 16
NETWORK: Final = "network"  # who may wake a listener from outside: somebody who connects


class Network:
    """Hosts that reach each other. Plain data; addresses are given out in order and never twice while in use."""

    def __init__(self) -> None:
        self.hosts: dict[bytes, Inet] = {}
        self.names: dict[bytes, Inet] = {}
        self._next = 0

    def join(self, host: Inet, names: tuple[bytes, ...]) -> bytes:
        """Give a host an address; its names are its own from now on. Raises Errno(EADDRNOTAVAIL): all are taken."""
        for _ in range(MOST_HOSTS):
            ip = MAPPED + (FIRST_HOST + self._next).to_bytes(4, "big")
            self._next = (self._next + 1) % MOST_HOSTS
            if ip not in self.hosts:
                self.hosts[ip] = host
                host.names = tuple(name.lower() for name in names)
                self.names |= dict.fromkeys(host.names, host)
                host.network, host.ip = self, ip
                return ip
        raise Errno(EADDRNOTAVAIL)

    def leave(self, host: Inet) -> None:
        """Take a host's address back."""
        if host.ip is not None:
            self.hosts.pop(host.ip, None)
            for name in [name for name, named in self.names.items() if named is host]:
                del self.names[name]
            host.network = host.ip = None


class Inet:
    """One host: who is bound where. `ip` is its address on `network`, where it has one."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.network: Network | None = None
        self.ip: bytes | None = None
        self.names: tuple[bytes, ...] = ()  # that it joined the network with
        self.gateway: Gateway | None = None
        self.reachable = False  # from outside of the machine, or from another one
        self.ports: dict[tuple[int, int], list[InetSocket]] = {}  # by protocol and port
        self.groups: Counter[Group] = Counter()  # multicast groups: how many sockets are in each
        self.resting = TimeWait(clock)
        self.netlink_ports: dict[int, None] = {}  # those of AF_NETLINK sockets
        self.opened = WaitQueue("network: a listener")  # woken when somebody begins to listen
        self.numbers = 0  # inode numbers of sockets that were given out
        self._next_port = FIRST_PORT

    # --- where addresses lead ---------------------------------------------------------------------------------------

    def is_mine(self, ip: bytes) -> bool:
        """Whether an address is this host's own."""
        return is_loopback(ip) or ip == self.ip

    def route(self, ip: bytes) -> Inet | None:
        """Return the host that has an address; None: it is outside."""
        if self.is_mine(ip):
            return self
        return self.network.hosts.get(ip) if self.network is not None else None

    def source(self, ip: bytes) -> bytes:
        """Return the address from which one sends to `ip`. Raises Errno(ENETUNREACH)."""
        if ip == self.ip:
            return ip
        if is_loopback(ip):
            return LOOPBACK4 if is_mapped(ip) else LOOPBACK6
        if is_mapped(ip) and self.ip is not None:
            return self.ip
        if is_mapped(ip) and self.gateway is not None:
            return LOOPBACK4
        raise Errno(ENETUNREACH)

    def resolve(self, name: bytes) -> bytes | None:
        """Return the address of a name: this host's, one on its network, or one that the gateway knows."""
        if name == b"localhost":
            return LOOPBACK4
        if self.network is not None and name in self.network.names:
            return self.network.names[name].ip
        return self.gateway.resolve(name) if self.gateway is not None else None

    def name_of(self, ip: bytes) -> bytes | None:
        """Return the name of an address: what `resolve` leads there from; the first one, where there are several."""
        if ip in (LOOPBACK4, LOOPBACK6):
            return b"localhost"
        if self.network is not None and (host := self.network.hosts.get(ip)) is not None:
            return next((name for name in host.names if self.network.names.get(name) is host), None)
        return self.gateway.name_of(ip) if self.gateway is not None else None

    def set_reachable(self, reachable: bool) -> None:
        """Say whether somebody from outside may connect to those who listen."""
        self.reachable = reachable
        for bound in self.ports.values():
            for socket in bound:
                if socket.listening:
                    socket.read_queue.external = NETWORK if reachable else ""

    # --- ports ------------------------------------------------------------------------------------------------------

    def claim(self, socket: InetSocket, ip: bytes, port: int) -> None:
        """Bind a socket; port 0 is any that is free. Raises Errno: EADDRINUSE."""
        if port == 0:
            port = self._free_port(socket, ip)
        elif any(other.conflicts(socket, ip) for other in self.ports.get((socket.protocol, port), ())) or (
            socket.endless and any(each.conflicts(socket, ip) for each in self.resting.at(port))
        ):
            raise Errno(EADDRINUSE)
        self.add(socket, ip, port)

    def add(self, socket: InetSocket, ip: bytes, port: int) -> None:
        """Enter a socket."""
        socket.ip, socket.port = ip, port
        self.ports.setdefault((socket.protocol, port), []).append(socket)

    def _free_port(self, socket: InetSocket, ip: bytes) -> int:
        span = LAST_PORT - FIRST_PORT + 1
        for n in range(span):
            port = FIRST_PORT + (self._next_port - FIRST_PORT + n) % span
            bound = self.ports.get((socket.protocol, port))
            if not bound and not (socket.endless and self.resting.at(port)):
                self._next_port = port + 1
                return port
        raise Errno(EADDRINUSE)

    def drop(self, socket: InetSocket) -> None:
        """Take a socket out."""
        key = (socket.protocol, socket.port)
        bound = self.ports.get(key)
        if bound and socket in bound:
            bound.remove(socket)
            if not bound:
                del self.ports[key]

    def find(self, protocol: int, ip: bytes, port: int, source: tuple[bytes, int] | None = None) -> InetSocket | None:
        """Return the socket that gets what comes for `ip`: the one that fits best, and does take it.

        A socket that is connected to `source` is before others, one of the very address before one of any.
        """
        best, most = None, 0
        for socket in self.ports.get((protocol, port), ()):
            score = socket.fits(ip, source)
            if score > most:
                best, most = socket, score
        return best

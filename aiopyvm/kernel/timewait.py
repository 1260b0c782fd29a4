"""What is left of a TCP connection whose end here was closed first: FIN_WAIT2 and TIME_WAIT (tcp(7), RFC 9293).

How it works. The socket itself is gone. A record of its addresses stays for a minute (Linux's TCP_TIMEWAIT_LEN), from
the close on, and again from the other end's close on; until then bind(2) of the same port is EADDRINUSE, unless both
set SO_REUSEADDR or both SO_REUSEPORT. A reset takes it away at once.

What always holds. There are at most `MOST` records; beyond that a connection leaves none (tcp_max_tw_buckets).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi import socket as sockets
from aiopyvm.abi.inet import TcpState, overlap

if TYPE_CHECKING:
    from aiopyvm.kernel.inetsocket import InetSocket
    from aiopyvm.kernel.ports import Clock
    from aiopyvm.kernel.tcp import TcpSocket

LASTS: Final = 60 * 10**9  # nanoseconds
MOST: Final = 4096


class Remains:
    """One end of a connection: its addresses, whose it was, what decides who may be bound there, when it goes."""

    __slots__ = ("deadline", "domain", "ip", "only_six", "peer_ip", "peer_port", "port", "reuse", "share", "state")

    def __init__(self, socket: TcpSocket, state: int) -> None:
        self.state = state
        self.deadline = 0  # monotonic nanoseconds
        self.domain, self.only_six = socket.domain, socket.only_six
        self.ip, self.port = socket.ip, socket.port
        self.peer_ip, self.peer_port = socket.peer_ip, socket.peer_port
        self.reuse = socket.options[sockets.SO_REUSEADDR] != 0
        self.share = socket.options[sockets.SO_REUSEPORT] != 0

    def conflicts(self, other: InetSocket, ip: bytes) -> bool:
        """Whether `other` cannot be bound to `ip` and this one's port."""
        if not overlap(self.ip, ip, self.only_six, other.only_six):
            return False
        return not (
            (self.reuse and other.options[sockets.SO_REUSEADDR]) or (self.share and other.options[sockets.SO_REUSEPORT])
        )


class TimeWait:
    """The records of one host. Without a clock there are none."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self._ports: dict[int, list[Remains]] = {}
        self._order: dict[Remains, None] = {}  # by deadline

    def keep(self, socket: TcpSocket, state: int) -> Remains | None:
        """Leave a record of a socket that is closed."""
        if self._clock is None:
            return None
        self._settle()
        if len(self._order) >= MOST:
            return None
        remains = Remains(socket, state)
        self._ports.setdefault(remains.port, []).append(remains)
        self._begin(remains)
        return remains

    def finish(self, remains: Remains) -> None:
        """The other end has closed, too: the minute begins again, where it is not over."""
        if self._order.pop(remains, False) is None:
            remains.state = TcpState.TIME_WAIT
            self._begin(remains)

    def _begin(self, remains: Remains) -> None:
        assert self._clock is not None
        remains.deadline = self._clock.monotonic_ns() + LASTS
        self._order[remains] = None

    def drop(self, remains: Remains) -> None:
        """Take a record away, where it still is."""
        if self._order.pop(remains, False) is None:
            self._leave(remains)

    def _leave(self, remains: Remains) -> None:
        there = self._ports[remains.port]
        there.remove(remains)
        if not there:
            del self._ports[remains.port]

    def _settle(self) -> None:
        """Drop those whose time has come."""
        if self._clock is None or not self._order:
            return
        now = self._clock.monotonic_ns()
        while self._order and (first := next(iter(self._order))).deadline <= now:
            self.drop(first)

    def at(self, port: int) -> list[Remains]:
        """The records of a port."""
        self._settle()
        return self._ports.get(port, [])

    def rows(self, domain: int) -> list[tuple[Remains, int]]:
        """The records of sockets of a family, with the nanoseconds that each has left."""
        self._settle()
        if self._clock is None:
            return []
        now = self._clock.monotonic_ns()
        return [(each, each.deadline - now) for each in self._order if each.domain == domain]

"""One kernel's place in the network: the names of its UNIX sockets, and (`inet.py`) its addresses and ports."""

from __future__ import annotations

from aiopyvm.kernel.inet import Inet
from aiopyvm.kernel.unixgc import collect
from aiopyvm.kernel.unixsocket import UnixNames


class NetHost:
    """What the sockets of one kernel share. Plain data."""

    def __init__(self) -> None:
        self.unix = UnixNames()
        self.inet = Inet()

    def next_number(self) -> int:
        """Return a fresh inode number for a socket."""
        self.inet.numbers += 1
        return self.inet.numbers

    def clear(self) -> None:
        """Close the sockets that only messages on their way hold."""
        if self.unix.in_flight:
            collect(self.unix)

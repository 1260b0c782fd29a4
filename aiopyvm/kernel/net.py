"""One kernel's place in the network: the names of its UNIX sockets, and (`inet.py`) its addresses and ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.kernel.inet import Inet
from aiopyvm.kernel.unixgc import collect
from aiopyvm.kernel.unixsocket import UnixNames

if TYPE_CHECKING:
    from aiopyvm.kernel.ports import Clock


class NetHost:
    """What the sockets of one kernel share. Plain data."""

    def __init__(self, clock: Clock) -> None:
        self.unix = UnixNames()
        self.inet = Inet(clock)

    def next_number(self) -> int:
        """Return a fresh inode number for a socket."""
        self.inet.numbers += 1
        return self.inet.numbers

    def clear(self) -> None:
        """Close the sockets that only messages on their way hold."""
        if self.unix.in_flight:
            collect(self.unix)

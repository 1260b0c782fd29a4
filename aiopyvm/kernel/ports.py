"""What the guest kernel asks of the host, as protocols: the one door for time, entropy and host input (rule 6).

The kernel imports nothing that does I/O; `aiopyvm.host` implements these, tests fake them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from aiopyvm.abi.stat import Stat, StatFs
from aiopyvm.mem.budget import Budget  # what the kernel charges its own objects to, too

if TYPE_CHECKING:
    from aiopyvm.kernel.packetinfo import Datagram
    from aiopyvm.kernel.tcp import TcpSocket
    from aiopyvm.kernel.udp import UdpSocket


class Clock(Protocol):
    """Time, in integer nanoseconds."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC: never goes back; zero is the start of the guest machine."""
        ...

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: since the Unix epoch."""
        ...


class Entropy(Protocol):
    """Random bytes."""

    def bytes(self, n: int) -> bytes:
        """Return `n` random bytes (n >= 0)."""
        ...


class Gateway(Protocol):
    """What lies outside the guests' network: nothing but what the caller granted."""

    def connect(self, caller: TcpSocket) -> bool:
        """Begin to connect `caller` (in SYN_SENT) to its `peer_ip` and `peer_port`; False: nothing is there.

        Sooner or later its `establish` or `reset` is called, perhaps at once.
        """
        ...

    def send(self, sender: UdpSocket, each: Datagram, port: int) -> int:
        """Send a datagram of `sender` to `each.to` and `port`; 0, or the errno of sending there.

        What comes back is given to `sender.arrive_from`, what is refused to `sender.refused`.
        """
        ...

    def resolve(self, name: bytes) -> bytes | None:
        """Return the address that stands for a granted name (16 bytes, as in abi/inet.py); None: it is not granted."""
        ...

    def name_of(self, ip: bytes) -> bytes | None:
        """Return the granted name that an address stands for; None: it stands for none."""
        ...


HostPath = tuple[bytes, ...]
"""Names below a host directory, from its top; never b"", b"." or b".."."""


class HostFile(Protocol):
    """A regular file of the host, open. Every method may raise `Errno`."""

    def pread(self, n: int, offset: int) -> bytes:
        """Return at most `n` bytes at `offset`."""
        ...

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """Store bytes at `offset`; return how many."""
        ...

    def truncate(self, size: int) -> None:
        """Set the size."""
        ...

    def stat(self) -> Stat:
        """Return the attributes."""
        ...

    def sync(self) -> None:
        """Make what was written durable."""
        ...

    def snapshot(self) -> bytes:
        """Return the whole content, the same object for the same content where that is cheap."""
        ...

    def close(self) -> None:
        """Give the host's descriptor back; once."""
        ...


class HostTree(Protocol):
    """A host directory that the caller granted, and what is below it: nothing else is reachable through it.

    Paths are walked name by name without following any symbolic link. Every method may raise `Errno`; a tree that was
    granted read-only raises EROFS from what changes it. Nothing is held open but `HostFile`s.
    """

    @property
    def writable(self) -> bool:
        """Whether it was granted for changes."""
        ...

    @property
    def owner(self) -> tuple[int, int] | None:
        """The host's user and group ids for what is created: the guest sees them as its own user's.

        None: ids are not the host's, but the guest's own. Such a tree never changes, and inode numbers tell which
        names are of one file.
        """
        ...

    @property
    def steady(self) -> bool:
        """Whether nobody changes it while it is used: what was found once is not asked for again."""
        ...

    def stat(self, path: HostPath) -> Stat:
        """Return the attributes of what is there, a link's own."""
        ...

    def readlink(self, path: HostPath) -> bytes:
        """Return a symbolic link's target."""
        ...

    def names(self, path: HostPath) -> Sequence[tuple[int, int, bytes]]:
        """Return a directory's entries, "." and ".." left out, as (inode number, DT_* kind, name), sorted by name."""
        ...

    def open(self, path: HostPath, writable: bool) -> HostFile:
        """Open a regular file; whatever else is there is ENXIO."""
        ...

    def make(self, path: HostPath, mode: int, target: bytes) -> None:
        """Create a regular file, directory or symbolic link (`mode` has the type); anything else is EPERM."""
        ...

    def link(self, old: HostPath, new: HostPath) -> None:
        """Give a file another name."""
        ...

    def unlink(self, path: HostPath) -> None:
        """Remove a name that is no directory."""
        ...

    def rmdir(self, path: HostPath) -> None:
        """Remove an empty directory."""
        ...

    def rename(self, old: HostPath, new: HostPath) -> None:
        """Move a name, replacing what is there."""
        ...

    def set_mode(self, path: HostPath, mode: int) -> None:
        """Set permission bits; set-user-ID and set-group-ID are EPERM."""
        ...

    def set_times(self, path: HostPath, atime: int, mtime: int) -> None:
        """Set both times, in nanoseconds."""
        ...

    def statfs(self) -> StatFs:
        """Return what statfs(2) tells."""
        ...


__all__ = ["Budget", "Clock", "Entropy", "Gateway", "HostFile", "HostPath", "HostTree"]

"""Leases of one inode (fcntl(2), "Leases"; fs/locks.c of the Linux source).

How it works. Who opens, executes or truncates the file against a lease tells its holder by a signal and waits until the
lease is given up or the time for that has passed (/proc/sys/fs/lease-break-time; 0: there is none): it is as it was
asked to be then (`expire`, which everybody calls first). Nothing
waits here: `need` raises `LeaseBroken`, which says until when and on which queue to wait before trying again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import EAGAIN, ENOMEM, Errno
from aiopyvm.abi.fcntl import F_OWNER_PID, F_RDLCK, F_UNLCK, F_WRLCK
from aiopyvm.abi.signal import POLL_MSG
from aiopyvm.abi.time import NS
from aiopyvm.kernel.sigio import own, send_sigio
from aiopyvm.kernel.wait import Restart, Wait, WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.ports import Clock
    from aiopyvm.kernel.process import Process

NEVER: Final = 1 << 62  # a deadline (ns)
MAX_LEASES: Final = 64  # of one inode: all are told at once


class LeaseBroken(Errno):
    """A lease stands against it: wait for `queue`, until `deadline` (ns, monotonic; None: for ever) at most."""

    def __init__(self, queue: WaitQueue, deadline: int | None) -> None:
        super().__init__(EAGAIN)
        self.queue = queue
        self.deadline = deadline

    def wait(self) -> Wait:
        """The wait for it: the call finds its file anew then."""
        return Wait((self.queue,), self.deadline, Restart.SYS, "a lease to be given up")


class Lease:
    """What one open file description holds. `drop_at`, `lower_at`: when it ends, or becomes a read lease (ns)."""

    __slots__ = ("drop_at", "fd", "lower_at", "type")

    def __init__(self, fd: int, type: int) -> None:
        self.fd = fd
        self.type = type
        self.drop_at = 0
        self.lower_at = 0

    @property
    def target(self) -> int:
        """The type that it is about to have."""
        return F_UNLCK if self.drop_at else F_RDLCK if self.lower_at else self.type


class Leases:
    """All leases of one inode, by open file description."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.held: dict[File, Lease] = {}
        self.readers = WaitQueue("lease")  # who waits to read the file
        self.writers = WaitQueue("lease")

    def expire(self) -> None:
        """Do what is due to leases that were not given up in time."""
        now = self._clock.monotonic_ns()
        for file, lease in tuple(self.held.items()):
            if lease.lower_at and lease.lower_at <= now:
                self._change(file, F_RDLCK)
            if lease.drop_at and lease.drop_at <= now:
                self._change(file, F_UNLCK)

    def type_of(self, file: File) -> int:
        """F_GETLEASE."""
        self.expire()
        lease = self.held.get(file)
        return lease.target if lease is not None else F_UNLCK

    def set(self, inode: Inode, file: File, fd: int, type: int, process: Process) -> None:
        """F_SETLEASE of a type but F_UNLCK. Raises Errno: EAGAIN where others have it open or leased, ENOMEM."""
        if type == F_RDLCK and (inode.writers or self.writers.threads):
            raise Errno(EAGAIN)
        if type == F_WRLCK and (inode.executed or self.readers.threads or self.writers.threads):
            raise Errno(EAGAIN)
        if type == F_WRLCK and (inode.writers, inode.readers) != (int(file.writable), int(not file.writable)):
            raise Errno(EAGAIN)
        self.expire()
        others = [lease for other, lease in self.held.items() if other is not file]
        if (others and type == F_WRLCK) or any(lease.drop_at for lease in others):
            raise Errno(EAGAIN)
        if file in self.held:
            self._change(file, type)
        elif len(self.held) >= MAX_LEASES:
            raise Errno(ENOMEM)
        else:
            self.held[file] = Lease(fd, type)
        if file.io_owner is None or file.io_owner.target is None:
            file.io_owner = own(process, F_OWNER_PID, process)

    def drop(self, file: File) -> None:
        """F_SETLEASE, F_UNLCK, and the close of the file. Raises Errno(EAGAIN) where it has none."""
        if file not in self.held:
            raise Errno(EAGAIN)
        self._change(file, F_UNLCK)

    def _change(self, file: File, type: int) -> None:
        lease = self.held[file]
        lease.type = type
        lease.lower_at = 0
        if type == F_UNLCK:
            del self.held[file]
            file.io_owner, file.io_signal = None, 0
        self.readers.wake()
        self.writers.wake()

    def need(self, write: bool, kernel: Kernel) -> None:
        """The file is about to be opened in `kernel`, to `write` perhaps. Raises LeaseBroken."""
        self.expire()
        against = [(file, lease) for file, lease in self.held.items() if write or lease.type == F_WRLCK]
        if not against:
            return
        seconds = kernel.lease_break_seconds
        deadline = self._clock.monotonic_ns() + seconds * NS if seconds > 0 else NEVER
        for file, lease in against:
            if lease.drop_at or (lease.lower_at and not write):
                continue
            if write:
                lease.drop_at = deadline
            else:
                lease.lower_at = deadline
            send_sigio(file, lease.fd, POLL_MSG)
        until = min(at for _, lease in against for at in (lease.drop_at, lease.lower_at) if at)
        raise LeaseBroken(self.writers if write else self.readers, until if until < NEVER else None)

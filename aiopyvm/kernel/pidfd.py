"""Processes as files (pidfd_open(2)): readable once the process has ended."""

from __future__ import annotations

from typing import Final

from aiopyvm.abi.errno import EBADF, ESPIPE, Errno
from aiopyvm.abi.fcntl import O_RDWR
from aiopyvm.abi.poll import POLLHUP, READABLE
from aiopyvm.kernel.file import AnonymousFile
from aiopyvm.kernel.process import Life, Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import WaitQueue

PIDFD_KIND: Final = b"[pidfd]"


class PidFile(AnonymousFile):
    """An open process: the same one even when its id is given to another."""

    def __init__(self, process: Process, flags: int) -> None:
        super().__init__(PIDFD_KIND, O_RDWR | flags)
        self.process = process

    def seek(self, offset: int, whence: int) -> int:
        """Raises Errno(ESPIPE)."""
        raise Errno(ESPIPE)

    def poll(self) -> int:
        """Readable at its end, hung up once it was waited for."""
        life = self.process.life
        if life is Life.ALIVE:
            return 0
        return READABLE | POLLHUP if life is Life.REAPED else READABLE

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the queue that the process's end wakes."""
        if self.process.exit_queue is None:
            self.process.exit_queue = WaitQueue(f"the end of process {self.process.pid}")
        return (self.process.exit_queue,)


def process_of(t: Thread, pidfd: int) -> Process:
    """Return the process of a pidfd. Raises Errno(EBADF)."""
    file = t.process.fds.get(pidfd)
    if not isinstance(file, PidFile):
        raise Errno(EBADF)
    return file.process

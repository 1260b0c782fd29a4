"""Pseudo-terminals: the master's side of a terminal as a file of a guest (pty(7), drivers/tty/pty.c).

How it works. What is written to the master is typed, what the terminal shows is kept in `PtyLine.shown` until the
master reads it. Opening /dev/ptmx makes the line and its name below /dev/pts; closing the master hangs up and takes the
name away. What always holds: `shown` never has more than SHOWN_ROOM bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import EAGAIN, EBUSY, EIO, ENOSPC, Errno
from aiopyvm.abi.fcntl import O_NOCTTY, O_PATH
from aiopyvm.abi.poll import POLLHUP, POLLPRI, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_IN
from aiopyvm.abi.stat import S_IFCHR, Stat, makedev
from aiopyvm.kernel import jobs
from aiopyvm.kernel.file import File
from aiopyvm.kernel.ldisc import FLIP_ROOM
from aiopyvm.kernel.tty import TerminalFile, Tty
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.sigio import Fasync

SHOWN_ROOM: Final = 8192
MAX_PTYS: Final = 4096  # /proc/sys/kernel/pty/max
_OPPOSITES: Final = {abi.TIOCPKT_STOP: abi.TIOCPKT_START, abi.TIOCPKT_START: abi.TIOCPKT_STOP}


class PtyLine(Tty):
    """The terminal of a pty."""

    def __init__(self, kernel: Kernel, index: int, uid: int) -> None:
        super().__init__(index, uid)
        self.kernel: Kernel | None = kernel
        self.created_ns = kernel.clock.realtime_ns()
        self.locked = True
        self.shown = bytearray()
        self.was_opened = False
        self.master_told: Fasync = {}
        self.master_read_queue = WaitQueue(f"pty {index}: output")
        self.master_write_queue = WaitQueue(f"pty {index}: room to type")

    def put(self, data: bytes) -> bool:
        """Show `data` to the master."""
        if self.gone:
            return True
        if len(self.shown) + len(data) > SHOWN_ROOM:
            return False
        if data:
            self.shown += data
            self.tell_async(self.master_told, POLL_IN)
            self.master_read_queue.wake()
        return True

    def room_came(self) -> None:
        """Wake both sides' writers."""
        super().room_came()
        self.master_write_queue.wake()

    def tell(self, event: int) -> None:
        """Tell the master, in packet mode."""
        if self.packet:
            self.status = self.status & ~_OPPOSITES.get(event, 0) | event
            self.master_read_queue.wake()

    def opened(self, file: TerminalFile) -> None:
        """There is somebody on this side."""
        super().opened(file)
        self.was_opened = True

    def closed(self, file: TerminalFile) -> None:
        """The last one leaves an end of file for the master."""
        super().closed(file)
        if not self.files and self.kernel is not None:
            jobs.last_closed(self.kernel, self)
            self.master_read_queue.wake()
            self.master_write_queue.wake()

    @property
    def left(self) -> bool:
        """Whoever had it open has closed it."""
        return self.was_opened and not self.files


class PtyMaster(File):
    """The master's side of a pty, open."""

    tty = True
    cost = 32768

    def __init__(self, line: PtyLine, flags: int, inode: Inode | None = None) -> None:
        super().__init__(flags, inode)
        self.line = line
        self.name = b"/dev/ptmx"

    def close(self) -> None:
        """Hang up, and let the name go."""
        line = self.line
        line.gone = True
        line.shown.clear()
        kernel = line.kernel
        if kernel is not None:
            del kernel.terminals[line.index]
            jobs.hang_up(kernel, line)

    def read(self, n: int) -> bytes:
        """Return what was shown. Raises Errno: EAGAIN, EIO when the other side was closed."""
        line = self.line
        if line.packet and line.status:
            status, line.status = line.status, 0
            return bytes((status,))
        if not line.shown:
            raise Errno(EIO if line.left else EAGAIN)
        head = b"\0" if line.packet else b""
        data = bytes(line.shown[: n - len(head)])
        del line.shown[: len(data)]
        line.flush_echoes()
        line.room_came()
        return head + data

    def write(self, data: bytes | memoryview) -> int:
        """Type bytes, whether or not somebody has the other side open. Raises Errno(EAGAIN)."""
        taken = self.line.feed(bytes(data))
        if not taken and data:
            raise Errno(EAGAIN)
        return taken

    def poll(self) -> int:
        """Readable when something was shown, or the other side told something in packet mode."""
        line = self.line
        events = 0
        if line.packet and line.status:
            events = POLLPRI | READABLE
        if line.shown:
            events |= READABLE
        if line.left:
            return events | POLLHUP | WRITABLE
        return events | (WRITABLE if line.feed_room >= FLIP_ROOM // 2 else 0)

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Both queues of this side."""
        return (self.line.master_read_queue, self.line.master_write_queue)

    def fasync(self) -> tuple[Fasync, ...]:
        """This side's table."""
        return (self.line.master_told,)

    def available(self) -> int:
        """Bytes shown and not yet read."""
        return len(self.line.shown)

    def stat(self) -> Stat:
        """As /dev/ptmx."""
        if self.inode is not None:
            return self.inode.stat()
        return Stat(ino=2, mode=S_IFCHR | 0o666, rdev=makedev(5, 2), blksize=1024)


def open_master(process: Process, flags: int, inode: Inode | None) -> File:
    """Make a pty and return its master. Raises Errno(ENOSPC) when there are too many."""
    kernel = process.kernel
    index = next((n for n in range(MAX_PTYS) if n not in kernel.terminals), None)
    if index is None:
        raise Errno(ENOSPC)
    line = PtyLine(kernel, index, process.credentials.fsuid)
    kernel.terminals[index] = line
    return PtyMaster(line, flags, inode)


def open_terminal(process: Process, line: Tty, flags: int, inode: Inode | None = None) -> File:
    """Open the user's side of `line`, which becomes a leader's controlling terminal where it has none.

    Raises Errno: EIO for a pty that is locked or gone, EBUSY for one in exclusive mode.
    """
    if flags & O_PATH:
        return File(flags, inode)
    if line.locked or line.gone:
        raise Errno(EIO)
    if line.exclusive and process.credentials.euid != 0:
        raise Errno(EBUSY)
    file = TerminalFile(line, flags, inode)
    leads = process.pid == process.session
    if not flags & O_NOCTTY and leads and process.tty is None and not line.session and file.readable:
        jobs.take_terminal(process, line)
    return file

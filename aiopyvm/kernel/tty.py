"""Terminals: a line discipline with a screen, a session and a foreground group, and the open files of its user's side
(ioctl_tty(2), credentials(7), "Sessions").

How it works. `Tty` is one terminal. A pty's other side is a file of a guest (`pty.py`), that of the run's own terminal
is outside (`console.py`). `TerminalFile` is what programs have open. A process's controlling terminal is `Process.tty`;
`jobs.py` has what sessions and groups do with it.

What always holds: nothing here waits; a file that was hung up stays so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import EAGAIN, EIO, Errno
from aiopyvm.abi.fcntl import O_ASYNC, O_RDWR
from aiopyvm.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from aiopyvm.abi.signal import POLL_IN, POLL_OUT, SI_KERNEL, SIGWINCH, SigInfo
from aiopyvm.abi.stat import S_IFCHR, Stat, makedev
from aiopyvm.kernel.devpts import DEVPTS_DEVICE
from aiopyvm.kernel.file import File
from aiopyvm.kernel.ldisc import LineDiscipline
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.sigio import Fasync

PTS_MAJOR: Final = 136
TTY_GROUP: Final = 5  # of Debian's /etc/group: whose the slaves of ptys are


class Tty(LineDiscipline):
    """One terminal. `session` and `foreground` are 0 where there is none; `winsize` is ioctl_tty(2)'s structure."""

    def __init__(self, index: int, uid: int = 0, winsize: bytes = bytes(8)) -> None:
        super().__init__()
        self.kernel: Kernel | None = None
        self.index = index
        self.uid, self.gid, self.mode = uid, TTY_GROUP, 0o620
        self.created_ns = 0
        self.winsize = winsize
        self.session = 0
        self.foreground = 0
        self.locked = False  # TIOCSPTLCK
        self.exclusive = False
        self.gone = False  # nobody is on the other side any more
        self.ended = False  # nothing is typed any more, and reading goes on until all was read
        self.broken = False  # nothing is shown any more
        self.packet = False
        self.status = 0  # what a master in packet mode reads next: TIOCPKT_*
        self.files: dict[TerminalFile, None] = {}  # open, and not hung up
        self.told: Fasync = {}  # who is told by signals (sigio.py)
        self.short = False  # a write found no room for all
        self.read_queue = WaitQueue(f"terminal {index}: input")
        self.write_queue = WaitQueue(f"terminal {index}: room")

    @property
    def name(self) -> bytes:
        """Its path."""
        return b"/dev/pts/%d" % self.index

    def stat(self) -> Stat:
        """The attributes of its node."""
        return Stat(
            ino=3 + self.index, mode=S_IFCHR | self.mode, uid=self.uid, gid=self.gid, atime=self.created_ns,
            mtime=self.created_ns, ctime=self.created_ns, rdev=makedev(PTS_MAJOR, self.index), dev=DEVPTS_DEVICE,
            blksize=1024,
        )  # fmt: skip

    # --- the line discipline's ----------------------------------------------------------------------------------------

    def signal(self, signo: int) -> None:
        """Send a signal of the keyboard to the foreground group."""
        if self.foreground and self.kernel is not None:
            self.kernel.signal_group(self.foreground, SigInfo(signo, SI_KERNEL))

    def input_came(self, fresh: bool = True) -> None:
        """Wake who reads."""
        if fresh:
            self.tell_async(self.told, POLL_IN)
        self.read_queue.wake()

    def room_came(self) -> None:
        """Wake who writes."""
        if self.short:
            self.short = False
            self.tell_async(self.told, POLL_OUT)
        self.write_queue.wake()

    def tell_async(self, table: Fasync, reason: int) -> None:
        """Send signals to those of a table, if there are any."""
        if table:
            from aiopyvm.kernel.sigio import kill_fasync  # at the first use: few ask for it

            kill_fasync(table, reason)

    def other_queues(self) -> tuple[WaitQueue, ...]:
        """What else wakes who waits here."""
        return ()

    def look(self) -> None:
        """Take what has come from the other side, where that is to be asked."""

    def room(self) -> int:
        """Whether the screen takes bytes: WRITABLE, POLLERR."""
        return WRITABLE

    # --- its own ------------------------------------------------------------------------------------------------------

    def resize(self, winsize: bytes) -> None:
        """Set the size; where that is another one, tell the foreground group: SIGWINCH."""
        if winsize != self.winsize:
            self.winsize = winsize
            self.signal(SIGWINCH)

    def opened(self, file: TerminalFile) -> None:
        """One more open file."""
        self.files[file] = None

    def closed(self, file: TerminalFile) -> None:
        """One less."""
        self.files.pop(file, None)

    def forget_files(self) -> None:
        """A hang-up: what is open is of no use any more (vhangup(2))."""
        for file in self.files:
            file.hung_up = True
            file.flags &= ~O_ASYNC
        self.files.clear()
        self.told.clear()
        self.read_queue.wake()
        self.write_queue.wake()


class TerminalFile(File):
    """The user's side of a terminal, open."""

    tty = True

    def __init__(self, line: Tty, flags: int = O_RDWR, inode: Inode | None = None) -> None:
        super().__init__(flags, inode)
        self.line = line
        self.hung_up = False
        self.name = line.name
        line.opened(self)

    def close(self) -> None:
        """The last of them tells the other side."""
        self.line.closed(self)

    def read(self, n: int) -> bytes:
        """Return what was typed, b"" at the end of file. Raises Errno: EAGAIN, EIO where the other side is gone."""
        line = self.line
        if self.hung_up:
            return b""
        line.look()
        if line.can_read():
            return line.take(n)
        if line.gone:
            raise Errno(EIO)
        if self.ended:
            return b""
        raise Errno(EAGAIN)

    @property
    def ended(self) -> bool:
        """Nothing is typed any more, and all that was is read."""
        return self.line.ended and not self.line.flip

    def write(self, data: bytes | memoryview) -> int:
        """Show bytes. Raises Errno: EAGAIN, EIO after a hang-up."""
        line = self.line
        if self.hung_up or line.gone or line.broken:
            raise Errno(EIO)
        shown = line.show(bytes(data))
        line.short = bool(line.told) and shown < len(data)
        if not shown and data:
            raise Errno(EAGAIN)
        return shown

    def poll(self) -> int:
        """Readable as the line discipline says, writable unless it is stopped."""
        line = self.line
        if self.hung_up:
            return READABLE | WRITABLE | POLLERR | POLLHUP
        line.look()
        events = READABLE if line.can_read(polled=True) or self.ended else 0
        if line.gone:
            return events | POLLHUP
        return events | (0 if line.stopped else line.room())

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Both sides' queues."""
        line = self.line
        return (line.read_queue, line.write_queue, *line.other_queues())

    def fasync(self) -> tuple[Fasync, ...]:
        """The terminal's table; none after a hang-up."""
        return () if self.hung_up else (self.line.told,)

    def foreground_group(self) -> int:
        """The terminal's."""
        return self.line.foreground

    def available(self) -> int:
        """Bytes typed and not yet read. Raises Errno(EIO) after a hang-up."""
        if self.hung_up:
            raise Errno(EIO)
        self.line.look()
        return self.line.readable_bytes()

    def stat(self) -> Stat:
        """A character device's attributes."""
        return self.inode.stat() if self.inode is not None else self.line.stat()


def flow_is_usual(line: Tty) -> bool:
    """^S and ^Q stop and start output: what a master in packet mode is told of (ioctl_tty(2))."""
    return bool(line.iflag & abi.INPUT_FLAGS["IXON"]) and line.is_char("VSTOP", 19) and line.is_char("VSTART", 17)

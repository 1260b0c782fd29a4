"""A minimal terminal over an input and an output file: what isatty(3), a libc's buffering and a shell's size query
need.

Bytes pass through unchanged: line editing and echo are those of whoever is on the other side. Settings are kept and
given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import ENOTTY, EPERM, ESRCH, Errno
from aiopyvm.abi.fcntl import O_RDWR
from aiopyvm.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from aiopyvm.abi.stat import S_IFCHR, Stat, makedev
from aiopyvm.kernel.file import File

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.wait import WaitQueue

ROWS, COLUMNS = 24, 80
PATH = b"/dev/pts/0"
ATTRIBUTES = Stat(ino=3, mode=S_IFCHR | 0o666, rdev=makedev(136, 0), dev=24, blksize=1024)  # also of the node at PATH


class Terminal(File):
    """A terminal whose keyboard is `source` and whose screen is `sink`; it holds both."""

    tty = True

    def __init__(self, source: File, sink: File, *, rows: int = ROWS, columns: int = COLUMNS) -> None:
        super().__init__(O_RDWR)
        self._source = source.hold()
        self._sink = sink.hold()
        self.host = source.host
        self.termios = abi.INIT_TERMIOS
        self.winsize = abi.WINSIZE.pack(rows, columns, 0, 0)
        self.foreground = 0  # process group; 0: not set yet
        self.name = PATH

    def close(self) -> None:
        """Let go of both files."""
        self._source.release()
        self._sink.release()

    def read(self, n: int) -> bytes:
        """Return what was typed. Raises Errno, as the input file."""
        return self._source.read(n)

    def unread(self, data: bytes) -> None:
        """Put back the tail of the last read."""
        self._source.unread(data)

    def write(self, data: bytes) -> int:
        """Show bytes. Raises Errno, as the output file."""
        return self._sink.write(data)

    def poll(self) -> int:
        """Readable as the input, writable as the output."""
        return self._source.poll() & (READABLE | POLLHUP) | self._sink.poll() & (WRITABLE | POLLERR)

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """The queues of both files."""
        return (*self._source.queues(events), *self._sink.queues(events))

    def available(self) -> int:
        """Bytes typed and not yet read."""
        return self._source.available()

    def stat(self) -> Stat:
        """A character device's attributes."""
        return ATTRIBUTES

    def control(self, t: Thread, request: int, arg: int) -> int:
        """ioctl_tty(2). Raises Errno: ENOTTY for an unknown request, EPERM and ESRCH for a group of another session."""
        match request:
            case abi.TCGETS:
                t.memory.write(arg, self.termios)
            case abi.TCSETS | abi.TCSETSW | abi.TCSETSF:
                self.termios = t.memory.read(arg, abi.TERMIOS.size)
            case abi.TCGETA:
                *flags, line, cc = abi.TERMIOS.unpack(self.termios)
                t.memory.write(arg, abi.TERMIO.pack(*(flag & 0xFFFF for flag in flags), line, cc[:8]))
            case abi.TCSETA | abi.TCSETAW | abi.TCSETAF:
                self._set_termio(t.memory.read(arg, abi.TERMIO.size))
            case abi.TIOCGWINSZ:
                t.memory.write(arg, self.winsize)
            case abi.TIOCSWINSZ:
                self.winsize = t.memory.read(arg, abi.WINSIZE.size)
            case abi.TIOCGPGRP:
                t.memory.write(arg, (self.foreground or t.process.group).to_bytes(4, "little"))
            case abi.TIOCSPGRP:
                self._set_foreground(t, t.memory.load(arg, 4))
            case abi.TIOCGSID:
                t.memory.write(arg, t.process.session.to_bytes(4, "little"))
            case abi.TIOCOUTQ:
                t.memory.write(arg, bytes(4))
            case abi.TCSBRK | abi.TCSBRKP | abi.TCXONC | abi.TCFLSH | abi.TIOCSCTTY | abi.TIOCNOTTY:
                pass  # nothing is queued here, and the standard streams' terminal is always the controlling one
            case _:
                raise Errno(ENOTTY)
        return 0

    def _set_termio(self, data: bytes) -> None:
        *low, line, cc = abi.TERMIO.unpack(data)
        *flags, _, old_cc = abi.TERMIOS.unpack(self.termios)
        merged = [old & ~0xFFFF | new for old, new in zip(flags, low, strict=True)]
        self.termios = abi.TERMIOS.pack(*merged, line, cc + old_cc[8:])

    def _set_foreground(self, t: Thread, group: int) -> None:
        members = [p for p in t.kernel.processes.values() if p.group == group]
        if not members:
            raise Errno(ESRCH)
        if all(p.session != t.process.session for p in members):
            raise Errno(EPERM)
        self.foreground = group

"""A minimal terminal over an input and an output file: what isatty(3), a libc's buffering and a shell's size query
need.

Bytes pass through unchanged: line editing and echo are those of whoever is on the other side. Settings are kept and
given back; where a terminal of the host is on the other side (`ports.HostTerminal`), it starts with its settings and
size and passes on what the guest sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import ENOTTY, EPERM, ESRCH, Errno
from aiopyvm.abi.fcntl import O_RDWR
from aiopyvm.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from aiopyvm.abi.signal import SI_KERNEL, SIGWINCH, SigInfo
from aiopyvm.abi.stat import S_IFCHR, Stat, makedev
from aiopyvm.kernel.file import File

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.ports import HostTerminal
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.wait import WaitQueue

ROWS, COLUMNS = 24, 80
PATH = b"/dev/pts/0"
ATTRIBUTES = Stat(ino=3, mode=S_IFCHR | 0o666, rdev=makedev(136, 0), dev=24, blksize=1024)  # also of the node at PATH


class Settings:
    """What all open files of one terminal share: attributes, size, and the foreground process group (0: not set yet).

    Both are the structures of ioctl_tty(2). `host` is the host's terminal on the other side, if one is there.
    """

    def __init__(self, host: HostTerminal | None = None) -> None:
        self.host = host
        self.termios = host.attributes() if host is not None else abi.INIT_TERMIOS
        self.winsize = host.size() if host is not None else abi.WINSIZE.pack(ROWS, COLUMNS, 0, 0)
        self.foreground = 0

    def set_termios(self, termios: bytes, *, flush: bool = False) -> None:
        """Set the attributes; `flush` drops what was typed and not read. Raises Errno where the host refuses."""
        if self.host is not None:
            self.host.set_attributes(termios, flush=flush)
        self.termios = termios

    def resize(self, kernel: Kernel, winsize: bytes) -> None:
        """Set the size; where that is another one, tell the foreground group: SIGWINCH."""
        if winsize != self.winsize:
            self.winsize = winsize
            group = self.foreground or (kernel.init.group if kernel.init is not None else 0)
            kernel.signal_group(group, SigInfo(SIGWINCH, SI_KERNEL))


class Terminal(File):
    """A terminal whose keyboard is `source` and whose screen is `sink`; it holds both."""

    tty = True

    def __init__(self, source: File, sink: File, settings: Settings | None = None) -> None:
        super().__init__(O_RDWR)
        self._source = source.hold()
        self._sink = sink.hold()
        self.host = source.host
        self.settings = settings or Settings()
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
        settings = self.settings
        match request:
            case abi.TCGETS:
                t.memory.write(arg, settings.termios)
            case abi.TCSETS | abi.TCSETSW | abi.TCSETSF:
                settings.set_termios(t.memory.read(arg, abi.TERMIOS.size), flush=request == abi.TCSETSF)
            case abi.TCGETA:
                *flags, line, cc = abi.TERMIOS.unpack(settings.termios)
                t.memory.write(arg, abi.TERMIO.pack(*(flag & 0xFFFF for flag in flags), line, cc[:8]))
            case abi.TCSETA | abi.TCSETAW | abi.TCSETAF:
                self._set_termio(t.memory.read(arg, abi.TERMIO.size), flush=request == abi.TCSETAF)
            case abi.TIOCGWINSZ:
                t.memory.write(arg, settings.winsize)
            case abi.TIOCSWINSZ:
                settings.resize(t.kernel, t.memory.read(arg, abi.WINSIZE.size))
            case abi.TIOCGPGRP:
                t.memory.write(arg, (settings.foreground or t.process.group).to_bytes(4, "little"))
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

    def _set_termio(self, data: bytes, *, flush: bool) -> None:
        *low, line, cc = abi.TERMIO.unpack(data)
        *flags, _, old_cc = abi.TERMIOS.unpack(self.settings.termios)
        merged = [old & ~0xFFFF | new for old, new in zip(flags, low, strict=True)]
        self.settings.set_termios(abi.TERMIOS.pack(*merged, line, cc + old_cc[8:]), flush=flush)

    def _set_foreground(self, t: Thread, group: int) -> None:
        members = [p for p in t.kernel.processes.values() if p.group == group]
        if not members:
            raise Errno(ESRCH)
        if all(p.session != t.process.session for p in members):
            raise Errno(EPERM)
        self.settings.foreground = group

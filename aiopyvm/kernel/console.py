"""The run's own terminal: its keyboard is the standard input's source, its screen the standard output's sink.

How it works. What the source has is typed as soon as it is there (`look`), so that ^C reaches a guest that computes; a
source that is known beforehand is typed when somebody reads. Standard error may have a screen of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import EAGAIN, Errno
from aiopyvm.abi.poll import POLLERR, WRITABLE
from aiopyvm.kernel import jobs
from aiopyvm.kernel.tty import TerminalFile, Tty

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.wait import WaitQueue

ROWS, COLUMNS = 24, 80


class Console(Tty):
    """A terminal over an input and an output file, which it holds while it is open.

    `hangs_up`: the end of the source is a hang-up (a terminal of the host is behind it), not the end of what is typed.
    """

    def __init__(self, source: File, sink: File, winsize: bytes | None = None, *, hangs_up: bool = False) -> None:
        super().__init__(0, winsize=winsize or abi.WINSIZE.pack(ROWS, COLUMNS, 0, 0))
        self.source: File | None = source.hold()
        self.sink = sink.hold()
        self.screen = sink  # where `put` shows
        self.hangs_up = hangs_up

    def put(self, data: bytes) -> bool:
        """Show `data`."""
        try:
            return not data or self.screen.write(data) > 0
        except Errno as error:
            if error.number == EAGAIN:
                return False
            self.broken = True
            return True

    def room(self) -> int:
        """As the sink."""
        return self.sink.poll() & (WRITABLE | POLLERR)

    def look(self) -> None:
        """Type what the source has."""
        source = self.source
        if source is None:
            return
        self.pump()
        while not self.ended and self.feed_room and not self.flip:
            try:
                data = source.read(self.feed_room)
            except Errno as error:
                if error.number != EAGAIN:
                    self._end()
                return
            if data:
                self.feed(data)
            else:
                self._end()

    def _end(self) -> None:
        self.ended = True
        self.read_queue.wake()
        if self.hangs_up and self.kernel is not None:
            self.gone = True
            jobs.hang_up(self.kernel, self)

    def other_queues(self) -> tuple[WaitQueue, ...]:
        """The source's and the sink's."""
        source = self.source
        return (*(source.queues(0) if source is not None else ()), *self.sink.queues(0))

    def closed(self, file: TerminalFile) -> None:
        """The last one lets go of both files."""
        super().closed(file)
        if not self.files and self.source is not None:
            source, self.source = self.source, None
            source.release()
            self.sink.release()


class SecondScreen(TerminalFile):
    """The run's own terminal for standard error, where that goes elsewhere than standard output."""

    def __init__(self, line: Console, screen: File) -> None:
        super().__init__(line)
        self.line: Console = line
        self.screen = screen.hold()

    def close(self) -> None:
        """Let go of the screen."""
        super().close()
        self.screen.release()

    def write(self, data: bytes | memoryview) -> int:
        """Show bytes there. Raises Errno: EAGAIN, EIO."""
        self.line.screen = self.screen
        try:
            return super().write(data)
        finally:
            self.line.screen = self.line.sink

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """The terminal's, and the screen's."""
        return (*super().queues(events), *self.screen.queues(events))

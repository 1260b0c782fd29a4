"""The host's terminal behind a guest's: it passes every byte on, and gets back what it was.

How it works. Lines are edited by the guest's terminal (kernel/ldisc.py), which starts with the host's attributes: they
are translated by name (termios(3)), so that nothing depends on the host's numbers. What belongs to a line and not to a
program (speed, parity) is never passed on.

What always holds. `restore` gives back what was there at the start, before any guest. Nothing here waits for output to
drain.
"""

from __future__ import annotations

import os
import signal
import termios
import threading
from typing import Any, Final

from aiopyvm.abi import termios as abi

IFLAG, OFLAG, LFLAG, CC = 0, 1, 3, 6  # what stands where in Python's list of attributes
_GROUPS: Final = ((IFLAG, abi.INPUT_FLAGS), (OFLAG, abi.OUTPUT_FLAGS), (LFLAG, abi.LOCAL_FLAGS))

_changed: dict[TerminalDevice, None] = {}


class TerminalDevice:
    """The terminal that descriptor `fd` of this process refers to. `close` it.

    Raises OSError where it cannot be asked.
    """

    def __init__(self, fd: int) -> None:
        self._number = os.fstat(fd).st_rdev
        other = next((device for device in _changed if device._number == self._number), None)
        self._at_start: list[Any] = _get(fd) if other is None else other._at_start  # not what a guest there has set
        self.fd = os.dup(fd)  # whatever becomes of the caller's

    def attributes(self) -> bytes:
        """Return the attributes at the start, as the guest's `struct termios`."""
        return to_guest(self._at_start)

    def make_raw(self) -> None:
        """Pass every byte on as it is, both ways (termios(3), cfmakeraw). Raises OSError where it is gone."""
        wanted = _get(self.fd)
        wanted[IFLAG] &= ~_bits("IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON")
        wanted[OFLAG] &= ~termios.OPOST
        wanted[LFLAG] &= ~_bits("ECHO ECHONL ICANON ISIG IEXTEN")
        wanted[CC] = list(wanted[CC])
        wanted[CC][termios.VMIN], wanted[CC][termios.VTIME] = 1, 0
        _changed[self] = None
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, wanted)
        except termios.error as error:
            raise OSError(*error.args) from None

    def size(self) -> bytes:
        """Return lines and columns now, as the guest's `struct winsize`."""
        try:
            columns, rows = os.get_terminal_size(self.fd)
        except OSError:
            return bytes(abi.WINSIZE.size)  # it is gone: as a terminal that knows no size
        return abi.WINSIZE.pack(rows & 0xFFFF, columns & 0xFFFF, 0, 0)

    def restore(self) -> None:
        """Give the terminal what it had at the start, if it was changed; a terminal that is gone is let go."""
        if self not in _changed:
            return
        del _changed[self]
        # From a background job this would stop the whole process, if the signal were not blocked (tcsetattr(3)).
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, self._at_start)
        except termios.error:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """`restore`, and let go of it."""
        self.restore()
        os.close(self.fd)


def restore_terminals() -> None:
    """Give back every terminal that guests have changed: for whoever is about to end the process."""
    for device in tuple(_changed):
        device.restore()


def find_terminal(stream: Any) -> TerminalDevice | None:
    """Return the terminal that is a guest's standard input `stream` (None: this process's own), if it is one."""
    if stream is None:
        fd = 0
    else:
        try:
            fd = stream.fileno()
        except (AttributeError, OSError, ValueError):
            return None
    return TerminalDevice(fd) if isinstance(fd, int) and os.isatty(fd) else None


def may_watch_size() -> bool:
    """SIGWINCH can be received here: this is the main thread, and nobody else handles it."""
    unclaimed = signal.getsignal(signal.SIGWINCH) in (signal.SIG_DFL, signal.SIG_IGN)
    return unclaimed and threading.current_thread() is threading.main_thread()


def _get(fd: int) -> list[Any]:
    try:
        return termios.tcgetattr(fd)
    except termios.error as error:
        raise OSError(*error.args) from None


def _bits(names: str) -> int:
    return sum(_bit(name) for name in names.split())


def _bit(name: str) -> int:
    value: int = getattr(termios, name, 0)  # 0: this host does not have it
    return value


def to_guest(attributes: list[Any]) -> bytes:
    """Return the `struct termios` for attributes of the host, as tcgetattr gives them."""
    words = []
    for index, names in _GROUPS:
        words.append(sum(value for name, value in names.items() if attributes[index] & _bit(name)))
    cc = bytearray(abi.INIT_C_CC)
    for name, at in abi.CHARACTERS.items():
        if hasattr(termios, name):
            value = attributes[CC][_bit(name)]
            cc[at] = value if isinstance(value, int) else value[0]
    *_, cflag, _, _, _ = abi.TERMIOS.unpack(abi.INIT_TERMIOS)
    return abi.TERMIOS.pack(words[0], words[1], cflag, words[2], 0, bytes(cc))

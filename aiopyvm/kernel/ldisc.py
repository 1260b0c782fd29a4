"""The line discipline N_TTY: what stands between what is typed and what a program reads, and between what a program
writes and what is shown (termios(3); drivers/tty/n_tty.c of the Linux source).

How it works. What arrives (`feed`) is kept in `flip` until there is room, then goes through the input modes into
`data`, which `take` reads from. In canonical mode only the bytes before `canon` can be read; `ends` are the positions
of the bytes that end a line, where a NUL stands for the end of file. Positions count from the beginning of the
terminal's life, `start` is that of data[0]. Echo is kept as operations (`echoes`), because erasing a tab depends on the
column at the time it is shown.

What always holds. Nothing here waits; all is plain data and bounded: `data` by ROOM, `flip` by FLIP_ROOM, `echoes` by
ECHO_ROOM. What is shown goes out whole or not at all (`put`), at most MOST_PUT bytes at once.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from aiopyvm.abi import termios as abi
from aiopyvm.abi.signal import SIGINT, SIGQUIT, SIGTSTP
from aiopyvm.abi.termios import CHARACTERS, INPUT_FLAGS, LOCAL_FLAGS, OUTPUT_FLAGS

ROOM: Final = 4095
FLIP_ROOM: Final = 8192
ECHO_ROOM: Final = 4096
MOST_PUT: Final = 4096
PIECE: Final = 512  # bytes written that are processed at once: a tab becomes eight

ISTRIP, INLCR, IGNCR, ICRNL, IXON, IXANY, PARMRK, IMAXBEL, IUTF8 = (
    INPUT_FLAGS[n] for n in ("ISTRIP", "INLCR", "IGNCR", "ICRNL", "IXON", "IXANY", "PARMRK", "IMAXBEL", "IUTF8")
)
OPOST, OLCUC, ONLCR, OCRNL, ONOCR, ONLRET = (
    OUTPUT_FLAGS[n] for n in ("OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET")
)
ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH, TOSTOP, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN = (
    LOCAL_FLAGS[n]
    for n in (
        "ISIG", "ICANON", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "ECHOCTL", "ECHOPRT", "ECHOKE",
        "IEXTEN",
    )
)  # fmt: skip
_COOKED: Final = ISTRIP | abi.IUCLC | IGNCR | ICRNL | INLCR | IXON | PARMRK
_SIGNALS: Final = (("VINTR", SIGINT), ("VQUIT", SIGQUIT), ("VSUSP", SIGTSTP))
_LF, _CR, _TAB, _BS, _BELL = 10, 13, 9, 8, 7

# Operations of `echoes`: a byte, or one of these. A byte is shown as it is (RAW), or a control character as ^X.
_RAW, _SHOWN, _ERASE_TAB, _BACK, _CANON_COLUMN = range(5)
_Operation = tuple[int, int]


def _is_control(c: int) -> bool:
    return c < 32 or c == 127


def _is_word(c: int) -> bool:
    """A letter or a digit of ISO 8859-1, or an underscore."""
    return 48 <= c < 58 or 65 <= c < 91 or 97 <= c < 123 or c == 95 or (c >= 0xC0 and c not in (0xD7, 0xF7))


class LineDiscipline:
    """The state of one terminal's lines; `Tty` knows who is on both sides."""

    def __init__(self) -> None:
        self.set_modes(abi.INIT_TERMIOS)
        self.data = bytearray()
        self.start = 0
        self.canon = 0
        self.ends: deque[int] = deque()
        self.flip = bytearray()
        self.literal_next = False
        self.erasing = False
        self.column = 0
        self.canon_column = 0
        self.stopped = False  # output, by ^S or TCOOFF
        self.held = False  # by TCOOFF, which no character undoes
        self.echoes: deque[_Operation] = deque()

    # --- what stands on the other side ------------------------------------------------------------------------------

    def put(self, data: bytes) -> bool:
        """Show `data`, all of it or nothing: False."""
        raise NotImplementedError

    def signal(self, signo: int) -> None:
        """Send a signal to the foreground group."""
        raise NotImplementedError

    def input_came(self, fresh: bool = True) -> None:
        """Something can be read now; `fresh`: it was just typed."""

    def room_came(self) -> None:
        """Something can be written, or fed, now."""

    def tell(self, event: int) -> None:
        """Tell a master in packet mode (TIOCPKT_*)."""

    # --- modes ------------------------------------------------------------------------------------------------------

    def set_modes(self, termios: bytes) -> None:
        """Be what a `struct termios` says."""
        self.termios = termios
        self.iflag, self.oflag, self.cflag, self.lflag, _, self.cc = abi.TERMIOS.unpack(termios)
        self._by_name: dict[str, int] = {name: self.cc[at] for name, at in CHARACTERS.items()}

    def change_modes(self, termios: bytes) -> None:
        """Change to a `struct termios`, with what was typed and not read (n_tty_set_termios)."""
        was_canonical, had_flow = self.canonical, self.iflag & IXON
        self.set_modes(termios)
        if was_canonical != self.canonical:
            self.ends.clear()
            if self.canonical and self.data:
                self.canon = self.start + len(self.data)
                self.ends.append(self.canon - 1)
            else:
                self.canon = self.start + len(self.data) if self.canonical else self.start
            self.input_came(fresh=False)
        if had_flow and not self.iflag & IXON and self.stopped and not self.held:
            self.start_output()
        self.pump()

    def is_char(self, name: str, c: int) -> bool:
        """Whether `c` is the special character `name`; one that is 0 is disabled."""
        return c != 0 and self._by_name[name] == c

    @property
    def canonical(self) -> bool:
        """Lines are read, not bytes."""
        return bool(self.lflag & ICANON)

    @property
    def minimum(self) -> int:
        """VMIN."""
        return self._by_name["VMIN"]

    @property
    def tenths(self) -> int:
        """VTIME."""
        return self._by_name["VTIME"]

    # --- input: from whoever types ----------------------------------------------------------------------------------

    @property
    def feed_room(self) -> int:
        """How many bytes `feed` takes now."""
        return FLIP_ROOM - len(self.flip)

    def feed(self, data: bytes) -> int:
        """Bytes arrive; return how many were taken."""
        taken = data[: self.feed_room]
        self.flip += taken
        self.pump()
        return len(taken)

    def pump(self) -> None:
        """Take in what has arrived, as far as there is room."""
        flip, at = self.flip, 0
        while at < len(flip):
            room = ROOM - len(self.data)
            if room <= 0:  # in the middle of a line that is too long the last byte gives way
                if not self.canonical or self.canon != self.start:
                    break
                if room < 0:
                    self.data.pop()
                room = 1
            piece = flip[at : at + room]
            at += len(piece)
            self._receive(bytes(piece))
        if at:
            del flip[:at]
            self.flush_echoes()
            if not self.canonical and self.data:
                self.input_came()

    def _receive(self, piece: bytes) -> None:
        if not (self.iflag & _COOKED or self.lflag & (ICANON | ISIG | ECHO)):
            self.data += piece
            return
        for c in piece:
            if self.iflag & ISTRIP:
                c &= 0x7F
            if self.iflag & abi.IUCLC and self.lflag & IEXTEN and 65 <= c < 91:
                c += 32
            if self.literal_next:
                self.literal_next = False
                self._plain(c)
            elif self.lflag & abi.EXTPROC:
                self.data.append(c)
            else:
                self._character(c)

    def _character(self, c: int) -> None:
        """One character, which may be special."""
        if self._flow(c) or self._signal_character(c):
            return
        if self.stopped and not self.held and self.iflag & IXON and self.iflag & IXANY:
            self.start_output()
        if c == _CR:
            if self.iflag & IGNCR:
                return
            if self.iflag & ICRNL:
                c = _LF
        elif c == _LF and self.iflag & INLCR:
            c = _CR
        if self.lflag & ICANON and self._edit(c):
            return
        if c == _LF and self.lflag & ECHO:
            self._finish_erasing()
            self._echo(_LF, raw=True)
            self._keep(c)
        else:
            self._plain(c)

    def _flow(self, c: int) -> bool:
        if not self.iflag & IXON:
            return False
        if self.is_char("VSTART", c):
            self.start_output()
            return True
        if self.is_char("VSTOP", c):
            self.stop_output()
            return True
        return False

    def _signal_character(self, c: int) -> bool:
        if not self.lflag & ISIG:
            return False
        signo = next((number for name, number in _SIGNALS if self.is_char(name, c)), 0)
        if not signo:
            return False
        if not self.lflag & NOFLSH:
            self.echoes.clear()
            self.drop_input()
            self.tell(abi.TIOCPKT_FLUSHREAD)
            self.tell(abi.TIOCPKT_FLUSHWRITE)
        self.signal(signo)
        if self.iflag & IXON:
            self.start_output()
        if self.lflag & ECHO:
            self._echo(c)
        return True

    def _plain(self, c: int) -> None:
        """A character that means itself."""
        if self.lflag & ECHO:
            self._finish_erasing()
            if self.canon == self.head:
                self.echoes.append((_CANON_COLUMN, 0))
            self._echo(c)
        self._keep(c)

    def _keep(self, c: int) -> None:
        if c == 0xFF and self.iflag & PARMRK:
            self.data.append(c)
        self.data.append(c)

    @property
    def head(self) -> int:
        """The position behind the last byte that was typed."""
        return self.start + len(self.data)

    # --- editing a line ---------------------------------------------------------------------------------------------

    def _edit(self, c: int) -> bool:
        """Do what a character means in canonical mode; False for one that means itself."""
        extended = self.lflag & IEXTEN
        if self.is_char("VERASE", c) or self.is_char("VKILL", c) or (extended and self.is_char("VWERASE", c)):
            self._erase(c)
        elif extended and self.is_char("VLNEXT", c):
            self.literal_next = True
            if self.lflag & ECHO:
                self._finish_erasing()
                if self.lflag & ECHOCTL:
                    self._echo(ord("^"), raw=True)
                    self._echo(_BS, raw=True)
        elif extended and self.lflag & ECHO and self.is_char("VREPRINT", c):
            self._finish_erasing()
            self._echo(c)
            self._echo(_LF, raw=True)
            at = self.canon - self.start
            for typed in self.data[at : at + ECHO_ROOM - len(self.echoes)]:  # there is room for no more
                self._echo(typed)
        elif c == _LF:
            if self.lflag & (ECHO | ECHONL):
                self._echo(_LF, raw=True)
            self._end_line(c)
        elif self.is_char("VEOF", c):
            self._end_line(0)
        elif self.is_char("VEOL", c) or (extended and self.is_char("VEOL2", c)):
            if self.lflag & ECHO:
                if self.canon == self.head:
                    self.echoes.append((_CANON_COLUMN, 0))
                self._echo(c)
            if c == 0xFF and self.iflag & PARMRK:
                self.data.append(c)
            self._end_line(c)
        else:
            return False
        return True

    def _end_line(self, c: int) -> None:
        self.ends.append(self.head)
        self.data.append(c)
        self.canon = self.head
        self.input_came()

    def _erase(self, c: int) -> None:
        """VERASE, VWERASE, VKILL."""
        if self.head == self.canon:
            return
        word, kill = self.is_char("VWERASE", c), self.is_char("VKILL", c)
        if self.is_char("VERASE", c):
            word = kill = False
        if kill and not word and self.lflag & (ECHO | ECHOE | ECHOK | ECHOKE) != ECHO | ECHOE | ECHOK | ECHOKE:
            del self.data[self.canon - self.start :]
            if self.lflag & ECHO:
                self._finish_erasing()
                self._echo(self._by_name["VKILL"])
                if self.lflag & ECHOK:
                    self._echo(_LF, raw=True)
            return
        seen_word = False
        while self.head != self.canon:
            size = self._last_character()
            if not size:
                break
            first = self.data[-size]
            if word:
                if _is_word(first):
                    seen_word = True
                elif seen_word:
                    break
            gone = bytes(self.data[-size:])
            del self.data[-size:]
            if self.lflag & ECHO:
                self._show_erased(gone, erase=not (word or kill))
            if not (word or kill):
                break
        if self.head == self.canon and self.lflag & ECHO:
            self._finish_erasing()

    def _last_character(self) -> int:
        """How many bytes the last character of the line has; 0: it has no beginning."""
        size = 1
        while self._continues(self.data[-size]):
            if self.head - size == self.canon:
                return 0
            size += 1
        return size

    def _continues(self, c: int) -> bool:
        return bool(self.iflag & IUTF8) and c & 0xC0 == 0x80

    def _show_erased(self, gone: bytes, *, erase: bool) -> None:
        c = gone[0]
        if self.lflag & ECHOPRT:
            if not self.erasing:
                self._echo(ord("\\"), raw=True)
                self.erasing = True
            self._echo(c)
            for more in gone[1:]:
                self._echo(more, raw=True)
                self.echoes.append((_BACK, 0))
        elif erase and not self.lflag & ECHOE:
            self._echo(self._by_name["VERASE"])
        elif c == _TAB:
            self.echoes.append((_ERASE_TAB, self._columns_before_tab()))
        else:
            control = _is_control(c)
            times = (control and bool(self.lflag & ECHOCTL)) + (not control or bool(self.lflag & ECHOCTL))
            for shown in b"\b \b" * times:
                self._echo(shown, raw=True)

    def _columns_before_tab(self) -> int:
        """Columns since the line's start, or (with 0x80) since the tab before."""
        columns = 0
        for c in reversed(self.data[self.canon - self.start :]):
            if c == _TAB:
                return columns & 7 | 0x80
            if _is_control(c):
                columns += 2 if self.lflag & ECHOCTL else 0
            elif not self._continues(c):
                columns += 1
        return columns & 7

    def _finish_erasing(self) -> None:
        if self.erasing:
            self._echo(ord("/"), raw=True)
            self.erasing = False

    def drop_input(self) -> None:
        """Forget what was typed and not read (TCIFLUSH)."""
        self.start += len(self.data)
        self.data.clear()
        self.canon = self.start
        self.ends.clear()

    # --- reading ----------------------------------------------------------------------------------------------------

    def can_read(self, *, polled: bool = False) -> bool:
        """Whether `take` gives something; `polled`: whether poll(2) says so, which waits for VMIN bytes."""
        if self.canonical:
            return self.canon != self.start
        needed = self.minimum if polled and self.minimum and not self.tenths else 1
        return len(self.data) >= needed

    def readable_bytes(self) -> int:
        """How many bytes could be read now (FIONREAD)."""
        if not self.canonical:
            return len(self.data)
        if self.canon == self.start:
            return 0
        return self.canon - self.start - sum(self.data[end - self.start] == 0 for end in self.ends)

    def take(self, n: int) -> bytes:
        """Return up to `n` bytes: in canonical mode of one line, b"" for the end of file. Something can be read."""
        if not self.canonical:
            return self._pull(n)
        end = self.ends[0] if self.ends else self.canon
        size = min(n, self.canon - self.start)
        if self.start + size <= end:
            data = self._pull(size)
            self._skip_end_of_file(size == n)
            return data
        self.ends.popleft()
        data = self._pull(end - self.start + 1)
        if data[-1] == 0:
            data = data[:-1]
        return data

    def _skip_end_of_file(self, filled: bool) -> None:
        """Bytes that fill the reader's buffer up to an end of file take that along."""
        if filled and self.ends and self.ends[0] == self.start and self.data[0] == 0:
            self.ends.popleft()
            self._pull(1)

    def _pull(self, n: int) -> bytes:
        data = bytes(self.data[:n])
        del self.data[:n]
        self.start += len(data)
        if self.canon < self.start:
            self.canon = self.start
        if self.flip:
            self.pump()
        self.room_came()
        return data

    # --- output -----------------------------------------------------------------------------------------------------

    def show(self, data: bytes) -> int:
        """Write `data` through the output modes; return how many bytes of it went out."""
        self.flush_echoes()
        done = 0
        while done < len(data) and not self.stopped:
            if self.oflag & OPOST:
                piece = data[done : done + PIECE]
                column, canon_column = self.column, self.canon_column
                if not self.put(b"".join([self._output(c) for c in piece])):
                    self.column, self.canon_column = column, canon_column
                    break
            else:
                piece = data[done : done + MOST_PUT]
                if not self.put(piece):
                    break
            done += len(piece)
        return done

    def _output(self, c: int) -> bytes:
        """What stands for one byte that a program writes; the column follows."""
        oflag = self.oflag
        if c == _LF:
            if oflag & ONLRET:
                self.column = 0
            if oflag & ONLCR:
                self.canon_column = self.column = 0
                return b"\r\n"
            self.canon_column = self.column
        elif c == _CR:
            if oflag & ONOCR and self.column == 0:
                return b""
            if oflag & OCRNL:
                if oflag & ONLRET:
                    self.canon_column = self.column = 0
                return b"\n"
            self.canon_column = self.column = 0
        elif c == _TAB:
            spaces = 8 - (self.column & 7)
            self.column += spaces
            if oflag & abi.TABDLY == abi.TABDLY:
                return b" " * spaces
        elif c == _BS:
            self.column -= self.column > 0
        elif not _is_control(c):
            if oflag & OLCUC and 97 <= c < 123:
                c -= 32
            if not self._continues(c):
                self.column += 1
        return bytes((c,))

    def stop_output(self) -> None:
        """^S, TCOOFF."""
        if not self.stopped:
            self.stopped = True
            self.tell(abi.TIOCPKT_STOP)

    def start_output(self) -> None:
        """^Q, TCOON."""
        if self.stopped and not self.held:
            self.stopped = False
            self.tell(abi.TIOCPKT_START)
            self.flush_echoes()
            self.room_came()

    # --- echo -------------------------------------------------------------------------------------------------------

    def _echo(self, c: int, *, raw: bool = False) -> None:
        if len(self.echoes) < ECHO_ROOM:
            shown = not raw and self.lflag & ECHOCTL and _is_control(c) and c != _TAB
            self.echoes.append((_SHOWN if shown else _RAW, c))

    def flush_echoes(self) -> None:
        """Show what is to be echoed, as far as that goes now."""
        while self.echoes and not self.stopped:
            column, canon_column = self.column, self.canon_column
            piece = [self.echoes[n] for n in range(min(PIECE, len(self.echoes)))]
            if not self.put(b"".join([self._echoed(operation, c) for operation, c in piece])):
                self.column, self.canon_column = column, canon_column
                return
            for _ in piece:
                self.echoes.popleft()

    def _echoed(self, operation: int, c: int) -> bytes:
        if operation == _RAW:
            return self._output(c) if self.oflag & OPOST else bytes((c,))
        if operation == _SHOWN:
            self.column += 2
            return bytes((ord("^"), c ^ 0x40))
        if operation == _ERASE_TAB:
            columns = c if c & 0x80 else c + self.canon_column
            back = 8 - (columns & 7)
            self.column = max(0, self.column - back)
            return b"\b" * back
        if operation == _CANON_COLUMN:
            self.canon_column = self.column
        else:
            self.column -= self.column > 0
        return b""

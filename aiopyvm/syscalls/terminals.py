"""Terminals: ioctl_tty(2) on both sides of a line, and reading as VMIN and VTIME say (termios(3)).

How it works. Most requests on a pty's master mean the terminal behind it. What changes a terminal stops a background
group first (`jobs.hold_background`), like writing does with TOSTOP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import EAGAIN, EFAULT, EINVAL, EIO, ENOTTY, EPERM, ESRCH, Errno
from aiopyvm.abi.fcntl import O_CLOEXEC, O_NOCTTY, O_NONBLOCK
from aiopyvm.abi.poll import POLLIN
from aiopyvm.abi.signal import NSIG, SIGTTIN, SIGTTOU
from aiopyvm.kernel import jobs
from aiopyvm.kernel.file import File
from aiopyvm.kernel.ldisc import TOSTOP
from aiopyvm.kernel.pty import PtyLine, PtyMaster, open_terminal
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.tty import TerminalFile, Tty, flow_is_usual
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.syscalls.steps import call_of

TENTH_NS: Final = 100_000_000
_SETS: Final = (abi.TCSETS, abi.TCSETSW, abi.TCSETSF)
_SETS2: Final = (abi.TCSETS2, abi.TCSETSW2, abi.TCSETSF2)
_OLD_SETS: Final = (abi.TCSETA, abi.TCSETAW, abi.TCSETAF)
_FLUSHING: Final = (abi.TCSETSF, abi.TCSETSF2, abi.TCSETAF)
_CHANGES: Final = frozenset((*_SETS, *_SETS2, *_OLD_SETS, abi.TCSBRK, abi.TCSBRKP, abi.TCXONC, abi.TCFLSH, abi.TIOCSBRK,
                             abi.TIOCCBRK))  # fmt: skip


# --- reading and writing ----------------------------------------------------------------------------------------------


def hold_writer(t: Thread, file: File) -> Wait | None:
    """Stop a background group that writes to its terminal, with TOSTOP; None: go on. Raises Errno(EIO)."""
    if isinstance(file, TerminalFile) and file.line.lflag & TOSTOP and not file.hung_up and not call_of(t).done:
        return jobs.hold_background(t, file.line, SIGTTOU)
    return None


def read_terminal(t: Thread, file: File, total: int, store: Callable[[bytes], int]) -> int | Wait | None:
    """Read up to `total` bytes from the user's side of a terminal; `store(data)` takes bytes, or fewer of them. None:
    it is none, but a pty's master.

    A background group is stopped. Raises Errno: EFAULT where `store` takes nothing, EAGAIN, EIO.
    """
    if not isinstance(file, TerminalFile):
        return None
    call, line = call_of(t), file.line
    if not file.hung_up and not call.done and (held := jobs.hold_background(t, line, SIGTTIN)) is not None:
        return held
    while call.done < total:
        try:
            data = file.read(total - call.done)
        except Errno as error:
            if error.number != EAGAIN and not call.done:
                raise
            return _nothing_there(t, file) if error.number == EAGAIN else call.done
        taken = store(data)
        call.done += taken
        t.moved += taken
        if taken < len(data) and not call.done:
            raise Errno(EFAULT)
        if not data or taken < len(data) or line.canonical or call.done >= line.minimum:
            break
        if line.tenths:
            call.deadline = t.kernel.clock.monotonic_ns() + line.tenths * TENTH_NS
    return call.done


def _nothing_there(t: Thread, file: TerminalFile) -> int | Wait:
    """What a read that finds nothing does. Raises Errno(EAGAIN)."""
    call, line = call_of(t), file.line
    raw = not line.canonical
    if call.woken is Cause.TIMEOUT or (raw and not line.minimum and not line.tenths):
        return call.done
    if file.flags & O_NONBLOCK:
        if call.done:
            return call.done
        raise Errno(EAGAIN)
    if raw and not line.minimum and call.deadline is None:
        call.deadline = t.kernel.clock.monotonic_ns() + line.tenths * TENTH_NS
    return Wait(file.queues(POLLIN), call.deadline, Restart.SYS, f"to read {file.name.decode()}")


# --- ioctl ------------------------------------------------------------------------------------------------------------


def control(t: Thread, file: TerminalFile | PtyMaster, request: int, arg: int) -> int | Wait:
    """ioctl_tty(2). Raises Errno: ENOTTY for an unknown request, EIO after a hang-up, and what the page says."""
    line = file.line
    if isinstance(file, TerminalFile):
        if file.hung_up:
            raise Errno(ENOTTY if request == abi.TIOCSPGRP else EIO)
        if request in _CHANGES and (held := jobs.hold_background(t, line, SIGTTOU)) is not None:
            return held
        if request == abi.TIOCSPGRP and (held := _hold_for_group(t, line)) is not None:
            return held
    for family in (_modes, _line, _session):
        if (result := family(t, file, request, arg)) is not None:
            return result
    if isinstance(file, PtyMaster):
        return _master(t, file, file.line, request, arg)
    raise Errno(ENOTTY)


def _hold_for_group(t: Thread, line: Tty) -> Wait | None:
    try:
        return jobs.hold_background(t, line, SIGTTOU)
    except Errno:
        raise Errno(ENOTTY) from None


def _put(t: Thread, address: int, value: int) -> int:
    t.memory.write(address, struct.pack("<I", value & 0xFFFFFFFF))
    return 0


def _get(t: Thread, address: int) -> int:
    value: int = struct.unpack("<i", t.memory.read(address, 4))[0]
    return value


def _modes(t: Thread, file: TerminalFile | PtyMaster, request: int, arg: int) -> int | None:
    """The requests for attributes and size."""
    line = file.line
    match request:
        case abi.TCGETS:
            t.memory.write(arg, line.termios)
        case abi.TCGETS2:
            t.memory.write(arg, abi.TERMIOS2.pack(*abi.TERMIOS.unpack(line.termios), abi.BAUD, abi.BAUD))
        case abi.TCGETA:
            *flags, discipline, cc = abi.TERMIOS.unpack(line.termios)
            t.memory.write(arg, abi.TERMIO.pack(*(flag & 0xFFFF for flag in flags), discipline, cc[:8]))
        case abi.TCSETS | abi.TCSETSW | abi.TCSETSF:
            _set_modes(line, t.memory.read(arg, abi.TERMIOS.size), request)
        case abi.TCSETS2 | abi.TCSETSW2 | abi.TCSETSF2:
            _set_modes(line, t.memory.read(arg, abi.TERMIOS2.size)[: abi.TERMIOS.size], request)
        case abi.TCSETA | abi.TCSETAW | abi.TCSETAF:
            *low, discipline, cc = abi.TERMIO.unpack(t.memory.read(arg, abi.TERMIO.size))
            *flags, _, old_cc = abi.TERMIOS.unpack(line.termios)
            merged = [old & ~0xFFFF | new for old, new in zip(flags, low, strict=True)]
            _set_modes(line, abi.TERMIOS.pack(*merged, discipline, cc + old_cc[8:]), request)
        case abi.TIOCGWINSZ:
            t.memory.write(arg, line.winsize)
        case abi.TIOCSWINSZ:
            line.resize(t.memory.read(arg, abi.WINSIZE.size))
        case _:
            return None
    return 0


def _set_modes(line: Tty, termios: bytes, request: int) -> None:
    iflag, oflag, cflag, lflag, discipline, cc = abi.TERMIOS.unpack(termios)
    cflag = cflag & ~(abi.CS8 | abi.PARENB) | abi.CS8 | abi.CREAD  # what a pty cannot be (pty_set_termios)
    if request in _FLUSHING:
        line.drop_input()
        line.flip.clear()
    usual, external = flow_is_usual(line), line.lflag & abi.EXTPROC
    line.change_modes(abi.TERMIOS.pack(iflag, oflag, cflag, lflag, discipline, cc))
    if flow_is_usual(line) != usual:
        line.status &= ~(abi.TIOCPKT_DOSTOP | abi.TIOCPKT_NOSTOP)
        line.tell(abi.TIOCPKT_NOSTOP if usual else abi.TIOCPKT_DOSTOP)
    if external or line.lflag & abi.EXTPROC:
        line.tell(abi.TIOCPKT_IOCTL)


def _line(t: Thread, file: TerminalFile | PtyMaster, request: int, arg: int) -> int | None:
    """The requests for what is on its way."""
    line, argument = file.line, arg & 0xFFFFFFFF
    match request:
        case abi.TIOCOUTQ:
            return _put(t, arg, 0)
        case abi.TCSBRK | abi.TCSBRKP | abi.TIOCSBRK | abi.TIOCCBRK:
            return 0  # nothing has to drain, and a pty has no breaks
        case abi.TCFLSH:
            _flush(file, argument)
        case abi.TCXONC:
            _flow(line, argument)
        case abi.TIOCSTI:
            _type_in(t, line, arg)
        case abi.TIOCGETD:
            return _put(t, arg, 0)
        case abi.TIOCSETD:
            if _get(t, arg) != 0:
                raise Errno(EINVAL)
        case abi.TIOCEXCL | abi.TIOCNXCL:
            line.exclusive = request == abi.TIOCEXCL
        case abi.TIOCGEXCL:
            return _put(t, arg, line.exclusive)
        case _:
            return None
    return 0


def _flush(file: TerminalFile | PtyMaster, queue: int) -> None:
    line = file.line
    if queue not in (abi.TCIFLUSH, abi.TCOFLUSH, abi.TCIOFLUSH):
        raise Errno(EINVAL)
    if isinstance(file, PtyMaster):
        if queue != abi.TCOFLUSH:
            file.line.shown.clear()
            line.room_came()
        return
    if queue != abi.TCOFLUSH:
        line.drop_input()
        line.tell(abi.TIOCPKT_FLUSHREAD)
        line.pump()
    if queue != abi.TCIFLUSH:
        line.tell(abi.TIOCPKT_FLUSHWRITE)


def _flow(line: Tty, action: int) -> None:
    match action:
        case abi.TCOOFF:
            if not line.held:
                line.held = True
                line.stop_output()
        case abi.TCOON:
            if line.held:
                line.held = False
                line.start_output()
        case abi.TCIOFF | abi.TCION:
            name = "VSTOP" if action == abi.TCIOFF else "VSTART"
            character = line.cc[abi.CHARACTERS[name]]
            if character:
                line.put(bytes((character,)))
        case _:
            raise Errno(EINVAL)


def _type_in(t: Thread, line: Tty, arg: int) -> None:
    """TIOCSTI: as if it were typed. Raises Errno(EPERM)."""
    if t.process.tty is not line and t.credentials.euid != 0:
        raise Errno(EPERM)
    line.feed(t.memory.read(arg, 1))


def _session(t: Thread, file: TerminalFile | PtyMaster, request: int, arg: int) -> int | None:
    """The requests for sessions and groups."""
    line, process = file.line, t.process
    own = process.tty is line
    match request:
        case abi.TIOCGPGRP | abi.TIOCGSID:
            if isinstance(file, TerminalFile) and not own:
                raise Errno(ENOTTY)
            if request == abi.TIOCGSID and not line.session:
                raise Errno(ENOTTY)
            return _put(t, arg, line.foreground if request == abi.TIOCGPGRP else line.session)
        case abi.TIOCSPGRP:
            _set_foreground(t, line, arg)
        case abi.TIOCSCTTY:
            _take(t, file, arg)
        case abi.TIOCNOTTY:
            if not own or isinstance(file, PtyMaster):
                raise Errno(ENOTTY)
            jobs.give_up_terminal(process)
        case abi.TIOCVHANGUP:
            if process.credentials.euid != 0:
                raise Errno(EPERM)
            jobs.hang_up(t.kernel, line)
        case _:
            return None
    return 0


def _set_foreground(t: Thread, line: Tty, arg: int) -> None:
    if t.process.tty is not line or line.session != t.process.session:
        raise Errno(ENOTTY)
    group = _get(t, arg)
    if group < 0:
        raise Errno(EINVAL)
    members = [p for p in t.kernel.processes.values() if p.group == group]
    if not members:
        raise Errno(ESRCH)
    if all(p.session != t.process.session for p in members):
        raise Errno(EPERM)
    line.foreground = group


def _take(t: Thread, file: TerminalFile | PtyMaster, arg: int) -> None:
    root = t.credentials.euid == 0
    if isinstance(file, PtyMaster):
        raise Errno(EPERM if t.process.pid != t.process.session or t.process.tty is not None else ENOTTY)
    line = file.line
    if not jobs.check_session(t.process, line, steal=arg == 1 and root):
        return
    if not file.readable and not root:
        raise Errno(EPERM)
    if line.session:
        jobs.steal_terminal(t.kernel, line)
    jobs.take_terminal(t.process, line)


def _master(t: Thread, file: PtyMaster, line: PtyLine, request: int, arg: int) -> int:
    """The requests that only a master knows."""
    match request:
        case abi.TIOCGPTN:
            return _put(t, arg, line.index)
        case abi.TIOCSPTLCK:
            line.locked = _get(t, arg) != 0
        case abi.TIOCGPTLCK:
            return _put(t, arg, line.locked)
        case abi.TIOCGDEV:
            return _put(t, arg, line.stat().rdev)
        case abi.TIOCPKT:
            on = _get(t, arg) != 0
            if on and not line.packet:
                line.status = 0
            line.packet = on
        case abi.TIOCGPKT:
            return _put(t, arg, line.packet)
        case abi.TIOCSIG:
            if not 1 <= arg <= NSIG:
                raise Errno(EINVAL)
            line.signal(arg)
        case abi.TIOCGPTPEER:
            return _open_peer(t, line, arg)
        case _:
            raise Errno(ENOTTY)
    return 0


def _open_peer(t: Thread, line: PtyLine, flags: int) -> int:
    from aiopyvm.syscalls.files import give

    file = open_terminal(t.process, line, flags & ~O_CLOEXEC)
    file.flags &= ~O_NOCTTY
    return give(t, file, cloexec=bool(flags & O_CLOEXEC))

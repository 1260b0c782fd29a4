"""Job control: what sessions, process groups and their terminal do to one another (credentials(7), setpgid(2),
tty_ioctl(4); drivers/tty/tty_jobctrl.c of the Linux source)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi.errno import EIO, EPERM, Errno
from aiopyvm.abi.signal import SI_KERNEL, SIG_IGN, SIGCONT, SIGHUP, SIGTTIN, SigInfo, bit
from aiopyvm.kernel.process import Life
from aiopyvm.kernel.wait import Cause, Wait

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.tty import Tty


def is_orphaned(kernel: Kernel, group: int, leaving: Process | None = None) -> bool:
    """Whether no member of `group` but `leaving` has a parent in another group of its session (setpgid(2))."""
    for process in kernel.processes.values():
        parent = process.parent
        if process.group != group or process is leaving or process.life is not Life.ALIVE or parent is None:
            continue
        if parent.group != group and parent.session == process.session:
            return False
    return True


def hold_background(t: Thread, line: Tty, signo: int) -> Wait | None:
    """Stop a background group that uses its terminal, by SIGTTIN or SIGTTOU; None: `t` may go on.

    Raises Errno(EIO) where that is not possible: an orphaned group, or nobody who heeds a SIGTTIN.
    """
    process = t.process
    group = process.group
    if process.tty is not line or not line.foreground or group == line.foreground:
        return None
    if t.mask & bit(signo) or process.actions[signo].handler == SIG_IGN:
        if signo == SIGTTIN:
            raise Errno(EIO)
        return None
    if is_orphaned(t.kernel, group):
        raise Errno(EIO)
    call = t.call
    if call is None or call.woken is not Cause.SIGNAL:
        t.kernel.signal_group(group, SigInfo(signo, SI_KERNEL))
    return Wait(deadline=t.kernel.clock.monotonic_ns(), reason="to be in the foreground")


def take_terminal(process: Process, line: Tty) -> None:
    """Make `line` the controlling terminal of the session that `process` leads."""
    line.session, line.foreground = process.session, process.group
    process.tty = line


def steal_terminal(kernel: Kernel, line: Tty) -> None:
    """Take the terminal away from the session that has it (TIOCSCTTY with 1)."""
    _clear_session(kernel, line)


def give_up_terminal(process: Process) -> None:
    """TIOCNOTTY: a leader gives it up for its session, and its foreground group is told."""
    line = process.tty
    if line is None:
        return
    if process.pid == process.session:
        group = line.foreground
        _clear_session(process.kernel, line)
        if group:
            process.kernel.signal_group(group, SigInfo(SIGHUP, SI_KERNEL))
            process.kernel.signal_group(group, SigInfo(SIGCONT, SI_KERNEL))
        line.session = line.foreground = 0
    process.tty = None


def leader_ends(process: Process) -> None:
    """The end of a process; that of a session's leader hangs up on the foreground group."""
    kernel, line = process.kernel, process.tty
    if process.pid != process.session:
        return
    if line is not None:
        if line.foreground:
            kernel.signal_group(line.foreground, SigInfo(SIGHUP, SI_KERNEL))
        _clear_session(kernel, line)
        line.session = line.foreground = 0
    elif process.old_foreground:
        kernel.signal_group(process.old_foreground, SigInfo(SIGHUP, SI_KERNEL))
        kernel.signal_group(process.old_foreground, SigInfo(SIGCONT, SI_KERNEL))


def hang_up(kernel: Kernel, line: Tty) -> None:
    """The other side is gone, or vhangup(2): SIGHUP and SIGCONT for the leader, and every open file is dead."""
    session, group = line.session, line.foreground
    line.forget_files()
    line.session = line.foreground = 0
    for process in tuple(kernel.processes.values()):
        if not session or process.session != session:
            continue
        if process.tty is line:
            process.tty = None
        if process.pid == session:
            process.old_foreground = group
            kernel.send_signal(process, SigInfo(SIGHUP, SI_KERNEL))
            kernel.send_signal(process, SigInfo(SIGCONT, SI_KERNEL))


def last_closed(kernel: Kernel, line: Tty) -> None:
    """Nobody has the terminal open: its session's processes have none."""
    _clear_session(kernel, line)


def check_session(process: Process, line: Tty, *, steal: bool) -> bool:
    """Whether `process` may make `line` its session's terminal, as TIOCSCTTY; False: it is already.

    Raises Errno(EPERM).
    """
    leads = process.pid == process.session
    if leads and line.session == process.session:
        return False
    if not leads or process.tty is not None or (line.session and not steal):
        raise Errno(EPERM)
    return True


def _clear_session(kernel: Kernel, line: Tty) -> None:
    for process in kernel.processes.values():
        if line.session and process.session == line.session and process.tty is line:
            process.tty = None

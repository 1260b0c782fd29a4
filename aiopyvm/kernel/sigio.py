"""Signals for descriptors (fcntl(2), "Managing signals"; fs/fcntl.c of the Linux source).

How it works. A file that can tell has tables of who is to be told (`File.fasync`: of its pipe's end, terminal, socket),
by open file description, with the descriptor that asked for it (O_ASYNC); `kill_fasync` tells all of a table. Whom a
description tells, and by which signal, stands on it: `File.io_owner`, `File.io_signal`.

What always holds. A table has at most MAX_TOLD descriptions. Who may be told is decided by who the setter of the owner
was then.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import signal as abi
from aiopyvm.abi.errno import ENOMEM, Errno
from aiopyvm.abi.fcntl import F_OWNER_PGRP, F_OWNER_PID, F_OWNER_TID, O_ASYNC
from aiopyvm.abi.poll import (
    POLLERR,
    POLLHUP,
    POLLPRI,
    POLLRDBAND,
    POLLWRBAND,
    READABLE,
    WRITABLE,
)
from aiopyvm.abi.signal import POLL_ERR, POLL_HUP, POLL_IN, POLL_MSG, POLL_OUT, POLL_PRI, SI_KERNEL, SI_SIGIO, SigInfo
from aiopyvm.kernel import send
from aiopyvm.kernel.process import Life, Process
from aiopyvm.kernel.thread import DEAD, Thread

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.kernel import Kernel

MAX_TOLD: Final = 16
Fasync = dict["File", int]
_BANDS: Final = {
    POLL_IN: READABLE,
    POLL_OUT: WRITABLE | POLLWRBAND,
    POLL_MSG: READABLE | 0x400,
    POLL_ERR: POLLERR,
    POLL_PRI: POLLPRI | POLLRDBAND,
    POLL_HUP: POLLHUP | POLLERR,
}


class Owner(NamedTuple):
    """Whom a description tells: a thread, a process or a group's number (None: nobody), and who said so."""

    type: int  # F_OWNER_*
    target: Thread | Process | int | None
    kernel: Kernel
    uid: int
    euid: int

    @property
    def id(self) -> int:
        """The number of thread, process or group; 0: it is there no more."""
        target, kernel = self.target, self.kernel
        if isinstance(target, Thread):
            return target.tid if kernel.threads.get(target.tid) is target else 0
        if isinstance(target, Process):
            return target.pid if kernel.processes.get(target.pid) is target else 0
        return target if target and any(p.group == target for p in kernel.processes.values()) else 0

    def told(self) -> Iterator[Thread | Process]:
        """Whom a signal goes to now."""
        target = self.target
        if isinstance(target, Process):
            found: list[Thread | Process] = [target] if target.life is Life.ALIVE else []
        elif isinstance(target, Thread):
            found = [target] if target.state is not DEAD else []
        else:
            found = [p for p in self.kernel.processes.values() if target and p.group == target]
        for one in found:
            who = one.credentials
            if self.euid == 0 or {self.euid, self.uid} & {who.uid, who.suid}:
                yield one


def own(process: Process, type: int, target: Thread | Process | int | None) -> Owner:
    """Return `target` as the owner that `process` sets."""
    who = process.credentials
    return Owner(type, target, process.kernel, who.uid, who.euid)


def find_owner(process: Process, type: int, number: int) -> Owner | None:
    """Return thread, process or group `number` (0: nobody) as the owner that `process` sets; None: there is no such
    number."""
    kernel = process.kernel
    if not number:
        return own(process, type, None)
    found_process, found_thread = kernel.processes.get(number), kernel.threads.get(number)
    grouped = any(number in (p.group, p.session) for p in kernel.processes.values())
    if number < 0 or not (found_process or found_thread or grouped):
        return None
    if type == F_OWNER_PGRP:
        return own(process, type, number)
    return own(process, type, found_thread if type == F_OWNER_TID else found_process)


def set_async(file: File, fd: int, on: bool, process: Process) -> bool:
    """Set or clear O_ASYNC for `file`, open as `fd`; False where it tells nothing. Raises Errno(ENOMEM)."""
    tables = file.fasync()
    if on and any(file not in table and len(table) >= MAX_TOLD for table in tables):
        raise Errno(ENOMEM)
    for table in tables:
        if on:
            table[file] = fd
        else:
            table.pop(file, None)
    if tables:
        file.flags = file.flags | O_ASYNC if on else file.flags & ~O_ASYNC
    if on:
        file.poll()  # what the host is asked for when it is wanted is wanted from now on
    if tables and on and file.tty and (file.io_owner is None or file.io_owner.target is None):
        group = file.foreground_group()
        file.io_owner = own(process, F_OWNER_PGRP, group) if group else own(process, F_OWNER_PID, process)
    return bool(tables)


def kill_fasync(table: Fasync, reason: int) -> None:
    """Tell all of a table: `reason` is POLL_IN, POLL_OUT and so on."""
    for file, fd in tuple(table.items()):
        send_sigio(file, fd, reason)


def send_sigio(file: File, fd: int, reason: int) -> None:
    """Tell the owner of `file`."""
    owner = file.io_owner
    if owner is None:
        return
    plain = SigInfo(abi.SIGIO, SI_KERNEL)
    signo = file.io_signal
    if signo:
        code = SI_SIGIO if signo != abi.SIGIO and abi.OWN_CODES & abi.bit(signo) else reason
        info = SigInfo(signo, code, raw=struct.pack("<ii", _BANDS[reason], fd).ljust(116, b"\0"))
    for target in owner.told():
        if not signo or not send.send_signal(target, info):
            send.send_signal(target, plain)


def send_sigurg(file: File) -> None:
    """Tell the owner of a socket that something urgent came; whether O_ASYNC is set plays no part."""
    if file.io_owner is not None:
        for target in file.io_owner.told():
            send.send_signal(target, SigInfo(abi.SIGURG, SI_KERNEL))

"""Whom a descriptor tells by signals, by which, and of what: owners, leases and directory notices of fcntl(2)."""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.abi import fcntl as abi
from aiopyvm.abi.errno import EACCES, EAGAIN, EINVAL, ENOTDIR, ESRCH, Errno
from aiopyvm.abi.signal import NSIG
from aiopyvm.abi.stat import S_IFDIR, S_IFREG
from aiopyvm.kernel import dnotify
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fsleases import Leases
from aiopyvm.kernel.sigio import find_owner
from aiopyvm.kernel.thread import Thread

_OWNER_EX: Final = struct.Struct("<ii")


def control(t: Thread, file: File, cmd: int, arg: int) -> int:
    """F_SETOWN, F_GETOWN, F_SETOWN_EX, F_GETOWN_EX, F_SETSIG, F_GETSIG. Raises Errno: EINVAL, ESRCH."""
    match cmd:
        case abi.F_SETOWN:
            set_owner(t, file, arg - (arg >> 31 << 32))
        case abi.F_GETOWN:
            return owner_number(file)
        case abi.F_SETOWN_EX:
            kind, number = _OWNER_EX.unpack(t.memory.read(arg, _OWNER_EX.size))
            if kind not in (abi.F_OWNER_TID, abi.F_OWNER_PID, abi.F_OWNER_PGRP):
                raise Errno(EINVAL)
            _set(t, file, kind, number)
        case abi.F_GETOWN_EX:
            owner = file.io_owner
            t.memory.write(arg, _OWNER_EX.pack(*((owner.type, owner.id) if owner is not None else (0, 0))))
        case abi.F_SETSIG:
            if arg > NSIG:
                raise Errno(EINVAL)
            file.io_signal = arg
        case _:
            return file.io_signal
    return 0


def set_owner(t: Thread, file: File, number: int) -> None:
    """F_SETOWN: a process, or the group -`number`. Raises Errno: EINVAL, ESRCH."""
    if number == -(1 << 31):
        raise Errno(EINVAL)
    _set(t, file, abi.F_OWNER_PGRP if number < 0 else abi.F_OWNER_PID, abs(number))


def owner_number(file: File) -> int:
    """F_GETOWN: a group's number negative; 0: nobody, or nobody any more."""
    owner = file.io_owner
    if owner is None:
        return 0
    return -owner.id if owner.type == abi.F_OWNER_PGRP else owner.id


def _set(t: Thread, file: File, kind: int, number: int) -> None:
    owner = find_owner(t.process, kind, number)
    if owner is None:
        raise Errno(ESRCH)
    file.io_owner = owner


def lease(t: Thread, fd: int, file: File, cmd: int, type: int) -> int:
    """F_SETLEASE, F_GETLEASE. Raises Errno: EACCES for another's file, EINVAL, EAGAIN, ENOMEM."""
    inode = file.inode
    leases = inode.leases if inode is not None else None
    if cmd == abi.F_GETLEASE:
        return leases.type_of(file) if leases is not None else abi.F_UNLCK
    if type not in (abi.F_RDLCK, abi.F_WRLCK, abi.F_UNLCK) or inode is None:
        raise Errno(EINVAL)
    if t.credentials.euid and inode.owner_and_mode()[0] != t.fs.uid:
        raise Errno(EACCES)
    if inode.kind != S_IFREG:
        raise Errno(EINVAL)
    if type == abi.F_UNLCK:
        if leases is None:
            raise Errno(EAGAIN)
        leases.drop(file)
        return 0
    if leases is None:
        leases = inode.leases = Leases(t.kernel.clock)
    leases.set(inode, file, fd, type, t.process)
    return 0


def notify(t: Thread, fd: int, file: File, events: int) -> None:
    """F_NOTIFY. Raises Errno: ENOTDIR, ENOMEM."""
    if not events & ~abi.DN_MULTISHOT:
        notice = (file.notices or {}).get(t.process.fds)
        if notice is not None:
            notice.drop()
    elif file.inode is None or file.inode.kind != S_IFDIR:
        raise Errno(ENOTDIR)
    else:
        dnotify.notify(t.process, file, fd, file.inode, events)

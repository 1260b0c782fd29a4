"""Descriptors: close(2), dup(2), fcntl(2) with record locks, flock(2)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any, NamedTuple

from aiopyvm.abi import fcntl as abi
from aiopyvm.abi.errno import EAGAIN, EBADF, EINVAL, EOVERFLOW, Errno
from aiopyvm.abi.fcntl import (
    CLOSE_RANGE_CLOEXEC,
    CLOSE_RANGE_UNSHARE,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETLK,
    F_GETLK64,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_RDLCK,
    F_SETFD,
    F_SETLK,
    F_SETLK64,
    F_SETLKW,
    F_SETLKW64,
    F_UNLCK,
    F_WRLCK,
    FD_CLOEXEC,
    LOCK_EX,
    LOCK_NB,
    LOCK_SH,
    LOCK_UN,
    O_ASYNC,
    O_CLOEXEC,
    O_DIRECT,
    O_PATH,
    SETFL_MASK,
)
from aiopyvm.abi.layout import Codec, codec_of, layout
from aiopyvm.kernel import sigio
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fsfile import RegularFile
from aiopyvm.kernel.fslocks import END, Blocked, Locks, Record, check_deadlock
from aiopyvm.kernel.packetpipe import PacketEnd
from aiopyvm.kernel.pipe import PipeEnd
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Restart, Wait
from aiopyvm.syscalls import owners
from aiopyvm.syscalls.files import OpenFlags, inode_of
from aiopyvm.syscalls.spec import U32, Choice, Fd, Flags, Hex, syscall
from aiopyvm.syscalls.steps import call_of
from aiopyvm.syscalls.transfer import open_file

Command = Annotated[
    int,
    Choice({name: value for name, value in vars(abi).items() if name.startswith("F_") and not name.endswith("LCK")}),
]
FlockFlags = Annotated[int, Flags({"LOCK_SH": LOCK_SH, "LOCK_EX": LOCK_EX, "LOCK_NB": LOCK_NB, "LOCK_UN": LOCK_UN})]


# --- close and dup ----------------------------------------------------------------------------------------------------


@syscall(6, "close", man="close(2)")
def close(t: Thread, fd: Fd) -> int:
    """Close a descriptor."""
    t.process.fds.close(fd)
    return 0


@syscall(436, "close_range", man="close_range(2)")
def close_range(t: Thread, first: U32, last: U32, flags: U32) -> int:
    """Close (or mark FD_CLOEXEC) all descriptors from `first` to `last`."""
    if first > last or flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC):
        raise Errno(EINVAL)
    process = t.process
    if flags & CLOSE_RANGE_UNSHARE and process.fds.refs > 1:
        shared, process.fds = process.fds, process.fds.fork()
        shared.release()
    for fd, _ in process.fds:
        if first <= fd <= last:
            if flags & CLOSE_RANGE_CLOEXEC:
                process.fds.set_cloexec(fd, True)
            else:
                process.fds.close(fd)
    return 0


@syscall(41, "dup", man="dup(2)")
def dup(t: Thread, oldfd: Fd) -> int:
    """Give a file a second descriptor."""
    return t.process.fds.install(t.process.fds.get_any(oldfd))


@syscall(63, "dup2", man="dup(2)")
def dup2(t: Thread, oldfd: Fd, newfd: Fd) -> int:
    """Make `newfd` refer to the file of `oldfd`."""
    file = t.process.fds.get_any(oldfd)
    if oldfd != newfd:
        t.process.fds.install_at(newfd, file)
    return newfd


@syscall(330, "dup3", man="dup(2)")
def dup3(t: Thread, oldfd: Fd, newfd: Fd, flags: OpenFlags) -> int:
    """Like dup2, with O_CLOEXEC."""
    if flags & ~O_CLOEXEC or oldfd == newfd:
        raise Errno(EINVAL)
    t.process.fds.install_at(newfd, t.process.fds.get_any(oldfd), cloexec=bool(flags & O_CLOEXEC))
    return newfd


# --- fcntl ------------------------------------------------------------------------------------------------------------


@syscall(55, "fcntl", man="fcntl(2)")
def fcntl(t: Thread, fd: Fd, cmd: Command, arg: Hex) -> int | Wait:
    """Manipulate a descriptor; locks have 32-bit offsets."""
    if cmd in (F_GETLK64, F_SETLK64, F_SETLKW64, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW):
        raise Errno(EINVAL)
    return fcntl64(t, fd, cmd, arg)


@syscall(221, "fcntl64", man="fcntl(2)")
def fcntl64(t: Thread, fd: Fd, cmd: Command, arg: Hex) -> int | Wait:
    """Manipulate a descriptor."""
    file = t.process.fds.get_any(fd)
    if file.flags & O_PATH and cmd not in (F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL):
        raise Errno(EBADF)
    if cmd in _LOCK_COMMANDS:
        return _record_lock(t, open_file(t, fd), cmd, arg)
    return _control(t, fd, file, cmd, arg)


def _control(t: Thread, fd: int, file: File, cmd: int, arg: int) -> int:
    fds = t.process.fds
    match cmd:
        case 0 | 1030:  # F_DUPFD, F_DUPFD_CLOEXEC
            return fds.install(file, arg if arg < 1 << 31 else -1, cloexec=cmd == F_DUPFD_CLOEXEC)
        case abi.F_GETFD:
            return FD_CLOEXEC if fds.cloexec(fd) else 0
        case abi.F_SETFD:
            fds.set_cloexec(fd, bool(arg & FD_CLOEXEC))
        case abi.F_GETFL:
            return file.flags
        case abi.F_SETFL:
            if arg & O_DIRECT and not isinstance(file, (RegularFile, PacketEnd)):
                raise Errno(EINVAL)
            if (arg ^ file.flags) & O_ASYNC:
                sigio.set_async(file, fd, bool(arg & O_ASYNC), t.process)
            file.flags = file.flags & ~SETFL_MASK | arg & SETFL_MASK
        case abi.F_GETPIPE_SZ if isinstance(file, PipeEnd):
            return file.pipe.capacity
        case abi.F_SETPIPE_SZ if isinstance(file, PipeEnd):
            return file.pipe.resize(arg)
        case abi.F_GETPIPE_SZ | abi.F_SETPIPE_SZ:
            raise Errno(EBADF)
        case abi.F_SETOWN | abi.F_GETOWN | abi.F_SETOWN_EX | abi.F_GETOWN_EX | abi.F_SETSIG | abi.F_GETSIG:
            return owners.control(t, file, cmd, arg)
        case abi.F_SETLEASE | abi.F_GETLEASE:
            return owners.lease(t, fd, file, cmd, arg)
        case abi.F_NOTIFY:
            owners.notify(t, fd, file, arg)
        case _:
            raise Errno(EINVAL)
    return 0


# --- record locks -----------------------------------------------------------------------------------------------------


@layout("<hhiii")
class Flock32(NamedTuple):
    """struct flock of i386."""

    type: int
    whence: int
    start: int
    len: int
    pid: int


@layout("<hhqqi")
class Flock64(NamedTuple):
    """struct flock64 of i386."""

    type: int
    whence: int
    start: int
    len: int
    pid: int


_LOCK_COMMANDS = {
    F_GETLK, F_SETLK, F_SETLKW, F_GETLK64, F_SETLK64, F_SETLKW64, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
}  # fmt: skip


def _record_lock(t: Thread, file: File, cmd: int, address: int) -> int | Wait:
    narrow = cmd in (F_GETLK, F_SETLK, F_SETLKW)
    codec: Codec[Any] = codec_of(Flock32) if narrow else codec_of(Flock64)
    lock: Flock32 | Flock64 = codec.unpack(t.memory.read(address, codec.size))
    open_lock = cmd in (F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
    if open_lock and lock.pid:
        raise Errno(EINVAL)
    owner: Hashable = file if open_lock else t.process.fds
    start, end = _range(file, lock)
    request = Record(start, end, lock.type, owner, -1 if open_lock else t.process.pid)
    inode = inode_of(file)
    if inode.locks is None:
        inode.locks = Locks(t.kernel.vfs.budget)
    if cmd in (F_GETLK, F_GETLK64, F_OFD_GETLK):
        if lock.type not in (F_RDLCK, F_WRLCK):
            raise Errno(EINVAL)
        found = inode.locks.conflict(request)
        answer = _answer(lock, found, narrow=narrow)
        t.memory.write(address, codec.pack(answer))
        return 0
    if lock.type not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise Errno(EINVAL)
    if (lock.type == F_RDLCK and not file.readable) or (lock.type == F_WRLCK and not file.writable):
        raise Errno(EBADF)
    return _set_lock(t, inode.locks, request, wait=cmd in (F_SETLKW, F_SETLKW64, F_OFD_SETLKW))


def _set_lock(t: Thread, locks: Locks, request: Record, *, wait: bool) -> int | Wait:
    blocked = t.kernel.vfs.blocked_locks
    blocked.pop(request.owner, None)
    try:
        locks.set(request)
    except Errno as error:
        if error.number != EAGAIN or not wait:
            raise
    else:
        return 0
    for owner, waiting in list(blocked.items()):
        if waiting.thread.call is not waiting.call:
            del blocked[owner]
    check_deadlock(locks, request, blocked)
    blocked[request.owner] = Blocked(locks, request, call_of(t), t)
    return Wait((locks.queue,), reason="a record lock")


def _range(file: File, lock: Flock32 | Flock64) -> tuple[int, int]:
    """Return the absolute (start, end) of a lock. Raises Errno: EINVAL, EOVERFLOW."""
    if lock.whence == abi.SEEK_SET:
        base = 0
    elif lock.whence == abi.SEEK_CUR:
        base = file.offset
    elif lock.whence == abi.SEEK_END:
        base = file.stat().size
    else:
        raise Errno(EINVAL)
    start = base + lock.start
    end = start + lock.len if lock.len else END
    if lock.len < 0:
        start, end = end, start
    if start < 0:
        raise Errno(EINVAL)
    if start >= END or end > END:
        raise Errno(EOVERFLOW)
    return start, end


def _answer(lock: Flock32 | Flock64, found: Record | None, *, narrow: bool) -> Flock32 | Flock64:
    if found is None:
        return lock._replace(type=F_UNLCK)
    length = 0 if found.end == END else found.end - found.start
    if narrow and max(found.start, length) > 0x7FFFFFFF:
        raise Errno(EOVERFLOW)
    return lock._replace(type=found.type, whence=abi.SEEK_SET, start=found.start, len=length, pid=found.pid)


@syscall(143, "flock", man="flock(2)")
def flock(t: Thread, fd: Fd, operation: FlockFlags) -> int | Wait:
    """Take or drop a BSD lock."""
    kind = operation & ~LOCK_NB
    if kind not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise Errno(EINVAL)
    file = open_file(t, fd)
    inode = inode_of(file)
    if inode.locks is None:
        inode.locks = Locks(t.kernel.vfs.budget)
    if kind == LOCK_UN:
        inode.locks.unflock(file)
        return 0
    try:
        inode.locks.flock(file, kind)
    except Errno as error:
        if error.number != EAGAIN or operation & LOCK_NB:
            raise
        return Wait((inode.locks.queue,), restart=Restart.SYS, reason="a file lock")
    return 0

"""What one process may do with another's memory and objects: process_vm_readv(2), kcmp(2), unshare(2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from aiopyvm.abi import clone
from aiopyvm.abi.errno import EBADF, EINVAL, EPERM, ESRCH, Errno
from aiopyvm.kernel.process import Life, Process
from aiopyvm.kernel.ptrace import may_look_into
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE
from aiopyvm.syscalls.atonce import PIECE
from aiopyvm.syscalls.spec import I32, U32, Choice, Flags, Hex, InIovec, Iovec, OutIovec, Pid, Ptr, syscall
from aiopyvm.syscalls.transfer import STEP, Segments

CloneFlags = Annotated[int, Flags(clone.NAMES)]


def _peer(t: Thread, pid: int) -> Process:
    """Return a living process that `t` may look into. Raises Errno: ESRCH, EPERM."""
    thread = t.kernel.threads.get(pid)
    process = thread.process if thread is not None else t.kernel.find_process(pid)
    if process is None or process.life is not Life.ALIVE:
        raise Errno(ESRCH)
    if not may_look_into(t.process, process):
        raise Errno(EPERM)
    return process


# --- memory -----------------------------------------------------------------------------------------------------------


@syscall(347, "process_vm_readv", man="process_vm_readv(2)", note="at most 1 MiB is moved by one call")
def process_vm_readv(t: Thread, pid: Pid, local: OutIovec, liovcnt: U32, remote: Ptr, riovcnt: U32, flags: Hex) -> int:
    """Copy memory of another process."""
    return _copy(t, pid, local, Iovec(t, remote, riovcnt), flags, from_peer=True)


@syscall(348, "process_vm_writev", man="process_vm_readv(2)", note="at most 1 MiB is moved by one call")
def process_vm_writev(t: Thread, pid: Pid, local: InIovec, liovcnt: U32, remote: Ptr, riovcnt: U32, flags: Hex) -> int:
    """Copy memory into another process."""
    return _copy(t, pid, local, Iovec(t, remote, riovcnt), flags, from_peer=False)


def _copy(t: Thread, pid: int, local: Iovec, remote: Iovec, flags: int, *, from_peer: bool) -> int:
    if flags:
        raise Errno(EINVAL)
    here, there = local.get(), remote.get()
    if not sum(length for _, length in here) or not there:
        return 0
    peer = _peer(t, pid)
    pairs = _pairs(here, there)
    done = 0
    for mine, theirs, length in pairs:
        try:
            _move(t, peer, mine, theirs, length, from_peer=from_peer)
        except MemoryFault as fault:
            if fault.out_of_memory:
                raise
            before = _pages_before(t, peer, mine, theirs, length, from_peer=from_peer)
            if not done + before:
                raise
            return done + before
        done += length
    t.moved += done
    return done


def _pairs(here: Segments, there: Segments) -> Iterator[tuple[int, int, int]]:
    """Pair (local address, remote address, length) pieces of at most PIECE bytes, STEP in all."""
    local, left = iter(here), STEP
    base, room = next(local, (0, 0))
    for address, length in there:
        while length and left:
            while not room:
                if (following := next(local, None)) is None:
                    return
                base, room = following
            n = min(length, room, PIECE, left)
            yield base, address, n
            base, room, address, length, left = base + n, room - n, address + n, length - n, left - n


def _move(t: Thread, peer: Process, mine: int, theirs: int, length: int, *, from_peer: bool) -> None:
    if from_peer:
        t.memory.write(mine, peer.memory.read(theirs, length))
    else:
        peer.memory.write(theirs, t.memory.read(mine, length))


def _pages_before(t: Thread, peer: Process, mine: int, theirs: int, length: int, *, from_peer: bool) -> int:
    """Move the pages before the one that faults; return their bytes."""
    done = 0
    try:
        while done < length:
            n = min(length - done, PAGE - (theirs + done) % PAGE)
            _move(t, peer, mine + done, theirs + done, n, from_peer=from_peer)
            done += n
    except MemoryFault as fault:
        if fault.out_of_memory:
            raise
    return done


# --- comparing --------------------------------------------------------------------------------------------------------

KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM, KCMP_EPOLL_TFD = range(8)
KcmpType = Annotated[
    int,
    Choice({
        KCMP_FILE: "KCMP_FILE", KCMP_VM: "KCMP_VM", KCMP_FILES: "KCMP_FILES", KCMP_FS: "KCMP_FS",
        KCMP_SIGHAND: "KCMP_SIGHAND", KCMP_IO: "KCMP_IO", KCMP_SYSVSEM: "KCMP_SYSVSEM",
        KCMP_EPOLL_TFD: "KCMP_EPOLL_TFD",
    }),
]  # fmt: skip


@syscall(349, "kcmp", man="kcmp(2)", note="KCMP_EPOLL_TFD is refused")
def kcmp(t: Thread, pid1: Pid, pid2: Pid, type: KcmpType, idx1: U32, idx2: U32) -> int:
    """Whether two processes share something: 0, or an order (1, 2)."""
    one, other = _peer(t, pid1), _peer(t, pid2)
    a: object
    b: object
    match type:
        case 0:
            a, b = one.fds.find(_as_fd(idx1)), other.fds.find(_as_fd(idx2))
            if a is None or b is None:
                raise Errno(EBADF)
        case 1:
            a, b = one.mm, other.mm
        case 2:
            a, b = one.fds, other.fds
        case 3:
            a, b = one.fs, other.fs
        case 4:
            a, b = one.actions, other.actions
        case 5 | 6:
            a, b = one, other
        case _:
            raise Errno(EINVAL)
    return 0 if a is b else 1 + (one.pid > other.pid)


def _as_fd(value: int) -> int:
    return value if value < 0x80000000 else -1


# --- membarrier, unshare ----------------------------------------------------------------------------------------------

_QUERY: Final = 0
_PRIVATE: Final = 8
_REGISTER_PRIVATE: Final = 16
MEMBARRIER_SUPPORTED: Final = 0x1F  # GLOBAL, GLOBAL_EXPEDITED, PRIVATE_EXPEDITED and their registrations


@syscall(375, "membarrier", man="membarrier(2)", note="no SYNC_CORE and RSEQ forms")
def membarrier(t: Thread, cmd: I32, flags: Hex, cpu_id: I32) -> int:
    """A barrier on all threads: guests of one machine never run at the same time, so it holds at once."""
    if flags:
        raise Errno(EINVAL)
    if cmd == _QUERY:
        return MEMBARRIER_SUPPORTED
    if cmd < 0 or cmd.bit_count() != 1 or not cmd & MEMBARRIER_SUPPORTED:
        raise Errno(EINVAL)
    if cmd == _PRIVATE and not t.process.mm.barriers:
        raise Errno(EPERM)
    if cmd == _REGISTER_PRIVATE:
        t.process.mm.barriers = True
    return 0


@syscall(310, "unshare", man="unshare(2)", note="no namespaces")
def unshare(t: Thread, flags: CloneFlags) -> int:
    """Stop sharing descriptors or the working directory with other processes."""
    mine = clone.CLONE_FILES | clone.CLONE_FS | clone.CLONE_SYSVSEM
    threads = clone.CLONE_THREAD | clone.CLONE_SIGHAND | clone.CLONE_VM
    if flags & ~(mine | threads | clone.CLONE_NEW):
        raise Errno(EINVAL)
    process = t.process
    if flags & threads and (len(process.threads) > 1 or process.mm.users > 1):
        raise Errno(EINVAL)
    if flags & clone.CLONE_NEW:
        raise Errno(EPERM)
    if flags & clone.CLONE_FILES and process.fds.refs > 1:
        shared, process.fds = process.fds, process.fds.fork()
        shared.release()
    if flags & clone.CLONE_FS:
        t.fs = t.fs.clone(process)
        if t.tid == process.pid:
            process.fs = t.fs
    return 0

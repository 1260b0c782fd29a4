"""Making pipes (pipe(2)); their ends are files like any other."""

from __future__ import annotations

from typing import NamedTuple

from aiopyvm.abi.errno import EINVAL, Errno
from aiopyvm.abi.fcntl import O_CLOEXEC, O_DIRECT, O_NONBLOCK
from aiopyvm.abi.layout import layout
from aiopyvm.kernel.packetpipe import make_packet_pipe
from aiopyvm.kernel.pipe import make_pipe
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.files import OpenFlags
from aiopyvm.syscalls.spec import Out, syscall


@layout("<ii")
class FdPair(NamedTuple):
    """The int pipefd[2] of pipe(2)."""

    read: int
    write: int


@syscall(42, "pipe", man="pipe(2)")
def pipe(t: Thread, fds: Out[FdPair]) -> int:
    """Make a pipe."""
    return _pipe(t, fds, 0)


@syscall(331, "pipe2", man="pipe(2)", note="O_DIRECT holds for good, for what splice(2) moves too")
def pipe2(t: Thread, fds: Out[FdPair], flags: OpenFlags) -> int:
    """Make a pipe with O_CLOEXEC, O_NONBLOCK or O_DIRECT."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT):
        raise Errno(EINVAL)
    return _pipe(t, fds, flags)


def _pipe(t: Thread, fds: Out[FdPair], flags: int) -> int:
    table = t.process.fds
    cloexec = bool(flags & O_CLOEXEC)
    number = t.kernel.vfs.next_pipe_number()
    make = make_packet_pipe if flags & O_DIRECT else make_pipe
    reader, writer = make(t.kernel.budget, flags=flags & O_NONBLOCK, number=number)
    now = t.kernel.clock.realtime_ns()
    reader.change(uid=t.fs.uid, gid=t.fs.gid, atime=now, mtime=now, ctime=now)
    reader.hold()
    writer.hold()
    given: list[int] = []
    try:
        for end in (reader, writer):
            t.kernel.take_file(end)
        given.append(table.install(reader, cloexec=cloexec))
        given.append(table.install(writer, cloexec=cloexec))
        fds.put(FdPair(*given))
    except (Errno, MemoryFault):
        for fd in given:
            table.close(fd)
        raise
    finally:
        reader.release()
        writer.release()
    return 0

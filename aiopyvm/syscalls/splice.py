"""Moving bytes through pipes: splice(2), tee(2), vmsplice(2).

As on Linux a move into a pipe takes what there is room for and is over; a move out of one goes on until the pipe is
empty. Bytes are moved, pages are not: what is written to the source afterwards does not show in the pipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from aiopyvm.abi.errno import EAGAIN, EBADF, EINVAL, EPIPE, ESPIPE, Errno
from aiopyvm.abi.fcntl import MAX_RW_COUNT, O_APPEND, O_NONBLOCK
from aiopyvm.abi.poll import POLLIN, POLLOUT
from aiopyvm.abi.stat import S_IFDIR
from aiopyvm.kernel.file import AnonymousFile, File
from aiopyvm.kernel.pipe import Pipe, PipeEnd
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import FileWait, Wait
from aiopyvm.syscalls.atonce import PIECE, READABLE, WRITABLE
from aiopyvm.syscalls.spec import I64, Fd, Flags, InIovec, InOut, Size, syscall
from aiopyvm.syscalls.steps import again, call_of
from aiopyvm.syscalls.transfer import STEP, fill, gather, length_of, open_file, raise_signal, segments_of, writer

SPLICE_F_NONBLOCK: Final = 2
_NAMES: Final = {1: "SPLICE_F_MOVE", 2: "SPLICE_F_NONBLOCK", 4: "SPLICE_F_MORE", 8: "SPLICE_F_GIFT"}
SpliceFlags = Annotated[int, Flags(_NAMES)]


@syscall(313, "splice", man="splice(2)")
def splice(
    t: Thread, fd_in: Fd, off_in: InOut[I64], fd_out: Fd, off_out: InOut[I64], length: Size, flags: SpliceFlags
) -> int | Wait:
    """Move bytes from a pipe or into a pipe."""
    if not length:
        return 0
    if flags & ~sum(_NAMES):
        raise Errno(EINVAL)
    source, target = open_file(t, fd_in), open_file(t, fd_out)
    open_file(t, fd_in, READABLE), open_file(t, fd_out, WRITABLE)
    from_pipe, to_pipe = isinstance(source, PipeEnd), isinstance(target, PipeEnd)
    if (from_pipe and off_in) or (to_pipe and off_out):
        raise Errno(ESPIPE)
    length = min(length, MAX_RW_COUNT)
    if isinstance(source, PipeEnd):
        if isinstance(target, PipeEnd):
            return _between(t, source, target, length, flags, keep=False)
        return _out(t, source, target, off_out, length, flags)
    if isinstance(target, PipeEnd):
        return _into(t, source, target, off_in, length, flags)
    raise Errno(EINVAL)


@syscall(315, "tee", man="tee(2)")
def tee(t: Thread, fd_in: Fd, fd_out: Fd, length: Size, flags: SpliceFlags) -> int | Wait:
    """Copy bytes of a pipe into another; they stay in the first."""
    if flags & ~sum(_NAMES):
        raise Errno(EINVAL)
    if not length:
        return 0
    source, target = open_file(t, fd_in, READABLE), open_file(t, fd_out, WRITABLE)
    if not isinstance(source, PipeEnd) or not isinstance(target, PipeEnd):
        raise Errno(EINVAL)
    return _between(t, source, target, length, flags, keep=True)


# --- one way or the other ---------------------------------------------------------------------------------------------


def _patient(flags: int, *ends: File) -> bool:
    return not flags & SPLICE_F_NONBLOCK and not any(end.flags & O_NONBLOCK for end in ends)


def _need_reader(t: Thread, pipe: Pipe) -> None:
    """Raise Errno(EPIPE), and SIGPIPE, where nobody reads any more."""
    if not pipe.readers:
        raise_signal(t, EPIPE)
        raise Errno(EPIPE)


def _between(t: Thread, source: PipeEnd, target: PipeEnd, length: int, flags: int, *, keep: bool) -> int | Wait:
    pipe, to = source.pipe, target.pipe
    if pipe is to:
        raise Errno(EINVAL)
    if not pipe.size:
        if not pipe.writers:
            return 0
        if not _patient(flags, source, target):
            raise Errno(EAGAIN)
        return FileWait(source, POLLIN, "to read")
    _need_reader(t, to)
    if to.full:
        if not _patient(flags, source, target):
            raise Errno(EAGAIN)
        return FileWait(target, POLLOUT, "to write")
    n = min(length, pipe.size, to.room)
    data = pipe.peek(n)
    moved = to.write(data)
    if not keep:
        pipe.read(moved)
    t.moved += moved
    return moved


def _into(t: Thread, source: File, pipe_end: PipeEnd, offset: InOut[I64], length: int, flags: int) -> int | Wait:
    """Move what there is room for out of a file that is no pipe."""
    if isinstance(source, AnonymousFile) or (source.inode is not None and source.inode.kind == S_IFDIR):
        raise Errno(EINVAL)
    if offset and not source.seekable:
        raise Errno(EINVAL)
    pipe = pipe_end.pipe
    start = offset.get() if offset else source.offset
    if start < 0:
        raise Errno(EINVAL)
    _need_reader(t, pipe)
    if pipe.full:
        if not _patient(flags, pipe_end):
            raise Errno(EAGAIN)
        return FileWait(pipe_end, POLLOUT, "to write")
    n = min(length, pipe.room)
    try:
        data = source.pread(n, start) if offset else source.read(n)
    except Errno as error:
        if error.number != EAGAIN or not _patient(flags, source):
            raise
        return FileWait(source, POLLIN, "to read")
    moved = pipe.write(data) if data else 0
    if offset:
        offset.put(start + moved)
    elif moved < len(data):
        source.unread(data[moved:])
    t.moved += moved
    return moved


def _out(t: Thread, pipe_end: PipeEnd, target: File, offset: InOut[I64], length: int, flags: int) -> int | Wait:
    """Move what is in a pipe into a file that is none."""
    call = call_of(t)
    if target.flags & O_APPEND or (offset and not target.seekable):
        raise Errno(EINVAL)
    start = call.state.setdefault("start", offset.get() if offset else None)
    if start is not None and start < 0:
        raise Errno(EINVAL)
    put = writer(t, target, start)
    result = _empty(t, pipe_end, target, put, length, flags)
    if start is not None and call.done:
        offset.put(start + call.done)
    return result


def _empty(
    t: Thread, pipe_end: PipeEnd, target: File, put: Callable[[bytes], int], length: int, flags: int
) -> int | Wait:
    call, pipe = call_of(t), pipe_end.pipe
    step = 0
    while call.done < length:
        data = pipe.peek(min(length - call.done, PIECE))
        if not data:
            break
        try:
            n = put(data)
        except Errno as error:
            if call.done:
                return call.done
            if error.number != EAGAIN or not _patient(flags, target):
                raise
            return FileWait(target, POLLOUT, "to write")
        pipe.read(n)
        call.done += n
        t.moved += n
        step += n
        if step >= STEP and call.done < length:
            return again(t)
    if call.done or not pipe.writers:
        return call.done
    if not _patient(flags, pipe_end):
        raise Errno(EAGAIN)
    return FileWait(pipe_end, POLLIN, "to read")


# --- vmsplice ---------------------------------------------------------------------------------------------------------


@syscall(316, "vmsplice", man="vmsplice(2)")
def vmsplice(t: Thread, fd: Fd, iov: InIovec, nr_segs: Size, flags: SpliceFlags) -> int | Wait:
    """Move memory into a pipe, or a pipe's bytes into memory."""
    if flags & ~sum(_NAMES):
        raise Errno(EINVAL)
    end = open_file(t, fd)
    if not isinstance(end, PipeEnd):
        raise Errno(EBADF)
    segments = segments_of(t, iov)
    total = length_of(segments)
    if not total:
        return 0
    if not end.writable:
        if not end.pipe.size and end.pipe.writers and not _patient(flags, end):
            raise Errno(EAGAIN)
        return fill(t, end, segments, end.lend)
    _need_reader(t, end.pipe)
    if end.pipe.full:
        if not _patient(flags, end):
            raise Errno(EAGAIN)
        return FileWait(end, POLLOUT, "to write")
    data = gather(t, segments, 0)
    t.moved += len(data)
    return end.pipe.write(data)

"""Moving bytes from file to file: sendfile(2) and copy_file_range(2). How, is told in `transfer.py`."""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.abi.errno import EBADF, EINVAL, EISDIR, EOVERFLOW, Errno
from aiopyvm.abi.fcntl import MAX_FILE_SIZE, MAX_RW_COUNT, O_APPEND
from aiopyvm.abi.stat import S_IFDIR, S_IFREG
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fsfile import RegularFile
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.syscalls.atonce import PIECE, READABLE, WRITABLE
from aiopyvm.syscalls.spec import I32, I64, U32, Fd, InOut, Size, syscall
from aiopyvm.syscalls.steps import call_of
from aiopyvm.syscalls.transfer import open_file, pass_on, writer


def _transfer(t: Thread, source: File, start: int, target: File, put: Callable[[bytes], int], count: int) -> int | Wait:
    """Move `count` bytes of a regular file from `start` on into `target`; return the count, or wait for room."""

    def take(done: int) -> bytes:
        return source.pread(min(count - done, PIECE), start + done)

    return pass_on(t, take, count, target, put) if count else 0


def _sendfile(
    t: Thread, out_fd: int, in_fd: int, offset: InOut[I32] | InOut[I64], count: int, limit: int
) -> int | Wait:
    call = call_of(t)
    source = open_file(t, in_fd, READABLE)
    if "start" not in call.state:
        start = call.state["start"] = offset.get() if offset else source.offset
        if start < 0:
            raise Errno(EINVAL)
    start = call.state["start"]
    target = open_file(t, out_fd, WRITABLE)
    if not isinstance(source, RegularFile) or target.flags & O_APPEND:
        raise Errno(EINVAL)
    if start > limit:
        raise Errno(EOVERFLOW)
    result = _transfer(t, source, start, target, writer(t, target), min(count, MAX_RW_COUNT))
    if offset:
        offset.put(start + call.done)
    else:
        source.offset = start + call.done
    return result


@syscall(187, "sendfile", man="sendfile(2)")
def sendfile(t: Thread, out_fd: Fd, in_fd: Fd, offset: InOut[I32], count: Size) -> int | Wait:
    """Move bytes of a regular file into another file."""
    return _sendfile(t, out_fd, in_fd, offset, count, 0x7FFFFFFF)


@syscall(239, "sendfile64", man="sendfile(2)")
def sendfile64(t: Thread, out_fd: Fd, in_fd: Fd, offset: InOut[I64], count: Size) -> int | Wait:
    """Move bytes of a regular file into another file, with a 64-bit offset."""
    return _sendfile(t, out_fd, in_fd, offset, count, MAX_FILE_SIZE)


def _regular(file: File) -> RegularFile:
    if file.inode is not None and file.inode.kind == S_IFDIR:
        raise Errno(EISDIR)
    if not isinstance(file, RegularFile) or file.inode is None or file.inode.kind != S_IFREG:
        raise Errno(EINVAL)
    return file


@syscall(377, "copy_file_range", man="copy_file_range(2)")
def copy_file_range(
    t: Thread, fd_in: Fd, off_in: InOut[I64], fd_out: Fd, off_out: InOut[I64], length: Size, flags: U32
) -> int | Wait:
    """Copy a range of one regular file into another."""
    call = call_of(t)
    source, target = open_file(t, fd_in), open_file(t, fd_out)
    if flags:
        raise Errno(EINVAL)
    reader, sink = _regular(source), _regular(target)
    reader.need_readable()
    sink.need_writable()
    if sink.flags & O_APPEND:
        raise Errno(EBADF)
    if "starts" not in call.state:
        starts = (off_in.get() if off_in else reader.offset, off_out.get() if off_out else sink.offset)
        if min(starts) < 0:
            raise Errno(EINVAL)
        length = min(length, MAX_RW_COUNT, max(0, reader.content.size - starts[0]))
        if reader.inode is sink.inode and abs(starts[0] - starts[1]) < length:
            raise Errno(EINVAL)
        call.state["starts"], call.state["length"] = starts, length
    start_in, start_out = call.state["starts"]
    result = _transfer(t, reader, start_in, sink, writer(t, sink, start_out), call.state["length"])
    for pointer, file, start in ((off_in, reader, start_in), (off_out, sink, start_out)):
        if pointer:
            pointer.put(start + call.done)
        else:
            file.offset = start + call.done
    return result

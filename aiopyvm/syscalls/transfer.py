"""Moving bytes between files and memory: read(2), write(2) and their vectored and positioned forms.

How it works. `Call.done` counts the bytes that are through; a continued call goes on behind them. One step moves at
most STEP bytes, then the call lets others run (`again`). As on Linux a fault or an error after the first byte ends
the call with the partial count, and bytes that the guest's memory could not take are put back into the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiopyvm.abi.errno import EAGAIN, EBADF, EFAULT, EFBIG, EINVAL, EISDIR, EOPNOTSUPP, EPIPE, ESPIPE, Errno
from aiopyvm.abi.fcntl import (
    MAX_FILE_SIZE,
    MAX_RW_COUNT,
    O_ACCMODE,
    O_APPEND,
    O_NONBLOCK,
)
from aiopyvm.abi.poll import POLLIN, POLLOUT
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_FSIZE
from aiopyvm.abi.signal import SIGPIPE, SIGXFSZ, SigInfo
from aiopyvm.abi.stat import S_IFDIR
from aiopyvm.kernel.file import File, Unfinished
from aiopyvm.kernel.fsfile import RegularFile
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import FileWait, Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.atonce import PIECE, READABLE, WRITABLE, read_at_once, write_at_once
from aiopyvm.syscalls.spec import (
    I32,
    I64,
    Fd,
    Hex,
    InBuffer,
    InIovec,
    Iovec,
    OutBuffer,
    OutIovec,
    Size,
    syscall,
)
from aiopyvm.syscalls.steps import PIECE_COST, again, call_of

STEP = 1 << 20  # bytes moved before others get their turn

Segments = Sequence[tuple[int, int]]  # (address, length)

_ANY = frozenset(range(O_ACCMODE + 1))


def open_file(t: Thread, fd: int, modes: frozenset[int] = _ANY) -> File:
    """Return the file of `fd`, in a continued call the one it began with.

    Raises Errno(EBADF), also where its access mode is none of `modes`.
    """
    call = t.call
    assert call is not None
    files = call.files
    if files is None or (file := files.get(fd)) is None:
        file = t.process.fds.get(fd)
        if files is None:
            call.files = {fd: file}
        else:
            files[fd] = file
    elif not file.refs:
        raise Errno(EBADF)
    if file.flags & O_ACCMODE not in modes:
        raise Errno(EBADF)
    return file


def length_of(segments: Segments) -> int:
    """Return the bytes of all segments."""
    if len(segments) == 1:
        return segments[0][1]
    return sum(length for _, length in segments)


# --- into memory ------------------------------------------------------------------------------------------------------


def fill(t: Thread, file: File, segments: Segments, read: Callable[[int], bytes | memoryview | None]) -> int | Wait:
    """Move what `read(n)` gives into `segments`; return the count, or wait for the first byte."""
    call = t.call
    assert call is not None
    single = len(segments) == 1
    total = length_of(segments)
    if file.tty:
        from aiopyvm.syscalls.terminals import read_terminal  # at the first use: most programs have no terminal

        if (result := read_terminal(t, file, total, lambda data: scatter(t, segments, call.done, data))) is not None:
            return result
    step = 0
    while True:
        left = total - call.done
        try:
            data = read(left if left < PIECE else PIECE)
        except Unfinished:
            t.moved += PIECE_COST
            return again(t)
        except Errno as error:
            if error.number != EAGAIN and not call.done:
                raise
            data = None
        if data is None:
            if call.done:
                return call.done
            if file.flags & O_NONBLOCK:
                raise Errno(EAGAIN)
            return FileWait(file, POLLIN, "to read", segments[0] if single else None)
        n = len(data)
        taken = _store(t, segments[0][0] + call.done, data) if single else scatter(t, segments, call.done, data)
        if taken < n:
            taken -= taken % file.unit
        call.done += taken
        t.moved += taken
        if taken < n:
            file.unread(bytes(data[taken:]))
            if call.done:
                return call.done
            raise Errno(EFAULT)
        if n < PIECE or call.done >= total or not (file.seekable or file.endless):
            return call.done
        step += taken
        if step >= STEP:
            return again(t)


def scatter(t: Thread, segments: Segments, skip: int, data: bytes | memoryview) -> int:
    """Store `data` into `segments` behind their first `skip` bytes; return how many until a fault."""
    at = 0
    for address, length in segments:
        if skip >= length:
            skip -= length
            continue
        piece = data[at : at + length - skip]
        stored = _store(t, address + skip, piece)
        at += stored
        if stored < len(piece) or at >= len(data):
            break
        skip = 0
    return at


def _store(t: Thread, address: int, data: bytes | memoryview) -> int:
    """Store `data` at an address; return how many bytes until a fault."""
    try:
        t.memory.write(address, data)
    except MemoryFault as fault:
        if fault.out_of_memory:
            raise
        return _written_before(t, address, data, fault)
    return len(data)


def _written_before(t: Thread, start: int, piece: bytes | memoryview, fault: MemoryFault) -> int:
    n = max(0, min(fault.address - start, len(piece)))
    if n:
        t.memory.write(start, piece[:n])
    return n


# --- out of memory ----------------------------------------------------------------------------------------------------


def drain(t: Thread, file: File, segments: Segments, write: Callable[[bytes], int]) -> int | Wait:
    """Give the bytes of `segments` to `write`; return the count, or wait for room. EPIPE comes with SIGPIPE."""
    total = length_of(segments)
    if file.tty and (held := _hold_writer(t, file)) is not None:
        return held

    def take(done: int) -> bytes:
        data = gather(t, segments, done)
        left = total - done
        if file.unit == 1 or len(data) == (left if left < PIECE else PIECE):
            return data
        if len(data) < file.unit and not done:
            raise Errno(EFAULT)
        return data[: len(data) - len(data) % file.unit]

    return pass_on(t, take, total, file, write)


def _hold_writer(t: Thread, file: File) -> Wait | None:
    from aiopyvm.syscalls.terminals import hold_writer

    return hold_writer(t, file)


def drain_piece(t: Thread, file: File, address: int, count: int) -> int | Wait:
    """As `drain` for one segment of at most PIECE bytes, and a file that is none of a file system: in most cases it
    takes them at once."""
    call = t.call
    assert call is not None
    if not call.done:
        if file.tty and (held := _hold_writer(t, file)) is not None:
            return held
        try:
            n = file.borrow(t.memory.show(address, count))
        except Errno as error:
            return _refused(t, file, error)
        except MemoryFault:
            n = 0  # a part of it can be read, perhaps
        call.done = n
        t.moved += n
        if n == count:
            return n
    return drain(t, file, ((address, count),), file.write)


def pass_on(
    t: Thread, take: Callable[[int], bytes], total: int, file: File, write: Callable[[bytes], int]
) -> int | Wait:
    """Give `total` bytes, piece by piece what `take(done)` has behind the first `done`, to `write`, which is `file`'s.

    Return the count, smaller where `take` has no more or `write` fails later, or wait for room.
    """
    call = call_of(t)
    step = 0
    while call.done < total or not total:
        data = take(call.done)
        if not data and total:
            break  # a fault behind what is through, or the end of the source
        try:
            n = write(data)
        except Errno as error:
            return _refused(t, file, error)
        call.done += n
        t.moved += n
        step += n
        if not n or (n < len(data) and (file.flags & O_NONBLOCK or isinstance(file, RegularFile))):
            break  # a regular file that takes less is full: the next call says why; 0: nothing will ever fit
        if step >= STEP and call.done < total:
            return again(t)
    return call.done


def _refused(t: Thread, file: File, error: Errno) -> int | Wait:
    """What a call does when its file takes no more bytes."""
    if error.number == EAGAIN and not file.flags & O_NONBLOCK:
        return FileWait(file, POLLOUT, "to write")
    if error.number in (EPIPE, EFBIG):
        raise_signal(t, error.number)
    done = call_of(t).done
    if done:
        return done
    raise error


def raise_signal(t: Thread, error: int) -> None:
    """Send the signal that goes with an error of write(2): SIGPIPE with EPIPE, SIGXFSZ with a broken RLIMIT_FSIZE."""
    if error == EPIPE:
        t.kernel.send_signal(t, SigInfo(SIGPIPE, pid=t.process.pid, uid=t.credentials.uid))
    elif t.process.limits[RLIMIT_FSIZE][0] != RLIM_INFINITY:
        t.kernel.send_signal(t, SigInfo(SIGXFSZ, pid=t.process.pid, uid=t.credentials.uid))


def gather(t: Thread, segments: Segments, skip: int) -> bytes:
    """Read at most PIECE bytes of `segments` behind their first `skip`, up to a fault.

    Raises MemoryFault when the first byte faults, unless bytes were moved before: then nothing is returned.
    """
    parts: list[bytes] = []
    room = PIECE
    moved = skip
    for address, length in segments:
        if skip >= length:
            skip -= length
            continue
        n = min(length - skip, room)
        start = address + skip
        try:
            parts.append(t.memory.read(start, n))
        except MemoryFault as fault:
            n = fault.address - start
            if not 0 < n < length - skip:
                if not parts and not moved:
                    raise
                break
            parts.append(t.memory.read(start, n))
            break
        room -= n
        skip = 0
        if not room:
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


# --- checks -----------------------------------------------------------------------------------------------------------


def reading(t: Thread, fd: int) -> File:
    """Return the file of `fd`, open for reading. Raises Errno: EBADF, EISDIR."""
    file = open_file(t, fd, READABLE)
    if file.inode is not None and file.inode.kind == S_IFDIR:
        raise Errno(EISDIR)
    return file


def writing(t: Thread, fd: int) -> File:
    """Return the file of `fd`, open for writing. Raises Errno(EBADF)."""
    return open_file(t, fd, WRITABLE)


def sink(t: Thread, file: File) -> Callable[[bytes], int]:
    """Return what gives bytes to a file at its position, or to a socket's peer."""
    if not file.socket:
        return file.write
    from aiopyvm.kernel.socket import Outgoing, Socket  # at the first use: most programs have no socket

    assert isinstance(file, Socket)
    return lambda data: file.send(t, Outgoing(data))


def writer(t: Thread, file: File, offset: int | None = None) -> Callable[[bytes], int]:
    """Return the function that stores the next bytes at the position, or at `offset`; it keeps RLIMIT_FSIZE."""
    limit = t.process.limits[RLIMIT_FSIZE][0]
    if offset is None:
        store = sink(t, file)
    else:
        start, call = offset, call_of(t)

        def store(data: bytes) -> int:
            return file.pwrite(data, start + call.done)

    if limit == RLIM_INFINITY or not isinstance(file, RegularFile):
        return store

    def limited(data: bytes) -> int:
        at = file.content.size if file.flags & O_APPEND else file.offset if offset is None else offset + call_of(t).done
        if at >= limit and data:
            raise Errno(EFBIG)
        return store(data[: limit - at])

    return limited


def segments_of(t: Thread, iov: Iovec) -> Segments:
    """Return the pairs of an iovec array, read once for the whole call. Raises Errno(EINVAL) and MemoryFault."""
    state = call_of(t).state
    segments: Segments | None = state.get("segments")
    if segments is None:
        segments = state["segments"] = iov.get()
    return segments


def _need_offset(file: File, offset: int) -> None:
    if offset < 0:
        raise Errno(EINVAL)
    if not file.seekable and type(file).pread is File.pread:
        raise Errno(ESPIPE)


def _need_end(offset: int, segments: Segments) -> None:
    """Raise Errno(EINVAL) where a transfer would end behind every file (rw_verify_area)."""
    if offset + sum(size for _, size in segments) > MAX_FILE_SIZE:
        raise Errno(EINVAL)


# --- the calls --------------------------------------------------------------------------------------------------------


@syscall(3, "read", man="read(2)", at_once=read_at_once)
def read(t: Thread, fd: Fd, buf: OutBuffer, count: Size) -> int | Wait:
    """Read up to `count` bytes."""
    file = open_file(t, fd, READABLE)
    if file.inode is not None and file.inode.kind == S_IFDIR:
        raise Errno(EISDIR)
    segments = ((buf, count if count < MAX_RW_COUNT else MAX_RW_COUNT),)
    return _receive(t, file, segments) if file.socket else fill(t, file, segments, file.lend)


@syscall(4, "write", man="write(2)", at_once=write_at_once)
def write(t: Thread, fd: Fd, buf: InBuffer, count: Size) -> int | Wait:
    """Write `count` bytes."""
    file = open_file(t, fd, WRITABLE)
    if file.socket:
        return _send(t, file, ((buf, min(count, MAX_RW_COUNT)),))
    if count > PIECE or isinstance(file, RegularFile):
        return drain(t, file, ((buf, min(count, MAX_RW_COUNT)),), writer(t, file))
    return drain_piece(t, file, buf, count)


@syscall(145, "readv", man="readv(2)")
def readv(t: Thread, fd: Fd, iov: OutIovec, iovcnt: I32) -> int | Wait:
    """Read into several buffers."""
    file = reading(t, fd)
    if file.socket:
        return _receive(t, file, segments_of(t, iov))
    return fill(t, file, segments_of(t, iov), file.lend)


@syscall(146, "writev", man="readv(2)")
def writev(t: Thread, fd: Fd, iov: InIovec, iovcnt: I32) -> int | Wait:
    """Write several buffers."""
    file = writing(t, fd)
    if file.socket:
        return _send(t, file, segments_of(t, iov))
    return drain(t, file, segments_of(t, iov), writer(t, file))


def _receive(t: Thread, file: File, segments: Segments) -> int | Wait:
    """read(2) of a socket: recv(2) without flags."""
    from aiopyvm.syscalls.messages import read_socket

    return read_socket(t, file, segments)


def _send(t: Thread, file: File, segments: Segments) -> int | Wait:
    """write(2) of a socket: send(2) without flags."""
    from aiopyvm.syscalls.messages import write_socket

    return write_socket(t, file, segments)


def _positioned_read(t: Thread, fd: int, segments: Segments, offset: int) -> int | Wait:
    _need_offset(open_file(t, fd), offset)
    file = open_file(t, fd, READABLE)
    _need_end(offset, segments)
    file = reading(t, fd)
    call = call_of(t)
    return fill(t, file, segments, lambda n: file.pread(n, offset + call.done))


def _positioned_write(t: Thread, fd: int, segments: Segments, offset: int) -> int | Wait:
    _need_offset(open_file(t, fd), offset)
    file = writing(t, fd)
    _need_end(offset, segments)
    return drain(t, file, segments, writer(t, file, offset))


@syscall(180, "pread64", man="pread(2)")
def pread64(t: Thread, fd: Fd, buf: OutBuffer, count: Size, offset: I64) -> int | Wait:
    """Read at an offset."""
    if offset < 0:
        raise Errno(EINVAL)
    return _positioned_read(t, fd, [(buf, min(count, MAX_RW_COUNT))], offset)


@syscall(181, "pwrite64", man="pread(2)")
def pwrite64(t: Thread, fd: Fd, buf: InBuffer, count: Size, offset: I64) -> int | Wait:
    """Write at an offset."""
    if offset < 0:
        raise Errno(EINVAL)
    return _positioned_write(t, fd, [(buf, min(count, MAX_RW_COUNT))], offset)


@syscall(333, "preadv", man="readv(2)")
def preadv(t: Thread, fd: Fd, iov: OutIovec, iovcnt: I32, offset: I64) -> int | Wait:
    """Read into several buffers from an offset."""
    if offset < 0:
        raise Errno(EINVAL)
    return _positioned_read(t, fd, segments_of(t, iov), offset)


@syscall(334, "pwritev", man="readv(2)")
def pwritev(t: Thread, fd: Fd, iov: InIovec, iovcnt: I32, offset: I64) -> int | Wait:
    """Write several buffers at an offset."""
    if offset < 0:
        raise Errno(EINVAL)
    return _positioned_write(t, fd, segments_of(t, iov), offset)


RWF_SUPPORTED = 0x07  # RWF_HIPRI, RWF_DSYNC, RWF_SYNC: nothing is kept back here anyway


@syscall(378, "preadv2", man="readv(2)", note="no RWF_NOWAIT and RWF_APPEND")
def preadv2(t: Thread, fd: Fd, iov: OutIovec, iovcnt: I32, offset: I64, flags: Hex) -> int | Wait:
    """Like preadv; offset -1 is the position."""
    if flags & ~RWF_SUPPORTED:
        raise Errno(EOPNOTSUPP)
    return readv(t, fd, iov, iovcnt) if offset == -1 else preadv(t, fd, iov, iovcnt, offset)


@syscall(379, "pwritev2", man="readv(2)", note="no RWF_NOWAIT and RWF_APPEND")
def pwritev2(t: Thread, fd: Fd, iov: InIovec, iovcnt: I32, offset: I64, flags: Hex) -> int | Wait:
    """Like pwritev; offset -1 is the position."""
    if flags & ~RWF_SUPPORTED:
        raise Errno(EOPNOTSUPP)
    return writev(t, fd, iov, iovcnt) if offset == -1 else pwritev(t, fd, iov, iovcnt, offset)

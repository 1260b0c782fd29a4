"""read(2), write(2), recv(2) and send(2) as one copy between memory and file, tried before their handlers
(`spec.AT_ONCE`).

What always holds: the call is over, with the bytes moved as its result; or it waits, having done nothing; or nothing
was done, and its handler finds out what there is to do.
"""

from __future__ import annotations

from aiopyvm.abi.fcntl import O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from aiopyvm.abi.poll import POLLIN, POLLOUT
from aiopyvm.abi.socket import MSG_NOSIGNAL
from aiopyvm.kernel.file import LATER, UNKNOWN, File
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import FileWait, Wait

PIECE = 1 << 16  # bytes copied at once
READABLE = frozenset((O_RDONLY, O_RDWR))
WRITABLE = frozenset((O_WRONLY, O_RDWR))


def read_at_once(t: Thread, fd: int, address: int, count: int) -> int | Wait:
    """read(2) of what is there already; see `spec.syscall`."""
    files = t.process.fds.files
    if fd >= len(files) or (file := files[fd]) is None or count > PIECE:
        return UNKNOWN
    if (flags := file.flags) & O_ACCMODE not in READABLE:
        return UNKNOWN
    n = file.pull(t.memory, address, count)
    if n == LATER and not flags & O_NONBLOCK:
        usual, t.usual_read = t.usual_read, None
        if usual is not None and usual.file is file and usual.room == (address, count) and usual.direct is None:
            return usual
        return FileWait(file, POLLIN, "to read", (address, count))
    return n


def write_at_once(t: Thread, fd: int, address: int, count: int) -> int | Wait:
    """write(2) of what there is room for; see `spec.syscall`."""
    files = t.process.fds.files
    if fd >= len(files) or (file := files[fd]) is None or count > PIECE:
        return UNKNOWN
    if (flags := file.flags) & O_ACCMODE not in WRITABLE:
        return UNKNOWN
    n = file.push(t.memory, address, count)
    if n == LATER and not flags & O_NONBLOCK:
        usual, t.usual_write = t.usual_write, None
        if usual is not None and usual.source == (file, address, count):
            return usual
        return FileWait(file, POLLOUT, "to write", source=(file, address, count))
    return n


def receive_at_once(t: Thread, fd: int, address: int, count: int) -> int | Wait:
    """recvfrom(2) that asks for neither an address nor anything else, of what is there already."""
    cpu = t.core.cpu
    if cpu.esi or cpu.edi or (file := _socket(t, fd)) is None:
        return UNKNOWN
    return file.pull(t.memory, address, PIECE) if is_ample(file, count) else read_at_once(t, fd, address, count)


def send_at_once(t: Thread, fd: int, address: int, count: int) -> int | Wait:
    """sendto(2) without an address, of what there is room for."""
    cpu = t.core.cpu
    if cpu.esi & ~MSG_NOSIGNAL or cpu.edi or _socket(t, fd) is None:
        return UNKNOWN
    return write_at_once(t, fd, address, count)


def _socket(t: Thread, fd: int) -> File | None:
    files = t.process.fds.files
    return file if fd < len(files) and (file := files[fd]) is not None and file.socket else None


def is_ample(file: File, count: int) -> bool:
    """Whether `count` is more than a piece, and what a stream holds is less, so that one is all there is to receive."""
    return count > PIECE and file.endless and file.available() < PIECE

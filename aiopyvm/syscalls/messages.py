"""Sending and receiving on sockets: sendto(2), sendmsg(2), recvfrom(2), recvmsg(2), several at once, and read(2) and
write(2) of a socket.

How it works. A datagram or packet goes in one piece; of a stream pieces of at most PIECE bytes are sent until all are
through, and received until there are as many as SO_RCVLOWAT or MSG_WAITALL ask for. How far a call came stands in its
record: `state["moved"]` bytes of the present message, and with sendmmsg(2) and recvmmsg(2) `done` messages.
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeVar

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import EAGAIN, EFAULT, EINVAL, EMSGSIZE, EPIPE, Errno
from aiopyvm.abi.fcntl import O_NONBLOCK
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.signal import SIGPIPE, SigInfo
from aiopyvm.abi.socket import (
    MMSGHDR_SIZE,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    MSG_WAITFORONE,
    MSGHDR_SIZE,
    SOCK_STREAM,
    UIO_MAXIOV,
    Msghdr,
)
from aiopyvm.kernel.file import File
from aiopyvm.kernel.socket import Incoming, Outgoing, Socket, need_alive
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.unixsocket import UnixSocket
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.atonce import receive_at_once, send_at_once
from aiopyvm.syscalls.control import Control, drop_files, read_control, write_control
from aiopyvm.syscalls.sockets import read_address, socket_of, wait_for, write_address
from aiopyvm.syscalls.spec import MAX_RW_COUNT, U32, Fd, Flags, InBuffer, Iovec, OutBuffer, Ptr, Size, syscall
from aiopyvm.syscalls.steps import again, call_of
from aiopyvm.syscalls.transfer import STEP, Segments, gather, length_of, scatter

R = TypeVar("R")
MessageFlags = Annotated[int, Flags(abi.MESSAGE_FLAGS)]
PLAIN = Control()
_NOTE = "no MSG_ERRQUEUE"
LARGEST_MESSAGE = 1 << 20  # no send buffer takes more in one piece


# --- sending ----------------------------------------------------------------------------------------------------------


def send(
    t: Thread, file: Socket, segments: Segments, flags: int, address: bytes | None = None, control: Control = PLAIN
) -> int | Wait:
    """Send what is in memory; return how many bytes, or wait for room. EPIPE of a stream comes with SIGPIPE."""
    state = call_of(t).state
    total = length_of(segments)
    stream = file.kind == SOCK_STREAM
    if not stream and total > LARGEST_MESSAGE:
        raise Errno(EMSGSIZE)
    moved: int = state.get("moved", 0)
    step = 0
    while True:
        data = gather(t, segments, moved) if stream else _whole(t, segments)
        if not data and moved:
            break  # a fault behind what is through
        first = not moved
        now = flags if moved + len(data) >= total else flags & ~abi.MSG_OOB  # the last byte of all is urgent
        message = Outgoing(data, now, address, control.files if first else (), control.creds, control.others)
        try:
            n = file.send(t, message)
        except Errno as error:
            return _not_sent(t, file, moved, flags, address, error)
        moved += n
        t.moved += n
        step += n
        if not stream or moved >= total:
            break
        state["moved"] = moved
        if step >= STEP:
            return again(t)
    state["moved"] = 0
    return moved


def _interruptible(t: Thread, result: R) -> R:
    """Let a signal end a call of one message that waits with the bytes that it moved so far."""
    if isinstance(result, Wait):
        call = call_of(t)
        call.done = call.state.get("moved", 0)
    return result


def _whole(t: Thread, segments: Segments) -> bytes:
    """Read a message in one piece. Raises MemoryFault."""
    return b"".join([t.memory.read(address, length) for address, length in segments if length])


def _not_sent(t: Thread, file: Socket, moved: int, flags: int, address: bytes | None, error: Errno) -> int | Wait:
    """What a call does when its socket takes no more."""
    if error.number == EAGAIN and not (file.flags & O_NONBLOCK or flags & MSG_DONTWAIT):
        queues = [file.write_queue]
        if isinstance(file, UnixSocket):
            others = (file.peer,) if address is None else file.waits_on(t, address)
            queues += [other.write_queue for other in others if other is not None]
        try:
            return wait_for(t, tuple(queues), file.options.send_timeout, "to send")
        except Errno:
            pass  # the time is up
    if moved:
        call_of(t).state["moved"] = 0
        return moved
    if error.number == EPIPE and file.kind == SOCK_STREAM and not flags & MSG_NOSIGNAL:
        t.kernel.send_signal(t, SigInfo(SIGPIPE, pid=t.process.pid, uid=t.credentials.uid))
    raise error


# --- receiving --------------------------------------------------------------------------------------------------------


def receive(t: Thread, file: Socket, segments: Segments, flags: int) -> tuple[int, Incoming] | Wait:
    """Receive into memory; return how many bytes recv(2) tells of and what came along, or wait."""
    state = call_of(t).state
    moved: int = state.get("moved", 0)
    total = length_of(segments)
    stream = file.kind == SOCK_STREAM
    if file.flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    target = 1
    if stream:
        target = max(1, total if flags & MSG_WAITALL else min(file.options[abi.SO_RCVLOWAT], total))
    incoming = Incoming(b"")
    try:
        while not (moved and file.at_mark()):
            incoming = file.receive(t, total - moved, flags)
            got = _store(t, file, segments, moved, incoming)
            moved += got
            t.moved += got
            if not stream or moved >= target or not got or flags & (MSG_PEEK | abi.MSG_OOB) or incoming.files:
                break
            state["moved"] = moved
    except Errno as error:
        incoming = Incoming(b"")
        if error.number != EAGAIN:
            if not moved:
                raise
            file.error = error.number  # the next call tells
        elif not flags & MSG_DONTWAIT:
            try:
                return wait_for(t, (file.read_queue,), file.options.receive_timeout, "to receive")
            except Errno:
                if not moved:
                    raise
        elif not moved:
            raise
    state["moved"] = 0
    if incoming.length >= 0 and (flags & MSG_TRUNC or incoming.flags & abi.MSG_OOB):
        moved = incoming.length
    return moved, incoming


def _store(t: Thread, file: Socket, segments: Segments, moved: int, incoming: Incoming) -> int:
    """Store what came behind the first `moved` bytes; where the memory does not take all, it goes back to a stream."""
    data = incoming.data
    try:
        stored = scatter(t, segments, moved, data) if data else 0
    except MemoryFault:
        drop_files(incoming)
        raise
    if stored < len(data):
        if file.kind == SOCK_STREAM:
            file.unreceive(data)
        if file.kind != SOCK_STREAM or not moved:
            drop_files(incoming)
            raise Errno(EFAULT)
        return 0
    return stored


# --- read(2) and write(2) ---------------------------------------------------------------------------------------------


def read_socket(t: Thread, file: File, segments: Segments) -> int | Wait:
    """read(2) and readv(2)."""
    assert isinstance(file, Socket)
    if not length_of(segments):
        return 0
    received = _interruptible(t, receive(t, file, segments, 0))
    if isinstance(received, Wait):
        return received
    drop_files(received[1])
    return received[0]


def write_socket(t: Thread, file: File, segments: Segments) -> int | Wait:
    """write(2) and writev(2)."""
    assert isinstance(file, Socket)
    return _interruptible(t, send(t, file, segments, 0))


# --- single messages --------------------------------------------------------------------------------------------------


@syscall(369, "sendto", man="send(2)", at_once=send_at_once, note=_NOTE)
def sendto(t: Thread, fd: Fd, buf: InBuffer, len: Size, flags: MessageFlags, addr: Ptr, addrlen: U32) -> int | Wait:
    """Send a message, to `addr` where that is given."""
    file = socket_of(t, fd)
    address = read_address(t, addr, (addrlen ^ 0x80000000) - 0x80000000) if addr else None
    return _interruptible(t, send(t, file, ((buf, min(len, MAX_RW_COUNT)),), flags, address))


@syscall(371, "recvfrom", man="recv(2)", at_once=receive_at_once, note=_NOTE)
def recvfrom(t: Thread, fd: Fd, buf: OutBuffer, len: Size, flags: MessageFlags, addr: Ptr, addrlen: Ptr) -> int | Wait:
    """Receive a message, and tell where it came from."""
    file = socket_of(t, fd)
    received = _interruptible(t, receive(t, file, ((buf, min(len, MAX_RW_COUNT)),), flags))
    if isinstance(received, Wait):
        return received
    count, incoming = received
    drop_files(incoming)
    if addr:
        write_address(t, incoming.address or b"", addr, addrlen)
    return count


def _header(t: Thread, address: int) -> Msghdr:
    return codec_of(Msghdr).unpack(t.memory.read(address, MSGHDR_SIZE))


def _segments(t: Thread, header: Msghdr) -> Segments:
    """Return a message's places. Raises Errno: EMSGSIZE for too many."""
    if header.iovlen > UIO_MAXIOV:
        raise Errno(EMSGSIZE)
    return Iovec(t, header.iov, header.iovlen).get()


def _send_message(t: Thread, file: Socket, at: int, flags: int) -> int | Wait:
    header = _header(t, at)
    address = None
    if header.name and header.namelen:
        if header.namelen < 0:
            raise Errno(EINVAL)
        address = read_address(t, header.name, min(header.namelen, abi.ADDRESS_MAX))
    segments = _segments(t, header)
    control = read_control(t, file, header)
    for sent in control.files:
        need_alive(sent)
    return send(t, file, segments, flags, address, control)


def _receive_message(t: Thread, file: Socket, at: int, flags: int) -> int | Wait:
    header = _header(t, at)
    if header.namelen < 0:
        raise Errno(EINVAL)
    received = receive(t, file, _segments(t, header), flags)
    if isinstance(received, Wait):
        return received
    count, incoming = received
    told = incoming.flags | flags & abi.MSG_CMSG_CLOEXEC
    used, truncated = write_control(t, header, incoming, flags)
    if header.name:
        write_address(t, incoming.address or b"", header.name, at + 4)
    t.memory.write(at + 24, struct.pack("<I", told | truncated))
    t.memory.write(at + 20, struct.pack("<I", used))
    return count


@syscall(370, "sendmsg", man="send(2)", note=_NOTE)
def sendmsg(t: Thread, fd: Fd, msg: Ptr, flags: MessageFlags) -> int | Wait:
    """Send a message out of several places, with what goes along."""
    return _interruptible(t, _send_message(t, socket_of(t, fd), msg, flags))


@syscall(372, "recvmsg", man="recv(2)", note=_NOTE)
def recvmsg(t: Thread, fd: Fd, msg: Ptr, flags: MessageFlags) -> int | Wait:
    """Receive a message into several places, with what came along."""
    return _interruptible(t, _receive_message(t, socket_of(t, fd), msg, flags))


# --- several messages -------------------------------------------------------------------------------------------------


@syscall(345, "sendmmsg", man="sendmmsg(2)", note=_NOTE)
def sendmmsg(t: Thread, fd: Fd, vmessages: Ptr, vlen: U32, flags: MessageFlags) -> int | Wait:
    """Send several messages; return how many were sent."""
    file = socket_of(t, fd)
    call = call_of(t)
    while call.done < min(vlen, UIO_MAXIOV):
        at = vmessages + call.done * MMSGHDR_SIZE
        try:
            sent = _send_message(t, file, at, flags)
            if isinstance(sent, Wait):
                return sent
            t.memory.write(at + MSGHDR_SIZE, struct.pack("<I", sent))
        except (Errno, MemoryFault):
            if not call.done:
                raise
            break
        call.done += 1
    return call.done


def _receive_several(t: Thread, fd: int, address: int, count: int, flags: int, timeout: int, fmt: str) -> int | Wait:
    """recvmmsg(2): the time is looked at only after a message, as on Linux."""
    file = socket_of(t, fd)
    call = call_of(t)
    if timeout and "until" not in call.state:
        seconds, rest = struct.unpack(fmt, t.memory.read(timeout, struct.calcsize(fmt)))
        if seconds < 0 or not 0 <= rest < 10**9:
            raise Errno(EINVAL)
        call.state["until"] = t.kernel.clock.monotonic_ns() + seconds * 10**9 + rest
    while call.done < min(count, UIO_MAXIOV):
        at = address + call.done * MMSGHDR_SIZE
        present = flags & ~MSG_WAITFORONE
        if flags & MSG_WAITFORONE and call.done:
            present |= MSG_DONTWAIT
        try:
            got = _receive_message(t, file, at, present)
            if isinstance(got, Wait):
                return got
            t.memory.write(at + MSGHDR_SIZE, struct.pack("<I", got))
        except (Errno, MemoryFault) as error:
            if not call.done:
                raise
            if isinstance(error, Errno) and error.number != EAGAIN:
                file.error = error.number
            break
        call.done += 1
        if timeout and _rest_of_time(t, timeout, fmt) <= 0:
            break
    return call.done


def _rest_of_time(t: Thread, timeout: int, fmt: str) -> int:
    """Store how much of the time is left, and return it in ns."""
    left: int = max(0, call_of(t).state["until"] - t.kernel.clock.monotonic_ns())
    t.memory.write(timeout, struct.pack(fmt, *divmod(left, 10**9)))
    return left


@syscall(337, "recvmmsg", man="recvmmsg(2)", note=_NOTE)
def recvmmsg(t: Thread, fd: Fd, vmessages: Ptr, vlen: U32, flags: MessageFlags, timeout: Ptr) -> int | Wait:
    """Receive several messages; return how many came."""
    return _receive_several(t, fd, vmessages, vlen, flags, timeout, "<ii")


@syscall(417, "recvmmsg_time64", man="recvmmsg(2)", note=_NOTE)
def recvmmsg_time64(t: Thread, fd: Fd, vmessages: Ptr, vlen: U32, flags: MessageFlags, timeout: Ptr) -> int | Wait:
    """Like recvmmsg, with 64-bit seconds."""
    return _receive_several(t, fd, vmessages, vlen, flags, timeout, "<qi4x")

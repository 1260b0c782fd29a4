"""Control messages of sendmsg(2) and recvmsg(2): files and credentials that go along (cmsg(3), unix(7))."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import EINVAL, ENOBUFS, EPERM, Errno
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.socket import CMSG_ALIGN, CMSG_HEADER, SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET, Cmsghdr, Msghdr, Ucred
from aiopyvm.kernel.file import File
from aiopyvm.kernel.socket import Incoming, Socket
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.faults import MemoryFault

CONTROL_MAX: Final = 131072  # /proc/sys/net/core/optmem_max


class Control(NamedTuple):
    """What goes along with a message that is sent."""

    files: tuple[File, ...] = ()
    creds: Ucred | None = None
    others: tuple[tuple[int, int, bytes], ...] = ()  # of other levels: (level, type, data)


def read_control(t: Thread, file: Socket, header: Msghdr) -> Control:
    """Read what is to go along. Raises Errno: EINVAL, EBADF, EPERM, ENOBUFS; MemoryFault."""
    if not header.controllen:
        return Control()
    if header.controllen > CONTROL_MAX:
        raise Errno(ENOBUFS)
    data = t.memory.read(header.control, header.controllen)
    codec = codec_of(Cmsghdr)
    files: list[File] = []
    creds: Ucred | None = None
    others: list[tuple[int, int, bytes]] = []
    at = 0
    while at + CMSG_HEADER <= len(data):
        item = codec.unpack(data, at)
        if not CMSG_HEADER <= item.len <= len(data) - at:
            raise Errno(EINVAL)
        body = data[at + CMSG_HEADER : at + item.len]
        if item.level == SOL_SOCKET:
            if item.type == SCM_RIGHTS:
                files += _files(t, file, body, len(files))
            elif item.type == SCM_CREDENTIALS:
                creds = _credentials(t, body)
            else:
                raise Errno(EINVAL)
        else:
            others.append((item.level, item.type, body))
        at += _aligned(item.len)
    return Control(tuple(files), creds) if file.domain == abi.AF_UNIX else Control(others=tuple(others))


def _files(t: Thread, file: Socket, body: bytes, before: int) -> list[File]:
    if file.domain != abi.AF_UNIX:
        return []
    count = len(body) // 4
    if count + before > abi.SCM_MAX_FD:
        raise Errno(EINVAL)
    return [t.process.fds.get_any(fd) for fd in struct.unpack_from(f"<{count}i", body)]


def _credentials(t: Thread, body: bytes) -> Ucred:
    codec = codec_of(Ucred)
    if len(body) != codec.size:
        raise Errno(EINVAL)
    creds = codec.unpack(body)
    who = t.credentials
    if who.euid and (
        creds.pid != t.process.pid
        or creds.uid not in (who.uid, who.euid, who.suid)
        or creds.gid not in (who.gid, who.egid, who.sgid)
    ):
        raise Errno(EPERM)
    if creds.uid < 0 or creds.gid < 0:
        raise Errno(EINVAL)
    return creds


class Writer:
    """Stores control messages where a receiver has room for them: at `at`, up to `end`. `flags` gets MSG_CTRUNC."""

    def __init__(self, t: Thread, header: Msghdr) -> None:
        self._t = t
        self.at = header.control
        self.left = header.controllen if header.control else 0
        self.flags = 0

    def put(self, level: int, kind: int, body: bytes) -> None:
        """Store one message, cut off where the room ends."""
        if self.left < CMSG_HEADER:
            self.flags |= abi.MSG_CTRUNC
            return
        size = CMSG_HEADER + len(body)
        if self.left < size:
            self.flags |= abi.MSG_CTRUNC
            size = self.left
        self._t.memory.write(self.at, codec_of(Cmsghdr).pack(Cmsghdr(size, level, kind)) + body[: size - CMSG_HEADER])
        self._advance(CMSG_HEADER + len(body))

    def put_files(self, files: tuple[File, ...], *, cloexec: bool) -> None:
        """Give as many files a descriptor as there is room for."""
        fds = self._t.process.fds
        given: list[int] = []
        try:
            for file in files[: max(0, self.left - CMSG_HEADER) // 4]:
                given.append(fds.install(file, cloexec=cloexec))
        except Errno:
            pass  # MSG_CTRUNC tells
        if given:
            body = struct.pack(f"<{len(given)}i", *given)
            try:
                header = Cmsghdr(CMSG_HEADER + len(body), SOL_SOCKET, SCM_RIGHTS)
                self._t.memory.write(self.at, codec_of(Cmsghdr).pack(header) + body)
            except MemoryFault:
                for fd in given:
                    fds.close(fd)
                raise
            self._advance(CMSG_HEADER + len(body))
        if len(given) < len(files):
            self.flags |= abi.MSG_CTRUNC

    def _advance(self, size: int) -> None:
        size = min(_aligned(size), self.left)
        self.at += size
        self.left -= size


def write_control(t: Thread, header: Msghdr, incoming: Incoming, flags: int) -> tuple[int, int]:
    """Store what came along; return (bytes stored, MSG_CTRUNC or 0). The files are let go of. Raises MemoryFault."""
    writer = Writer(t, header)
    try:
        if incoming.creds is not None:
            writer.put(SOL_SOCKET, SCM_CREDENTIALS, codec_of(Ucred).pack(incoming.creds))
        for level, kind, body in incoming.control:
            writer.put(level, kind, body)
        if incoming.files:
            writer.put_files(incoming.files, cloexec=bool(flags & abi.MSG_CMSG_CLOEXEC))
    finally:
        drop_files(incoming)
    return writer.at - header.control, writer.flags


def drop_files(incoming: Incoming) -> None:
    """Let go of the files that came along."""
    for file in incoming.files:
        file.release()


def _aligned(size: int) -> int:
    return size + CMSG_ALIGN - 1 & -CMSG_ALIGN

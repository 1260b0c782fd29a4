"""ioctl(2): terminals, and the few requests that every descriptor knows."""

from __future__ import annotations

import struct
from typing import Annotated

from aiopyvm.abi import socket as sockets
from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import ENOTTY, Errno
from aiopyvm.abi.fcntl import O_ASYNC, O_NONBLOCK
from aiopyvm.kernel import sigio
from aiopyvm.kernel.pty import PtyMaster
from aiopyvm.kernel.socket import Socket
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.tty import TerminalFile
from aiopyvm.kernel.wait import Wait
from aiopyvm.syscalls import owners
from aiopyvm.syscalls.spec import Choice, Fd, Hex, syscall
from aiopyvm.syscalls.terminals import control
from aiopyvm.syscalls.transfer import open_file

Request = Annotated[int, Choice({name: value for value, name in abi.NAMES.items()}, signed=False)]


@syscall(54, "ioctl", man="ioctl(2)")
def ioctl(t: Thread, fd: Fd, request: Request, arg: Hex) -> int | Wait:
    """Control a file. ENOTTY for what the file does not know."""
    file = open_file(t, fd)
    match request:
        case abi.FIOCLEX | abi.FIONCLEX:
            t.process.fds.set_cloexec(fd, request == abi.FIOCLEX)
        case abi.FIONBIO:
            on = t.memory.load(arg, 4) != 0
            file.flags = file.flags | O_NONBLOCK if on else file.flags & ~O_NONBLOCK
        case abi.FIOASYNC:
            on = t.memory.load(arg, 4) != 0
            if on != bool(file.flags & O_ASYNC) and not sigio.set_async(file, fd, on, t.process):
                raise Errno(ENOTTY)
        case abi.FIONREAD:
            t.memory.write(arg, struct.pack("<I", min(file.available(), 0x7FFFFFFF)))
        case _ if isinstance(file, TerminalFile | PtyMaster):
            return control(t, file, request, arg)
        case sockets.FIOSETOWN | sockets.SIOCSPGRP if file.socket:
            owners.set_owner(t, file, struct.unpack("<i", t.memory.read(arg, 4))[0])
        case sockets.FIOGETOWN | sockets.SIOCGPGRP if file.socket:
            t.memory.write(arg, struct.pack("<i", owners.owner_number(file)))
        case _ if isinstance(file, Socket):
            return file.control(t, request, arg)
        case _:
            raise Errno(ENOTTY)
    return 0

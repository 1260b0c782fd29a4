"""ioctl(2): terminals, and the few requests that every descriptor knows."""

from __future__ import annotations

import struct
from typing import Annotated

from aiopyvm.abi import termios as abi
from aiopyvm.abi.errno import ENOTTY, Errno
from aiopyvm.abi.fcntl import O_ASYNC, O_NONBLOCK
from aiopyvm.kernel.pty import PtyMaster
from aiopyvm.kernel.socket import Socket
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.tty import TerminalFile
from aiopyvm.kernel.wait import Wait
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
        case abi.FIONBIO | abi.FIOASYNC:
            bit = O_NONBLOCK if request == abi.FIONBIO else O_ASYNC
            on = t.memory.load(arg, 4) != 0
            file.flags = file.flags | bit if on else file.flags & ~bit
        case abi.FIONREAD:
            t.memory.write(arg, struct.pack("<I", min(file.available(), 0x7FFFFFFF)))
        case _ if isinstance(file, TerminalFile | PtyMaster):
            return control(t, file, request, arg)
        case _ if isinstance(file, Socket):
            return file.control(t, request, arg)
        case _:
            raise Errno(ENOTTY)
    return 0

"""socketcall(2): the older way to all calls of sockets, by number, with their arguments in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Final

from aiopyvm.abi.errno import EINVAL, Errno
from aiopyvm.abi.fcntl import O_NONBLOCK
from aiopyvm.abi.poll import POLLIN
from aiopyvm.abi.socket import MSG_NOSIGNAL
from aiopyvm.kernel.file import LATER, UNKNOWN
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import FileWait, Wait
from aiopyvm.syscalls import messages, sockets
from aiopyvm.syscalls.atonce import PIECE, is_ample
from aiopyvm.syscalls.spec import TABLE, Choice, Ptr, Syscall, syscall
from aiopyvm.syscalls.steps import call_of


def _rows() -> dict[int, tuple[str, int, Callable[[tuple[int, ...]], tuple[str, tuple[int, ...]]]]]:
    """By number: the name, how many arguments there are, and the direct call that does the same, with its arguments."""

    def same(name: str) -> Callable[[tuple[int, ...]], tuple[str, tuple[int, ...]]]:
        return lambda a: (name, a)

    return {
        1: ("SYS_SOCKET", 3, same("socket")),
        2: ("SYS_BIND", 3, same("bind")),
        3: ("SYS_CONNECT", 3, same("connect")),
        4: ("SYS_LISTEN", 2, same("listen")),
        5: ("SYS_ACCEPT", 3, lambda a: ("accept4", (*a, 0))),
        6: ("SYS_GETSOCKNAME", 3, same("getsockname")),
        7: ("SYS_GETPEERNAME", 3, same("getpeername")),
        8: ("SYS_SOCKETPAIR", 4, same("socketpair")),
        9: ("SYS_SEND", 4, lambda a: ("sendto", (*a, 0, 0))),
        10: ("SYS_RECV", 4, lambda a: ("recvfrom", (*a, 0, 0))),
        11: ("SYS_SENDTO", 6, same("sendto")),
        12: ("SYS_RECVFROM", 6, same("recvfrom")),
        13: ("SYS_SHUTDOWN", 2, same("shutdown")),
        14: ("SYS_SETSOCKOPT", 5, same("setsockopt")),
        15: ("SYS_GETSOCKOPT", 5, same("getsockopt")),
        16: ("SYS_SENDMSG", 3, same("sendmsg")),
        17: ("SYS_RECVMSG", 3, same("recvmsg")),
        18: ("SYS_ACCEPT4", 4, same("accept4")),
        19: ("SYS_RECVMMSG", 5, same("recvmmsg")),
        20: ("SYS_SENDMMSG", 4, same("sendmmsg")),
    }


_ROWS: Final = _rows()
_DIRECT: Final = {
    row.name: row for row in TABLE.values() if row.handler.__module__ in (messages.__name__, sockets.__name__)
}
_SEND: Final = 9
_RECV: Final = 10
_arguments: Final = struct.Struct("<4I").unpack
Number = Annotated[int, Choice({number: name for number, (name, _, _) in _ROWS.items()})]


def direct_call(t: Thread, number: int, args: int) -> tuple[str, int, Syscall, tuple[int, ...]] | None:
    """What strace shows of a socketcall: name, how many arguments, the direct call and its arguments; None: of nothing.

    Raises MemoryFault.
    """
    row = _ROWS.get(number)
    if row is None:
        return None
    name, count, translate = row
    words = tuple(memoryview(t.memory.read(args, 4 * count)).cast("I").tolist())
    direct, arguments = translate(words)
    return name.removeprefix("SYS_").lower(), count, _DIRECT[direct], arguments


def socketcall_at_once(t: Thread, call: int, args: int, _: int) -> int | Wait:
    """send(2) of what there is room for, and recv(2) of what is there or comes; see atonce.py."""
    if call not in (_SEND, _RECV):
        return UNKNOWN
    memory = t.memory
    fd: int
    fd, address, count, flags = _arguments(memory.glance(args, 16))
    files = t.process.fds.files
    if fd >= len(files) or (file := files[fd]) is None or not file.socket:
        return UNKNOWN
    if call == _SEND:
        return UNKNOWN if flags & ~MSG_NOSIGNAL or count > PIECE else file.push(memory, address, count)
    if flags or (count > PIECE and not is_ample(file, count)):
        return UNKNOWN
    n = file.pull(memory, address, count if count < PIECE else PIECE)
    if n != LATER or file.flags & O_NONBLOCK:
        return n
    usual, t.usual_read = t.usual_read, None
    if usual is not None and usual.file is file and usual.room == (address, count) and usual.direct is not None:
        return usual
    wait = FileWait(file, POLLIN, "to receive", (address, count))
    wait.direct = "recvfrom", _DIRECT["recvfrom"].decode(t, (fd, address, count, 0, 0, 0))
    return wait


@syscall(102, "socketcall", man="socketcall(2)", at_once=socketcall_at_once)
def socketcall(t: Thread, call: Number, args: Ptr) -> int | Wait:
    """Do what the direct call of that name does."""
    row = _ROWS.get(call)
    if row is None:
        raise Errno(EINVAL)
    state = call_of(t).state
    if "values" not in state:
        count = row[1]
        words = tuple(memoryview(t.memory.read(args, 4 * count)).cast("I").tolist())
        name, arguments = row[2](words)
        state["direct"] = name
        state["values"] = _DIRECT[name].decode(t, arguments)
    result: int | Wait = _DIRECT[state["direct"]].handler(t, *state["values"])
    return result

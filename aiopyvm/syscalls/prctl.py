"""Attributes of threads and processes that have no call of their own: prctl(2), capabilities (capabilities(7))."""

from __future__ import annotations

import struct
from typing import Annotated, Final, NamedTuple

from aiopyvm.abi.errno import EINVAL, EPERM, ESRCH, Errno
from aiopyvm.abi.layout import layout
from aiopyvm.abi.signal import NSIG
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.spec import Choice, Hex, InOut, Ptr, syscall

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS = 7, 8
PR_SET_NAME, PR_GET_NAME = 15, 16
PR_GET_SECCOMP = 21
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_GET_TID_ADDRESS = 40
PrOption = Annotated[int, Choice({v: k for k, v in list(globals().items()) if k.startswith("PR_")})]

CAPABILITY_VERSIONS: Final = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}
CAPABILITY_VERSION_3: Final = 0x20080522


# --- prctl ------------------------------------------------------------------------------------------------------------


@syscall(172, "prctl", man="prctl(2)")
def prctl(t: Thread, option: PrOption, arg2: Hex, arg3: Hex, arg4: Hex, arg5: Hex) -> int:
    """Attributes of a thread or process, one by one."""
    p = t.process
    if option == PR_SET_NAME:
        t.name = t.memory.read_cstr(arg2, 16)[:15]
    elif option == PR_GET_NAME:
        t.memory.write(arg2, t.name.ljust(16, b"\0"))
    elif option == PR_SET_PDEATHSIG:
        if arg2 > NSIG:
            raise Errno(EINVAL)
        p.death_signal = arg2
    elif option == PR_GET_PDEATHSIG:
        t.memory.store(arg2, 4, p.death_signal)
    elif option == PR_SET_DUMPABLE:
        if arg2 > 1:
            raise Errno(EINVAL)
        p.dumpable = arg2
    elif option == PR_SET_CHILD_SUBREAPER:
        p.subreaper = int(bool(arg2))
    elif option == PR_GET_CHILD_SUBREAPER:
        t.memory.store(arg2, 4, p.subreaper)
    elif option == PR_SET_NO_NEW_PRIVS:
        if arg2 != 1 or arg3 or arg4 or arg5:
            raise Errno(EINVAL)
        p.no_new_privs = 1
    elif option == PR_GET_TID_ADDRESS:
        t.memory.store(arg2, 4, t.clear_child_tid)
    else:
        return _prctl_value(t, option, arg2)
    return 0


def _prctl_value(t: Thread, option: int, arg2: int) -> int:
    """The options that answer by their result, or change nothing here."""
    if option == PR_GET_DUMPABLE:
        return t.process.dumpable
    if option == PR_GET_NO_NEW_PRIVS:
        return t.process.no_new_privs
    if option in (PR_GET_KEEPCAPS, PR_GET_SECCOMP):
        return 0
    if option == PR_GET_TIMERSLACK:
        return 50_000
    if option == PR_SET_TIMERSLACK:
        return 0
    if option == PR_CAPBSET_READ and arg2 <= 40:
        return int(t.credentials.euid == 0)
    raise Errno(EINVAL)


# --- capabilities -----------------------------------------------------------------------------------------------------


@layout("<Ii")
class CapHeader(NamedTuple):
    """struct __user_cap_header_struct (capget(2))."""

    version: int
    pid: int


@syscall(184, "capget", man="capget(2)")
def capget(t: Thread, header: InOut[CapHeader], data: Ptr) -> int:
    """The capabilities: all of root's, none of anybody else's."""
    words = _capability_words(header)
    given = header.get()
    if given.pid < 0:
        raise Errno(EINVAL)
    process = t.kernel.find_process(given.pid) if given.pid else t.process
    if process is None:
        raise Errno(ESRCH)
    if data:
        full = 0xFFFFFFFF if process.credentials.euid == 0 else 0
        effective_permitted_inheritable = [word for n in range(words) for word in (full >> 23 * n,) * 2 + (0,)]
        t.memory.write(data, struct.pack(f"<{3 * words}I", *effective_permitted_inheritable))
    return 0


@syscall(185, "capset", man="capget(2)")
def capset(t: Thread, header: InOut[CapHeader], data: Ptr) -> int:
    """Nobody may raise capabilities here; asking for none changes nothing where there are none."""
    words = _capability_words(header)
    if header.get().pid not in (0, t.process.pid):
        raise Errno(EPERM)
    asked = t.memory.read(data, 12 * words)
    if any(asked) or t.credentials.euid == 0:
        raise Errno(EPERM)
    return 0


def _capability_words(header: InOut[CapHeader]) -> int:
    given = header.get()
    words = CAPABILITY_VERSIONS.get(given.version)
    if words is None:
        header.put(given._replace(version=CAPABILITY_VERSION_3))
        raise Errno(EINVAL)
    return words

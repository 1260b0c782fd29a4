"""openat2(2): openat with its arguments in memory, and flags that are checked."""

from __future__ import annotations

import struct
from functools import reduce
from operator import or_
from typing import Final

from aiopyvm.abi.errno import E2BIG, EAGAIN, EINVAL, Errno
from aiopyvm.abi.fcntl import (
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_LARGEFILE,
    O_NOFOLLOW,
    O_PATH,
    O_TMPFILE_BIT,
    OPEN_NAMES,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
)
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.layout import PAGE
from aiopyvm.syscalls.files import open_path
from aiopyvm.syscalls.spec import CStr, DirFd, Ptr, Size, syscall

OPEN_HOW_BYTES: Final = 24  # struct open_how of Linux 5.6
OPEN_KNOWN: Final = reduce(or_, OPEN_NAMES)
OPEN_PATH_KNOWN: Final = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
RESOLVE_KNOWN: Final = 0x3F
_ONE_OF: Final = RESOLVE_BENEATH | RESOLVE_IN_ROOT


@syscall(437, "openat2", man="openat2(2)")
def openat2(t: Thread, dirfd: DirFd, path: CStr, how: Ptr, size: Size) -> int | Wait:
    """openat with its arguments in memory; flags that it does not know are EINVAL."""
    if size < OPEN_HOW_BYTES:
        raise Errno(EINVAL)
    if size > PAGE:
        raise Errno(E2BIG)
    data = t.memory.read(how, size)
    if any(data[OPEN_HOW_BYTES:]):
        raise Errno(E2BIG)
    flags, mode, resolve = struct.unpack_from("<QQQ", data)
    if flags & ~OPEN_KNOWN or resolve & ~RESOLVE_KNOWN or mode & ~0o7777:
        raise Errno(EINVAL)
    if (mode and not flags & (O_CREAT | O_TMPFILE_BIT)) or (flags & O_PATH and flags & ~OPEN_PATH_KNOWN):
        raise Errno(EINVAL)
    if resolve & _ONE_OF == _ONE_OF:
        raise Errno(EINVAL)
    if resolve & RESOLVE_CACHED:
        raise Errno(EAGAIN)  # whether a name is known without asking the host, nobody promises
    return open_path(t, dirfd, path, flags | O_LARGEFILE, mode, resolve)

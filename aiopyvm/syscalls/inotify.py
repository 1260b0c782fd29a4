"""Watching files and directories: inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2)."""

from __future__ import annotations

from typing import Annotated

from aiopyvm.abi import inotify as abi
from aiopyvm.abi.errno import EINVAL, ENOTDIR, Errno
from aiopyvm.abi.fcntl import O_CLOEXEC, O_NONBLOCK, R_OK
from aiopyvm.abi.stat import S_IFDIR
from aiopyvm.kernel.fs import need
from aiopyvm.kernel.inotify import Inotify
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.files import OpenFlags, give
from aiopyvm.syscalls.spec import I32, CStr, Fd, Flags, syscall

Events = Annotated[int, Flags(abi.NAMES)]


@syscall(291, "inotify_init", man="inotify_init(2)")
def inotify_init(t: Thread) -> int:
    """Open an instance."""
    return give(t, Inotify(t.kernel.budget, 0))


@syscall(332, "inotify_init1", man="inotify_init(2)")
def inotify_init1(t: Thread, flags: OpenFlags) -> int:
    """Open an instance."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        raise Errno(EINVAL)
    return give(t, Inotify(t.kernel.budget, flags & O_NONBLOCK), cloexec=bool(flags & O_CLOEXEC))


def _instance(t: Thread, fd: int) -> Inotify:
    file = t.process.fds.get(fd)
    if not isinstance(file, Inotify):
        raise Errno(EINVAL)
    return file


@syscall(
    292,
    "inotify_add_watch",
    man="inotify_add_watch(2)",
    note="what the host does itself is not told",
)
def inotify_add_watch(t: Thread, fd: Fd, pathname: CStr, mask: Events) -> int:
    """Watch a file or a directory."""
    if not mask & abi.KNOWN or mask & (abi.IN_MASK_ADD | abi.IN_MASK_CREATE) == abi.IN_MASK_ADD | abi.IN_MASK_CREATE:
        raise Errno(EINVAL)
    instance = _instance(t, fd)
    ctx = t.fs
    inode = t.kernel.vfs.lookup(ctx, pathname, follow=not mask & abi.IN_DONT_FOLLOW)
    if mask & abi.IN_ONLYDIR and inode.kind != S_IFDIR:
        raise Errno(ENOTDIR)
    need(inode, ctx, R_OK)
    return instance.watch(inode, mask)


@syscall(293, "inotify_rm_watch", man="inotify_rm_watch(2)")
def inotify_rm_watch(t: Thread, fd: Fd, wd: I32) -> int:
    """Watch something no longer."""
    instance = _instance(t, fd)
    watch = instance.watching.get(wd)
    if watch is None:
        raise Errno(EINVAL)
    instance.drop(watch)
    return 0

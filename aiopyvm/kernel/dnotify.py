"""Signals for what is done in a directory (fcntl(2), F_NOTIFY; fs/notify/dnotify of the Linux source).

A `DirNotice` stands among the watchers of its directory, as a watch of inotify does. It belongs to an open file
description and to the descriptor table that asked, and goes with the first close of such a descriptor there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi import fcntl as abi
from aiopyvm.abi import inotify
from aiopyvm.abi.errno import ENOMEM, Errno
from aiopyvm.abi.signal import POLL_MSG
from aiopyvm.kernel.sigio import own, send_sigio

if TYPE_CHECKING:
    from aiopyvm.kernel.fdtable import FdTable
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.process import Process

MAX_NOTICES: Final = 64  # of one directory: all are told at once
_EVENTS: Final = {
    abi.DN_ACCESS: inotify.IN_ACCESS,
    abi.DN_MODIFY: inotify.IN_MODIFY,
    abi.DN_CREATE: inotify.IN_CREATE | inotify.IN_MOVED_TO,
    abi.DN_DELETE: inotify.IN_DELETE | inotify.IN_MOVED_FROM,
    abi.DN_ATTRIB: inotify.IN_ATTRIB,
}


class DirNotice:
    """What `table` asked for of the directory that is open as `file`: `wanted` is DN_* bits."""

    __slots__ = ("_left", "fd", "file", "inode", "table", "wanted")
    instance = None  # of inotify

    def __init__(self, file: File, inode: Inode, table: FdTable) -> None:
        self.file = file
        self.inode = inode
        self.table = table
        self.fd = 0
        self.wanted = 0
        self._left = 0  # the cookie of the last name that was moved away

    def happened(self, events: int, name: bytes, cookie: int) -> None:
        """Something was done to the directory, or to `name` in it."""
        if any(self.wanted & bit and events & watched for bit, watched in _EVENTS.items()):
            self._tell()
        if events & inotify.IN_MOVED_FROM:
            self._left = cookie
        elif events & inotify.IN_MOVED_TO and cookie == self._left and self.wanted & abi.DN_RENAME:
            self._tell()

    def _tell(self) -> None:
        if not self.wanted:
            return
        send_sigio(self.file, self.fd, POLL_MSG)
        if not self.wanted & abi.DN_MULTISHOT:
            self.drop()

    def gone(self) -> None:
        """The directory can never be reached again."""

    def drop(self) -> None:
        """Ask for nothing any more."""
        self.wanted = 0
        self.inode.watchers = {one: None for one in self.inode.watchers or () if one is not self} or None
        if self.file.notices is not None:
            self.file.notices.pop(self.table, None)


def notify(process: Process, file: File, fd: int, inode: Inode, wanted: int) -> None:
    """F_NOTIFY of `file`, a directory open as `fd`: more events. Raises Errno(ENOMEM)."""
    if file.notices is None:
        file.notices = {}
    notice = file.notices.get(process.fds)
    if notice is None:
        watchers = inode.watchers or {}
        if sum(isinstance(one, DirNotice) for one in watchers) >= MAX_NOTICES:
            raise Errno(ENOMEM)
        notice = file.notices[process.fds] = DirNotice(file, inode, process.fds)
        inode.watchers = {notice: None, **watchers}
    notice.fd = fd
    notice.wanted |= wanted
    if file.io_owner is None or file.io_owner.target is None:
        file.io_owner = own(process, abi.F_OWNER_PID, process)

"""Through whose eyes the file system is seen: root, working directory, umask, and the ids for permissions."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Directory
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.vfs import Vfs


class FsContext:
    """A process's place in the file system (credentials(7): `uid` and `gid` are the file-system ids).

    `process` is whom /proc/self means; None for an administrator outside of any process.
    """

    def __init__(
        self,
        vfs: Vfs,
        root: Directory,
        cwd: Directory,
        umask: int = 0o022,
        uid: int = 0,
        gid: int = 0,
        groups: frozenset[int] = frozenset(),
        process: Process | None = None,
    ) -> None:
        self.vfs = vfs
        self.root = root
        self.cwd = cwd
        self.umask = umask
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.process = process

    def clone(self, process: Process | None = None) -> FsContext:
        """Return an independent copy, for a child `process` (fork(2))."""
        made = copy.copy(self)
        made.process = process
        return made

    def in_group(self, gid: int) -> bool:
        """Whether `gid` is the file-system group or a supplementary one."""
        return gid == self.gid or gid in self.groups

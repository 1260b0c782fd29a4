"""Through whose eyes the file system is seen: root, working directory, umask, and the ids for permissions."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from aiopyvm.abi.fcntl import RESOLVE_IN_ROOT

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Directory
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.vfs import Vfs


class Place:
    """Root, working directory and umask: what processes may share (clone(2), CLONE_FS)."""

    __slots__ = ("cwd", "root", "umask")

    def __init__(self, root: Directory, cwd: Directory, umask: int) -> None:
        self.root = root
        self.cwd = cwd
        self.umask = umask

    def copy(self) -> Place:
        """Return an independent one."""
        return Place(self.root, self.cwd, self.umask)


class FsContext:
    """A process's place in the file system, and its ids there (credentials(7): `uid` and `gid` are the file-system
    ids), which are nobody else's.

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
        self.place = Place(root, cwd, umask)
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.process = process
        self.scope = 0  # RESOLVE_* of openat2(2), in the one that such a call has made for itself

    @property
    def root(self) -> Directory:
        """Where absolute paths begin."""
        return self.place.root

    @root.setter
    def root(self, directory: Directory) -> None:
        self.place.root = directory

    @property
    def cwd(self) -> Directory:
        """Where other paths begin."""
        return self.place.cwd

    @cwd.setter
    def cwd(self, directory: Directory) -> None:
        self.place.cwd = directory

    @property
    def umask(self) -> int:
        """The permission bits that new files do not get."""
        return self.place.umask

    @umask.setter
    def umask(self, mask: int) -> None:
        self.place.umask = mask

    def share(self, process: Process | None) -> FsContext:
        """Return one with the same place, for a child `process` (clone(2), CLONE_FS)."""
        made = copy.copy(self)
        made.process = process
        return made

    def clone(self, process: Process | None = None) -> FsContext:
        """Return an independent copy, for a child `process` (fork(2))."""
        made = self.share(process)
        made.place = self.place.copy()
        return made

    def scoped(self, scope: int, start: Directory) -> FsContext:
        """Return one for a single walk from `start`, with RESOLVE_* in `scope`."""
        made = self.clone(self.process)
        made.scope, made.cwd = scope, start
        if scope & RESOLVE_IN_ROOT:
            made.root = start
        return made

    def in_group(self, gid: int) -> bool:
        """Whether `gid` is the file-system group or a supplementary one."""
        return gid == self.gid or gid in self.groups

"""File descriptor tables: small integers to open file descriptions, the lowest free one first (open(2), dup(2)).

A table is shared between threads by reference count (clone(2), CLONE_FILES): `share()` and `release()`. It owns the
POSIX record locks of its process, as in Linux: closing any descriptor of a file drops all of them on that file
(fcntl(2)).
"""

from __future__ import annotations

from collections.abc import Iterator

from aiopyvm.abi.errno import EBADF, EINVAL, EMFILE, Errno
from aiopyvm.abi.fcntl import O_PATH
from aiopyvm.kernel.file import File

DEFAULT_LIMIT = 1024


class FdTable:
    """Descriptors of one process. `limit` is RLIMIT_NOFILE: the first number that cannot be given out."""

    __slots__ = ("_cloexec", "_free", "files", "limit", "refs", "refused")

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.files: list[File | None] = []  # by descriptor
        self._cloexec: set[int] = set()
        self._free = 0  # no descriptor below this one is free
        self.limit = limit
        self.refs = 1
        self.refused = 0  # how often EMFILE was given

    def __len__(self) -> int:
        return sum(file is not None for file in self.files)

    def __iter__(self) -> Iterator[tuple[int, File]]:
        return iter([(fd, file) for fd, file in enumerate(self.files) if file is not None])

    @property
    def capacity(self) -> int:
        """How many descriptors have room, as Linux's tables grow: 64 or a power of two."""
        return max(64, 1 << (len(self.files) - 1).bit_length() if self.files else 0)

    def find(self, fd: int) -> File | None:
        """Return the open file description of `fd`, None when it is closed."""
        return self.files[fd] if 0 <= fd < len(self.files) else None

    def get(self, fd: int) -> File:
        """Return the open file description of `fd`. Raises Errno(EBADF), also for O_PATH ones."""
        file = self.files[fd] if 0 <= fd < len(self.files) else None
        if file is None or file.flags & O_PATH:
            raise Errno(EBADF)
        return file

    def get_any(self, fd: int) -> File:
        """Like `get`, O_PATH descriptors too."""
        file = self.find(fd)
        if file is None:
            raise Errno(EBADF)
        return file

    def install(self, file: File, minimum: int = 0, *, cloexec: bool = False, limit: int | None = None) -> int:
        """Give `file` the lowest free descriptor >= `minimum` and hold it; return the descriptor.

        Raises Errno(EMFILE) at `limit` (the table's own when None), Errno(EINVAL) when `minimum` is not below it.
        """
        limit = self.limit if limit is None else limit
        if minimum < 0 or (minimum and minimum >= limit):
            raise Errno(EINVAL)
        fd = self._lowest_free(minimum)
        if fd >= limit:
            self.refused += 1
            raise Errno(EMFILE)
        self._put(fd, file, cloexec)
        return fd

    def need_free(self) -> None:
        """Raise Errno(EMFILE) when `install` would."""
        if self._lowest_free(0) >= self.limit:
            self.refused += 1
            raise Errno(EMFILE)

    def install_at(self, fd: int, file: File, *, cloexec: bool = False) -> None:
        """Make `fd` refer to `file`, closing what it was (dup2(2)). Raises Errno(EBADF) at the limit."""
        if not 0 <= fd < self.limit:
            raise Errno(EBADF)
        file.hold()
        if self.find(fd) is not None:
            self.close(fd)
        self._put(fd, file, cloexec)
        file.refs -= 1

    def close(self, fd: int) -> None:
        """Close `fd`. Raises Errno(EBADF)."""
        file = self.find(fd)
        if file is None:
            raise Errno(EBADF)
        self.files[fd] = None
        self._cloexec.discard(fd)
        self._free = min(self._free, fd)
        if file.inode is not None and file.inode.locks is not None:
            file.inode.locks.drop_owner(self)
        if file.notices is not None and (notice := file.notices.get(self)) is not None:
            notice.drop()
        if file.flushes:
            file.flush(self)
        file.release()

    def cloexec(self, fd: int) -> bool:
        """Whether `fd` is closed by execve(2). Raises Errno(EBADF)."""
        self.get_any(fd)
        return fd in self._cloexec

    def set_cloexec(self, fd: int, value: bool) -> None:
        """Set FD_CLOEXEC. Raises Errno(EBADF)."""
        self.get_any(fd)
        (self._cloexec.add if value else self._cloexec.discard)(fd)

    def close_on_exec(self) -> None:
        """Close what is marked FD_CLOEXEC."""
        for fd in sorted(self._cloexec):
            self.close(fd)

    def close_all(self) -> None:
        """Close every descriptor."""
        for fd, _ in self:
            self.close(fd)

    def fork(self) -> FdTable:
        """Return a copy that shares the open file descriptions (fork(2))."""
        child = FdTable(self.limit)
        child.files = list(self.files)
        child._cloexec = set(self._cloexec)
        child._free = self._free
        for file in child.files:
            if file is not None:
                file.refs += 1
        return child

    def share(self) -> FdTable:
        """Count one more user of this table (CLONE_FILES); returns the table."""
        self.refs += 1
        return self

    def release(self) -> None:
        """Drop one user; the last one closes every descriptor."""
        self.refs -= 1
        if self.refs == 0:
            self.close_all()

    def _put(self, fd: int, file: File, cloexec: bool) -> None:
        files = self.files
        if fd >= len(files):
            files.extend([None] * (fd + 1 - len(files)))
        files[fd] = file
        file.refs += 1
        if cloexec:
            self._cloexec.add(fd)
        if fd == self._free:
            self._free = fd + 1

    def _lowest_free(self, minimum: int) -> int:
        files = self.files
        fd = max(minimum, self._free)
        while fd < len(files) and files[fd] is not None:
            fd += 1
        if minimum <= self._free:
            self._free = fd
        return fd

"""A file's content as memory sees it (mmap(2)): pages are read when they are touched, shared stores go to the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi.errno import Errno
from aiopyvm.mem.backing import Backing

if TYPE_CHECKING:
    from aiopyvm.kernel.fsfile import RegularInode


class FileBacking(Backing):
    """The content of a regular file. The inode counts as open while anything maps it."""

    def __init__(self, inode: RegularInode) -> None:
        self._inode = inode
        inode.opened()

    def size(self) -> int:
        """Size in bytes, as the file is now; 0 when the host lost it."""
        try:
            return self._inode.size
        except Errno:
            return 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the file. OSError where the file system fails."""
        try:
            return self._inode.read_at(offset, length)
        except Errno as error:
            raise OSError(error.number, error.name) from None

    def write_at(self, offset: int, data: bytes) -> None:
        """Store into the file. OSError where the file system fails."""
        try:
            self._inode.write_at(offset, data)
        except Errno as error:
            raise OSError(error.number, error.name) from None

    def __del__(self) -> None:
        self._inode.closed()

"""Shared mappings of files: every load and store goes to the open file itself, so that all who map or read it agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi.errno import Errno
from aiopyvm.mem.backing import Backing

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File


class FileBacking(Backing):
    """The content of an open file, which it keeps open. `writable` tells whether the file was opened for writing."""

    def __init__(self, file: File) -> None:
        self._file = file.hold()
        self.writable = file.writable

    def size(self) -> int:
        """The file's size now."""
        try:
            return self._file.stat().size
        except Errno:
            return 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the file; OSError where it cannot be read."""
        try:
            return self._file.pread(length, offset)
        except Errno as error:
            raise OSError(error.number, str(error)) from None

    def write_at(self, offset: int, data: bytes) -> None:
        """Store into the file; OSError where it cannot be written."""
        try:
            self._file.pwrite(data, offset)
        except Errno as error:
            raise OSError(error.number, str(error)) from None

    def __del__(self) -> None:
        self._file.release()

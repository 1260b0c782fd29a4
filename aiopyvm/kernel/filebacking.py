"""A file's content as memory sees it (mmap(2)): pages are read when they are touched, shared stores go to the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi.errno import Errno
from aiopyvm.mem.backing import Backing, HeldImages

if TYPE_CHECKING:
    from aiopyvm.kernel.fsfile import RegularFile


class FileBacking(Backing):
    """The content of an open regular file, which it keeps open. `writable`: the file was opened for writing.

    While nobody can write it, and no guest has, an image shows it.
    """

    def __init__(self, file: RegularFile, images: HeldImages) -> None:
        self._file = file.hold()
        self._content = file.content
        self.writable = file.writable
        image = None if file.writable else file.mmap_image(images)
        if image is not None and image.extent is not None:
            self._image, self.extent, self.frozen = image, image.extent, True

    def size(self) -> int:
        """The file's size now; 0 when the host lost it."""
        try:
            return self._content.size
        except Errno:
            return 0

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the file; OSError where it cannot be read."""
        try:
            return self._content.read_at(offset, length)
        except Errno as error:
            raise OSError(error.number, str(error)) from None

    def write_at(self, offset: int, data: bytes) -> None:
        """Store into the file; OSError where it cannot be written."""
        try:
            self._content.write_at(offset, data)
        except Errno as error:
            raise OSError(error.number, str(error)) from None

    def changed(self, offset: int, length: int) -> None:
        """Tell who maps it that the bytes may have changed."""
        self.thaw()
        super().changed(offset, length)

    def __del__(self) -> None:
        self._file.release()

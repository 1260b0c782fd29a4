"""A file's content as memory sees it (mmap(2)): pages are read when they are touched, shared stores go to the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi.errno import Errno
from aiopyvm.mem.backing import Backing, HeldImages

if TYPE_CHECKING:
    from aiopyvm.kernel.fsfile import RegularFile
    from aiopyvm.mem.space import AddressSpace


class FileBacking(Backing):
    """The content of an open regular file, which it keeps open. `writable`: the file was opened for writing.

    While nobody can write it, and no guest has, an image shows it. What is mapped to be written by all is in an extent,
    where it is memory of ours.
    """

    tells_writes = True

    def __init__(self, file: RegularFile, images: HeldImages) -> None:
        self._file = file.hold()
        self._content = file.content
        assert file.inode is not None
        self._inode = file.inode
        self.has_code = any(other.has_code for other in tuple((self._inode.backings or {}).values()))
        self.writable = file.writable
        image = None if file.writable else file.mmap_image(images)
        if image is not None and image.extent is not None:
            self._image, self.extent, self.frozen = image, image.extent, True

    def join(self, space: AddressSpace) -> None:
        """`space` maps the file shared from now on: let the host show it."""
        super().join(space)
        if self.attach_shared and self.writable and not self._of_one_machine():
            self.extent, self.attach_shared = None, False
            self.hide()
        elif self.writable or self._content.shared:
            self._share()

    def _share(self) -> None:
        if self.extent is None and self._of_one_machine():
            self.extent = self._content.share(self)
            self.attach_shared = self.extent is not None

    def _of_one_machine(self) -> bool:
        """Whether all who map it are never executed at once: else LOCKed instructions would have to be the host's."""
        return len({id(space.budget) for space in self._mappers}) <= 1

    def has_page(self, offset: int, *, write: bool) -> bool:
        """Whether the extent has the page at `offset`, to be written if `write`."""
        if not self.attach_shared:
            return True
        try:
            return self._content.show_page(offset, write=write)
        except Errno:
            return False

    def code_found(self) -> None:
        """A space runs code from it: no store may go unseen, through whichever description it is mapped."""
        super().code_found()
        for other in tuple(self._inode.backings.values()) if self._inode.backings else ():
            if not other.has_code:
                other.code_found()

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
        self._share()  # what is over a host's file is memory of ours now

    def changed(self, offset: int, length: int) -> None:
        """Tell who maps it, through whichever description, that the bytes may have changed."""
        self.thaw()
        for backing in tuple(self._inode.backings.values()) if self._inode.backings else ():
            if backing.has_code:
                Backing.changed(backing, offset, length)

    def __del__(self) -> None:
        self._file.release()

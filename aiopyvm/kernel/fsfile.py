"""Open regular files and directories of any file system."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from aiopyvm.abi.errno import EBADF, EFBIG, EINVAL, EISDIR, ENOMEM, ENXIO, EOPNOTSUPP, Errno
from aiopyvm.abi.fcntl import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    MAX_FILE_SIZE,
    MAX_NON_LFS,
    O_ACCMODE,
    O_APPEND,
    O_LARGEFILE,
    O_RDONLY,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
)
from aiopyvm.abi.inotify import IN_ACCESS, IN_MODIFY
from aiopyvm.abi.poll import READABLE, WRITABLE
from aiopyvm.kernel.file import File
from aiopyvm.kernel.filebacking import FileBacking
from aiopyvm.kernel.fileimages import FILE_IMAGES, MOST_OF_ONE, SHARE
from aiopyvm.kernel.fs import Directory, Entry, FixedListing, Inode, Listing

if TYPE_CHECKING:
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.mem.arena import Extent
    from aiopyvm.mem.backing import Backing, HeldImages, ImageBacking

MAX_WHOLE = 64 << 20  # bytes of a file that is read whole (a program)
GRAFT_COOKIE = 0x7FFF0000  # names that are mounted in a directory come after its own


class RegularInode(Protocol):
    """What an open regular file asks of its inode; every method may raise Errno."""

    readers: int
    writers: int

    @property
    def size(self) -> int:
        """st_size."""
        ...

    def read_at(self, offset: int, n: int) -> bytes:
        """Return at most `n` bytes at `offset`."""
        ...

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Store bytes at `offset`; return how many."""
        ...

    def truncate(self, size: int) -> None:
        """Set the size."""
        ...

    def punch(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        ...

    def seek_data(self, offset: int, hole: bool) -> int:
        """SEEK_DATA, SEEK_HOLE."""
        ...

    def snapshot(self) -> bytes:
        """Return the whole content, immutable."""
        ...

    def given(self) -> bytes | None:
        """Return the whole content where no guest made it, the same object each time; None for others."""
        ...

    @property
    def shared(self) -> bool:
        """Whether an extent holds it, which the host shows to whoever maps it."""
        ...

    def share(self, backing: Backing) -> Extent | None:
        """Hold it in an extent from now on, for `backing`; None where it is not memory of ours."""
        ...

    def show_page(self, offset: int, *, write: bool) -> bool:
        """Let the extent have the page at `offset`, to be written if `write`; False where it cannot."""
        ...

    def sync(self) -> None:
        """fsync(2)."""
        ...

    def opened(self) -> None:
        """Count one more open file description."""
        ...

    def closed(self) -> None:
        """Count one less."""
        ...


class RegularFile(File):
    """An open regular file; `content` is its inode."""

    seekable = True
    pollable = False

    def __init__(self, inode: Inode, flags: int) -> None:
        super().__init__(flags, inode)
        self.content: RegularInode = inode  # type: ignore[assignment]  # the file systems' regular inodes are both
        self.content.opened()
        if self.writable:
            inode.writers += 1
            for backing in tuple(inode.backings.values()) if inode.backings else ():
                backing.thaw()
        elif flags & O_ACCMODE == O_RDONLY:
            inode.readers += 1

    def close(self) -> None:
        """Tell the inode."""
        if self.writable:
            self.content.writers -= 1
        elif self.flags & O_ACCMODE == O_RDONLY:
            self.content.readers -= 1
        self.content.closed()

    def read(self, n: int) -> bytes:
        """Return the bytes at the position and move it."""
        data = self.content.read_at(self.offset, n)
        self.offset += len(data)
        if data:
            self.tell(IN_ACCESS)
        return data

    def write(self, data: bytes) -> int:
        """Store bytes at the position, or at the end with O_APPEND, and move it. Raises Errno: ENOSPC, EFBIG."""
        offset = self.content.size if self.flags & O_APPEND else self.offset
        n = self._store(data, offset)
        self.offset = offset + n
        return n

    def pread(self, n: int, offset: int) -> bytes:
        """Return the bytes at `offset`."""
        data = self.content.read_at(offset, n)
        if data:
            self.tell(IN_ACCESS)
        return data

    def pwrite(self, data: bytes, offset: int) -> int:
        """Store bytes at `offset`; with O_APPEND at the end, as Linux does (pwrite(2), BUGS)."""
        return self._store(data, self.content.size if self.flags & O_APPEND else offset)

    def _store(self, data: bytes, offset: int) -> int:
        limit = MAX_FILE_SIZE if self.flags & O_LARGEFILE else MAX_NON_LFS
        if offset + len(data) > limit:
            if offset >= limit and data:
                raise Errno(EFBIG)
            data = data[: limit - offset]
        n = self.content.write_at(offset, data)
        self._changed(offset, n)
        return n

    def _changed(self, offset: int, n: int) -> None:
        """Tell whoever maps the file, or watches it."""
        if n:
            self.tell(IN_MODIFY)
        if self.inode is not None and self.inode.backings:
            self.inode.changed_bytes(offset, n)

    def seek(self, offset: int, whence: int) -> int:
        """Move the position. Raises Errno: EINVAL, ENXIO."""
        if whence == SEEK_CUR:
            offset += self.offset
        elif whence == SEEK_END:
            offset += self.content.size
        elif whence in (SEEK_DATA, SEEK_HOLE):
            if offset < 0:
                raise Errno(ENXIO)
            offset = self.content.seek_data(offset, whence == SEEK_HOLE)
        elif whence != SEEK_SET:
            raise Errno(EINVAL)
        if not 0 <= offset <= MAX_FILE_SIZE:
            raise Errno(EINVAL)
        self.offset = offset
        return offset

    def truncate(self, size: int) -> None:
        """Set the size. Raises Errno: EINVAL, EFBIG, ENOSPC."""
        if size < 0 or not self.writable:
            raise Errno(EINVAL)
        if size > MAX_NON_LFS and not self.flags & O_LARGEFILE:
            raise Errno(EINVAL)
        old = self.content.size
        self.content.truncate(size)
        self._changed(min(old, size), abs(old - size))
        if old == size:
            self.tell(IN_MODIFY)

    def allocate(self, offset: int, length: int, mode: int) -> None:
        """fallocate(2): sizes, holes and zeros; space itself is taken when it is written."""
        if offset < 0 or length <= 0:
            raise Errno(EINVAL)
        if offset + length > MAX_FILE_SIZE:
            raise Errno(EFBIG)
        if mode not in (
            0,
            FALLOC_FL_KEEP_SIZE,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            FALLOC_FL_ZERO_RANGE,
            FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        ):
            raise Errno(EOPNOTSUPP)
        if mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
            self.content.punch(offset, length)
            self._changed(offset, length)
        if not mode & FALLOC_FL_KEEP_SIZE and offset + length > self.content.size:
            self.content.truncate(offset + length)

    def sync(self) -> None:
        """Make what was written durable, as far as the file system can."""
        self.content.sync()

    def available(self) -> int:
        """Return the bytes from the position to the end."""
        return max(0, self.content.size - self.offset)

    def mmap_backing(self, images: HeldImages) -> FileBacking:
        """Return the content as a backing that keeps the file open: one for all who map it."""
        inode = self.inode
        assert inode is not None
        if inode.backings is None:
            inode.backings = weakref.WeakValueDictionary()
        backing = inode.backings.get(self.writable)
        if backing is None:
            backing = inode.backings[self.writable] = FileBacking(RegularFile(inode, self.flags), images)
        return backing

    def mmap_image(self, images: HeldImages) -> ImageBacking | None:
        """Return an image of the content, for a private mapping; None where somebody may be changing it, or `images`
        has no room for it."""
        try:
            if self.inode is None or self.inode.writers or self.content.size > MOST_OF_ONE:
                return None
            content = self.content.given()
        except Errno:
            return None  # a page that cannot be read is a SIGBUS when it is touched
        image = FILE_IMAGES.of(content) if content else None
        return images.hold(image, SHARE) if image is not None else None

    def mmap_content(self) -> bytes:
        """Return the whole content. Raises Errno: ENOMEM for more than MAX_WHOLE bytes, or as its file system."""
        if self.content.size > MAX_WHOLE:
            raise Errno(ENOMEM)
        return self.content.snapshot()


class EndlessFile(File):
    """An open file with a position, and no end that could be sought."""

    seekable = True
    pollable = False

    def seek(self, offset: int, whence: int) -> int:
        """Move the position. Raises Errno(EINVAL)."""
        if whence == SEEK_CUR:
            offset += self.offset
        elif whence != SEEK_SET:
            raise Errno(EINVAL)
        if offset < 0:
            raise Errno(EINVAL)
        self.offset = offset
        return offset


class DirectoryFile(EndlessFile):
    """An open directory. The position is the cookie of the last entry read; 0 is a new start."""

    def __init__(self, inode: Directory, flags: int, ctx: FsContext) -> None:
        super().__init__(flags, inode)
        self.directory = inode
        self.place = inode.own_place
        self._ctx = ctx
        self._listing: Listing | None = None
        self._kept = 0  # bytes charged for it
        self.directory_opened()

    def directory_opened(self) -> None:
        """Let the inode live while it is open."""
        opened = getattr(self.directory, "opened", None)
        if opened is not None:
            opened()

    def close(self) -> None:
        """Tell the inode."""
        self._listing = None
        closed = getattr(self.directory, "closed", None)
        if closed is not None:
            closed()

    def read(self, n: int) -> bytes:
        """Raises Errno(EISDIR)."""
        raise Errno(EISDIR)

    def pread(self, n: int, offset: int) -> bytes:
        """Raises Errno(EISDIR)."""
        raise Errno(EISDIR)

    def sync(self) -> None:
        """Nothing to do: names are in memory, or were changed on the host at once."""

    def poll(self) -> int:
        """Always ready."""
        return READABLE | WRITABLE

    def allocate(self, offset: int, length: int, mode: int) -> None:
        """Raises Errno(EBADF): a directory is never open for writing."""
        raise Errno(EBADF)

    def _keep(self, listing: Listing) -> None:
        """Hold a listing until the next, and charge for what it holds. Raises Errno(ENOMEM)."""
        size = listing.size_bytes if isinstance(listing, FixedListing) else 0
        if size != self._kept and self.refs:
            try:
                self.charge(self._ctx.vfs.budget, size - self._kept)
            except Errno:
                raise Errno(ENOMEM) from None
            self._kept = size
        self._listing = listing

    def entries(self) -> Iterator[Entry]:
        """Iterate over ".", "..", the names, and what is mounted here."""
        directory = self.directory
        if directory.removed:
            return
        if self.offset == 0 or self._listing is None:
            self._keep(directory.listing(self._ctx))
        listing = self._listing
        assert listing is not None
        self.tell(IN_ACCESS)
        if self.offset < 1:
            yield Entry(1, directory.stat().ino, 4, b".")
        if self.offset < 2:
            up = directory if directory is self._ctx.root else directory.parent
            yield Entry(2, up.stat().ino, 4, b"..")
        grafts = dict(directory.grafts or {})
        if self.offset < GRAFT_COOKIE:
            for entry in listing(self.offset):
                if entry.name not in grafts:
                    yield entry
        for n, (name, inode) in enumerate(grafts.items(), GRAFT_COOKIE + 1):
            if n > self.offset:
                yield Entry(n, inode.stat().ino, 4, name)

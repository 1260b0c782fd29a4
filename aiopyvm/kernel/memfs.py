"""The in-memory file system: files, directories, symbolic links, FIFOs and device nodes (tmpfs(5)).

Everything is charged to the budget: pages when they are written (`fscontent.py`), each inode and each name when it is
made. An inode that has no name left lives on while it is open; its memory goes with the last descriptor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import ENOENT, ENOSPC, ENXIO, EPERM, Errno
from aiopyvm.abi.stat import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    TMPFS_MAGIC,
    Stat,
    StatFs,
)
from aiopyvm.kernel.fs import FIRST_COOKIE, Directory, Entry, FileSystem, Inode, Listing, Symlink
from aiopyvm.kernel.fscontent import Content
from aiopyvm.kernel.fsfile import DirectoryFile, RegularFile
from aiopyvm.kernel.ports import Budget, Clock

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.pipe import Pipe
    from aiopyvm.mem.arena import Extent
    from aiopyvm.mem.backing import Backing

INODE_BYTES = 1024  # what an inode costs the host, and what is charged for it
NAME_BYTES = 160  # the same for a directory entry, the name itself left out
ATTRIBUTE_BYTES = 256  # the same for an extended attribute, its name and value left out
ATTRIBUTE_NAMES = 65536  # bytes of an inode's names, so that listxattr(2) can tell them all (XATTR_LIST_MAX)
DAY_NS = 86_400 * 10**9


class MemFs(FileSystem):
    """A tree in memory. `uid` and `gid` own its root."""

    name = "tmpfs"

    def __init__(
        self, clock: Clock, budget: Budget, *, uid: int = 0, gid: int = 0, mode: int = 0o755, device: int = 1
    ) -> None:
        self.clock = clock
        self.budget = budget
        self.device = device
        self._next_number = 1
        self.root: MemDirectory = self.make_root(uid, gid, mode)

    def make_root(self, uid: int, gid: int, mode: int) -> MemDirectory:
        """Return the directory that a tree of this kind starts with."""
        return MemDirectory(self, S_IFDIR | mode, uid, gid)

    def statfs(self) -> StatFs:
        """Sizes are 0, as on a tmpfs without a limit of its own: the machine's memory is the limit."""
        return StatFs(TMPFS_MAGIC)

    def next_number(self) -> int:
        """Return a fresh inode number."""
        self._next_number += 1
        return self._next_number - 1

    def charge(self, size_bytes: int) -> None:
        """Take memory from the budget (negative: give it back). Raises Errno(ENOSPC)."""
        if not self.budget.charge(size_bytes):
            raise Errno(ENOSPC)


class MemInode(Inode):
    """Attributes kept in memory. `opens` counts the open file descriptions."""

    fs: MemFs
    attributes: dict[bytes, bytes] | None = None  # extended ones

    def __init__(self, fs: MemFs, mode: int, uid: int, gid: int) -> None:
        fs.charge(INODE_BYTES)
        self.fs = fs
        self.number = fs.next_number()
        self.mode = mode & 0o7777
        self.uid = uid
        self.gid = gid
        self.nlink = 0
        self.rdev = 0
        self.opens = 0
        self.atime = self.mtime = self.ctime = self.btime = fs.clock.realtime_ns()

    @property
    def size(self) -> int:
        """st_size."""
        return 0

    @property
    def pages(self) -> int:
        """How many pages hold data."""
        return 0

    def stat(self) -> Stat:
        """Return the attributes."""
        return Stat(
            self.number, self.kind | self.mode, self.nlink, self.uid, self.gid, self.size, self.atime, self.mtime,
            self.ctime, self.btime, self.pages * 8, self.rdev, self.fs.device,
        )  # fmt: skip

    def owner_and_mode(self) -> tuple[int, int, int]:
        """Return (uid, gid, permission bits)."""
        return self.uid, self.gid, self.mode

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self.mode = mode & 0o7777
        self.changed()

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner; -1 leaves one as it is."""
        self.uid = self.uid if uid == -1 else uid
        self.gid = self.gid if gid == -1 else gid
        self.changed()

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set access and modification time."""
        self.atime = self.atime if atime is None else atime
        self.mtime = self.mtime if mtime is None else mtime
        self.changed()

    def extended(self) -> Mapping[bytes, bytes]:
        """Return the extended attributes."""
        return self.attributes or {}

    def set_extended(self, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or remove one. Raises Errno(ENOSPC)."""
        attributes = dict(self.attributes or {})
        old = attributes.pop(name, None)
        if value is not None:
            attributes[name] = value
            if sum(len(known) + 1 for known in attributes) > ATTRIBUTE_NAMES:
                raise Errno(ENOSPC)
        self.fs.charge(_attribute_cost(name, value) - _attribute_cost(name, old))
        self.attributes = attributes or None
        self.changed()

    def changed(self) -> None:
        """Set the time of the last status change to now."""
        self.ctime = self.fs.clock.realtime_ns()

    def modified(self) -> None:
        """Set the time of the last modification to now."""
        self.mtime = self.ctime = self.fs.clock.realtime_ns()

    def accessed(self) -> None:
        """Set the access time to now if it is older than the last change, or than a day (mount(8), relatime)."""
        if self.atime <= self.mtime or self.atime <= self.ctime:
            self.atime = max(self.fs.clock.realtime_ns(), self.atime)
        elif (now := self.fs.clock.realtime_ns()) - self.atime >= DAY_NS:
            self.atime = now

    def opened(self) -> None:
        """Count one more open file description."""
        self.opens += 1

    def closed(self) -> None:
        """Count one less; without names the last one ends the inode."""
        self.opens -= 1
        self.end_if_unused()

    def named(self) -> None:
        """Count one more name."""
        self.nlink += 1

    def unnamed(self) -> None:
        """Count one name less."""
        self.nlink -= 1
        self.changed()
        self.end_if_unused()

    def end_if_unused(self) -> None:
        """Give the memory back when neither a name nor an open file is left."""
        if self.nlink <= 0 and not self.opens:
            self.end()

    def end(self) -> None:
        """Called once, when the inode can never be reached again."""
        self.tell_gone()
        attributes = sum(_attribute_cost(name, value) for name, value in self.extended().items())
        self.fs.budget.charge(-INODE_BYTES - attributes)


def _attribute_cost(name: bytes, value: bytes | None) -> int:
    return 0 if value is None else ATTRIBUTE_BYTES + len(name) + len(value)


class MemFile(MemInode):
    """A regular file."""

    kind = S_IFREG

    def __init__(self, fs: MemFs, mode: int, uid: int, gid: int, content: bytes = b"") -> None:
        super().__init__(fs, mode, uid, gid)
        self.content = Content(fs.budget, content)

    @property
    def size(self) -> int:
        """st_size."""
        return self.content.size

    @property
    def pages(self) -> int:
        """How many pages hold data."""
        return self.content.allocated

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return RegularFile(self, flags)

    def read_at(self, offset: int, n: int) -> bytes:
        """Return at most `n` bytes at `offset`."""
        self.accessed()
        return self.content.read(offset, n)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Store bytes at `offset`; return how many. Raises Errno(ENOSPC)."""
        n = self.content.write(offset, data)
        self.modified()
        return n

    def truncate(self, size: int) -> None:
        """Set the size."""
        self.content.truncate(size)
        self.modified()

    def punch(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        self.content.punch(offset, length)
        self.modified()

    def seek_data(self, offset: int, hole: bool) -> int:
        """SEEK_DATA and SEEK_HOLE (lseek(2)). Raises Errno(ENXIO)."""
        return self.content.seek_hole(offset) if hole else self.content.seek_data(offset)

    def snapshot(self) -> bytes:
        """Return the whole content, the same object until it changes."""
        return self.content.snapshot()

    def given(self) -> bytes | None:
        """The content that Python gave, until it is changed."""
        return self.content.given

    @property
    def shared(self) -> bool:
        """Whether an extent holds it."""
        return self.content.extent is not None

    def share(self, backing: Backing) -> Extent | None:
        """Hold it in an extent from now on, for `backing`."""
        return self.content.share(backing)

    def show_page(self, offset: int, *, write: bool) -> bool:
        """Let the extent have the page at `offset`, to be written if `write`; False without the memory for it."""
        if write:
            self.modified()
        return self.content.show_page(offset)

    def show(self, data: bytes) -> None:
        """Make `data` the content, shared with whoever holds it: only pages that are written are copied and charged."""
        self.content.free()
        self.content = Content(self.fs.budget, data)
        self.modified()

    def sync(self) -> None:
        """Nothing is anywhere else."""

    def end(self) -> None:
        """Give the content's memory back too."""
        self.content.free()
        super().end()


class MemSymlink(MemInode, Symlink):
    """A symbolic link; its permission bits are all set."""

    kind = S_IFLNK

    def __init__(self, fs: MemFs, uid: int, gid: int, target: bytes) -> None:
        fs.charge(len(target))
        try:
            super().__init__(fs, 0o777, uid, gid)
        except Errno:
            fs.budget.charge(-len(target))
            raise
        self.target = target

    @property
    def size(self) -> int:
        """The length of the target."""
        return len(self.target)

    def readlink(self, ctx: FsContext) -> bytes:
        """Return the target."""
        self.accessed()
        return self.target

    def end(self) -> None:
        """Give the target's memory back too."""
        self.fs.budget.charge(-len(self.target))
        super().end()


class MemFifo(MemInode):
    """A FIFO (fifo(7)): the pipe is there while somebody has it open."""

    kind = S_IFIFO
    pipe: Pipe | None = None

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a reading, writing or two-way end of the FIFO's pipe; never waits (open(2) does)."""
        from aiopyvm.kernel.pipe import open_fifo  # pipe.py needs this module's inodes

        return open_fifo(self, flags)


class MemNode(MemInode):
    """A device node or socket that mknod(2) made; its device, if any, is not reachable here."""

    def __init__(self, fs: MemFs, mode: int, uid: int, gid: int, rdev: int) -> None:
        super().__init__(fs, mode, uid, gid)
        self.kind = mode & S_IFMT
        self.rdev = rdev

    def open(self, ctx: FsContext, flags: int) -> File:
        """Raises Errno(ENXIO)."""
        raise Errno(ENXIO)


class MemDirectory(MemInode, Directory):
    """A directory. `_entries` has (cookie, inode) by name; `_order` has the cookies, those of names that went too."""

    kind = S_IFDIR

    def __init__(self, fs: MemFs, mode: int, uid: int, gid: int) -> None:
        super().__init__(fs, mode, uid, gid)
        self.parent = self
        self.nlink = 2
        self._entries: dict[bytes, tuple[int, Inode]] = {}
        self._order: list[int] = []
        self._names: list[bytes] = []
        self._cookie = FIRST_COOKIE

    @property
    def size(self) -> int:
        """As tmpfs has it: 20 bytes a name."""
        return 20 * (len(self._entries) + 2)

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return DirectoryFile(self, flags, ctx)

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return the inode under `name`. Raises Errno(ENOENT)."""
        slot = self._entries.get(name)
        if slot is None:
            raise Errno(ENOENT)
        return slot[1]

    def empty(self) -> bool:
        """Whether nothing is left in it."""
        return not self._entries

    def listing(self, ctx: FsContext) -> Listing:
        """Entries as they are when they are read, in the order in which they were made."""
        self.accessed()
        return self._after

    def _after(self, cookie: int) -> Iterator[Entry]:
        order, names = self._order, self._names  # compaction makes new lists
        for i in range(bisect_right(order, cookie), len(order)):
            slot = self._entries.get(names[i])
            if slot is not None and slot[0] == order[i]:
                inode = slot[1]
                yield Entry(order[i], getattr(inode, "number", 1), inode.kind >> 12, names[i])

    # --- changes ----------------------------------------------------------------------------------------------------

    def make(self, name: bytes, mode: int, uid: int, gid: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Create `name`. Raises Errno: ENOSPC, ENOENT in a removed directory, EPERM for an unknown type."""
        self.need_alive()
        inode = self.new_inode(mode, uid, gid, rdev, target)
        try:
            self.attach(name, inode)
        except Errno:
            inode.end()
            raise
        self.modified()
        return inode

    def new_inode(self, mode: int, uid: int, gid: int, rdev: int, target: bytes) -> MemInode:
        """Return an inode of the type in `mode`, not yet named."""
        match mode & S_IFMT:
            case 0o100000:
                return MemFile(self.fs, mode, uid, gid)
            case 0o040000:
                return MemDirectory(self.fs, mode, uid, gid)
            case 0o120000:
                return MemSymlink(self.fs, uid, gid, target)
            case 0o010000:
                return MemFifo(self.fs, mode, uid, gid)
            case kind if kind in (S_IFCHR, S_IFBLK, S_IFSOCK):
                return MemNode(self.fs, mode, uid, gid, rdev)
        raise Errno(EPERM)

    def make_unnamed(self, mode: int, uid: int, gid: int) -> Inode:
        """Create a regular file without a name (O_TMPFILE)."""
        self.need_alive()
        return MemFile(self.fs, mode, uid, gid)

    def link(self, name: bytes, inode: Inode) -> None:
        """Add a name for `inode`."""
        self.need_alive()
        self.attach(name, inode)
        if isinstance(inode, MemInode):
            inode.changed()
        self.modified()

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove `name`."""
        self.detach(name, inode)
        if isinstance(inode, MemDirectory):
            inode.removed = True
            inode.nlink = 0
            inode.end_if_unused()
        self.modified()

    def rename(self, name: bytes, inode: Inode, target: Directory, new: bytes, replaced: Inode | None) -> None:
        """Move `name`."""
        assert isinstance(target, MemDirectory)
        target.need_alive()
        self.fs.charge(NAME_BYTES + len(new))  # for the moment both names exist; detach gives the old one's back
        if replaced is not None:
            target.unlink(new, replaced)
        if isinstance(inode, MemInode) and not isinstance(inode, MemDirectory):
            inode.named()
        self.detach(name, inode)
        target.put(new, inode)
        if isinstance(inode, MemInode):
            inode.changed()
        self.modified()
        target.modified()

    def exchange(self, name: bytes, inode: Inode, target: Directory, new: bytes, other: Inode) -> None:
        """Swap two names."""
        assert isinstance(target, MemDirectory)
        for directory, key, old, now in ((self, name, inode, other), (target, new, other, inode)):
            directory.nlink += isinstance(now, Directory) - isinstance(old, Directory)
            directory._entries[key] = (directory._entries[key][0], now)
            directory.adopt(key, now)
            directory.modified()
        for moved in (inode, other):
            if isinstance(moved, MemInode):
                moved.changed()

    def need_alive(self) -> None:
        """Raise Errno(ENOENT) in a directory that was removed."""
        if self.removed:
            raise Errno(ENOENT)

    def attach(self, name: bytes, inode: Inode) -> None:
        """Enter a name and count it. Raises Errno(ENOSPC)."""
        self.fs.charge(NAME_BYTES + len(name))
        if isinstance(inode, MemInode) and not isinstance(inode, MemDirectory):
            inode.named()
        self.put(name, inode)

    def put(self, name: bytes, inode: Inode) -> None:
        """Enter a name that was charged and counted."""
        self._entries[name] = (self._cookie, inode)
        self._order.append(self._cookie)
        self._names.append(name)
        self._cookie += 1
        self.nlink += isinstance(inode, Directory)
        self.adopt(name, inode)

    def adopt(self, name: bytes, inode: Inode) -> None:
        """Tell a directory where it is now."""
        if isinstance(inode, Directory):
            inode.parent = self
            inode.name = name

    def detach(self, name: bytes, inode: Inode) -> None:
        """Take a name out and count it."""
        del self._entries[name]
        self.nlink -= isinstance(inode, Directory)
        self.fs.budget.charge(-NAME_BYTES - len(name))
        if isinstance(inode, MemInode) and not isinstance(inode, MemDirectory):
            inode.unnamed()
        if len(self._order) > 2 * len(self._entries) + 64:
            alive = sorted((cookie, key) for key, (cookie, _) in self._entries.items())
            self._order = [cookie for cookie, _ in alive]
            self._names = [key for _, key in alive]

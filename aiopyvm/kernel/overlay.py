"""Copy-on-write over a host directory: the guest may change everything, the host's files never do.

How it works. It is the in-memory file system (`memfs.py`), whose directories and files may have a `lower` one of the
host. A directory shows its own names, then those of its lower directory that were not hidden (`_hidden`). A name of
the host becomes an inode of ours when it is looked up; as long as nothing about it changed, it is kept only while
somebody uses it, and shows the host's attributes and bytes of the moment. The first change makes it ours for good
(`take`): attributes are copied, the directories above it are taken too; a file's pages are copied only when they are
written.

A host's file that has several names is as many files here, as its names may change under us. Over a tree that never
changes (an archive) it is one file under all of its names, changed or not (`seen_links`, `taken_links`).

What always holds: nothing here calls a method of the lower tree that changes it. If the host changes a file that the
guest has changed too, its untouched pages show the host's new bytes, or zeros past its new end (as overlayfs,
undefined there).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import ENOENT, Errno
from aiopyvm.abi.stat import OVERLAYFS_MAGIC, S_IFDIR, S_IFLNK, Stat, StatFs
from aiopyvm.kernel.fs import Directory, FixedListing, Inode, Listing
from aiopyvm.kernel.fscontent import Content
from aiopyvm.kernel.fsfile import RegularFile
from aiopyvm.kernel.hostfs import HOST_NUMBERS, HostDirectoryInode, HostFs, HostInode, HostRegular
from aiopyvm.kernel.memfs import NAME_BYTES, MemDirectory, MemFile, MemFs, MemInode, MemSymlink
from aiopyvm.kernel.ports import Budget, Clock

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.mem.arena import Extent
    from aiopyvm.mem.backing import Backing


MOST_RECENT = 64  # inodes over a steady tree that stay, and stay charged, when nobody uses them
OWN_NUMBERS = HOST_NUMBERS  # inode numbers of ours start where the host's, as shown, end


class OverlayFs(MemFs):
    """A tree in memory over the host's tree `lower`."""

    name = "overlay"

    def __init__(self, lower: HostFs, clock: Clock, budget: Budget, *, device: int = 1) -> None:
        self.lower = lower
        self.exact_links = lower.tree.owner is None
        self.seen_links: weakref.WeakValueDictionary[int, OverlayFile] = weakref.WeakValueDictionary()
        self.recent: deque[Inode] = deque(maxlen=MOST_RECENT)  # over a steady tree
        self.taken_links: dict[int, OverlayFile] = {}  # until their last name goes
        super().__init__(clock, budget, device=device)

    def attach(self, device: int, uid: int, gid: int) -> None:
        """Become part of a guest's tree."""
        super().attach(device, uid, gid)
        self.lower.attach(device, uid, gid)
        s = self.lower.root.stat()
        self.root.uid, self.root.gid, self.root.mode = s.uid, s.gid, s.mode & 0o7777

    def next_number(self) -> int:
        """Return a fresh inode number, apart from those of the host."""
        return OWN_NUMBERS + super().next_number()

    def make_root(self, uid: int, gid: int, mode: int) -> MemDirectory:
        """The top over the host's top."""
        return OverlayDirectory(self, S_IFDIR | mode, uid, gid, self.lower.root)

    def statfs(self) -> StatFs:
        """As a tmpfs of another type."""
        return StatFs(OVERLAYFS_MAGIC)


class Passing(MemInode):
    """An inode of the host, until it is `taken`: what was charged for it goes when nobody uses it any more.

    Whatever changes its attributes, or gives it another name, takes it.
    """

    taken = True  # for what is not fully made

    def take(self) -> None:
        """Make it ours. Raises Errno: ENOSPC, or the host's."""
        raise NotImplementedError

    def copy_attributes(self, s: Stat) -> None:
        """Have the permission bits, the owner and the times that the host has."""
        self.mode, self.uid, self.gid = s.mode & 0o7777, s.uid, s.gid
        self.atime, self.mtime, self.ctime = s.atime, s.mtime, s.ctime

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self.take()
        super().set_mode(mode)

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner."""
        self.take()
        super().set_owner(uid, gid)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set the times."""
        self.take()
        super().set_times(atime, mtime)

    def set_extended(self, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or remove one."""
        self.take()
        super().set_extended(name, value)

    def named(self) -> None:
        """Count one more name."""
        self.take()
        super().named()

    def __del__(self) -> None:
        if not self.taken:
            super().end()


class OverlayFile(Passing, MemFile):
    """A regular file over one of the host: `lower` has attributes until it is taken, bytes until they are written."""

    fs: OverlayFs

    def __init__(self, fs: OverlayFs, parent: OverlayDirectory, name: bytes, lower: HostRegular) -> None:
        s = lower.stat()
        super().__init__(fs, s.mode, s.uid, s.gid)
        self.number = s.ino
        self.nlink = s.nlink if fs.exact_links else 1
        self.lower = lower
        self.taken = False
        self._home = (parent, name)

    @property
    def size(self) -> int:
        """st_size."""
        return self.content.size if self.taken else self.lower.size

    def stat(self) -> Stat:
        """Return the attributes: the host's, until this is taken."""
        if self.taken:
            return super().stat()
        return self.lower.stat()._replace(ino=self.number, dev=self.fs.device, nlink=self.nlink)

    def owner_and_mode(self) -> tuple[int, int, int]:
        """Return (uid, gid, permission bits)."""
        return super().owner_and_mode() if self.taken else self.lower.owner_and_mode()

    def take(self) -> None:
        """Make this a file of ours. Raises Errno: ENOSPC, or the host's."""
        if self.taken:
            return
        s = self.lower.stat()
        parent, name = self._home
        parent.keep(name, self)
        self.content = Content.over(self.fs.budget, self._read_lower, s.size)
        self.copy_attributes(s)
        self.taken = True
        if self.fs.seen_links.get(self.number) is self:
            self.fs.taken_links[self.number] = self

    def end(self) -> None:
        """Give the memory back; no name leads here any more."""
        self.fs.taken_links.pop(self.number, None)
        super().end()

    def _read_lower(self, offset: int, n: int) -> bytes:
        lower = self.lower
        if self.opens:
            lower.connect(writable=False)
            return lower.read_at(offset, n)
        lower.connect(writable=False)
        try:
            return lower.read_at(offset, n)
        finally:
            lower.disconnect()

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        self.lower.connect(writable=False)
        return RegularFile(self, flags)

    def closed(self) -> None:
        """Count one less; the last one gives the host's descriptor back."""
        super().closed()
        if not self.opens:
            self.lower.disconnect()

    def read_at(self, offset: int, n: int) -> bytes:
        """Return at most `n` bytes at `offset`."""
        return super().read_at(offset, n) if self.taken else self.lower.read_at(offset, n)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Store bytes at `offset`."""
        self.take()
        return super().write_at(offset, data)

    def truncate(self, size: int) -> None:
        """Set the size."""
        self.take()
        super().truncate(size)

    def share(self, backing: Backing) -> Extent | None:
        """Hold it in an extent from now on; None until it is a file of ours."""
        return super().share(backing) if self.taken else None

    def punch(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        self.take()
        super().punch(offset, length)

    def seek_data(self, offset: int, hole: bool) -> int:
        """SEEK_DATA and SEEK_HOLE."""
        return super().seek_data(offset, hole) if self.taken else self.lower.seek_data(offset, hole)

    def snapshot(self) -> bytes:
        """Return the whole content."""
        return super().snapshot() if self.taken else self.lower.snapshot()

    def given(self) -> bytes | None:
        """The host's content, until the guest has changed it."""
        return None if self.taken else self.lower.snapshot()


class OverlayDirectory(Passing, MemDirectory):
    """A directory over one of the host (`lower`), or of ours alone (None)."""

    fs: OverlayFs

    def __init__(
        self, fs: OverlayFs, mode: int, uid: int, gid: int, lower: HostDirectoryInode | None, taken: bool = True
    ) -> None:
        super().__init__(fs, mode, uid, gid)
        self.lower = lower
        if lower is not None and not taken:
            self.number = lower.fs.shown(lower.known).ino
        self.taken = taken  # attributes are ours, and the parent keeps us
        self._hidden: set[bytes] = set()
        self._passing: weakref.WeakValueDictionary[bytes, Inode] = weakref.WeakValueDictionary()

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def effort(self) -> int:
        """As of the directory below."""
        return self.lower.effort if self.lower is not None else 0

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return what is under `name`: ours, else the host's. Raises Errno(ENOENT)."""
        return self.visible(name)

    def _over(self, name: bytes, below: HostInode) -> Inode:
        if isinstance(below, HostRegular):
            return self._over_file(name, below)
        if isinstance(below, HostDirectoryInode):
            s = below.stat()
            directory = OverlayDirectory(self.fs, s.mode, s.uid, s.gid, below, taken=False)
            self.adopt(name, directory)
            return directory
        if below.kind == S_IFLNK:
            return OverlaySymlink(self, name, below)
        return below  # a FIFO, device or socket of the host: seen, but not opened

    def _over_file(self, name: bytes, below: HostRegular) -> OverlayFile:
        links = self.fs.seen_links
        if not self.fs.exact_links or below.known.nlink == 1:
            return OverlayFile(self.fs, self, name, below)
        file = links.get(below.known.ino)
        if file is None:
            file = links[below.known.ino] = OverlayFile(self.fs, self, name, below)
        return file

    def listing(self, ctx: FsContext) -> Listing:
        """Our names and those of the host that are not hidden, as they are now."""
        if self.lower is None:
            return super().listing(ctx)
        return FixedListing(list(self._all_names()))

    def _all_names(self) -> Iterator[tuple[int, int, bytes]]:
        for name, (_, inode) in self._entries.items():
            yield getattr(inode, "number", 1), inode.kind >> 12, name
        if self.lower is not None:
            for ino, kind, name in self.lower.fs.tree.names(self.lower.place()):
                if name not in self._entries and name not in self._hidden:
                    passing = self._passing.get(name)
                    yield getattr(passing, "number", ino), kind, name

    def own_names(self) -> Iterator[tuple[bytes, Inode | None, bool]]:
        """Iterate over what is not as the directory below has it: (name, what is there, is one of below hidden)."""
        for name in sorted(self._entries.keys() | self._hidden):
            slot = self._entries.get(name)
            yield name, slot[1] if slot is not None else None, name in self._hidden

    def visible_names(self) -> list[bytes]:
        """Return all names, ours and those below. Raises Errno, as the host."""
        return [name for _, _, name in self._all_names()]

    def visible(self, name: bytes) -> Inode:
        """Like `lookup`, for nobody in particular."""
        slot = self._entries.get(name)
        if slot is not None:
            return slot[1]
        if self.lower is None or name in self._hidden:
            raise Errno(ENOENT)
        below = self.lower.find(name)
        known = self._passing.get(name)
        if known is not None and getattr(known, "lower", None) is below:
            return known
        inode = self._over(name, below)
        self._passing[name] = inode
        if self.lower.fs.steady:
            self.fs.recent.append(inode)
        return inode

    def empty(self) -> bool:
        """Whether no name is left."""
        return next(self._all_names(), None) is None

    def stat(self) -> Stat:
        """Return the attributes: the host's, until this is taken."""
        if self.lower is None:
            return super().stat()
        s = super().stat() if self.taken else self.lower.stat()
        return s._replace(ino=self.number, dev=self.fs.device, nlink=1)  # 1: subdirectories are not counted

    # --- changes ----------------------------------------------------------------------------------------------------

    def take(self) -> None:
        """Make this directory ours, and with it those above. Raises Errno(ENOSPC)."""
        chain: list[OverlayDirectory] = []
        here = self
        while not here.taken:
            chain.append(here)
            above = here.parent
            assert isinstance(above, OverlayDirectory)
            here = above
        for directory in reversed(chain):
            here.enter(directory.name, directory)
            directory.take_attributes()
            here = directory

    def take_attributes(self) -> None:
        """Copy what the host has of this directory."""
        s = self.lower.stat() if self.lower is not None else super().stat()
        self.copy_attributes(s)
        self.taken = True

    def keep(self, name: bytes, inode: Inode) -> None:
        """Hold an inode of the host that becomes ours, in a directory that does. Raises Errno(ENOSPC)."""
        self.take()
        self.enter(name, inode)

    def enter(self, name: bytes, inode: Inode) -> None:
        """Hold an inode of the host under its name. Raises Errno(ENOSPC)."""
        if name not in self._entries:
            self.fs.charge(NAME_BYTES + len(name))
            self.put(name, inode)
            self._passing.pop(name, None)

    def new_inode(self, mode: int, uid: int, gid: int, rdev: int, target: bytes) -> MemInode:
        """New directories can take part in renames here."""
        if mode & 0o170000 == S_IFDIR:
            return OverlayDirectory(self.fs, mode, uid, gid, None)
        return super().new_inode(mode, uid, gid, rdev, target)

    def attach(self, name: bytes, inode: Inode) -> None:
        """Enter a name."""
        self.take()
        super().attach(name, inode)

    def link(self, name: bytes, inode: Inode) -> None:
        """Add a name; what is the host's becomes ours first."""
        _take(inode)
        super().link(name, inode)

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove a name; the host's is hidden."""
        self._bring_in(name, inode)
        super().unlink(name, inode)

    def rename(self, name: bytes, inode: Inode, target: Directory, new: bytes, replaced: Inode | None) -> None:
        """Move a name; the host's is hidden here."""
        assert isinstance(target, OverlayDirectory)
        self._bring_in(name, inode)
        target.take()
        if replaced is not None:
            target._bring_in(new, replaced)
        super().rename(name, inode, target, new, replaced)
        if isinstance(inode, (OverlayFile, OverlaySymlink)):
            inode._home = (target, new)

    def exchange(self, name: bytes, inode: Inode, target: Directory, new: bytes, other: Inode) -> None:
        """Swap two names."""
        assert isinstance(target, OverlayDirectory)
        self._bring_in(name, inode)
        target._bring_in(new, other)
        super().exchange(name, inode, target, new, other)

    def _bring_in(self, name: bytes, inode: Inode) -> None:
        """Make `name` an entry of ours, and hide the host's. Raises Errno: ENOSPC, EPERM for the host's devices."""
        self.take()
        _take(inode)
        self.keep(name, inode)

    def detach(self, name: bytes, inode: Inode) -> None:
        """Take a name out; the host's stays hidden."""
        super().detach(name, inode)
        if self.lower is not None and name not in self._hidden:
            self.fs.budget.charge(NAME_BYTES + len(name))
            self._hidden.add(name)


class OverlaySymlink(Passing, MemSymlink):
    """A symbolic link of the host."""

    def __init__(self, parent: OverlayDirectory, name: bytes, lower: HostInode) -> None:
        s = lower.stat()
        super().__init__(parent.fs, s.uid, s.gid, lower.fs.tree.readlink(lower.place()))
        self.number = s.ino
        self.nlink = 1
        self.lower = lower
        self.atime, self.mtime, self.ctime = s.atime, s.mtime, s.ctime
        self.taken = False
        self._home = (parent, name)

    def take(self) -> None:
        """Make it ours. Raises Errno(ENOSPC)."""
        if not self.taken:
            parent, name = self._home
            parent.keep(name, self)
            self.taken = True


def _take(inode: Inode) -> None:
    if isinstance(inode, Passing):
        inode.take()

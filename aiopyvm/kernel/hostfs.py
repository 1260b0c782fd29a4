"""A granted host directory as a file system of the guest, read-only or read-write.

How it works. An inode is a place below the top: its parent and its name, so that it moves along when the guest
renames a directory. Attributes are the host's at the moment of the question; the host may change anything at any
time, and whoever looks a name up again sees it. A regular file keeps host descriptors only while the guest has it
open. Of a tree that nobody changes ("steady": an archive, or where the caller says so) the names and attributes that
were found last are kept, and so are names that were not there, and some descriptors. Owners: the host's user is shown
as the guest's, everybody else as nobody; those of an archive are as they are.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import ENAMETOOLONG, ENOENT, ENXIO, EOPNOTSUPP, EPERM, ESTALE, Errno
from aiopyvm.abi.fcntl import O_ACCMODE, O_RDONLY
from aiopyvm.abi.stat import EXT4_SUPER_MAGIC, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, ST_RDONLY, Stat, StatFs
from aiopyvm.kernel.fs import Directory, FileSystem, FixedListing, Inode, Listing, Symlink
from aiopyvm.kernel.fsfile import DirectoryFile, RegularFile

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.ports import HostFile, HostPath, HostTree
    from aiopyvm.mem.backing import Backing

NOBODY = 65534
MOST_RECENT = 4096  # inodes of a steady tree that stay when nobody uses them; as many absent names
MOST_IDLE = 64  # descriptors of steady trees that stay open when no guest has the file open
MAX_DEPTH = 256  # directories: each is opened anew at each access
HOST_NUMBERS = 1 << 30  # the host's inode numbers are shown folded below this: old programs have 32 bits


class HostFs(FileSystem):
    """The tree below `tree`'s top. `readonly` defaults to what the tree was granted for."""

    name = "host"

    def __init__(self, tree: HostTree, *, readonly: bool | None = None, uid: int = 1000, gid: int = 1000) -> None:
        self.tree = tree
        self.readonly = not tree.writable if readonly is None else readonly or not tree.writable
        self.uid = uid
        self.gid = gid
        self.steady = tree.steady
        self.idles = tree.steady and tree.owner is not None  # of an archive nothing has to be opened
        self.recent: deque[HostInode] = deque(maxlen=MOST_RECENT)
        self.absent: set[tuple[HostDirectoryInode, bytes]] = set()
        self.root: HostDirectoryInode = HostDirectoryInode(self, None, b"/", tree.stat(()))

    def attach(self, device: int, uid: int, gid: int) -> None:
        """Become part of a guest's tree."""
        super().attach(device, uid, gid)
        self.uid, self.gid = uid, gid

    def statfs(self) -> StatFs:
        """The host's figures."""
        s = self.tree.statfs()
        return s._replace(type=EXT4_SUPER_MAGIC, fsid=self.device, flags=s.flags | (ST_RDONLY if self.readonly else 0))

    def shown(self, s: Stat) -> Stat:
        """Return the host's attributes as the guest sees them."""
        owner = self.tree.owner
        number = s.ino if s.ino < HOST_NUMBERS else (s.ino ^ s.ino >> 30 ^ s.ino >> 60) % HOST_NUMBERS
        if owner is None:
            return s._replace(dev=self.device, ino=number)
        uid, gid = owner
        return s._replace(
            dev=self.device,
            ino=number,
            uid=self.uid if s.uid == uid else NOBODY,
            gid=self.gid if s.gid == gid else NOBODY,
        )


class HostInode(Inode):
    """Something at a place below the top; `known` are its attributes when it was last looked up."""

    fs: HostFs

    def __init__(self, fs: HostFs, parent: HostDirectoryInode | None, name: bytes, known: Stat) -> None:
        self.fs = fs
        self.kind = known.mode & S_IFMT
        self.above = parent
        self.name = name
        self.known = known
        self.removed = False
        self._shown: tuple[Stat, Stat] | None = None  # attributes, and what a guest sees of them

    def _look(self) -> Stat:
        """Return what a guest sees of the attributes that were found last."""
        known = self.known
        if self._shown is None or self._shown[0] is not known:
            self._shown = known, self.fs.shown(known)
        return self._shown[1]

    def place(self) -> HostPath:
        """Return where it is. Raises Errno: ENOENT when the guest removed it, ENAMETOOLONG below MAX_DEPTH."""
        parts: list[bytes] = []
        here: HostInode = self
        while here.above is not None:
            if here.removed:
                raise Errno(ENOENT)
            if len(parts) >= MAX_DEPTH:
                raise Errno(ENAMETOOLONG)
            parts.append(here.name)
            here = here.above
        return tuple(reversed(parts))

    def stat(self) -> Stat:
        """Return the attributes now. Raises Errno: ENOENT when it vanished, ESTALE when something else is there."""
        if self.fs.steady:
            return self._look()
        s = self.fs.tree.stat(self.place())
        if s.mode & S_IFMT != self.kind:
            raise Errno(ESTALE)
        self.known = s
        return self._look()

    def owner_and_mode(self) -> tuple[int, int, int]:
        """Return (uid, gid, permission bits) as of the last look."""
        s = self._look()
        return s.uid, s.gid, s.mode & 0o7777

    def set_mode(self, mode: int) -> None:
        """Set the permission bits. Raises Errno(EPERM) for set-user-ID and set-group-ID."""
        self.fs.tree.set_mode(self.place(), mode)
        self.stat()

    def set_owner(self, uid: int, gid: int) -> None:
        """Raises Errno(EPERM) unless nothing changes."""
        s = self.stat()
        if uid not in (-1, s.uid) or gid not in (-1, s.gid):
            raise Errno(EPERM)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set the times."""
        s = self.stat()
        self.fs.tree.set_times(self.place(), s.atime if atime is None else atime, s.mtime if mtime is None else mtime)

    def open(self, ctx: FsContext, flags: int) -> File:
        """Raises Errno(ENXIO): a FIFO, device or socket of the host is not opened."""
        raise Errno(ENXIO)


class HostSymlink(HostInode, Symlink):
    """A symbolic link of the host; it is followed inside the guest's tree."""

    kind = S_IFLNK

    def readlink(self, ctx: FsContext) -> bytes:
        """Return the target."""
        return self.fs.tree.readlink(self.place())

    def set_mode(self, mode: int) -> None:
        """Raises Errno(EOPNOTSUPP)."""
        raise Errno(EOPNOTSUPP)


class HostRegular(HostInode):
    """A regular file of the host. Its descriptors serve all open file descriptions of it."""

    kind = S_IFREG

    def __init__(self, fs: HostFs, parent: HostDirectoryInode | None, name: bytes, known: Stat) -> None:
        super().__init__(fs, parent, name, known)
        self.opens = 0
        self._reader: HostFile | None = None
        self._writer: HostFile | None = None

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description. Raises Errno, as the host."""
        self.connect(writable=flags & O_ACCMODE != O_RDONLY)
        return RegularFile(self, flags)

    def connect(self, *, writable: bool) -> None:
        """Open the host's file, unless it is open. Raises Errno: ESTALE when another file took its place."""
        if self.fs.idles:
            _idle.discard(self)
        if self._writer is not None or (self._reader is not None and not writable):
            return
        file = self.fs.tree.open(self.place(), writable)
        if file.stat().ino != self.known.ino:
            file.close()
            raise Errno(ESTALE)
        if writable:
            self._writer = file
        else:
            self._reader = file

    @property
    def _any(self) -> HostFile:
        file = self._reader or self._writer
        if file is None:
            raise Errno(ESTALE)
        return file

    def opened(self) -> None:
        """Count one more open file description."""
        self.opens += 1

    def closed(self) -> None:
        """Count one less; the last one gives the host's descriptors back."""
        self.opens -= 1
        if not self.opens:
            self.disconnect()

    def disconnect(self) -> None:
        """Nobody needs the host's descriptors now: close them, unless they may be of use to the next one."""
        if self.fs.idles and self._writer is None and self._reader is not None:
            _idle.add(self)
        else:
            self.close()

    def close(self) -> None:
        """Close the host's descriptors."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        for file in (reader, writer):
            if file is not None:
                file.close()

    def stat(self) -> Stat:
        """Return the attributes, of what is open rather than of the name."""
        file = self._reader or self._writer
        if file is None or self.fs.steady:
            return super().stat()
        self.known = file.stat()
        return self._look()

    @property
    def size(self) -> int:
        """st_size."""
        return self.stat().size

    def read_at(self, offset: int, n: int) -> bytes:
        """Return at most `n` bytes at `offset`."""
        return self._any.pread(n, offset)

    def write_at(self, offset: int, data: bytes | memoryview) -> int:
        """Store bytes at `offset`."""
        if self._writer is None:
            raise Errno(ESTALE)
        return self._writer.pwrite(data, offset)

    def truncate(self, size: int) -> None:
        """Set the size."""
        if self._writer is not None:
            self._writer.truncate(size)
            return
        file = self.fs.tree.open(self.place(), True)
        try:
            file.truncate(size)
        finally:
            file.close()

    def punch(self, offset: int, length: int) -> None:
        """Write zeros, at most a megabyte of them. Raises Errno(EOPNOTSUPP) for more."""
        end = min(offset + length, self.size)
        if end - offset > 1 << 20:
            raise Errno(EOPNOTSUPP)
        while offset < end:
            offset += self.write_at(offset, bytes(end - offset))

    def seek_data(self, offset: int, hole: bool) -> int:
        """The whole file counts as data. Raises Errno(ENXIO) past its end."""
        size = self.size
        if offset >= size:
            raise Errno(ENXIO)
        return size if hole else offset

    def snapshot(self) -> bytes:
        """Return the whole content."""
        return self._any.snapshot()

    shared = False

    def share(self, backing: Backing) -> None:
        """It is the host's memory, not ours."""

    def show_page(self, offset: int, *, write: bool) -> bool:
        """There is no extent."""
        return False

    def given(self) -> bytes | None:
        """The host's content, where the guest may not change it."""
        return self._any.snapshot() if self.fs.readonly or not self.fs.tree.writable else None

    def sync(self) -> None:
        """Make it durable."""
        if self._writer is not None:
            self._writer.sync()


class IdleFiles:
    """Files of steady trees that nobody has open and whose descriptors are kept: the last `most` of this process.

    Thread-safe: a file is used in its own thread, and may be closed for the sake of another one's while it is idle.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._files: dict[int, weakref.ref[HostRegular]] = {}
        self._lock = threading.Lock()

    def add(self, file: HostRegular) -> None:
        """Keep the descriptor of `file`, which nobody needs now, until it is the one that has been idle longest."""
        with self._lock:
            self._files[id(file)] = weakref.ref(file)
            if len(self._files) > self._most:
                oldest = self._files.pop(next(iter(self._files)))()
                if oldest is not None:  # else it closed its descriptor as it went
                    oldest.close()

    def discard(self, file: HostRegular) -> None:
        """Somebody needs `file`, whose descriptor it still has unless it was closed here."""
        with self._lock:
            self._files.pop(id(file), None)


_idle = IdleFiles(MOST_IDLE)


class HostDirectoryInode(HostInode, Directory):
    """A directory of the host. Inodes in use are found again by name, while the host has the same there."""

    kind = S_IFDIR

    def __init__(self, fs: HostFs, parent: HostDirectoryInode | None, name: bytes, known: Stat) -> None:
        super().__init__(fs, parent, name, known)
        self.parent = self if parent is None else parent
        self._children: weakref.WeakValueDictionary[bytes, HostInode] = weakref.WeakValueDictionary()

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return DirectoryFile(self, flags, ctx)

    @property
    def effort(self) -> int:
        """All directories above a name are opened anew, unless the tree is steady."""
        return 0 if self.fs.steady else len(self.place()) + 1

    def lookup(self, name: bytes, ctx: FsContext) -> HostInode:
        """Return what the host has under `name` now. Raises Errno(ENOENT)."""
        return self.find(name)

    def find(self, name: bytes) -> HostInode:
        """Like `lookup`, for nobody in particular."""
        if self.fs.steady:
            return self._find_kept(name)
        known = self.fs.tree.stat((*self.place(), name))
        child = self._children.get(name)
        if child is not None and child.kind == known.mode & S_IFMT and child.known.ino == known.ino:
            child.known = known
            return child
        return self._enter(name, known)

    def _find_kept(self, name: bytes) -> HostInode:
        child = self._children.get(name)
        if child is not None:
            return child
        absent = self.fs.absent
        if (self, name) in absent:
            raise Errno(ENOENT)
        try:
            child = self._enter(name, self.fs.tree.stat((*self.place(), name)))
        except Errno as error:
            if error.number == ENOENT:
                if len(absent) >= MOST_RECENT:
                    absent.clear()
                absent.add((self, name))
            raise
        self.fs.recent.append(child)
        return child

    def _enter(self, name: bytes, known: Stat) -> HostInode:
        kinds: dict[int, type[HostInode]] = {S_IFDIR: HostDirectoryInode, S_IFREG: HostRegular, S_IFLNK: HostSymlink}
        child = kinds.get(known.mode & S_IFMT, HostInode)(self.fs, self, name, known)
        self._children[name] = child
        return child

    def empty(self) -> bool:
        """Whether nothing is left in it."""
        return not self.fs.tree.names(self.place())

    def listing(self, ctx: FsContext) -> Listing:
        """The names that the host has now, sorted."""
        return FixedListing(self.fs.tree.names(self.place()))

    # --- changes ----------------------------------------------------------------------------------------------------

    def make(self, name: bytes, mode: int, uid: int, gid: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Create a file, directory or symbolic link of the host's user. Raises Errno(EPERM) for other types."""
        self.fs.tree.make((*self.place(), name), mode, target)
        return self.find(name)

    def link(self, name: bytes, inode: Inode) -> None:
        """Add a name."""
        assert isinstance(inode, HostInode)
        self.fs.tree.link(inode.place(), (*self.place(), name))

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove a name."""
        assert isinstance(inode, HostInode)
        remove = self.fs.tree.rmdir if inode.kind == S_IFDIR else self.fs.tree.unlink
        remove((*self.place(), name))
        self._forget(name, inode)

    def rename(self, name: bytes, inode: Inode, target: Directory, new: bytes, replaced: Inode | None) -> None:
        """Move a name."""
        assert isinstance(inode, HostInode)
        assert isinstance(target, HostDirectoryInode)
        self.fs.tree.rename((*self.place(), name), (*target.place(), new))
        if isinstance(replaced, HostInode):
            target._forget(new, replaced)
        self._children.pop(name, None)
        target._children[new] = inode
        inode.above = target
        inode.name = new
        if isinstance(inode, HostDirectoryInode):
            inode.parent = target

    def _forget(self, name: bytes, inode: HostInode) -> None:
        self._children.pop(name, None)
        inode.removed = True

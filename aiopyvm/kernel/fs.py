"""File systems and inodes: what the path walk, the open files and the system calls ask of every kind of file system.

A `Directory` knows its parent and its own name (directories have one link), so that `..` and getcwd(2) need no second
structure; `grafts` are what is mounted on names in it, and win over what the file system itself has under the name.
Permission checks and Linux's order of errors are the vfs's (`vfs.py`); a file system does what it is told, or raises
`Errno` for what only it can know (ENOENT, ENOSPC, EROFS, EIO).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from aiopyvm.abi.errno import EACCES, EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO, EOPNOTSUPP, EPERM, Errno
from aiopyvm.abi.fcntl import PATH_MAX, R_OK, W_OK, X_OK
from aiopyvm.abi.inotify import IN_ISDIR, IN_MODIFY
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFREG, S_IXUGO, Stat, StatFs

if TYPE_CHECKING:
    from aiopyvm.kernel.dnotify import DirNotice
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.filebacking import FileBacking
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.fsleases import Leases
    from aiopyvm.kernel.fslocks import Locks
    from aiopyvm.kernel.inotify import InotifyWatch


class Entry(NamedTuple):
    """One name in a directory. `cookie` is the directory offset after it; `kind` is a DT_* value."""

    cookie: int
    ino: int
    kind: int
    name: bytes


Listing = Callable[[int], Iterator[Entry]]  # the entries whose cookie is greater than the argument, in order
ENTRY_BYTES = 256  # what an entry costs that an open directory keeps, its name left out

FIRST_COOKIE = 3  # 1 and 2 are "." and ".."


class FixedListing:
    """A listing that never changes, of (inode number, DT_* kind, name); it holds `size_bytes` of memory."""

    def __init__(self, entries: Iterable[tuple[int, int, bytes]]) -> None:
        self._entries = [Entry(n, ino, kind, name) for n, (ino, kind, name) in enumerate(entries, FIRST_COOKIE)]
        self.size_bytes = sum(ENTRY_BYTES + len(entry.name) for entry in self._entries)

    def __call__(self, cookie: int) -> Iterator[Entry]:
        """Iterate over the entries after `cookie`."""
        return islice(self._entries, max(0, cookie - FIRST_COOKIE + 1), None)


class FileSystem:
    """What inodes have in common: a device number, a type, whether it may be changed."""

    name = "none"
    readonly = False
    device = 0
    root: Directory

    def attach(self, device: int, uid: int, gid: int) -> None:
        """Become part of a guest's tree: with a device number, and the ids of the guest's user."""
        self.device = device

    def statfs(self) -> StatFs:
        """Return what statfs(2) tells."""
        raise NotImplementedError


class Inode:
    """A file of any type. `kind` is its S_IFMT part and never changes."""

    fs: FileSystem
    kind = S_IFREG
    locks: Locks | None = None  # POSIX and BSD locks, made when the first is taken
    backings: weakref.WeakValueDictionary[bool, FileBacking] | None = None  # what maps it now, by `writable`
    leases: Leases | None = None  # fcntl(2), F_SETLEASE
    readers = 0  # open file descriptions that may only read
    writers = 0  # open file descriptions, and mappings, that may write: no process may begin to execute it
    watchers: dict[InotifyWatch | DirNotice, None] | None = None  # inotify(7), fcntl(2) with F_NOTIFY
    always_writable = False  # its bytes are nothing that its file system keeps
    executed = 0  # processes whose program it is: nobody may open it for writing

    def stat(self) -> Stat:
        """Return the attributes now. Raises Errno where a host's file vanished."""
        raise NotImplementedError

    def owner_and_mode(self) -> tuple[int, int, int]:
        """Return (uid, gid, permission bits)."""
        s = self.stat()
        return s.uid, s.gid, s.mode & 0o7777

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description; permissions were checked. Raises Errno."""
        raise Errno(ENXIO)

    def tell(self, events: int, place: tuple[Directory, bytes] | None = None, cookie: int = 0) -> None:
        """Tell who watches it, and who watches the directory that has it under a name, what was done (inotify(7))."""
        if self.kind == S_IFDIR:
            events |= IN_ISDIR
        if place is not None and place[0].watchers is not None:
            for watch in tuple(place[0].watchers):
                watch.happened(events, place[1], cookie)
        if self.watchers is not None:
            for watch in tuple(self.watchers):
                watch.happened(events, b"", cookie)

    def tell_gone(self) -> None:
        """Tell who watches it that it can never be reached again; they watch it no longer."""
        for watch in tuple(self.watchers or ()):
            watch.gone()

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        raise Errno(EPERM)

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner; -1 leaves one as it is."""
        raise Errno(EPERM)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set access and modification time, in nanoseconds since the epoch; None leaves one as it is."""
        raise Errno(EPERM)

    def truncate(self, size: int) -> None:
        """Set the size of a regular file."""
        raise Errno(EINVAL)

    def resize(self, size: int) -> None:
        """Set the size of a regular file, and tell whoever maps it."""
        old = self.stat().size
        self.truncate(size)
        self.tell(IN_MODIFY)
        self.changed_bytes(min(old, size), abs(old - size))

    def changed_bytes(self, offset: int, length: int) -> None:
        """Tell whoever maps the file that bytes of it may have changed."""
        for backing in tuple(self.backings.values()) if self.backings else ():
            backing.changed(offset, length)

    def extended(self) -> Mapping[bytes, bytes] | None:
        """Return the extended attributes (xattr(7)); None where the file system keeps none."""
        return None

    def set_extended(self, name: bytes, value: bytes | None) -> None:
        """Set an extended attribute, or remove one that is there (None). Raises Errno(ENOSPC)."""
        raise Errno(EOPNOTSUPP)

    def readlink(self, ctx: FsContext) -> bytes:
        """Return a symbolic link's target. Raises Errno(EINVAL) for other types."""
        raise Errno(EINVAL)

    def jump(self, ctx: FsContext) -> Inode | None:
        """Return where a magic link leads without a path (proc(5), /proc/pid/fd); None for others."""
        return None


class Directory(Inode):
    """A directory: its own methods change names only, `Inode`'s its attributes."""

    kind = S_IFDIR
    parent: Directory
    name: bytes = b"/"
    grafts: dict[bytes, Directory] | None = None
    removed = False

    @property
    def effort(self) -> int:
        """How many directories of the host are opened for one `lookup`."""
        return 0

    @property
    def own_place(self) -> tuple[Directory, bytes] | None:
        """Its parent and its name there; None for a root."""
        return (self.parent, self.name) if self.parent is not self else None

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return the inode under `name` (never "." or ".."). Raises Errno(ENOENT)."""
        raise NotImplementedError

    def listing(self, ctx: FsContext) -> Listing:
        """Return what an open directory reads, from now until it is rewound; "." and ".." and grafts left out."""
        raise NotImplementedError

    def empty(self) -> bool:
        """Whether nothing is left in it but "." and ".."."""
        raise NotImplementedError

    def make(self, name: bytes, mode: int, uid: int, gid: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Create `name`, which does not exist, of the type in `mode`; `target` is a symbolic link's."""
        raise Errno(EPERM)

    def make_unnamed(self, mode: int, uid: int, gid: int) -> Inode:
        """Create a regular file without a name (O_TMPFILE)."""
        raise Errno(EOPNOTSUPP)

    def link(self, name: bytes, inode: Inode) -> None:
        """Add `name`, which does not exist, for a file of this file system."""
        raise Errno(EPERM)

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove `name`, which is `inode` (an empty directory, if one)."""
        raise Errno(EPERM)

    def rename(self, name: bytes, inode: Inode, target: Directory, new: bytes, replaced: Inode | None) -> None:
        """Move `name` to `new` in `target`, a directory of this file system; `replaced` is what is there now."""
        raise Errno(EPERM)

    def exchange(self, name: bytes, inode: Inode, target: Directory, new: bytes, other: Inode) -> None:
        """Swap two names of this file system (RENAME_EXCHANGE)."""
        raise Errno(EINVAL)

    def tell_name(self, events: int, name: bytes, inode: Inode, cookie: int = 0) -> None:
        """Tell who watches the directory, and nobody else, what was done to a name in it (inotify(7))."""
        if self.watchers is not None:
            events |= IN_ISDIR if inode.kind == S_IFDIR else 0
            for watch in tuple(self.watchers):
                watch.happened(events, name, cookie)

    def child(self, name: bytes, ctx: FsContext) -> Inode:
        """Return what a path sees under `name`: what is mounted there, else `lookup`."""
        grafts = self.grafts
        if grafts and name in grafts:
            return grafts[name]
        return self.lookup(name, ctx)

    def path(self, root: Directory) -> bytes:
        """Return the absolute path as seen from `root`.

        Raises Errno: ENOENT when the directory was removed, ENAMETOOLONG when it is nested too deeply for any path.
        """
        parts: list[bytes] = []
        here = self
        while here is not root and here.parent is not here:
            if here.removed:
                raise Errno(ENOENT)
            if len(parts) >= PATH_MAX // 2:
                raise Errno(ENAMETOOLONG)
            parts.append(here.name)
            here = here.parent
        return b"/" + b"/".join(reversed(parts))


class Symlink(Inode):
    """A symbolic link."""

    kind = S_IFLNK


def may(inode: Inode, ctx: FsContext, mask: int) -> bool:
    """Whether `ctx` has all of R_OK, W_OK, X_OK in `mask` (path_resolution(7), "Permissions")."""
    if ctx.uid == 0 and (not mask & X_OK or inode.kind == S_IFDIR):
        return True
    uid, gid, mode = inode.owner_and_mode()
    if ctx.uid == 0:
        return bool(mode & S_IXUGO)
    if uid == ctx.uid:
        mode >>= 6
    elif ctx.in_group(gid):
        mode >>= 3
    return mode & mask == mask


def need(inode: Inode, ctx: FsContext, mask: int) -> None:
    """Raise Errno(EACCES) unless `may`."""
    if not may(inode, ctx, mask):
        raise Errno(EACCES)


def need_directory(inode: Inode) -> Directory:
    """Return `inode` as a directory. Raises Errno(ENOTDIR)."""
    if not isinstance(inode, Directory):
        raise Errno(ENOTDIR)
    return inode


__all__ = [
    "FIRST_COOKIE",
    "R_OK",
    "W_OK",
    "X_OK",
    "Directory",
    "Entry",
    "FileSystem",
    "FixedListing",
    "Inode",
    "Listing",
    "Symlink",
    "may",
    "need",
    "need_directory",
]

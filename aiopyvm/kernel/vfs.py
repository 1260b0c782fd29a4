"""The virtual file system of one guest machine: operations on paths, with Linux's permission checks and order of
errors.

One root, and whatever is grafted onto names in it. Every operation takes an `FsContext`: through whose eyes. Relative
paths start at `at`, the working directory when that is None.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import (
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EROFS,
    ETXTBSY,
    EXDEV,
    Errno,
)
from aiopyvm.abi.fcntl import (
    CREATION_FLAGS,
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_TMPFILE_BIT,
    O_TRUNC,
    R_OK,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    W_OK,
    X_OK,
)
from aiopyvm.abi.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_OPEN,
)
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISVTX
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fs import Directory, FileSystem, Inode, need, need_directory
from aiopyvm.kernel.fscontext import FsContext
from aiopyvm.kernel.fslocks import Blocked
from aiopyvm.kernel.memfs import MemFs, MemInode
from aiopyvm.kernel.ports import Budget, Clock
from aiopyvm.kernel.vfswalk import Found, lookup, resolve

if TYPE_CHECKING:
    from aiopyvm.kernel.process import Process

_ACCESS = (R_OK, W_OK, R_OK | W_OK, R_OK | W_OK)  # by access mode of open(2)


class Vfs:
    """A tree of file systems. `uid` and `gid` are the guest's user, who owns what Python puts in."""

    def __init__(
        self, *, clock: Clock, budget: Budget, root: FileSystem | None = None, uid: int = 1000, gid: int = 1000
    ) -> None:
        self.clock = clock
        self.budget = budget
        self.uid = uid
        self.gid = gid
        self.devices = 1  # device numbers given out
        self._cookie = 0  # of the last move that was told
        self.pipes = 0  # pipe inode numbers given out
        self.blocked_locks: dict[Hashable, Blocked] = {}
        self.unnamed = MemFs(clock, budget, uid=uid, gid=gid)  # files that have no path (memfd_create(2))
        self._number(self.unnamed)
        self.fs = root or MemFs(clock, budget, uid=uid, gid=gid)
        self.mounts: list[tuple[bytes, FileSystem]] = [(b"/", self.fs)]
        self._number(self.fs)
        self.root = self.fs.root

    def context(self, *, process: Process | None = None, cwd: bytes = b"/", umask: int = 0o022) -> FsContext:
        """Return a context for the guest's user in directory `cwd`. Raises Errno when that is none."""
        ctx = FsContext(self, self.root, self.root, umask, self.uid, self.gid, process=process)
        ctx.cwd = need_directory(lookup(ctx, cwd))
        return ctx

    def administrator(self) -> FsContext:
        """Return a context that may do everything, from the root."""
        return FsContext(self, self.root, self.root, 0o022)

    def next_pipe_number(self) -> int:
        """Return a fresh inode number for a pipe."""
        self.pipes += 1
        return self.pipes

    def _number(self, fs: FileSystem) -> None:
        fs.attach(self.devices, self.uid, self.gid)
        self.devices += 1

    # --- mounting ---------------------------------------------------------------------------------------------------

    def mount(self, path: bytes, fs: FileSystem) -> None:
        """Put `fs` on `path`; what is missing on the way is made (in memory where the tree there is read-only).

        Raises Errno: ENOTDIR, EINVAL for "/", EBUSY where something is mounted.
        """
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if not names or b".." in names:
            raise Errno(EINVAL)
        ctx = self.administrator()
        here = self.root
        for name in names[:-1]:
            here = need_directory(self._mount_step(here, name, ctx))
        if here.grafts and names[-1] in here.grafts:
            raise Errno(EBUSY)
        self._number(fs)
        self._graft(here, names[-1], fs.root)
        self.mounts.append((b"/" + b"/".join(names), fs))

    def _mount_step(self, here: Directory, name: bytes, ctx: FsContext) -> Inode:
        try:
            inode = here.child(name, ctx)
        except Errno as error:
            if error.number != ENOENT:
                raise
            if isinstance(here.fs, MemFs) and not here.fs.readonly:
                return here.make(name, S_IFDIR | 0o755, self.uid, self.gid)
            between = MemFs(self.clock, self.budget, uid=self.uid, gid=self.gid)
            self._number(between)
            self._graft(here, name, between.root)
            return between.root
        if inode.kind == S_IFLNK:
            return lookup(ctx, here.path(self.root) + b"/" + name)
        return inode

    @staticmethod
    def _graft(here: Directory, name: bytes, root: Directory) -> None:
        here.grafts = {**(here.grafts or {}), name: root}
        root.parent = here
        root.name = name

    # --- looking ----------------------------------------------------------------------------------------------------

    def lookup(self, ctx: FsContext, path: bytes, at: Directory | None = None, *, follow: bool = True) -> Inode:
        """Return the inode that `path` names. Raises Errno."""
        return lookup(ctx, path, at, follow=follow)

    def readlink(self, ctx: FsContext, path: bytes, at: Directory | None = None) -> bytes:
        """Return the target of a symbolic link. Raises Errno: EINVAL for other types."""
        inode = lookup(ctx, path, at, follow=False)
        return inode.readlink(ctx)

    def chdir(self, ctx: FsContext, inode: Inode) -> None:
        """Make `inode` the working directory. Raises Errno: ENOTDIR, EACCES."""
        directory = need_directory(inode)
        need(directory, ctx, X_OK)
        ctx.cwd = directory

    # --- opening ----------------------------------------------------------------------------------------------------

    def open(self, ctx: FsContext, path: bytes, flags: int, mode: int = 0, at: Directory | None = None) -> File:
        """Open or create a file; return a new open file description. Raises Errno, as open(2) lists them."""
        if flags & O_TMPFILE_BIT:
            return self._open_unnamed(ctx, path, flags, mode, at)
        if flags & O_PATH:
            flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW
        if flags & O_CREAT and flags & O_DIRECTORY:
            raise Errno(EINVAL)
        exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL
        follow = not flags & O_NOFOLLOW and not exclusive
        found = resolve(ctx, path, at, follow=follow, create=bool(flags & O_CREAT))
        inode = found.inode
        if inode is None:
            if not flags & O_CREAT:
                raise Errno(ENOENT)
            inode = self._create(ctx, found, mode)
            flags &= ~O_TRUNC
        else:
            if exclusive:
                raise Errno(EEXIST)
            self._check_open(ctx, inode, flags)
            if inode.leases is not None and ctx.process is not None and not flags & O_PATH:
                inode.leases.need(flags & O_ACCMODE != O_RDONLY, ctx.process.kernel)
        return self._opened(ctx, inode, flags, found)

    def _create(self, ctx: FsContext, found: Found, mode: int) -> Inode:
        return self._make(ctx, found, S_IFREG | mode & 0o7777 & ~ctx.umask)

    def _check_open(self, ctx: FsContext, inode: Inode, flags: int) -> None:
        if flags & O_DIRECTORY and inode.kind != S_IFDIR:
            raise Errno(ENOTDIR)
        if inode.kind == S_IFLNK and not flags & O_PATH:
            raise Errno(ELOOP)
        if flags & O_PATH:
            return
        wanted = _ACCESS[flags & O_ACCMODE] | (W_OK if flags & O_TRUNC else 0)
        if inode.kind == S_IFDIR and (wanted & W_OK or flags & O_CREAT):
            raise Errno(EISDIR)
        need(inode, ctx, wanted)
        if wanted & W_OK and inode.kind == S_IFREG and inode.fs.readonly and not inode.always_writable:
            raise Errno(EROFS)
        if wanted & W_OK and inode.executed:
            raise Errno(ETXTBSY)
        if flags & O_NOATIME and ctx.uid not in (0, inode.owner_and_mode()[0]):
            raise Errno(EPERM)

    def _opened(self, ctx: FsContext, inode: Inode, flags: int, found: Found | None) -> File:
        path_only = bool(flags & O_PATH)
        if path_only:
            file = File(flags & ~CREATION_FLAGS, inode)
        else:
            file = inode.open(ctx, flags & ~(CREATION_FLAGS & ~O_NOCTTY))
            file.flags &= ~O_NOCTTY  # a terminal has heeded it
        if file.place is None and found is not None and inode.kind != S_IFDIR:
            file.place = (found.directory, found.name)
        file.tell(IN_OPEN)
        if flags & O_TRUNC and not path_only and inode.kind == S_IFREG:
            self._empty(file, inode)
        return file

    @staticmethod
    def _empty(file: File, inode: Inode) -> None:
        """O_TRUNC. Raises Errno, and the file is closed."""
        file.hold()
        try:
            inode.resize(0)
        except Errno:
            file.release()
            raise
        file.refs -= 1
        if file.place is not None:
            file.place[0].tell_name(IN_MODIFY, file.place[1], inode)

    def _open_unnamed(self, ctx: FsContext, path: bytes, flags: int, mode: int, at: Directory | None) -> File:
        if flags & O_ACCMODE == O_RDONLY or not flags & O_DIRECTORY:
            raise Errno(EINVAL)
        directory = need_directory(lookup(ctx, path, at))
        need(directory, ctx, W_OK | X_OK)
        self.need_writable(directory)
        inode = directory.make_unnamed(S_IFREG | mode & 0o7777 & ~ctx.umask, ctx.uid, ctx.gid)
        return inode.open(ctx, flags & ~(CREATION_FLAGS | O_TMPFILE_BIT))

    # --- making -----------------------------------------------------------------------------------------------------

    def make(
        self, ctx: FsContext, path: bytes, mode: int, at: Directory | None = None, *, rdev: int = 0, target: bytes = b""
    ) -> Inode:
        """Create a file of the type in `mode` (mkdir(2), mknod(2), symlink(2)); the umask applies. Raises Errno."""
        found = resolve(ctx, path, at, follow=False, parent=True)
        if found.inode is not None or not found.named:
            raise Errno(EEXIST)
        if found.slash and mode & S_IFMT != S_IFDIR:
            raise Errno(ENOENT)
        if mode & S_IFMT != S_IFLNK:
            mode &= ~ctx.umask
        return self._make(ctx, found, mode, rdev=rdev, target=target)

    def _make(self, ctx: FsContext, found: Found, mode: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
        directory = found.directory
        self.need_writable(directory)
        need(directory, ctx, W_OK | X_OK)
        gid = ctx.gid
        _, directory_gid, directory_mode = directory.owner_and_mode()
        if directory_mode & S_ISGID:
            gid = directory_gid
            mode |= S_ISGID if mode & S_IFMT == S_IFDIR else 0
        made = directory.make(found.name, mode, ctx.uid, gid, rdev=rdev, target=target)
        directory.tell_name(IN_CREATE, found.name, made)
        return made

    def link(self, ctx: FsContext, inode: Inode, path: bytes, at: Directory | None = None) -> None:
        """Give `inode` another name (link(2)). Raises Errno: EEXIST, EXDEV, EPERM for a directory."""
        found = resolve(ctx, path, at, follow=False, parent=True)
        if found.inode is not None or not found.named:
            raise Errno(EEXIST)
        if found.slash:
            raise Errno(ENOENT)
        if inode.fs is not found.directory.fs:
            raise Errno(EXDEV)
        self.need_writable(found.directory)
        need(found.directory, ctx, W_OK | X_OK)
        if inode.kind == S_IFDIR:
            raise Errno(EPERM)
        found.directory.link(found.name, inode)
        inode.tell(IN_ATTRIB)
        found.directory.tell_name(IN_CREATE, found.name, inode)

    # --- removing ---------------------------------------------------------------------------------------------------

    def unlink(self, ctx: FsContext, path: bytes, at: Directory | None = None) -> None:
        """Remove a name that is no directory. Raises Errno."""
        found = resolve(ctx, path, at, follow=False, parent=True)
        if not found.named:
            raise Errno(EISDIR)
        inode = self._need_found(found)
        if found.slash:
            raise Errno(EISDIR if inode.kind == S_IFDIR else ENOTDIR)
        self._check_removal(ctx, found.directory, inode)
        if inode.kind == S_IFDIR:
            raise Errno(EISDIR)
        self._unlink(found.directory, found.name, inode)

    @staticmethod
    def _unlink(directory: Directory, name: bytes, inode: Inode) -> None:
        """Remove a name, and tell who watches."""
        if inode.watchers is None and directory.watchers is None:
            directory.unlink(name, inode)
            return
        held = inode if isinstance(inode, MemInode) else None
        if held is not None:
            held.opened()
        directory.unlink(name, inode)
        if inode.kind != S_IFDIR:
            inode.tell(IN_ATTRIB)
        if held is not None:
            held.closed()
        elif inode.kind == S_IFDIR:
            inode.tell_gone()
        directory.tell_name(IN_DELETE, name, inode)

    def rmdir(self, ctx: FsContext, path: bytes, at: Directory | None = None) -> None:
        """Remove an empty directory. Raises Errno."""
        found = resolve(ctx, path, at, follow=False, parent=True)
        if not found.named:
            raise Errno({b".": EINVAL, b"..": ENOTEMPTY}.get(found.name, EBUSY))
        inode = self._need_found(found)
        self._check_removal(ctx, found.directory, inode)
        directory = need_directory(inode)
        self._check_not_mounted(found.directory, found.name, directory)
        if not directory.empty():
            raise Errno(ENOTEMPTY)
        self._unlink(found.directory, found.name, directory)

    def rename(
        self,
        ctx: FsContext,
        old: bytes,
        new: bytes,
        old_at: Directory | None = None,
        new_at: Directory | None = None,
        flags: int = 0,
    ) -> None:
        """Move a name (renameat2(2)). Raises Errno, in Linux's order."""
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
            raise Errno(EINVAL)
        source = resolve(ctx, old, old_at, follow=False, parent=True)
        target = resolve(ctx, new, new_at, follow=False, parent=True)
        if source.directory.fs is not target.directory.fs:
            raise Errno(EXDEV)
        if not source.named or not target.named:
            raise Errno(EEXIST if flags & RENAME_NOREPLACE and source.named else EBUSY)
        self.need_writable(source.directory)
        inode = self._need_found(source)
        if flags & RENAME_NOREPLACE and target.inode is not None:
            raise Errno(EEXIST)
        if flags & RENAME_EXCHANGE and target.inode is None:
            raise Errno(ENOENT)
        self._check_rename(ctx, source, inode, target, exchange=bool(flags & RENAME_EXCHANGE))
        if inode is target.inode:
            return
        if flags & RENAME_EXCHANGE and target.inode is not None:
            source.directory.exchange(source.name, inode, target.directory, target.name, target.inode)
            self._tell_moved(source, target.inode, target)
        else:
            replaced = target.inode if isinstance(target.inode, MemInode) else None
            if replaced is not None:
                replaced.opened()
            source.directory.rename(source.name, inode, target.directory, target.name, target.inode)
            self._tell_moved(source, inode, target)
            if target.inode is not None and target.inode.kind != S_IFDIR:
                target.inode.tell(IN_ATTRIB)
            inode.tell(IN_MOVE_SELF)
            if replaced is not None:
                replaced.closed()
            return
        self._tell_moved(target, inode, source)
        inode.tell(IN_MOVE_SELF)
        target.inode.tell(IN_MOVE_SELF)

    def _tell_moved(self, source: Found, inode: Inode, target: Found) -> None:
        """Tell who watches the directories that a name has moved."""
        watched = source.directory.watchers, target.directory.watchers
        if watched != (None, None):
            self._cookie = self._cookie % 0xFFFFFFFF + 1
            source.directory.tell_name(IN_MOVED_FROM, source.name, inode, self._cookie)
            target.directory.tell_name(IN_MOVED_TO, target.name, inode, self._cookie)

    def _check_rename(self, ctx: FsContext, source: Found, inode: Inode, target: Found, *, exchange: bool) -> None:
        if exchange and target.slash and not isinstance(target.inode, Directory):
            raise Errno(ENOTDIR)
        if inode.kind != S_IFDIR and (source.slash or (target.slash and not exchange)):
            raise Errno(ENOTDIR)
        if isinstance(inode, Directory) and _is_within(target.directory, inode):
            raise Errno(EINVAL)
        if isinstance(target.inode, Directory) and _is_within(source.directory, target.inode):
            raise Errno(EINVAL if exchange else ENOTEMPTY)
        if inode is target.inode:
            return
        self._check_removal(ctx, source.directory, inode)
        if target.inode is None:
            need(target.directory, ctx, W_OK | X_OK)
        else:
            self._check_removal(ctx, target.directory, target.inode)
        if isinstance(inode, Directory):
            self._check_not_mounted(source.directory, source.name, inode)
            if target.inode is not None and target.inode.kind != S_IFDIR and not exchange:
                raise Errno(ENOTDIR)
        elif target.inode is not None and target.inode.kind == S_IFDIR and not exchange:
            raise Errno(EISDIR)
        if isinstance(target.inode, Directory):
            self._check_not_mounted(target.directory, target.name, target.inode)
            if not exchange and not target.inode.empty():
                raise Errno(ENOTEMPTY)

    # --- checks -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _need_found(found: Found) -> Inode:
        if found.inode is None:
            raise Errno(ENOENT)
        return found.inode

    @staticmethod
    def need_writable(inode: Inode) -> None:
        """Raise Errno(EROFS) for what is on a read-only file system."""
        if inode.fs.readonly:
            raise Errno(EROFS)

    def _check_removal(self, ctx: FsContext, directory: Directory, inode: Inode) -> None:
        self.need_writable(directory)
        need(directory, ctx, W_OK | X_OK)
        uid, _, mode = directory.owner_and_mode()
        if mode & S_ISVTX and ctx.uid not in (0, uid, inode.owner_and_mode()[0]):
            raise Errno(EPERM)

    @staticmethod
    def _check_not_mounted(directory: Directory, name: bytes, inode: Directory) -> None:
        if (directory.grafts and name in directory.grafts) or inode.grafts:
            raise Errno(EBUSY)


def _is_within(directory: Directory, ancestor: Directory) -> bool:
    """Whether `directory` is `ancestor` or below it."""
    while directory is not ancestor:
        if directory.parent is directory:
            return False
        directory = directory.parent
    return True

"""Attributes: stat(2) in all its layouts, access(2), chmod(2), chown(2), utimensat(2), statfs(2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated

from aiopyvm.abi.errno import EINVAL, EOPNOTSUPP, EPERM, EROFS, Errno
from aiopyvm.abi.fcntl import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
    R_OK,
    W_OK,
    X_OK,
)
from aiopyvm.abi.stat import (
    PIPEFS_MAGIC,
    S_IFLNK,
    S_IFREG,
    S_ISGID,
    S_ISUID,
    S_IXUGO,
    STATFS64_SIZE,
    STATX_ATTR_MOUNT_ROOT,
    STATX_RESERVED,
    Stat,
    StatFs,
    pack_old_stat,
    pack_stat,
    pack_stat64,
    pack_statfs,
    pack_statfs64,
    pack_statx,
)
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fs import Inode, need
from aiopyvm.kernel.fscontext import FsContext
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.vfswalk import lookup
from aiopyvm.syscalls.files import directory_at, named, opened, tell_attributes
from aiopyvm.syscalls.spec import (
    U32,
    CStr,
    DirFd,
    Fd,
    Flags,
    Hex,
    Mode,
    OptCStr,
    Ptr,
    Size,
    syscall,
)

AtFlags = Annotated[
    int,
    Flags(
        {
            "AT_SYMLINK_NOFOLLOW": AT_SYMLINK_NOFOLLOW,
            "AT_EACCESS": AT_EACCESS,
            "AT_NO_AUTOMOUNT": AT_NO_AUTOMOUNT,
            "AT_EMPTY_PATH": AT_EMPTY_PATH,
        }
    ),
]
AccessMode = Annotated[int, Flags({"R_OK": R_OK, "W_OK": W_OK, "X_OK": X_OK}, zero="F_OK")]

# --- stat -------------------------------------------------------------------------------------------------------------

Row = tuple[int, str]  # number and name


def _layout(structure: str, pack: Callable[[Stat], bytes], path: Row, link: Row, descriptor: Row) -> None:
    """Enter the three calls that answer in one layout of the attributes."""

    @syscall(*path, man="stat(2)")
    def of_path(t: Thread, path: CStr, buf: Ptr) -> int:
        t.memory.write(buf, pack(lookup(t.fs, path).stat()))
        return 0

    @syscall(*link, man="stat(2)")
    def of_link(t: Thread, path: CStr, buf: Ptr) -> int:
        t.memory.write(buf, pack(lookup(t.fs, path, follow=False).stat()))
        return 0

    @syscall(*descriptor, man="stat(2)")
    def of_descriptor(t: Thread, fd: Fd, buf: Ptr) -> int:
        t.memory.write(buf, pack(t.process.fds.get_any(fd).stat()))
        return 0

    of_path.__doc__ = f"Attributes as struct {structure}."
    of_link.__doc__ = f"Attributes as struct {structure}, of a link itself."
    of_descriptor.__doc__ = f"Attributes of an open file as struct {structure}."


_layout("__old_kernel_stat", pack_old_stat, (18, "oldstat"), (84, "oldlstat"), (28, "oldfstat"))
_layout("stat", pack_stat, (106, "stat"), (107, "lstat"), (108, "fstat"))
_layout("stat64", pack_stat64, (195, "stat64"), (196, "lstat64"), (197, "fstat64"))


def _stat_at(t: Thread, dirfd: int, path: bytes, flags: int) -> tuple[Stat, bool]:
    """Return the attributes, and whether they are a mounted root's."""
    ctx = t.fs
    if not path and flags & AT_EMPTY_PATH:
        if dirfd != AT_FDCWD:
            file = t.process.fds.get_any(dirfd)
            return file.stat(), file.inode is not None and _is_mount_root(file.inode)
        inode: Inode = ctx.cwd
    else:
        inode = lookup(ctx, path, directory_at(t, dirfd, path), follow=not flags & AT_SYMLINK_NOFOLLOW)
    return inode.stat(), _is_mount_root(inode)


def _is_mount_root(inode: Inode) -> bool:
    return inode is getattr(getattr(inode, "fs", None), "root", None)


@syscall(300, "fstatat64", man="stat(2)")
def fstatat64(t: Thread, dirfd: DirFd, path: CStr, buf: Ptr, flags: AtFlags) -> int:
    """Attributes as struct stat64, relative to a directory."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH):
        raise Errno(EINVAL)
    t.memory.write(buf, pack_stat64(_stat_at(t, dirfd, path, flags)[0]))
    return 0


@syscall(383, "statx", man="statx(2)")
def statx(t: Thread, dirfd: DirFd, path: OptCStr, flags: AtFlags, mask: Hex, buf: Ptr) -> int:
    """Attributes as struct statx."""
    if mask & STATX_RESERVED or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise Errno(EINVAL)
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE):
        raise Errno(EINVAL)
    if path is None:
        if not flags & AT_EMPTY_PATH:
            t.memory.read(0, 1)
        path = b""
    attributes, mounted = _stat_at(t, dirfd, path, flags)
    t.memory.write(buf, pack_statx(attributes, STATX_ATTR_MOUNT_ROOT if mounted else 0))
    return 0


# --- access -----------------------------------------------------------------------------------------------------------


def _access(t: Thread, dirfd: int, path: bytes, mode: int, flags: int) -> int:
    if mode & ~(R_OK | W_OK | X_OK) or flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno(EINVAL)
    ctx = t.fs
    if not flags & AT_EACCESS:
        credentials = t.credentials
        if (credentials.uid, credentials.gid) != (ctx.uid, ctx.gid):
            ctx = ctx.clone(t.process)
            ctx.uid, ctx.gid = credentials.uid, credentials.gid
    inode = _inode_at(t, dirfd, path, flags, ctx)
    if mode:
        need(inode, ctx, mode)
    readonly = inode.fs.readonly and not inode.always_writable
    if mode & W_OK and readonly and inode.kind in (S_IFREG, S_IFLNK, 0o040000):
        raise Errno(EROFS)
    return 0


@syscall(33, "access", man="access(2)")
def access(t: Thread, path: CStr, mode: AccessMode) -> int:
    """Check the real user's permissions."""
    return _access(t, AT_FDCWD, path, mode, 0)


@syscall(307, "faccessat", man="access(2)")
def faccessat(t: Thread, dirfd: DirFd, path: CStr, mode: AccessMode) -> int:
    """Check the real user's permissions, relative to a directory."""
    return _access(t, dirfd, path, mode, 0)


@syscall(439, "faccessat2", man="access(2)")
def faccessat2(t: Thread, dirfd: DirFd, path: CStr, mode: AccessMode, flags: AtFlags) -> int:
    """Check permissions, relative to a directory, with flags."""
    return _access(t, dirfd, path, mode, flags)


# --- mode -------------------------------------------------------------------------------------------------------------


def _need_owner(t: Thread, inode: Inode) -> None:
    t.kernel.vfs.need_writable(inode)
    if t.fs.uid not in (0, inode.owner_and_mode()[0]):
        raise Errno(EPERM)


def _chmod(t: Thread, inode: Inode, mode: int) -> int:
    if inode.kind == S_IFLNK:
        raise Errno(EOPNOTSUPP)
    _need_owner(t, inode)
    mode &= 0o7777
    ctx = t.fs
    if ctx.uid != 0 and not ctx.in_group(inode.owner_and_mode()[1]):
        mode &= ~S_ISGID
    inode.set_mode(mode)
    tell_attributes(t, inode)
    return 0


@syscall(15, "chmod", man="chmod(2)")
def chmod(t: Thread, path: CStr, mode: Mode) -> int:
    """Set permission bits."""
    return _chmod(t, named(t, path), mode)


@syscall(94, "fchmod", man="chmod(2)")
def fchmod(t: Thread, fd: Fd, mode: Mode) -> int:
    """Set an open file's permission bits."""
    return _chmod(t, opened(t, t.process.fds.get(fd)), mode)


@syscall(306, "fchmodat", man="chmod(2)")
def fchmodat(t: Thread, dirfd: DirFd, path: CStr, mode: Mode) -> int:
    """Set permission bits, relative to a directory."""
    return _chmod(t, named(t, path, directory_at(t, dirfd, path)), mode)


@syscall(452, "fchmodat2", man="chmod(2)")
def fchmodat2(t: Thread, dirfd: DirFd, path: CStr, mode: Mode, flags: AtFlags) -> int:
    """Set permission bits, relative to a directory, with flags."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno(EINVAL)
    return _chmod(t, _inode_at(t, dirfd, path, flags), mode)


def _inode_at(t: Thread, dirfd: int, path: bytes, flags: int, ctx: FsContext | None = None) -> Inode:
    """Return what `path` names, for `ctx` or the process itself."""
    if not path and flags & AT_EMPTY_PATH:
        return t.fs.cwd if dirfd == AT_FDCWD else opened(t, t.process.fds.get_any(dirfd))
    at, follow = directory_at(t, dirfd, path), not flags & AT_SYMLINK_NOFOLLOW
    return named(t, path, at, follow=follow) if ctx is None else lookup(ctx, path, at, follow=follow)


# --- owner ------------------------------------------------------------------------------------------------------------


def _chown(t: Thread, inode: Inode, uid: int, gid: int) -> int:
    """Set the owner: root anything, the owner himself a group he is in."""
    t.kernel.vfs.need_writable(inode)
    ctx = t.fs
    owner, group, mode = inode.owner_and_mode()
    if ctx.uid != 0:
        if uid not in (-1, owner) or (uid != -1 and owner != ctx.uid):
            raise Errno(EPERM)
        if gid != -1 and (owner != ctx.uid or not (ctx.in_group(gid) or gid == group)):
            raise Errno(EPERM)
    inode.set_owner(uid, gid)
    if inode.kind == S_IFREG and mode & (S_ISUID | S_ISGID) and mode & S_IXUGO:
        inode.set_mode(mode & ~(S_ISUID | (S_ISGID if mode & 0o010 else 0)))
    if (uid, gid) != (-1, -1):
        tell_attributes(t, inode)
    return 0


def _short(number: int) -> int:
    """A 16-bit user or group id: 0xffff is -1."""
    return -1 if number & 0xFFFF == 0xFFFF else number & 0xFFFF


def _long(number: int) -> int:
    return -1 if number == 0xFFFFFFFF else number


def _owners(ids: str, read: Callable[[int], int], path: Row, link: Row, descriptor: Row) -> None:
    """Enter the three calls that take ids of one width."""

    @syscall(*path, man="chown(2)")
    def of_path(t: Thread, path: CStr, owner: U32, group: U32) -> int:
        return _chown(t, named(t, path), read(owner), read(group))

    @syscall(*link, man="chown(2)")
    def of_link(t: Thread, path: CStr, owner: U32, group: U32) -> int:
        return _chown(t, named(t, path, follow=False), read(owner), read(group))

    @syscall(*descriptor, man="chown(2)")
    def of_descriptor(t: Thread, fd: Fd, owner: U32, group: U32) -> int:
        return _chown(t, opened(t, t.process.fds.get(fd)), read(owner), read(group))

    of_path.__doc__ = f"Set the owner ({ids} ids)."
    of_link.__doc__ = f"Set the owner ({ids} ids), of a link itself."
    of_descriptor.__doc__ = f"Set an open file's owner ({ids} ids)."


_owners("16-bit", _short, (182, "chown"), (16, "lchown"), (95, "fchown"))
_owners("32-bit", _long, (212, "chown32"), (198, "lchown32"), (207, "fchown32"))


@syscall(298, "fchownat", man="chown(2)")
def fchownat(t: Thread, dirfd: DirFd, path: CStr, owner: U32, group: U32, flags: AtFlags) -> int:
    """Set the owner, relative to a directory."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno(EINVAL)
    return _chown(t, _inode_at(t, dirfd, path, flags), _long(owner), _long(group))


# --- times ------------------------------------------------------------------------------------------------------------

UTIME_NOW = 0x3FFFFFFF
UTIME_OMIT = 0x3FFFFFFE

Times = list[tuple[int, int]]  # (seconds, nanoseconds) of access and modification


def _set_times(t: Thread, inode: Inode, times: Times | None) -> int:
    """Set access and modification time; None is now (utimensat(2)). Raises Errno: EINVAL, EACCES, EPERM, EROFS."""
    times = times or [(0, UTIME_NOW), (0, UTIME_NOW)]
    if any(not (0 <= ns < 10**9 or ns in (UTIME_NOW, UTIME_OMIT)) for _, ns in times):
        raise Errno(EINVAL)
    if all(ns == UTIME_OMIT for _, ns in times):
        return 0
    t.kernel.vfs.need_writable(inode)
    ctx = t.fs
    if ctx.uid not in (0, inode.owner_and_mode()[0]):
        if not all(ns == UTIME_NOW for _, ns in times):
            raise Errno(EPERM)
        need(inode, ctx, W_OK)
    now = t.kernel.clock.realtime_ns()
    values = [None if ns == UTIME_OMIT else now if ns == UTIME_NOW else s * 10**9 + ns for s, ns in times]
    inode.set_times(*values)
    tell_attributes(t, inode)
    return 0


def _read_times(t: Thread, address: int, fmt: str) -> Times | None:
    if not address:
        return None
    a, a_ns, m, m_ns = struct.unpack(fmt, t.memory.read(address, struct.calcsize(fmt)))
    return [(a, a_ns), (m, m_ns)]


def _read_timevals(t: Thread, address: int) -> Times | None:
    """Read two struct timeval. Raises Errno(EINVAL) for microseconds out of range."""
    times = _read_times(t, address, "<4i")
    if times is not None and any(not 0 <= us < 10**6 for _, us in times):
        raise Errno(EINVAL)
    return times and [(s, us * 1000) for s, us in times]


@syscall(30, "utime", man="utime(2)")
def utime(t: Thread, path: CStr, times: Ptr) -> int:
    """Set times, in seconds."""
    values: Times | None = None
    if times:
        atime, mtime = struct.unpack("<ii", t.memory.read(times, 8))
        values = [(atime, 0), (mtime, 0)]
    return _set_times(t, named(t, path), values)


@syscall(271, "utimes", man="utime(2)")
def utimes(t: Thread, path: CStr, times: Ptr) -> int:
    """Set times, in microseconds."""
    values = _read_timevals(t, times)
    return _set_times(t, named(t, path), values)


@syscall(299, "futimesat", man="futimesat(2)")
def futimesat(t: Thread, dirfd: DirFd, path: OptCStr, times: Ptr) -> int:
    """Set times, in microseconds, relative to a directory; no path means the descriptor."""
    values = _read_timevals(t, times)
    return _set_times(t, _timed(t, dirfd, path, 0), values)


def _timed(t: Thread, dirfd: int, path: bytes | None, flags: int) -> Inode:
    if path is None:
        if dirfd == AT_FDCWD:
            t.memory.read(0, 1)  # EFAULT, as for any path that is not there
        if flags & ~AT_EMPTY_PATH:
            raise Errno(EINVAL)
        return opened(t, t.process.fds.get(dirfd))
    return _inode_at(t, dirfd, path, flags)


def _utimensat(t: Thread, dirfd: int, path: bytes | None, address: int, flags: int, fmt: str) -> int:
    values = _read_times(t, address, fmt)
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno(EINVAL)
    if values and all(ns == UTIME_OMIT for _, ns in values):
        return 0
    return _set_times(t, _timed(t, dirfd, path, flags), values)


@syscall(320, "utimensat", man="utimensat(2)")
def utimensat(t: Thread, dirfd: DirFd, path: OptCStr, times: Ptr, flags: AtFlags) -> int:
    """Set times, in nanoseconds."""
    return _utimensat(t, dirfd, path, times, flags, "<4i")


@syscall(412, "utimensat_time64", man="utimensat(2)")
def utimensat_time64(t: Thread, dirfd: DirFd, path: OptCStr, times: Ptr, flags: AtFlags) -> int:
    """Set times, in nanoseconds, with 64-bit seconds."""
    return _utimensat(t, dirfd, path, times, flags, "<qi4xqi4x")


# --- file systems -----------------------------------------------------------------------------------------------------


def _statfs_of(file: File) -> StatFs:
    return StatFs(PIPEFS_MAGIC) if file.inode is None else file.inode.fs.statfs()


@syscall(99, "statfs", man="statfs(2)")
def statfs(t: Thread, path: CStr, buf: Ptr) -> int:
    """What file system a path is on."""
    t.memory.write(buf, pack_statfs(lookup(t.fs, path).fs.statfs()))
    return 0


@syscall(100, "fstatfs", man="statfs(2)")
def fstatfs(t: Thread, fd: Fd, buf: Ptr) -> int:
    """What file system an open file is on."""
    t.memory.write(buf, pack_statfs(_statfs_of(t.process.fds.get_any(fd))))
    return 0


def _need_statfs64_size(size: int) -> None:
    if size not in (STATFS64_SIZE, STATFS64_SIZE + 4):  # 88: with the padding of other machines
        raise Errno(EINVAL)


@syscall(268, "statfs64", man="statfs(2)")
def statfs64(t: Thread, path: CStr, size: Size, buf: Ptr) -> int:
    """What file system a path is on, in 64 bits."""
    _need_statfs64_size(size)
    t.memory.write(buf, pack_statfs64(lookup(t.fs, path).fs.statfs()))
    return 0


@syscall(269, "fstatfs64", man="statfs(2)")
def fstatfs64(t: Thread, fd: Fd, size: Size, buf: Ptr) -> int:
    """What file system an open file is on, in 64 bits."""
    _need_statfs64_size(size)
    t.memory.write(buf, pack_statfs64(_statfs_of(t.process.fds.get_any(fd))))
    return 0

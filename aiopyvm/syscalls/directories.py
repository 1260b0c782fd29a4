"""Names: directories, links, renaming, reading directories, the working directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from aiopyvm.abi.dirent import pack_dirent, pack_dirent64, pack_old_dirent
from aiopyvm.abi.errno import EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, ERANGE, Errno
from aiopyvm.abi.fcntl import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    PATH_MAX,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
)
from aiopyvm.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fs import Directory, Entry, need_directory
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.vfswalk import lookup
from aiopyvm.syscalls.files import directory_at, inode_of
from aiopyvm.syscalls.spec import U32, CStr, DirFd, Fd, Flags, Mode, OutBuffer, Ptr, Size, syscall

AtFlags = Annotated[
    int,
    Flags({"AT_REMOVEDIR": AT_REMOVEDIR, "AT_SYMLINK_FOLLOW": AT_SYMLINK_FOLLOW, "AT_EMPTY_PATH": AT_EMPTY_PATH}),
]
RenameFlags = Annotated[
    int,
    Flags(
        {
            "RENAME_NOREPLACE": RENAME_NOREPLACE,
            "RENAME_EXCHANGE": RENAME_EXCHANGE,
            "RENAME_WHITEOUT": RENAME_WHITEOUT,
        }
    ),
]

# --- making and removing ----------------------------------------------------------------------------------------------


@syscall(39, "mkdir", man="mkdir(2)")
def mkdir(t: Thread, path: CStr, mode: Mode) -> int:
    """Make a directory."""
    return mkdirat(t, AT_FDCWD, path, mode)


@syscall(296, "mkdirat", man="mkdir(2)")
def mkdirat(t: Thread, dirfd: DirFd, path: CStr, mode: Mode) -> int:
    """Make a directory, relative to a directory."""
    t.kernel.vfs.make(t.fs, path, S_IFDIR | mode & 0o1777, directory_at(t, dirfd, path))
    return 0


@syscall(14, "mknod", man="mknod(2)")
def mknod(t: Thread, path: CStr, mode: Mode, dev: U32) -> int:
    """Make a FIFO, a regular file, a socket's name or, as root, a device node."""
    return mknodat(t, AT_FDCWD, path, mode, dev)


@syscall(297, "mknodat", man="mknod(2)")
def mknodat(t: Thread, dirfd: DirFd, path: CStr, mode: Mode, dev: U32) -> int:
    """Make a file of a type, relative to a directory."""
    kind = mode & S_IFMT or S_IFREG
    if kind == S_IFDIR:
        raise Errno(EPERM)
    if kind not in (S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK):
        raise Errno(EINVAL)
    if kind in (S_IFCHR, S_IFBLK) and t.fs.uid != 0:
        raise Errno(EPERM)
    t.kernel.vfs.make(t.fs, path, kind | mode & 0o7777, directory_at(t, dirfd, path), rdev=dev)
    return 0


@syscall(40, "rmdir", man="rmdir(2)")
def rmdir(t: Thread, path: CStr) -> int:
    """Remove an empty directory."""
    t.kernel.vfs.rmdir(t.fs, path)
    return 0


@syscall(10, "unlink", man="unlink(2)")
def unlink(t: Thread, path: CStr) -> int:
    """Remove a name."""
    t.kernel.vfs.unlink(t.fs, path)
    return 0


@syscall(301, "unlinkat", man="unlink(2)")
def unlinkat(t: Thread, dirfd: DirFd, path: CStr, flags: AtFlags) -> int:
    """Remove a name or (AT_REMOVEDIR) an empty directory."""
    if flags & ~AT_REMOVEDIR:
        raise Errno(EINVAL)
    at = directory_at(t, dirfd, path)
    if flags & AT_REMOVEDIR:
        t.kernel.vfs.rmdir(t.fs, path, at)
    else:
        t.kernel.vfs.unlink(t.fs, path, at)
    return 0


# --- links and renaming -----------------------------------------------------------------------------------------------


@syscall(9, "link", man="link(2)")
def link(t: Thread, old: CStr, new: CStr) -> int:
    """Give a file another name."""
    return linkat(t, AT_FDCWD, old, AT_FDCWD, new, 0)


@syscall(303, "linkat", man="link(2)")
def linkat(t: Thread, old_dirfd: DirFd, old: CStr, new_dirfd: DirFd, new: CStr, flags: AtFlags) -> int:
    """Give a file another name, relative to directories."""
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise Errno(EINVAL)
    ctx = t.fs
    if not old and flags & AT_EMPTY_PATH:
        inode = ctx.cwd if old_dirfd == AT_FDCWD else inode_of(t.process.fds.get_any(old_dirfd))
    else:
        inode = lookup(ctx, old, directory_at(t, old_dirfd, old), follow=bool(flags & AT_SYMLINK_FOLLOW))
    t.kernel.vfs.link(ctx, inode, new, directory_at(t, new_dirfd, new))
    return 0


@syscall(83, "symlink", man="symlink(2)")
def symlink(t: Thread, target: CStr, path: CStr) -> int:
    """Make a symbolic link."""
    return symlinkat(t, target, AT_FDCWD, path)


@syscall(304, "symlinkat", man="symlink(2)")
def symlinkat(t: Thread, target: CStr, dirfd: DirFd, path: CStr) -> int:
    """Make a symbolic link, relative to a directory."""
    if not target:
        raise Errno(ENOENT)
    t.kernel.vfs.make(t.fs, path, S_IFLNK | 0o777, directory_at(t, dirfd, path), target=target)
    return 0


@syscall(85, "readlink", man="readlink(2)")
def readlink(t: Thread, path: CStr, buf: OutBuffer, size: Size) -> int:
    """Read a symbolic link's target."""
    return readlinkat(t, AT_FDCWD, path, buf, size)


@syscall(305, "readlinkat", man="readlink(2)")
def readlinkat(t: Thread, dirfd: DirFd, path: CStr, buf: OutBuffer, size: Size) -> int:
    """Read a symbolic link's target; the empty path means an O_PATH descriptor of one."""
    if not 0 < size < 1 << 31:
        raise Errno(EINVAL)
    ctx = t.fs
    if not path and dirfd != AT_FDCWD:
        inode = inode_of(t.process.fds.get_any(dirfd))
        if inode.kind != S_IFLNK:
            raise Errno(ENOENT)
        target = inode.readlink(ctx)
    else:
        target = t.kernel.vfs.readlink(ctx, path, directory_at(t, dirfd, path))
    target = target[: min(size, PATH_MAX)]
    t.memory.write(buf, target)
    return len(target)


@syscall(38, "rename", man="rename(2)")
def rename(t: Thread, old: CStr, new: CStr) -> int:
    """Move a name."""
    return renameat2(t, AT_FDCWD, old, AT_FDCWD, new, 0)


@syscall(302, "renameat", man="rename(2)")
def renameat(t: Thread, old_dirfd: DirFd, old: CStr, new_dirfd: DirFd, new: CStr) -> int:
    """Move a name, relative to directories."""
    return renameat2(t, old_dirfd, old, new_dirfd, new, 0)


@syscall(353, "renameat2", man="rename(2)")
def renameat2(t: Thread, old_dirfd: DirFd, old: CStr, new_dirfd: DirFd, new: CStr, flags: RenameFlags) -> int:
    """Move or exchange names, relative to directories."""
    source, target = directory_at(t, old_dirfd, old), directory_at(t, new_dirfd, new)
    t.kernel.vfs.rename(t.fs, old, new, source, target, flags)
    return 0


# --- reading directories ----------------------------------------------------------------------------------------------


def _read_entries(t: Thread, fd: int, address: int, size: int, pack: Callable[[Entry], bytes]) -> int:
    """Store as many entries as fit. Raises Errno: EINVAL when not even one fits, ENOTDIR, ENOENT when removed."""
    file = t.process.fds.get(fd)
    directory = need_open_directory(file)
    if directory.removed:
        raise Errno(ENOENT)
    parts: list[bytes] = []
    room = min(size, 1 << 16)
    last = file.offset
    for entry in file.entries():
        record = pack(entry)
        if len(record) > room:
            if not parts:
                raise Errno(EINVAL)
            break
        parts.append(record)
        room -= len(record)
        last = entry.cookie
    data = b"".join(parts)
    t.memory.write(address, data)
    file.offset = last
    t.moved += len(data)
    return len(data)


def need_open_directory(file: File) -> Directory:
    """Return the directory that is open. Raises Errno(ENOTDIR)."""
    if file.inode is None:
        raise Errno(ENOTDIR)
    return need_directory(file.inode)


@syscall(141, "getdents", man="getdents(2)")
def getdents(t: Thread, fd: Fd, dirp: Ptr, count: Size) -> int:
    """Read entries as struct linux_dirent."""
    return _read_entries(t, fd, dirp, count, lambda e: pack_dirent(e.ino, e.cookie, e.name, e.kind))


@syscall(220, "getdents64", man="getdents(2)")
def getdents64(t: Thread, fd: Fd, dirp: Ptr, count: Size) -> int:
    """Read entries as struct linux_dirent64."""
    return _read_entries(t, fd, dirp, count, lambda e: pack_dirent64(e.ino, e.cookie, e.name, e.kind))


@syscall(89, "readdir", man="readdir(2)")
def readdir(t: Thread, fd: Fd, dirp: Ptr, count: Size) -> int:
    """Read one entry as struct old_linux_dirent; 1, or 0 at the end. `count` is ignored."""
    file = t.process.fds.get(fd)
    need_open_directory(file)
    for entry in file.entries():
        t.memory.write(dirp, pack_old_dirent(entry.ino, entry.cookie, entry.name))
        file.offset = entry.cookie
        return 1
    return 0


# --- where a process is -----------------------------------------------------------------------------------------------


@syscall(12, "chdir", man="chdir(2)")
def chdir(t: Thread, path: CStr) -> int:
    """Change the working directory."""
    t.kernel.vfs.chdir(t.fs, lookup(t.fs, path))
    return 0


@syscall(133, "fchdir", man="chdir(2)")
def fchdir(t: Thread, fd: Fd) -> int:
    """Change the working directory to an open one."""
    t.kernel.vfs.chdir(t.fs, need_open_directory(t.process.fds.get_any(fd)))
    return 0


@syscall(183, "getcwd", man="getcwd(2)")
def getcwd(t: Thread, buf: OutBuffer, size: Size) -> int:
    """Store the working directory's path; return its length with the NUL."""
    ctx = t.fs
    path = ctx.cwd.path(ctx.root) + b"\0"
    if len(path) > PATH_MAX:
        raise Errno(ENAMETOOLONG)
    if len(path) > size:
        raise Errno(ERANGE)
    t.memory.write(buf, path)
    return len(path)


@syscall(61, "chroot", man="chroot(2)")
def chroot(t: Thread, path: CStr) -> int:
    """Change the root directory, as root; EPERM for others."""
    ctx = t.fs
    directory = need_directory(lookup(ctx, path))
    if ctx.uid != 0:
        raise Errno(EPERM)
    ctx.root = directory
    return 0

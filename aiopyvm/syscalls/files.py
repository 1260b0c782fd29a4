"""Opening, positions, sizes: open(2), lseek(2), truncate(2), fsync(2) and their relatives."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi.errno import (
    EBADF,
    EFBIG,
    EINVAL,
    EISDIR,
    ENODEV,
    ENOENT,
    EOPNOTSUPP,
    EOVERFLOW,
    ESPIPE,
    ETXTBSY,
    Errno,
)
from aiopyvm.abi.fcntl import (
    AT_FDCWD,
    FALLOC_FL_KEEP_SIZE,
    MAX_FILE_SIZE,
    MAX_NON_LFS,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    O_ACCMODE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_LARGEFILE,
    O_NONBLOCK,
    O_PATH,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    OPEN_NAMES,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
    W_OK,
)
from aiopyvm.abi.inotify import IN_ATTRIB, IN_MODIFY
from aiopyvm.abi.resource import RLIMIT_FSIZE
from aiopyvm.abi.stat import S_IFBLK, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fs import Directory, Inode, need, need_directory
from aiopyvm.kernel.fsfile import RegularFile
from aiopyvm.kernel.fsleases import LeaseBroken
from aiopyvm.kernel.memfs import MemFile
from aiopyvm.kernel.openinode import OpenInode
from aiopyvm.kernel.pipe import PipeEnd, fifo_partner
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.vfswalk import resolve
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.syscalls.spec import (
    I32,
    I64,
    U32,
    Choice,
    CStr,
    DirFd,
    Fd,
    Flags,
    Hex,
    Mode,
    Out,
    Size,
    read_string,
    syscall,
)
from aiopyvm.syscalls.steps import call_of
from aiopyvm.syscalls.transfer import raise_signal

OpenFlags = Annotated[int, Flags({name: value for value, name in OPEN_NAMES.items()}, zero="O_RDONLY", field=3)]
Whence = Annotated[
    int,
    Choice(
        {
            "SEEK_SET": SEEK_SET,
            "SEEK_CUR": SEEK_CUR,
            "SEEK_END": SEEK_END,
            "SEEK_DATA": SEEK_DATA,
            "SEEK_HOLE": SEEK_HOLE,
        }
    ),
]


def directory_at(t: Thread, fd: int, path: bytes) -> Directory | None:
    """Return where a relative `path` starts; None for the working directory.

    Raises Errno: ENOENT for an empty path, EBADF, ENOTDIR.
    """
    if not path:
        raise Errno(ENOENT)
    if fd == AT_FDCWD or path[:1] == b"/":
        return None
    inode = t.process.fds.get_any(fd).inode
    return need_directory(inode) if inode is not None else need_directory(Inode())


def inode_of(file: File) -> Inode:
    """Return the inode of an open file. Raises Errno(EINVAL) for one without."""
    if file.inode is None:
        raise Errno(EINVAL)
    return file.inode


def attributed(file: File) -> Inode:
    """Return what has the attributes of an open file, be it without an inode of its own."""
    return OpenInode(file) if file.inode is None else file.inode


def named(t: Thread, path: bytes, at: Directory | None = None, *, follow: bool = True) -> Inode:
    """As `lookup`, for a call that changes attributes: `tell_attributes` knows the name. Raises Errno."""
    found = resolve(t.fs, path, at, follow=follow)
    if found.inode is None:
        raise Errno(ENOENT)
    call_of(t).state["place"] = (found.directory, found.name) if found.named else None
    return found.inode


def opened(t: Thread, file: File) -> Inode:
    """As `attributed`, for such a call."""
    call_of(t).state["place"] = file.place
    return attributed(file)


def tell_attributes(t: Thread, inode: Inode) -> None:
    """Tell who watches an inode, or the directory where the call found it, that its attributes are others."""
    place = call_of(t).state.get("place")
    if place is not None:
        directory, name = place
        try:
            if directory.watchers is None or directory.child(name, t.fs) is not inode:
                place = None
        except Errno:
            place = None  # it has no such name any more
    inode.tell(IN_ATTRIB, place)


def give(t: Thread, file: File, *, cloexec: bool = False) -> int:
    """Return a new descriptor for a newly opened file; it is closed when there is none (EMFILE)."""
    fresh = not file.refs  # /dev/stdin, /proc/self/fd: the same open file description again
    file.hold()
    try:
        if fresh:
            t.kernel.take_file(file)
        return t.process.fds.install(file, cloexec=cloexec)
    finally:
        file.release()


# --- opening ----------------------------------------------------------------------------------------------------------


def open_path(t: Thread, dirfd: int, path: bytes, flags: int, mode: int, scope: int = 0) -> int | Wait:
    """open(2): return a descriptor, or wait for the other end of a FIFO. `scope` is RESOLVE_* bits. Raises Errno."""
    state = call_of(t).state
    end: PipeEnd | None = state.get("fifo")
    if end is not None:
        return _fifo_opened(t, end)
    process = t.process
    if path and flags & (O_CREAT | O_DIRECTORY) != O_CREAT | O_DIRECTORY:
        process.fds.need_free()  # before anything is created
    try:
        if scope:
            start = directory_at(t, dirfd, b".") or t.fs.cwd
            file = t.kernel.vfs.open(t.fs.scoped(scope, start), path, flags, mode)
        else:
            file = t.kernel.vfs.open(t.fs, path, flags, mode, directory_at(t, dirfd, path))
    except LeaseBroken as broken:
        if flags & O_NONBLOCK:
            raise
        return broken.wait()
    fd = give(t, file, cloexec=bool(flags & O_CLOEXEC))
    named = isinstance(file, PipeEnd) and file.inode is not None  # a pipe(2) reached by /proc/PID/fd never waits
    if isinstance(file, PipeEnd) and named and not flags & (O_NONBLOCK | O_PATH) and flags & O_ACCMODE != O_RDWR:
        other = file.pipe.writers if flags & O_ACCMODE != O_WRONLY else file.pipe.readers
        if not other:
            queue, partners = fifo_partner(file)
            state["fifo"], state["fd"], state["partners"] = file, fd, partners
            return Wait((queue,), restart=Restart.SYS, reason="the other end of a FIFO")
    if flags & O_TRUNC == 0 and file.inode is not None and file.inode.kind == S_IFREG and not flags & O_LARGEFILE:
        _need_small(t, file, fd)
    return fd


def _need_small(t: Thread, file: File, fd: int) -> None:
    if not file.flags & O_PATH and file.stat().size > MAX_NON_LFS:
        t.process.fds.close(fd)
        raise Errno(EOVERFLOW)


def _fifo_opened(t: Thread, end: PipeEnd) -> int | Wait:
    """Go on waiting for a FIFO's other end; a signal takes back what was opened, so that the call may begin anew."""
    call = call_of(t)
    fd: int = call.state["fd"]
    queue, partners = fifo_partner(end)
    if partners != call.state["partners"]:
        return fd
    if call.woken is Cause.SIGNAL:
        t.process.fds.close(fd)
        del call.state["fifo"], call.state["fd"], call.state["partners"]
    return Wait((queue,), restart=Restart.SYS, reason="the other end of a FIFO")


@syscall(5, "open", man="open(2)")
def open_(t: Thread, path: CStr, flags: OpenFlags, mode: Mode) -> int | Wait:
    """Open or create a file."""
    return open_path(t, AT_FDCWD, path, flags, mode)


@syscall(295, "openat", man="open(2)")
def openat(t: Thread, dirfd: DirFd, path: CStr, flags: OpenFlags, mode: Mode) -> int | Wait:
    """Open or create a file, relative to a directory."""
    return open_path(t, dirfd, path, flags, mode)


@syscall(8, "creat", man="open(2)")
def creat(t: Thread, path: CStr, mode: Mode) -> int | Wait:
    """Create or truncate a file and open it for writing."""
    return open_path(t, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)


@syscall(356, "memfd_create", man="memfd_create(2)", note="no seals, no huge pages")
def memfd_create(t: Thread, name: Hex, flags: U32) -> int:
    """Open a new file in memory that has no name. MFD_ALLOW_SEALING is accepted; F_ADD_SEALS is EINVAL."""
    if flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING):
        raise Errno(EINVAL)
    text = read_string(t, name, 250, EINVAL)
    inode = MemFile(t.kernel.vfs.unnamed, S_IFREG | 0o777, t.fs.uid, t.fs.gid)
    file = inode.open(t.fs, O_RDWR | O_LARGEFILE)
    file.name = b"/memfd:" + text + b" (deleted)"
    return give(t, file, cloexec=bool(flags & MFD_CLOEXEC))


# --- positions --------------------------------------------------------------------------------------------------------


@syscall(19, "lseek", man="lseek(2)")
def lseek(t: Thread, fd: Fd, offset: I32, whence: Whence) -> int:
    """Move the position. A 64-bit kernel returns the low word of one that does not fit."""
    return t.process.fds.get(fd).seek(offset, whence) & 0xFFFFFFFF


@syscall(140, "_llseek", man="llseek(2)")
def llseek(t: Thread, fd: Fd, high: Hex, low: Hex, result: Out[I64], whence: Whence) -> int:
    """Move the position, 64 bits wide."""
    file = t.process.fds.get(fd)
    offset = ((high << 32 | low) ^ 1 << 63) - (1 << 63)
    result.put(file.seek(offset, whence))
    return 0


# --- sizes ------------------------------------------------------------------------------------------------------------


def need_file_size(t: Thread, size: int) -> None:
    """Raise Errno(EFBIG), and SIGXFSZ, for a size past RLIMIT_FSIZE (setrlimit(2))."""
    if size > t.process.limits[RLIMIT_FSIZE][0]:
        raise_signal(t, EFBIG)
        raise Errno(EFBIG)


def _truncate(t: Thread, path: bytes, size: int) -> int | Wait:
    if size < 0:
        raise Errno(EINVAL)
    ctx = t.fs
    inode = named(t, path)
    if inode.kind == S_IFDIR:
        raise Errno(EISDIR)
    if inode.kind != S_IFREG:
        raise Errno(EINVAL)
    need(inode, ctx, W_OK)
    t.kernel.vfs.need_writable(inode)
    need_file_size(t, size)
    if inode.executed:
        raise Errno(ETXTBSY)
    if inode.leases is not None:
        try:
            inode.leases.need(True, t.kernel)
        except LeaseBroken as broken:
            return broken.wait()
    inode.resize(size)
    if (place := call_of(t).state["place"]) is not None:
        place[0].tell_name(IN_MODIFY, place[1], inode)
    return 0


@syscall(92, "truncate", man="truncate(2)")
def truncate(t: Thread, path: CStr, length: I32) -> int | Wait:
    """Set the size of a file."""
    return _truncate(t, path, length)


@syscall(193, "truncate64", man="truncate(2)")
def truncate64(t: Thread, path: CStr, length: I64) -> int | Wait:
    """Set the size of a file."""
    return _truncate(t, path, length)


def _ftruncate(t: Thread, fd: int, size: int) -> int:
    if size < 0:
        raise Errno(EINVAL)
    file = t.process.fds.get(fd)
    if not file.writable:
        raise Errno(EINVAL)
    if isinstance(file, RegularFile):
        need_file_size(t, size)
    file.truncate(size)
    return 0


@syscall(93, "ftruncate", man="truncate(2)")
def ftruncate(t: Thread, fd: Fd, length: I32) -> int:
    """Set the size of an open file."""
    return _ftruncate(t, fd, length)


@syscall(194, "ftruncate64", man="truncate(2)")
def ftruncate64(t: Thread, fd: Fd, length: I64) -> int:
    """Set the size of an open file."""
    return _ftruncate(t, fd, length)


_FALLOC_MODES: Final = 0x7B  # all but FALLOC_FL_NO_HIDE_STALE, which is nobody's; a file system may not have them


@syscall(324, "fallocate", man="fallocate(2)")
def fallocate(t: Thread, fd: Fd, mode: Hex, offset: I64, length: I64) -> int:
    """Allocate, punch or zero a range."""
    file = t.process.fds.get(fd)
    if offset < 0 or length <= 0:
        raise Errno(EINVAL)
    if mode & ~_FALLOC_MODES:
        raise Errno(EOPNOTSUPP)
    file.need_writable()
    if (kind := file.stat().mode & S_IFMT) not in (S_IFREG, S_IFIFO):
        raise Errno(EISDIR if kind == S_IFDIR else ENODEV)
    if isinstance(file, RegularFile) and not mode & FALLOC_FL_KEEP_SIZE and min(offset, length) >= 0:
        need_file_size(t, offset + length)
    file.allocate(offset, length, mode)
    return 0


# --- durability and advice --------------------------------------------------------------------------------------------


@syscall(118, "fsync", man="fsync(2)")
def fsync(t: Thread, fd: Fd) -> int:
    """Make an open file durable."""
    t.process.fds.get(fd).sync()
    return 0


@syscall(148, "fdatasync", man="fsync(2)")
def fdatasync(t: Thread, fd: Fd) -> int:
    """Make an open file's data durable."""
    t.process.fds.get(fd).sync()
    return 0


@syscall(36, "sync", man="sync(2)")
def sync(t: Thread) -> int:
    """Nothing is kept back between a write and its file system."""
    return 0


@syscall(344, "syncfs", man="sync(2)")
def syncfs(t: Thread, fd: Fd) -> int:
    """Nothing is kept back between a write and its file system."""
    t.process.fds.get(fd)
    return 0


_SYNC_RANGE: Final = 7  # SYNC_FILE_RANGE_WAIT_BEFORE, WRITE, WAIT_AFTER


@syscall(314, "sync_file_range", man="sync_file_range(2)")
def sync_file_range(t: Thread, fd: Fd, offset: I64, count: I64, flags: Hex) -> int:
    """Nothing is kept back between a write and its file system."""
    file = t.process.fds.get(fd)
    if flags & ~_SYNC_RANGE or offset < 0 or count < 0 or offset + count > MAX_FILE_SIZE:
        raise Errno(EINVAL)
    if file.stat().mode & S_IFMT not in (S_IFREG, S_IFBLK, S_IFDIR):
        raise Errno(ESPIPE)
    return 0


@syscall(225, "readahead", man="readahead(2)")
def readahead(t: Thread, fd: Fd, offset: I64, count: Size) -> int:
    """Advice that changes nothing here."""
    file = t.process.fds.get(fd)
    if not file.readable:
        raise Errno(EBADF)
    if inode_of(file).kind != S_IFREG:
        raise Errno(EINVAL)
    return 0


def _advise(t: Thread, fd: int, length: int, advice: int) -> int:
    file = t.process.fds.get(fd)
    if isinstance(file, PipeEnd):
        raise Errno(ESPIPE)
    if length < 0 or not 0 <= advice <= 5:
        raise Errno(EINVAL)
    return 0


@syscall(250, "fadvise64", man="posix_fadvise(2)")
def fadvise64(t: Thread, fd: Fd, offset: I64, length: Size, advice: I32) -> int:
    """Advice that changes nothing here."""
    return _advise(t, fd, length, advice)


@syscall(272, "fadvise64_64", man="posix_fadvise(2)")
def fadvise64_64(t: Thread, fd: Fd, offset: I64, length: I64, advice: I32) -> int:
    """Advice that changes nothing here."""
    return _advise(t, fd, length, advice)


@syscall(60, "umask", man="umask(2)")
def umask(t: Thread, mask: Mode) -> int:
    """Set the file mode creation mask; return the old one."""
    ctx = t.fs
    old, ctx.umask = ctx.umask, mask & 0o777
    return old

"""Host directories that a caller granted (`HostTree` of kernel/ports.py): no way out of them.

How it works. A path is a tuple of names. Each directory on the way is opened relative to the one before with
O_NOFOLLOW, so that neither "..", nor a symbolic link, nor a rename that races with us leads outside; what is found is
used through its descriptor. Symbolic links are only read, never followed: the guest's path walk resolves them inside
the guest's tree. What is no regular file is never opened: a descriptor that can do nothing (O_PATH) tells its type
first. No host file is mapped.

The directory that was granted is known by device and inode: a guest that may change what is above it, by another
grant, cannot put something else in its place. The directory of compiled code cannot be entered (`fence.py`).

What always holds: between calls nothing is open but the `OpenHostFile`s, which their holders close.
"""

from __future__ import annotations

import errno
import os
import resource
import stat as mode_bits
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from aiopyvm.abi import errno as abi
from aiopyvm.abi.errno import EACCES, EIO, ENOENT, ENOTDIR, ENXIO, EPERM, EROFS, ESTALE, Errno
from aiopyvm.abi.stat import S_IFLNK, S_IFMT, S_ISGID, S_ISUID, Stat, StatFs, makedev
from aiopyvm.errors import HostRefusedError
from aiopyvm.host.fence import fence
from aiopyvm.kernel.ports import HostPath

P = ParamSpec("P")
R = TypeVar("R")

_PATH_ONLY: Final = getattr(os, "O_PATH", os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
_DIRECTORY: Final = _PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_REOPENS: Final = sys.platform == "linux" and os.path.isdir("/proc/self/fd")  # a checked descriptor can be opened again

MAX_LISTED: Final = 1 << 20  # names of one directory
SHARED_BYTES: Final = 64 << 20  # of whole files that are kept to be shared between guests
SHARED_FILE_BYTES: Final = 16 << 20


def guest_errno(error: OSError) -> Errno:
    """Return the Linux i386 error for a host's error: the same name, EIO where there is none."""
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return Errno(getattr(abi, name, EIO))


def _translated(function: Callable[P, R]) -> Callable[P, R]:
    """Let OSError leave as `Errno`."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise guest_errno(error) from None
        except (ValueError, OverflowError):  # a name with NUL, a time that the host cannot hold
            raise Errno(abi.EINVAL) from None

    return wrapper


class _Shared:
    """Whole contents of host files by identity, so that guests that run one program share its bytes. Thread-safe."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, ...], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, ...], read: Callable[[], bytes]) -> bytes:
        """Return what is kept under `key`, or what `read` gives."""
        with self._lock:
            data = self._files.get(key)
            if data is not None:
                self._files.move_to_end(key)
                return data
        data = read()
        if len(data) > SHARED_FILE_BYTES:
            return data
        with self._lock:
            if key in self._files:  # another thread was first
                return self._files[key]
            self._files[key] = data
            self._size += len(data)
            while self._size > SHARED_BYTES:
                self._size -= len(self._files.popitem(last=False)[1])
        return data


_shared = _Shared()


def shared_content(identity: tuple[int, ...], read: Callable[[], bytes]) -> bytes:
    """Return the content of what `identity` names: the same object for all who ask, while it is kept; else `read()`."""
    return _shared.get(identity, read)


_descriptors: Final[set[int]] = set()  # of this process, which guests have for the host's files


def most_descriptors() -> int:
    """How many descriptors guests may have for the host's files: half of RLIMIT_NOFILE, so that whoever runs the guests
    can still open what they need.
    """
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


class OpenHostFile:
    """A regular file of the host, open (`HostFile`). Raises Errno(ENFILE) where guests have too many, and closes it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _descriptors.add(fd)
        if len(_descriptors) > most_descriptors():
            self.close()
            raise Errno(abi.ENFILE)

    @_translated
    def pread(self, n: int, offset: int) -> bytes:
        """Return at most `n` bytes at `offset`."""
        return os.pread(self._fd, n, offset)

    @_translated
    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """Store bytes at `offset`; return how many."""
        return os.pwrite(self._fd, data, offset)

    @_translated
    def truncate(self, size: int) -> None:
        """Set the size."""
        os.ftruncate(self._fd, size)

    @_translated
    def stat(self) -> Stat:
        """Return the attributes."""
        return guest_stat(os.fstat(self._fd))

    @_translated
    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._fd)

    @_translated
    def snapshot(self) -> bytes:
        """Return the whole content; guests that read the same unchanged file share it."""
        s = os.fstat(self._fd)
        key = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        return _shared.get(key, lambda: self._read_all(s.st_size))

    def _read_all(self, size: int) -> bytes:
        parts: list[bytes] = []
        offset = 0
        while offset < size:
            part = os.pread(self._fd, min(size - offset, 1 << 24), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _descriptors.discard(fd)
            os.close(fd)

    __del__ = close


_changeable: Final[set[bytes]] = set()  # directories that guests of this process were granted for changes


def _top_of(path: bytes) -> bytes:
    """The directory that is meant by `path`, without links. Raises HostRefusedError where a guest may have put a link
    on the way: below a directory that was granted for changes."""
    path = os.path.abspath(path)
    top, above = os.path.realpath(path), path
    while (parent := os.path.dirname(above)) != above:
        above = parent
        resolved = os.path.realpath(above)
        if resolved in _changeable and top != os.path.normpath(os.path.join(resolved, os.path.relpath(path, above))):
            raise HostRefusedError(
                errno.ELOOP,
                f"{os.fsdecode(path)} leads through a link to {os.fsdecode(top)}, and guests may change what is in "
                f"{os.fsdecode(resolved)}",
            )
    return top


def _place_of(fd: int) -> tuple[int, int]:
    """What tells an open directory from others."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


class HostDirectory:
    """The tree below one host directory (`HostTree`)."""

    def __init__(
        self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes], *, writable: bool = False, steady: bool = False
    ) -> None:
        """Grant `path`; `steady`: nobody changes it.

        Raises OSError when it is no directory that can be read, HostRefusedError as `fence` does.
        """
        self._top = _top_of(os.fsencode(path))
        self._writable = writable
        self._steady = steady
        fd = os.open(self._top, _DIRECTORY)
        try:
            self._place = _place_of(fd)
        finally:
            os.close(fd)
        if writable:
            _changeable.add(self._top)
        self._barred = fence(self._top, writable)
        self._owner = os.geteuid(), os.getegid()

    @property
    def writable(self) -> bool:
        """Whether it was granted for changes."""
        return self._writable

    @property
    def steady(self) -> bool:
        """Whether nobody changes it while it is used."""
        return self._steady

    @property
    def owner(self) -> tuple[int, int]:
        """The user and group who own what is created here."""
        return self._owner

    def __repr__(self) -> str:
        return f"<host directory {os.fsdecode(self._top)} {'rw' if self._writable else 'ro'}>"

    @contextmanager
    def _directory(self, path: HostPath) -> Iterator[int]:
        """Open the directory `path`, name by name, for as long as the block lasts. What is barred is EACCES; ESTALE
        where something else has taken the place of what was granted."""
        fd = os.open(self._top, _DIRECTORY)
        try:
            if _place_of(fd) != self._place:
                raise Errno(ESTALE)
            self._check_place(fd)
            for name in path:
                _check_name(name)
                below = os.open(name, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
                self._check_place(fd)
            yield fd
        finally:
            os.close(fd)

    def _check_place(self, fd: int) -> None:
        if self._barred and _place_of(fd) in self._barred:
            raise Errno(EACCES)

    @contextmanager
    def _parent(self, path: HostPath, *, change: bool = False) -> Iterator[tuple[int, bytes]]:
        """Open the directory that `path` is in; gives its descriptor and the last name."""
        if change and not self._writable:
            raise Errno(EROFS)
        if not path:
            raise Errno(EPERM)
        _check_name(path[-1])
        with self._directory(path[:-1]) as fd:
            yield fd, path[-1]

    @contextmanager
    def _attributed(self, path: HostPath) -> Iterator[tuple[int, bytes]]:
        """Like `_parent`, for changing attributes: of the top too."""
        if path:
            with self._parent(path, change=True) as place:
                yield place
        elif not self._writable:
            raise Errno(EROFS)
        else:
            with self._directory(()) as fd:
                yield fd, b"."

    # --- looking ----------------------------------------------------------------------------------------------------

    @_translated
    def stat(self, path: HostPath) -> Stat:
        """Return the attributes of what is there, a link's own."""
        if not path:
            with self._directory(()) as fd:
                return guest_stat(os.fstat(fd))
        with self._parent(path) as (fd, name):
            return guest_stat(os.stat(name, dir_fd=fd, follow_symlinks=False))

    @_translated
    def readlink(self, path: HostPath) -> bytes:
        """Return a symbolic link's target."""
        with self._parent(path) as (fd, name):
            return os.readlink(name, dir_fd=fd)

    @_translated
    def names(self, path: HostPath) -> Sequence[tuple[int, int, bytes]]:
        """Return a directory's entries, sorted by name; more than MAX_LISTED is ENOMEM."""
        with self._directory(path) as top:
            fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
            try:
                return sorted(_entries(fd), key=lambda entry: entry[2])
            finally:
                os.close(fd)

    # --- opening ----------------------------------------------------------------------------------------------------

    @_translated
    def open(self, path: HostPath, writable: bool) -> OpenHostFile:
        """Open a regular file; whatever else is there is ENXIO. Its type is known before it is opened."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        with self._parent(path, change=writable) as (directory, name):
            if not _REOPENS:
                _need_regular(os.stat(name, dir_fd=directory, follow_symlinks=False))
                return _checked(os.open(name, flags | _PLAIN, dir_fd=directory))
            found = os.open(name, _PATH_ONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                _need_regular(os.fstat(found))
                return _checked(os.open(f"/proc/self/fd/{found}", flags | os.O_NONBLOCK | os.O_NOCTTY))
            finally:
                os.close(found)

    # --- changing ---------------------------------------------------------------------------------------------------

    @_translated
    def make(self, path: HostPath, mode: int, target: bytes) -> None:
        """Create a regular file, directory or symbolic link."""
        _need_plain_mode(mode)
        with self._parent(path, change=True) as (fd, name):
            match mode & S_IFMT:
                case 0o100000:
                    new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600, dir_fd=fd)
                    try:
                        os.fchmod(new, mode & 0o1777)
                    finally:
                        os.close(new)
                case 0o040000:
                    os.mkdir(name, 0o700, dir_fd=fd)
                    self._chmod(fd, name, mode & 0o1777)
                case 0o120000:
                    os.symlink(target, name, dir_fd=fd)
                case _:
                    raise Errno(EPERM)

    @_translated
    def link(self, old: HostPath, new: HostPath) -> None:
        """Give a file another name."""
        with self._parent(old, change=True) as (source, name), self._parent(new, change=True) as (target, other):
            os.link(name, other, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    @_translated
    def unlink(self, path: HostPath) -> None:
        """Remove a name that is no directory."""
        with self._parent(path, change=True) as (fd, name):
            os.unlink(name, dir_fd=fd)

    @_translated
    def rmdir(self, path: HostPath) -> None:
        """Remove an empty directory."""
        with self._parent(path, change=True) as (fd, name):
            os.rmdir(name, dir_fd=fd)

    @_translated
    def rename(self, old: HostPath, new: HostPath) -> None:
        """Move a name, replacing what is there."""
        with self._parent(old, change=True) as (source, name), self._parent(new, change=True) as (target, other):
            os.rename(name, other, src_dir_fd=source, dst_dir_fd=target)

    @_translated
    def set_mode(self, path: HostPath, mode: int) -> None:
        """Set permission bits, not of a symbolic link."""
        _need_plain_mode(mode)
        with self._attributed(path) as (fd, name):
            self._chmod(fd, name, mode & 0o1777)

    @staticmethod
    def _chmod(directory: int, name: bytes, mode: int) -> None:
        if not _REOPENS:
            os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)
            return
        fd = os.open(name, _PATH_ONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if mode_bits.S_ISLNK(os.fstat(fd).st_mode):
                raise Errno(abi.EOPNOTSUPP)
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    @_translated
    def set_times(self, path: HostPath, atime: int, mtime: int) -> None:
        """Set both times, in nanoseconds."""
        with self._attributed(path) as (fd, name):
            os.utime(name, ns=(atime, mtime), dir_fd=fd, follow_symlinks=False)

    @_translated
    def statfs(self) -> StatFs:
        """Return what statfs(2) tells."""
        with self._directory(()) as fd:
            s = os.fstatvfs(fd)
        return StatFs(0, s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, 0, min(s.f_namemax, 255))


def open_host_tree(
    path: str | bytes | os.PathLike[str], *, writable: bool = False, steady: bool = False
) -> HostDirectory:
    """Grant a host directory; `steady`: nobody changes it.

    Raises OSError when it is none that can be read, HostRefusedError as `fence` does.
    """
    return HostDirectory(path, writable=writable, steady=steady)


def guest_stat(s: os.stat_result) -> Stat:
    """Return a host's attributes as the guest kernel holds them."""
    rdev = makedev(os.major(s.st_rdev), os.minor(s.st_rdev)) if s.st_rdev else 0
    return Stat(
        s.st_ino, s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_size, s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns,
        s.st_ctime_ns, s.st_blocks, rdev, s.st_dev, s.st_blksize,
    )  # fmt: skip


def _entries(fd: int) -> Iterator[tuple[int, int, bytes]]:
    with os.scandir(fd) as entries:
        for n, entry in enumerate(entries):
            if n >= MAX_LISTED:
                raise Errno(abi.ENOMEM)
            kind = 4 if entry.is_dir(follow_symlinks=False) else 10 if entry.is_symlink() else 0
            if not kind:
                kind = 8 if entry.is_file(follow_symlinks=False) else 0
            yield entry.inode(), kind, os.fsencode(entry.name)


def _check_name(name: bytes) -> None:
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise Errno(ENOENT)


def _need_regular(s: os.stat_result) -> None:
    if not mode_bits.S_ISREG(s.st_mode):
        raise Errno(ENOTDIR if mode_bits.S_ISDIR(s.st_mode) else ENXIO)


def _need_plain_mode(mode: int) -> None:
    if mode & (S_ISUID | S_ISGID) and mode & S_IFMT != S_IFLNK:
        raise Errno(EPERM)


def _checked(fd: int) -> OpenHostFile:
    file = OpenHostFile(fd)
    if not mode_bits.S_ISREG(os.fstat(fd).st_mode):
        file.close()
        raise Errno(ENXIO)
    return file


__all__ = ["HostDirectory", "OpenHostFile", "guest_errno", "guest_stat", "open_host_tree", "shared_content"]

"""Extended attributes (xattr(7)): no file system here keeps any, and the calls say so as Linux does."""

from __future__ import annotations

from aiopyvm.abi.errno import EINVAL, ENODATA, EOPNOTSUPP, EPERM, ERANGE, Errno
from aiopyvm.kernel.fs import Inode
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.vfswalk import lookup
from aiopyvm.syscalls.files import inode_of
from aiopyvm.syscalls.spec import CStr, Fd, Hex, OutBuffer, Ptr, Size, syscall


def _need_name(name: bytes) -> None:
    if not 0 < len(name) <= 255:
        raise Errno(ERANGE)


def _get(inode: Inode, name: bytes) -> int:
    _need_name(name)
    raise Errno(ENODATA if name.startswith((b"user.", b"trusted.", b"security.")) else EOPNOTSUPP)


def _set(t: Thread, inode: Inode, name: bytes, flags: int) -> int:
    if flags & ~3:
        raise Errno(EINVAL)
    _need_name(name)
    t.kernel.vfs.need_writable(inode)
    raise Errno(EPERM if name.startswith(b"trusted.") else EOPNOTSUPP)


@syscall(229, "getxattr", man="getxattr(2)")
def getxattr(t: Thread, path: CStr, name: CStr, value: OutBuffer, size: Size) -> int:
    """Always ENODATA, or EOPNOTSUPP for an unknown class."""
    return _get(lookup(t.process.fs, path), name)


@syscall(230, "lgetxattr", man="getxattr(2)")
def lgetxattr(t: Thread, path: CStr, name: CStr, value: OutBuffer, size: Size) -> int:
    """Like getxattr, of a link itself."""
    return _get(lookup(t.process.fs, path, follow=False), name)


@syscall(231, "fgetxattr", man="getxattr(2)")
def fgetxattr(t: Thread, fd: Fd, name: CStr, value: OutBuffer, size: Size) -> int:
    """Like getxattr, of an open file."""
    return _get(inode_of(t.process.fds.get(fd)), name)


@syscall(226, "setxattr", man="setxattr(2)")
def setxattr(t: Thread, path: CStr, name: CStr, value: Ptr, size: Size, flags: Hex) -> int:
    """Always EOPNOTSUPP."""
    return _set(t, lookup(t.process.fs, path), name, flags)


@syscall(227, "lsetxattr", man="setxattr(2)")
def lsetxattr(t: Thread, path: CStr, name: CStr, value: Ptr, size: Size, flags: Hex) -> int:
    """Always EOPNOTSUPP."""
    return _set(t, lookup(t.process.fs, path, follow=False), name, flags)


@syscall(228, "fsetxattr", man="setxattr(2)")
def fsetxattr(t: Thread, fd: Fd, name: CStr, value: Ptr, size: Size, flags: Hex) -> int:
    """Always EOPNOTSUPP."""
    return _set(t, inode_of(t.process.fds.get(fd)), name, flags)


@syscall(232, "listxattr", man="listxattr(2)")
def listxattr(t: Thread, path: CStr, names: OutBuffer, size: Size) -> int:
    """No names."""
    lookup(t.process.fs, path)
    return 0


@syscall(233, "llistxattr", man="listxattr(2)")
def llistxattr(t: Thread, path: CStr, names: OutBuffer, size: Size) -> int:
    """No names."""
    lookup(t.process.fs, path, follow=False)
    return 0


@syscall(234, "flistxattr", man="listxattr(2)")
def flistxattr(t: Thread, fd: Fd, names: OutBuffer, size: Size) -> int:
    """No names."""
    t.process.fds.get(fd)
    return 0


@syscall(235, "removexattr", man="removexattr(2)")
def removexattr(t: Thread, path: CStr, name: CStr) -> int:
    """Nothing is there to remove."""
    return _set(t, lookup(t.process.fs, path), name, 0)


@syscall(236, "lremovexattr", man="removexattr(2)")
def lremovexattr(t: Thread, path: CStr, name: CStr) -> int:
    """Nothing is there to remove."""
    return _set(t, lookup(t.process.fs, path, follow=False), name, 0)


@syscall(237, "fremovexattr", man="removexattr(2)")
def fremovexattr(t: Thread, fd: Fd, name: CStr) -> int:
    """Nothing is there to remove."""
    return _set(t, inode_of(t.process.fds.get(fd)), name, 0)

"""Extended attributes (xattr(7)): user, trusted and security ones of what is in memory, or changed over a host's tree.

What always holds: errors come in Linux's order (fs/xattr.c): flags, name, value, path, read-only file systems, the
rules of a class, permissions, and then what is there. Attributes of the host's files are not shown.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi.errno import E2BIG, EEXIST, EINVAL, ENODATA, EOPNOTSUPP, EPERM, ERANGE, Errno
from aiopyvm.abi.fcntl import R_OK, W_OK
from aiopyvm.abi.stat import S_IFDIR, S_IFREG, S_ISVTX
from aiopyvm.kernel.fs import Inode, need
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.vfswalk import lookup
from aiopyvm.syscalls.files import attributed, named, opened, tell_attributes
from aiopyvm.syscalls.spec import CStr, Fd, Flags, InBuffer, OutBuffer, Size, syscall

XATTR_CREATE, XATTR_REPLACE = 1, 2
NAME_MAX: Final = 255
SIZE_MAX: Final = 65536
_USER, _TRUSTED, _SECURITY = b"user.", b"trusted.", b"security."

XattrFlags = Annotated[int, Flags({XATTR_CREATE: "XATTR_CREATE", XATTR_REPLACE: "XATTR_REPLACE"})]


def _need_name(name: bytes) -> None:
    if not 0 < len(name) <= NAME_MAX:
        raise Errno(ERANGE)


def _check(t: Thread, inode: Inode, name: bytes, mask: int) -> None:
    """Raise Errno unless an attribute of that name may be read (R_OK) or changed (W_OK)."""
    ctx = t.fs
    if name.startswith(_TRUSTED):
        if ctx.uid != 0:
            raise Errno(EPERM if mask == W_OK else ENODATA)
    elif name.startswith(_USER):
        uid, _, mode = inode.owner_and_mode()
        if inode.kind not in (S_IFREG, S_IFDIR):
            raise Errno(EPERM if mask == W_OK else ENODATA)
        if mask == W_OK and inode.kind == S_IFDIR and mode & S_ISVTX and ctx.uid not in (0, uid):
            raise Errno(EPERM)
        need(inode, ctx, mask)
    elif name.startswith(_SECURITY):
        if mask == W_OK and ctx.uid != 0:
            raise Errno(EPERM)
    else:
        raise Errno(EOPNOTSUPP)
    if inode.extended() is None:
        raise Errno(EOPNOTSUPP)
    if name in (_USER, _TRUSTED, _SECURITY):
        raise Errno(EINVAL)


def _get(t: Thread, inode: Inode, name: bytes, value: int, size: int) -> int:
    _check(t, inode, name, R_OK)
    found = (inode.extended() or {}).get(name)
    if found is None:
        raise Errno(ENODATA)
    return _give(t, found, value, size)


def _give(t: Thread, data: bytes, address: int, size: int) -> int:
    if size:
        if size < len(data):
            raise Errno(ERANGE)
        t.memory.write(address, data)
    return len(data)


def _given(t: Thread, name: bytes, value: int, size: int, flags: int) -> tuple[bytes, bytes]:
    """Read the value of what is to be set, with its name. Raises Errno: EINVAL, ERANGE, E2BIG; MemoryFault."""
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise Errno(EINVAL)
    _need_name(name)
    if size > SIZE_MAX:
        raise Errno(E2BIG)
    return name, t.memory.read(value, size) if size else b""


def _set(t: Thread, inode: Inode, given: tuple[bytes, bytes], flags: int) -> int:
    name, value = given
    t.kernel.vfs.need_writable(inode)
    _check(t, inode, name, W_OK)
    there = name in (inode.extended() or {})
    if there and flags & XATTR_CREATE:
        raise Errno(EEXIST)
    if not there and flags & XATTR_REPLACE:
        raise Errno(ENODATA)
    inode.set_extended(name, value)
    tell_attributes(t, inode)
    return 0


def _remove(t: Thread, inode: Inode, name: bytes) -> int:
    t.kernel.vfs.need_writable(inode)
    _check(t, inode, name, W_OK)
    if name not in (inode.extended() or {}):
        raise Errno(ENODATA)
    inode.set_extended(name, None)
    tell_attributes(t, inode)
    return 0


def _list(t: Thread, inode: Inode, address: int, size: int) -> int:
    names = sorted(inode.extended() or {})
    shown = [name for name in names if t.fs.uid == 0 or not name.startswith(_TRUSTED)]
    return _give(t, b"".join(name + b"\0" for name in shown), address, size)


@syscall(229, "getxattr", man="getxattr(2)")
def getxattr(t: Thread, path: CStr, name: CStr, value: OutBuffer, size: Size) -> int:
    """An attribute's value; with size 0 its length."""
    _need_name(name)
    return _get(t, lookup(t.fs, path), name, value, size)


@syscall(230, "lgetxattr", man="getxattr(2)")
def lgetxattr(t: Thread, path: CStr, name: CStr, value: OutBuffer, size: Size) -> int:
    """Like getxattr, of a link itself."""
    _need_name(name)
    return _get(t, lookup(t.fs, path, follow=False), name, value, size)


@syscall(231, "fgetxattr", man="getxattr(2)")
def fgetxattr(t: Thread, fd: Fd, name: CStr, value: OutBuffer, size: Size) -> int:
    """Like getxattr, of an open file."""
    _need_name(name)
    return _get(t, attributed(t.process.fds.get(fd)), name, value, size)


@syscall(226, "setxattr", man="setxattr(2)")
def setxattr(t: Thread, path: CStr, name: CStr, value: InBuffer, size: Size, flags: XattrFlags) -> int:
    """Set an attribute."""
    given = _given(t, name, value, size, flags)
    return _set(t, named(t, path), given, flags)


@syscall(227, "lsetxattr", man="setxattr(2)")
def lsetxattr(t: Thread, path: CStr, name: CStr, value: InBuffer, size: Size, flags: XattrFlags) -> int:
    """Like setxattr, of a link itself."""
    given = _given(t, name, value, size, flags)
    return _set(t, named(t, path, follow=False), given, flags)


@syscall(228, "fsetxattr", man="setxattr(2)")
def fsetxattr(t: Thread, fd: Fd, name: CStr, value: InBuffer, size: Size, flags: XattrFlags) -> int:
    """Like setxattr, of an open file."""
    given = _given(t, name, value, size, flags)
    return _set(t, opened(t, t.process.fds.get(fd)), given, flags)


@syscall(232, "listxattr", man="listxattr(2)")
def listxattr(t: Thread, path: CStr, names: OutBuffer, size: Size) -> int:
    """The names, each with a NUL; with size 0 how many bytes they are."""
    return _list(t, lookup(t.fs, path), names, size)


@syscall(233, "llistxattr", man="listxattr(2)")
def llistxattr(t: Thread, path: CStr, names: OutBuffer, size: Size) -> int:
    """Like listxattr, of a link itself."""
    return _list(t, lookup(t.fs, path, follow=False), names, size)


@syscall(234, "flistxattr", man="listxattr(2)")
def flistxattr(t: Thread, fd: Fd, names: OutBuffer, size: Size) -> int:
    """Like listxattr, of an open file."""
    return _list(t, attributed(t.process.fds.get(fd)), names, size)


@syscall(235, "removexattr", man="removexattr(2)")
def removexattr(t: Thread, path: CStr, name: CStr) -> int:
    """Remove an attribute."""
    _need_name(name)
    return _remove(t, named(t, path), name)


@syscall(236, "lremovexattr", man="removexattr(2)")
def lremovexattr(t: Thread, path: CStr, name: CStr) -> int:
    """Like removexattr, of a link itself."""
    _need_name(name)
    return _remove(t, named(t, path, follow=False), name)


@syscall(237, "fremovexattr", man="removexattr(2)")
def fremovexattr(t: Thread, fd: Fd, name: CStr) -> int:
    """Like removexattr, of an open file."""
    _need_name(name)
    return _remove(t, opened(t, t.process.fds.get(fd)), name)

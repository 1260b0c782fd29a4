"""The path walk (path_resolution(7)): from a path to the directory and the name it ends in, and what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.errno import EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV, Errno
from aiopyvm.abi.fcntl import (
    MAX_SYMLINKS,
    NAME_MAX,
    PATH_MAX,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    X_OK,
)
from aiopyvm.abi.stat import S_IFLNK
from aiopyvm.kernel.fs import Directory, Inode, may

if TYPE_CHECKING:
    from aiopyvm.kernel.fscontext import FsContext

MOST_EFFORT: Final = 40_000  # directories of the host that are opened in one walk: some tenths of a second


class Found(NamedTuple):
    """Where a path ends. `name` is b"/", b"." or b".." where it ends in no name; `inode` is None when nothing is there.

    `slash` tells that the path (or the last link) ended in a slash, so that only a directory will do.
    """

    directory: Directory
    name: bytes
    inode: Inode | None
    slash: bool

    @property
    def named(self) -> bool:
        """Whether the path ends in a proper name, which can be made, removed or renamed."""
        return self.name not in (b"/", b".", b"..")


def resolve(
    ctx: FsContext,
    path: bytes,
    at: Directory | None = None,
    *,
    follow: bool = True,
    create: bool = False,
    parent: bool = False,
) -> Found:
    """Walk `path` from the root, or from `at` (None: the working directory).

    `follow`: a symbolic link at the end is followed too. `create`: open(2) wants to create a file, so that a name
    with a slash behind it is EISDIR, whatever is there. `parent`: the name itself is meant (unlink(2), rename(2)), so
    that not even a slash behind it makes a link be followed. Raises Errno: ENOENT (also for the empty path), ENOTDIR,
    EACCES, ELOOP (also where links make the walk open more of the host's directories than MOST_EFFORT), ENAMETOOLONG,
    and what file systems raise. That nothing is under the last name is no error.
    """
    if not path:
        raise Errno(ENOENT)
    if len(path) >= PATH_MAX:
        raise Errno(ENAMETOOLONG)
    here: Inode
    scope = ctx.scope
    if path[0] == 0x2F:
        here = ctx.root
        if scope & RESOLVE_BENEATH:
            raise Errno(EXDEV)
    else:
        here = ctx.cwd if at is None else at
    start = here
    pending = _components(path)
    slash = path[-1] == 0x2F
    if not pending:
        return Found(ctx.root, b"/", ctx.root, True)
    links = effort = 0
    while True:
        name = pending.pop()
        if not isinstance(here, Directory):
            raise Errno(ENOTDIR)
        if not may(here, ctx, X_OK):
            raise Errno(EACCES)
        directory = here
        if name == b".":
            inode: Inode | None = directory
        elif name == b"..":
            if directory is start and scope & RESOLVE_BENEATH:
                raise Errno(EXDEV)
            inode = directory if directory is ctx.root else directory.parent
        else:
            if create and slash and not pending:
                raise Errno(EISDIR)
            effort += directory.effort
            if effort > MOST_EFFORT:
                raise Errno(ELOOP)
            inode = _child(directory, name, ctx, last=not pending)
            if inode is None:
                return Found(directory, name, None, slash)
            if inode.kind == S_IFLNK and (pending or follow or (slash and not parent)):
                links += 1
                if links > MAX_SYMLINKS:
                    raise Errno(ELOOP)
                target = inode.jump(ctx)
                if scope:
                    _check_link(scope, magic=target is not None)
                if target is None:
                    text = inode.readlink(ctx)
                    if text[:1] == b"/" and scope:
                        _check_jump(scope, directory, ctx.root)
                    here = ctx.root if text[:1] == b"/" else directory
                    if not text:
                        raise Errno(ENOENT)
                    if not pending:
                        slash = slash or text[-1] == 0x2F
                    pending += _components(text)
                    if pending:
                        continue
                    inode, name = here, b"/"
                else:
                    inode = target
        if scope & RESOLVE_NO_XDEV and inode is not None and inode.fs is not directory.fs:
            raise Errno(EXDEV)
        if not pending:
            if slash and not parent and not isinstance(inode, Directory):
                raise Errno(ENOTDIR)
            return Found(directory, name, inode, slash)
        assert inode is not None
        here = inode


def lookup(ctx: FsContext, path: bytes, at: Directory | None = None, *, follow: bool = True) -> Inode:
    """Return the inode that `path` names. Raises Errno, as `resolve`, and ENOENT when there is none."""
    inode = resolve(ctx, path, at, follow=follow).inode
    if inode is None:
        raise Errno(ENOENT)
    return inode


def _components(path: bytes) -> list[bytes]:
    """The names of a path, the first one last; "." between others says nothing."""
    names = [name for name in path.split(b"/") if name and name != b"."]
    end = path.rstrip(b"/")
    if end[-2:] in (b"/.", b"."):
        names.append(b".")
    names.reverse()
    return names


def _check_link(scope: int, *, magic: bool) -> None:
    """Raise Errno where a link that is to be followed may not be (openat2(2))."""
    if scope & RESOLVE_NO_SYMLINKS or (magic and scope & RESOLVE_NO_MAGICLINKS):
        raise Errno(ELOOP)
    if magic and scope & (RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_NO_XDEV):
        raise Errno(EXDEV)


def _check_jump(scope: int, directory: Directory, root: Directory) -> None:
    """Raise Errno(EXDEV) where a link may not lead back to the root."""
    if scope & RESOLVE_BENEATH or (scope & RESOLVE_NO_XDEV and root.fs is not directory.fs):
        raise Errno(EXDEV)


def _child(directory: Directory, name: bytes, ctx: FsContext, *, last: bool) -> Inode | None:
    if len(name) > NAME_MAX:
        raise Errno(ENAMETOOLONG)
    try:
        return directory.child(name, ctx)
    except Errno as error:
        if error.number == ENOENT and last:
            return None
        raise

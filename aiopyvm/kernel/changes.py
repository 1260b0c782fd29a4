"""What guests changed over a copy-on-write tree (`overlay.py`): names that are new, different or gone.

A directory of the tree below that the guest took is compared name by name with what is below; one that is new, or
stands where something else was, is shown with all that is in it. Nothing is changed by looking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from aiopyvm.abi.errno import ENOENT, Errno
from aiopyvm.abi.stat import S_IFDIR, S_IFREG
from aiopyvm.kernel.fs import Directory, Inode
from aiopyvm.kernel.hostfs import HostDirectoryInode, HostInode
from aiopyvm.kernel.overlay import OverlayDirectory, OverlayFile, OverlayFs

Kind = Literal["added", "modified", "removed"]
_REGULAR = S_IFREG >> 12
_DIRECTORY = S_IFDIR >> 12


class TreeChange(NamedTuple):
    """One changed name. `inode` is what is there now, None where nothing is; `whole`: a directory that hides all that
    was there, and whose content follows."""

    path: bytes  # from the top of the tree, without a slash before it; b"" is the top
    kind: Kind
    inode: Inode | None
    whole: bool = False


def changes(fs: OverlayFs) -> Iterator[TreeChange]:
    """Iterate over the changes, a directory before what is in it. Raises Errno: the host's, or ENOSPC."""
    root = fs.root
    assert isinstance(root, OverlayDirectory)
    before, now = fs.lower.root.stat(), root.stat()
    if (before.mode, before.uid, before.gid) != (now.mode, now.uid, now.gid) or root.extended():
        yield TreeChange(b"", "modified", root)
    todo: list[tuple[bytes, Inode]] = [(b"", root)]
    while todo:
        path, inode = todo.pop()
        if isinstance(inode, HostDirectoryInode):
            found = _links_in(fs, path, inode, todo)
        elif isinstance(inode, OverlayDirectory) and inode.lower is not None and _stands(path, inode):
            found = _compared(fs, path, inode, inode.lower, todo)
        elif isinstance(inode, OverlayDirectory):
            found = _all_of(path, inode, todo)
        else:
            found = iter(())
        yield from found


def _stands(path: bytes, directory: OverlayDirectory) -> bool:
    """Whether a directory is where the one below it is."""
    try:
        return directory.lower is not None and b"/".join(directory.lower.place()) == path
    except Errno:
        return False


def _compared(
    fs: OverlayFs, path: bytes, directory: OverlayDirectory, lower: HostDirectoryInode, todo: list[tuple[bytes, Inode]]
) -> Iterator[TreeChange]:
    """What is different in a directory that is over one of the tree below."""
    below: list[tuple[bytes, Inode]] = []
    for name, inode, hidden in directory.own_names():
        here = _joined(path, name)
        old = _find(lower, name)
        if inode is None:
            if old is not None:
                yield TreeChange(here, "removed", None)
        elif not hidden and old is not None and (inode is old or getattr(inode, "lower", None) is old):
            if _differs(inode, old):
                yield TreeChange(here, "modified", inode)
            below.append((here, inode))
        elif old is not None or name not in (directory.grafts or {}):
            replaces = old is not None and isinstance(old, Directory)
            yield TreeChange(here, "added" if old is None else "modified", inode, replaces and inode.kind == S_IFDIR)
            below.append((here, inode))
    if fs.taken_links:
        yield from _links_in(fs, path, lower, below, directory)
    todo += reversed(below)


def _links_in(
    fs: OverlayFs,
    path: bytes,
    lower: HostDirectoryInode,
    todo: list[tuple[bytes, Inode]],
    above: OverlayDirectory | None = None,
) -> Iterator[TreeChange]:
    """Names in an unchanged part of the tree, of files that were changed under another name."""
    own = {name for name, _, _ in above.own_names()} if above is not None else set()
    for number, kind, name in lower.fs.tree.names(lower.place()):
        if name in own:
            continue
        if kind == _REGULAR and number in fs.taken_links:
            yield TreeChange(_joined(path, name), "modified", fs.taken_links[number])
        elif kind == _DIRECTORY and fs.taken_links:
            todo.append((_joined(path, name), lower.find(name)))


def _all_of(path: bytes, directory: OverlayDirectory, todo: list[tuple[bytes, Inode]]) -> Iterator[TreeChange]:
    """All that is in a directory that is new, or stands at another place than before."""
    below: list[tuple[bytes, Inode]] = []
    for name in sorted(directory.visible_names()):
        inode = directory.visible(name)
        yield TreeChange(_joined(path, name), "added", inode)
        below.append((_joined(path, name), inode))
    todo += reversed(below)


def _find(lower: HostDirectoryInode, name: bytes) -> HostInode | None:
    try:
        return lower.find(name)
    except Errno as error:
        if error.number != ENOENT:
            raise
        return None


def _differs(inode: Inode, old: HostInode) -> bool:
    """Whether attributes (times of access and change left out), other names or content are others."""
    now, before = inode.stat(), old.stat()
    if (now.mode, now.uid, now.gid, now.mtime) != (before.mode, before.uid, before.gid, before.mtime):
        return True
    if inode.extended():
        return True
    if not isinstance(inode, OverlayFile):
        return False
    links = before.nlink if inode.fs.exact_links else 1
    return now.nlink != links or (inode.taken and not inode.content.shows_base(before.size))


def _joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name

"""What guests changed, for Python: as a list, and as an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import anyio.lowlevel

from aiopyvm.abi.errno import Errno
from aiopyvm.abi.fcntl import O_RDONLY
from aiopyvm.abi.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK
from aiopyvm.kernel.changes import TreeChange, changes
from aiopyvm.kernel.overlay import OverlayFs
from aiopyvm.runtime.program import guest_error

if TYPE_CHECKING:
    from aiopyvm.host.savechanges import ChangesFile
    from aiopyvm.kernel.vfs import Vfs

_TYPES: Final = {
    S_IFREG: "file",
    S_IFDIR: "directory",
    S_IFLNK: "symlink",
    S_IFCHR: "character device",
    S_IFBLK: "block device",
    S_IFIFO: "fifo",
    S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class Change:
    """One name that guests changed: `path` in the guest, `type` and `size` in bytes of what is there now.

    What was removed has type "" and size 0. A directory is "modified", too, where names in it are others.
    """

    path: str
    kind: Literal["added", "modified", "removed"]
    type: str
    size: int


def list_changes(vfs: Vfs) -> list[Change]:
    """Return the changes over all copy-on-write trees. Raises OSError where a tree below them cannot be read."""
    return [_shown(path, change) for path, change in _all_changes(vfs)]


def _shown(path: bytes, change: TreeChange) -> Change:
    s = change.inode.stat() if change.inode is not None else None
    text = os.fsdecode(b"/" + path)
    if change.inode is None or s is None:
        return Change(text, change.kind, "", 0)
    return Change(text, change.kind, _TYPES[change.inode.kind], s.size if change.inode.kind == S_IFREG else 0)


def need_changeable(vfs: Vfs) -> None:
    """Raise ValueError where no tree of the machine is copy-on-write."""
    if not any(isinstance(fs, OverlayFs) for _, fs in vfs.mounts):
        raise ValueError('no tree of this machine is copy-on-write: neither its root nor a mount of mode "cow"')


async def save_changes(vfs: Vfs, path: str) -> None:
    """Write the changes as a tar archive to the host file `path`. Raises OSError, ArchiveError, ValueError."""
    from aiopyvm.host.savechanges import ChangesFile

    need_changeable(vfs)
    with ChangesFile(path) as file:
        for name, change in _all_changes(vfs):
            await anyio.lowlevel.checkpoint()
            try:
                _save(vfs, file, name, change)
            except Errno as error:
                raise guest_error(error, name) from None


def _save(vfs: Vfs, file: ChangesFile, path: bytes, change: TreeChange) -> None:
    inode = change.inode
    if inode is None:
        file.remove(path)
        return
    user = vfs.administrator()
    target = inode.readlink(user) if inode.kind == S_IFLNK else b""
    if inode.kind != S_IFREG:
        file.add(path, inode.stat(), target, None, change.whole, inode.extended() or {})
        return
    content = inode.open(user, O_RDONLY).hold()
    try:
        file.add(path, inode.stat(), target, content, change.whole, inode.extended() or {})
    finally:
        content.release()


def _all_changes(vfs: Vfs) -> Iterator[tuple[bytes, TreeChange]]:
    """The changes of each tree with their paths in the guest, without a slash before them."""
    for mount, fs in vfs.mounts:
        if isinstance(fs, OverlayFs):
            top = mount.strip(b"/")
            try:
                for change in changes(fs):
                    yield (b"/".join(part for part in (top, change.path) if part), change)
            except Errno as error:
                raise guest_error(error, mount) from None

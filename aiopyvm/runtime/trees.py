"""From what a caller gives as `root` and `mounts` to file systems in a guest's tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiopyvm.abi.errno import EEXIST, Errno
from aiopyvm.abi.fcntl import O_CREAT, O_EXCL, O_WRONLY
from aiopyvm.abi.stat import S_IFDIR, S_ISVTX
from aiopyvm.errors import HostRefusedError
from aiopyvm.kernel.devices import DeviceFs
from aiopyvm.kernel.memfs import MemFile, MemFs
from aiopyvm.runtime.program import refusal, to_bytes

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import FileSystem
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.ports import Budget, Clock, HostTree
    from aiopyvm.kernel.vfs import Vfs
    from aiopyvm.runtime.hostdir import HostDir
    from aiopyvm.runtime.roots import OciRoot, TarRoot

    Granted = HostDir | TarRoot | OciRoot

WRITE_BYTES = 1 << 20


def root_file_system(root: Any, clock: Clock, budget: Budget) -> FileSystem | None:
    """Return the file system for `root`; None for one in memory."""
    if root is None or isinstance(root, Mapping):
        return None
    return tree_file_system(as_tree(root, "cow"), clock, budget)


def attach(vfs: Vfs, root: Any, mounts: Mapping[Any, Any]) -> None:
    """Fill and mount everything: /dev and /proc, `root`'s files, `mounts`, a /tmp. Raises TypeError, ValueError,
    OSError."""
    vfs.mount(b"/dev", DeviceFs(vfs.clock, vfs.budget))
    vfs.mount(b"/proc", _process_file_system(vfs))
    user = vfs.context(umask=0)
    if isinstance(root, Mapping):
        fill(vfs, user, b"", root)
    if not isinstance(mounts, Mapping):
        raise TypeError(f"mounts is a mapping of guest paths to directories, not {type(mounts).__name__}")
    for path, tree in mounts.items():
        _mount(vfs, user, to_bytes(path, "a mount's path"), tree)
    if root is None or isinstance(root, Mapping):
        try:
            vfs.make(user, b"/tmp", S_IFDIR | S_ISVTX | 0o777)
        except Errno as error:
            if error.number != EEXIST:
                raise


def _process_file_system(vfs: Vfs) -> FileSystem:
    from aiopyvm.kernel.procfs import ProcFs

    return ProcFs(vfs)


def _mount(vfs: Vfs, user: FsContext, path: bytes, tree: Any) -> None:
    if not path.startswith(b"/") or b".." in path.split(b"/"):
        raise ValueError(f"a mount's path is absolute and has no '..': {path!r}")
    try:
        if isinstance(tree, Mapping):
            vfs.mount(path, MemFs(vfs.clock, vfs.budget, uid=vfs.uid, gid=vfs.gid))
            fill(vfs, user, path, tree)
        else:
            vfs.mount(path, tree_file_system(as_tree(tree, "ro"), vfs.clock, vfs.budget))
    except Errno as error:
        raise refusal(error, os.fsdecode(path)) from None


def as_tree(tree: Any, mode: Any) -> Granted:
    """Return `tree` as what is granted; a bare path is a HostDir with `mode`. Raises TypeError."""
    from aiopyvm.runtime.hostdir import HostDir
    from aiopyvm.runtime.roots import OciRoot, TarRoot

    if isinstance(tree, (HostDir, TarRoot, OciRoot)):
        return tree
    if isinstance(tree, (str, os.PathLike)):
        return HostDir(tree, mode)
    raise TypeError(f"a directory is a mapping, a HostDir, TarRoot, OciRoot or a host path, not {type(tree).__name__}")


def tree_file_system(tree: Granted, clock: Clock, budget: Budget) -> FileSystem:
    """Return the file system for a directory of the host, or an archive. Raises OSError (it cannot be opened),
    HostRefusedError (it may not be granted), ArchiveError."""
    from aiopyvm.kernel.hostfs import HostFs
    from aiopyvm.kernel.overlay import OverlayFs

    lower = HostFs(_open_tree(tree))
    return OverlayFs(lower, clock, budget) if tree.mode == "cow" else lower


def _open_tree(tree: Granted) -> HostTree:
    from aiopyvm.host.files import open_host_tree
    from aiopyvm.runtime.hostdir import HostDir

    if not isinstance(tree, HostDir):
        return tree.tree()
    try:
        return open_host_tree(tree.path, writable=tree.mode == "rw", steady=tree.steady)
    except HostRefusedError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(tree.path)) from None


def fill(vfs: Vfs, user: FsContext, at: bytes, tree: Mapping[Any, Any]) -> None:
    """Copy a mapping of names to bytes or mappings (or HostDirs) into directory `at`. Raises TypeError, ValueError,
    OSError."""
    for name, value in tree.items():
        part = to_bytes(name, "a file's name").strip(b"/")
        if not part or any(piece in (b"", b".", b"..") for piece in part.split(b"/")):
            raise ValueError(f"a file cannot be named {name!r}")
        path = at + b"/" + part
        try:
            if isinstance(value, Mapping):
                make_directories(vfs, user, path)
                fill(vfs, user, path, value)
            elif isinstance(value, (bytes, bytearray, memoryview)):
                make_directories(vfs, user, path.rpartition(b"/")[0])
                write_file(vfs, user, path, bytes(value))
            elif isinstance(value, str):
                raise TypeError(
                    f"{os.fsdecode(path)} is given as str: a file's content is bytes, a directory a HostDir"
                )
            else:
                _mount(vfs, user, path, value)
        except Errno as error:
            raise refusal(error, os.fsdecode(path)) from None


def make_directories(vfs: Vfs, user: FsContext, path: bytes) -> None:
    """Make directory `path` and what is missing above it. Raises Errno."""
    parts = path.strip(b"/").split(b"/") if path.strip(b"/") else []
    for end in range(1, len(parts) + 1):
        try:
            vfs.make(user, b"/" + b"/".join(parts[:end]), S_IFDIR | 0o755)
        except Errno as error:
            if error.number != EEXIST:
                raise


def content_mode(data: bytes) -> int:
    """Return the permission bits for a new file with this content: programs and scripts are executable."""
    return 0o755 if data.startswith((b"\x7fELF", b"#!")) else 0o644


def write_file(vfs: Vfs, user: FsContext, path: bytes, data: bytes) -> None:
    """Make a file; programs and scripts are executable. Raises Errno."""
    file = vfs.open(user, path, O_WRONLY | O_CREAT | O_EXCL, content_mode(data)).hold()
    try:
        if isinstance(file.inode, MemFile):
            file.inode.show(data)
            return
        view = memoryview(data)
        while view:
            view = view[file.write(bytes(view[:WRITE_BYTES])) :]
    finally:
        file.release()

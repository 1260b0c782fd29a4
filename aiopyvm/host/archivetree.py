"""Trees out of archives: what is in a tar file, or in the layers of an image, as a `HostTree` that never changes.

How it works. A `Node` is one file of any type; names are in its directory's `children`, and several names of one file
lead to the same node. Nodes know where their bytes are in an `ArchiveBytes`, and contents are read from there when
somebody asks. Built once per archive and process (`archives.py`), shared by all machines.

What always holds: nothing outside of the archive's own names is reachable, as no path of the host is ever made of them;
the top is a directory; a directory has one name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from aiopyvm.abi.errno import EINVAL, EIO, ENOENT, ENOTDIR, ENXIO, EROFS, Errno
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Stat, StatFs
from aiopyvm.errors import ArchiveError
from aiopyvm.host.files import shared_content
from aiopyvm.host.tarmembers import MOST_MEMBERS, Member, Names, Parts
from aiopyvm.host.unpack import ArchiveBytes
from aiopyvm.kernel.ports import HostPath

MOST_LINKS: Final = 40  # symbolic links on the way to a member's directory
MOST_DEPTH: Final = 2048  # directories, one in the other
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"


class Node:
    """One file of any type. `children` is a directory's names; `nlink` counts names."""

    __slots__ = (
        "archive",
        "children",
        "gid",
        "ino",
        "mode",
        "nlink",
        "parts",
        "rdev",
        "size",
        "target",
        "times",
        "uid",
    )

    def __init__(self, ino: int, mode: int) -> None:
        self.ino = ino
        self.mode = mode
        self.uid = self.gid = self.size = self.rdev = 0
        self.nlink = 1
        self.times = (0, 0, 0)
        self.target = b""
        self.children: dict[bytes, Node] | None = {} if mode & S_IFMT == S_IFDIR else None
        self.archive: ArchiveBytes | None = None
        self.parts: Parts = ()

    def stat(self) -> Stat:
        """Return the attributes."""
        atime, mtime, ctime = self.times
        links, size = self.nlink, len(self.target) or self.size
        if self.children is not None:
            links, size = 2 + sum(child.children is not None for child in self.children.values()), 4096
        blocks = sum(length for _, length, _ in self.parts) + 511 >> 9
        return Stat(self.ino, self.mode, links, self.uid, self.gid, size, atime, mtime, ctime, ctime, blocks, self.rdev)


class TreeBuilder:
    """Puts members into a tree, one archive over the other."""

    def __init__(self) -> None:
        self._made = 1
        self.root = Node(1, S_IFDIR | 0o755)

    def add(self, archive: ArchiveBytes, members: Iterable[Member]) -> None:
        """Add an archive's members over what is there. Raises ArchiveError."""
        for member in members:
            self._add(archive, member)

    def add_layer(self, archive: ArchiveBytes, members: Iterable[Member]) -> None:
        """Add a layer of an image: names that begin with ".wh." remove what lower layers have (OCI image-spec, layer).

        Raises ArchiveError.
        """
        plain = []
        for member in members:
            name = member.names[-1] if member.names else b""
            if not name.startswith(_WHITEOUT):
                plain.append(member)
                continue
            above = self._find(member.names[:-1])
            if above is not None and above.children is not None:
                for gone in tuple(above.children) if name == _OPAQUE else (name[len(_WHITEOUT) :],):
                    _remove(above.children, gone)
        self.add(archive, plain)

    def _add(self, archive: ArchiveBytes, member: Member) -> None:
        if not member.names:  # the top itself
            if member.mode & S_IFMT == S_IFDIR:
                self._set(self.root, archive, member)
            return
        above = self._directory(archive, member)
        name = member.names[-1]
        assert above.children is not None
        old = above.children.get(name)
        if member.link is not None:
            node = self._find(member.link)
            if node is None or node.children is not None:
                raise ArchiveError(
                    archive.path, member.place, f"a hard link to {b'/'.join(member.link)!r}: no such file"
                )
            if node is old:
                return
            node.nlink += 1
        elif old is not None and old.children is not None and member.mode & S_IFMT == S_IFDIR:
            self._set(old, archive, member)
            return
        else:
            node = self._new(archive, member)
        _remove(above.children, name)
        above.children[name] = node

    def _new(self, archive: ArchiveBytes, member: Member) -> Node:
        node = Node(self._number(archive, member), member.mode)
        self._set(node, archive, member)
        return node

    def _set(self, node: Node, archive: ArchiveBytes, member: Member) -> None:
        node.mode, node.uid, node.gid, node.size = member.mode, member.uid, member.gid, member.size
        node.times, node.rdev, node.target, node.parts = member.times, member.rdev, member.target, member.parts
        node.archive = archive

    def _number(self, archive: ArchiveBytes, member: Member) -> int:
        self._made += 1
        if self._made > MOST_MEMBERS:
            raise ArchiveError(archive.path, member.place, f"more than {MOST_MEMBERS} files")
        return self._made

    def _find(self, names: Names) -> Node | None:
        """Return what is under `names`, symbolic links on the way followed in the tree; None where nothing is."""
        above = self._walk(names[:-1])
        if not names or above is None or above.children is None:
            return above
        return above.children.get(names[-1])

    def _walk(self, names: Names) -> Node | None:
        """Return the directory `names`; None where that leads to none."""
        todo = list(reversed(names))
        way = [self.root]
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                way = way[:-1] or way
                continue
            node = (way[-1].children or {}).get(name)
            if node is not None and node.mode & S_IFMT == S_IFLNK and links < MOST_LINKS:
                links += 1
                way = [self.root] if node.target.startswith(b"/") else way
                todo += [part for part in reversed(node.target.split(b"/")) if part not in (b"", b".")]
            elif node is None or node.children is None or len(way) > MOST_DEPTH:
                return None
            else:
                way.append(node)
        return way[-1]

    def _directory(self, archive: ArchiveBytes, member: Member) -> Node:
        """Return the directory that a member is in; what is missing, or in the way, becomes one."""
        above = self._walk(member.names[:-1])
        if above is not None:
            return above
        here = self.root
        for end in range(1, len(member.names)):
            below = self._walk(member.names[:end])
            if below is None:
                below = Node(self._number(archive, member), S_IFDIR | 0o755)
                below.times = member.times
                assert here.children is not None
                _remove(here.children, member.names[end - 1])
                here.children[member.names[end - 1]] = below
            here = below
        return here


def _remove(children: dict[bytes, Node], name: bytes) -> None:
    """Take a name out, and what is below it."""
    todo = [node] if (node := children.pop(name, None)) is not None else []
    while todo:
        gone = todo.pop()
        gone.nlink -= 1
        todo += (gone.children or {}).values()


class ArchiveFile:
    """A regular file of an archive (`HostFile`)."""

    __slots__ = ("_archive", "_node", "_starts")

    def __init__(self, node: Node, archive: ArchiveBytes) -> None:
        self._node = node
        self._archive = archive
        self._starts = [offset for offset, _, _ in node.parts]

    def pread(self, n: int, offset: int) -> bytes:
        """Return at most `n` bytes at `offset`; holes are zeros. Raises Errno(EIO)."""
        n = min(n, self._node.size - offset)
        if n <= 0:
            return b""
        pieces = []
        end = offset + n
        for start, length, place in self._node.parts[max(0, bisect_right(self._starts, offset) - 1) :]:
            if start >= end:
                break
            first, last = max(start, offset), min(start + length, end)
            if first < last:
                pieces += [bytes(first - offset), self._read(last - first, place + first - start)]
                offset = last
        pieces.append(bytes(end - offset))
        return b"".join(pieces)

    def _read(self, n: int, place: int) -> bytes:
        try:
            data = self._archive.pread(n, place)
        except OSError:
            raise Errno(EIO) from None
        if len(data) != n:
            raise Errno(EIO)
        return data

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """Raises Errno(EROFS)."""
        raise Errno(EROFS)

    def truncate(self, size: int) -> None:
        """Raises Errno(EROFS)."""
        raise Errno(EROFS)

    def stat(self) -> Stat:
        """Return the attributes."""
        return self._node.stat()

    def sync(self) -> None:
        """Nothing is ever changed."""

    def snapshot(self) -> bytes:
        """Return the whole content; who reads the same archive shares it."""
        place = self._node.parts[0][2] if self._node.parts else -1
        key = (*self._archive.identity, place, self._node.size)
        return shared_content(key, lambda: self.pread(self._node.size, 0))

    def close(self) -> None:
        """The archive stays open for others."""


class ArchiveTree:
    """A tree of nodes (`HostTree`)."""

    writable = False
    owner = None
    steady = True

    def __init__(self, root: Node) -> None:
        self._root = root

    def _node(self, path: HostPath) -> Node:
        here = self._root
        for name in path:
            if here.children is None:
                raise Errno(ENOTDIR)
            below = here.children.get(name)
            if below is None:
                raise Errno(ENOENT)
            here = below
        return here

    def stat(self, path: HostPath) -> Stat:
        """Return the attributes of what is there. Raises Errno."""
        return self._node(path).stat()

    def readlink(self, path: HostPath) -> bytes:
        """Return a symbolic link's target. Raises Errno."""
        node = self._node(path)
        if node.mode & S_IFMT != S_IFLNK:
            raise Errno(EINVAL)
        return node.target

    def names(self, path: HostPath) -> Sequence[tuple[int, int, bytes]]:
        """Return a directory's entries, sorted by name. Raises Errno."""
        children = self._node(path).children
        if children is None:
            raise Errno(ENOTDIR)
        return [(node.ino, (node.mode & S_IFMT) >> 12, name) for name, node in sorted(children.items())]

    def open(self, path: HostPath, writable: bool) -> ArchiveFile:
        """Open a regular file. Raises Errno: ENXIO for other types, ESTALE where the archive was changed."""
        node = self._node(path)
        if writable:
            raise Errno(EROFS)
        if node.mode & S_IFMT != S_IFREG or node.archive is None:
            raise Errno(ENXIO)
        node.archive.need_unchanged()
        return ArchiveFile(node, node.archive)

    def statfs(self) -> StatFs:
        """As a file system without room."""
        return StatFs(0)

    def _refuse(self, *arguments: object) -> None:
        """Raises Errno(EROFS)."""
        raise Errno(EROFS)

    make = link = unlink = rmdir = rename = set_mode = set_times = _refuse


__all__ = ["ArchiveFile", "ArchiveTree", "Node", "TreeBuilder"]

"""`GuestPath`: the files of a guest machine from Python, with the methods of `anyio.Path`.

What always holds. A path is the guest's: it is looked up in the guest's tree alone, symbolic links included. Python
acts as the guest's administrator; what it creates belongs to the guest's user. Relative paths start at "/".
"""

from __future__ import annotations

import fnmatch
import os
import stat as stat_bits
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from aiopyvm.abi.errno import EEXIST, EINVAL, ENOENT, ENOTDIR, Errno
from aiopyvm.abi.fcntl import O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_TRUNC, O_WRONLY
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFMT
from aiopyvm.kernel.fs import Inode, need_directory
from aiopyvm.runtime.program import guest_error, to_bytes

if TYPE_CHECKING:
    from aiopyvm.abi.stat import Stat
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.vfs import Vfs

CHUNK = 1 << 20


class GuestPath:
    """A path in a guest machine. It is no `os.PathLike`: it means nothing to the host. Methods raise OSErrors, as
    `pathlib`."""

    __slots__ = ("_path", "_vfs")

    def __init__(self, vfs: Vfs, path: str | PurePosixPath) -> None:
        self._vfs = vfs
        self._path = PurePosixPath("/", path)

    # --- the path itself ----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"GuestPath({str(self._path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GuestPath) and (self._vfs, self._path) == (other._vfs, other._path)

    def __hash__(self) -> int:
        return hash((id(self._vfs), self._path))

    def __lt__(self, other: GuestPath) -> bool:
        return self._path < other._path

    def __truediv__(self, name: str | PurePosixPath) -> GuestPath:
        return self._other(self._path / name)

    def _other(self, path: PurePosixPath) -> GuestPath:
        return GuestPath(self._vfs, path)

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The last part's suffix."""
        return self._path.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts."""
        return self._path.parts

    @property
    def parent(self) -> GuestPath:
        """The directory above."""
        return self._other(self._path.parent)

    @property
    def parents(self) -> tuple[GuestPath, ...]:
        """The directories above, the nearest first."""
        return tuple(self._other(path) for path in self._path.parents)

    def joinpath(self, *names: str | PurePosixPath) -> GuestPath:
        """Return the path below this one."""
        return self._other(self._path.joinpath(*names))

    def with_name(self, name: str) -> GuestPath:
        """Return the path with another last part."""
        return self._other(self._path.with_name(name))

    def with_suffix(self, suffix: str) -> GuestPath:
        """Return the path with another suffix."""
        return self._other(self._path.with_suffix(suffix))

    # --- asking -------------------------------------------------------------------------------------------------------

    async def exists(self) -> bool:
        """There is such a file."""
        return await self._kind(follow=True) != 0

    async def is_file(self) -> bool:
        """It is a regular file, or a link to one."""
        return stat_bits.S_ISREG(await self._kind(follow=True))

    async def is_dir(self) -> bool:
        """It is a directory, or a link to one."""
        return stat_bits.S_ISDIR(await self._kind(follow=True))

    async def is_symlink(self) -> bool:
        """It is a symbolic link."""
        return stat_bits.S_ISLNK(await self._kind(follow=False))

    async def _kind(self, *, follow: bool) -> int:
        await anyio.lowlevel.checkpoint()
        try:
            return self._vfs.lookup(self._admin(), self._bytes(), follow=follow).kind
        except Errno as error:
            if error.number in (ENOENT, ENOTDIR, EINVAL):
                return 0
            raise guest_error(error, str(self)) from None

    async def stat(self) -> os.stat_result:
        """Return its attributes, or those of what it links to."""
        return _stat_result((await self._find()).stat())

    async def lstat(self) -> os.stat_result:
        """Return its attributes."""
        return _stat_result((await self._find(follow=False)).stat())

    async def readlink(self) -> GuestPath:
        """Return where the symbolic link leads."""
        await anyio.lowlevel.checkpoint()
        try:
            target = self._vfs.readlink(self._admin(), self._bytes())
        except Errno as error:
            raise guest_error(error, str(self)) from None
        return self._other(self._path.parent / os.fsdecode(target))

    async def iterdir(self) -> AsyncIterator[GuestPath]:
        """Iterate over the paths in the directory, in no order."""
        for name in await self._names():
            yield self / name

    async def glob(self, pattern: str) -> AsyncIterator[GuestPath]:
        """Iterate over the paths below this directory that match a relative `pattern` (`*`, `?`, `[..]`; `**`: any
        number of directories, symbolic links to directories left out). Raises ValueError for any other pattern.
        """
        parts = PurePosixPath(pattern).parts
        if not parts or pattern.startswith("/"):
            raise ValueError(f"glob takes a relative pattern, not {pattern!r}")
        seen: set[GuestPath] = set()
        async for found in self._matching(parts):
            if found not in seen:
                seen.add(found)
                yield found

    async def rglob(self, pattern: str) -> AsyncIterator[GuestPath]:
        """`glob` of `pattern` in this directory and all below it."""
        async for found in self.glob(f"**/{pattern}"):
            yield found

    async def _matching(self, parts: tuple[str, ...]) -> AsyncIterator[GuestPath]:
        first, rest = parts[0], parts[1:]
        if first == "**":
            if rest:
                async for found in self._matching(rest):
                    yield found
            else:
                yield self
        if not await self.is_dir():
            return
        for name in sorted(await self._names()):
            child = self / name
            if first == "**":
                if await child.is_dir() and not await child.is_symlink():
                    async for found in child._matching(parts):
                        yield found
            elif fnmatch.fnmatchcase(name, first):
                if not rest:
                    yield child
                else:
                    async for found in child._matching(rest):
                        yield found

    async def _names(self) -> list[str]:
        directory = await self._find()
        try:
            file = need_directory(directory).open(self._admin(), O_RDONLY).hold()
        except Errno as error:
            raise guest_error(error, str(self)) from None
        try:
            return [os.fsdecode(entry.name) for entry in file.entries() if entry.name not in (b".", b"..")]
        finally:
            file.release()

    # --- contents -----------------------------------------------------------------------------------------------------

    async def read_bytes(self) -> bytes:
        """Return the file's content."""
        await anyio.lowlevel.checkpoint()
        file = self._open(O_RDONLY)
        parts: list[bytes] = []
        try:
            while data := file.read(CHUNK):
                parts.append(data)
        except Errno as error:
            raise guest_error(error, str(self)) from None
        finally:
            file.release()
        return b"".join(parts)

    async def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the file's content as text."""
        return (await self.read_bytes()).decode(encoding, errors)

    async def write_bytes(self, data: bytes) -> int:
        """Replace the file's content, making it if there is none; return the length."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"write_bytes takes bytes, not {type(data).__name__}")
        return await self._write(bytes(data), O_TRUNC)

    async def write_text(self, data: str, encoding: str = "utf-8", errors: str = "strict") -> int:
        """Replace the file's content with text; return the number of characters."""
        if not isinstance(data, str):
            raise TypeError(f"write_text takes str, not {type(data).__name__}")
        await self._write(data.encode(encoding, errors), O_TRUNC)
        return len(data)

    async def append_bytes(self, data: bytes) -> int:
        """Add to the file's content, making it if there is none; return the length added."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"append_bytes takes bytes, not {type(data).__name__}")
        return await self._write(bytes(data), O_APPEND)

    async def _write(self, data: bytes, how: int) -> int:
        await anyio.lowlevel.checkpoint()
        program = data.startswith((b"\x7fELF", b"#!"))
        file = self._open(O_WRONLY | O_CREAT | how, 0o755 if program else 0o644)
        view = memoryview(data)
        try:
            while view:
                view = view[file.write(bytes(view[:CHUNK])) :]
        except Errno as error:
            raise guest_error(error, str(self)) from None
        finally:
            file.release()
        return len(data)

    # --- changing names -----------------------------------------------------------------------------------------------

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or let it be."""
        await anyio.lowlevel.checkpoint()
        self._open(O_WRONLY | O_CREAT | (0 if exist_ok else O_EXCL), mode & 0o777).release()

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory."""
        await anyio.lowlevel.checkpoint()
        if parents:
            for parent in reversed(self._path.parents):
                self._make_directory(os.fsencode(parent), 0o777, exist_ok=True)
        self._make_directory(self._bytes(), mode, exist_ok=exist_ok)

    def _make_directory(self, path: bytes, mode: int, *, exist_ok: bool) -> None:
        try:
            self._as_user(lambda ctx: self._vfs.make(ctx, path, S_IFDIR | mode & 0o777))
        except Errno as error:
            if error.number == EEXIST and exist_ok and self._vfs.lookup(self._admin(), path).kind & S_IFMT == S_IFDIR:
                return
            raise guest_error(error, path) from None

    async def rmdir(self) -> None:
        """Remove the empty directory."""
        await self._do(lambda: self._vfs.rmdir(self._admin(), self._bytes()))

    async def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file or link."""
        try:
            await self._do(lambda: self._vfs.unlink(self._admin(), self._bytes()))
        except FileNotFoundError:
            if not missing_ok:
                raise

    async def rename(self, target: str | GuestPath) -> GuestPath:
        """Move it; what is at `target` is replaced. Returns the new path."""
        new = target if isinstance(target, GuestPath) else self._other(PurePosixPath(target))
        await self._do(lambda: self._vfs.rename(self._admin(), self._bytes(), new._bytes()))
        return new

    replace = rename

    async def symlink_to(self, target: str | GuestPath) -> None:
        """Make it a symbolic link to `target`."""
        text = to_bytes(str(target), "a link's target")
        await self._do(
            lambda: self._as_user(lambda ctx: self._vfs.make(ctx, self._bytes(), S_IFLNK | 0o777, target=text))
        )

    async def hardlink_to(self, target: str | GuestPath) -> None:
        """Make it another name of `target`."""
        inode = await self.joinpath(str(target))._find()
        await self._do(lambda: self._vfs.link(self._admin(), inode, self._bytes()))

    async def chmod(self, mode: int) -> None:
        """Set the permission bits."""
        inode = await self._find()
        await self._do(lambda: inode.set_mode(mode & 0o7777))

    # --- how ----------------------------------------------------------------------------------------------------------

    def _bytes(self) -> bytes:
        return to_bytes(str(self._path), "a path")

    def _admin(self) -> FsContext:
        return self._vfs.administrator()

    async def _find(self, *, follow: bool = True) -> Inode:
        await anyio.lowlevel.checkpoint()
        try:
            return self._vfs.lookup(self._admin(), self._bytes(), follow=follow)
        except Errno as error:
            raise guest_error(error, str(self)) from None

    async def _do(self, action: Any) -> None:
        await anyio.lowlevel.checkpoint()
        try:
            action()
        except Errno as error:
            raise guest_error(error, str(self)) from None

    def _open(self, flags: int, mode: int = 0) -> Any:
        try:
            return self._as_user(lambda ctx: self._vfs.open(ctx, self._bytes(), flags, mode)).hold()
        except Errno as error:
            raise guest_error(error, str(self)) from None

    def _as_user(self, action: Any) -> Any:
        """Do it as the guest's user, so that what is made belongs to it; where that is forbidden, as administrator."""
        try:
            return action(self._vfs.context())
        except Errno as error:
            if error.number not in (1, 13):  # EPERM, EACCES
                raise
            return action(self._admin())


def _stat_result(s: Stat) -> os.stat_result:
    times = (s.atime, s.mtime, s.ctime)
    seconds = [t // 1_000_000_000 for t in times]
    extra = {f"st_{name}time": t / 1e9 for name, t in zip("amc", times, strict=True)}
    extra |= {f"st_{name}time_ns": t for name, t in zip("amc", times, strict=True)}
    extra |= {"st_blksize": s.blksize, "st_blocks": s.blocks, "st_rdev": s.rdev}
    return os.stat_result((s.mode, s.ino, s.dev, s.nlink, s.uid, s.gid, s.size, *seconds), extra)

"""`GuestPath`: the files of a guest machine from Python, with the methods of `anyio.Path`.

What always holds. A path is the guest's: it is looked up in the guest's tree alone, symbolic links included. Python
acts as the guest's administrator; what it creates belongs to the guest's user. Relative paths start at "/". What
depends on whose home or working directory is meant (`home`, `expanduser`, `cwd`) is not there.
"""

from __future__ import annotations

import io
import os
import posixpath
import stat as stat_bits
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, overload

import anyio.lowlevel

from aiopyvm.abi.errno import (
    EACCES,
    EEXIST,
    EINVAL,
    EISDIR,
    ENOENT,
    EPERM,
    Errno,
)
from aiopyvm.abi.fcntl import O_APPEND, O_CREAT, O_EXCL, O_LARGEFILE, O_RDONLY, O_TRUNC, O_WRONLY
from aiopyvm.abi.stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from aiopyvm.kernel.fs import Directory, Inode, need_directory
from aiopyvm.kernel.vfswalk import Found, resolve
from aiopyvm.runtime.guestfile import GuestFile, RawGuestFile, open_flags, open_stream
from aiopyvm.runtime.pathglob import matching
from aiopyvm.runtime.pathname import NOT_THERE, PathName
from aiopyvm.runtime.program import guest_error, to_bytes
from aiopyvm.runtime.trees import content_mode

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

    from aiopyvm.abi.stat import Stat
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext


class GuestPath(PathName):
    """A path in a guest machine. It is no `os.PathLike`: it means nothing to the host. Methods raise OSErrors, as
    `pathlib`."""

    __slots__ = ()

    # --- asking -------------------------------------------------------------------------------------------------------

    async def exists(self) -> bool:
        """There is such a file."""
        return await self.kind(follow=True) != 0

    async def is_file(self) -> bool:
        """It is a regular file, or a link to one."""
        return stat_bits.S_ISREG(await self.kind(follow=True))

    async def is_dir(self) -> bool:
        """It is a directory, or a link to one."""
        return stat_bits.S_ISDIR(await self.kind(follow=True))

    async def is_symlink(self) -> bool:
        """It is a symbolic link."""
        return stat_bits.S_ISLNK(await self.kind(follow=False))

    async def is_fifo(self) -> bool:
        """It is a FIFO, or a link to one."""
        return stat_bits.S_ISFIFO(await self.kind(follow=True))

    async def is_socket(self) -> bool:
        """It is a socket, or a link to one."""
        return stat_bits.S_ISSOCK(await self.kind(follow=True))

    async def is_char_device(self) -> bool:
        """It is a character device, or a link to one."""
        return stat_bits.S_ISCHR(await self.kind(follow=True))

    async def is_block_device(self) -> bool:
        """It is a block device, or a link to one."""
        return stat_bits.S_ISBLK(await self.kind(follow=True))

    async def is_mount(self) -> bool:
        """A file system is mounted here."""
        await anyio.lowlevel.checkpoint()
        return self._bytes() in [path for path, _ in self._vfs.mounts]

    async def kind(self, *, follow: bool) -> int:
        """Return its type, an S_IFMT value; 0 where no path leads to such a file."""
        await anyio.lowlevel.checkpoint()
        try:
            return self._vfs.lookup(self._admin(), self._bytes(), follow=follow).kind
        except Errno as error:
            if error.number in NOT_THERE:
                return 0
            raise guest_error(error, str(self)) from None

    async def samefile(self, other: str | GuestPath) -> bool:
        """It and `other` are the same file, by whatever names."""
        return await self._find() is await self._target(other)._find()

    async def absolute(self) -> GuestPath:
        """Return the path, which is absolute."""
        return self

    async def resolve(self, strict: bool = False) -> GuestPath:
        """Return the path without symbolic links and "..". What is not there (or, in a loop, cannot be) is kept as it
        is; `strict` makes that FileNotFoundError or OSError."""
        await anyio.lowlevel.checkpoint()
        for known in (self, *self.parents):
            try:
                found = resolve(self._admin(), known._bytes())
                top = _place(found, self._vfs.root)
                if strict and found.inode is None:
                    raise Errno(ENOENT)
            except Errno as error:
                if strict or error.number not in NOT_THERE:
                    raise guest_error(error, str(self)) from None
                continue
            return self._other(PurePosixPath(posixpath.normpath(posixpath.join(top, self.relative_to(known)))))
        raise AssertionError("the root is there")

    async def stat(self) -> os.stat_result:
        """Return its attributes, or those of what it links to."""
        return _stat_result((await self._find()).stat())

    async def lstat(self) -> os.stat_result:
        """Return its attributes."""
        return _stat_result((await self._find(follow=False)).stat())

    async def readlink(self) -> GuestPath:
        """Return where the symbolic link leads; a relative target is one from the link's directory."""
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
        async for found in matching(self, parts):
            if found not in seen:
                seen.add(found)
                yield found

    async def rglob(self, pattern: str) -> AsyncIterator[GuestPath]:
        """`glob` of `pattern` in this directory and all below it."""
        async for found in self.glob(f"**/{pattern}"):
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

    @overload
    async def open(
        self,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> GuestFile[str]: ...
    @overload
    async def open(self, mode: OpenBinaryMode, buffering: int = -1) -> GuestFile[bytes]: ...
    @overload
    async def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> GuestFile[Any]: ...
    async def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> GuestFile[Any]:
        """Open the regular file, with the arguments of Python's own `open` (text is UTF-8 unless said otherwise):
        `async with await path.open() as file`. Anything else than a regular file is an OSError (EINVAL).
        """
        flags = open_flags(mode)
        await anyio.lowlevel.checkpoint()
        raw = RawGuestFile(self._open(flags, 0o666), str(self))
        stream = open_stream(raw, mode, buffering, encoding, errors, newline)
        return GuestFile(stream, getattr(self._vfs.budget, "limit", None))

    async def read_bytes(self) -> bytes:
        """Return the file's content. Raises OSError (EFBIG) when it is more than the machine's memory limit."""
        async with await self.open("rb", 0) as file:
            return await file.read()

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """Return the file's content as text, as `open` makes it."""
        async with await self.open("r", -1, encoding, errors, newline) as file:
            return await file.read()

    async def write_bytes(self, data: bytes) -> int:
        """Replace the file's content, making it if there is none (executable, where it is a program); return the
        length."""
        return await self._write(data, O_WRONLY | O_CREAT | O_TRUNC)

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Replace the file's content with text; return the number of characters."""
        if not isinstance(data, str):
            raise TypeError(f"write_text takes str, not {type(data).__name__}")
        text = io.BytesIO()
        with io.TextIOWrapper(text, encoding or "utf-8", errors, newline) as writer:
            writer.write(data)
            writer.flush()
            await self.write_bytes(text.getvalue())
        return len(data)

    async def append_bytes(self, data: bytes) -> int:
        """Add to the file's content, making it if there is none; return the length added."""
        return await self._write(data, O_WRONLY | O_CREAT | O_APPEND)

    async def _write(self, data: bytes, flags: int) -> int:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"a file's content is bytes, not {type(data).__name__}")
        data = bytes(data)
        await anyio.lowlevel.checkpoint()
        with RawGuestFile(self._open(flags, content_mode(data)), str(self)) as file:
            done = 0
            while done < len(data):
                done += file.write(memoryview(data)[done:])
        return len(data)

    # --- changing names -----------------------------------------------------------------------------------------------

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file; what is there (FileExistsError unless `exist_ok`) only gets the present time."""
        await anyio.lowlevel.checkpoint()
        now = self._vfs.clock.realtime_ns()
        try:
            if exist_ok:
                self._vfs.lookup(self._admin(), self._bytes()).set_times(now, now)
                return
        except Errno as error:
            if error.number != ENOENT:
                raise guest_error(error, str(self)) from None
        self._open(O_WRONLY | O_CREAT | (0 if exist_ok else O_EXCL), mode & 0o777).hold().release()

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

    async def rename(self, target: str | PurePosixPath | GuestPath) -> GuestPath:
        """Move it; what is at `target` is replaced. Returns the new path."""
        new = self._target(target)
        await self._do(lambda: self._vfs.rename(self._admin(), self._bytes(), new._bytes()))
        return new

    replace = rename

    async def symlink_to(self, target: str | PurePosixPath | GuestPath, target_is_directory: bool = False) -> None:
        """Make it a symbolic link to `target` (whether that is a directory does not matter here)."""
        text = to_bytes(str(target), "a link's target")
        await self._do(
            lambda: self._as_user(lambda ctx: self._vfs.make(ctx, self._bytes(), S_IFLNK | 0o777, target=text))
        )

    async def hardlink_to(self, target: str | PurePosixPath | GuestPath) -> None:
        """Make it another name of `target`."""
        inode = await self._target(target)._find(follow=False)
        await self._do(lambda: self._vfs.link(self._admin(), inode, self._bytes()))

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the permission bits."""
        inode = await self._find(follow=follow_symlinks)
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

    def _target(self, path: str | PurePosixPath | GuestPath) -> GuestPath:
        return self.joinpath("/", path)

    def _open(self, flags: int, mode: int = 0) -> File:
        """Open the regular file; whoever calls this holds it."""
        try:
            self._need_regular(flags)
            file: File = self._as_user(lambda ctx: self._vfs.open(ctx, self._bytes(), flags | O_LARGEFILE, mode))
        except Errno as error:
            raise guest_error(error, str(self)) from None
        return file

    def _need_regular(self, flags: int) -> None:
        """Raise Errno unless a regular file is there, or nothing."""
        found = resolve(self._admin(), self._bytes(), create=bool(flags & O_CREAT)).inode
        if found is not None and found.kind != S_IFREG and not flags & O_EXCL:
            raise Errno(EISDIR if found.kind == S_IFDIR else EINVAL)

    def _as_user(self, action: Any) -> Any:
        """Do it as the guest's user, so that what is made belongs to it; where that is forbidden, as administrator."""
        try:
            return action(self._vfs.context())
        except Errno as error:
            if error.number not in (EPERM, EACCES):
                raise
            return action(self._admin())


def _place(found: Found, root: Directory) -> str:
    """Return the canonical path of what a walk found. Raises Errno."""
    if isinstance(found.inode, Directory):
        return os.fsdecode(found.inode.path(root))
    return posixpath.join(os.fsdecode(found.directory.path(root)), os.fsdecode(found.name))


def _stat_result(s: Stat) -> os.stat_result:
    times = (s.atime, s.mtime, s.ctime)
    seconds = [t // 1_000_000_000 for t in times]
    extra = {f"st_{name}time": t / 1e9 for name, t in zip("amc", times, strict=True)}
    extra |= {f"st_{name}time_ns": t for name, t in zip("amc", times, strict=True)}
    extra |= {"st_blksize": s.blksize, "st_blocks": s.blocks, "st_rdev": s.rdev}
    return os.stat_result((s.mode, s.ino, s.dev, s.nlink, s.uid, s.gid, s.size, *seconds), extra)

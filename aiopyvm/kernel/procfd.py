"""/proc/pid/fd and /proc/pid/fdinfo: a process's open files (proc(5))."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import ENOENT, Errno
from aiopyvm.abi.fcntl import O_CLOEXEC
from aiopyvm.abi.stat import Stat
from aiopyvm.kernel.fs import Directory, Inode
from aiopyvm.kernel.openinode import OpenInode
from aiopyvm.kernel.procfs import ProcDirectory, ProcFs, ProcLink, ProcText, need_look
from aiopyvm.kernel.procinfo import Text

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.process import Process


class DescriptorDirectory(ProcDirectory):
    """/proc/pid/fd: a magic link for each open descriptor."""

    mode = 0o500

    def __init__(
        self, fs: ProcFs, number: int, process: Process, parent: ProcDirectory, name: bytes, *, own: bool
    ) -> None:
        super().__init__(fs, number, process, parent, name)
        self._own = own  # whose descriptors they are may always look at them, whoever owns the directory

    def owner_and_mode(self) -> tuple[int, int, int]:
        """As of any inode here, but that its own process may enter."""
        uid, gid, mode = super().owner_and_mode()
        return uid, gid, mode | (0o055 if self._own else 0)

    def stat(self) -> Stat:
        """Return the attributes as everybody sees them."""
        s = super().stat()
        return s._replace(mode=self.kind | self.mode)

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return a descriptor's link. Raises Errno(ENOENT)."""
        file = None
        if self.process is not None and name.isdigit() and len(name) < 8:
            file = self.process.fds.find(int(name))
        if file is None:
            raise Errno(ENOENT)
        found = file
        link = ProcLink(
            self.fs,
            self.number + 100 + int(name),
            self.process,
            lambda ctx: file_path(found, ctx),
            lambda ctx: found.inode if found.inode is not None else OpenInode(found),
        )
        link.mode = 0o100 | (0o400 if file.readable else 0) | (0o200 if file.writable else 0)
        return link

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """The open descriptors."""
        for fd, _ in self.process.fds if self.process is not None else ():
            yield self.number + 100 + fd, 10, b"%d" % fd


class DescriptorInfoDirectory(ProcDirectory):
    """/proc/pid/fdinfo: what is known of each open descriptor, for who may look into the process."""

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description. Raises Errno(EACCES)."""
        assert self.process is not None
        need_look(ctx, self.process)
        return super().open(ctx, flags)

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return a descriptor's file. Raises Errno: EACCES, ENOENT."""
        process = self.process
        assert process is not None
        need_look(ctx, process)
        if not name.isdigit() or len(name) >= 8 or process.fds.find(int(name)) is None:
            raise Errno(ENOENT)
        text = Text(partial(_descriptor_info, int(name)), guarded=True)
        return ProcText(self.fs, self.number + 2000 + int(name), process, text)

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """The open descriptors."""
        for fd, _ in self.process.fds if self.process is not None else ():
            yield self.number + 2000 + fd, 8, b"%d" % fd


def _descriptor_info(fd: int, ctx: FsContext, process: Process | None) -> bytes:
    file = process.fds.find(fd) if process is not None else None
    if process is None or file is None:
        raise Errno(ENOENT)
    flags = file.flags | (O_CLOEXEC if process.fds.cloexec(fd) else 0)
    mounts = [fs for _, fs in ctx.vfs.mounts]
    fs = file.inode.fs if file.inode is not None else None
    mount = mounts.index(fs) + 1 if fs in mounts else len(mounts) + 1  # of files that lie nowhere
    return b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n" % (file.offset, flags, mount, file.stat().ino)


def file_path(file: File, ctx: FsContext) -> bytes:
    """Return what /proc/pid/fd shows of a file: its path, with " (deleted)" when that leads elsewhere now."""
    try:
        if file.name:
            return file.name
        if isinstance(file.inode, Directory):
            return file.inode.path(ctx.root)
        if file.place is None:
            return b"anon_inode:[file]"
        directory, name = file.place
        path = directory.path(ctx.root).rstrip(b"/") + b"/" + name
    except Errno:
        return b"/ (deleted)"
    try:
        same = directory.child(name, ctx) is file.inode
    except Errno:
        same = False
    return path if same else path + b" (deleted)"

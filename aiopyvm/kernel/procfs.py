"""A minimal /proc (proc(5)): the processes of the machine that looks, and a few facts about it.

How it works. The tree is a table of directories, files and links whose content is made when it is read; who looks is
the `FsContext`, so that one file system serves every run of a machine and a process sees only its own kernel. A file's
content is made once per open, at the first read. What tells of a process's memory and files is for who may look into it
(ptrace(2), "Ptrace access mode checking"); of one that is not dumpable everything but directories is root's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.errno import EACCES, EINVAL, ENOENT, ENOMEM, ESRCH, Errno
from aiopyvm.abi.stat import PROC_SUPER_MAGIC, S_IFDIR, S_IFLNK, S_IFREG, Stat, StatFs
from aiopyvm.kernel.file import File, Unfinished
from aiopyvm.kernel.fs import Directory, FileSystem, FixedListing, Inode, Listing, Symlink
from aiopyvm.kernel.fsfile import DirectoryFile, EndlessFile
from aiopyvm.kernel.process import Life
from aiopyvm.kernel.procinfo import MACHINE_FILES, PROCESS_FILES, THREAD_FILES, Text, thread_ids
from aiopyvm.kernel.ptrace import may_look_into

if TYPE_CHECKING:
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.vfs import Vfs

PARTS_AT_ONCE: Final = 16  # of a long text: about five milliseconds


class ProcFs(FileSystem):
    """The file system for /proc of `vfs`."""

    name = "proc"
    readonly = True

    def __init__(self, vfs: Vfs) -> None:
        self.vfs = vfs
        self.root: ProcRoot = ProcRoot(self)

    def statfs(self) -> StatFs:
        """Nothing is stored."""
        return StatFs(PROC_SUPER_MAGIC)


class ProcInode(Inode):
    """An inode of /proc. Numbers are made from the process id and the place."""

    fs: ProcFs
    mode = 0o444
    tid = 0  # of the thread whose ids it has; 0: the process's

    def __init__(self, fs: ProcFs, number: int, process: Process | None = None) -> None:
        self.fs = fs
        self.number = number
        self.process = process

    def owner_and_mode(self) -> tuple[int, int, int]:
        """What belongs to a process belongs to its user."""
        if self.process is None:
            return 0, 0, self.mode
        if self.mode != 0o555 and (self.process.dumpable != 1 or self.process.life is not Life.ALIVE):
            return 0, 0, self.mode
        thread = self.process.threads.get(self.tid)
        who = thread.credentials if thread is not None else self.process.credentials
        return who.euid, who.egid, self.mode

    def stat(self) -> Stat:
        """Return the attributes; times are now."""
        uid, gid, mode = self.owner_and_mode()
        now = self.fs.vfs.clock.realtime_ns()
        nlink = 2 if self.kind == S_IFDIR else 1
        return Stat(self.number, self.kind | mode, nlink, uid, gid, 0, now, now, now, now, 0, 0, self.fs.device, 1024)


class ProcText(ProcInode):
    """A file whose text is made when it is read."""

    kind = S_IFREG
    always_writable = True

    def __init__(self, fs: ProcFs, number: int, process: Process | None, text: Text) -> None:
        super().__init__(fs, number, process)
        self.text = text
        self.mode = text.mode

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description. Raises Errno: EACCES where the caller may not look into the process,
        EINVAL where that has gone and the file tells of its place."""
        process = self.process
        alive = process is not None and process.life is Life.ALIVE
        if process is not None and self.text.guarded and alive:
            need_look(ctx, process)
        if process is not None and self.text.placed and not alive:
            raise Errno(EINVAL)
        return ProcFile(flags, self, ctx)

    def truncate(self, size: int) -> None:
        """Nothing: it has no size."""


class ProcFile(EndlessFile):
    """An open file of /proc."""

    def __init__(self, flags: int, inode: ProcText, ctx: FsContext) -> None:
        super().__init__(flags, inode)
        self._make = partial(inode.text.content, ctx, inode.process)
        self._store = inode.text.store
        self._process = inode.process
        self._ctx = ctx
        self._budget = ctx.vfs.budget
        self._text: bytes | None = None
        self._rest: Iterator[bytes] = iter(())  # what is not made yet
        self._kept = 0  # bytes charged for it

    def pread(self, n: int, offset: int) -> bytes:
        """Return a part of the text; of a long one what has been made, which is something before its end.

        Raises Unfinished where `offset` is far behind what has been made.
        """
        if self._text is None or offset == 0:
            made = self._make()
            self._rest = iter((made,)) if isinstance(made, bytes) else made
            self._keep(next(self._rest, b""))
        self._go_on(offset)
        assert self._text is not None
        return self._text[offset : offset + n]

    def _go_on(self, offset: int) -> None:
        """Make the text up to `offset`, or as much of it as one turn takes: Unfinished."""
        assert self._text is not None
        parts, size = [self._text], len(self._text)
        while size <= offset and (more := next(self._rest, b"")):
            parts.append(more)
            size += len(more)
            if len(parts) > PARTS_AT_ONCE:
                break
        if len(parts) > 1:
            self._keep(b"".join(parts))
        if size <= offset and len(parts) > PARTS_AT_ONCE:
            raise Unfinished

    def _keep(self, text: bytes) -> None:
        """Hold a text, charged. Raises Errno(ENOMEM)."""
        if self.refs:
            try:
                self.charge(self._budget, len(text) - self._kept)
            except Errno:
                self._text = None  # what was made is lost: it is made anew
                raise Errno(ENOMEM) from None
            self._kept = len(text)
        self._text = text

    def read(self, n: int) -> bytes:
        """Return the next part of the text."""
        data = self.pread(n, self.offset)
        self.offset += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Store a text, all of it at once. Raises Errno(EINVAL): nothing is stored here, or not this."""
        if self._store is None or self._process is None:
            raise Errno(EINVAL)
        if self._process.life is Life.REAPED:
            raise Errno(ESRCH)
        self._store(self._ctx, self._process, bytes(data))
        return len(data)


class ProcLink(ProcInode, Symlink):
    """A link: to a path, or (a magic link) straight to an inode; one of a process is for who may look into it."""

    kind = S_IFLNK
    mode = 0o777

    def __init__(
        self,
        fs: ProcFs,
        number: int,
        process: Process | None,
        text: Callable[[FsContext], bytes],
        target: Callable[[FsContext], Inode | None] = lambda ctx: None,
    ) -> None:
        super().__init__(fs, number, process)
        self._text = text
        self._target = target

    def readlink(self, ctx: FsContext) -> bytes:
        """Return the target's path, as far as it has one. Raises Errno(EACCES)."""
        if self.process is not None:
            need_look(ctx, self.process)
        return self._text(ctx)

    def jump(self, ctx: FsContext) -> Inode | None:
        """Return the inode that it leads to without a path. Raises Errno(EACCES)."""
        if self.process is not None:
            need_look(ctx, self.process)
        return self._target(ctx)


class ProcDirectory(ProcInode, Directory):
    """A directory whose names are made when they are looked for."""

    kind = S_IFDIR
    mode = 0o555

    def __init__(
        self, fs: ProcFs, number: int, process: Process | None, parent: ProcDirectory | None, name: bytes
    ) -> None:
        super().__init__(fs, number, process)
        self.parent = self if parent is None else parent
        self.name = name

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return DirectoryFile(self, flags, ctx)

    def names(self, ctx: FsContext) -> Iterable[tuple[int, int, bytes]]:
        """Iterate over (inode number, DT_* kind, name)."""
        raise NotImplementedError

    def listing(self, ctx: FsContext) -> Listing:
        """The names of this moment."""
        return FixedListing(self.names(ctx))

    def empty(self) -> bool:
        """Never: nothing here can be removed."""
        return False


class ProcRoot(ProcDirectory):
    """/proc itself."""

    def __init__(self, fs: ProcFs) -> None:
        super().__init__(fs, 1, None, None, b"/")
        self._links = {
            b"self": lambda ctx: b"%d" % _own(ctx).pid,
            b"thread-self": lambda ctx: b"%d/task/%d" % (_own(ctx).pid, _own_tid(ctx)),
            b"mounts": lambda ctx: b"self/mounts",
            b"net": lambda ctx: b"self/net",
        }

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return a machine-wide file, a link, or a process's directory. Raises Errno(ENOENT)."""
        if name in MACHINE_FILES:
            return ProcText(self.fs, 2 + list(MACHINE_FILES).index(name), None, Text(MACHINE_FILES[name]))
        if name == b"sys":
            from aiopyvm.kernel.procsys import SysDirectory  # which needs this module

            return SysDirectory(99, self)
        if name in self._links:
            return ProcLink(self.fs, 90 + list(self._links).index(name), None, self._links[name])
        return ProcessDirectory(self.fs, _find(ctx, name), self, int(name))

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """Processes first, then the files."""
        if ctx.process is not None:
            for pid in sorted(ctx.process.kernel.processes):
                yield pid << 12, 4, b"%d" % pid
        for n, name in enumerate(MACHINE_FILES):
            yield 2 + n, 8, name
        for n, name in enumerate(self._links):
            yield 90 + n, 10, name
        yield 99, 4, b"sys"


class Row(NamedTuple):
    """A link in a process's directory."""

    text: Callable[[Process, FsContext], bytes]
    target: Callable[[Process, FsContext], Inode | None]


def _alive(process: Process) -> Process:
    """A process that has a memory and a place. Raises Errno(ENOENT)."""
    if process.life is not Life.ALIVE:
        raise Errno(ENOENT)
    return process


def _cwd(process: Process, ctx: FsContext) -> bytes:
    _alive(process)
    try:
        return process.fs.cwd.path(ctx.root)
    except Errno:
        return b"/" + process.fs.cwd.name + b" (deleted)"


_LINKS = {
    b"exe": Row(lambda process, ctx: _alive(process).exe or b"/", lambda process, ctx: _alive(process).exe_inode),
    b"cwd": Row(_cwd, lambda process, ctx: _alive(process).fs.cwd),
    b"root": Row(
        lambda process, ctx: _alive(process).fs.root.path(ctx.root), lambda process, ctx: _alive(process).fs.root
    ),
}


class ThreadDirectory(ProcDirectory):
    """/proc/pid/task/tid: what the thread's process has, but for `task`, and the thread's own ids and state."""

    place = 1 << 11  # of its inode numbers
    whole = False

    def __init__(self, fs: ProcFs, process: Process, parent: ProcDirectory, tid: int) -> None:
        super().__init__(fs, (tid << 12) + self.place, process, parent, b"%d" % tid)
        self.subject = process
        self.tid = tid

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return one of its files. Raises Errno(ENOENT), where the thread has ended too."""
        if self.tid not in self.subject.threads and self.tid != self.subject.pid:
            raise Errno(ENOENT)
        found = self._find(name, ctx)
        found.tid = self.tid
        return found

    def _find(self, name: bytes, ctx: FsContext) -> ProcInode:
        base = self.number
        process = self.subject
        if name in PROCESS_FILES:
            return ProcText(self.fs, base + 1 + list(PROCESS_FILES).index(name), process, PROCESS_FILES[name])
        row = _LINKS.get(name)
        if row is not None:
            text, target = row
            return ProcLink(
                self.fs,
                base + 60 + list(_LINKS).index(name),
                process,
                lambda ctx: text(process, ctx),
                lambda ctx: target(process, ctx),
            )
        if name in THREAD_FILES:
            text_of = THREAD_FILES[name]
            return ProcText(self.fs, base + 86 + list(THREAD_FILES).index(name), process, text_of(self.tid, self.whole))
        if name in (b"fd", b"fdinfo"):
            from aiopyvm.kernel.procfd import DescriptorDirectory, DescriptorInfoDirectory  # which needs this module

        if name == b"fd":
            return DescriptorDirectory(self.fs, base + 80, process, self, name, own=ctx.process is process)
        if name == b"fdinfo":
            return DescriptorInfoDirectory(self.fs, base + 85, process, self, name)
        if name == b"mem":
            from aiopyvm.kernel.procmem import ProcMemory  # which needs this module

            return ProcMemory(self.fs, base + 83, process)
        if name == b"net":
            from aiopyvm.kernel.procnet import NetDirectory  # which needs this module

            return NetDirectory(self.fs, base + 82, process, self, name)
        raise Errno(ENOENT)

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """Files, links and directories."""
        base = self.number
        for n, name in enumerate(PROCESS_FILES):
            yield base + 1 + n, 8, name
        for n, name in enumerate(_LINKS):
            yield base + 60 + n, 10, name
        yield base + 80, 4, b"fd"
        yield base + 82, 4, b"net"
        yield base + 83, 8, b"mem"
        yield base + 85, 4, b"fdinfo"
        for n, name in enumerate(THREAD_FILES):
            yield base + 86 + n, 8, name


class ProcessDirectory(ThreadDirectory):
    """/proc/pid, of a process by the id of any of its threads."""

    place = 0
    whole = True

    def _find(self, name: bytes, ctx: FsContext) -> ProcInode:
        if name == b"task":
            return TaskDirectory(self.fs, self.number + 81, self.subject, self, name)
        return super()._find(name, ctx)

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """Files, links and directories."""
        yield from super().names(ctx)
        yield self.number + 81, 4, b"task"


class TaskDirectory(ProcDirectory):
    """/proc/pid/task: the threads."""

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return a thread's directory. Raises Errno(ENOENT)."""
        process = self.process
        if process is None or not name.isdigit() or int(name[:9]) not in thread_ids(process):
            raise Errno(ENOENT)
        return ThreadDirectory(self.fs, process, self, int(name))

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """The thread ids."""
        for tid in sorted(thread_ids(self.process)) if self.process is not None else ():
            yield (tid << 12) + ThreadDirectory.place, 4, b"%d" % tid


def _own(ctx: FsContext) -> Process:
    if ctx.process is None:
        raise Errno(ENOENT)
    return ctx.process


def _own_tid(ctx: FsContext) -> int:
    """The thread whose system call this is."""
    process = _own(ctx)
    current = process.kernel.current
    return current.tid if current is not None and current.process is process else process.pid


def need_look(ctx: FsContext, process: Process) -> None:
    """Raise Errno(EACCES) where a process that may not look into `process` does."""
    if ctx.process is not None and not may_look_into(ctx.process, process, files=True):
        raise Errno(EACCES)


def _find(ctx: FsContext, name: bytes) -> Process:
    """Return the process of that number, or of a thread of that number, in the kernel of whoever looks. Raises
    Errno(ENOENT)."""
    number = int(name) if name.isdigit() and len(name) < 8 and name[:1] != b"0" else 0
    kernel = _own(ctx).kernel
    process, thread = kernel.processes.get(number), kernel.threads.get(number)
    if process is None and thread is None:
        raise Errno(ENOENT)
    return process or thread.process  # type: ignore[union-attr]

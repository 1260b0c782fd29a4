"""Programs into processes: the first one of a run, and execve(2).

execve builds the whole new image beside the old one, in steps where that takes long, and only then changes anything, so
that every error finds the caller as it was. A dynamically linked program is loaded with its interpreter (ld.so(8)),
which is a file of the guest; whatever the loader does not take is ENOEXEC, or ELIBBAD for an interpreter.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.errno import EACCES, EINVAL, ELIBBAD, ELOOP, ENODEV, ENOENT, ENOEXEC, ENOMEM, ETXTBSY, Errno
from aiopyvm.abi.fcntl import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_RDONLY, X_OK
from aiopyvm.abi.resource import RLIMIT_NOFILE, RLIMIT_STACK, STACK_LIMIT
from aiopyvm.abi.signal import SIGCHLD
from aiopyvm.abi.stat import S_IFLNK, S_IFREG, S_ISGID, S_ISUID, S_IXGRP
from aiopyvm.errors import HostRefusedError, LoadError
from aiopyvm.isa.state import CpuState
from aiopyvm.kernel import jobs, lifecycle, ptrace, robust
from aiopyvm.kernel.fdtable import FdTable
from aiopyvm.kernel.fs import need, need_directory
from aiopyvm.kernel.memfs import MemFile
from aiopyvm.kernel.mm import Mm
from aiopyvm.kernel.process import PROCESS_BYTES, Credentials, Process
from aiopyvm.kernel.thread import THREAD_BYTES, Thread
from aiopyvm.loader.elf import ElfImage, parse_elf
from aiopyvm.loader.image import Loaded, describe, load_flat, map_pieces, place_image
from aiopyvm.loader.placement import FIXED, Placement, random_placement
from aiopyvm.loader.script import parse_script
from aiopyvm.loader.stack import STACK_TOP, Identity, build_stack
from aiopyvm.loader.texts import Texts
from aiopyvm.loader.vdso import map_vdso
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.space import AddressSpace

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fs import Directory, Inode
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.kernel import Kernel

MAX_INTERPRETERS: Final = 5  # of scripts that are run by scripts (fs/exec.c)
READ_IMPLIES_EXEC: Final = 0x0400000
ADDR_NO_RANDOMIZE: Final = 0x0040000
COMM_BYTES: Final = 15
PIECES_AT_ONCE: Final = 256
STACK_LIMIT_MAX: Final = 1 << 30  # what Linux lets a stack grow to at most, gap and mappings considered


class Image(NamedTuple):
    """A program's content and the arguments that scripts on the way to it made."""

    content: bytes
    argv: Texts
    execfn: bytes  # the path that was asked for
    exe: bytes  # the program's own absolute path
    inode: Inode | None
    file: File | None = None  # open, where the inode has no name


class Memory(NamedTuple):
    """A new address space with a program in it."""

    space: AddressSpace
    loaded: Loaded
    esp: int
    auxv: bytes = b""
    files: Mapping[str, Inode] = {}  # that it shows, by the names of the mappings
    stack_top: int = STACK_TOP

    def mm(self) -> Mm:
        """What a process that executes the program knows of it."""
        return Mm(self.space, self.loaded.brk, self.stack_top, self.loaded.vdso, self.files)


class Interpreter(NamedTuple):
    """What loads a program's libraries."""

    parsed: ElfImage
    path: bytes
    inode: Inode


class Loading:
    """A program on its way into a new address space, and its interpreter after it.

    `mapped` of the pieces are there, of the interpreter's where the program is done.
    """

    def __init__(
        self,
        image: Image,
        parsed: ElfImage,
        interpreter: Interpreter | None,
        space: AddressSpace,
        kernel: Kernel,
        placement: Placement,
    ) -> None:
        self.image = image
        self.placement = placement
        self.kernel = kernel
        self.parsed = parsed
        self.interpreter = interpreter
        self.space = space
        space.label = parsed.digest
        if placement.mappings:
            space.lower_base(placement.mappings)
        self.bias = place_image(space, parsed, shift=placement.program)
        self.base: int | None = None  # the interpreter's bias, once that has a place
        self.mapped = 0

    @property
    def files(self) -> dict[str, Inode]:
        """The files that it shows, by the names of the mappings."""
        image, interpreter = self.image, self.interpreter
        files = {_mapped_as(image.exe): image.inode} if image.inode is not None else {}
        return files if interpreter is None else files | {_mapped_as(interpreter.path): interpreter.inode}

    def go_on(self) -> bool:
        """Map a number of pieces more; True when all are there. Raises AddressSpaceFull, LoadError."""
        if self.base is None:
            if not self._map_some(self.parsed, self.bias, self.image.exe):
                return False
            if self.interpreter is None:
                return True
            self.mapped = 0
            self.base = place_image(self.space, self.interpreter.parsed)
        assert self.interpreter is not None
        return self._map_some(self.interpreter.parsed, self.base, self.interpreter.path)

    def _map_some(self, parsed: ElfImage, bias: int, path: bytes) -> bool:
        pieces = parsed.pieces[self.mapped : self.mapped + PIECES_AT_ONCE]
        map_pieces(self.space, pieces, bias, _mapped_as(path), self.kernel.images)
        self.mapped += len(pieces)
        return self.mapped == len(parsed.pieces)

    def finish(self) -> Loaded:
        """Map the vdso, and say what has been loaded. Raises AddressSpaceFull."""
        loaded = describe(self.parsed, self.bias)
        vdso = map_vdso(self.space, self.kernel.clock_page)
        loaded = loaded._replace(vdso=vdso, brk=loaded.brk + self.placement.brk)
        if self.interpreter is None or self.base is None:
            return loaded
        start = self.interpreter.parsed.entry + self.base & 0xFFFFFFFF
        return loaded._replace(base=self.base & 0xFFFFFFFF, start=start)


def _placement(kernel: Kernel, personality: int) -> Placement:
    """Where a program of a process with this `personality` goes."""
    fixed = not kernel.randomize or personality & ADDR_NO_RANDOMIZE
    return FIXED if fixed else random_placement(kernel.entropy.bytes)


def _mapped_as(path: bytes) -> str:
    return path.decode(errors="surrogateescape")


def spawn(
    kernel: Kernel,
    argv: Sequence[bytes],
    program_bytes: bytes | None,
    flat: tuple[int, int] | None,
    environ: Sequence[bytes],
    files: Sequence[File],
    cwd: bytes,
    path: bytes | None,
) -> Process:
    """Make the first process of `kernel`; see `Kernel.spawn`."""
    if any(b"\0" in text for text in (*argv, *environ, path or b"")):
        raise ValueError("embedded null byte in an argument, the environment or the path")
    ctx = kernel.vfs.context(cwd=cwd)
    try:
        pid = kernel.new_pid()
    except Errno:
        raise HostRefusedError(errno.EAGAIN, "no more processes: the limit is reached") from None
    if program_bytes is None:
        image = _find(ctx, path if path is not None else (argv[0] if argv else b""), Texts(argv), None, 0)
    else:
        name = path or (argv[0] if argv else b"")
        exe = name if name[:1] == b"/" else b"/" + name.rpartition(b"/")[2]
        image = Image(program_bytes, Texts(argv), name, exe, *_as_file(ctx, program_bytes))
    uid, gid = kernel.uid, kernel.gid
    credentials = Credentials(uid, gid)
    if program_bytes is None and image.inode is not None:
        _set_ids(credentials, image.inode)
        ctx.uid, ctx.gid = credentials.fsuid, credentials.fsgid
    try:
        envp = Texts(environ)
        memory = _load(kernel, ctx, image, envp, credentials, flat)
    except AddressSpaceFull as full:
        raise HostRefusedError(errno.ENOMEM, f"no memory for the program: {full}") from None
    size = PROCESS_BYTES + THREAD_BYTES + len(image.argv.data) + len(envp.data)
    if not kernel.charge(size):
        memory.space.close()
        raise HostRefusedError(errno.ENOMEM, "no memory for a process")
    process = Process(kernel, pid, None, pid, pid, memory.mm(), FdTable(kernel.open_files), ctx, credentials)
    ctx.process = process
    process.charged = size
    process.started_ns = kernel.clock.monotonic_ns()
    process.limits[RLIMIT_NOFILE] = (kernel.open_files, kernel.open_files)
    process.has_execed = True
    process.dumpable = int((credentials.euid, credentials.egid) == (uid, gid))
    for fd, file in enumerate(files):
        process.fds.install_at(fd, file)
        if file.tty and process.tty is None:
            _take_console(kernel, process, file)
    cpu = CpuState()
    thread = Thread(kernel, process, pid, kernel.make_core(cpu, memory.space))
    process.threads[pid] = kernel.threads[pid] = thread
    kernel.processes[pid] = process
    if kernel.init is None:
        kernel.init = process
    _begin(thread, image, envp, memory)
    kernel.on_runnable(thread)
    return process


def _take_console(kernel: Kernel, process: Process, file: File) -> None:
    """The run's own terminal is that of its first session."""
    from aiopyvm.kernel.tty import TerminalFile

    assert isinstance(file, TerminalFile)
    line = file.line
    line.kernel, line.uid = kernel, kernel.uid
    line.created_ns = kernel.clock.realtime_ns()
    kernel.terminals[line.index] = line
    jobs.take_terminal(process, line)


def execve(
    t: Thread,
    path: bytes,
    argv: Texts,
    envp: Texts,
    *,
    dirfd: int = AT_FDCWD,
    flags: int = 0,
) -> bool:
    """Run another program in `t`'s process, or make the next step towards that: False, call again with the same.

    Raises Errno, and nothing has changed; of it LeaseBroken: wait, and call again.
    """
    call = t.call
    assert call is not None
    try:
        loading: Loading | None = call.state.get("loading")
        if loading is None:
            loading = call.state["loading"] = _open(t, path, argv, dirfd, flags)
        if not loading.go_on():
            return False
        who = _credentials(t, loading.image.inode)
        memory = _finish_load(t.kernel, loading, envp, who, t.process.limits[RLIMIT_STACK][0])
        _pay(t, loading.image, envp)
    except LoadError:
        _give_up(t)
        raise Errno(ENOEXEC) from None
    except (AddressSpaceFull, HostRefusedError):
        _give_up(t)
        raise Errno(ENOMEM) from None
    except Errno:
        _give_up(t)
        raise
    call.spare = None
    _replace(t, loading.image, envp, memory)
    return True


def _open(t: Thread, path: bytes, argv: Texts, dirfd: int, flags: int) -> Loading:
    """Find the program and make an address space for it, `t.call.spare`."""
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise Errno(EINVAL)
    process, call = t.process, t.call
    assert call is not None
    image = _find(t.fs, path, argv, _start_directory(process, path, dirfd, flags), flags)
    parsed = parse_elf(image.content)
    interpreter = _find_interpreter(t.fs, parsed)
    space = call.spare = t.kernel.new_space()
    return Loading(image, parsed, interpreter, space, t.kernel, _placement(t.kernel, process.personality))


def _find_interpreter(ctx: FsContext, parsed: ElfImage) -> Interpreter | None:
    """What `parsed` asks for. Raises Errno: ELIBBAD where that is no program, or as the path lookup."""
    path = parsed.interpreter
    if path is None:
        return None
    inode, content = _read_program(ctx, path, None, 0)
    try:
        return Interpreter(parse_elf(content), _absolute(ctx, path), inode)
    except LoadError:
        raise Errno(ELIBBAD) from None


def _interpreter_of_first(ctx: FsContext, parsed: ElfImage) -> Interpreter | None:
    """As `_find_interpreter`; LoadError says what is missing in the guest's files."""
    try:
        return _find_interpreter(ctx, parsed)
    except Errno as error:
        name = (parsed.interpreter or b"").decode(errors="replace")
        raise LoadError(
            f"a dynamically linked program, and its interpreter {name!r} cannot be used ({error}): run it with a root "
            "directory that has its libraries, or link it -static"
        ) from None


def _pay(t: Thread, image: Image, envp: Texts) -> None:
    """Charge what the process keeps of its new arguments and environment, in place of the old. Raises Errno(ENOMEM)."""
    process = t.process
    more = len(image.argv.data) + len(envp.data) - process.texts_bytes
    if not t.kernel.charge(more):
        raise Errno(ENOMEM)
    process.charged += more


def _give_up(t: Thread) -> None:
    if t.call is not None and t.call.spare is not None:
        t.call.spare.close()
        t.call.spare = None


def _replace(t: Thread, image: Image, envp: Texts, memory: Memory) -> None:
    """Take the point of no return: the old program goes, the new one is about to begin."""
    process, old_tid = t.process, t.tid
    lifecycle.end_other_threads(t)
    ptrace.executed(t, old_tid)
    if t.robust_list:
        robust.release(t)
    t.kernel.futexes.orphan(t)
    old = process.mm
    process.usage.max_pages = max(process.usage.max_pages, old.space.peak_resident_pages)
    process.mm = memory.mm()
    lifecycle.leave_vfork(process)
    old.release()
    if process.fds.refs > 1:
        shared, process.fds = process.fds, process.fds.fork()
        shared.release()
    process.fds.close_on_exec()
    process.actions = process.actions.after_exec()
    process.drop_timers()
    process.exit_signal = SIGCHLD
    process.has_execed = True
    who = process.credentials = t.credentials = _credentials(t, image.inode)
    process.fs = t.fs
    process.fs.uid, process.fs.gid = who.fsuid, who.fsgid
    process.dumpable = int((who.euid, who.egid) == (who.uid, who.gid))
    t.alt_sp = t.alt_size = 0
    t.clear_child_tid = 0
    t.rseq = None
    t.core.memory = t.memory = memory.space
    t.attention = True
    _begin(t, image, envp, memory)


def _credentials(t: Thread, inode: Inode | None) -> Credentials:
    """The ids of `t` when it executes a program: its own, or the owners' of one that is set-user-ID or set-group-ID
    (execve(2)), unless that was given up (PR_SET_NO_NEW_PRIVS), or somebody less mighty traces it or shares its place
    in the file system."""
    process = t.process
    who = t.credentials.copy()
    watched = t.trace is not None and t.trace.tracer.credentials.euid != 0
    if inode is not None and not process.no_new_privs and not watched and not _shares_place(process):
        _set_ids(who, inode)
    else:
        _save_ids(who)
    return who


def _shares_place(process: Process) -> bool:
    """Whether another process could change its root or working directory (CLONE_FS)."""
    others = process.kernel.processes.values()
    return any(other is not process and other.fs.place is process.fs.place for other in others)


def _set_ids(who: Credentials, inode: Inode) -> None:
    """Take the effective ids that a program's mode bits give."""
    uid, gid, mode = inode.owner_and_mode()
    if mode & S_ISUID:
        who.euid = uid
    if mode & S_ISGID and mode & S_IXGRP:
        who.egid = gid
    _save_ids(who)


def _save_ids(who: Credentials) -> None:
    """The saved ids and those for files are the effective ones, as after every execve(2)."""
    who.suid = who.fsuid = who.euid
    who.sgid = who.fsgid = who.egid


def _start_directory(process: Process, path: bytes, dirfd: int, flags: int) -> Inode | None:
    """Where a relative path starts, or the very file with AT_EMPTY_PATH; None: the working directory."""
    if dirfd == AT_FDCWD or path[:1] == b"/":
        return None
    if not path and not flags & AT_EMPTY_PATH:
        raise Errno(ENOENT)
    inode = process.fds.get_any(dirfd).inode
    if inode is None:
        raise Errno(EACCES)
    return inode


def _find(ctx: FsContext, path: bytes, argv: Texts, at: Inode | None, flags: int) -> Image:
    """Read the program at `path`, through the interpreters of scripts. Raises Errno."""
    execfn = exe = path
    for _ in range(MAX_INTERPRETERS + 1):
        inode, content = _read_program(ctx, exe, at, flags)
        try:
            script = parse_script(content)
        except LoadError:
            raise Errno(ENOEXEC) from None
        if script is None:
            return Image(content, argv, execfn, _absolute(ctx, exe), inode)
        argument = [script.argument] if script.argument is not None else []
        argv = argv.behind([script.interpreter, *argument, exe])
        exe, at, flags = script.interpreter, None, 0
    raise Errno(ELOOP)


def _read_program(ctx: FsContext, path: bytes, at: Inode | None, flags: int) -> tuple[Inode, bytes]:
    inode: Inode
    if not path and at is not None and flags & AT_EMPTY_PATH:
        inode = at
    else:
        start: Directory | None = need_directory(at) if at is not None else None
        inode = ctx.vfs.lookup(ctx, path, start, follow=not flags & AT_SYMLINK_NOFOLLOW)
        if inode.kind == S_IFLNK:
            raise Errno(ELOOP)
    if inode.kind != S_IFREG:
        raise Errno(EACCES)
    need(inode, ctx, X_OK)
    if inode.leases is not None and ctx.process is not None:
        inode.leases.need(False, ctx.process.kernel)
    if inode.writers:
        raise Errno(ETXTBSY)
    file = inode.open(ctx, O_RDONLY).hold()
    try:
        return inode, file.mmap_content()
    except Errno as error:
        raise Errno(ENOEXEC if error.number == ENODEV else error.number) from None
    finally:
        file.release()


def _as_file(ctx: FsContext, content: bytes) -> tuple[Inode | None, File | None]:
    """A program from outside as a file without a name, for /proc/self/exe; nothing where the budget has no room."""
    try:
        inode = MemFile(ctx.vfs.unnamed, S_IFREG | 0o555, ctx.uid, ctx.gid, content)
    except Errno:
        return None, None
    return inode, inode.open(ctx, O_RDONLY)


def _absolute(ctx: FsContext, path: bytes) -> bytes:
    if path[:1] == b"/":
        return path
    try:
        return ctx.cwd.path(ctx.root).rstrip(b"/") + b"/" + path.removeprefix(b"./")
    except Errno:  # the working directory was removed
        return path


def _load(
    kernel: Kernel,
    ctx: FsContext,
    image: Image,
    envp: Texts,
    who: Credentials,
    flat: tuple[int, int] | None,
) -> Memory:
    """Build a new address space with the program and its first stack.

    Raises LoadError, AddressSpaceFull, HostRefusedError, Errno(E2BIG, ENOMEM); nothing is left then.
    """
    parsed = parse_elf(image.content) if flat is None else None
    interpreter = _interpreter_of_first(ctx, parsed) if parsed is not None else None
    space = kernel.new_space()
    try:
        if parsed is None:
            load_at, entry = flat or (0, 0)
            loaded = load_flat(space, image.content, load_at, entry)
            return _add_stack(kernel, space, loaded, image, envp, who, STACK_LIMIT, FIXED)
        loading = Loading(image, parsed, interpreter, space, kernel, _placement(kernel, 0))
        while not loading.go_on():
            pass
        return _finish_load(kernel, loading, envp, who, STACK_LIMIT)
    except BaseException:
        space.close()
        raise


def _finish_load(kernel: Kernel, loading: Loading, envp: Texts, who: Credentials, stack_limit: int) -> Memory:
    loaded, placement = loading.finish(), loading.placement
    memory = _add_stack(kernel, loading.space, loaded, loading.image, envp, who, stack_limit, placement)
    return memory._replace(files=loading.files)


def _add_stack(
    kernel: Kernel,
    space: AddressSpace,
    loaded: Loaded,
    image: Image,
    envp: Texts,
    who: Credentials,
    stack_limit: int,
    placement: Placement,
) -> Memory:
    limit = min(stack_limit, STACK_LIMIT_MAX)
    stack = build_stack(
        space,
        loaded,
        image.argv,
        envp,
        execfn=image.execfn,
        random=kernel.entropy.bytes(16),
        identity=Identity(who.uid, who.euid, who.gid, who.egid),
        processor=kernel.processor,
        stack_limit=limit,
        placement=placement,
    )
    space.stack_limit = limit
    return Memory(space, loaded, stack.esp, stack.auxv, stack_top=STACK_TOP - placement.stack)


def _begin(t: Thread, image: Image, envp: Texts, memory: Memory) -> None:
    """Set registers and names for the program's first instruction."""
    process, cpu = t.process, t.core.cpu
    instructions = cpu.instructions
    cpu.reset()
    cpu.instructions = instructions
    loaded = memory.loaded
    cpu.eip, cpu.esp = loaded.entry if loaded.start is None else loaded.start, memory.esp
    t.name = image.execfn.rpartition(b"/")[2][:COMM_BYTES]
    process.exe = image.exe
    process.arguments = bytes(image.argv.data)
    process.environment = bytes(envp.data)
    process.auxv = memory.auxv
    same = image.inode is not None and image.inode is process.exe_inode
    process.hold_exe(image.inode, process.exe_file if same else image.file)
    if memory.loaded.read_implies_exec:
        process.personality |= READ_IMPLIES_EXEC
    else:
        process.personality &= ~READ_IMPLIES_EXEC

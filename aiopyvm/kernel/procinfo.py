"""The texts of /proc (proc(5)), made from the kernel's objects when somebody reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from aiopyvm.abi.errno import EACCES, EINVAL, ENOENT, ESRCH, Errno
from aiopyvm.abi.resource import (
    RLIM_INFINITY,
    RLIMIT_AS,
    RLIMIT_CORE,
    RLIMIT_CPU,
    RLIMIT_DATA,
    RLIMIT_FSIZE,
    RLIMIT_LOCKS,
    RLIMIT_MEMLOCK,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    RLIMIT_NPROC,
    RLIMIT_RSS,
    RLIMIT_RTPRIO,
    RLIMIT_RTTIME,
    RLIMIT_SIGPENDING,
    RLIMIT_STACK,
)
from aiopyvm.abi.stat import major, minor
from aiopyvm.abi.utsname import RELEASE, SYSNAME, VERSION
from aiopyvm.isa import cpuid
from aiopyvm.kernel.process import Life
from aiopyvm.kernel.thread import DEAD
from aiopyvm.loader.vdso import VVAR
from aiopyvm.mem.layout import TASK_SIZE

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.mem.mappings import Mapping

Content = Callable[["FsContext", "Process | None"], "bytes | Iterator[bytes]"]  # a long text comes in pieces
Store = Callable[["FsContext", "Process", bytes], None]  # what writing a text does


class Text(NamedTuple):
    """A file of a process: a guarded one is for who may look into the process, a placed one is there while it lives."""

    content: Content
    mode: int = 0o444
    guarded: bool = False
    placed: bool = False
    store: Store | None = None


TICK_NS = 10_000_000  # USER_HZ is 100
PAGE = 4096
LINES_AT_ONCE = 80
NO_ID = 0xFFFFFFFF  # -1
_NUMBER = re.compile(rb"([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)")
_PROT_LETTERS = tuple(("r" if p & 1 else "-") + ("w" if p & 2 else "-") + ("x" if p & 4 else "-") for p in range(8))


def _kernel_of(ctx: FsContext) -> Process:
    if ctx.process is None:
        raise Errno(ENOENT)
    return ctx.process


def _need(process: Process | None) -> Process:
    if process is None or process.life is Life.REAPED:
        raise Errno(ESRCH)
    return process


# --- the machine ------------------------------------------------------------------------------------------------------


def _uptime(ctx: FsContext, _: Process | None) -> bytes:
    now = _kernel_of(ctx).kernel.clock.monotonic_ns() // TICK_NS
    return b"%d.%02d 0.00\n" % divmod(now, 100)


def _meminfo(ctx: FsContext, _: Process | None) -> bytes:
    kernel = _kernel_of(ctx).kernel
    total = kernel.memory_limit >> 10
    spaces = {p.mm: p.memory for p in kernel.processes.values() if p.life is Life.ALIVE}.values()
    used = sum(space.resident_pages for space in spaces) * 4
    free = max(0, total - used)
    rows = {"MemTotal": total, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0}
    rows |= {"SwapTotal": 0, "SwapFree": 0}
    rows |= {"CommitLimit": total // 2, "Committed_AS": sum(space.committed for space in spaces) >> 10}
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items()).encode()


def _cpuinfo(ctx: FsContext, _: Process | None) -> bytes:
    cpu = _kernel_of(ctx).kernel.processor
    return (
        b"processor\t: 0\nvendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\nmodel name\t: %s\nstepping\t: %d\n"
        b"fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %d\nwp\t\t: yes\nflags\t\t: %s\nclflush size\t: %d\n\n"
    ) % (
        cpu.vendor, cpu.family, cpu.model, cpu.brand, cpu.stepping, cpu.last, " ".join(cpu.features).encode(),
        cpuid.LINE if "clflush" in cpu.features else 32,
    )  # fmt: skip


def _version(ctx: FsContext, _: Process | None) -> bytes:
    return b"%s version %s (aiopyvm) %s\n" % (SYSNAME, RELEASE, VERSION)


def _loadavg(ctx: FsContext, _: Process | None) -> bytes:
    kernel = _kernel_of(ctx).kernel
    return b"0.00 0.00 0.00 %d/%d %d\n" % (1, len(kernel.threads), max(kernel.processes, default=1))


def _stat_all(ctx: FsContext, _: Process | None) -> bytes:
    kernel = _kernel_of(ctx).kernel
    ticks = kernel.clock.monotonic_ns() // TICK_NS
    boot = (kernel.clock.realtime_ns() - kernel.clock.monotonic_ns()) // 10**9
    row = b"%d 0 0 0 0 0 0 0 0 0\n" % ticks
    return b"cpu  " + row + b"cpu0 " + row + b"intr 0\nctxt 0\nbtime %d\nprocesses %d\n" % (boot, len(kernel.processes))


def _filesystems(ctx: FsContext, _: Process | None) -> bytes:
    return b"nodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\toverlay\nnodev\tmqueue\n"


def mount_rows(ctx: FsContext) -> list[tuple[bytes, bytes, bytes]]:
    """Return (mount point, type, options) of everything mounted."""
    rows = []
    for path, fs in ctx.vfs.mounts:
        options = b"ro,relatime" if fs.readonly and fs.name != "proc" else b"rw,relatime"
        rows.append((path.replace(b" ", b"\\040"), fs.name.encode(), options))
    return rows


def _mounts(ctx: FsContext, _: Process | None) -> bytes:
    return b"".join(b"%s %s %s %s 0 0\n" % (kind, path, kind, options) for path, kind, options in mount_rows(ctx))


MACHINE_FILES: dict[bytes, Content] = {
    b"cpuinfo": _cpuinfo,
    b"filesystems": _filesystems,
    b"loadavg": _loadavg,
    b"meminfo": _meminfo,
    b"stat": _stat_all,
    b"uptime": _uptime,
    b"version": _version,
}


# --- a process --------------------------------------------------------------------------------------------------------


def _cmdline(ctx: FsContext, process: Process | None) -> bytes:
    process = _need(process)
    return process.arguments if process.life is Life.ALIVE else b""


def _environ(ctx: FsContext, process: Process | None) -> bytes:
    process = _need(process)
    return process.environment if process.life is Life.ALIVE else b""


def _state(process: Process, thread: Thread | None) -> tuple[str, str]:
    if process.life is not Life.ALIVE or thread is None or thread.state is DEAD:
        return "Z", "zombie"
    if process.stop_signal:
        return "T", "stopped"
    letter = thread.state.value
    return letter, {"R": "running", "S": "sleeping", "T": "stopped", "t": "tracing stop"}[letter]


def _pages(process: Process) -> tuple[int, int]:
    """Return (mapped, resident) pages."""
    if process.life is not Life.ALIVE:
        return 0, 0
    mapped = sum(mapping.end - mapping.start for mapping in process.memory.mappings())
    return mapped // PAGE, process.memory.resident_pages


def _maps(ctx: FsContext, process: Process | None) -> Iterator[bytes]:
    """A page's worth of lines at a time, each of the mappings that are there then, as Linux has it."""
    process = _need(process)
    at = 0
    while process.life is Life.ALIVE and at < TASK_SIZE:
        stop = process.memory.reach(at, TASK_SIZE, LINES_AT_ONCE)
        if found := process.memory.mappings_in(at, stop - at):
            lines = [_maps_line(mapping, process.mm.files.get(mapping.name)) for mapping in found]
            yield "".join(lines).encode(errors="surrogateescape")
            stop = max(stop, found[-1].end)
        at = stop


def _maps_line(mapping: Mapping, shown: Inode | None) -> str:
    start, end, prot, shared, _, backing, offset, name = mapping
    device, number = "00:00", 0
    if shown is not None and backing is not None:
        dev, number, links = _identity(shown)
        device = f"{major(dev):02x}:{minor(dev):02x}"
        name = name if links else f"{name} (deleted)"
    sharing = "s" if shared and name != VVAR else "p"  # Linux shows its own page as it is mapped for nobody else
    head = f"{start:08x}-{end:08x} {_PROT_LETTERS[prot & 7]}{sharing} {offset:08x} {device} {number}"
    return f"{head:<72} {name}\n" if name else head + " \n"


def _identity(inode: Inode) -> tuple[int, int, int]:
    """Its device, its number and how many names it has; 0 of all where the host has it no more."""
    try:
        s = inode.stat()
    except Errno:
        return 0, 0, 0
    return s.dev, s.ino, s.nlink


def _thread(process: Process, tid: int) -> Thread | None:
    """A thread of a process; None: the first of one that has ended. Raises Errno(ESRCH) where another has."""
    thread = process.threads.get(tid) or (process.leader if tid == process.pid else None)
    if thread is None and tid != process.pid:
        raise Errno(ESRCH)
    return thread


def thread_ids(process: Process) -> list[int]:
    """The ids of its threads; a first one that has ended counts while there are others."""
    return [*process.threads, process.pid] if process.leader is not None else [*process.threads]


def thread_stat(tid: int, whole: bool) -> Text:
    """`stat` of a thread; `whole`: with the times of its process."""

    def content(ctx: FsContext, process: Process | None) -> bytes:
        process = _need(process)
        thread = _thread(process, tid)
        letter, _ = _state(process, thread)
        mapped, resident = _pages(process)
        parent = process.parent.pid if process.parent is not None else 0
        children = process.child_usage
        own, started = (process.user_ns, process.system_ns), process.started_ns
        if thread is not None and not whole:
            own = int(thread.core.cpu.instructions), thread.system_ns
        if thread is not None and tid != process.pid:
            started = thread.started_ns
        times = [ns // TICK_NS for ns in (*own, children.user_ns, children.system_ns)]
        line, nice = process.tty, thread.nice if thread is not None else 0
        terminal = (line.stat().rdev, line.foreground or -1) if line is not None else (0, -1)
        fields = [
            letter, parent, process.group, process.session, *terminal, 0, 0, 0, 0, 0, *times, 20 + nice, nice,
            max(1, len(thread_ids(process))), 0, started // TICK_NS, mapped * PAGE, resident, 0xFFFFFFFF,
            *[0] * 12, 17, 0, *[0] * 13,
        ]  # fmt: skip
        name = (process.name if thread is None else thread.name).decode(errors="surrogateescape")
        text = f"{tid} ({name}) {' '.join(map(str, fields))}\n"
        return text.encode(errors="surrogateescape")

    return Text(content)


def _statm(ctx: FsContext, process: Process | None) -> bytes:
    return b"%d %d 0 0 0 0 0\n" % _pages(_need(process))


def thread_status(tid: int, whole: bool) -> Text:
    """`status` of a thread."""
    return Text(lambda ctx, process: _status(_need(process), tid))


def _status(process: Process, tid: int) -> bytes:
    thread = _thread(process, tid)
    letter, word = _state(process, thread)
    mapped, resident = _pages(process)
    who, place = (process.credentials, process.fs) if thread is None else (thread.credentials, thread.fs)
    name = process.name if thread is None else thread.name
    trace = thread.trace if thread is not None else None
    rows = [
        ("Name", name.decode(errors="surrogateescape")),
        *((("Umask", f"{place.umask:04o}"),) if letter != "Z" else ()),
        ("State", f"{letter} ({word})"),
        ("Tgid", process.pid),
        ("Pid", tid),
        ("PPid", process.parent.pid if process.parent is not None else 0),
        ("TracerPid", trace.tracer.pid if trace is not None else 0),
        ("Uid", f"{who.uid}\t{who.euid}\t{who.suid}\t{who.fsuid}"),
        ("Gid", f"{who.gid}\t{who.egid}\t{who.sgid}\t{who.fsgid}"),
        ("FDSize", process.fds.capacity if letter != "Z" else 0),
        ("Groups", " ".join(map(str, who.groups)) + " "),
    ]
    if letter != "Z":
        rows += [("VmSize", f"{mapped * 4:8} kB"), ("VmRSS", f"{resident * 4:8} kB")]
    ignored, caught = process.actions.sets()
    rows += [
        ("Threads", max(1, len(thread_ids(process)))),
        ("SigPnd", f"{thread.pending.bits if thread is not None else 0:016x}"),
        ("ShdPnd", f"{process.pending.bits:016x}"),
        ("SigBlk", f"{thread.mask if thread is not None else 0:016x}"),
        ("SigIgn", f"{ignored:016x}"),
        ("SigCgt", f"{caught:016x}"),
        ("NoNewPrivs", process.no_new_privs),
    ]
    return "".join(f"{name}:\t{value}\n" for name, value in rows).encode(errors="surrogateescape")


def _mountinfo(ctx: FsContext, process: Process | None) -> bytes:
    lines = []
    for n, (path, kind, options) in enumerate(mount_rows(ctx), 1):
        lines.append(b"%d 0 0:%d / %s %s - %s %s rw\n" % (n, n, path, options, kind, kind))
    return b"".join(lines)


def _auxv(ctx: FsContext, process: Process | None) -> bytes:
    process = _need(process)
    return process.auxv if process.life is Life.ALIVE else b""


_LIMITS = (
    (RLIMIT_CPU, "cpu time", "seconds"), (RLIMIT_FSIZE, "file size", "bytes"), (RLIMIT_DATA, "data size", "bytes"),
    (RLIMIT_STACK, "stack size", "bytes"), (RLIMIT_CORE, "core file size", "bytes"),
    (RLIMIT_RSS, "resident set", "bytes"), (RLIMIT_NPROC, "processes", "processes"),
    (RLIMIT_NOFILE, "open files", "files"), (RLIMIT_MEMLOCK, "locked memory", "bytes"),
    (RLIMIT_AS, "address space", "bytes"), (RLIMIT_LOCKS, "file locks", "locks"),
    (RLIMIT_SIGPENDING, "pending signals", "signals"), (RLIMIT_MSGQUEUE, "msgqueue size", "bytes"),
    (RLIMIT_NICE, "nice priority", ""), (RLIMIT_RTPRIO, "realtime priority", ""),
    (RLIMIT_RTTIME, "realtime timeout", "us"),
)  # fmt: skip


def _limits(ctx: FsContext, process: Process | None) -> bytes:
    limits = _need(process).limits
    rows = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"]
    for number, name, unit in _LIMITS:
        soft, hard = ("unlimited" if value == RLIM_INFINITY else value for value in limits[number])
        rows.append(f"{'Max ' + name:<25} {soft:<20} {hard:<20} {unit and f'{unit:<10}'}\n")
    return "".join(rows).encode()


def thread_name(tid: int, whole: bool) -> Text:
    """`comm`: the name of a thread, which its process may change (comm_write)."""

    def content(ctx: FsContext, process: Process | None) -> bytes:
        process = _need(process)
        thread = process.threads.get(tid)
        return (process.name if thread is None else thread.name) + b"\n"

    def store(ctx: FsContext, process: Process, data: bytes) -> None:
        thread = process.threads.get(tid)
        if ctx.process is not process or thread is None:
            raise Errno(EINVAL)
        thread.name = data[:15].partition(b"\0")[0]

    return Text(content, 0o644, store=store)


def _oom_score(ctx: FsContext, process: Process | None) -> bytes:
    """What Linux makes of the share of the memory that the process has (oom_badness)."""
    process = _need(process)
    kernel = _kernel_of(ctx).kernel
    if process.life is not Life.ALIVE or process.oom_score_adj == -1000:
        return b"0\n"
    total = max(1, kernel.memory_limit // PAGE)
    points = process.memory.resident_pages * 1000 // total + process.oom_score_adj
    return b"%d\n" % max(0, (1000 + points) * 2 // 3)


def _oom_score_adj(ctx: FsContext, process: Process | None) -> bytes:
    return b"%d\n" % _need(process).oom_score_adj


def _set_oom_score_adj(ctx: FsContext, process: Process, data: bytes) -> None:
    match = _NUMBER.fullmatch(data[:12].strip())
    if match is None:
        raise Errno(EINVAL)
    sign, digits = match.groups()
    base = 16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" else 10
    try:
        value = int(sign + digits, base)
    except ValueError:
        raise Errno(EINVAL) from None
    if not -1000 <= value <= 1000:
        raise Errno(EINVAL)
    privileged = _kernel_of(ctx).credentials.euid == 0
    if value < process.oom_score_adj_min and not privileged:
        raise Errno(EACCES)
    process.oom_score_adj = value
    if privileged:
        process.oom_score_adj_min = value


def _fixed(text: bytes) -> Content:
    return lambda ctx, process: text if _need(process) else b""


def _personality(ctx: FsContext, process: Process | None) -> bytes:
    return b"%08x\n" % _need(process).personality


_ALL_IDS = b"%10d %10d %10d\n" % (0, 0, NO_ID)  # the machine's one user namespace has all ids as they are

PROCESS_FILES: dict[bytes, Text] = {
    b"auxv": Text(_auxv, 0o400, guarded=True),
    b"cmdline": Text(_cmdline),
    b"environ": Text(_environ, 0o400, guarded=True),
    b"gid_map": Text(_fixed(_ALL_IDS), 0o644),
    b"limits": Text(_limits),
    b"loginuid": Text(_fixed(b"%d" % NO_ID), 0o644),
    b"maps": Text(_maps, guarded=True),
    b"mountinfo": Text(_mountinfo, placed=True),
    b"mounts": Text(_mounts, placed=True),
    b"oom_score": Text(_oom_score),
    b"oom_score_adj": Text(_oom_score_adj, 0o644, store=_set_oom_score_adj),
    b"personality": Text(_personality, 0o400, guarded=True),
    b"sessionid": Text(_fixed(b"%d" % NO_ID)),
    b"setgroups": Text(_fixed(b"allow\n"), 0o644),
    b"statm": Text(_statm),
    b"uid_map": Text(_fixed(_ALL_IDS), 0o644),
    b"wchan": Text(_fixed(b"0")),  # as where the kernel keeps no names of its functions
}

# of the thread whose directory it is; `whole`: that is also its process's
THREAD_FILES: dict[bytes, Callable[[int, bool], Text]] = {
    b"comm": thread_name,
    b"stat": thread_stat,
    b"status": thread_status,
}

"""The texts of /proc (proc(5)), made from the kernel's objects when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from aiopyvm.abi.errno import ENOENT, ESRCH, Errno
from aiopyvm.abi.stat import major, minor
from aiopyvm.isa import cpuid
from aiopyvm.kernel.process import Life
from aiopyvm.loader.vdso import VVAR
from aiopyvm.mem.layout import TASK_SIZE

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.process import Process
    from aiopyvm.mem.mappings import Mapping

Content = Callable[["FsContext", "Process | None"], "bytes | Iterator[bytes]"]  # a long text comes in pieces

TICK_NS = 10_000_000  # USER_HZ is 100
PAGE = 4096
LINES_AT_ONCE = 80
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
    return b"Linux version 6.1.0 (aiopyvm) #1 SMP\n"


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
    return b"nodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\toverlay\n"


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


def _comm(ctx: FsContext, process: Process | None) -> bytes:
    return _need(process).name + b"\n"


def _state(process: Process) -> tuple[str, str]:
    if process.life is not Life.ALIVE:
        return "Z", "zombie"
    if process.stop_signal:
        return "T", "stopped"
    main = process.main
    letter = main.state.value if main is not None else "Z"
    return letter, {"R": "running", "S": "sleeping", "T": "stopped"}.get(letter, "dead")


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


def _stat(ctx: FsContext, process: Process | None) -> bytes:
    process = _need(process)
    letter, _ = _state(process)
    mapped, resident = _pages(process)
    parent = process.parent.pid if process.parent is not None else 0
    times = [ns // TICK_NS for ns in _times(process)]
    line = process.tty
    terminal = (line.stat().rdev, line.foreground or -1) if line is not None else (0, -1)
    fields = [
        letter, parent, process.group, process.session, *terminal, 0, 0, 0, 0, 0, *times, 20 + process.nice,
        process.nice,
        max(1, len(process.threads)), 0, process.started_ns // TICK_NS, mapped * PAGE, resident, 0xFFFFFFFF,
        *[0] * 12, 17, 0, *[0] * 13,
    ]  # fmt: skip
    name = process.name.decode(errors="surrogateescape")
    text = f"{process.pid} ({name}) {' '.join(map(str, fields))}\n"
    return text.encode(errors="surrogateescape")


def _tracer(process: Process) -> int:
    main = process.main
    return main.trace.tracer.pid if main is not None and main.trace is not None else 0


def _times(process: Process) -> tuple[int, int, int, int]:
    return process.user_ns, process.system_ns, process.child_usage.user_ns, process.child_usage.system_ns


def _statm(ctx: FsContext, process: Process | None) -> bytes:
    return b"%d %d 0 0 0 0 0\n" % _pages(_need(process))


def _status(ctx: FsContext, process: Process | None) -> bytes:
    process = _need(process)
    letter, word = _state(process)
    mapped, resident = _pages(process)
    who = process.credentials
    main = process.main
    rows = [
        ("Name", process.name.decode(errors="surrogateescape")),
        ("Umask", f"{process.fs.umask:04o}"),
        ("State", f"{letter} ({word})"),
        ("Tgid", process.pid),
        ("Pid", process.pid),
        ("PPid", process.parent.pid if process.parent is not None else 0),
        ("TracerPid", _tracer(process)),
        ("Uid", f"{who.uid}\t{who.euid}\t{who.suid}\t{who.fsuid}"),
        ("Gid", f"{who.gid}\t{who.egid}\t{who.sgid}\t{who.fsgid}"),
        ("FDSize", process.fds.capacity),
        ("Groups", "".join(f"{gid} " for gid in who.groups)),
    ]
    if process.life is Life.ALIVE:
        rows += [("VmSize", f"{mapped * 4:8} kB"), ("VmRSS", f"{resident * 4:8} kB")]
    ignored, caught = process.actions.sets()
    rows += [
        ("Threads", max(1, len(process.threads))),
        ("SigPnd", f"{main.pending.bits if main is not None else 0:016x}"),
        ("ShdPnd", f"{process.pending.bits:016x}"),
        ("SigBlk", f"{main.mask if main is not None else 0:016x}"),
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


PROCESS_FILES: dict[bytes, Content] = {
    b"cmdline": _cmdline,
    b"comm": _comm,
    b"environ": _environ,
    b"maps": _maps,
    b"mountinfo": _mountinfo,
    b"mounts": _mounts,
    b"stat": _stat,
    b"statm": _statm,
    b"status": _status,
}

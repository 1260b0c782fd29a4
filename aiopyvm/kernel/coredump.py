"""Core dumps: the memory and the registers of a process that a signal ends, as an ELF file that a debugger reads
(core(5), elf(5); fs/binfmt_elf.c of the Linux source).

How it works. The file is `core` in the working directory, made with the process's own rights, where its RLIMIT_CORE
allows a page at least. It has what Linux writes with the usual coredump_filter: what is private and could be written,
what belongs to no file, and the first page of a file's mapping. Zeros are holes. It is written in steps (`go_on`), by
the thread that the signal came to; the others of its process stand still (`Process.dumping`), and of what is sent to it
SIGKILL alone is heard, which ends the dump.

What always holds. Nothing here raises: a file that cannot be made or is full is no dump, or a shorter one.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import ptrace as abi
from aiopyvm.abi.errno import Errno
from aiopyvm.abi.fcntl import O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR
from aiopyvm.abi.resource import RLIMIT_CORE
from aiopyvm.abi.signal import CORE_DUMPED, DUMPS, SIGKILL, SigInfo, bit
from aiopyvm.errors import GuestMemoryError
from aiopyvm.kernel import fpu, lifecycle
from aiopyvm.kernel.process import EndReason
from aiopyvm.kernel.sigframe import has_fxsave, has_xsave
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.loader.vdso import VVAR
from aiopyvm.mem.layout import TASK_SIZE
from aiopyvm.mem.mappings import Mapping

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.process import Process
    from aiopyvm.mem.space import AddressSpace

NAME: Final = b"core"
PAGE: Final = 4096
PIECE: Final = 1 << 16
RUN: Final = 1 << 18
STEP: Final = 1 << 19
STEP_COST: Final = STEP >> 4
MOST_BYTES: Final = 0xE000_0000  # so that every place in the file has 32 bits
MOST_MAPPINGS: Final = 60_000
MAPPINGS_AT_ONCE: Final = 256
NOTES_AT_ONCE: Final = 32
_EHDR: Final = struct.Struct("<16sHHIIIIIHHHHHH")
_PHDR: Final = struct.Struct("<8I")
_NOTE: Final = struct.Struct("<III")
_STATUS: Final = struct.Struct("<iiihxxIIiiii8I17Ii")
_PSINFO: Final = struct.Struct("<BcbbIHHiiii16s80s")
_IDENT: Final = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
_ET_CORE, _EM_386, _PT_LOAD, _PT_NOTE = 4, 3, 1, 4
_ZEROS: Final = bytes(PIECE)
_TICK: Final = 10_000_000


class Segment(NamedTuple):
    """A mapping in the file: `size` bytes of it are there."""

    mapping: Mapping
    size: int


class Dump:
    """A dump on its way."""

    def __init__(self, t: Thread, info: SigInfo, file: File, limit: int) -> None:
        self.thread = t
        self.info = info
        self.file = file
        self._steps = _write(t, info, file, limit)

    def step(self) -> bool:
        """Write a part; True when there is no more, or no room."""
        try:
            return next(self._steps, True)
        except Errno:
            return True  # it is full: the dump is shorter


def begin(t: Thread, info: SigInfo) -> bool:
    """Begin the dump of `t`'s process, which `info` ends by its default action; False where there is none to write."""
    process = t.process
    limit = process.limits[RLIMIT_CORE][0]
    if not bit(info.signo) & DUMPS or limit < PAGE or process.dumpable != 1:
        return False
    try:
        file = _open(process)
    except Errno:
        return False
    process.dumping = Dump(t, info, file, limit)
    for other in process.threads.values():
        if other is not t and other.state in (RunState.RUNNABLE, RunState.PARKED):
            t.kernel.leave_queues(other)
            other.attention, other.state = True, RunState.STOPPED
    _pause(t)
    return True


def _pause(t: Thread) -> None:
    """Let others have their turn."""
    t.attention = True
    wait = Wait(deadline=t.kernel.clock.monotonic_ns(), uninterruptible=True, reason="its core dump")
    t.kernel.park(t, wait)


def go_on(t: Thread, dump: Dump) -> int:
    """Make the next step, or the end, of the dump of `t`'s process; return the cost."""
    if t is not dump.thread:
        t.state = RunState.STOPPED  # SIGKILL has woken it: who dumps will see that
        return 0
    killed = (t.pending.bits | t.process.pending.bits) & bit(SIGKILL)
    if not killed and not dump.step():
        _pause(t)
        t.system_ns += STEP_COST
        return STEP_COST
    lifecycle.end_process(t.process, dump.info.signo | (0 if killed else CORE_DUMPED), EndReason.SIGNALED)
    return 0


def _open(process: Process) -> File:
    """Make the file in the place of what has its name. Raises Errno."""
    vfs, ctx = process.fs.vfs, process.fs
    with contextlib.suppress(Errno):  # there is none, or the new one cannot be made either
        vfs.unlink(ctx, NAME)
    return vfs.open(ctx, NAME, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, 0o600 & ~ctx.umask).hold()


def _write(t: Thread, info: SigInfo, file: File, limit: int) -> Iterator[bool]:
    """Write the file; yields False after each step."""
    segments: list[Segment] = []
    left = MOST_BYTES
    for mappings in _mappings(t.memory):
        for mapping in mappings:
            size = _dumped(mapping)
            size = size if size <= left else 0
            left -= size
            segments.append(Segment(mapping, size))
        yield False
    parts: list[bytes] = []
    for n, part in enumerate(_notes(t, info, segments)):
        parts.append(part)
        if n % NOTES_AT_ONCE == NOTES_AT_ONCE - 1:
            yield False
    notes = b"".join(parts)
    start = _EHDR.size + _PHDR.size * (len(segments) + 1)
    at = start + len(notes) + PAGE - 1 & -PAGE
    count = len(segments) + 1
    head = _EHDR.pack(
        _IDENT, _ET_CORE, _EM_386, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, count, 0, 0, 0
    )  # fmt: skip
    _put(file, 0, head + _PHDR.pack(_PT_NOTE, start, 0, 0, len(notes), 0, 0, 0), limit)
    _put(file, start, notes, limit)
    places = []
    for n, (mapping, size) in enumerate(segments, 1):
        flags = (mapping.prot & 1) << 2 | mapping.prot & 2 | (mapping.prot & 4) >> 2
        header = _PHDR.pack(_PT_LOAD, at, mapping.start, 0, size, mapping.end - mapping.start, flags, PAGE)
        _put(file, _EHDR.size + n * _PHDR.size, header, limit)
        places.append(at)
        at += size
        if n % MAPPINGS_AT_ONCE == 0:
            yield False
    done = 0
    for (mapping, size), place in zip(segments, places, strict=True):
        for offset in range(0, size if place < limit else 0, RUN):
            done += _put_memory(t, file, place + offset, mapping.start + offset, min(RUN, size - offset), limit)
            if done >= STEP:
                done = 0
                yield False
    file.truncate(min(at, limit))


def _mappings(memory: AddressSpace) -> Iterator[Sequence[Mapping]]:
    """The mappings, some at a time: those that are there then."""
    at, count = 0, 0
    while at < TASK_SIZE and count < MOST_MAPPINGS:
        stop = memory.reach(at, TASK_SIZE, MAPPINGS_AT_ONCE)
        found = memory.mappings_in(at, stop - at)
        yield found
        count += len(found)
        at = max(stop, found[-1].end) if found else stop


def _put(file: File, at: int, data: bytes, limit: int) -> None:
    data = data[: max(0, limit - at)]
    while data:
        n = file.pwrite(data, at)
        data, at = data[n:], at + n


def _put_memory(t: Thread, file: File, at: int, address: int, size: int, limit: int) -> int:
    """Write what is not zero of a part of a mapping; return what that counts for, in bytes."""
    mapping = t.memory.find_mapping(address)
    if mapping is None or (mapping.backing is None and t.memory.is_untouched(address, address + size)):
        return size >> 5
    for offset in range(0, size, PIECE):
        try:
            data = t.memory.peek(address + offset, min(PIECE, size - offset))
        except GuestMemoryError:
            continue  # nothing is there any more
        if data != _ZEROS[: len(data)]:
            _put(file, at + offset, data, limit)
    return size


def _dumped(mapping: Mapping) -> int:
    whole = mapping.end - mapping.start
    named = _is_file(mapping)
    if mapping.shared and named:
        return 0
    if not mapping.prot or mapping.name == VVAR:
        return 0
    if not named or mapping.prot & 2:
        return whole
    return PAGE if mapping.offset == 0 else 0


def _is_file(mapping: Mapping) -> bool:
    return mapping.backing is not None and mapping.name.startswith("/")


# --- notes ------------------------------------------------------------------------------------------------------------


def _note(name: bytes, kind: int, data: bytes) -> bytes:
    padded = (name + b"\0").ljust(len(name) + 4 & -4, b"\0")
    return _NOTE.pack(len(name) + 1, len(data), kind) + padded + data.ljust(len(data) + 3 & -4, b"\0")


def _notes(t: Thread, info: SigInfo, segments: list[Segment]) -> Iterator[bytes]:
    """The notes: of the thread that failed, of the process, and of its other threads."""
    process = t.process
    yield _note(b"CORE", abi.NT_PRSTATUS, _status(t, info))
    yield _note(b"CORE", abi.NT_PRPSINFO, _psinfo(process))
    yield _note(b"CORE", abi.NT_SIGINFO, info.pack())
    yield _note(b"CORE", abi.NT_AUXV, process.auxv)
    files = _files(segments)
    if files:
        yield _note(b"CORE", abi.NT_FILE, files)
    yield from _sets(t)
    for other in tuple(process.threads.values()):
        if other is not t:
            yield _note(b"CORE", abi.NT_PRSTATUS, _status(other, info))
            yield from _sets(other)


def _status(t: Thread, info: SigInfo) -> bytes:
    """struct elf_prstatus."""
    process, cpu = t.process, t.core.cpu
    parent = process.parent.pid if process.parent is not None else 0
    times: list[int] = []
    children = process.child_usage
    for ns in (int(cpu.instructions), t.system_ns, children.user_ns, children.system_ns):
        times += (ns // 10**9, ns % 10**9 // 1000)
    words = [0xFFFFFFFF if name == "orig_eax" else getattr(cpu, name) for name in abi.REGISTERS]
    pending = (t.pending.bits | process.pending.bits) & 0xFFFFFFFF
    return _STATUS.pack(
        info.signo, 0, 0, info.signo, pending, t.mask & 0xFFFFFFFF, t.tid, parent, process.group,
        process.session, *times, *words, 1,
    )  # fmt: skip


def _psinfo(process: Process) -> bytes:
    """struct elf_prpsinfo."""
    parent = process.parent.pid if process.parent is not None else 0
    who, nice = process.credentials, process.main.nice if process.main is not None else 0
    arguments = process.arguments[:79].rstrip(b"\0").replace(b"\0", b" ")
    if len(process.arguments) <= 79:
        arguments += b" "
    return _PSINFO.pack(
        0, b"R", 0, nice, 0, who.uid & 0xFFFF, who.gid & 0xFFFF, process.pid, parent, process.group,
        process.session, process.name[:15], arguments,
    )  # fmt: skip


def _files(segments: list[Segment]) -> bytes:
    """NT_FILE: what is mapped of which file."""
    mapped = [m for m, _ in segments if _is_file(m)]
    if not mapped:
        return b""
    parts = [struct.pack("<II", len(mapped), PAGE)]
    parts += [struct.pack("<III", m.start, m.end, m.offset // PAGE) for m in mapped]
    parts += [m.name.encode(errors="surrogateescape") + b"\0" for m in mapped]
    return b"".join(parts)


def _sets(t: Thread) -> list[bytes]:
    """The register sets beside the general one."""
    cpu = t.core.cpu
    parts = [_note(b"CORE", abi.NT_PRFPREG, fpu.fsave_image(cpu)[:108])]
    if has_fxsave(t):
        parts.append(_note(b"LINUX", abi.NT_PRXFPREG, fpu.fxsave_image(cpu)))
    if has_xsave(t):
        parts.append(_note(b"LINUX", abi.NT_X86_XSTATE, fpu.xsave_image(cpu)))
    return parts

"""Core dumps: the memory and the registers of a process that a signal ends, as an ELF file that a debugger reads
(core(5), elf(5); fs/binfmt_elf.c of the Linux source).

How it works. The file is `core` in the working directory, made with the process's own rights, where its RLIMIT_CORE
allows a page at least. It has what Linux writes with the usual coredump_filter: what is private and could be written,
what belongs to no file, and the first page of a file's mapping. Zeros are holes.

What always holds. Nothing here raises: a file that cannot be made or is full is no dump, or a shorter one. At most
MOST_BYTES of memory are looked at.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import ptrace as abi
from aiopyvm.abi.errno import Errno
from aiopyvm.abi.fcntl import O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR
from aiopyvm.abi.resource import RLIMIT_CORE
from aiopyvm.abi.signal import CORE_DUMPED, DUMPS, SigInfo, bit
from aiopyvm.errors import GuestMemoryError
from aiopyvm.kernel import fpu
from aiopyvm.kernel.sigframe import has_fxsave, has_xsave
from aiopyvm.kernel.thread import Thread
from aiopyvm.loader.vdso import VVAR

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.process import Process
from aiopyvm.mem.mappings import Mapping

NAME: Final = b"core"
PAGE: Final = 4096
PIECE: Final = 1 << 16
MOST_BYTES: Final = 64 << 20
MOST_MAPPINGS: Final = 60_000
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


def dump(t: Thread, info: SigInfo) -> int:
    """Write the core of `t`'s process, which `info` ends by its default action; return CORE_DUMPED, 0 where there is
    none to write."""
    process = t.process
    limit = process.limits[RLIMIT_CORE][0]
    if not bit(info.signo) & DUMPS or limit < PAGE or process.dumpable != 1:
        return 0
    try:
        file = _open(process)
    except Errno:
        return 0
    try:
        _write(t, info, file, limit)
    except Errno:
        pass  # it is full: the dump is shorter
    finally:
        file.release()
    return CORE_DUMPED


def _open(process: Process) -> File:
    """Make the file in the place of what has its name. Raises Errno."""
    vfs, ctx = process.fs.vfs, process.fs
    with contextlib.suppress(Errno):  # there is none, or the new one cannot be made either
        vfs.unlink(ctx, NAME)
    return vfs.open(ctx, NAME, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, 0o600 & ~ctx.umask).hold()


def _write(t: Thread, info: SigInfo, file: File, limit: int) -> None:
    segments = list(_segments(t.process))
    notes = _notes(t, info)
    start = _EHDR.size + _PHDR.size * (len(segments) + 1)
    at = start + len(notes) + PAGE - 1 & -PAGE
    headers = [_PHDR.pack(_PT_NOTE, start, 0, 0, len(notes), 0, 0, 0)]
    places = []
    for mapping, size in segments:
        flags = (mapping.prot & 1) << 2 | mapping.prot & 2 | (mapping.prot & 4) >> 2
        headers.append(_PHDR.pack(_PT_LOAD, at, mapping.start, 0, size, mapping.end - mapping.start, flags, PAGE))
        places.append(at)
        at += size
    count = len(headers)
    head = _EHDR.pack(
        _IDENT, _ET_CORE, _EM_386, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, count, 0, 0, 0
    )  # fmt: skip
    _put(file, 0, b"".join((head, *headers, notes)), limit)
    for (mapping, size), place in zip(segments, places, strict=True):
        _put_memory(t, file, place, mapping.start, size, limit)
    file.truncate(min(at, limit))


def _put(file: File, at: int, data: bytes, limit: int) -> None:
    data = data[: max(0, limit - at)]
    while data:
        n = file.pwrite(data, at)
        data, at = data[n:], at + n


def _put_memory(t: Thread, file: File, at: int, address: int, size: int, limit: int) -> None:
    for offset in range(0, size, PIECE):
        try:
            data = t.memory.peek(address + offset, min(PIECE, size - offset))
        except GuestMemoryError:
            continue  # nothing is there any more
        if data != _ZEROS[: len(data)]:
            _put(file, at + offset, data, limit)


def _segments(process: Process) -> Iterator[Segment]:
    """What is dumped of each mapping (core(5), "Controlling which mappings are written to the core dump")."""
    left = MOST_BYTES
    for mapping in islice(process.memory.mappings(), MOST_MAPPINGS):
        size = _dumped(mapping)
        size = size if size <= left else 0
        left -= size
        yield Segment(mapping, size)


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


def _notes(t: Thread, info: SigInfo) -> bytes:
    """The notes: of the thread that failed, of the process, and of its other threads."""
    process = t.process
    parts = [
        _note(b"CORE", abi.NT_PRSTATUS, _status(t, info)),
        _note(b"CORE", abi.NT_PRPSINFO, _psinfo(process)),
        _note(b"CORE", abi.NT_SIGINFO, info.pack()),
        _note(b"CORE", abi.NT_AUXV, process.auxv),
    ]
    files = _files(process)
    if files:
        parts.append(_note(b"CORE", abi.NT_FILE, files))
    parts.extend(_sets(t))
    for other in process.threads.values():
        if other is not t:
            parts.append(_note(b"CORE", abi.NT_PRSTATUS, _status(other, info)))
            parts.extend(_sets(other))
    return b"".join(parts)


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


def _files(process: Process) -> bytes:
    """NT_FILE: what is mapped of which file."""
    mapped = [m for m in islice(process.memory.mappings(), MOST_MAPPINGS) if _is_file(m)]
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

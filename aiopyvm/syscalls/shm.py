"""System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2)."""

from __future__ import annotations

import struct
from typing import Annotated

from aiopyvm.abi import ipc as abi
from aiopyvm.abi import mman
from aiopyvm.abi.errno import EIDRM, EINVAL, ENOMEM, ENOSPC, Errno
from aiopyvm.abi.ipc import ShmidDs
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.time import NS
from aiopyvm.errors import HostRefusedError
from aiopyvm.kernel.sysv import READ, WRITE, Segment
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import PAGE, TASK_SIZE, page_up
from aiopyvm.syscalls.accounting import check_address_space
from aiopyvm.syscalls.spec import I32, Choice, Flags, Ptr, Size, syscall
from aiopyvm.syscalls.steps import again

GetFlags = Annotated[int, Flags(abi.GET_FLAGS)]
AtFlags = Annotated[
    int,
    Flags({
        abi.SHM_RDONLY: "SHM_RDONLY", abi.SHM_RND: "SHM_RND", abi.SHM_REMAP: "SHM_REMAP", abi.SHM_EXEC: "SHM_EXEC",
    }),
]  # fmt: skip
Command = Annotated[int, Choice(abi.SHM_COMMANDS)]
_STATS = (abi.IPC_STAT, abi.SHM_STAT, abi.SHM_STAT_ANY)
_INFOS = (abi.IPC_INFO, abi.SHM_INFO)


def seconds(t: Thread) -> int:
    """Return the time of day."""
    return t.kernel.clock.realtime_ns() // NS


@syscall(395, "shmget", man="shmget(2)", note="no huge pages")
def shmget(t: Thread, key: I32, size: Size, shmflg: GetFlags) -> int:
    """Return the segment of a key, or a new one."""
    space, who = t.kernel.ipc, t.credentials
    space.sweep()

    def make() -> Segment:
        if not size or shmflg & abi.SHM_HUGETLB or size > TASK_SIZE:
            raise Errno(EINVAL)
        if size > t.kernel.memory_limit:
            raise Errno(ENOMEM)
        if sum(segment.size for segment in space.segments.all()) + size > t.kernel.memory_limit:
            raise Errno(ENOSPC)
        try:
            return Segment(key, who, shmflg, seconds(t), size, t.process.pid)
        except HostRefusedError:
            raise Errno(ENOMEM) from None

    def check(segment: Segment) -> None:
        if size > segment.size:
            raise Errno(EINVAL)

    return space.segments.get(key, shmflg, who, make, check)


@syscall(397, "shmat", man="shmat(2)", hex_result=True)
def shmat(t: Thread, shmid: I32, shmaddr: Ptr, shmflg: AtFlags) -> int | Wait:
    """Map a segment."""
    if t.process.mm.copier is not None:
        return again(t)
    if shmaddr & PAGE - 1:
        if not shmflg & abi.SHM_RND:
            raise Errno(EINVAL)
        shmaddr &= ~(PAGE - 1)
    if not shmaddr and shmflg & abi.SHM_REMAP:
        raise Errno(EINVAL)
    segment = _segment(t, shmid)
    wanted = READ if shmflg & abi.SHM_RDONLY else READ | WRITE
    segment.need(t.credentials, wanted | (0o111 if shmflg & abi.SHM_EXEC else 0))
    backing = segment.backing
    if backing is None:
        raise Errno(EIDRM)
    size = page_up(segment.size)
    prot = mman.PROT_READ if shmflg & abi.SHM_RDONLY else mman.PROT_READ | mman.PROT_WRITE
    prot |= mman.PROT_EXEC if shmflg & abi.SHM_EXEC else 0
    try:
        at = shmaddr or t.memory.find_free(size, 0)
        if at + size > TASK_SIZE or (not shmflg & abi.SHM_REMAP and not t.memory.is_free(at, size)):
            raise Errno(EINVAL)
        check_address_space(t, size)
        t.memory.map(at, size, prot, backing, 0, shared=True, name=f"/SYSV{segment.key & 0xFFFFFFFF:08x} (deleted)")
    except AddressSpaceFull:
        raise Errno(ENOMEM) from None
    segment.attached, segment.last_pid = seconds(t), t.process.pid
    return at


@syscall(398, "shmdt", man="shmat(2)")
def shmdt(t: Thread, shmaddr: Ptr) -> int | Wait:
    """Unmap a segment that is mapped at an address."""
    if t.process.mm.copier is not None:
        return again(t)
    space = t.kernel.ipc
    space.sweep()
    mapping = t.memory.find_mapping(shmaddr)
    backing = mapping.backing if mapping is not None else None
    segment = next((s for s in space.segments.all() if backing is not None and s.backing is backing), None)
    if segment is None or mapping is None or mapping.start - mapping.offset != shmaddr:
        raise Errno(EINVAL)
    parts = [m for m in t.memory.mappings() if m.backing is backing and m.start - m.offset == shmaddr]
    segment.detached, segment.last_pid = seconds(t), t.process.pid
    for part in parts:
        t.memory.unmap(part.start, part.end - part.start)
    t.moved += page_up(segment.size)
    del mapping, backing, parts
    space.sweep()
    return 0


def _segment(t: Thread, shmid: int) -> Segment:
    t.kernel.ipc.sweep()
    return t.kernel.ipc.segments.find(shmid)


def _attached(t: Thread, segment: Segment) -> int:
    """How often it is mapped now."""
    spaces = {process.mm.space for process in t.kernel.processes.values() if process.mm.users}
    backing = segment.backing
    shown = [mapping.backing is backing for space in spaces for mapping in space.mappings()]
    t.moved += 16 * len(shown)
    return sum(shown)


@syscall(396, "shmctl", man="shmctl(2)")
def shmctl(t: Thread, shmid: I32, cmd: Command, buf: Ptr) -> int:
    """Tell, change or remove a segment."""
    if shmid < 0:
        raise Errno(EINVAL)
    codec = codec_of(ShmidDs)
    given = codec.unpack(t.memory.read(buf, codec.size)) if cmd == abi.IPC_SET else None
    if cmd not in abi.SHM_COMMANDS:
        raise Errno(EINVAL)
    if cmd in _INFOS:
        return _info(t, cmd, buf)
    if cmd in _STATS:
        return _stat(t, shmid, cmd, buf)
    segment, who = _segment(t, shmid), t.credentials
    segment.need_owner(who)
    if given is not None:
        segment.uid, segment.gid = given.uid, given.gid
        segment.mode = segment.mode & ~0o777 | given.mode & 0o777
        segment.changed = seconds(t)
    elif cmd == abi.IPC_RMID:
        t.kernel.ipc.segments.forget_key(segment)
        segment.let_go()
        t.kernel.ipc.sweep()
    return 0


def _stat(t: Thread, shmid: int, cmd: int, buf: int) -> int:
    """IPC_STAT, and the same by a place in the table."""
    by_id = cmd == abi.IPC_STAT
    segment = _segment(t, shmid) if by_id else t.kernel.ipc.segments.at(shmid)
    if cmd != abi.SHM_STAT_ANY:
        segment.need(t.credentials, READ)
    times = (segment.attached, 0, segment.detached, 0, segment.changed, 0)
    ds = ShmidDs(*segment.perm, segment.size, *times, segment.pid, segment.last_pid, _attached(t, segment))
    t.memory.write(buf, codec_of(ShmidDs).pack(ds))
    return 0 if by_id else segment.id


def _info(t: Thread, cmd: int, buf: int) -> int:
    """Limits (IPC_INFO), or what is there (SHM_INFO); the last place taken."""
    table, limit = t.kernel.ipc.segments, t.kernel.memory_limit
    t.kernel.ipc.sweep()
    pages = sum(page_up(segment.size) // PAGE for segment in table.all())
    words: tuple[int, ...]
    if cmd == abi.IPC_INFO:
        words = (limit, 1, abi.SHMMNI, abi.SHMMNI, limit // PAGE, 0, 0, 0, 0)
    else:
        words = (len(table), pages, pages, 0, 0, 0)
    t.memory.write(buf, struct.pack(f"<{len(words)}I", *(min(word, 0xFFFFFFFF) for word in words)))
    return table.highest

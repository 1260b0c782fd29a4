"""System V semaphores: semget(2), semop(2), semctl(2)."""

from __future__ import annotations

import struct
from typing import Annotated

from aiopyvm.abi import ipc as abi
from aiopyvm.abi.errno import E2BIG, EAGAIN, EFBIG, EINVAL, ERANGE, Errno
from aiopyvm.abi.ipc import Sembuf, SemidDs
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.time import NS, Timespec32, Timespec64
from aiopyvm.kernel.sysv import READ, WRITE, Semaphores
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.syscalls.shm import GetFlags, seconds
from aiopyvm.syscalls.spec import I32, U32, Array, Choice, Hex, In, syscall
from aiopyvm.syscalls.steps import call_of

Command = Annotated[int, Choice(abi.SEM_COMMANDS)]
SEMAEM = 32768  # what the end of a process gives back at most, either way


@syscall(393, "semget", man="semget(2)")
def semget(t: Thread, key: I32, nsems: I32, semflg: GetFlags) -> int:
    """Return the semaphore set of a key, or a new one."""
    who = t.credentials
    if not 0 <= nsems <= abi.SEMMSL:
        raise Errno(EINVAL)

    def make() -> Semaphores:
        if not nsems:
            raise Errno(EINVAL)
        return Semaphores(key, who, semflg, seconds(t), nsems)

    def check(found: Semaphores) -> None:
        if nsems > len(found.values):
            raise Errno(EINVAL)

    return t.kernel.ipc.semaphores.get(key, semflg, who, make, check)


# --- operations -------------------------------------------------------------------------------------------------------


@syscall(420, "semtimedop_time64", man="semop(2)")
def semtimedop_time64(t: Thread, semid: I32, sops: Array[Sembuf], nsops: U32, timeout: In[Timespec64]) -> int | Wait:
    """Change semaphores all at once, as soon as that can be done; `timeout` is how long to wait at most."""
    return operate(t, semid, sops, nsops, timeout)


def operate(
    t: Thread, semid: int, sops: Array[Sembuf], nsops: int, timeout: In[Timespec32] | In[Timespec64] | None
) -> int | Wait:
    """semtimedop(2)."""
    state, call = call_of(t).state, call_of(t)
    if "set" not in state:
        _begin(t, semid, sops, nsops, timeout)
    found: Semaphores = state["set"]
    found.need_there()
    blocked = _perform(t, found, state["ops"])
    if blocked is None:
        return 0
    if blocked.flags & abi.IPC_NOWAIT or call.woken is Cause.TIMEOUT:
        raise Errno(EAGAIN)
    if call.deadline is not None and call.deadline <= t.kernel.clock.monotonic_ns():
        raise Errno(EAGAIN)
    state["blocked"] = blocked.num, blocked.op == 0
    return Wait((found.queue,), call.deadline, Restart.EINTR, "a semaphore")


def _begin(
    t: Thread, semid: int, sops: Array[Sembuf], nsops: int, timeout: In[Timespec32] | In[Timespec64] | None
) -> None:
    call = call_of(t)
    if timeout:
        spec = timeout.get()
        if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
            raise Errno(EINVAL)
        call.deadline = t.kernel.clock.monotonic_ns() + spec.tv_sec * NS + spec.tv_nsec
    if not nsops or semid < 0:
        raise Errno(EINVAL)
    if nsops > abi.SEMOPM:
        raise Errno(E2BIG)
    ops = sops.get(nsops)
    found = t.kernel.ipc.semaphores.find(semid)
    if any(op.num >= len(found.values) for op in ops):
        raise Errno(EFBIG)
    found.need(t.credentials, WRITE if any(op.op for op in ops) else READ)
    call.state["set"], call.state["ops"] = found, ops


def _perform(t: Thread, found: Semaphores, ops: list[Sembuf]) -> Sembuf | None:
    """Do all operations, or none; return the one that cannot be done yet. Raises Errno(ERANGE)."""
    values = dict.fromkeys((op.num for op in ops), 0)
    values.update((number, found.values[number]) for number in values)
    undo = dict(found.undo.get(t.process, {}))
    for number, op, flags in ops:
        value = values[number]
        if (not op and value) or value + op < 0:
            return Sembuf(number, op, flags)
        if value + op > abi.SEMVMX:
            raise Errno(ERANGE)
        values[number] = value + op
        if flags & abi.SEM_UNDO and op:
            undo[number] = undo.get(number, 0) - op
            if not -SEMAEM <= undo[number] < SEMAEM:
                raise Errno(ERANGE)
    for number, value in values.items():
        found.values[number], found.pids[number] = value, t.process.pid
    if undo:
        found.undo[t.process] = undo
    found.operated = seconds(t)
    if any(op.op for op in ops):
        found.queue.wake()
    return None


# --- control ----------------------------------------------------------------------------------------------------------


@syscall(394, "semctl", man="semctl(2)")
def semctl(t: Thread, semid: I32, semnum: I32, cmd: Command, arg: Hex) -> int:
    """Tell, change or remove a semaphore set."""
    if semid < 0:
        raise Errno(EINVAL)
    who, table = t.credentials, t.kernel.ipc.semaphores
    codec = codec_of(SemidDs)
    if cmd in (abi.IPC_RMID, abi.IPC_SET):
        given = codec.unpack(t.memory.read(arg, codec.size)) if cmd == abi.IPC_SET else None
        found = table.find(semid)
        found.need_owner(who)
        if given is None:
            table.remove(found)
        else:
            found.uid, found.gid, found.mode, found.changed = given.uid, given.gid, given.mode & 0o777, seconds(t)
        return 0
    if cmd not in abi.SEM_COMMANDS:
        raise Errno(EINVAL)
    if cmd in (abi.IPC_INFO, abi.SEM_INFO):
        return _info(t, cmd, arg)
    if cmd in (abi.IPC_STAT, abi.SEM_STAT, abi.SEM_STAT_ANY):
        return _stat(t, semid, cmd, arg)
    found = table.find(semid)
    if cmd in (abi.GETALL, abi.SETALL):
        return _all(t, found, cmd, arg)
    return _one(t, found, semnum, cmd, arg)


def _all(t: Thread, found: Semaphores, cmd: int, arg: int) -> int:
    found.need(t.credentials, READ if cmd == abi.GETALL else WRITE)
    form = struct.Struct(f"<{len(found.values)}H")
    t.moved += form.size
    if cmd == abi.GETALL:
        t.memory.write(arg, form.pack(*found.values))
        return 0
    values = form.unpack(t.memory.read(arg, form.size))
    if max(values) > abi.SEMVMX:
        raise Errno(ERANGE)
    found.values = list(values)
    found.pids = [t.process.pid] * len(values)
    found.undo.clear()
    found.changed = seconds(t)
    found.queue.wake()
    return 0


def _one(t: Thread, found: Semaphores, number: int, cmd: int, arg: int) -> int:
    value = (arg ^ 0x80000000) - 0x80000000
    if cmd == abi.SETVAL and not 0 <= value <= abi.SEMVMX:
        raise Errno(ERANGE)
    if cmd != abi.SETVAL:
        found.need(t.credentials, READ)
    if not 0 <= number < len(found.values):
        raise Errno(EINVAL)
    if cmd == abi.GETVAL:
        return found.values[number]
    if cmd == abi.GETPID:
        return found.pids[number]
    if cmd in (abi.GETNCNT, abi.GETZCNT):
        waiting = [thread.call.state.get("blocked") for thread in found.queue if thread.call is not None]
        return waiting.count((number, cmd == abi.GETZCNT))
    found.need(t.credentials, WRITE)
    found.values[number], found.pids[number] = value, t.process.pid
    for undo in found.undo.values():
        undo.pop(number, None)
    found.changed = seconds(t)
    found.queue.wake()
    return 0


def _stat(t: Thread, semid: int, cmd: int, arg: int) -> int:
    """IPC_STAT, and the same by a place in the table."""
    table, by_id = t.kernel.ipc.semaphores, cmd == abi.IPC_STAT
    found = table.find(semid) if by_id else table.at(semid)
    if cmd != abi.SEM_STAT_ANY:
        found.need(t.credentials, READ)
    ds = SemidDs(*found.perm, found.operated, 0, found.changed, 0, len(found.values))
    t.memory.write(arg, codec_of(SemidDs).pack(ds))
    return 0 if by_id else found.id


def _info(t: Thread, cmd: int, arg: int) -> int:
    """Limits; with SEM_INFO what is there in their places. The last place taken."""
    table = t.kernel.ipc.semaphores
    there = cmd == abi.SEM_INFO
    used = len(table) if there else 20
    most = sum(len(found.values) for found in table.all()) if there else abi.SEMVMX
    all_of_them = abi.SEMMNI * abi.SEMMSL
    words = (
        all_of_them, abi.SEMMNI, all_of_them, all_of_them, abi.SEMMSL, abi.SEMOPM, abi.SEMOPM, used, abi.SEMVMX, most
    )  # fmt: skip
    t.memory.write(arg, struct.pack("<10i", *words))
    return table.highest

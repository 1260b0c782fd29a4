"""Futexes, in 32-bit and time64 forms: futex(2)."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi.errno import EAGAIN, EINVAL, ENOSYS, ETIMEDOUT, Errno
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.time import NS, Timespec32, Timespec64
from aiopyvm.kernel.futex import MATCH_ANY, Key
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call, Cause, Restart, Wait
from aiopyvm.mem.layout import TASK_SIZE
from aiopyvm.syscalls.futexpi import cmp_requeue_pi, lock_pi, unlock_pi, wait_requeue_pi
from aiopyvm.syscalls.spec import U32, Choice, Ptr, syscall
from aiopyvm.syscalls.steps import call_of

WAIT, WAKE, FD, REQUEUE, CMP_REQUEUE, WAKE_OP = 0, 1, 2, 3, 4, 5
LOCK_PI, UNLOCK_PI, TRYLOCK_PI, WAIT_BITSET, WAKE_BITSET = 6, 7, 8, 9, 10
WAIT_REQUEUE_PI, CMP_REQUEUE_PI, LOCK_PI2 = 11, 12, 13
LOCKS_PI: Final = (LOCK_PI, TRYLOCK_PI, LOCK_PI2)
PRIVATE: Final = 128
CLOCK_REALTIME: Final = 256
COMMANDS: Final = {
    WAIT: "FUTEX_WAIT", WAKE: "FUTEX_WAKE", FD: "FUTEX_FD", REQUEUE: "FUTEX_REQUEUE", CMP_REQUEUE: "FUTEX_CMP_REQUEUE",
    WAKE_OP: "FUTEX_WAKE_OP", LOCK_PI: "FUTEX_LOCK_PI", UNLOCK_PI: "FUTEX_UNLOCK_PI", TRYLOCK_PI: "FUTEX_TRYLOCK_PI",
    WAIT_BITSET: "FUTEX_WAIT_BITSET", WAKE_BITSET: "FUTEX_WAKE_BITSET", WAIT_REQUEUE_PI: "FUTEX_WAIT_REQUEUE_PI",
    CMP_REQUEUE_PI: "FUTEX_CMP_REQUEUE_PI", LOCK_PI2: "FUTEX_LOCK_PI2",
}  # fmt: skip


def _operation_names() -> dict[int, str]:
    names = {}
    for number, name in COMMANDS.items():
        for private in (0, PRIVATE):
            for realtime in (0, CLOCK_REALTIME):
                text = name + ("_PRIVATE" if private else "") + ("|FUTEX_CLOCK_REALTIME" if realtime else "")
                names[number | private | realtime] = text
    return names


FutexOp = Annotated[int, Choice(_operation_names())]


@syscall(240, "futex", man="futex(2)")
def futex(t: Thread, uaddr: Ptr, op: FutexOp, val: U32, timeout: Ptr, uaddr2: Ptr, val3: U32) -> int | Wait:
    """Wait on a word of memory, or wake who waits."""
    return _futex(t, uaddr, op, val, timeout, uaddr2, val3, Timespec32)


@syscall(422, "futex_time64", man="futex(2)")
def futex_time64(t: Thread, uaddr: Ptr, op: FutexOp, val: U32, timeout: Ptr, uaddr2: Ptr, val3: U32) -> int | Wait:
    """futex with 64-bit time."""
    return _futex(t, uaddr, op, val, timeout, uaddr2, val3, Timespec64)


def _futex(
    t: Thread,
    uaddr: int,
    op: int,
    val: int,
    timeout: int,
    uaddr2: int,
    val3: int,
    time: type[Timespec32 | Timespec64],
) -> int | Wait:
    command = op & 127
    private = bool(op & PRIVATE)
    if op & CLOCK_REALTIME and command not in (WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2):
        raise Errno(ENOSYS)
    if command not in COMMANDS or command == FD:
        raise Errno(ENOSYS)
    if uaddr & 3:
        raise Errno(EINVAL)
    if command in (WAIT, WAIT_BITSET):
        bitset = val3 if command == WAIT_BITSET else MATCH_ANY
        absolute = command == WAIT_BITSET
        return _wait(t, uaddr, val, timeout, bitset, private, absolute, bool(op & CLOCK_REALTIME), time)
    if command == WAIT_REQUEUE_PI:
        if uaddr == uaddr2 or uaddr2 & 3:
            raise Errno(EINVAL)
        _set_deadline(t, timeout, True, bool(op & CLOCK_REALTIME), time)
        return wait_requeue_pi(t, uaddr, val, (_key(t, uaddr, private), _key(t, uaddr2, private)), uaddr2)
    futexes = t.kernel.futexes
    key = _key(t, uaddr, private)
    if command == UNLOCK_PI:
        return unlock_pi(t, uaddr, key)
    if command in LOCKS_PI:
        if command != TRYLOCK_PI:
            _set_deadline(t, timeout, True, command == LOCK_PI or bool(op & CLOCK_REALTIME), time)
        return lock_pi(t, uaddr, key, attempt=command == TRYLOCK_PI)
    if command != CMP_REQUEUE_PI and futexes.for_lock(key):
        raise Errno(EINVAL)  # who waits for a lock is not to be woken
    if command == WAKE:
        return futexes.wake(key, _count(val))
    if command == WAKE_BITSET:
        if not val3:
            raise Errno(EINVAL)
        return futexes.wake(key, _count(val), val3)
    if uaddr2 & 3:
        raise Errno(EINVAL)
    to = _key(t, uaddr2, private)
    if command == WAKE_OP:
        return _wake_op(t, key, to, uaddr2, val, timeout, val3)
    signed = [(word ^ 0x80000000) - 0x80000000 for word in (val, timeout)]
    if min(signed) < 0:
        raise Errno(EINVAL)
    if command == CMP_REQUEUE and t.memory.load(uaddr, 4) != val3:
        raise Errno(EAGAIN)
    if command == CMP_REQUEUE_PI:
        if uaddr == uaddr2 or val != 1:
            raise Errno(EINVAL)
        if t.memory.load(uaddr, 4) != val3:
            raise Errno(EAGAIN)
        return cmp_requeue_pi(t, uaddr2, key, to, timeout)
    woken = futexes.wake(key, val)
    moved = futexes.requeue(key, to, timeout)
    return woken + moved if command == CMP_REQUEUE else woken


def _key(t: Thread, address: int, private: bool) -> Key:
    """Return what identifies a futex to be woken. Raises MemoryFault where a shared one has no page."""
    if not private or address >= TASK_SIZE:
        t.memory.probe(address, 4, False)
    return t.kernel.futexes.key(t, address, private)


def _count(val: int) -> int:
    """How many to wake: Linux wakes one where none or fewer are asked for."""
    return val if 0 < val < 0x80000000 else 1


def _wait(
    t: Thread,
    uaddr: int,
    val: int,
    timeout: int,
    bitset: int,
    private: bool,
    absolute: bool,
    realtime: bool,
    time: type[Timespec32 | Timespec64],
) -> int | Wait:
    call = t.call
    assert call is not None
    if "key" not in call.state:
        _begin_wait(t, call, uaddr, timeout, bitset, private, absolute, realtime, time)
        if t.memory.load(uaddr, 4) != val:
            raise Errno(EAGAIN)
    elif call.woken is Cause.WOKEN:
        return 0
    elif call.woken is Cause.TIMEOUT:
        raise Errno(ETIMEDOUT)
    queue = t.kernel.futexes.queue(call.state["key"])
    restart = Restart.SYS if call.deadline is None else Restart.BLOCK
    return Wait((queue,), call.deadline, restart, reason=f"the futex at {uaddr:#x}")


def _begin_wait(
    t: Thread,
    call: Call,
    uaddr: int,
    timeout: int,
    bitset: int,
    private: bool,
    absolute: bool,
    realtime: bool,
    time: type[Timespec32 | Timespec64],
) -> None:
    _set_deadline(t, timeout, absolute, realtime, time)
    if not bitset:
        raise Errno(EINVAL)
    t.memory.probe(uaddr, 4, False)
    call.state["bitset"] = bitset
    call.state["key"] = t.kernel.futexes.key(t, uaddr, private)


def _set_deadline(t: Thread, timeout: int, absolute: bool, realtime: bool, time: type[Timespec32 | Timespec64]) -> None:
    """Read the time at `timeout`, if that is not 0, when the call begins. Raises Errno(EINVAL) and MemoryFault."""
    call = call_of(t)
    if timeout and call.deadline is None:
        codec = codec_of(time)
        spec = codec.unpack(t.memory.read(timeout, codec.size))
        if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
            raise Errno(EINVAL)
        given, now = spec.tv_sec * NS + spec.tv_nsec, t.kernel.clock.monotonic_ns()
        if absolute and realtime:
            given -= t.kernel.clock.realtime_ns()
        call.deadline = given if absolute and not realtime else given + now


def _wake_op(t: Thread, key: Key, to: Key, uaddr2: int, val: int, val2: int, op: int) -> int:
    operation, comparison = op >> 28 & 15, op >> 24 & 15
    argument, wanted = (_sign12(op >> 12 & 0xFFF), _sign12(op & 0xFFF))
    if operation & 8:
        argument = 1 << (argument & 31)
        operation &= 7
    t.memory.probe(uaddr2, 4, True)
    old = t.memory.load(uaddr2, 4)
    argument &= 0xFFFFFFFF
    results = (argument, old + argument, old | argument, old & ~argument, old ^ argument)
    if operation >= len(results) or comparison > 5:
        raise Errno(ENOSYS)
    t.memory.store(uaddr2, 4, results[operation] & 0xFFFFFFFF)
    value = (old ^ 0x80000000) - 0x80000000
    holds = (value == wanted, value != wanted, value < wanted, value <= wanted, value > wanted, value >= wanted)
    futexes = t.kernel.futexes
    woken = futexes.wake(key, _count(val))
    if holds[comparison]:
        woken += futexes.wake(to, _count(val2))
    return woken


def _sign12(value: int) -> int:
    return (value ^ 0x800) - 0x800

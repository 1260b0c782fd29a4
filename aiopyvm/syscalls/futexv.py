"""Waiting for one of several futexes: futex_waitv(2)."""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.abi.errno import EAGAIN, EFAULT, EINVAL, ETIMEDOUT, Errno
from aiopyvm.abi.time import CLOCK_MONOTONIC, CLOCK_REALTIME, NS, Timespec64
from aiopyvm.kernel.futex import Key
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Wait
from aiopyvm.mem.layout import TASK_SIZE
from aiopyvm.syscalls.futex import PRIVATE
from aiopyvm.syscalls.spec import I32, U32, Hex, In, Ptr, syscall
from aiopyvm.syscalls.steps import call_of

MAX_WAITERS: Final = 128
SIZE_U32: Final = 2  # of FUTEX2_SIZE_MASK: the only size there is
_WAITER: Final = struct.Struct("<QQII")  # struct futex_waitv: value, address, flags, reserved


@syscall(449, "futex_waitv", man="futex_waitv(2)")
def futex_waitv(
    t: Thread, waiters: Ptr, nr_futexes: U32, flags: Hex, timeout: In[Timespec64], clockid: I32
) -> int | Wait:
    """Wait on words of memory; the number of the one that was woken. `timeout` is a time of the clock."""
    call = call_of(t)
    if "keys" not in call.state:
        if flags or not 0 < nr_futexes <= MAX_WAITERS or not waiters:
            raise Errno(EINVAL)
        if timeout:
            call.deadline = _deadline(t, timeout, clockid)
        call.state["keys"] = _keys(t, waiters, nr_futexes)
    keys: list[Key] = call.state["keys"]
    queues = [t.kernel.futexes.queue(key) for key in keys]
    if call.woken is Cause.WOKEN and call.queue is not None:
        number = call.state["queues"].index(call.queue)
        assert isinstance(number, int)
        return number
    if call.deadline is not None and (call.woken is Cause.TIMEOUT or call.deadline <= t.kernel.clock.monotonic_ns()):
        raise Errno(ETIMEDOUT)
    call.state["queues"] = queues
    return Wait(tuple(dict.fromkeys(queues)), call.deadline, reason=f"one of {len(keys)} futexes")


def _deadline(t: Thread, timeout: In[Timespec64], clockid: int) -> int:
    """Return it in ns, monotonic. Raises Errno(EINVAL) and MemoryFault."""
    if clockid not in (CLOCK_MONOTONIC, CLOCK_REALTIME):
        raise Errno(EINVAL)
    spec = timeout.get()
    if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
        raise Errno(EINVAL)
    clock = t.kernel.clock
    shift = clock.realtime_ns() - clock.monotonic_ns() if clockid == CLOCK_REALTIME else 0
    return spec.tv_sec * NS + spec.tv_nsec - shift


def _keys(t: Thread, waiters: int, count: int) -> list[Key]:
    """Return what identifies the futexes. Raises Errno: EINVAL, EAGAIN for another value; and MemoryFault."""
    keys = []
    entries = list(_WAITER.iter_unpack(t.memory.read(waiters, count * _WAITER.size)))
    for _, address, flags, reserved in entries:
        if flags & ~PRIVATE != SIZE_U32 or reserved or address & 3:
            raise Errno(EINVAL)
    for value, address, flags, _ in entries:
        if address >= TASK_SIZE:
            raise Errno(EFAULT)
        if t.memory.load(address, 4) != value & 0xFFFFFFFF:
            raise Errno(EAGAIN)
        keys.append(t.kernel.futexes.key(t, address, bool(flags & PRIVATE)))
    return keys

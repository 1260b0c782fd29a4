"""Waiting for several files: poll(2), select(2) and their forms with a signal mask."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from aiopyvm.abi.errno import EBADF, EINVAL, Errno
from aiopyvm.abi.poll import (
    POLLERR,
    POLLFD,
    POLLHUP,
    POLLNVAL,
    SELECT_EXCEPT,
    SELECT_IN,
    SELECT_OUT,
)
from aiopyvm.kernel.file import File
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait, WaitQueue
from aiopyvm.syscalls.spec import I32, U32, Ptr, Size, syscall
from aiopyvm.syscalls.steps import call_of

_POLLFD = struct.Struct(POLLFD)
TIMESPEC32 = "<ii"
TIMESPEC64 = "<qi4x"
_FOREVER = 1 << 62  # nanoseconds: longer than any guest lives


# --- times and masks --------------------------------------------------------------------------------------------------


def _nanoseconds(seconds: int, rest: int, unit: int) -> int:
    """Return a timeout in nanoseconds. Raises Errno(EINVAL)."""
    if seconds < 0 or rest < 0 or (unit == 1 and rest >= 10**9):
        raise Errno(EINVAL)
    return min(seconds * 10**9 + rest * unit, _FOREVER)


def _read_timeout(t: Thread, address: int, fmt: str, unit: int) -> int | None:
    """Return the timeout at `address` in nanoseconds; None when it is NULL. Raises Errno(EINVAL) and MemoryFault."""
    if not address:
        return None
    seconds, rest = struct.unpack(fmt, t.memory.read(address, struct.calcsize(fmt)))
    return _nanoseconds(seconds, rest, unit)


def _begins(t: Thread) -> bool:
    """Whether the call in progress is asked this for the first time."""
    state = call_of(t).state
    begins = "begun" not in state
    state["begun"] = True
    return begins


def _write_rest(t: Thread, address: int, fmt: str, unit: int) -> None:
    """Store how much of the timeout is left, as Linux does."""
    deadline = call_of(t).deadline
    if address and deadline is not None:
        left = max(0, deadline - t.kernel.clock.monotonic_ns())
        t.memory.write(address, struct.pack(fmt, left // 10**9, left % 10**9 // unit))


def _set_mask(t: Thread, address: int, size: int) -> None:
    """Put the signal set at `address` in force for the length of the call. Raises Errno(EINVAL) and MemoryFault."""
    if not address:
        return
    if size != 8:
        raise Errno(EINVAL)
    t.put_mask_for_call(int.from_bytes(t.memory.read(address, 8), "little"))


def _wait(t: Thread, timeout: int | None, files: Iterable[tuple[File, int]], restart: Restart) -> Wait | None:
    """Return what to wait for; None when the time is up."""
    call = call_of(t)
    now = t.kernel.clock.monotonic_ns()
    if call.deadline is None and timeout is not None:
        call.deadline = now + timeout
    if call.deadline is not None and (call.woken is Cause.TIMEOUT or call.deadline <= now):
        return None
    queues: dict[WaitQueue, None] = {}
    for file, events in files:
        queues.update(dict.fromkeys(file.queues(events)))
    return Wait(tuple(queues), call.deadline, restart, f"{len(queues)} files" if len(queues) != 1 else "a file")


# --- poll -------------------------------------------------------------------------------------------------------------


def _poll(t: Thread, address: int, nfds: int, timeout: int | None, restart: Restart) -> int | Wait:
    if nfds > max(t.process.fds.limit, t.process.fds.capacity):
        raise Errno(EINVAL)
    table = list(_POLLFD.iter_unpack(t.memory.read(address, 8 * nfds))) if nfds else []
    ready = 0
    answers: list[int] = []
    waited: list[tuple[File, int]] = []
    for fd, events, _ in table:
        file = t.process.fds.find(fd) if fd >= 0 else None
        if file is None:
            answers.append(POLLNVAL if fd >= 0 else 0)
        else:
            wanted = events & 0xFFFF | POLLERR | POLLHUP
            answers.append(file.poll() & wanted)
            waited.append((file, wanted))
        ready += answers[-1] != 0
    if not ready:
        wait = _wait(t, timeout, waited, restart)
        if wait is not None:
            return wait
    t.moved += 8 * nfds
    answered = [_POLLFD.pack(fd, events, answer) for (fd, events, _), answer in zip(table, answers, strict=True)]
    if answered:
        t.memory.write(address, b"".join(answered))
    return ready


@syscall(168, "poll", man="poll(2)")
def poll(t: Thread, fds: Ptr, nfds: U32, timeout: I32) -> int | Wait:
    """Wait until a file is ready, `timeout` milliseconds at most (negative: for ever)."""
    return _poll(t, fds, nfds, timeout * 10**6 if timeout >= 0 else None, Restart.BLOCK)


def _ppoll(t: Thread, fds: int, nfds: int, tsp: int, mask: int, size: int, fmt: str) -> int | Wait:
    timeout = None
    if _begins(t):
        timeout = _read_timeout(t, tsp, fmt, 1)
        _set_mask(t, mask, size)
    result = _poll(t, fds, nfds, timeout, Restart.NOHAND)
    if not isinstance(result, Wait) or call_of(t).woken is Cause.SIGNAL:
        _write_rest(t, tsp, fmt, 1)
    return result


@syscall(309, "ppoll", man="poll(2)")
def ppoll(t: Thread, fds: Ptr, nfds: U32, tmo_p: Ptr, sigmask: Ptr, sigsetsize: Size) -> int | Wait:
    """Like poll, with a timespec and a signal mask."""
    return _ppoll(t, fds, nfds, tmo_p, sigmask, sigsetsize, TIMESPEC32)


@syscall(414, "ppoll_time64", man="poll(2)")
def ppoll_time64(t: Thread, fds: Ptr, nfds: U32, tmo_p: Ptr, sigmask: Ptr, sigsetsize: Size) -> int | Wait:
    """Like ppoll, with 64-bit seconds."""
    return _ppoll(t, fds, nfds, tmo_p, sigmask, sigsetsize, TIMESPEC64)


# --- select -----------------------------------------------------------------------------------------------------------

_SETS = (SELECT_IN, SELECT_OUT, SELECT_EXCEPT)


def _select(t: Thread, nfds: int, addresses: tuple[int, int, int], timeout: int | None) -> int | Wait:
    if nfds < 0:
        raise Errno(EINVAL)
    nfds = min(nfds, t.process.fds.capacity)
    size = (nfds + 31) // 32 * 4
    mask = (1 << nfds) - 1
    sets = [int.from_bytes(t.memory.read(a, size), "little") & mask if a and size else 0 for a in addresses]
    answers = [0, 0, 0]
    waited: list[tuple[File, int]] = []
    wanted = sets[0] | sets[1] | sets[2]
    while wanted:
        bit = wanted & -wanted
        wanted ^= bit
        file = t.process.fds.find(bit.bit_length() - 1)
        if file is None:
            raise Errno(EBADF)
        events = file.poll()
        asked = 0
        for i in range(3):
            if sets[i] & bit:
                asked |= _SETS[i]
                answers[i] |= bit if events & _SETS[i] else 0
        waited.append((file, asked))
    ready = sum(answer.bit_count() for answer in answers)
    if not ready:
        wait = _wait(t, timeout, waited, Restart.NOHAND)
        if wait is not None:
            return wait
    for address, answer in zip(addresses, answers, strict=True):
        if address and size:
            t.memory.write(address, answer.to_bytes(size, "little"))
    t.moved += 3 * size
    return ready


def _timed_select(t: Thread, nfds: int, addresses: tuple[int, int, int], tp: int, fmt: str, unit: int) -> int | Wait:
    timeout = _read_timeout(t, tp, fmt, unit) if _begins(t) else None
    result = _select(t, nfds, addresses, timeout)
    if not isinstance(result, Wait) or call_of(t).woken is Cause.SIGNAL:
        _write_rest(t, tp, fmt, unit)
    return result


@syscall(142, "_newselect", man="select(2)")
def newselect(t: Thread, nfds: I32, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Ptr) -> int | Wait:
    """Wait until a file of one of three sets is ready."""
    return _timed_select(t, nfds, (readfds, writefds, exceptfds), timeout, TIMESPEC32, 1000)


@syscall(82, "select", man="select(2)")
def select(t: Thread, args: Ptr) -> int | Wait:
    """Like _newselect, the five arguments in memory."""
    nfds, readfds, writefds, exceptfds, timeout = struct.unpack("<iIIII", t.memory.read(args, 20))
    return _timed_select(t, nfds, (readfds, writefds, exceptfds), timeout, TIMESPEC32, 1000)


def _pselect(t: Thread, nfds: int, addresses: tuple[int, int, int], tp: int, mask: int, fmt: str) -> int | Wait:
    if mask and call_of(t).saved_mask is None:
        address, size = struct.unpack("<II", t.memory.read(mask, 8))
        if tp:
            _read_timeout(t, tp, fmt, 1)
        _set_mask(t, address, size)
    return _timed_select(t, nfds, addresses, tp, fmt, 1)


@syscall(308, "pselect6", man="select(2)")
def pselect6(
    t: Thread, nfds: I32, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Ptr, sigmask: Ptr
) -> int | Wait:
    """Like _newselect, with a timespec and a signal mask."""
    return _pselect(t, nfds, (readfds, writefds, exceptfds), timeout, sigmask, TIMESPEC32)


@syscall(413, "pselect6_time64", man="select(2)")
def pselect6_time64(
    t: Thread, nfds: I32, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Ptr, sigmask: Ptr
) -> int | Wait:
    """Like pselect6, with 64-bit seconds."""
    return _pselect(t, nfds, (readfds, writefds, exceptfds), timeout, sigmask, TIMESPEC64)

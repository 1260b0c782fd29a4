"""epoll_create(2), epoll_ctl(2), epoll_wait(2); the instances are `kernel/epoll.py`."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from aiopyvm.abi import poll as abi
from aiopyvm.abi.errno import EFAULT, EINVAL, EPERM, Errno
from aiopyvm.abi.fcntl import O_CLOEXEC
from aiopyvm.abi.layout import layout
from aiopyvm.abi.time import NS, Timespec64
from aiopyvm.kernel.epoll import Epoll
from aiopyvm.kernel.file import File
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import TASK_SIZE
from aiopyvm.syscalls.files import OpenFlags, give
from aiopyvm.syscalls.spec import I32, Array, Choice, Fd, In, Ptr, Size, syscall
from aiopyvm.syscalls.steps import call_of
from aiopyvm.syscalls.transfer import open_file

Operation = Annotated[
    int,
    Choice(
        {abi.EPOLL_CTL_ADD: "EPOLL_CTL_ADD", abi.EPOLL_CTL_DEL: "EPOLL_CTL_DEL", abi.EPOLL_CTL_MOD: "EPOLL_CTL_MOD"}
    ),
]

EVENT_BYTES: Final = 12
MAX_TOLD: Final = 1024  # events that one call tells at most, so that its work is bounded
EXCLUSIVE_OK: Final = (
    abi.POLLIN | abi.POLLOUT | abi.POLLERR | abi.POLLHUP | abi.EPOLLWAKEUP | abi.EPOLLET | abi.EPOLLEXCLUSIVE
)


@layout("<IQ")
class EpollEvent(NamedTuple):
    """struct epoll_event of i386."""

    events: int
    data: int


@syscall(254, "epoll_create", man="epoll_create(2)")
def epoll_create(t: Thread, size: I32) -> int:
    """Open an epoll instance; `size` must be positive and says nothing else."""
    if size <= 0:
        raise Errno(EINVAL)
    return give(t, Epoll(t.kernel.budget))


@syscall(329, "epoll_create1", man="epoll_create(2)")
def epoll_create1(t: Thread, flags: OpenFlags) -> int:
    """Open an epoll instance."""
    if flags & ~O_CLOEXEC:
        raise Errno(EINVAL)
    return give(t, Epoll(t.kernel.budget), cloexec=bool(flags & O_CLOEXEC))


@syscall(255, "epoll_ctl", man="epoll_ctl(2)")
def epoll_ctl(t: Thread, epfd: Fd, op: Operation, fd: Fd, event: In[EpollEvent]) -> int:
    """Change what an instance watches."""
    events, data = event.get() if op != abi.EPOLL_CTL_DEL else EpollEvent(0, 0)
    epoll, file = t.process.fds.get(epfd), t.process.fds.get(fd)
    if not file.pollable:
        raise Errno(EPERM)
    events &= ~abi.EPOLLWAKEUP
    if epoll is file or not isinstance(epoll, Epoll):
        raise Errno(EINVAL)
    if events & abi.EPOLLEXCLUSIVE:
        _check_exclusive(op, file, events)
    match op:
        case abi.EPOLL_CTL_ADD:
            epoll.add(file, fd, events, data)
        case abi.EPOLL_CTL_DEL:
            epoll.remove(file, fd)
        case abi.EPOLL_CTL_MOD:
            epoll.modify(file, fd, events, data)
        case _:
            raise Errno(EINVAL)
    return 0


def _check_exclusive(op: int, file: File, events: int) -> None:
    if op == abi.EPOLL_CTL_MOD or (op == abi.EPOLL_CTL_ADD and (isinstance(file, Epoll) or events & ~EXCLUSIVE_OK)):
        raise Errno(EINVAL)


# --- waiting ----------------------------------------------------------------------------------------------------------


@syscall(256, "epoll_wait", man="epoll_wait(2)")
def epoll_wait(t: Thread, epfd: Fd, events: Array[EpollEvent], maxevents: I32, timeout: I32) -> int | Wait:
    """Wait until a watched file is ready, `timeout` milliseconds at most (negative: for ever)."""
    return _wait(t, epfd, events, maxevents, timeout * 10**6 if timeout >= 0 else None)


@syscall(319, "epoll_pwait", man="epoll_wait(2)")
def epoll_pwait(
    t: Thread, epfd: Fd, events: Array[EpollEvent], maxevents: I32, timeout: I32, sigmask: Ptr, sigsetsize: Size
) -> int | Wait:
    """epoll_wait with a signal mask."""
    _set_mask(t, sigmask, sigsetsize)
    return _wait(t, epfd, events, maxevents, timeout * 10**6 if timeout >= 0 else None)


@syscall(441, "epoll_pwait2", man="epoll_wait(2)")
def epoll_pwait2(
    t: Thread, epfd: Fd, events: Array[EpollEvent], maxevents: I32, timeout: In[Timespec64], sigmask: Ptr,
    sigsetsize: Size,
) -> int | Wait:  # fmt: skip
    """epoll_pwait with a time in nanoseconds."""
    state = call_of(t).state
    if "timeout" not in state:
        state["timeout"] = _nanoseconds(timeout)
    _set_mask(t, sigmask, sigsetsize)
    return _wait(t, epfd, events, maxevents, state["timeout"])


def _nanoseconds(timeout: In[Timespec64]) -> int | None:
    if not timeout:
        return None
    spec = timeout.get()
    if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
        raise Errno(EINVAL)
    return min(spec.tv_sec * NS + spec.tv_nsec, 1 << 62)


def _set_mask(t: Thread, mask: int, size: int) -> None:
    if mask and call_of(t).saved_mask is None:
        if size != 8:
            raise Errno(EINVAL)
        t.put_mask_for_call(int.from_bytes(t.memory.read(mask, 8), "little"))


def _wait(t: Thread, epfd: int, events: Array[EpollEvent], maxevents: int, timeout: int | None) -> int | Wait:
    if not 0 < maxevents <= 0x7FFFFFFF // EVENT_BYTES:
        raise Errno(EINVAL)
    if events.address + maxevents * EVENT_BYTES > TASK_SIZE:
        raise Errno(EFAULT)
    epoll = open_file(t, epfd)
    if not isinstance(epoll, Epoll):
        raise Errno(EINVAL)
    found = epoll.collect(min(maxevents, MAX_TOLD))
    if found:
        try:
            events.put([EpollEvent(ready, watch.data) for watch, ready in found])
        except MemoryFault:
            epoll.take_back(found)
            raise
        epoll.told(found)
        t.moved += len(found) * 64
        return len(found)
    call, now = call_of(t), t.kernel.clock.monotonic_ns()
    if call.deadline is None and timeout is not None:
        call.deadline = now + timeout
    if call.deadline is not None and (call.woken is Cause.TIMEOUT or call.deadline <= now):
        return 0
    return Wait((epoll.queue,), call.deadline, Restart.EINTR, "watched files")

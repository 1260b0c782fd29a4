"""POSIX message queues: mq_open(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2); see `kernel/mqueue.py`."""

from __future__ import annotations

from aiopyvm.abi.errno import (
    EACCES,
    EAGAIN,
    EBADF,
    EEXIST,
    EINVAL,
    EMSGSIZE,
    ENAMETOOLONG,
    ENOENT,
    EPERM,
    ETIMEDOUT,
    Errno,
)
from aiopyvm.abi.fcntl import NAME_MAX, O_ACCMODE, O_CREAT, O_EXCL, O_NONBLOCK
from aiopyvm.abi.signal import NSIG
from aiopyvm.abi.time import NS, Timespec32, Timespec64
from aiopyvm.kernel.mqueue import (
    ACCESS,
    ATTRIBUTES,
    MAX_MESSAGES,
    MAX_SIZE,
    PRIORITIES,
    MessageQueue,
    MqFile,
    Told,
    make_queue,
)
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait, WaitQueue
from aiopyvm.syscalls.files import OpenFlags, give
from aiopyvm.syscalls.spec import U32, CStr, Fd, Hex, In, InBuffer, Mode, Out, OutBuffer, Ptr, Size, syscall
from aiopyvm.syscalls.steps import call_of
from aiopyvm.syscalls.timers import SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SigEvent
from aiopyvm.syscalls.transfer import open_file


def _check_name(name: bytes) -> None:
    """Raise Errno for what is no name of a queue; libraries take the leading slash away."""
    if not name:
        raise Errno(ENOENT)
    if len(name) > NAME_MAX:
        raise Errno(ENAMETOOLONG)
    if b"/" in name or name in (b".", b".."):
        raise Errno(EACCES)


@syscall(277, "mq_open", man="mq_open(3)", note="at most 10 messages of 8192 bytes in one")
def mq_open(t: Thread, name: CStr, oflag: OpenFlags, mode: Mode, attr: Ptr) -> int:
    """Open or make a message queue."""
    attributes = ATTRIBUTES.unpack(t.memory.read(attr, ATTRIBUTES.size)) if attr else None
    _check_name(name)
    t.process.fds.need_free()
    table = t.kernel.mqueues
    queue = table.by_name.get(name)
    if queue is None:
        if not oflag & O_CREAT:
            raise Errno(ENOENT)
        queue = _make(t, name, mode & ~t.fs.umask, attributes)
    elif oflag & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL:
        raise Errno(EEXIST)
    else:
        _check_access(t, queue, oflag)
    return give(t, MqFile(queue, name, oflag & (O_ACCMODE | O_NONBLOCK)), cloexec=True)


def _check_access(t: Thread, queue: MessageQueue, oflag: int) -> None:
    """Raise Errno: EINVAL, EACCES."""
    if oflag & O_ACCMODE == O_ACCMODE:
        raise Errno(EINVAL)
    if not queue.allows(t.credentials, ACCESS[oflag & O_ACCMODE]):
        raise Errno(EACCES)


def _make(t: Thread, name: bytes, mode: int, attributes: tuple[int, ...] | None) -> MessageQueue:
    most, size = MAX_MESSAGES, MAX_SIZE
    if attributes is not None:
        _, most, size, _ = attributes
        if not 0 < most <= MAX_MESSAGES or not 0 < size <= MAX_SIZE:
            raise Errno(EINVAL)
    return make_queue(t, name, mode, most, size)


@syscall(278, "mq_unlink", man="mq_unlink(3)")
def mq_unlink(t: Thread, name: CStr) -> int:
    """Take a queue's name away."""
    _check_name(name)
    queue = t.kernel.mqueues.by_name.get(name)
    if queue is None:
        raise Errno(ENOENT)
    if t.credentials.euid not in (0, queue.uid):
        raise Errno(EPERM)
    t.kernel.mqueues.remove(name)
    return 0


# --- messages ---------------------------------------------------------------------------------------------------------


def _mq(t: Thread, fd: int) -> MqFile:
    file = open_file(t, fd)
    if not isinstance(file, MqFile):
        raise Errno(EBADF)
    return file


def _begin(t: Thread, timeout: In[Timespec32] | In[Timespec64]) -> None:
    """Note the deadline, once. Raises Errno(EINVAL) and MemoryFault."""
    call = call_of(t)
    if "begun" in call.state:
        return
    call.state["begun"] = True
    if timeout:
        spec = timeout.get()
        if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
            raise Errno(EINVAL)
        clock = t.kernel.clock
        call.deadline = spec.tv_sec * NS + spec.tv_nsec - clock.realtime_ns() + clock.monotonic_ns()


def _later(t: Thread, file: MqFile, queue: WaitQueue) -> Wait:
    """Return what to wait for. Raises Errno: EAGAIN, ETIMEDOUT."""
    call = call_of(t)
    if file.flags & O_NONBLOCK:
        raise Errno(EAGAIN)
    if call.deadline is not None and (call.woken is Cause.TIMEOUT or call.deadline <= t.kernel.clock.monotonic_ns()):
        raise Errno(ETIMEDOUT)
    return Wait((queue,), call.deadline, Restart.SYS, queue.name)


@syscall(279, "mq_timedsend", man="mq_send(3)")
def mq_timedsend(t: Thread, mqdes: Fd, msg: InBuffer, length: Size, prio: U32, timeout: In[Timespec32]) -> int | Wait:
    """Send a message; `timeout` is a time of day."""
    return _send(t, mqdes, msg, length, prio, timeout)


@syscall(418, "mq_timedsend_time64", man="mq_send(3)")
def mq_timedsend_time64(
    t: Thread, mqdes: Fd, msg: InBuffer, length: Size, prio: U32, timeout: In[Timespec64]
) -> int | Wait:
    """mq_timedsend with 64-bit time."""
    return _send(t, mqdes, msg, length, prio, timeout)


def _send(
    t: Thread, fd: int, address: int, length: int, prio: int, timeout: In[Timespec32] | In[Timespec64]
) -> int | Wait:
    _begin(t, timeout)
    if prio >= PRIORITIES:
        raise Errno(EINVAL)
    file = _mq(t, fd)
    file.need_writable()
    if length > file.queue.size:
        raise Errno(EMSGSIZE)
    text = t.memory.read(address, length) if length else b""
    try:
        file.queue.send(prio, text, t.process)
    except Errno as error:
        if error.number != EAGAIN:
            raise
        return _later(t, file, file.queue.writers)
    t.moved += length
    return 0


@syscall(280, "mq_timedreceive", man="mq_receive(3)")
def mq_timedreceive(
    t: Thread, mqdes: Fd, msg: OutBuffer, length: Size, prio: Out[U32], timeout: In[Timespec32]
) -> int | Wait:
    """Take the oldest message of the highest priority; `timeout` is a time of day."""
    return _receive(t, mqdes, msg, length, prio, timeout)


@syscall(419, "mq_timedreceive_time64", man="mq_receive(3)")
def mq_timedreceive_time64(
    t: Thread, mqdes: Fd, msg: OutBuffer, length: Size, prio: Out[U32], timeout: In[Timespec64]
) -> int | Wait:
    """mq_timedreceive with 64-bit time."""
    return _receive(t, mqdes, msg, length, prio, timeout)


def _receive(
    t: Thread, fd: int, address: int, length: int, prio: Out[U32], timeout: In[Timespec32] | In[Timespec64]
) -> int | Wait:
    _begin(t, timeout)
    file = _mq(t, fd)
    file.need_readable()
    if length < file.queue.size:
        raise Errno(EMSGSIZE)
    try:
        priority, text = file.queue.receive()
    except Errno:
        return _later(t, file, file.queue.readers)
    if prio:
        prio.put(priority)
    t.memory.write(address, text)
    t.moved += len(text)
    return len(text)


# --- attributes and notification --------------------------------------------------------------------------------------


@syscall(281, "mq_notify", man="mq_notify(3)", note="no SIGEV_THREAD")
def mq_notify(t: Thread, mqdes: Fd, sevp: In[SigEvent]) -> int:
    """Have a signal sent when a message comes to the empty queue, once."""
    event = sevp.get() if sevp else None
    if event is not None:
        if event.notify not in (SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD) or event.notify == SIGEV_THREAD:
            raise Errno(EINVAL)
        if event.notify == SIGEV_SIGNAL and not 0 <= event.signo <= NSIG:
            raise Errno(EINVAL)
    queue = _mq(t, mqdes).queue
    if event is not None:
        signo = event.signo if event.notify == SIGEV_SIGNAL else 0
        queue.tell(Told(t.process, event.notify, signo, event.value))
    elif queue.told is not None and queue.told.process is t.process:
        queue.told = None
    return 0


@syscall(282, "mq_getsetattr", man="mq_getsetattr(2)")
def mq_getsetattr(t: Thread, mqdes: Fd, newattr: Hex, oldattr: Hex) -> int:
    """Tell the attributes; set or clear O_NONBLOCK."""
    flags = None
    if newattr:
        flags, *_ = ATTRIBUTES.unpack(t.memory.read(newattr, ATTRIBUTES.size))
        if flags & ~O_NONBLOCK:
            raise Errno(EINVAL)
    file = _mq(t, mqdes)
    queue = file.queue
    before = ATTRIBUTES.pack(file.flags & O_NONBLOCK, queue.most, queue.size, len(queue.messages))
    if flags is not None:
        file.flags = file.flags & ~O_NONBLOCK | flags
    if oldattr:
        t.memory.write(oldattr, before)
    return 0

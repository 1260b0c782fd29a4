"""POSIX message queues (mq_overview(7)): named, with messages by priority, and a signal for the first that comes.

What always holds. A queue lives until its name is gone and nobody has it open. Messages are charged to the budget
when they are sent, the room that a queue could take to its maker's RLIMIT_MSGQUEUE.
"""

from __future__ import annotations

import bisect
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.errno import EAGAIN, EBUSY, EMFILE, ENOMEM, Errno
from aiopyvm.abi.fcntl import R_OK, SEEK_END, SEEK_SET, W_OK
from aiopyvm.abi.poll import READABLE, WRITABLE
from aiopyvm.abi.resource import RLIMIT_MSGQUEUE
from aiopyvm.abi.signal import SI_MESGQ, SigInfo
from aiopyvm.abi.stat import S_IFREG, Stat
from aiopyvm.kernel.fsfile import EndlessFile
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.fdtable import FdTable
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.mqueuefs import MqueueDirectory, QueueNode
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.process import Credentials, Process
    from aiopyvm.kernel.thread import Thread

QUEUE_BYTES: Final = 1024  # of the budget, for each queue
MESSAGE_BYTES: Final = 128  # and for each message, beside its text
PRIORITIES: Final = 32768
MAX_MESSAGES: Final = 10  # of a queue (/proc/sys/fs/mqueue/msg_max)
MAX_SIZE: Final = 8192  # of a message
DEVICE: Final = 18
FILE_SIZE: Final = 80  # of a queue's file, as stat(2) shows it


class Told(NamedTuple):
    """Who is told of the first message, and how: `kind` is SIGEV_*, `signo` 0 where that is no signal."""

    process: Process
    kind: int
    signo: int
    value: int


class MessageQueue:
    """One queue. Its messages are (-priority, number, text), in the order in which they are received."""

    def __init__(self, kernel: Kernel, who: Credentials, mode: int, most: int, size: int, room: int) -> None:
        self._kernel = kernel
        self.uid, self.gid, self.mode = who.euid, who.egid, mode & 0o777
        self.most = most
        self.size = size
        self.messages: list[tuple[int, int, bytes]] = []
        self.told: Told | None = None
        self.readers = WaitQueue("a message")
        self.writers = WaitQueue("room for a message")
        self.named = True
        self.opens = 0
        self.node: QueueNode | None = None  # in /dev/mqueue, once somebody has looked
        self.shown_size = FILE_SIZE
        self.atime = self.mtime = self.ctime = kernel.clock.realtime_ns()
        self._sent = 0
        table = kernel.mqueues
        if table.room(who.uid) + most * (size + MESSAGE_BYTES) > room:
            raise Errno(EMFILE)
        if not kernel.charge(QUEUE_BYTES):
            raise Errno(ENOMEM)
        self.maker = who.uid
        table.numbers += 1
        self.number = table.numbers

    @property
    def weight(self) -> int:
        """Bytes that it could take."""
        return self.most * (self.size + MESSAGE_BYTES)

    @property
    def size_bytes(self) -> int:
        """Bytes of all messages that are in it."""
        return sum(len(text) for _, _, text in self.messages)

    def stat(self) -> Stat:
        """The attributes of its file, a regular one."""
        atime, mtime, ctime = self.atime, self.mtime, self.ctime
        mode, links = S_IFREG | self.mode, int(self.named)
        return Stat(
            self.number, mode, links, self.uid, self.gid, self.shown_size, atime, mtime, ctime, ctime, dev=DEVICE
        )

    def text(self) -> bytes:
        """What its file has to read."""
        told = self.told
        kind, signo, pid = (told.kind, told.signo, told.process.pid) if told is not None else (0, 0, 0)
        return b"QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n" % (self.size_bytes, kind, signo, pid)

    def allows(self, who: Credentials, mask: int) -> bool:
        """Whether `who` has R_OK and W_OK as in `mask`."""
        mode = self.mode
        if who.euid == self.uid:
            mode >>= 6
        elif self.gid in (who.egid, *who.groups):
            mode >>= 3
        return who.euid == 0 or mode & mask == mask

    def send(self, priority: int, text: bytes, sender: Process) -> None:
        """Put a message in. Raises Errno: EAGAIN when it is full, ENOMEM."""
        if len(self.messages) >= self.most:
            raise Errno(EAGAIN)
        if not self._kernel.charge(len(text) + MESSAGE_BYTES):
            raise Errno(ENOMEM)
        self._sent += 1
        self.used()
        first = not self.messages
        bisect.insort(self.messages, (-priority, self._sent, text))
        waited = bool(self.readers.threads)
        self.readers.wake()
        told = self.told
        if first and not waited and told is not None:
            self.told = None
            if told.signo:
                who = sender.credentials.uid
                self._kernel.send_signal(told.process, SigInfo(told.signo, SI_MESGQ, sender.pid, who, value=told.value))

    def receive(self) -> tuple[int, bytes]:
        """Take the oldest message of the highest priority. Raises Errno(EAGAIN)."""
        if not self.messages:
            raise Errno(EAGAIN)
        priority, _, text = self.messages.pop(0)
        self.used()
        self._kernel.budget.charge(-len(text) - MESSAGE_BYTES)
        self.writers.wake()
        return -priority, text

    def used(self) -> None:
        """Its times are now."""
        self.atime = self.mtime = self.ctime = self._kernel.clock.realtime_ns()

    def tell(self, told: Told) -> None:
        """Let somebody be told of the next message that finds it empty. Raises Errno(EBUSY)."""
        if self.told is not None:
            raise Errno(EBUSY)
        self.told = told

    def end_if_unused(self) -> None:
        """Give the memory back once neither a name nor an open file is left."""
        if not self.named and not self.opens:
            held = sum(len(text) + MESSAGE_BYTES for _, _, text in self.messages)
            self.messages = []
            self._kernel.budget.charge(-QUEUE_BYTES - held)
            self._kernel.mqueues.all.pop(self, None)


class MqFile(EndlessFile):
    """An open message queue. What is read tells of it."""

    pollable = True
    flushes = True

    def __init__(self, queue: MessageQueue, name: bytes, flags: int, inode: QueueNode | None = None) -> None:
        super().__init__(flags, inode)
        self.queue = queue
        self.name = b"/" + name
        queue.opens += 1

    def flush(self, table: FdTable) -> None:
        """A process that closes it is not told any more."""
        told = self.queue.told
        if told is not None and told.process.fds is table:
            self.queue.told = None

    def close(self) -> None:
        """Count it out."""
        self.queue.opens -= 1
        self.queue.end_if_unused()

    def pread(self, n: int, offset: int) -> bytes:
        """Return a part of the line that tells how many bytes are in it, and who is told."""
        return self.queue.text()[offset : offset + n]

    def seek(self, offset: int, whence: int) -> int:
        """Move the position. Raises Errno(EINVAL)."""
        if whence == SEEK_END:
            offset, whence = offset + self.queue.shown_size, SEEK_SET
        return super().seek(offset, whence)

    def truncate(self, size: int) -> None:
        """Have it shown as so long, which changes nothing else."""
        self.queue.shown_size = size

    def read(self, n: int) -> bytes:
        """As `pread` at the position."""
        data = self.pread(n, self.offset)
        self.offset += len(data)
        return data

    def poll(self) -> int:
        """Readable with a message, writable with room for one."""
        queue = self.queue
        return (READABLE if queue.messages else 0) | (WRITABLE if len(queue.messages) < queue.most else 0)

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return both queues."""
        return (self.queue.readers, self.queue.writers)

    def stat(self) -> Stat:
        """The queue's attributes."""
        return self.queue.stat()


def make_queue(t: Thread, name: bytes, mode: int, most: int, size: int) -> MessageQueue:
    """Make a queue of `most` messages of `size` bytes at most, with a name. Raises Errno: EMFILE, ENOMEM."""
    room = t.process.limits[RLIMIT_MSGQUEUE][0]
    queue = MessageQueue(t.kernel, t.credentials, mode, most, size, room)
    t.kernel.mqueues.add(name, queue)
    return queue


class MessageQueues:
    """The message queues of one kernel, by name; `all` has those without a name too."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.by_name: dict[bytes, MessageQueue] = {}
        self.all: dict[MessageQueue, None] = {}
        self.directory: MqueueDirectory | None = None  # /dev/mqueue, once somebody has looked
        self.numbers = 1  # st_ino

    def room(self, uid: int) -> int:
        """How many bytes the queues that a user made could take."""
        return sum(queue.weight for queue in self.all if queue.maker == uid)

    def add(self, name: bytes, queue: MessageQueue) -> None:
        """Enter a new queue."""
        self.by_name[name] = queue
        self.all[queue] = None

    def remove(self, name: bytes) -> None:
        """Take a name away."""
        queue = self.by_name.pop(name)
        queue.named = False
        queue.end_if_unused()

    def left(self, process: Process) -> None:
        """`process` has ended: nobody is to be told any more."""
        for queue in self.all:
            if queue.told is not None and queue.told.process is process:
                queue.told = None

    def clear(self) -> None:
        """The kernel has ended."""
        for name in tuple(self.by_name):
            self.remove(name)


ACCESS: Final = (R_OK, W_OK, R_OK | W_OK)  # by access mode of open(2)
ATTRIBUTES: Final = struct.Struct("<4i16x")  # struct mq_attr: flags, most messages, size of one, messages now

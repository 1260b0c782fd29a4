"""POSIX message queues (mq_overview(7)): named, with messages by priority, and a signal for the first that comes.

What always holds. A queue lives until its name is gone and nobody has it open. Messages are charged to the budget
when they are sent, the room that a queue could take to its maker's RLIMIT_MSGQUEUE.
"""

from __future__ import annotations

import bisect
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.errno import EAGAIN, EBUSY, EMFILE, ENOMEM, Errno
from aiopyvm.abi.fcntl import R_OK, W_OK
from aiopyvm.abi.poll import READABLE, WRITABLE
from aiopyvm.abi.signal import SI_MESGQ, SigInfo
from aiopyvm.abi.stat import S_IFREG, Stat
from aiopyvm.kernel.file import File
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.process import Credentials, Process

QUEUE_BYTES: Final = 1024  # of the budget, for each queue
MESSAGE_BYTES: Final = 128  # and for each message, beside its text
PRIORITIES: Final = 32768
MAX_MESSAGES: Final = 10  # of a queue (/proc/sys/fs/mqueue/msg_max)
MAX_SIZE: Final = 8192  # of a message
DEVICE: Final = 18


class Told(NamedTuple):
    """Who is told of the first message, and how: a signal, or (0) nothing."""

    process: Process
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
        self._sent = 0
        table = kernel.mqueues
        if table.room(who.uid) + most * (size + MESSAGE_BYTES) > room:
            raise Errno(EMFILE)
        if not kernel.charge(QUEUE_BYTES):
            raise Errno(ENOMEM)
        self.maker = who.uid

    @property
    def weight(self) -> int:
        """Bytes that it could take."""
        return self.most * (self.size + MESSAGE_BYTES)

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
        self._kernel.budget.charge(-len(text) - MESSAGE_BYTES)
        self.writers.wake()
        return -priority, text

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


class MqFile(File):
    """An open message queue."""

    seekable = False

    def __init__(self, queue: MessageQueue, name: bytes, flags: int) -> None:
        super().__init__(flags)
        self.queue = queue
        self.name = b"/" + name
        queue.opens += 1

    def close(self) -> None:
        """Count it out."""
        self.queue.opens -= 1
        self.queue.end_if_unused()

    def poll(self) -> int:
        """Readable with a message, writable with room for one."""
        queue = self.queue
        return (READABLE if queue.messages else 0) | (WRITABLE if len(queue.messages) < queue.most else 0)

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return both queues."""
        return (self.queue.readers, self.queue.writers)

    def stat(self) -> Stat:
        """A regular file's attributes."""
        queue = self.queue
        return Stat(ino=1, mode=S_IFREG | queue.mode, uid=queue.uid, gid=queue.gid, size=80, dev=DEVICE)


class MessageQueues:
    """The message queues of one kernel, by name; `all` has those without a name too."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.by_name: dict[bytes, MessageQueue] = {}
        self.all: dict[MessageQueue, None] = {}

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

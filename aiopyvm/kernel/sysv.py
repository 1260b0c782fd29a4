"""System V IPC objects (sysvipc(7)): shared memory, semaphore sets, message queues, by key and by identifier.

How it works. An identifier is a slot and a sequence number, as on Linux, so that one of a removed object is not soon
another's. What waits for an object waits on its queue; a removal wakes all, who find it `removed`. A segment that was
removed lives on in the mappings that show it: the table then holds it weakly.

What always holds. Objects and what they hold are charged to the kernel's budget, a segment's pages when touched.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from aiopyvm.abi import ipc as abi
from aiopyvm.abi.errno import EACCES, EEXIST, EIDRM, EINVAL, ENOENT, ENOSPC, EPERM, Errno
from aiopyvm.abi.ipc import IpcPerm
from aiopyvm.kernel.wait import WaitQueue
from aiopyvm.mem.backing import SharedBacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.process import Credentials, Process

SLOTS: Final = 32768
OBJECT_BYTES: Final = 1024  # of the budget, for each object
SEMAPHORE_BYTES: Final = 64
MESSAGE_BYTES: Final = 128  # beside the text
READ: Final = 0o444
WRITE: Final = 0o222


class Ipc:
    """What all objects have: a key, owners, permissions, the second of the last change (`changed`)."""

    def __init__(self, key: int, who: Credentials, mode: int, now: int, name: str, size_bytes: int = 0) -> None:
        self.key = key
        self.uid = self.cuid = who.euid
        self.gid = self.cgid = who.egid
        self.mode = mode & 0o777
        self.changed = now
        self.id = 0
        self.removed = False
        self.queue = WaitQueue(name)
        self.size_bytes = OBJECT_BYTES + size_bytes  # of the budget

    @property
    def perm(self) -> IpcPerm:
        """The structure that tells these."""
        return IpcPerm(self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, self.id // SLOTS)

    def need(self, who: Credentials, wanted: int) -> None:
        """Raise Errno(EACCES) unless `who` has the permissions in `wanted`: READ, WRITE, or any bits of a mode."""
        granted = self.mode
        if who.euid in (self.uid, self.cuid):
            granted >>= 6
        elif {self.gid, self.cgid} & {who.egid, *who.groups}:
            granted >>= 3
        if who.euid and (wanted >> 6 | wanted >> 3 | wanted) & ~granted & 7:
            raise Errno(EACCES)

    def need_owner(self, who: Credentials) -> None:
        """Raise Errno(EPERM) unless `who` owns or made it."""
        if who.euid not in (0, self.uid, self.cuid):
            raise Errno(EPERM)

    def need_there(self) -> None:
        """Raise Errno(EIDRM) once it was removed."""
        if self.removed:
            raise Errno(EIDRM)


class Segment(Ipc):
    """A shared memory segment of `size` bytes. `attached`, `detached`: seconds."""

    attached = detached = 0
    last_pid = 0

    def __init__(self, key: int, who: Credentials, mode: int, now: int, size: int, pid: int) -> None:
        super().__init__(key, who, mode, now, "shared memory")
        self.size = size
        self.pid = pid
        self._backing: SharedBacking | None = SharedBacking(size + 4095 & ~4095)
        self._seen = weakref.ref(self._backing)

    @property
    def backing(self) -> SharedBacking | None:
        """The memory; None once it was removed and nobody maps it."""
        return self._seen()

    def let_go(self) -> None:
        """Live on in mappings alone."""
        self._backing = None
        self.key = abi.IPC_PRIVATE
        self.mode |= abi.SHM_DEST


class Semaphores(Ipc):
    """A semaphore set: values, the process that changed each last, and what the end of a process gives back."""

    operated = 0  # second of the last operation

    def __init__(self, key: int, who: Credentials, mode: int, now: int, count: int) -> None:
        super().__init__(key, who, mode, now, "semaphores", count * SEMAPHORE_BYTES)
        self.values = [0] * count
        self.pids = [0] * count
        self.undo: dict[Process, dict[int, int]] = {}

    def give_back(self, process: Process) -> None:
        """`process` has ended."""
        for number, more in self.undo.pop(process, {}).items():
            self.values[number] = max(0, min(self.values[number] + more, abi.SEMVMX))
            self.pids[number] = process.pid
        self.queue.wake()


class Message(NamedTuple):
    """A message; `type` is positive."""

    type: int
    text: bytes


class Messages(Ipc):
    """A message queue. `queue` is woken by messages, `room` by what is taken."""

    sent = received = 0  # seconds
    sender = receiver = 0  # the last ones' process ids

    def __init__(self, key: int, who: Credentials, mode: int, now: int) -> None:
        super().__init__(key, who, mode, now, "messages")
        self.room = WaitQueue("room for messages")
        self.messages: deque[Message] = deque()
        self.held = 0  # bytes of text
        self.limit = abi.MSGMNB

    def has_room(self, size: int) -> bool:
        """Whether a message of `size` bytes goes in."""
        return self.held + size <= self.limit and len(self.messages) + 1 <= self.limit


T = TypeVar("T", bound=Ipc)


class IpcTable(Generic[T]):
    """All objects of one kind."""

    def __init__(self, budget: Budget, limit: int) -> None:
        self._budget = budget
        self._limit = limit
        self._by_id: dict[int, T] = {}
        self._by_key: dict[int, T] = {}
        self._slots: dict[int, T] = {}
        self._slot = -1
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def all(self) -> tuple[T, ...]:
        """Return all objects."""
        return tuple(self._by_id.values())

    def get(self, key: int, flags: int, who: Credentials, make: Callable[[], T], check: Callable[[T], object]) -> int:
        """xxxget(2): return the identifier of the object of `key`, made if `flags` say so.

        `check` may raise what stands against one that is there. Raises Errno: EEXIST, ENOENT, EACCES, ENOSPC.
        """
        found = self._by_key.get(key) if key != abi.IPC_PRIVATE else None
        if found is not None:
            if flags & abi.IPC_CREAT and flags & abi.IPC_EXCL:
                raise Errno(EEXIST)
            check(found)
            found.need(who, flags & 0o777)
            return found.id
        if key != abi.IPC_PRIVATE and not flags & abi.IPC_CREAT:
            raise Errno(ENOENT)
        if len(self._by_id) >= self._limit:
            raise Errno(ENOSPC)
        made = make()
        if not self._budget.charge(made.size_bytes):
            raise Errno(ENOSPC)
        made.id = self._next_id()
        self._by_id[made.id] = self._slots[made.id % SLOTS] = made
        if key != abi.IPC_PRIVATE:
            self._by_key[key] = made
        return made.id

    def _next_id(self) -> int:
        slot = self._slot
        while True:
            slot += 1
            if slot >= SLOTS:
                slot, self._sequence = 0, (self._sequence + 1) % (1 << 16)
            if slot not in self._slots:
                break
        self._slot = slot
        return self._sequence * SLOTS + slot

    def find(self, identifier: int) -> T:
        """Return an object. Raises Errno: EINVAL, EIDRM for one whose place another has."""
        found = self._by_id.get(identifier)
        if found is None:
            raise Errno(EIDRM if identifier >= 0 and identifier % SLOTS in self._slots else EINVAL)
        return found

    def at(self, slot: int) -> T:
        """Return the object at a place, as one who lists them all asks. Raises Errno(EINVAL)."""
        found = self._slots.get(slot)
        if found is None:
            raise Errno(EINVAL)
        return found

    @property
    def highest(self) -> int:
        """The last place that is taken; 0 where none is."""
        return max(self._slots, default=0)

    def forget_key(self, found: T) -> None:
        """Nobody finds it by its key any more."""
        if self._by_key.get(found.key) is found:
            del self._by_key[found.key]

    def remove(self, found: T) -> None:
        """Take an object out; who waits for it finds it removed."""
        self.forget_key(found)
        del self._by_id[found.id]
        del self._slots[found.id % SLOTS]
        found.removed = True
        self._budget.charge(-found.size_bytes)
        found.queue.wake()


class IpcSpace:
    """The System V objects of one kernel."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.segments: IpcTable[Segment] = IpcTable(budget, abi.SHMMNI)
        self.semaphores: IpcTable[Semaphores] = IpcTable(budget, abi.SEMMNI)
        self.messages: IpcTable[Messages] = IpcTable(budget, abi.MSGMNI)

    def sweep(self) -> None:
        """Forget the segments that were removed and that nobody maps any more."""
        for segment in self.segments.all():
            if segment.backing is None:
                self.segments.remove(segment)

    def remove_messages(self, queue: Messages) -> None:
        """Take a message queue out, with what it holds."""
        self.budget.charge(-queue.held - MESSAGE_BYTES * len(queue.messages))
        queue.messages.clear()
        queue.held = 0
        self.messages.remove(queue)
        queue.room.wake()

    def left(self, process: Process) -> None:
        """`process` has ended: give back what it has on semaphores."""
        for semaphores in self.semaphores.all():
            if process in semaphores.undo:
                semaphores.give_back(process)

    def clear(self) -> None:
        """The kernel has ended: give all memory back."""
        for segment in self.segments.all():
            self.segments.remove(segment)
        for semaphores in self.semaphores.all():
            self.semaphores.remove(semaphores)
        for queue in self.messages.all():
            self.remove_messages(queue)

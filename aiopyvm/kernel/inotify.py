"""inotify instances: files that tell what guests do to watched files and directories (inotify(7)).

How it works. A watch stands in its inode's `watchers`; whoever opens, changes, moves or removes a file tells its inode
(`Inode.tell`), and that its watchers and those of the directory it was found in. What the host or another machine
does to a mounted directory is not told. An inode that is watched stays the same object as long.

What always holds. A queue has at most MAX_QUEUED events, each charged to the budget; the last is IN_Q_OVERFLOW when
more came. An event that equals the last one that waits is not told twice.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import inotify as abi
from aiopyvm.abi.errno import EAGAIN, EEXIST, EINVAL, ENOSPC, Errno
from aiopyvm.abi.fcntl import O_RDONLY
from aiopyvm.abi.poll import READABLE
from aiopyvm.abi.signal import POLL_IN
from aiopyvm.kernel.file import AnonymousFile
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.kernel.sigio import Fasync

MAX_QUEUED: Final = 16384
MAX_WATCHED: Final = 32768  # inodes of one instance
WATCH_BYTES: Final = 512  # of the budget, for each watch
EVENT_BYTES: Final = 128  # and for each event that waits, the name left out
_ALWAYS: Final = abi.IN_IGNORED | abi.IN_UNMOUNT | abi.IN_Q_OVERFLOW
_SELF: Final = abi.IN_DELETE_SELF | abi.IN_MOVE_SELF


class InotifyWatch:
    """One watched inode of one instance. `mask` has the events asked for, and IN_ONESHOT."""

    __slots__ = ("inode", "instance", "mask", "number")

    def __init__(self, instance: Inotify, inode: Inode, number: int, mask: int) -> None:
        self.instance = instance
        self.inode = inode
        self.number = number
        self.mask = mask

    def happened(self, events: int, name: bytes, cookie: int) -> None:
        """Something was done to the inode, or to `name` in it."""
        if not events & self.mask & abi.IN_ALL_EVENTS:
            return
        if events & _SELF:
            events &= ~abi.IN_ISDIR
        self.instance.queue_event(self.number, events, cookie, name)
        if self.mask & abi.IN_ONESHOT:
            self.instance.drop(self)

    def gone(self) -> None:
        """The inode can never be reached again."""
        self.happened(abi.IN_DELETE_SELF, b"", 0)
        if self.number in self.instance.watching:
            self.instance.drop(self)


class Inotify(AnonymousFile):
    """One instance; reading it takes events."""

    def __init__(self, budget: Budget, flags: int) -> None:
        super().__init__(b"inotify", O_RDONLY | flags)
        self._budget = budget
        self.watching: dict[int, InotifyWatch] = {}
        self._last = 0  # watch descriptor given out
        self._events: deque[bytes] = deque()
        self._size = 0  # bytes of them
        self._queue = WaitQueue("inotify")
        self._told: Fasync = {}

    # --- watches ----------------------------------------------------------------------------------------------------

    def watch(self, inode: Inode, mask: int) -> int:
        """Watch an inode, or change what is asked of one that is; return the watch descriptor.

        Raises Errno: EEXIST with IN_MASK_CREATE, ENOSPC.
        """
        watchers = inode.watchers or {}
        found = next((one for one in watchers if isinstance(one, InotifyWatch) and one.instance is self), None)
        kept = mask & (abi.IN_ALL_EVENTS | abi.IN_ONESHOT)
        if found is not None:
            if mask & abi.IN_MASK_CREATE:
                raise Errno(EEXIST)
            found.mask = found.mask | kept if mask & abi.IN_MASK_ADD else kept
            return found.number
        if len(self.watching) >= MAX_WATCHED or not self._budget.charge(WATCH_BYTES):
            raise Errno(ENOSPC)
        self._last += 1
        made = self.watching[self._last] = InotifyWatch(self, inode, self._last, kept)
        inode.watchers = {**watchers, made: None}
        return made.number

    def drop(self, watch: InotifyWatch) -> None:
        """Forget a watch, and say so."""
        self._forget(watch)
        self.queue_event(watch.number, abi.IN_IGNORED, 0, b"")

    def _forget(self, watch: InotifyWatch) -> None:
        del self.watching[watch.number]
        self._budget.charge(-WATCH_BYTES)
        watchers = watch.inode.watchers or {}
        watch.inode.watchers = {other: None for other in watchers if other is not watch} or None

    def close(self) -> None:
        """Forget everything."""
        for watch in tuple(self.watching.values()):
            self._forget(watch)
        self._take(len(self._events))

    # --- events -----------------------------------------------------------------------------------------------------

    def queue_event(self, number: int, events: int, cookie: int, name: bytes) -> None:
        """Add an event to those that wait."""
        if not self.refs:
            return
        padded = name.ljust((len(name) + 16) // 16 * 16, b"\0") if name else b""
        event = struct.pack("<iIII", number, events, cookie, len(padded)) + padded
        if self._events and self._events[-1] == event:
            return
        if len(self._events) >= MAX_QUEUED or not self._budget.charge(EVENT_BYTES + len(event)):
            overflow = struct.pack("<iIII", -1, abi.IN_Q_OVERFLOW, 0, 0)
            if (self._events and self._events[-1] == overflow) or not self._budget.charge(EVENT_BYTES + len(overflow)):
                return
            event = overflow
        self._events.append(event)
        self._size += len(event)
        if self._told:
            from aiopyvm.kernel.sigio import kill_fasync  # at the first use: few ask for it

            kill_fasync(self._told, POLL_IN)
        self._queue.wake()

    def _take(self, count: int) -> bytes:
        taken = b"".join([self._events.popleft() for _ in range(count)])
        self._size -= len(taken)
        self._budget.charge(-len(taken) - EVENT_BYTES * count)
        return taken

    def read(self, n: int) -> bytes:
        """Take as many events as go into `n` bytes. Raises Errno: EAGAIN, EINVAL where not even the first does."""
        if not self._events:
            raise Errno(EAGAIN)
        count = size = 0
        for event in self._events:
            size += len(event)
            if size > n:
                break
            count += 1
        if not count:
            raise Errno(EINVAL)
        return self._take(count)

    def poll(self) -> int:
        """Readable while events wait."""
        return READABLE if self._events else 0

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the one queue."""
        return (self._queue,)

    def fasync(self) -> tuple[Fasync, ...]:
        """Its own table."""
        return (self._told,)

    def available(self) -> int:
        """Bytes of the events that wait."""
        return self._size

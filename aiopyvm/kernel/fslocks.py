"""Advisory locks of one inode: POSIX record locks by owner (fcntl(2)), BSD locks by open file description (flock(2)).

An owner of record locks is a descriptor table (a process), or an open file description for F_OFD_*. `queue` is woken
when a lock goes. A blocked request is noted on its owner, so that a cycle of waiting owners is found (EDEADLK).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

from aiopyvm.abi.errno import EAGAIN, EDEADLK, ENOLCK, Errno
from aiopyvm.abi.fcntl import F_UNLCK, F_WRLCK, LOCK_EX
from aiopyvm.kernel.ports import Budget
from aiopyvm.kernel.wait import Call, WaitQueue

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread

END = 1 << 63  # past every file offset: a lock to the end of the file
MAX_LOCKS = 4096  # record locks of one inode
RECORD_BYTES = 256  # what a record lock is charged


class Record(NamedTuple):
    """A record lock on bytes start..end-1."""

    start: int
    end: int
    type: int
    owner: Hashable
    pid: int

    def conflicts(self, other: Record) -> bool:
        """Whether both cannot be held at once."""
        overlap = self.start < other.end and other.start < self.end
        return overlap and self.owner is not other.owner and F_WRLCK in (self.type, other.type)


class Blocked(NamedTuple):
    """A request that waits: valid while its call is in progress."""

    locks: Locks
    request: Record
    call: Call
    thread: Thread


class Locks:
    """All advisory locks of one inode."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget
        self.records: list[Record] = []
        self.flocks: dict[Hashable, int] = {}
        self.queue = WaitQueue("file lock")

    def conflict(self, request: Record) -> Record | None:
        """Return a record lock that stands against `request`, None when there is none."""
        return next((lock for lock in self.records if lock.conflicts(request)), None)

    def set(self, request: Record) -> None:
        """Take, change or (F_UNLCK) drop a record lock. Raises Errno(EAGAIN) on a conflict, Errno(ENOLCK)."""
        if request.type != F_UNLCK and self.conflict(request):
            raise Errno(EAGAIN)
        kept: list[Record] = []
        for lock in self.records:
            if lock.owner is not request.owner or lock.end < request.start or request.end < lock.start:
                kept.append(lock)
            elif lock.type == request.type:  # overlapping or adjacent: one lock
                request = request._replace(start=min(lock.start, request.start), end=max(lock.end, request.end))
            else:
                if lock.start < request.start:
                    kept.append(lock._replace(end=request.start))
                if lock.end > request.end:
                    kept.append(lock._replace(start=request.end))
        if request.type != F_UNLCK:
            kept.append(request)
        if len(kept) > max(MAX_LOCKS, len(self.records)) or not self._replace(kept):
            raise Errno(ENOLCK)
        self.queue.wake()

    def _replace(self, records: list[Record]) -> bool:
        """Hold `records`, charged; False, and nothing changed, when the budget refuses."""
        more = len(records) - len(self.records)
        if self._budget is not None and more and not self._budget.charge(more * RECORD_BYTES):
            return False
        self.records = records
        return True

    def flock(self, owner: Hashable, kind: int) -> None:
        """Take or convert a BSD lock (LOCK_SH, LOCK_EX). Raises Errno(EAGAIN); a converted lock is lost then."""
        lost = self.flocks.pop(owner, None)
        if self.flocks and (kind == LOCK_EX or LOCK_EX in self.flocks.values()):
            if lost is not None:
                self.queue.wake()
            raise Errno(EAGAIN)
        self.flocks[owner] = kind
        if lost is not None:
            self.queue.wake()

    def unflock(self, owner: Hashable) -> None:
        """Drop a BSD lock, if there is one."""
        if self.flocks.pop(owner, None) is not None:
            self.queue.wake()

    def drop_owner(self, owner: Hashable) -> None:
        """Drop the record locks of `owner`."""
        kept = [lock for lock in self.records if lock.owner is not owner]
        if len(kept) != len(self.records):
            self._replace(kept)
            self.queue.wake()


def check_deadlock(locks: Locks, request: Record, blocked: dict[Hashable, Blocked]) -> None:
    """Raise Errno(EDEADLK) when waiting for `request` would close a cycle of waiting owners.

    `blocked` has the waiting requests by owner; those whose call ended are ignored.
    """
    at, wanted = locks, request
    for _ in range(10):  # Linux's own bound (MAX_DEADLK_ITERATIONS)
        holder = at.conflict(wanted)
        if holder is None:
            return
        if holder.owner is request.owner:
            raise Errno(EDEADLK)
        waiting = blocked.get(holder.owner)
        if waiting is None:
            return
        at, wanted = waiting.locks, waiting.request

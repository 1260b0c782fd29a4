"""Advisory locks of one inode: POSIX record locks by owner (fcntl(2)), BSD locks by open file description (flock(2)).

An owner of record locks is a descriptor table (a process), or an open file description for F_OFD_*. `queue` is woken
when a lock goes. A blocked request is noted on its owner, so that a cycle of waiting owners is found (EDEADLK).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterator
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

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


_START: Final = attrgetter("start")
_END: Final = attrgetter("end")


class Blocked(NamedTuple):
    """A request that waits: valid while its call is in progress."""

    locks: Locks
    request: Record
    call: Call
    thread: Thread


class Locks:
    """All advisory locks of one inode. An owner's record locks do not overlap; they are kept in order of their bytes,
    so that a call costs what it overlaps, and a search for each other owner."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget
        self._records: dict[Hashable, list[Record]] = {}  # by owner, in the order in which they came
        self.count = 0  # record locks of all owners
        self.flocks: dict[Hashable, int] = {}
        self.queue = WaitQueue("file lock")

    def records(self) -> Iterator[Record]:
        """Iterate over the record locks, each owner's in order."""
        return chain.from_iterable(self._records.values())

    def conflict(self, request: Record) -> Record | None:
        """Return a record lock that stands against `request`, None when there is none."""
        writes = request.type == F_WRLCK
        for owner, held in self._records.items():
            if owner is request.owner:
                continue
            for at in range(bisect_right(held, request.start, key=_END), len(held)):
                lock = held[at]
                if lock.start >= request.end:
                    break
                if writes or lock.type == F_WRLCK:
                    return lock
        return None

    def set(self, request: Record) -> None:
        """Take, change or (F_UNLCK) drop a record lock. Raises Errno(EAGAIN) on a conflict, Errno(ENOLCK)."""
        if request.type != F_UNLCK and self.conflict(request):
            raise Errno(EAGAIN)
        held = self._records.get(request.owner, [])
        first = bisect_left(held, request.start, key=_END)  # what ends where it begins may become one with it
        last = bisect_right(held, request.end, first, key=_START)
        before: list[Record] = []
        after: list[Record] = []
        for lock in held[first:last]:
            if lock.type == request.type:  # overlapping or adjacent: one lock
                request = request._replace(start=min(lock.start, request.start), end=max(lock.end, request.end))
                continue
            if lock.start < request.start:
                before.append(lock._replace(end=min(lock.end, request.start)))
            if lock.end > request.end:
                after.append(lock._replace(start=max(lock.start, request.end)))
        made = [*before, *([request] if request.type != F_UNLCK else []), *after]
        more = len(made) - (last - first)
        if (more > 0 and self.count + more > MAX_LOCKS) or not self._charge(more):
            raise Errno(ENOLCK)
        held[first:last] = made
        if held:
            self._records[request.owner] = held
        else:
            self._records.pop(request.owner, None)
        if last > first:
            self.queue.wake()

    def _charge(self, more: int) -> bool:
        """Count and pay for `more` records; False, and nothing is done, when the budget refuses."""
        if self._budget is not None and more and not self._budget.charge(more * RECORD_BYTES):
            return False
        self.count += more
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
        held = self._records.pop(owner, None)
        if held is not None:
            self._charge(-len(held))
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

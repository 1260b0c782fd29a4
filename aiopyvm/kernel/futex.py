"""Futexes: threads that wait on a word of memory (futex(2)).

A futex in a shared mapping is known by its backing and offset there, so that processes meet; any other by address
space and address. Only what is waited for has a queue. A waiting thread's call record holds its `key` and `bitset`.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import WaitQueue
from aiopyvm.mem.faults import MemoryFault

FUTEX_WAITERS: Final = 0x80000000
FUTEX_OWNER_DIED: Final = 0x40000000
FUTEX_TID_MASK: Final = 0x3FFFFFFF
MATCH_ANY: Final = 0xFFFFFFFF
Key = tuple[object, int]


class FutexTable:
    """The futexes of one kernel on which somebody waits."""

    __slots__ = ("_owners", "_queues", "_sweep_at")

    def __init__(self) -> None:
        self._queues: dict[Key, WaitQueue] = {}
        self._owners: dict[Key, Thread] = {}  # of the locks that threads wait for, and of some no longer waited for
        self._sweep_at = 64

    def __len__(self) -> int:
        return sum(1 for queue in self._queues.values() if len(queue))

    @staticmethod
    def key(t: Thread, address: int, private: bool) -> Key:
        """Return what identifies the futex at `address`, as `t` sees it."""
        if not private:
            mapping = t.memory.find_mapping(address)
            if mapping is not None and mapping.shared and mapping.backing is not None:
                return mapping.backing, address - mapping.start + mapping.offset
        return t.memory, address

    def queue(self, key: Key) -> WaitQueue:
        """Return the queue to wait in."""
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= self._sweep_at:
                self._queues = {k: q for k, q in self._queues.items() if len(q)}
                self._owners = {k: o for k, o in self._owners.items() if k in self._queues}
                self._sweep_at = 64 + 2 * len(self._queues)
            queue = self._queues[key] = WaitQueue(f"futex at {key[1]:#x}")
        return queue

    def wake(self, key: Key, limit: int, bitset: int = MATCH_ANY) -> int:
        """Wake at most `limit` threads whose bitset has a bit in common; return how many."""
        queue = self._queues.get(key)
        if queue is None:
            return 0
        woken = 0
        for thread in queue:
            if woken >= limit:
                break
            if thread.call is not None and thread.call.state.get("bitset", MATCH_ANY) & bitset:
                thread.kernel.wake(thread, queue)
                woken += 1
        if not len(queue):
            del self._queues[key]
        return woken

    def requeue(self, key: Key, to: Key, limit: int) -> int:
        """Let at most `limit` threads wait for `to` instead; return how many."""
        source = self._queues.get(key)
        if source is None or key == to:
            return 0 if source is None else min(limit, len(source))
        moved = 0
        for thread in source:
            if moved >= limit:
                break
            if thread.wait is None or thread.call is None or len(thread.wait.queues) > 1:
                continue  # who waits for several (futex_waitv(2)) stays
            self.move(thread, key, to)
            moved += 1
        return moved

    def move(self, thread: Thread, key: Key, to: Key) -> None:
        """Let `thread`, which waits for `key` alone, wait for `to` instead."""
        source, target = self._queues[key], self.queue(to)
        source.discard(thread)
        target.add(thread)
        if thread.wait is not None and thread.call is not None:
            thread.wait.queues = (target,)
            thread.call.state["key"] = to
        if not len(source):
            self._queues.pop(key, None)

    # --- locks (syscalls/futexpi.py) --------------------------------------------------------------------------------

    def first(self, key: Key) -> Thread | None:
        """Return the thread that has waited longest."""
        return next(iter(self._queues.get(key, ())), None)

    def waiting(self, key: Key) -> list[Thread]:
        """Return the threads that wait, in the order in which they came."""
        return list(self._queues.get(key, ()))

    def for_lock(self, key: Key) -> bool:
        """Whether who waits there is to get a lock, and not to be woken."""
        first = self.first(key)
        return first is not None and first.call is not None and bool(first.call.state.keys() & {"pi", "requeue"})

    def owner(self, key: Key) -> Thread | None:
        """Return whose unlocking the waiting threads expect; None where nobody waits, or waits for a wake."""
        first = self.first(key)
        if first is None or first.call is None or "pi" not in first.call.state:
            return None
        return self._owners.get(key)

    def queue_behind(self, key: Key, owner: Thread) -> WaitQueue:
        """Return the queue to wait in until `owner` unlocks."""
        queue = self.queue(key)
        self._owners[key] = owner
        return queue

    def hand_over(self, key: Key) -> None:
        """Make the first waiting thread the owner, and wake it."""
        queue = self._queues[key]
        first = next(iter(queue))
        self._owners[key] = first
        first.kernel.wake(first, queue)
        if not len(queue):
            del self._queues[key], self._owners[key]

    def orphan(self, owner: Thread) -> None:
        """Hand over the locks of a thread that ends; their words tell of it."""
        for key in [key for key, other in self._owners.items() if other is owner]:
            first = self.first(key)
            if first is None or first.call is None or self.owner(key) is not owner:
                del self._owners[key]
                continue
            try:
                first.memory.store(first.call.state["pi"], 4, FUTEX_WAITERS | FUTEX_OWNER_DIED | first.tid)
            except MemoryFault:
                first.call.state["fault"] = True
            self.hand_over(key)

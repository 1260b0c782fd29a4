"""Robust futexes: what a dying thread held is marked and passed on (get_robust_list(2)).

The list is the guest's and may be anything: at most LIMIT entries are followed, and a bad address ends the walk.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.kernel.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.faults import MemoryFault

LIMIT: Final = 2048  # ROBUST_LIST_LIMIT


def release(t: Thread) -> None:
    """Mark every futex on `t`'s robust list as left by a dead owner, and wake one waiter of each."""
    head = t.robust_list
    t.robust_list = 0
    load = t.memory.load
    try:
        entry, offset, pending = load(head, 4), load(head + 4, 4), load(head + 8, 4)
        for _ in range(LIMIT):
            if entry & ~1 == head & ~1:
                break
            following = load(entry & ~1, 4)
            if entry != pending:
                _owner_died(t, (entry & ~1) + offset & 0xFFFFFFFF, pi=bool(entry & 1))
            entry = following
        if pending:
            _owner_died(t, (pending & ~1) + offset & 0xFFFFFFFF, pi=bool(pending & 1))
    except MemoryFault:
        pass  # as Linux: the list is given up where it cannot be read


def _owner_died(t: Thread, address: int, *, pi: bool) -> None:
    if address & 3:
        return
    word = t.memory.load(address, 4)
    if word & FUTEX_TID_MASK != t.tid:
        return
    t.memory.store(address, 4, word & FUTEX_WAITERS | FUTEX_OWNER_DIED)
    if not pi and word & FUTEX_WAITERS:
        futexes = t.kernel.futexes
        futexes.wake(futexes.key(t, address, private=False), 1)

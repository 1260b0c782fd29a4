"""Priority-inheritance futexes: FUTEX_LOCK_PI, TRYLOCK_PI and UNLOCK_PI of futex(2).

The word holds its owner's thread id, or 0. A lock is handed over by whoever unlocks it, to the first that waits; when
an owner ends, `FutexTable.orphan` does it. There is nothing to inherit: no thread here has a priority above others.
"""

from __future__ import annotations

from aiopyvm.abi.errno import EAGAIN, EDEADLK, EFAULT, EINVAL, EPERM, ESRCH, ETIMEDOUT, Errno
from aiopyvm.kernel.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, Key
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.syscalls.steps import call_of


def lock_pi(t: Thread, uaddr: int, key: Key, *, attempt: bool) -> int | Wait:
    """Take the lock or wait for it, until the call's deadline; an `attempt` does not wait.

    Raises Errno: EDEADLK for the owner itself, ESRCH for an owner that is none, EINVAL where the word and those who
    wait disagree, EAGAIN for an attempt, ETIMEDOUT; MemoryFault.
    """
    call = call_of(t)
    if call.woken is Cause.WOKEN:
        if call.state.get("fault"):
            raise Errno(EFAULT)
        return 0
    if call.woken is Cause.TIMEOUT:
        raise Errno(ETIMEDOUT)
    owner = _owner_or_take(t, uaddr, key)
    if owner is None:
        return 0
    if attempt:
        raise Errno(EAGAIN)
    call.state["pi"] = True
    queue = t.kernel.futexes.queue_behind(key, owner)
    return Wait((queue,), call.deadline, Restart.NOINTR, reason=f"the futex at {uaddr:#x}")


def _owner_or_take(t: Thread, uaddr: int, key: Key) -> Thread | None:
    """Return who has the lock; None where `t` has it now."""
    t.memory.probe(uaddr, 4, True)
    word = t.memory.load(uaddr, 4)
    tid = word & FUTEX_TID_MASK
    if tid == t.tid:
        raise Errno(EDEADLK)
    futexes = t.kernel.futexes
    if futexes.first(key) is not None:
        owner = futexes.owner(key)
        if owner is None or owner.tid != tid:
            raise Errno(EINVAL)
        return owner
    if not tid:
        t.memory.store(uaddr, 4, word & FUTEX_OWNER_DIED | t.tid)
        return None
    t.memory.store(uaddr, 4, word | FUTEX_WAITERS)
    if (owner := t.kernel.threads.get(tid)) is None:
        raise Errno(ESRCH)
    return owner


def unlock_pi(t: Thread, uaddr: int, key: Key) -> int:
    """Give the lock to the first that waits, or free it. Raises Errno: EPERM for others than its owner, EINVAL."""
    if t.memory.load(uaddr, 4) & FUTEX_TID_MASK != t.tid:
        raise Errno(EPERM)
    t.memory.probe(uaddr, 4, True)
    futexes = t.kernel.futexes
    first = futexes.first(key)
    if first is None:
        t.memory.store(uaddr, 4, 0)
        return 0
    if futexes.owner(key) is not t:
        raise Errno(EINVAL)
    t.memory.store(uaddr, 4, FUTEX_WAITERS | first.tid)
    futexes.hand_over(key)
    return 0

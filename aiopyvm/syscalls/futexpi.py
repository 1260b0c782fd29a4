"""Priority-inheritance futexes: FUTEX_LOCK_PI, TRYLOCK_PI, UNLOCK_PI, WAIT_REQUEUE_PI and CMP_REQUEUE_PI of futex(2).

The word holds its owner's thread id, or 0. A lock is handed over by whoever unlocks it, to the first that waits; when
an owner ends, `FutexTable.orphan` does it. There is nothing to inherit: no thread here has a priority above others. A
thread that waits for a condition and then for a lock has both in its call's state: `requeue`, the lock's key, from the
beginning, and `pi`, the lock's address, once it waits for the lock.
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
    owner = _owner_or_take(t, uaddr, key, t)
    if owner is None:
        return 0
    if attempt:
        raise Errno(EAGAIN)
    call.state["pi"] = uaddr
    queue = t.kernel.futexes.queue_behind(key, owner)
    return Wait((queue,), call.deadline, Restart.NOINTR, reason=f"the futex at {uaddr:#x}")


def _owner_or_take(t: Thread, uaddr: int, key: Key, who: Thread, waiters: int = 0) -> Thread | None:
    """Return who has the lock; None where `who` has it now, and the word `waiters` with it."""
    t.memory.probe(uaddr, 4, True)
    word = t.memory.load(uaddr, 4)
    tid = word & FUTEX_TID_MASK
    if tid == who.tid:
        raise Errno(EDEADLK)
    futexes = t.kernel.futexes
    if futexes.first(key) is not None:
        owner = futexes.owner(key)
        if owner is None or owner.tid != tid:
            raise Errno(EINVAL)
        return owner
    if not tid:
        t.memory.store(uaddr, 4, word & FUTEX_OWNER_DIED | waiters | who.tid)
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


def wait_requeue_pi(t: Thread, uaddr: int, val: int, keys: tuple[Key, Key], lock: int) -> int | Wait:
    """Wait until who has the condition moves this thread to the lock, and then for that one, until the call's deadline.

    Raises Errno: EAGAIN where the word is not `val`, or for a signal while it waits for the lock; ETIMEDOUT, EFAULT;
    MemoryFault.
    """
    call = call_of(t)
    if "key" not in call.state:
        if t.memory.load(uaddr, 4) != val:
            raise Errno(EAGAIN)
        call.state["key"], call.state["requeue"] = keys
        call.state["lock"] = lock
    elif call.woken is Cause.WOKEN:
        if call.state.get("fault"):
            raise Errno(EFAULT)
        return 0
    elif call.woken is Cause.TIMEOUT:
        raise Errno(ETIMEDOUT)
    elif "pi" in call.state:
        raise Errno(EAGAIN)
    queue = t.kernel.futexes.queue(call.state["key"])
    return Wait((queue,), call.deadline, Restart.NOINTR, reason=f"the futex at {uaddr:#x}")


def cmp_requeue_pi(t: Thread, uaddr2: int, key: Key, to: Key, most: int) -> int:
    """Give the lock at `uaddr2` to the first that waits for the condition, where it is free, and let `most` more (one
    more where it is not) wait for it; return how many these are.

    Raises Errno: EINVAL for who waits for something else, EDEADLK, ESRCH; MemoryFault.
    """
    futexes = t.kernel.futexes
    t.memory.load(uaddr2, 4)
    waiting = futexes.waiting(key)[: most + 1]
    owner: Thread | None = None
    for n, thread in enumerate(waiting):
        call = thread.call
        if call is None or call.state.get("requeue") != to:
            raise Errno(EINVAL)
        if not n:
            owner = _owner_or_take(t, uaddr2, to, thread, FUTEX_WAITERS if most else 0)
            if owner is None:
                owner = thread
                futexes.wake(key, 1)
                continue
        assert owner is not None
        if thread is owner:
            raise Errno(EDEADLK)
        futexes.move(thread, key, to)
        futexes.queue_behind(to, owner)
        call.state["pi"] = call.state["lock"]
    return len(waiting)

"""What calls that map memory share: ranges of pages, the memory limit and RLIMIT_AS.

As with Linux's heuristic overcommit (proc_sys_vm(5), overcommit_memory 0) what is mapped may be more than there is: a
mapping is refused only where it could not be touched whole as things are. What was mapped before, and not touched, does
not count, so who allocates and uses in turn is told in time. Pages are charged when they are touched, and who touches
more than there is ends as where Linux's out-of-memory killer comes.
"""

from __future__ import annotations

from aiopyvm.abi.errno import EINVAL, ENOMEM, Errno
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_AS
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.layout import PAGE, TASK_SIZE, page_up


def page_range(addr: int, length: int, error: int = EINVAL) -> int:
    """Return the rounded-up length of a range that starts on a page. Raises Errno(EINVAL), or `error` past the end."""
    if addr & PAGE - 1:
        raise Errno(EINVAL)
    size = page_up(length)
    if size > TASK_SIZE or addr > TASK_SIZE - size:
        raise Errno(error)
    return size


def admit(t: Thread, size: int) -> None:
    """See whether a change may count `size` bytes more (Linux's __vm_enough_memory). Raises Errno(ENOMEM)."""
    kernel = t.kernel
    room = kernel.budget.room()
    if size > kernel.memory_limit or (room is not None and size > room):
        t.kernel.limits_hit["memory"] += 1
        raise Errno(ENOMEM)


def check_address_space(t: Thread, size: int) -> None:
    limit = t.process.limits[RLIMIT_AS][0]
    if limit == RLIM_INFINITY:
        return
    mappings = list(t.memory.mappings())
    t.moved += 64 * len(mappings)
    if sum(m.end - m.start for m in mappings) + size > limit:
        raise Errno(ENOMEM)

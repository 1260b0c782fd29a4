"""What calls that map memory share: ranges of pages, the memory limit and RLIMIT_AS.

What is mapped writable and private, or anonymous, counts against the memory limit at once (ENOMEM), as with
overcommit off; pages are charged when they are touched.
"""

from __future__ import annotations

from aiopyvm.abi import mman
from aiopyvm.abi.errno import EINVAL, ENOMEM, Errno
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_AS
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.backing import Backing, SharedBacking
from aiopyvm.mem.layout import PAGE, TASK_SIZE, page_up


def page_range(addr: int, length: int, error: int = EINVAL) -> int:
    """Return the rounded-up length of a range that starts on a page. Raises Errno(EINVAL), or `error` past the end."""
    if addr & PAGE - 1:
        raise Errno(EINVAL)
    size = page_up(length)
    if size > TASK_SIZE or addr > TASK_SIZE - size:
        raise Errno(error)
    return size


def is_accounted(prot: int, shared: bool, backing: Backing | None) -> bool:
    return backing is None or isinstance(backing, SharedBacking) if shared else bool(prot & mman.PROT_WRITE)


def _committed(t: Thread) -> int:
    total = count = 0
    for start, end, prot, shared, grows_down, backing, _, _ in t.memory.mappings():
        count += 1
        if not grows_down and (is_accounted(prot, shared, backing) if shared else prot & mman.PROT_WRITE):
            total += end - start
    t.moved += 64 * count
    return total


def admit(t: Thread, size: int) -> None:
    """Count `size` bytes more against the memory limit. Raises Errno(ENOMEM)."""
    mm, limit = t.process.mm, t.kernel.memory_limit
    if mm.committed + size > limit:  # an upper bound: unmapping does not lower it
        mm.committed = _committed(t)
        if mm.committed + size > limit:
            t.kernel.limits_hit["memory"] += 1
            raise Errno(ENOMEM)
    mm.committed += size


def check_address_space(t: Thread, size: int) -> None:
    limit = t.process.limits[RLIMIT_AS][0]
    if limit == RLIM_INFINITY:
        return
    mappings = list(t.memory.mappings())
    t.moved += 64 * len(mappings)
    if sum(m.end - m.start for m in mappings) + size > limit:
        raise Errno(ENOMEM)

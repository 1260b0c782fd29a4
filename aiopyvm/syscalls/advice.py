"""What is said and asked of mapped pages: madvise(2), msync(2), mlock(2) and its relatives, mincore(2)."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi import mman
from aiopyvm.abi.errno import EFAULT, EINVAL, ENOMEM, EPERM, Errno
from aiopyvm.abi.resource import RLIMIT_MEMLOCK
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, TASK_SIZE, page_up
from aiopyvm.syscalls.accounting import page_range
from aiopyvm.syscalls.spec import Choice, Flags, Hex, Ptr, Size, syscall
from aiopyvm.syscalls.steps import again, by_pieces, call_of

SyncFlags = Annotated[int, Flags(mman.MS_NAMES)]
Advice = Annotated[int, Choice(mman.MADV_NAMES)]

_TOUCHED: Final = bytes(1 if entry else 0 for entry in range(256))  # mincore's byte for a page's bits

_HINTS: Final = frozenset({
    mman.MADV_NORMAL, mman.MADV_RANDOM, mman.MADV_SEQUENTIAL, mman.MADV_WILLNEED, mman.MADV_FREE, mman.MADV_DONTDUMP,
    mman.MADV_DODUMP, mman.MADV_COLD, mman.MADV_PAGEOUT, mman.MADV_MERGEABLE, mman.MADV_UNMERGEABLE,
    mman.MADV_HUGEPAGE, mman.MADV_NOHUGEPAGE,
})  # fmt: skip
_DROPS: Final = (mman.MADV_DONTNEED, mman.MADV_DONTNEED_LOCKED)
_NOT_OF_VVAR: Final = frozenset(
    {
        *_DROPS,
        mman.MADV_FREE,
        mman.MADV_DODUMP,
        mman.MADV_COLD,
        mman.MADV_PAGEOUT,
    }
)  # what Linux's own page takes not, which lies in each range that goes on to the end
_TOUCH_AT_ONCE: Final = 256 * PAGE
_TOUCHES: Final = (mman.MADV_POPULATE_READ, mman.MADV_POPULATE_WRITE)


@syscall(219, "madvise", man="madvise(2)", note="no MADV_DONTFORK, MADV_WIPEONFORK, MADV_REMOVE, MADV_COLLAPSE")
def madvise(t: Thread, addr: Ptr, length: Size, advice: Advice) -> int | Wait:
    """Give pages back (MADV_DONTNEED) or touch them (MADV_POPULATE_READ); advice that Linux may ignore is ignored."""
    if advice not in _HINTS and advice not in _DROPS and advice not in _TOUCHES:
        raise Errno(EINVAL)
    size = page_range(addr, length, EINVAL if advice in _NOT_OF_VVAR else ENOMEM)
    if not size:
        return 0
    if t.process.mm.copier is not None:
        return again(t)
    if advice == mman.MADV_FREE and any(m.shared or m.backing for m in t.memory.mappings_in(addr, size)):
        raise Errno(EINVAL)
    if advice in _TOUCHES:
        return _populate(t, addr, size, advice == mman.MADV_POPULATE_WRITE)
    if advice in _DROPS and (wait := by_pieces(t, addr, size, t.memory.discard)) is not None:
        return wait
    if not t.memory.is_mapped(addr, size):
        raise Errno(ENOMEM)
    return 0


def _populate(t: Thread, addr: int, size: int, write: bool) -> int | Wait:
    """Touch each page, up to the first that is not there (ENOMEM), may not be touched so (EINVAL) or has no bytes
    (EFAULT)."""

    state, end = call_of(t).state, addr + size
    at = start = state.get("piece", addr)
    stop = min(end, start + _TOUCH_AT_ONCE)
    for m in t.memory.mappings_in(start, stop - start):
        if m.start > at:
            break
        if not m.prot & (mman.PROT_WRITE if write else mman.PROT_READ):
            raise Errno(EINVAL)
        here = min(m.end, stop)
        try:
            t.memory.probe(at, here - at, write)
        except MemoryFault as fault:
            if fault.out_of_memory:
                raise
            raise Errno(EFAULT) from None
        at = here
    if at < stop:
        raise Errno(ENOMEM)
    if stop < end:
        state["piece"] = stop
        t.moved += stop - start
        return again(t)
    return 0


@syscall(144, "msync", man="msync(2)")
def msync(t: Thread, addr: Ptr, length: Size, flags: SyncFlags) -> int:
    """Nothing to do where the range is mapped: shared mappings store into the file itself."""
    both = mman.MS_ASYNC | mman.MS_SYNC
    if flags & ~(both | mman.MS_INVALIDATE) or flags & both == both:
        raise Errno(EINVAL)
    size = page_range(addr, length, ENOMEM)
    if size and not t.memory.is_mapped(addr, size):
        raise Errno(ENOMEM)
    return 0


@syscall(150, "mlock", man="mlock(2)")
def mlock(t: Thread, addr: Ptr, len: Size) -> int:
    """Guest memory never leaves; only the range and the limit are looked at."""
    start = addr & -PAGE
    size = page_up(addr + len) - start
    if size > t.process.limits[RLIMIT_MEMLOCK][0]:
        raise Errno(ENOMEM if t.process.limits[RLIMIT_MEMLOCK][0] else EPERM)
    return munlock(t, addr, len)


@syscall(376, "mlock2", man="mlock2(2)")
def mlock2(t: Thread, addr: Ptr, len: Size, flags: Hex) -> int:
    """mlock, pages perhaps when they are touched."""
    if flags & ~1:
        raise Errno(EINVAL)
    return mlock(t, addr, len)


@syscall(151, "munlock", man="mlock(2)")
def munlock(t: Thread, addr: Ptr, len: Size) -> int:
    """The opposite of mlock: only the range is looked at."""
    start = addr & -PAGE
    size = page_up(addr + len) - start
    if start + size > TASK_SIZE:
        raise Errno(EINVAL)
    if size and not t.memory.is_mapped(start, size):
        raise Errno(ENOMEM)
    return 0


@syscall(152, "mlockall", man="mlockall(2)")
def mlockall(t: Thread, flags: Hex) -> int:
    """Guest memory never leaves; only the limit is looked at."""
    if not flags or flags & ~7 or flags == mman.MCL_ONFAULT:
        raise Errno(EINVAL)
    limit = t.process.limits[RLIMIT_MEMLOCK][0]
    if not limit:
        raise Errno(EPERM)
    if flags & mman.MCL_CURRENT and sum(m.end - m.start for m in t.memory.mappings()) > limit:
        raise Errno(ENOMEM)
    return 0


@syscall(153, "munlockall", man="mlockall(2)")
def munlockall(t: Thread) -> int:
    """The opposite of mlockall."""
    return 0


@syscall(218, "mincore", man="mincore(2)")
def mincore(t: Thread, addr: Ptr, length: Size, vec: Ptr) -> int:
    """Tell which pages of a range have been touched, one byte each."""
    size = page_range(addr, length, ENOMEM)
    if size and not t.memory.is_mapped(addr, size):
        raise Errno(ENOMEM)
    first = addr >> PAGE_SHIFT
    table = bytes(t.memory.pages[first : first + (size >> PAGE_SHIFT)])
    t.memory.write(vec, table.translate(_TOUCHED))
    t.moved += len(table)
    return 0

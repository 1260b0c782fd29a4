"""Memory: brk(2), mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), msync(2), mlock(2), mincore(2).

What is mapped writable and private, or anonymous, counts against the memory limit at once (ENOMEM), as with
overcommit off; pages are charged when they are touched.

A change of many mappings or pages is made in pieces, with others' turns between them. What another thread must not
take meanwhile (the place of a MAP_FIXED mapping, mremap's target) stays mapped until the new mapping is there.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from aiopyvm.abi import mman
from aiopyvm.abi.errno import EACCES, EEXIST, EFAULT, EINVAL, ENOMEM, EPERM, Errno
from aiopyvm.abi.mman import MmapArgs
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK
from aiopyvm.errors import GuestMemoryError, HostRefusedError
from aiopyvm.kernel.file import File
from aiopyvm.kernel.filebacking import FileBacking
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.backing import Backing, SharedBacking
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, TASK_SIZE, page_up
from aiopyvm.syscalls.spec import Choice, Fd, Flags, Hex, In, Ptr, Size, syscall
from aiopyvm.syscalls.steps import again, by_pieces, call_of

READ_IMPLIES_EXEC: Final = 0x0400000
_TOUCHED: Final = bytes(1 if entry else 0 for entry in range(256))  # mincore's byte for a page's bits

Prot = Annotated[int, Flags(mman.PROT_NAMES, zero="PROT_NONE")]
MapFlags = Annotated[int, Flags(mman.MAP_NAMES)]
RemapFlags = Annotated[int, Flags(mman.MREMAP_NAMES)]
SyncFlags = Annotated[int, Flags(mman.MS_NAMES)]
Advice = Annotated[int, Choice(mman.MADV_NAMES)]


# --- the break --------------------------------------------------------------------------------------------------------


@syscall(45, "brk", man="brk(2)", hex_result=True)
def brk(t: Thread, addr: Ptr) -> int | Wait:
    """Set the program break; where that fails it stays. The break."""
    mm, space, state = t.process.mm, t.memory, call_of(t).state
    if mm.copier is not None:
        return again(t)
    if addr < mm.brk_start:
        return mm.brk
    old_end, new_end = state.get("end", page_up(mm.brk)), page_up(addr)
    try:
        if new_end < old_end:
            mm.brk, state["end"] = addr, old_end
            return by_pieces(t, new_end, old_end - new_end, space.unmap) or addr
        if new_end > old_end:
            _grow_brk(t, old_end, new_end)
    except (Errno, AddressSpaceFull):
        return mm.brk
    mm.brk = addr
    return addr


def _grow_brk(t: Thread, old_end: int, new_end: int) -> None:
    process = t.process
    limit = process.limits[RLIMIT_DATA][0]
    if limit != RLIM_INFINITY and new_end - process.mm.brk_start > limit:
        raise Errno(ENOMEM)
    if new_end > TASK_SIZE or not t.memory.is_free(old_end, new_end - old_end):
        raise Errno(ENOMEM)
    _admit(t, new_end - old_end)
    _check_address_space(t, new_end - old_end)
    prot = mman.PROT_READ | mman.PROT_WRITE
    if process.personality & READ_IMPLIES_EXEC:
        prot |= mman.PROT_EXEC
    t.memory.map(old_end, new_end - old_end, prot, name="[heap]")


# --- mapping ----------------------------------------------------------------------------------------------------------


@syscall(192, "mmap2", man="mmap2(2)", hex_result=True)
def mmap2(t: Thread, addr: Ptr, length: Size, prot: Prot, flags: MapFlags, fd: Fd, pgoffset: Hex) -> int | Wait:
    """Map a file, its offset in pages of 4096 bytes, or anonymous memory; the address."""
    return _mmap(t, addr, length, prot, flags, fd, pgoffset * PAGE)


@syscall(90, "mmap", man="mmap(2)", hex_result=True)
def mmap(t: Thread, args: In[MmapArgs]) -> int | Wait:
    """mmap with its arguments in memory and the offset in bytes."""
    state = call_of(t).state
    a: MmapArgs = state.get("args") or args.get()
    state["args"] = a
    if a.offset & PAGE - 1:
        raise Errno(EINVAL)
    return _mmap(t, a.addr, a.len, a.prot, a.flags, (a.fd ^ 0x80000000) - 0x80000000, a.offset)


def _mmap(t: Thread, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int | Wait:
    if t.process.mm.copier is not None:
        return again(t)
    file = None if flags & mman.MAP_ANONYMOUS else t.process.fds.get(fd)
    if not length:
        raise Errno(EINVAL)
    size = page_up(length)
    if size > TASK_SIZE:
        raise Errno(ENOMEM)
    kind = flags & mman.MAP_TYPE
    if kind not in (mman.MAP_SHARED, mman.MAP_PRIVATE, mman.MAP_SHARED_VALIDATE) or flags & mman.MAP_HUGETLB:
        raise Errno(EINVAL)
    shared = kind != mman.MAP_PRIVATE
    if t.process.personality & READ_IMPLIES_EXEC and prot & mman.PROT_READ:
        prot |= mman.PROT_EXEC
    try:
        at = _place(t, addr, size, flags)
        backing = _backing(file, prot, shared)
        if flags & mman.MAP_GROWSDOWN and shared:
            raise Errno(EINVAL)
        state = call_of(t).state
        if "admitted" not in state:
            if not flags & mman.MAP_NORESERVE and _is_accounted(prot, shared, backing):
                _admit(t, size)
            _check_address_space(t, size)
            state["admitted"] = True
        if not t.memory.is_free(at, size) and (wait := by_pieces(t, at, size, t.memory.empty)) is not None:
            return wait
        grows = bool(flags & mman.MAP_GROWSDOWN)
        name = _name(file)
        t.memory.map(at, size, prot & 7, backing, offset if backing else 0, shared=shared, grows_down=grows, name=name)
    except (AddressSpaceFull, HostRefusedError):
        raise Errno(ENOMEM) from None
    return at


def _place(t: Thread, addr: int, size: int, flags: int) -> int:
    """Return where the mapping goes. Raises Errno and AddressSpaceFull."""
    if not flags & (mman.MAP_FIXED | mman.MAP_FIXED_NOREPLACE):
        return t.memory.find_free(size, addr)
    if addr > TASK_SIZE - size:
        raise Errno(ENOMEM)
    if addr & PAGE - 1:
        raise Errno(EINVAL)
    if flags & mman.MAP_FIXED_NOREPLACE and not t.memory.is_free(addr, size):
        raise Errno(EEXIST)
    return addr


def _backing(file: File | None, prot: int, shared: bool) -> Backing | None:
    if file is None:
        return None
    if not file.readable or (shared and prot & mman.PROT_WRITE and not file.writable):
        raise Errno(EACCES)
    return file.mmap_backing()


def _name(file: File | None) -> str:
    if file is None or file.place is None:
        return ""
    directory, name = file.place
    try:
        parent = directory.path(directory.fs.root)
    except Errno:
        return name.decode(errors="surrogateescape")
    return (parent.rstrip(b"/") + b"/" + name).decode(errors="surrogateescape")


# --- the memory limit -------------------------------------------------------------------------------------------------


def _is_accounted(prot: int, shared: bool, backing: Backing | None) -> bool:
    return backing is None or isinstance(backing, SharedBacking) if shared else bool(prot & mman.PROT_WRITE)


def _committed(t: Thread) -> int:
    total = count = 0
    for start, end, prot, shared, grows_down, backing, _, _ in t.memory.mappings():
        count += 1
        if not grows_down and (_is_accounted(prot, shared, backing) if shared else prot & mman.PROT_WRITE):
            total += end - start
    t.moved += 64 * count
    return total


def _admit(t: Thread, size: int) -> None:
    """Count `size` bytes more against the memory limit. Raises Errno(ENOMEM)."""
    mm, limit = t.process.mm, t.kernel.memory_limit
    if mm.committed + size > limit:  # an upper bound: unmapping does not lower it
        mm.committed = _committed(t)
        if mm.committed + size > limit:
            t.kernel.limits_hit["memory"] += 1
            raise Errno(ENOMEM)
    mm.committed += size


def _check_address_space(t: Thread, size: int) -> None:
    limit = t.process.limits[RLIMIT_AS][0]
    if limit == RLIM_INFINITY:
        return
    mappings = list(t.memory.mappings())
    t.moved += 64 * len(mappings)
    if sum(m.end - m.start for m in mappings) + size > limit:
        raise Errno(ENOMEM)


# --- changing mappings ------------------------------------------------------------------------------------------------


def _range(addr: int, length: int, error: int = EINVAL) -> int:
    """Return the rounded-up length of a range that starts on a page. Raises Errno(EINVAL), or `error` past the end."""
    if addr & PAGE - 1:
        raise Errno(EINVAL)
    size = page_up(length)
    if size > TASK_SIZE or addr > TASK_SIZE - size:
        raise Errno(error)
    return size


@syscall(91, "munmap", man="munmap(2)")
def munmap(t: Thread, addr: Ptr, length: Size) -> int | Wait:
    """Unmap whatever is mapped in a range."""
    size = _range(addr, length)
    if not size:
        raise Errno(EINVAL)
    if t.process.mm.copier is not None:
        return again(t)
    try:
        return by_pieces(t, addr, size, t.memory.unmap) or 0
    except AddressSpaceFull:
        raise Errno(ENOMEM) from None


@syscall(125, "mprotect", man="mprotect(2)")
def mprotect(t: Thread, addr: Ptr, len: Size, prot: Prot) -> int | Wait:
    """Set the protection of a range."""
    direction = prot & (mman.PROT_GROWSDOWN | mman.PROT_GROWSUP)
    prot &= ~direction
    if direction == mman.PROT_GROWSDOWN | mman.PROT_GROWSUP or addr & PAGE - 1:
        raise Errno(EINVAL)
    if not len:
        return 0
    size = _range(addr, len, ENOMEM)
    if prot & ~(7 | mman.PROT_SEM):
        raise Errno(EINVAL)
    if t.process.personality & READ_IMPLIES_EXEC and prot & mman.PROT_READ:
        prot |= mman.PROT_EXEC
    if t.process.mm.copier is not None:
        return again(t)
    if direction:
        size = _grow_range(t, addr, size, direction)
        addr -= size - page_up(len)
    try:
        return by_pieces(t, addr, size, lambda at, length: _protect(t, at, length, prot & 7)) or 0
    except (GuestMemoryError, AddressSpaceFull):
        raise Errno(ENOMEM) from None


def _protect(t: Thread, addr: int, size: int, prot: int) -> None:
    """Protect a piece; where a mapping refuses, what is below it is protected, as on Linux."""
    try:
        _check_protection(t, addr, size, prot)
    except Refused as refused:
        if addr < refused.address:
            t.memory.protect(addr, refused.address - addr, prot)
        raise
    t.memory.protect(addr, size, prot)


class Refused(Errno):
    """The mapping at `address` does not take a protection."""

    def __init__(self, number: int, address: int) -> None:
        super().__init__(number)
        self.address = address


def _grow_range(t: Thread, addr: int, size: int, direction: int) -> int:
    """PROT_GROWSDOWN: the range begins where the stack does; return its size."""
    mapping = t.memory.find_mapping(addr)
    if mapping is None:
        raise Errno(ENOMEM)
    if direction != mman.PROT_GROWSDOWN or not mapping.grows_down:
        raise Errno(EINVAL)
    return size + addr - mapping.start


def _check_protection(t: Thread, addr: int, size: int, prot: int) -> None:
    """Raise Refused: EACCES for a file that is not open for writing, ENOMEM for the memory limit."""
    at = addr
    while prot & mman.PROT_WRITE and at < addr + size:
        mapping = t.memory.find_mapping(at)
        if mapping is None:
            return
        if mapping.shared and isinstance(mapping.backing, FileBacking) and not mapping.backing.writable:
            raise Refused(EACCES, at)
        if not mapping.shared and not mapping.prot & mman.PROT_WRITE:
            try:
                _admit(t, min(mapping.end, addr + size) - at)
            except Errno as error:
                raise Refused(error.number, at) from None
        t.moved += 64
        at = mapping.end


@syscall(163, "mremap", man="mremap(2)", hex_result=True)
def mremap(t: Thread, old_addr: Ptr, old_size: Size, new_size: Size, flags: RemapFlags, new_addr: Ptr) -> int | Wait:
    """Grow, shrink or move a mapping; its address."""
    fixed = flags & mman.MREMAP_FIXED
    if flags & ~(mman.MREMAP_MAYMOVE | mman.MREMAP_FIXED) or old_addr & PAGE - 1:
        raise Errno(EINVAL)
    if fixed and not flags & mman.MREMAP_MAYMOVE:
        raise Errno(EINVAL)
    old, new = page_up(old_size), page_up(new_size)
    if not new or new > TASK_SIZE:
        raise Errno(EINVAL)
    if fixed and (new_addr & PAGE - 1 or new_addr > TASK_SIZE - new):
        raise Errno(EINVAL)
    if fixed and old_addr < new_addr + new and new_addr < old_addr + old:
        raise Errno(EINVAL)
    if t.process.mm.copier is not None:
        return again(t)
    try:
        move: int | Wait | Move | None = call_of(t).state.get("move")
        if move is None:
            move = _remap(t, old_addr, old, new, new_addr if fixed else None, bool(flags & mman.MREMAP_MAYMOVE))
        return _move(t, move) if isinstance(move, Move) else move
    except GuestMemoryError:
        raise Errno(EFAULT) from None
    except AddressSpaceFull:
        raise Errno(ENOMEM) from None


class Move(NamedTuple):
    """What is mapped at [addr, addr+old) becomes [target, target+new); with `fixed` whatever was there goes."""

    addr: int
    old: int
    new: int
    target: int
    fixed: bool


def _remap(t: Thread, addr: int, old: int, new: int, to: int | None, may_move: bool) -> int | Wait | Move:
    """Do what needs no move; return the result, or else the move to make."""
    space = t.memory
    mapping = space.find_mapping(addr)
    if mapping is None:
        raise Errno(EFAULT)
    if not old:
        if not mapping.shared:
            raise Errno(EINVAL)
        return _duplicate(t, addr, new, to, may_move)
    if to is None and new <= old:
        return (by_pieces(t, addr + new, old - new, space.unmap) if new < old else None) or addr
    if mapping.end < addr + old:
        raise Errno(EFAULT)
    if new > old and _is_accounted(mapping.prot, mapping.shared, mapping.backing):
        _admit(t, new - old)
    if new > old:
        _check_address_space(t, new - old)
    if to is None and addr + new <= TASK_SIZE and space.is_free(addr + old, new - old) and mapping.end == addr + old:
        _extend(t, addr, addr + old, new - old)
        return addr
    if not may_move:
        raise Errno(ENOMEM)
    return Move(addr, old, new, space.find_free(new) if to is None else to, to is not None)


def _move(t: Thread, move: Move) -> int | Wait:
    """Map the target, carry the content over, unmap the rest; each as long as it takes."""
    space, state = t.memory, call_of(t).state
    addr, old, new, target, fixed = state["move"] = move
    kept = min(old, new)
    if "carried" not in state:
        if fixed and (wait := by_pieces(t, target, new, space.empty)) is not None:
            return wait
        if fixed:
            space.unmap(target, new)
        space.show_at(addr, kept, target)
        if new > old:
            _extend(t, target, target + old, new - old)
        state["carried"] = 0
    if state["carried"] < kept:
        done = state["carried"]
        state["carried"] = done + space.carry(addr + done, kept - done, target + done)
        return again(t)
    return by_pieces(t, addr, old, space.unmap) or target


def _extend(t: Thread, addr: int, end: int, size: int) -> None:
    """Map `size` bytes at `end` as the continuation of the mapping that contains `addr`."""
    m = t.memory.find_mapping(addr)
    assert m is not None
    offset = m.offset + end - m.start if m.backing is not None else 0
    t.memory.map(end, size, m.prot, m.backing, offset, shared=m.shared, grows_down=m.grows_down, name=m.name)


def _duplicate(t: Thread, addr: int, size: int, to: int | None, may_move: bool) -> int:
    """Map what a shared mapping shows once more (an old size of 0)."""
    m = t.memory.find_mapping(addr)
    if m is None or not may_move:
        raise Errno(EFAULT if m is None else ENOMEM)
    target = t.memory.find_free(size) if to is None else to
    t.memory.map(target, size, m.prot, m.backing, m.offset + addr - m.start, shared=True, name=m.name)
    return target


# --- advice, locks, residence -----------------------------------------------------------------------------------------

_HINTS: Final = frozenset({
    mman.MADV_NORMAL, mman.MADV_RANDOM, mman.MADV_SEQUENTIAL, mman.MADV_WILLNEED, mman.MADV_FREE, mman.MADV_DONTDUMP,
    mman.MADV_DODUMP, mman.MADV_COLD, mman.MADV_PAGEOUT,
})  # fmt: skip


@syscall(219, "madvise", man="madvise(2)")
def madvise(t: Thread, addr: Ptr, length: Size, advice: Advice) -> int | Wait:
    """Give pages back (MADV_DONTNEED); other advice that Linux may ignore is ignored."""
    if advice not in _HINTS and advice != mman.MADV_DONTNEED:
        raise Errno(EINVAL)
    size = _range(addr, length)
    if not size:
        return 0
    if t.process.mm.copier is not None:
        return again(t)
    if advice == mman.MADV_FREE and any(m.shared or m.backing for m in t.memory.mappings_in(addr, size)):
        raise Errno(EINVAL)
    if advice == mman.MADV_DONTNEED and (wait := by_pieces(t, addr, size, t.memory.discard)) is not None:
        return wait
    if not t.memory.is_mapped(addr, size):
        raise Errno(ENOMEM)
    return 0


@syscall(144, "msync", man="msync(2)")
def msync(t: Thread, addr: Ptr, length: Size, flags: SyncFlags) -> int:
    """Nothing to do where the range is mapped: shared mappings store into the file itself."""
    both = mman.MS_ASYNC | mman.MS_SYNC
    if flags & ~(both | mman.MS_INVALIDATE) or flags & both == both:
        raise Errno(EINVAL)
    size = _range(addr, length, ENOMEM)
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
    size = _range(addr, length, ENOMEM)
    if size and not t.memory.is_mapped(addr, size):
        raise Errno(ENOMEM)
    first = addr >> PAGE_SHIFT
    table = bytes(t.memory.pages[first : first + (size >> PAGE_SHIFT)])
    t.memory.write(vec, table.translate(_TOUCHED))
    t.moved += len(table)
    return 0

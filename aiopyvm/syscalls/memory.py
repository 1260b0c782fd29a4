"""Memory: brk(2), mmap(2), munmap(2), mprotect(2).

A change of many mappings or pages is made in pieces, with others' turns between them. What another thread must not
take meanwhile (the place of a MAP_FIXED mapping, mremap's target) stays mapped until the new mapping is there.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi import mman
from aiopyvm.abi.errno import EACCES, EEXIST, EINVAL, ENOMEM, Errno
from aiopyvm.abi.mman import MmapArgs
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_DATA
from aiopyvm.errors import GuestMemoryError, HostRefusedError
from aiopyvm.kernel.file import File
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.backing import Backing, HeldImages
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import PAGE, TASK_SIZE, page_up
from aiopyvm.syscalls.accounting import admit, check_address_space, page_range
from aiopyvm.syscalls.spec import I32, Fd, Flags, Hex, In, Ptr, Size, syscall
from aiopyvm.syscalls.steps import again, by_pieces, call_of

READ_IMPLIES_EXEC: Final = 0x0400000

Prot = Annotated[int, Flags(mman.PROT_NAMES, zero="PROT_NONE")]
MapFlags = Annotated[int, Flags(mman.MAP_NAMES)]


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
    admit(t, new_end - old_end)
    check_address_space(t, new_end - old_end)
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
        backing = _backing(file, prot, shared, t.kernel.images)
        if flags & mman.MAP_GROWSDOWN and shared:
            raise Errno(EINVAL)
        state = call_of(t).state
        if "admitted" not in state:
            if not flags & mman.MAP_NORESERVE and (backing is None if shared else prot & mman.PROT_WRITE):
                admit(t, size)
            check_address_space(t, size)
            state["admitted"] = True
        used = not (t.memory.is_free(at, size) or t.memory.is_untouched(at, at + size))
        if used and (wait := by_pieces(t, at, size, t.memory.empty)) is not None:
            return wait
        grows = bool(flags & mman.MAP_GROWSDOWN)
        name = _name(file)
        t.memory.map(at, size, prot & 7, backing, offset if backing else 0, shared=shared, grows_down=grows, name=name)
        if name and file is not None and file.inode is not None:
            t.process.mm.shows(name, file.inode)
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


def _backing(file: File | None, prot: int, shared: bool, images: HeldImages) -> Backing | None:
    if file is None:
        return None
    if not file.readable or (shared and prot & mman.PROT_WRITE and not file.writable):
        raise Errno(EACCES)
    image = None if shared else file.mmap_image(images)
    return image if image is not None else file.mmap_backing(images)


def _name(file: File | None) -> str:
    if file is None or file.place is None:
        return ""
    directory, name = file.place
    try:
        parent = directory.path(directory.fs.root)
    except Errno:
        return name.decode(errors="surrogateescape")
    return (parent.rstrip(b"/") + b"/" + name).decode(errors="surrogateescape")


# --- changing mappings ------------------------------------------------------------------------------------------------


@syscall(91, "munmap", man="munmap(2)")
def munmap(t: Thread, addr: Ptr, length: Size) -> int | Wait:
    """Unmap whatever is mapped in a range."""
    size = page_range(addr, length)
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
    size = page_range(addr, len, ENOMEM)
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


@syscall(380, "pkey_mprotect", man="pkey_mprotect(2)", note="no protection keys: `pkey` must be -1")
def pkey_mprotect(t: Thread, addr: Ptr, len: Size, prot: Prot, pkey: I32) -> int | Wait:
    """Set the protection of a range."""
    if pkey != -1:
        raise Errno(EINVAL)
    return mprotect(t, addr, len, prot)


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
        if mapping.shared and mapping.backing is not None and not mapping.backing.writable:
            raise Refused(EACCES, at)
        if not mapping.shared and not mapping.prot & mman.PROT_WRITE:
            try:
                admit(t, min(mapping.end, addr + size) - at)
            except Errno as error:
                raise Refused(error.number, at) from None
        t.moved += 64
        at = mapping.end

"""mremap(2): mappings grow, shrink, move and are shown twice, in pieces with others' turns between them."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from aiopyvm.abi import mman
from aiopyvm.abi.errno import EFAULT, EINVAL, ENOMEM, Errno
from aiopyvm.errors import GuestMemoryError
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import PAGE, TASK_SIZE, page_up
from aiopyvm.syscalls.accounting import admit, check_address_space
from aiopyvm.syscalls.spec import Flags, Ptr, Size, syscall
from aiopyvm.syscalls.steps import again, by_pieces, call_of

RemapFlags = Annotated[int, Flags(mman.MREMAP_NAMES)]


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
    if new > old and not mapping.shared and mapping.prot & mman.PROT_WRITE:
        admit(t, new - old)
    if new > old:
        check_address_space(t, new - old)
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

"""What a thread library asks for at a thread's start: TLS descriptors, exit notices, its id (set_thread_area(2))."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiopyvm.abi.errno import EBUSY, EFAULT, EINVAL, ENODEV, ENOSYS, EPERM, ESRCH, Errno
from aiopyvm.abi.layout import codec_of, layout
from aiopyvm.isa.state import FIRST_TLS_ENTRY, TLS_ENTRIES
from aiopyvm.kernel import rseq as restartable
from aiopyvm.kernel import segments
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.layout import TASK_SIZE
from aiopyvm.syscalls.spec import I32, U32, Hex, InOut, Out, Pid, Ptr, Size, syscall

SEG_32BIT: Final = 1 << 0
CONTENTS: Final = 3 << 1
READ_EXEC_ONLY: Final = 1 << 3
LIMIT_IN_PAGES: Final = 1 << 4
SEG_NOT_PRESENT: Final = 1 << 5
USEABLE: Final = 1 << 6

ROBUST_LIST_HEAD_BYTES: Final = 12
RSEQ_FLAG_UNREGISTER: Final = 1


@layout("<4I")
class UserDesc(NamedTuple):
    """struct user_desc (set_thread_area(2)); `flags` are its bit-fields."""

    entry_number: int
    base_addr: int
    limit: int
    flags: int


def _is_empty(desc: UserDesc) -> bool:
    """LDT_empty or LDT_zero: a descriptor that clears the entry."""
    nothing = desc.base_addr == desc.limit == 0
    return nothing and desc.flags & 0x7F in (0, READ_EXEC_ONLY | SEG_NOT_PRESENT)


def _unpack(desc: UserDesc) -> tuple[int, int, int]:
    """Return (base, limit, access) of a descriptor. Raises Errno(EINVAL) for one that user code may not have."""
    if _is_empty(desc):
        return 0, 0, 0
    if not desc.flags & SEG_32BIT or desc.flags & CONTENTS > 2 or desc.flags & SEG_NOT_PRESENT:
        raise Errno(EINVAL)
    limit = desc.limit & 0xFFFFF
    if desc.flags & LIMIT_IN_PAGES:
        limit = limit << 12 | 0xFFF
    access = 0xF100 | 0x400000  # present, DPL 3, data, accessed; 32-bit
    access |= 0 if desc.flags & READ_EXEC_ONLY else 0x200
    access |= (desc.flags & CONTENTS) << 9
    access |= 0x800000 if desc.flags & LIMIT_IN_PAGES else 0
    access |= 0x100000 if desc.flags & USEABLE else 0
    return desc.base_addr, limit, access


def tls_argument(t: Thread, address: int) -> tuple[int, int, int, int]:
    """Read clone(2)'s `tls`: (TLS index, base, limit, access). Raises MemoryFault and Errno(EINVAL)."""
    desc = UserDesc(*(t.memory.load(address + 4 * n, 4) for n in range(4)))
    return _index(desc.entry_number), *_unpack(desc)


def _index(entry: int) -> int:
    if not FIRST_TLS_ENTRY <= entry < FIRST_TLS_ENTRY + TLS_ENTRIES:
        raise Errno(EINVAL)
    return entry - FIRST_TLS_ENTRY


@syscall(243, "set_thread_area", man="set_thread_area(2)")
def set_thread_area(t: Thread, desc: InOut[UserDesc]) -> int:
    """Set a TLS descriptor; entry -1 takes a free one and tells which."""
    given = desc.get()
    base, limit, access = _unpack(given)
    tls = t.core.cpu.tls
    if given.entry_number == 0xFFFFFFFF:
        index = next((n for n in range(TLS_ENTRIES) if not tls[n].access), None)
        if index is None:
            raise Errno(ESRCH)
        desc.put(given._replace(entry_number=index + FIRST_TLS_ENTRY))
    else:
        index = _index(given.entry_number)
    tls[index].base, tls[index].limit, tls[index].access = base, limit, access
    segments.refresh(t.core.cpu)
    t.attention = True
    return 0


@syscall(244, "get_thread_area", man="set_thread_area(2)")
def get_thread_area(t: Thread, desc: InOut[UserDesc]) -> int:
    """Tell a TLS descriptor."""
    desc.put(_described(t, _index(desc.get().entry_number)))
    return 0


def set_tls(t: Thread, index: int, image: bytes) -> None:
    """Set a TLS entry of `t` to a struct user_desc. Raises Errno(EINVAL) for one that user code may not have."""
    entry = t.core.cpu.tls[index]
    entry.base, entry.limit, entry.access = _unpack(codec_of(UserDesc).unpack(image))
    segments.refresh(t.core.cpu)


def show_tls(t: Thread, index: int) -> bytes:
    """Return the struct user_desc of a TLS entry of `t`."""
    return codec_of(UserDesc).pack(_described(t, index))


def _described(t: Thread, index: int) -> UserDesc:
    d, entry = t.core.cpu.tls[index], index + FIRST_TLS_ENTRY
    if not d.access:
        return UserDesc(entry, 0, 0, READ_EXEC_ONLY | SEG_NOT_PRESENT)
    flags = SEG_32BIT | (d.access >> 9 & CONTENTS) | (0 if d.access & 0x200 else READ_EXEC_ONLY)
    flags |= LIMIT_IN_PAGES if d.access & 0x800000 else 0
    flags |= USEABLE if d.access & 0x100000 else 0
    return UserDesc(entry, d.base, d.limit >> 12 if d.access & 0x800000 else d.limit, flags)


@syscall(123, "modify_ldt", man="modify_ldt(2)")
def modify_ldt(t: Thread, func: I32, ptr: Ptr, bytecount: Size) -> int:
    """Read the local descriptor table, which is always empty here; entries cannot be set (docs/quirks.md)."""
    if func in (0, 2):
        return 0
    raise Errno(ENOSYS)


@syscall(384, "arch_prctl", man="arch_prctl(2)")
def arch_prctl(t: Thread, option: Hex, arg2: Ptr) -> int:
    """A 32-bit program may ask for CPUID faulting alone, which this CPU does not have."""
    if option == 0x1011:  # ARCH_GET_CPUID
        return 1
    if option == 0x1012:  # ARCH_SET_CPUID
        raise Errno(ENODEV)
    raise Errno(EINVAL)


@syscall(258, "set_tid_address", man="set_tid_address(2)")
def set_tid_address(t: Thread, tidptr: Ptr) -> int:
    """Set the word that is cleared and woken when the thread ends; the thread's id."""
    t.clear_child_tid = tidptr
    return t.tid


@syscall(224, "gettid", man="gettid(2)")
def gettid(t: Thread) -> int:
    """The thread's id."""
    return t.tid


@syscall(311, "set_robust_list", man="get_robust_list(2)")
def set_robust_list(t: Thread, head: Ptr, len: Size) -> int:
    """Set the list of futexes to be passed on when the thread ends."""
    if len != ROBUST_LIST_HEAD_BYTES:
        raise Errno(EINVAL)
    t.robust_list = head
    return 0


@syscall(312, "get_robust_list", man="get_robust_list(2)")
def get_robust_list(t: Thread, pid: Pid, head: Out[U32], len: Out[U32]) -> int:
    """Tell that list."""
    thread = t.kernel.threads.get(pid) if pid else t
    if thread is None:
        raise Errno(ESRCH)
    if thread.credentials.uid != t.credentials.euid:
        raise Errno(EPERM)
    len.put(ROBUST_LIST_HEAD_BYTES)
    head.put(thread.robust_list)
    return 0


@syscall(386, "rseq", man="rseq(2)")
def rseq(t: Thread, area: Ptr, length: Size, flags: Hex, signature: Hex) -> int:
    """Name the area by which the kernel and the thread tell each other of processor and restartable sequences."""
    had = t.rseq
    if flags & ~RSEQ_FLAG_UNREGISTER or (flags and had is None):
        raise Errno(EINVAL)
    if had is not None:
        if (area, length) != (had.address, had.length):
            raise Errno(EINVAL)
        if signature != had.signature:
            raise Errno(EPERM)
        if not flags:
            raise Errno(EBUSY)
        restartable.show(t, area, False)
        t.rseq = None
        return 0
    if length < restartable.SIZE or area % restartable.SIZE:
        raise Errno(EINVAL)
    if area + length > TASK_SIZE:
        raise Errno(EFAULT)
    restartable.show(t, area, True)
    t.rseq = restartable.Area(area, length, signature)
    return 0

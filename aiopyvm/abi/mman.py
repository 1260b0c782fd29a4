"""Protections, flags and advice of memory calls on Linux i386 (mmap(2), mremap(2), madvise(2))."""

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_SEM: Final = 8
PROT_GROWSDOWN: Final = 0x01000000
PROT_GROWSUP: Final = 0x02000000

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_SHARED_VALIDATE: Final = 0x03
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_32BIT: Final = 0x40
MAP_GROWSDOWN: Final = 0x0100
MAP_DENYWRITE: Final = 0x0800
MAP_EXECUTABLE: Final = 0x1000
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_NONBLOCK: Final = 0x10000
MAP_STACK: Final = 0x20000
MAP_HUGETLB: Final = 0x40000
MAP_FIXED_NOREPLACE: Final = 0x100000

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4

MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_WILLNEED: Final = 3
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_MERGEABLE: Final = 12
MADV_UNMERGEABLE: Final = 13
MADV_HUGEPAGE: Final = 14
MADV_NOHUGEPAGE: Final = 15
MADV_DONTDUMP: Final = 16
MADV_DODUMP: Final = 17
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24

MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4


def _names(prefix: str, *left_out: str) -> dict[int, str]:
    return {
        value: name
        for name, value in globals().items()
        if name.startswith(prefix) and isinstance(value, int) and name not in left_out
    }


PROT_NAMES: Final = _names("PROT_")
MAP_NAMES: Final = _names("MAP_", "MAP_TYPE", "MAP_SHARED_VALIDATE")
MREMAP_NAMES: Final = _names("MREMAP_")
MS_NAMES: Final = _names("MS_")
MADV_NAMES: Final = _names("MADV_")


@layout("<6I")
class MmapArgs(NamedTuple):
    """struct mmap_arg_struct32, as mmap (90) takes it."""

    addr: int
    len: int
    prot: int
    flags: int
    fd: int
    offset: int

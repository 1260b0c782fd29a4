"""File attributes: mode bits, the kernel's own `Stat`, and the layouts in which stat(2) and its relatives return it.

Layouts are those of a 64-bit kernel for i386 programs: arch/x86/include/uapi/asm/stat.h, statfs(2), statx(2).
"""

import struct
from typing import Final, NamedTuple

from aiopyvm.abi.errno import EOVERFLOW, Errno

S_IFMT: Final = 0o170000
S_IFSOCK: Final = 0o140000
S_IFLNK: Final = 0o120000
S_IFREG: Final = 0o100000
S_IFBLK: Final = 0o060000
S_IFDIR: Final = 0o040000
S_IFCHR: Final = 0o020000
S_IFIFO: Final = 0o010000
S_ISUID: Final = 0o4000
S_ISGID: Final = 0o2000
S_IXGRP: Final = 0o010
S_ISVTX: Final = 0o1000
S_IXUGO: Final = 0o111

TMPFS_MAGIC: Final = 0x01021994
PROC_SUPER_MAGIC: Final = 0x9FA0
PIPEFS_MAGIC: Final = 0x50495045
OVERLAYFS_MAGIC: Final = 0x794C7630
EXT4_SUPER_MAGIC: Final = 0xEF53

STATX_BASIC_STATS: Final = 0x7FF
STATX_BTIME: Final = 0x800
STATX_RESERVED: Final = 0x80000000
STATX_ATTR_MOUNT_ROOT: Final = 0x2000

ST_RDONLY: Final = 1
ST_RELATIME: Final = 0x1000
_ST_VALID = 0x20

SECOND_NS: Final = 1_000_000_000


class Stat(NamedTuple):
    """What is known of a file; times in integer nanoseconds since the epoch, `blocks` in units of 512 bytes."""

    ino: int
    mode: int
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    size: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    btime: int = 0
    blocks: int = 0
    rdev: int = 0
    dev: int = 0
    blksize: int = 4096


class StatFs(NamedTuple):
    """What statfs(2) tells of a file system; sizes in blocks of `bsize` bytes."""

    type: int
    bsize: int = 4096
    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    fsid: int = 0
    namelen: int = 255
    flags: int = ST_RELATIME


def makedev(major: int, minor: int) -> int:
    """Return the device number as the i386 layouts hold it (new_encode_dev)."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def major(device: int) -> int:
    """Return the major part of a device number."""
    return (device >> 8) & 0xFFF


def minor(device: int) -> int:
    """Return the minor part of a device number."""
    return (device & 0xFF) | ((device >> 12) & 0xFFF00)


_OLD = struct.Struct("<7HxxI3I")
_STAT = struct.Struct("<IIHHHHIIIIIIIIIIII")
_STAT64 = struct.Struct("<Q6IQ4xqIQ6IQ")
_STATX = struct.Struct("<IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIII" + "QII" + "96x")
_STATFS = struct.Struct("<12I16x")
_STATFS64 = struct.Struct("<II5Q5I16x")
OLD_STAT_SIZE: Final = 32
STAT_SIZE: Final = _STAT.size
STAT64_SIZE: Final = _STAT64.size
STATX_SIZE: Final = 256
STATFS_SIZE: Final = _STATFS.size
STATFS64_SIZE: Final = _STATFS64.size


def _short_id(number: int) -> int:
    return number if number <= 0xFFFF else 0xFFFE  # the overflow uid and gid


def _time32(ns: int) -> tuple[int, int]:
    seconds, rest = divmod(ns, SECOND_NS)
    return seconds & 0xFFFFFFFF, rest


def pack_old_stat(s: Stat) -> bytes:
    """Return a __old_kernel_stat (32 bytes). Raises EOVERFLOW where a field does not fit."""
    if s.size > 0x7FFFFFFF or s.nlink > 0xFFFF or s.ino > 0xFFFF or max(s.dev, s.rdev) > 0xFFFF:
        raise Errno(EOVERFLOW)
    return _OLD.pack(
        s.dev & 0xFFFF, s.ino & 0xFFFF, s.mode, s.nlink, _short_id(s.uid), _short_id(s.gid), s.rdev & 0xFFFF, s.size,
        _time32(s.atime)[0], _time32(s.mtime)[0], _time32(s.ctime)[0],
    )  # fmt: skip


def pack_stat(s: Stat) -> bytes:
    """Return a struct stat (64 bytes). Raises EOVERFLOW where a field does not fit."""
    if s.size > 0x7FFFFFFF or s.ino > 0xFFFFFFFF or s.nlink > 0xFFFF:
        raise Errno(EOVERFLOW)
    return _STAT.pack(
        s.dev, s.ino, s.mode, s.nlink, _short_id(s.uid), _short_id(s.gid), s.rdev, s.size, s.blksize,
        s.blocks & 0xFFFFFFFF, *_time32(s.atime), *_time32(s.mtime), *_time32(s.ctime), 0, 0,
    )  # fmt: skip


def pack_stat64(s: Stat) -> bytes:
    """Return a struct stat64 (96 bytes)."""
    return _STAT64.pack(
        s.dev, 0, s.ino & 0xFFFFFFFF, s.mode, s.nlink, s.uid, s.gid, s.rdev, s.size, s.blksize, s.blocks,
        *_time32(s.atime), *_time32(s.mtime), *_time32(s.ctime), s.ino,
    )  # fmt: skip


def pack_statx(s: Stat, attributes: int = 0) -> bytes:
    """Return a struct statx (256 bytes) with the basic fields and the time of birth."""
    times = [part for t in (s.atime, s.btime, s.ctime, s.mtime) for part in divmod(t, SECOND_NS)]
    return _STATX.pack(
        STATX_BASIC_STATS | STATX_BTIME, s.blksize, attributes, s.nlink, s.uid, s.gid, s.mode, s.ino, s.size, s.blocks,
        STATX_ATTR_MOUNT_ROOT, *times, major(s.rdev), minor(s.rdev), major(s.dev), minor(s.dev), 0, 0, 0,
    )  # fmt: skip


def pack_statfs(s: StatFs) -> bytes:
    """Return a struct statfs (64 bytes). Raises EOVERFLOW where a field does not fit."""
    if max(s.blocks, s.bfree, s.bavail, s.files, s.ffree) > 0xFFFFFFFF:
        raise Errno(EOVERFLOW)
    return _STATFS.pack(
        s.type, s.bsize, s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.fsid & 0xFFFFFFFF, s.fsid >> 32, s.namelen,
        s.bsize, s.flags | _ST_VALID,
    )  # fmt: skip


def pack_statfs64(s: StatFs) -> bytes:
    """Return a struct statfs64 (84 bytes)."""
    return _STATFS64.pack(
        s.type, s.bsize, s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.fsid & 0xFFFFFFFF, s.fsid >> 32, s.namelen,
        s.bsize, s.flags | _ST_VALID,
    )  # fmt: skip

"""Flags and commands of open(2), fcntl(2), flock(2), renameat2(2) and their relatives on Linux i386; data only."""

from __future__ import annotations

from typing import Final

O_ACCMODE: Final = 0o3
O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_DSYNC: Final = 0o10000
O_ASYNC: Final = 0o20000
O_DIRECT: Final = 0o40000
O_LARGEFILE: Final = 0o100000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000
O_SYNC: Final = 0o4010000
O_PATH: Final = 0o10000000
O_TMPFILE_BIT: Final = 0o20000000
O_TMPFILE: Final = O_TMPFILE_BIT | O_DIRECTORY

# What F_SETFL may change, and what open(2) does not keep in the file's status flags.
SETFL_MASK: Final = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME
CREATION_FLAGS: Final = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC

OPEN_NAMES: Final = {
    O_WRONLY: "O_WRONLY",
    O_RDWR: "O_RDWR",
    O_CREAT: "O_CREAT",
    O_EXCL: "O_EXCL",
    O_NOCTTY: "O_NOCTTY",
    O_TRUNC: "O_TRUNC",
    O_APPEND: "O_APPEND",
    O_NONBLOCK: "O_NONBLOCK",
    O_SYNC: "O_SYNC",
    O_DSYNC: "O_DSYNC",
    O_ASYNC: "O_ASYNC",
    O_DIRECT: "O_DIRECT",
    O_LARGEFILE: "O_LARGEFILE",
    O_TMPFILE: "O_TMPFILE",
    O_DIRECTORY: "O_DIRECTORY",
    O_NOFOLLOW: "O_NOFOLLOW",
    O_NOATIME: "O_NOATIME",
    O_CLOEXEC: "O_CLOEXEC",
    O_PATH: "O_PATH",
}

F_DUPFD: Final = 0
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
F_GETLK: Final = 5
F_SETLK: Final = 6
F_SETLKW: Final = 7
F_SETOWN: Final = 8
F_GETOWN: Final = 9
F_SETSIG: Final = 10
F_GETSIG: Final = 11
F_GETLK64: Final = 12
F_SETLK64: Final = 13
F_SETLKW64: Final = 14
F_SETOWN_EX: Final = 15
F_GETOWN_EX: Final = 16
F_OFD_GETLK: Final = 36
F_OFD_SETLK: Final = 37
F_OFD_SETLKW: Final = 38
F_SETLEASE: Final = 1024
F_GETLEASE: Final = 1025
F_NOTIFY: Final = 1026
F_DUPFD_CLOEXEC: Final = 1030
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032
F_ADD_SEALS: Final = 1033
F_GET_SEALS: Final = 1034

FD_CLOEXEC: Final = 1

# Types of struct f_owner_ex.
F_OWNER_TID: Final = 0
F_OWNER_PID: Final = 1
F_OWNER_PGRP: Final = 2

# Events of F_NOTIFY.
DN_ACCESS: Final = 0x01
DN_MODIFY: Final = 0x02
DN_CREATE: Final = 0x04
DN_DELETE: Final = 0x08
DN_RENAME: Final = 0x10
DN_ATTRIB: Final = 0x20
DN_MULTISHOT: Final = 1 << 31

F_RDLCK: Final = 0
F_WRLCK: Final = 1
F_UNLCK: Final = 2
LEASE_BREAK_SECONDS: Final = 45  # where nobody sets /proc/sys/fs/lease-break-time

LOCK_SH: Final = 1
LOCK_EX: Final = 2
LOCK_NB: Final = 4
LOCK_UN: Final = 8

SEEK_SET: Final = 0
SEEK_CUR: Final = 1
SEEK_END: Final = 2
SEEK_DATA: Final = 3
SEEK_HOLE: Final = 4

R_OK: Final = 4
W_OK: Final = 2
X_OK: Final = 1

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_REMOVEDIR: Final = 0x200
AT_EACCESS: Final = 0x200
AT_SYMLINK_FOLLOW: Final = 0x400
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000
AT_STATX_SYNC_TYPE: Final = 0x6000

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

FALLOC_FL_KEEP_SIZE: Final = 1
FALLOC_FL_PUNCH_HOLE: Final = 2
FALLOC_FL_ZERO_RANGE: Final = 16

CLOSE_RANGE_UNSHARE: Final = 2
CLOSE_RANGE_CLOEXEC: Final = 4

MFD_CLOEXEC: Final = 1
MFD_ALLOW_SEALING: Final = 2

PATH_MAX: Final = 4096
NAME_MAX: Final = 255
MAX_SYMLINKS: Final = 40
MAX_NON_LFS: Final = 0x7FFFFFFF  # the largest file size without O_LARGEFILE
MAX_FILE_SIZE: Final = 0x7FFFFFFFFFFFFFFF
MAX_RW_COUNT: Final = 0x7FFFF000  # what one read(2) or write(2) moves at most

# openat2(2)
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
RESOLVE_CACHED: Final = 0x20

"""Directory records: linux_dirent (getdents(2)), linux_dirent64 (getdents64(2)), old_linux_dirent (readdir(2))."""

from __future__ import annotations

import struct
from typing import Final

DT_UNKNOWN: Final = 0
DT_FIFO: Final = 1
DT_CHR: Final = 2
DT_DIR: Final = 4
DT_BLK: Final = 6
DT_REG: Final = 8
DT_LNK: Final = 10
DT_SOCK: Final = 12

_HEAD = struct.Struct("<IIH")
_HEAD64 = struct.Struct("<QqHB")


def pack_dirent(ino: int, cookie: int, name: bytes, kind: int) -> bytes:
    """Return one linux_dirent: d_ino, d_off, d_reclen, d_name, padding, d_type in the last byte."""
    size = (10 + len(name) + 2 + 3) & ~3
    body = _HEAD.pack(ino & 0xFFFFFFFF, cookie & 0xFFFFFFFF, size) + name
    return body.ljust(size - 1, b"\0") + bytes((kind,))


def pack_dirent64(ino: int, cookie: int, name: bytes, kind: int) -> bytes:
    """Return one linux_dirent64: d_ino, d_off, d_reclen, d_type, d_name."""
    size = (19 + len(name) + 1 + 7) & ~7
    return (_HEAD64.pack(ino, cookie, size, kind) + name).ljust(size, b"\0")


def pack_old_dirent(ino: int, cookie: int, name: bytes) -> bytes:
    """Return one old_linux_dirent: d_ino, d_offset, d_namlen, d_name."""
    return _HEAD.pack(ino & 0xFFFFFFFF, cookie & 0xFFFFFFFF, len(name)) + name + b"\0"

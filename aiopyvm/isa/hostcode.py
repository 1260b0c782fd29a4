"""Machine code of our own that the evaluator calls where the host's processor is the definition.

A page is written once and executable only afterwards. There is none where the host is no x86-64 of the System V
convention, or forbids it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from typing import Final

_PAGES: Final[list[ctypes.Array[ctypes.c_char]]] = []


def executable(code: bytes) -> int | None:
    """The address of a page that has `code`, for as long as the process lives; None where there can be none."""
    if (
        os.name != "posix"
        or platform.machine().lower() not in ("x86_64", "amd64")
        or ctypes.sizeof(ctypes.c_void_p) != 8
    ):
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError:
        return None
    page[: len(code)] = code
    held = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
    _PAGES.append(held)
    address = ctypes.addressof(held)
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return None if protect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) else address


__all__ = ["executable"]

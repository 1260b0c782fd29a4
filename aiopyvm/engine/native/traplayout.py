"""What the handler of host faults and Python agree on: tables in memory, all of the process's life where they are.

`Control` lies at `code_base`, the code arena's first page. Python writes all of it but `Slot.opened` and `Slot.pages`,
one word at a time, while the handler may be reading in any thread.
"""

from __future__ import annotations

import ctypes
from typing import Final

LEVELS: Final = 8  # entries of the handler, one for each handler that it was installed over
MOST_SLOTS: Final = 1024  # reservations that are protected at once
MOST_OPENED: Final = 60  # pages of one that are opened one by one
ALL_OPENED: Final = MOST_OPENED + 1


class Previous(ctypes.Structure):
    """What an entry was installed over: `handler` and `flags` as in sigaction(2)."""

    _fields_ = (("handler", ctypes.c_uint64), ("flags", ctypes.c_uint64))


class Control(ctypes.Structure):
    """Where everything is."""

    _fields_ = (
        ("directory", ctypes.c_uint64),  # address of TableEntry[code_bytes >> 12], by page of the code arena
        ("code_bytes", ctypes.c_uint64),
        ("slots", ctypes.c_uint64),  # address of Slot[MOST_SLOTS]
        ("slot_count", ctypes.c_uint64),  # slots that were ever in use: the first so many
        ("previous", Previous * LEVELS),
    )


class TableEntry(ctypes.Structure):
    """The trap table of the object on a page; `count` 0: none. Read and written as one word of 64 bits."""

    _fields_ = (("at", ctypes.c_uint32), ("count", ctypes.c_uint32))  # distance from code_base; entries


class Slot(ctypes.Structure):
    """A protected reservation. `opened`: how many pages the handler has opened for the host itself since Python set it
    to 0, numbers in `pages`; more than MOST_OPENED: all.
    """

    _fields_ = (
        ("base", ctypes.c_uint64),  # host address of guest address 0; 0: the slot is free
        ("opened", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("pages", ctypes.c_uint32 * MOST_OPENED),
    )


ENTRIES: Final = tuple(f"trap_{level}" for level in range(LEVELS))  # the handler's functions, by level
TRAPS: Final = ".traps"  # the section of an object with its trap table: by place, ascending
TRAP_SIZE: Final = 8  # of an entry of an object's trap table: two signed distances, each from where it stands

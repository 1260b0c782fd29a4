"""What `relay` (relay_ir.py) and Python agree on: the parties of a conversation through pipes, and where it stands.

What always holds while `relay` is not running: a party that is not asleep is the current one or stands in the line,
once; the registers and counts of all are exact.
"""

from __future__ import annotations

import ctypes
import enum
from typing import Final

from aiopyvm.engine.native.layout import Record

MOST_PARTIES: Final = 8
MOST_ROUTES: Final = 4  # of one party


class Outcome(enum.IntEnum):
    """Why `relay` came back."""

    LEFT = 0  # the current party's generated code came back for no system call: its context says why
    CALL = 1  # the current party is behind a system call that is for the kernel
    PAUSE = 2  # the current party is to go on: the fuel is spent, or what the party may use
    IDLE = 3  # all are asleep


class Route(ctypes.Structure):
    """What is written to descriptor `fd` is read by party `to`."""

    _fields_ = (("fd", ctypes.c_uint32), ("to", ctypes.c_uint32))


class Party(ctypes.Structure):
    """One core; asleep it waits in a read of at most `room` bytes to guest address `address`, from descriptor `fd`."""

    _fields_ = (
        ("context", ctypes.c_uint64),  # addresses
        ("cpu", ctypes.c_uint64),
        ("record", ctypes.c_uint64),  # to go on at
        ("left", ctypes.c_int64),  # what it may use until it sleeps
        ("slice", ctypes.c_int64),  # and from when it is woken
        ("done", ctypes.c_int64),  # instructions executed
        ("spent", ctypes.c_int64),  # and what its calls cost
        ("reads", ctypes.c_uint32),  # times that it went to sleep
        ("writes", ctypes.c_uint32),
        ("asleep", ctypes.c_uint32),
        ("fd", ctypes.c_uint32),
        ("address", ctypes.c_uint32),
        ("room", ctypes.c_uint32),
        ("route_count", ctypes.c_uint32),
        ("routes", Route * MOST_ROUTES),
    )


class Desk(ctypes.Structure):
    """A conversation. A call costs `cost`, and one more for each 1 << `moved_shift` bytes that it moves."""

    _fields_ = (
        ("resume", Record),  # goes on at EIP, for who has no record
        ("fuel", ctypes.c_int64),  # what all may use together, before `relay` comes back
        ("cost", ctypes.c_int64),
        ("moved_shift", ctypes.c_int64),
        ("read_number", ctypes.c_uint32),  # of the system calls
        ("write_number", ctypes.c_uint32),
        ("outcome", ctypes.c_uint32),
        ("current", ctypes.c_uint32),
        ("first", ctypes.c_uint32),  # of the line, which goes round
        ("waiting", ctypes.c_uint32),  # parties in the line
        ("line", ctypes.c_uint32 * MOST_PARTIES),  # numbers of parties that were woken, in order
        ("parties", Party * MOST_PARTIES),
    )

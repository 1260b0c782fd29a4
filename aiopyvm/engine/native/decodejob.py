"""What the generated decoder and Python agree on: the job's fields, a leaf's flags, where hash tables have a key."""

from __future__ import annotations

import ctypes
from typing import Final

PADDING: Final = 32  # bytes behind those of the job that `decode` may look at
LEARNED_BITS: Final = 10  # log2 of the places of a table of what was learned

# What a leaf says of the instruction: control may go elsewhere than to the next one, or there; a procedure is called;
# LOCK is legal; of a memory operand, the base's number is part of the shape; VEX.vvvv names no register.
ENDS, FALLS, CALLS, LOCKABLE, STATIC_BASE, NO_VVVV = 1, 2, 4, 8, 16, 32
NEEDS: Final = "decode_needs"  # the symbol of the list of needs, by number: text, a line each, then a zero byte
MOST_NEEDS: Final = 64  # different needs of leaves: what their rows say in `Row.cpuid`
BRANCH: Final = 1 << 8  # in `DecodeJob.flow`, beside these: the last instruction has a target

_MULTIPLIER_BITS: Final = 64
MULTIPLIER: Final = 0x9E3779B97F4A7C15  # 2**64 / the golden ratio (Knuth, The Art of Computer Programming, 6.4)


class DecodeJob(ctypes.Structure):
    """What `decode` is given, and what it says."""

    _fields_ = (
        ("code", ctypes.c_uint64),  # address of the bytes
        ("records", ctypes.c_uint64),  # address of room for `most` records
        ("learned", ctypes.c_uint64),  # address of Learned[1 << LEARNED_BITS], not full
        ("stop", ctypes.c_uint64),  # guest address where code ends; 2**64 - 1: nowhere
        ("eip", ctypes.c_uint32),  # guest address of the first byte
        ("room", ctypes.c_uint32),  # bytes
        ("most", ctypes.c_uint32),  # instructions, at least 1
        ("count", ctypes.c_uint32),  # after: instructions that were decoded
        ("next", ctypes.c_uint32),  # after: address behind them
        ("flow", ctypes.c_uint32),  # after: the last leaf's flags, BRANCH
        ("target", ctypes.c_uint32),  # after: the last instruction's, with BRANCH
        ("length", ctypes.c_uint32),  # after: bytes of the last instruction
        ("lacking", ctypes.c_uint64),  # bit n: the processor lacks what leaves of need n need
        ("key", ctypes.c_uint64),  # after: the instruction behind them has this key, and no handler; 0: it is otherwise
    )


class Learned(ctypes.Structure):
    """A place of a hash table (see `place`); key 0: it is free."""

    _fields_ = (("key", ctypes.c_uint64), ("handler", ctypes.c_uint64))


def place(key: int, bits: int) -> int:
    """Where a hash table of 2**bits places has a key, or the first place to look."""
    return (key * MULTIPLIER & (1 << _MULTIPLIER_BITS) - 1) >> _MULTIPLIER_BITS - bits

"""Which accesses of a region move what vector registers hold: a number, or half of a vector.

Such a load or store of 32 or 64 bits goes to or from a vector register at once: by a general register it would take
two or three steps more (MOVQ, PINSRQ, PEXTRQ), all of them on the one port that shuffles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiopyvm.engine.native.hostcpu import has
from aiopyvm.engine.native.llvmtext import NUMBERS
from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import SIMD_OPS
from aiopyvm.ir.types import V128

_TO_VECTORS: Final = SIMD_OPS - {"vfromint"}


class Lanes:
    """The accesses among some operations that move lanes of vectors."""

    def __init__(self, ops: Iterable[Value]) -> None:
        self._users: dict[Value, list[Value] | None] = {}  # of loads; None: not only lanes of vectors are made of it
        for op in ops:
            for arg in {_scalar(arg) for arg in op.args}:
                if arg.op == "load" and arg.bits in NUMBERS:
                    self._use(arg, op)

    def _use(self, load: Value, user: Value) -> None:
        if user.op in ("bitcast", "store") and not _is_vector(user):
            return
        users = self._users.setdefault(load, [])
        if users is not None and _takes_lane(user):
            users.append(user)
        else:
            self._users[load] = None

    def is_lane(self, load: Value) -> bool:
        """Whether all that is made of what is loaded is made in vector registers."""
        return bool(self._users.get(load))

    def inserted(self, load: Value) -> Value | None:
        """The `insert` that alone what is loaded is for, if one instruction can do both: the upper half of a vector of
        128 bits becomes what is loaded, or the lower part of one that is 0.
        """
        users = self._users.get(load)
        insert = users[0] if users and len(users) == 1 else load
        if insert.op != "insert" or insert.bits != V128.size:
            return None
        vector, lane = insert.args[0], insert.attr
        alone = lane == 0 and vector.op == "const" and not vector.attr
        return insert if alone or (lane == 1 and load.bits == V128.bits and has("avx")) else None


def stored_half(value: Value) -> Value | None:
    """The vector of 128 bits whose upper half is stored."""
    if value.op == "extract" and value.attr == 1 and value.args[0].type == V128:
        return value.args[0]
    return None


def is_stored_lane(value: Value) -> bool:
    """Whether what is stored is in the low lane of a vector register, or one step away from there."""
    value = _scalar(value)
    return value.bits in NUMBERS and value.op == "extract" and (value.bits == 64 or value.attr == 0)


def _scalar(value: Value) -> Value:
    """What has the same bits, an integer or a number, under its first name."""
    while value.op == "bitcast" and not _is_vector(value) and not _is_vector(value.args[0]):
        value = value.args[0]
    return value


def _is_vector(value: Value) -> bool:
    return value.type is not None and value.type.lanes > 1


def _takes_lane(user: Value) -> bool:
    """Whether an operation takes a number or lane in a vector register."""
    return user.op in ("insert", "splat", "bitcast") or user.op in _TO_VECTORS


__all__ = ["Lanes", "is_stored_lane", "stored_half"]

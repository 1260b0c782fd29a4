"""The page that tells programs how to make a time of the time-stamp counter (`loader/vdsoclocks.py` has its form).

A machine has one where its clock is the host's own (set by the runtime); every program maps it, and none may write it.
The host has memory for it from the first look of a program on.
"""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.loader.vdsoclocks import MODE, SEQUENCE, TO_ADD
from aiopyvm.mem.arena import arena
from aiopyvm.mem.backing import Backing
from aiopyvm.mem.budget import Budget
from aiopyvm.mem.layout import PAGE

_WORD: Final = struct.Struct("<I")
_TIME: Final = struct.Struct("<q")


class ClockPage(Backing):
    """A machine's page of clocks. `to_add` is CLOCK_REALTIME - CLOCK_MONOTONIC in ns."""

    attach_shared = True
    writable = False

    def __init__(self, to_add: int) -> None:
        self._sequence = 0
        self._told = True
        self._to_add = to_add

    def show(self, to_add: int) -> None:
        """Tell from now on that `to_add` is to be added."""
        self._to_add = to_add
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        self._put(TO_ADD + _TIME.size * (self._sequence & 1), _TIME.pack(to_add))
        self._put(SEQUENCE, _WORD.pack(self._sequence))

    def hide(self) -> None:
        """From now on programs make system calls."""
        self._told = False
        self._put(MODE, _WORD.pack(0))

    def size(self) -> int:
        return PAGE

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content()[offset : offset + length]

    def write_at(self, offset: int, data: bytes) -> None:
        raise PermissionError("programs do not set the clocks")

    def admit(self, offset: int, budget: Budget) -> bool:
        """The first look of a program: there is memory now. One page a machine is no guest's to pay for."""
        if self.extent is None:
            extent = arena().allocate(PAGE)
            extent.write(0, self._content())
            self.extent = extent
        return True

    def _put(self, at: int, data: bytes) -> None:
        if self.extent is not None:
            self.extent.write(at, data)

    def _content(self) -> bytes:
        page = bytearray(PAGE)
        _WORD.pack_into(page, MODE, self._told)
        _WORD.pack_into(page, SEQUENCE, self._sequence)
        _TIME.pack_into(page, TO_ADD + _TIME.size * (self._sequence & 1), self._to_add)
        return bytes(page)

"""The host memory of one address space's records: runs of records, single records, the jump cache.

It is reserved once, costs memory only where it was written, and never grows: when a part is full, its owner drops
everything and begins again. Offsets count from its start; 0 is no record. What several arenas begin with they show from
one file, copy-on-write: one host mapping, and memory only for the pages that an arena changes.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
import sys
from collections.abc import Iterable
from typing import Final

from aiopyvm.engine.native.jumpcache import ENTRY_SIZE, JumpCache, entries
from aiopyvm.engine.native.layout import RECORD_OFFSETS, RECORD_SIZE
from aiopyvm.mem.arena import Extent, arena
from aiopyvm.mem.reservation import HOST_MAPPINGS, map_private

RECORD: Final = struct.Struct("<II3sBIIi")  # layout.Record
_OPERANDS: Final = struct.Struct("<I3sBIIi")  # a record behind its handler
LINK_AT: Final = RECORD_OFFSETS["link"]
VALUES_AT: Final = RECORD_OFFSETS["values"]
EIP_AT: Final = RECORD_OFFSETS["eip"]
NO_REGISTERS: Final = bytes(3)

RUNS_END: Final = 24 << 20  # records have tables in Python that take several times as much
SINGLES_END: Final = RUNS_END + (8 << 20)
MAX_JUMPS: Final = 1 << 16
_SIZE: Final = SINGLES_END + MAX_JUMPS * ENTRY_SIZE
_MIN_JUMPS: Final = 512
_FEW_SHIFT: Final = 9  # so many jumps of as many places as the cache has may find theirs taken in each run
_MOST_REFUSED: Final = 256
_MOST_LEARNT: Final = 8192
_NORESERVE: Final = 0x4000 if sys.platform == "linux" else 0  # Python 3.11's mmap module has no name for it
_WORD: Final = struct.Struct("<I")
_SIGNED: Final = struct.Struct("<i")


class Content:
    """What an arena holds: runs, single records, which of these are free, the jump cache.

    It does not change any more as soon as an arena has begun with it.
    """

    __slots__ = ("_extent", "_uses", "free", "jumps", "runs", "singles")

    def __init__(
        self, runs: bytes = b"", singles: bytearray | None = None, free: tuple[int, ...] = (), jumps: bytes = b""
    ) -> None:
        self.runs = runs
        self.singles = bytearray() if singles is None else singles
        self.free = free
        self.jumps = jumps
        self._extent: Extent | None = None
        self._uses = 0

    def reset_counter(self, offset: int, handler: int, value: int) -> None:
        """Let the single record at `offset` count from `value` on."""
        _WORD.pack_into(self.singles, offset - RUNS_END, handler)
        _WORD.pack_into(self.singles, offset - RUNS_END + VALUES_AT, value)

    def parts(self) -> tuple[tuple[int, bytes | bytearray], ...]:
        """What stands where in an arena."""
        return (0, self.runs), (RUNS_END, self.singles), (SINGLES_END, self.jumps)

    def extent(self) -> Extent | None:
        """The content as an extent as long as an arena, from the second time on: for one arena a copy is cheaper.

        None too where the host gives no memory to show.
        """
        self._uses += 1
        if self._extent is None and self._uses > 1:
            try:
                extent = arena().allocate(_SIZE)
                for at, part in self.parts() if extent.fd >= 0 else ():
                    extent.write(at, memoryview(part))
            except OSError:
                return None
            self._extent = extent
        return self._extent


class RecordArena:
    """One space's records. Raises OSError where the host has no room for another reservation.

    `base` is its host address, `jumps` that of the jump cache, `jump_mask` the cache's size - 1.
    """

    __slots__ = (
        "_conflicts",
        "_extent",
        "_free",
        "_jumps",
        "_learnt",
        "_refused",
        "_singles",
        "base",
        "jumps",
        "memory",
        "top",
    )

    def __init__(self) -> None:
        self._extent: Extent | None = None
        if not HOST_MAPPINGS.take(1):
            raise OSError(errno.ENOMEM, "too many host mappings")
        try:
            self.memory = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        except OSError:
            HOST_MAPPINGS.take(-1)
            raise
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.jumps = self.base + SINGLES_END
        self.top = RECORD_SIZE  # where the next run goes
        self._singles = RUNS_END
        self._free: list[int] = []
        self._jumps = JumpCache(self.memory, SINGLES_END, _MIN_JUMPS)
        self._learnt: list[int] = []  # addresses that jumps to were remembered of, as far as somebody keeps count
        self._conflicts = 0
        self._refused: set[int] = set()  # addresses that found their place in the jump cache taken

    def __del__(self) -> None:
        if hasattr(self, "memory"):
            HOST_MAPPINGS.take(-1)

    def clear(self) -> None:
        """Forget all records and jumps."""
        self.top = RECORD_SIZE
        self._singles = RUNS_END
        self._free.clear()
        self._learnt.clear()
        self._clear_jumps(_MIN_JUMPS)

    def copy(self) -> Content:
        """All that is here."""
        singles = bytearray(self.memory[RUNS_END : self._singles])
        return Content(self.memory[: self.top], singles, tuple(self._free), self._jumps.content())

    def restore(self, content: Content) -> None:
        """Begin with what `copy` gave."""
        extent = content.extent()
        if extent is not None and map_private(self.base, _SIZE, extent):
            self._extent = extent  # it is not freed before this arena
        else:
            for at, part in content.parts():
                self.memory[at : at + len(part)] = part
        self.top = len(content.runs)
        self._singles = RUNS_END + len(content.singles)
        self._free = list(content.free)
        self._learnt.clear()
        self._jumps = JumpCache(self.memory, SINGLES_END, len(content.jumps) // ENTRY_SIZE)

    # Runs

    def room(self, records: int) -> bool:
        """True if a run of `records` has room, and as many single records have."""
        length = records * RECORD_SIZE
        return self.top + length <= RUNS_END and self._singles + length <= SINGLES_END

    # Single records

    def single(self) -> int:
        """Room for one record outside all runs; `room` was asked before."""
        if self._free:
            return self._free.pop()
        offset = self._singles
        self._singles += RECORD_SIZE
        return offset

    def free_single(self, offset: int) -> None:
        """The single record at `offset` is not reached any more."""
        self._free.append(offset)

    # Fields

    def put(self, offset: int, handler: int, eip: int, values: tuple[int, int] = (0, 0), target: int = 0) -> None:
        """Write a record that leads to the one at `target` (0: nowhere).

        Its handler comes last: whoever executes the record meanwhile finds what the handler needs.
        """
        link = target - offset if target else 0
        _OPERANDS.pack_into(self.memory, offset + EIP_AT, eip, NO_REGISTERS, 0, *values, link)
        _WORD.pack_into(self.memory, offset, handler)

    def link(self, offset: int, target: int) -> None:
        """Let the record at `offset` lead to the one at `target`."""
        _SIGNED.pack_into(self.memory, offset + LINK_AT, target - offset)

    def target(self, offset: int) -> int:
        """Where the record at `offset` leads."""
        return offset + int(_SIGNED.unpack_from(self.memory, offset + LINK_AT)[0])

    def handler(self, offset: int) -> int:
        """The handler of the record at `offset`."""
        return int(_WORD.unpack_from(self.memory, offset)[0])

    def set_handler(self, offset: int, handler: int) -> None:
        """Give the record at `offset` another handler."""
        _WORD.pack_into(self.memory, offset, handler)

    def eip(self, offset: int) -> int:
        """The address of the record at `offset`."""
        return int(_WORD.unpack_from(self.memory, offset + EIP_AT)[0])

    def values(self, offset: int) -> tuple[int, int]:
        """The first value, signed, and the second of the record at `offset`."""
        first, second = struct.unpack_from("<iI", self.memory, offset + VALUES_AT)
        return first, second

    def set_value(self, offset: int, value: int) -> None:
        """Set the first value of the record at `offset`."""
        _WORD.pack_into(self.memory, offset + VALUES_AT, value)

    # The jump cache

    def remember_jump(self, eip: int, offset: int) -> bool:
        """Indirect jumps to `eip` go to the record at `offset`; True if there was a free place.

        An address gets another's place when it is asked for again: what is jumped to once changes nothing that is
        shared. The cache grows where addresses fight for places.
        """
        free = self._jumps.put(eip, offset)
        if not free:
            self._conflicts += 1
            if self._conflicts > self.jump_mask >> 6 and self.jump_mask + 1 < MAX_JUMPS:
                self._grow_jumps()
            elif self._refuse(eip):
                return False
            self._jumps.push(eip, offset)
        if len(self._learnt) < _MOST_LEARNT:
            self._learnt.append(eip)
        return free

    def begin_jumps(self, content: bytes) -> None:
        """Have the jumps of `content`, which is part of what this began with, and those that came since."""
        own = [(eip, record) for eip in self._learnt if (record := self._jumps.get(eip))]
        if len(content) == ENTRY_SIZE * (self.jump_mask + 1):
            self._jumps.fill(content)
        else:
            own = [*entries(content), *own]
        for eip, record in own:
            self._jumps.push(eip, record)

    @property
    def crowd(self) -> int:
        """How many jumps found their places taken, where a larger cache would have room for them."""
        few = self._conflicts <= self.jump_mask >> _FEW_SHIFT or self.jump_mask + 1 >= MAX_JUMPS
        return 0 if few else self._conflicts

    def spread(self) -> Iterable[int]:
        """Make the cache twice as large where there is a crowd; the addresses that had no place. Nobody may be in
        generated code that knows the cache as it was."""
        if not self.crowd:
            return ()
        refused = tuple(self._refused)
        self._grow_jumps()
        self._refused.clear()
        return refused

    def _refuse(self, eip: int) -> bool:
        """Tell whether `eip` is asked for the first time, as far as is remembered."""
        if eip in self._refused:
            self._refused.discard(eip)
            return False
        if len(self._refused) >= _MOST_REFUSED:
            self._refused.clear()
        self._refused.add(eip)
        return True

    def replace_jump(self, eip: int, offset: int) -> None:
        """Indirect jumps to `eip`, where the cache knows it, go to the record at `offset` (0: are forgotten)."""
        self._jumps.replace(eip, offset)

    @property
    def jump_mask(self) -> int:
        """The jump cache's size - 1."""
        return self._jumps.mask

    def _grow_jumps(self) -> None:
        """Make the cache twice as large, with what is in it."""
        old = self._jumps.content()
        self._clear_jumps(2 * (self.jump_mask + 1))
        for eip, record in entries(old):
            self._jumps.put(eip, record)

    def _clear_jumps(self, size: int) -> None:
        self._conflicts = 0
        self._jumps.clear()
        self._jumps = JumpCache(self.memory, SINGLES_END, size)

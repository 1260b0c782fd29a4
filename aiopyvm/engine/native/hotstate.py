"""What the hot tier knows: of a region, of a space, of a region in the making."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from aiopyvm.engine.native.layout import Context
from aiopyvm.engine.native.objectfile import LoadedObject
from aiopyvm.engine.native.regionfile import CHUNK, Covered, chunks_of
from aiopyvm.engine.native.space import SpaceCode

if TYPE_CHECKING:  # programs that end before a region is made do without
    from aiopyvm.engine.native.regionplan import Request, Stack
    from aiopyvm.engine.native.worker import Job


class Region:
    """A compiled region. `covered`: the code that it was made from, by address. `users`: records that lead to it."""

    def __init__(self, root: int, loaded: LoadedObject, covered: Covered, memory: str, stack: Stack | None) -> None:
        self.root = root
        self.loaded = loaded
        self.covered = covered
        self.chunks = chunks_of(covered)
        self.memory = memory  # CHECKED or MMU
        self.stack = stack  # of the x87, with which alone it is entered; None: any, or unknown
        self.users = 0
        self.kept = True  # for spaces to come

    def covers(self, start: int, end: int) -> bool:
        """Whether a byte of [start, end) was made part of it."""
        if start >> CHUNK == end - 1 >> CHUNK and start >> CHUNK not in self.chunks:
            return False
        return any(address < end and start < address + len(code) for address, code in self.covered)


class Installed:
    """What the hot tier knows of one space: its regions by root, those that were made for it meanwhile, and the places
    that wait for the compiler. What such a region will be made from is found when its turn comes: then more of the code
    around it was executed, or another region leads there.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.roots: dict[int, Region] = {}
        self.made: deque[tuple[int, Region]] = deque()  # with the generation they were made for
        self.pending: dict[int, int] = {}  # address: the generation that it was hot in
        self.stacks: dict[int, Stack] = {}  # the x87 stack where what waits became hot
        self.churn: dict[int, int] = {}
        self.asked: set[int] = set()  # addresses whose counters ran out before, and count for the second time
        self.guarded: bool | None = None  # its memory is protected by the host, and may be (None: not asked for yet)


class Wanted:
    """A region in the making, and who waits for it. `kept_as`: what it is to be called on disk."""

    def __init__(
        self, root: int, request: Request, name: str, kept_as: str, space: tuple[weakref.ref[SpaceCode], int]
    ) -> None:
        self.root = root
        self.request = request
        self.name = name
        self.kept_as = kept_as
        self.spaces = [space]  # with the generation of each
        self.job: Job | None = None
        self.ready = threading.Event()


__all__ = ["Installed", "Region", "Wanted"]

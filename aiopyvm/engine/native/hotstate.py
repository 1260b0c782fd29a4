"""What the hot tier knows: of a region, of a space, of a region in the making."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiopyvm.engine.native.layout import Context
from aiopyvm.engine.native.objectfile import LoadedObject
from aiopyvm.engine.native.regionfile import Covered
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.native.worker import Job

if TYPE_CHECKING:  # what makes regions is long to import, and most programs end before one is made
    from aiopyvm.engine.native.regions import Request


@dataclass(eq=False, slots=True)
class Region:
    """A compiled region. `covered`: the code that it was made from, by address. `users`: records that lead to it."""

    root: int
    loaded: LoadedObject
    covered: Covered
    memory: str  # CHECKED or MMU
    users: int = 0
    kept: bool = True  # for spaces to come

    def covers(self, start: int, end: int) -> bool:
        """Whether a byte of [start, end) was made part of it."""
        return any(address < end and start < address + len(code) for address, code in self.covered)


@dataclass(eq=False, slots=True)
class Installed:
    """What the hot tier knows of one space: its regions by root, those that were made for it meanwhile, and the places
    that wait for the compiler. What such a region will be made from is found when its turn comes: then more of the code
    around it was executed, or another region leads there.
    """

    context: Context
    roots: dict[int, Region] = field(default_factory=dict)
    made: deque[tuple[int, Region]] = field(default_factory=deque)  # with the generation they were made for
    pending: dict[int, int] = field(default_factory=dict)  # address: the generation that it was hot in
    churn: dict[int, int] = field(default_factory=dict)
    guarded: bool | None = None  # its memory is protected by the host, and may be (None: that was not asked for yet)


@dataclass(eq=False, slots=True)
class Wanted:
    """A region in the making, and who waits for it. `kept_as`: what it is to be called on disk."""

    root: int
    request: Request
    name: str
    kept_as: str
    spaces: list[tuple[weakref.ref[SpaceCode], int]]  # with the generation of each
    job: Job | None = None
    ready: threading.Event = field(default_factory=threading.Event)


__all__ = ["Installed", "Region", "Wanted"]

"""The host's page protection of a reservation, kept equal to the fast bits of its page table.

A space is *armed* by an engine whose code accesses guest memory without looking at the page table: then the host allows
what the fast bits allow, and refuses all else, the guards included. What always holds: whenever `ready` has said True,
that is so until the space changes, and its owner alone changes it. In between the owner itself may access any page: who
watches the faults (`Watch`) opens it, and notes that; so a missed case costs a fault, never the process.

Host mappings are what this costs: one for each run of pages with one protection. A space whose runs are too many for
it, or for all of them together, is disarmed: all is readable and writable again.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aiopyvm.errors import HostRefusedError
from aiopyvm.mem.layout import GUARD, PAGE_SHIFT, PAGES, READ, WRITE
from aiopyvm.mem.reservation import HOST_MAPPINGS, HostMappings, Reservation

MOST_RUNS: Final = 256  # of pages with one protection, in one space
ARMED_MAPPINGS: Final = HostMappings(HOST_MAPPINGS.limit // 3)  # of all of them: a quarter of what a process may have
_MOST_PENDING: Final = 256  # ranges that are remembered one by one
_END: Final = (1 << 32) + GUARD
_OPEN: Final = 3  # PROT_READ | PROT_WRITE
_PROTECTION: Final = bytes(_OPEN if bits & WRITE else 1 if bits & READ else 0 for bits in range(256))
_RUN: Final = re.compile(rb"\x00+|\x01+|\x03+")


class Watch(Protocol):
    """Who gets the faults of a reservation while it is protected."""

    @property
    def disturbed(self) -> int:
        """How many pages were opened since `opened` was last asked."""
        ...

    def opened(self) -> Iterable[int] | None:
        """The numbers of those pages; None: all were opened."""
        ...

    def end(self) -> None:
        """Faults there are no concern any more."""
        ...


class Protection:
    """Protects `reservation`, the mapped parts of which are what `areas` returns, until `end`.

    `on_end` is called when it ends before the space does. Raises HostRefusedError where that is so from the start.
    """

    __slots__ = (
        "_areas",
        "_full",
        "_have",
        "_pages",
        "_pending",
        "_reservation",
        "_taken",
        "_touched",
        "_watch",
        "armed",
        "on_end",
    )

    def __init__(self, reservation: Reservation, areas: Callable[[], Iterable[tuple[int, int]]], watch: Watch) -> None:
        self._reservation = reservation
        self._areas = areas
        self._pages = reservation.pages
        self._have = reservation.protections  # PROT_* of each page; the guards have none
        self._pending: list[tuple[int, int]] = []
        self._touched: set[int] = set()  # pages whose bits may have changed
        self._taken = 0
        self._full = False  # there was no mapping left for what the host has done already
        self._watch = watch
        self.armed = True
        self.on_end: list[Callable[[], None]] = []
        if not self._begin() or not self.ready():
            self.end()
            raise HostRefusedError(errno.ENOMEM, "too few host mappings are left to protect a guest's memory")

    def changed(self, first: int, last: int) -> None:
        """The bits of the pages [first, last) may have changed."""
        if not self.armed:
            return
        self._pending.append((first, last))
        if len(self._pending) > _MOST_PENDING:
            self._pending = [(min(a for a, _ in self._pending), max(b for _, b in self._pending))]

    def changed_page(self, page: int) -> None:
        """As `changed`, of one page."""
        if self.armed:
            self._touched.add(page)

    def remapped(self, start: int, end: int) -> None:
        """The host has a new mapping at [start, end), readable and writable."""
        if not self.armed:
            return
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        self._full = not self._note(first, last, _OPEN) or self._full
        self.changed(first, last)

    def ready(self) -> bool:
        """Whether generated code may run: the host's protection is the page table's. False: this has ended."""
        if (self._touched or self._pending or self._watch.disturbed) and self.armed and not self._catch_up():
            self.give_up()
        return self.armed

    def give_up(self) -> None:
        """As `end`, and say so."""
        self.end()
        for listener in self.on_end:
            listener()

    def end(self) -> None:
        """Make all readable and writable again. Raises HostRefusedError where the host has no memory left for that."""
        if not self.armed:
            return
        self.armed = False
        self._pending, self._touched = [], set()
        refused = self._reservation.protect(-GUARD, _END, _OPEN)
        self._watch.end()
        self._give_back()
        if refused:
            raise HostRefusedError(refused, "a guest's memory cannot be made accessible to the host")

    def __del__(self) -> None:
        self.end()

    def _begin(self) -> bool:
        """Let nothing be accessible, and then what the bits allow; False where the host has no mappings for that."""
        self._give_back()
        self._reservation.clear_protections()
        self._pending = [(start >> PAGE_SHIFT, end >> PAGE_SHIFT) for start, end in self._areas()]
        return self._take(2) and not self._reservation.protect(-GUARD, _END, 0)

    def _catch_up(self) -> bool:
        """Protect what has changed; False where the host has no mappings for that."""
        if self._full:
            return False
        if self._watch.disturbed:
            opened = self._watch.opened()
            if opened is None:
                if not self._begin():
                    return False
            else:
                for page in opened:
                    if not self._note(page, page + 1, _OPEN):
                        return False
                    self._touched.add(page)
        touched, self._touched = self._touched, set()
        if not self._settle_pages(touched):
            return False
        pending, self._pending = self._pending, []
        return all(self._settle(first, last) for first, last in pending)

    def _settle_pages(self, pages: set[int]) -> bool:
        """As `_settle`, of single pages: what happens at each first touch."""
        have, table, reservation = self._have, self._pages, self._reservation
        for page in pages:
            wanted, old = _PROTECTION[table[page]], have[page]
            if wanted == old:
                continue
            before, behind = have[page - 1], have[page + 1]  # the table's last page is never mapped, as the guard
            more = (wanted != before) + (wanted != behind) - (old != before) - (old != behind)
            have[page] = wanted
            if more and not self._take(more):
                return False
            if reservation.protect(page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT, wanted):
                return False
        return True

    def _settle(self, first: int, last: int) -> bool:
        """Protect the pages [first, last) as their bits say; False where the host has no mapping left for that."""
        have = self._have
        table = bytes(self._pages[first:last]).translate(_PROTECTION)
        if have[first:last] == table:
            return True
        for match in _RUN.finditer(table):
            a, b = match.span()
            if have[first + a : first + b] != match[0] and not self._change(first + a, first + b, table[a]):
                return False
        return True

    def _change(self, first: int, last: int, wanted: int) -> bool:
        """Protect the pages [first, last); False where the host has no mapping left for that."""
        if not self._note(first, last, wanted):
            return False
        return not self._reservation.protect(first << PAGE_SHIFT, last << PAGE_SHIFT, wanted)

    def _note(self, first: int, last: int, protection: int) -> bool:
        """The pages [first, last) have that protection, or are about to; False where that is a mapping too many."""
        have = self._have
        low, high = max(first - 1, 0), min(last + 1, PAGES)
        before = _runs(have[low:high])
        have[first:last] = bytes((protection,)) * (last - first)
        more = _runs(have[low:high]) - before
        return not more or self._take(more)

    def _take(self, n: int) -> bool:
        """Count `n` more host mappings; False, and nothing counted, when that is too many."""
        if (n > 0 and self._taken + n > MOST_RUNS) or not HOST_MAPPINGS.take(n):
            return False
        if not ARMED_MAPPINGS.take(n):
            HOST_MAPPINGS.take(-n)
            return False
        self._taken += n
        return True

    def _give_back(self) -> None:
        HOST_MAPPINGS.take(-self._taken)
        ARMED_MAPPINGS.take(-self._taken)
        self._taken = 0


def _runs(protections: memoryview) -> int:
    """How many runs of equal bytes there are."""
    return sum(1 for _ in _RUN.finditer(protections))

"""The address space of a guest process: 4 GiB of its memory, mapped, protected, forked and accessed.

`Residence` says which pages are there, `Accesses` reads and writes them; here mappings come and go. Invariants are
those of `residence.py`. A space belongs to one lane: no two threads of the host use it, or spaces forked from one
another, at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Final

from aiopyvm.errors import GuestMemoryError
from aiopyvm.mem import granules
from aiopyvm.mem.access import Accesses
from aiopyvm.mem.backing import Backing, ImageBacking, SharedBacking
from aiopyvm.mem.budget import MemoryBudget, Unlimited
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.mem.layout import (
    EXEC,
    PAGE,
    PAGE_SHIFT,
    PAGES,
    PROT_BITS,
    READ,
    TASK_SIZE,
    TOUCHED,
    UNWRITE,
    WRITE,
    count_touched,
    page_up,
    touched_runs,
)
from aiopyvm.mem.mappings import MAX_MAPPINGS, Mapping, Mappings
from aiopyvm.mem.protection import Protection, Watch
from aiopyvm.mem.residence import SPACE_COST

_MAPPING_COST: Final = 256  # bytes charged for a mapping's bookkeeping
STEP_MAPPINGS: Final = 1024  # what one piece of a long change covers: about five milliseconds
STEP_PAGES: Final = 4096  # of pages that are there
_COPY_STEP: Final = 1024 * PAGE
_TOUCHED_PAGE: Final = bytes((TOUCHED,))
_CLOSED: Final = memoryview(bytes(PAGES))


class AddressSpace(Accesses):
    """One process's memory. Raises AddressSpaceFull when `budget` has no room for it, HostRefusedError when the host
    has none.

    `view`, `view16`, `view32`, `pages`, `readable` and `writable` stay the same objects until `close`. `base` is the
    host address of guest address 0, `array` the same memory as a ctypes array.
    """

    __slots__ = ()

    def __init__(self, budget: MemoryBudget | None = None) -> None:
        super().__init__(budget if budget is not None else Unlimited())

    @property
    def base(self) -> int:
        """Host address of guest address 0."""
        self._require_open()
        return self._reservation.base

    @property
    def array(self) -> ctypes.Array[ctypes.c_uint8]:
        """The reservation as a ctypes array; index = guest address. Knows nothing of the guest's permissions."""
        self._require_open()
        return self._reservation.array

    def _require_open(self) -> None:
        if self.pages is _CLOSED:
            raise GuestMemoryError("the guest's memory is gone: its address space is closed")

    # Mappings

    def map(
        self,
        address: int,
        length: int,
        prot: int,
        backing: Backing | None = None,
        offset: int = 0,
        *,
        shared: bool = False,
        grows_down: bool = False,
        name: str = "",
    ) -> None:
        """Map [address, address+length) in place of whatever is there (mmap(2), MAP_FIXED).

        `address` and `offset` are multiples of the page size. No `backing` means zeros, which with `shared` are seen
        by all forks. Raises AddressSpaceFull for too many mappings or want of budget; ValueError for a range that
        cannot be.
        """
        start, end = _range(address, length)
        if offset & PAGE - 1:
            raise ValueError(f"mapping offset {offset:#x} is not a multiple of the page size")
        self._take_overhead(2)
        if len(self._maps) >= MAX_MAPPINGS:
            raise AddressSpaceFull(f"{MAX_MAPPINGS} mappings")
        if shared and backing is None:
            try:
                backing = SharedBacking(end - start)
            except OSError as refused:
                raise AddressSpaceFull(f"shared memory: {refused.strerror}") from None
        self._remove(start, end)
        mapping = Mapping(start, end, prot & 7, shared, grows_down, backing, offset if backing else 0, name)
        self._insert(mapping)
        self._show_early(mapping)
        self._settle_overhead()

    def unmap(self, address: int, length: int) -> None:
        """Unmap every page of [address, address+length) that is mapped (munmap(2))."""
        start, end = _range(address, length)
        self._take_overhead(self._splits(start, end) // 2)
        self._remove(start, end)
        self._settle_overhead()

    def protect(self, address: int, length: int, prot: int) -> None:
        """Set the protection of [address, address+length) (mprotect(2)).

        Raises GuestMemoryError where something in it is not mapped; what precedes the gap is protected then, as on
        Linux.
        """
        start, end = _range(address, length)
        self._take_overhead(self._splits(start, end))
        stop = start
        for piece in self._maps.overlapping(start, end):
            if piece.start > stop:
                break
            stop = min(end, piece.end)
        if start < stop:
            self._maps.insert(*[piece.protected(prot & 7) for piece in self._maps.cut(start, stop)])
            self._clear_fast(start >> PAGE_SHIFT, stop >> PAGE_SHIFT)
            if (bits := PROT_BITS[prot & 7]) & (READ | WRITE) == READ:
                self._show_touched(start >> PAGE_SHIFT, stop >> PAGE_SHIFT, bits)
            self._code_gone(start >> PAGE_SHIFT, stop >> PAGE_SHIFT)
        self._settle_overhead()
        if stop < end:
            raise GuestMemoryError(f"nothing is mapped at guest address {stop:#010x}")

    def discard(self, address: int, length: int) -> None:
        """Let private pages of [address, address+length) show their backing again, or zeros (madvise(2), DONTNEED)."""
        start, end = _range(address, length)
        for m in self._maps.overlapping(start, end):
            if not m.shared:
                first, last = max(start, m.start) >> PAGE_SHIFT, min(end, m.end) >> PAGE_SHIFT
                self._drop(first, last)
                self._code_gone(first, last)

    def empty(self, address: int, length: int) -> None:
        """Let what is private in [address, address+length) go, as the next thing is to unmap it or to map over it."""
        start, end = _range(address, length)
        self._drop(start >> PAGE_SHIFT, end >> PAGE_SHIFT)
        self._code_gone(start >> PAGE_SHIFT, end >> PAGE_SHIFT)

    def move(self, old: int, length: int, new: int) -> None:
        """Move the mappings of [old, old+length) with their content to `new` (mremap(2)); what was there is unmapped.

        The ranges do not overlap. Raises AddressSpaceFull, and nothing has moved; GuestMemoryError where not all is
        mapped. A long move is `show_at`, `carry` piece by piece, `unmap`.
        """
        self.show_at(old, length, new)
        done = 0
        while done < page_up(length):
            done += self.carry(old + done, page_up(length) - done, new + done)
        self.unmap(old, length)

    def show_at(self, old: int, length: int, new: int) -> None:
        """Map at `new` what is mapped in [old, old+length), without private content. Raises as `move`."""
        start, end = _range(old, length)
        to, to_end = _range(new, length)
        if start < to_end and to < end:
            raise ValueError(f"cannot move {start:#x}-{end:#x} to {to:#x}: they overlap")
        if not self._maps.covers(start, end):
            raise GuestMemoryError(f"not all of {start:#010x}-{end:#010x} is mapped")
        pieces = [m.clip(start, end) for m in self._maps.overlapping(start, end)]
        extra = self._cost_of_move(start >> PAGE_SHIFT, end >> PAGE_SHIFT)
        self._take_overhead(len(pieces) + 3)
        if not self.budget.charge(extra):
            self._settle_overhead()
            raise AddressSpaceFull("the memory budget has no room to move what a fork still sees")
        self.budget.charge(-extra)
        self._remove(to, to_end)
        for m in pieces:
            self._insert(m._replace(start=m.start - start + to, end=m.end - start + to))
        self._settle_overhead()

    def carry(self, old: int, length: int, new: int) -> int:
        """Move private content of [old, old+length) to `new`, where `show_at` put the mappings; how far that came.

        MemoryFault when the budget has been spent meanwhile.
        """
        start, end = _range(old, length)
        end = self.step(start, end)
        end = min(end, start + _COPY_STEP)
        first, last, by = start >> PAGE_SHIFT, end >> PAGE_SHIFT, new - old >> PAGE_SHIFT
        self._drop(first + by, last + by)  # what another thread has touched there meanwhile
        if self._lent or self._inherited:
            self._move_content(first, last, by)
        else:
            self._move_own(first, last, by)
        self._code_gone(first, last)
        return end - start

    def find_free(self, length: int, hint: int = 0) -> int:
        """Where `length` bytes can be mapped: at `hint` (rounded up) if free, else highest below the mmap base.

        Raises AddressSpaceFull.
        """
        return self._maps.find_free(length, hint)

    def lower_base(self, distance: int) -> None:
        """Let what is mapped from now on without an address be `distance` bytes lower than usual (whole pages)."""
        self._maps = Mappings(list(self._maps), self._maps.base - distance)

    def find_mapping(self, address: int) -> Mapping | None:
        """The mapping that contains `address`."""
        return self._maps.find(address)

    def shown_image(self, start: int, end: int) -> tuple[ImageBacking, int] | None:
        """The image that is to be executed at the pages [start, end), and the offset there of `start`.

        Not None: every one of the pages shows the image's own bytes and costs nothing, and so does executing them.
        """
        under, mapping = self._attached_at(start), self._maps.find(start)
        if under is None or mapping is None or end > min(under.end, mapping.end) or not mapping.bits & EXEC:
            return None
        backing, offset = mapping.backing, mapping.offset + start - mapping.start
        if mapping.shared or not isinstance(backing, ImageBacking) or backing.extent is None:
            return None
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        if not under.shows(start, backing.extent, offset) or count_touched(bytes(self.pages[first:last])):
            return None
        if self._inherited and self._inherited.any(first, last):
            return None
        return backing, offset

    def step(self, start: int, end: int) -> int:
        """Where to pause in a change of [start, end), which is not empty: behind some mappings, and some pages used."""
        end = self._maps.reach(start, end, STEP_MAPPINGS)
        table = bytes(self.pages[start >> PAGE_SHIFT : end >> PAGE_SHIFT])
        n, most = len(table), STEP_PAGES // 4 if self._lent else STEP_PAGES
        while n > most and n - table.count(0, 0, n) > most:
            n = (n + 1) // 2
        return start + (n << PAGE_SHIFT)

    def is_mapped(self, address: int, length: int) -> bool:
        """True if every byte of the range is mapped, with whatever protection."""
        return self._maps.covers(address, address + length)

    def is_free(self, address: int, length: int) -> bool:
        """True if no byte of the range is mapped."""
        return not self._maps.overlapping(address, address + length)

    def mappings(self) -> Iterator[Mapping]:
        """The mappings, by address."""
        return iter(self._maps)

    @property
    def committed(self) -> int:
        """Bytes that are mapped private and writable, touched or not."""
        return self._maps.committed

    def reach(self, start: int, end: int, count: int) -> int:
        """Where the mapping after the next `count` ones from `start` on begins; `end` at most."""
        return self._maps.reach(start, end, count)

    def mappings_in(self, address: int, length: int) -> Sequence[Mapping]:
        """The mappings that share a byte with the range, whole, by address."""
        return self._maps.overlapping(address, address + length)

    # Copies

    def fork(self, budget: MemoryBudget) -> AddressSpace:
        """A copy whose private memory is shared until either side writes (fork(2)). Nothing is tracked in it.

        Raises AddressSpaceFull or HostRefusedError, and nothing has changed. A long fork is `begin_fork`, then `lend`
        piece by piece.
        """
        child = self.begin_fork(budget)
        at: int | None = 0
        try:
            while at is not None:
                at = self.lend(child, at)
        except BaseException:
            child.close()
            raise
        return child

    def begin_fork(self, budget: MemoryBudget) -> AddressSpace:
        """A copy of the mappings, with what this space inherited itself. Raises as `fork`."""
        child = AddressSpace(budget)
        try:
            child._take_overhead(len(self._maps))
            child._maps = self._maps.copy()
            child._inherited = self._inherited.copy()
            child._charge_granules(len(child._inherited))
            child._settle_overhead()
        except BaseException:
            child.close()
            raise
        child.stack_limit, child.label, child.rest = self.stack_limit, self.label, self.rest
        for m in child._maps:
            if m.shared and m.backing is not None:
                m.backing.join(child)
        for attachment in self._attachments:
            child._attach_new(attachment)
        return child

    def close(self) -> None:
        """Unmap everything and give the memory back; forks keep what they have inherited.

        Every access faults from now on.
        """
        if self.pages is _CLOSED:
            return
        for listener in self.close_listeners:
            listener()
        self.close_listeners.clear()
        home = self._reservation
        self.disarm()
        if self._lent:
            self._bequeath()
        else:
            self.budget.charge(-PAGE * self.resident_pages)
        self.resident_pages = 0
        self._maps.clear()
        self._inherited = granules.Inherited()
        self._attachments.clear()
        self.code_listeners.clear()
        self.translations.clear()
        self.readable.clear()
        self.writable.clear()
        self.budget.charge(-self._overhead)
        self._overhead = 0
        self.pages = self.view = _CLOSED
        self.view16, self.view32 = _CLOSED.cast("H"), _CLOSED.cast("I")
        del self._reservation
        if not home.owed:
            home.close()

    def arm(self, watch: Watch) -> Protection:
        """Let the host protect memory as the fast bits say, for code that does not look at them; see `Protection`.

        `watch` gets the faults of the 4 GiB and their guards. Raises HostRefusedError, and nothing has changed.
        """
        self._require_open()
        if self.protection is None or not self.protection.armed:
            for attachment in self._attachments:
                if self.is_untouched(attachment.start, attachment.end):
                    self._unify(attachment)
            self.protection = Protection(self._reservation, lambda: self._maps.areas(0, TASK_SIZE), watch)
        return self.protection

    def disarm(self) -> None:
        """End what `arm` began."""
        if self.protection is not None:
            self.protection.end()
            self.protection = None

    def _bequeath(self) -> None:
        """Give private content back, but for what forks still see: that stays, owed until they are gone."""
        for m in self._maps:
            if not m.shared:
                first, last = m.start >> PAGE_SHIFT, m.end >> PAGE_SHIFT
                held = self._lent.held_pages(first, last)
                self._reservation.owed += PAGE * len(held)
                for page in [*held, last]:
                    if first < page:
                        self._drop(first, page)
                    first = page + 1

    def lend(self, child: AddressSpace, start: int) -> int | None:
        """Let `child`, which `begin_fork` made, inherit a number of private pages from `start` on.

        Return where the next ones start, None when that is all. No mapping may change between the first and the last;
        what a stack grows by meanwhile is not the child's. Raises AddressSpaceFull.
        """
        stop = child._maps.reach(start, TASK_SIZE, STEP_MAPPINGS)
        masks: dict[int, int] = {}
        room = STEP_MAPPINGS
        for first, last in child._maps.areas(start, stop):
            base, table = first >> PAGE_SHIFT, bytes(self.pages[first >> PAGE_SHIFT : last >> PAGE_SHIFT])
            for a, b in touched_runs(table):
                end = min(b, a + room * granules.SIZE)
                self._lend_run(base + a, base + end, masks)
                room -= 1 + (end - a >> granules.SHIFT)
                if room <= 0:
                    stop = (base + end) << PAGE_SHIFT
                    break
            if room <= 0:
                break
        child._charge_granules(len(masks))
        for number, mask in masks.items():
            child._inherited.add(number, self._lent.lend(self._reservation, number, mask), mask)
        return stop if stop < TASK_SIZE else None

    def _lend_run(self, first: int, last: int, masks: dict[int, int]) -> None:
        """Add the touched pages [first, last) to `masks`, by granule, and make them copy-on-write."""
        for number in range(first >> granules.SHIFT, (last - 1 >> granules.SHIFT) + 1):
            start = number << granules.SHIFT
            low, high = max(0, first - start), min(granules.SIZE, last - start)
            masks[number] = masks.get(number, 0) | (1 << high) - (1 << low)
        self.pages[first:last] = bytes(self.pages[first:last]).translate(UNWRITE)
        self.writable.difference_update(range(first << PAGE_SHIFT, last << PAGE_SHIFT, PAGE))
        if self.protection is not None:
            self.protection.changed(first, last)

    def _charge_granules(self, count: int) -> None:
        cost = granules.COST * count
        if not self.budget.charge(cost):
            raise AddressSpaceFull("the memory budget has no room for a fork's bookkeeping")
        self._overhead += cost
        self._fork_cost += cost

    # Helpers

    def _insert(self, mapping: Mapping) -> None:
        self._maps.insert(mapping)
        if mapping.shared and mapping.backing is not None:
            mapping.backing.join(self)
        self._attach(mapping)

    def _remove(self, start: int, end: int) -> None:
        """Unmap [start, end), and tell who translated code there."""
        if self._maps.cut(start, end):
            first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
            self._drop(first, last)
            self._detach(start, end)
            self._code_gone(first, last)

    def _cost_of_move(self, first: int, last: int) -> int:
        """Bytes that moving the pages [first, last) needs beyond what they hold: inherited ones, and those lent out."""
        lent = len(self._lent.held_pages(first, last)) if self._lent else 0
        return PAGE * (lent + self._inherited.count(first, last))

    def _move_own(self, first: int, last: int, by: int) -> None:
        """Move the private content of the pages [first, last), which no fork sees, by `by` pages."""
        table = bytes(self.pages[first:last])
        for a, b in touched_runs(table):
            start, end, to = (first + a) << PAGE_SHIFT, (first + b) << PAGE_SHIFT, (first + a + by) << PAGE_SHIFT
            self.view[to : to + end - start] = self.view[start:end]
            self.pages[first + a + by : first + b + by] = _TOUCHED_PAGE * (b - a)
        self._clear(first, last, table)

    def _move_content(self, first: int, last: int, by: int) -> None:
        """Move the private content of the pages [first, last) by `by` pages."""
        content = [
            (page, self._look(page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT))
            for page in range(first, last)
            if self.pages[page] & TOUCHED or self._inherited.source(page)
        ]
        self._drop(first, last)
        for page, data in content:
            self._own(page + by, data, (page + by) << PAGE_SHIFT, "w")

    def _splits(self, start: int, end: int) -> int:
        """How many of the two ends of [start, end) lie inside a mapping."""
        return sum(1 for at in (start, end) if (m := self._maps.find(at)) is not None and m.start < at)

    def _take_overhead(self, mappings: int) -> None:
        """Charge for `mappings` more; AddressSpaceFull when that is too much."""
        if not mappings:
            return
        if len(self._maps) + mappings > MAX_MAPPINGS + 2 or not self.budget.charge(mappings * _MAPPING_COST):
            raise AddressSpaceFull(f"{len(self._maps)} mappings")
        self._overhead += mappings * _MAPPING_COST

    def _settle_overhead(self) -> None:
        """Charge for the mappings that there are, no more than was taken."""
        exact = SPACE_COST + len(self._maps) * _MAPPING_COST + self._fork_cost
        self.budget.charge(exact - self._overhead)
        self._overhead = exact


def _range(address: int, length: int) -> tuple[int, int]:
    end = address + page_up(length)
    if address & PAGE - 1 or not 0 <= address < end <= TASK_SIZE:
        raise ValueError(f"no range of guest pages: {length:#x} bytes at {address:#x}")
    return address, end

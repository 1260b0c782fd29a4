"""Which pages of a space are there, and how they come: first touch, copy-on-write, backings, attachments to the host.

What always holds of a page: its fast bits are set only while an access by them is right; it is TOUCHED if and only if
its private content is in the reservation and charged; an untouched page of the reservation is zero, or shows the
extent that is attached there. No two pages with fast bits show the same shared memory. `pages`, `readable` and
`writable` change only in `_set`, `_show`, `_clear_fast` and `_drop`; `protection` is told of that while the space is
armed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from aiopyvm.mem.arena import Extent
from aiopyvm.mem.backing import Backing, ImageBacking
from aiopyvm.mem.budget import MemoryBudget
from aiopyvm.mem.codelines import CodeLines
from aiopyvm.mem.faults import Access, AddressSpaceFull, MemoryFault
from aiopyvm.mem.granules import SIZE, Granule, Habit, Inherited, Lent, freeze, numbered
from aiopyvm.mem.layout import (
    EXEC,
    HELD,
    PAGE,
    PAGE_SHIFT,
    READ,
    TASK_SIZE,
    THROUGH,
    TOUCHED,
    WRITE,
    count_touched,
    touched_runs,
    used_runs,
)
from aiopyvm.mem.mappings import LOWEST, STACK_GUARD, Mapping, Mappings
from aiopyvm.mem.protection import Protection
from aiopyvm.mem.reservation import Reservation

SPACE_COST: Final = 64 << 10  # bytes charged for a space itself: tables of the host, Python's objects
MAX_ATTACHMENTS: Final = 64  # a space's host mappings are bounded whatever the guest does
_NEED: Final = {"r": READ, "w": WRITE, "x": EXEC}
_ZERO: Final = bytes(PAGE)
_AROUND: Final = 16  # pages, as Linux's fault_around_bytes
_WHOLE: Final = 64  # pages of an image that are shown together where no more of it is mapped there
_DATA: Final = 4  # pages of a program's own data that are copied together where there are no more
_SMALL: Final = 1 << 16  # bytes of a mapping whose pages are copied when they are first read
_PLENTY: Final = 4 << 20  # bytes of memory left, from which on pages are copied that may not be needed
_FEW: Final = 4  # pages written one after the other from which on twice as many become ready together
_STREAK: Final = 16  # as many, and so on
_ALIKE: Final = range(4, 257)  # numbers of pages that are looked at together


class Attachment(NamedTuple):
    """The host shows `extent` from `offset` on at [start, end) of the reservation."""

    start: int
    end: int
    extent: Extent
    offset: int
    shared: bool

    def shows(self, address: int, extent: Extent, offset: int) -> bool:
        """True if byte `offset` of `extent` is what is at `address`."""
        return self.extent is extent and self.offset + address - self.start == offset


class Residence:
    """The pages of an address space; see the module's docstring."""

    __slots__ = (
        "__weakref__",
        "_attachments",
        "_code",
        "_fork_cost",
        "_inherited",
        "_lent",
        "_maps",
        "_overhead",
        "_reservation",
        "budget",
        "label",
        "pages",
        "peak_resident_pages",
        "protection",
        "readable",
        "resident_pages",
        "rest",
        "stack_limit",
        "view",
        "view16",
        "view32",
        "writable",
    )

    def __init__(self, budget: MemoryBudget) -> None:
        if not budget.charge(SPACE_COST):
            raise AddressSpaceFull("the memory budget has no room for another address space")
        self.budget = budget
        self._overhead = SPACE_COST
        self._fork_cost = 0
        try:
            self._reservation = Reservation(budget)
        except BaseException:
            budget.charge(-SPACE_COST)
            raise
        self.view = self._reservation.view
        self.view16 = self._reservation.view16
        self.view32 = self._reservation.view32
        self.pages = self._reservation.pages
        self.readable: set[int] = set()
        self.writable: set[int] = set()
        self.resident_pages = 0
        self.peak_resident_pages = 0
        self.stack_limit = 8 << 20
        self.rest: Callable[[], None] = _rests  # blocks until no thread of the host executes in it
        self.label = b""  # what tells that two spaces run the same program
        self._maps = Mappings()
        self._attachments: list[Attachment] = []
        self._lent = Lent()
        self._inherited = Inherited()
        self._code = CodeLines()
        self.protection: Protection | None = None  # while the space is armed

    # First touch

    def _ready(self, address: int, end: int, access: Access) -> int:
        """Make [address, end) ready for `access`; the bits of its pages, or-ed. MemoryFault at the first bad byte."""
        need = WRITE | HELD if access == "w" else _NEED[access]
        pages = self.pages
        first, stop = address >> PAGE_SHIFT, ((end - 1) >> PAGE_SHIFT) + 1
        if stop - first in _ALIKE:
            run = pages[first:stop].tobytes()
            if len(run) == stop - first and (bits := run[0]) & need and not run.strip(run[:1]):
                return bits
        seen = 0
        for page in range(first, stop):
            try:
                bits = pages[page]
            except IndexError:  # past 4 GiB
                raise MemoryFault(max(address, page << PAGE_SHIFT), access) from None
            if not bits & need:
                bits = self._admit(max(address, page << PAGE_SHIFT), access)
            seen |= bits
        return seen

    def _admit(self, address: int, access: Access) -> int:
        """Make the page of `address` ready for `access`; its bits then (or THROUGH).

        MemoryFault where that is refused.
        """
        mapping = self._maps.find(address) or self._grow(address)
        if mapping is None:
            raise MemoryFault(address, access)
        if not mapping.bits & _NEED[access]:
            raise MemoryFault(address, access, present=True)
        return self._settle(mapping, address, access)

    def _settle(self, mapping: Mapping, address: int, access: Access) -> int:
        """As `_admit`, where `mapping` is known to allow it."""
        if mapping.shared:
            return self._settle_shared(mapping, address, access)
        page = address >> PAGE_SHIFT
        bits = mapping.bits
        if not self.pages[page] & TOUCHED:
            if not self._fill(page, mapping, address, access):
                bits &= ~WRITE  # a clean page of an image: shown, but not ours
                self._set(page, bits)
                self._show_around(page, mapping, bits)
                return bits
            if bits & WRITE and mapping.end - mapping.start <= _DATA << PAGE_SHIFT:
                self._fill_data(mapping)
        if self._lent and (holders := self._lent.holders(page)):
            if access == "w":
                self._charge_page(address, access)
                freeze(page, holders, self.budget)
                if (habit := holders[-1].habit) is not None:
                    self._freeze_ahead(page, habit)
            else:
                bits &= ~WRITE
        if bits & WRITE and page in self._code:
            bits = bits & ~WRITE | HELD
        self._set(page, bits | TOUCHED)
        if access == "w" and mapping.backing is None and bits == READ | WRITE:
            self._go_ahead(page, mapping)
        return bits

    def _go_ahead(self, page: int, mapping: Mapping) -> None:
        """`page`, of zeros until now, is written to: where that follows pages that were, so will be the next ones."""
        start, stop = mapping.start >> PAGE_SHIFT, mapping.end >> PAGE_SHIFT
        written = page - start if page - start < _STREAK else _STREAK
        if (
            written < _FEW
            or page + 1 >= stop
            or self._inherited
            or count_touched(bytes(self.pages[page - _FEW : page])) < _FEW
        ):
            return
        streak = written == _STREAK and count_touched(bytes(self.pages[page - _STREAK : page])) == _STREAK
        last = min(page + 1 + (2 * _STREAK if streak else 2 * _FEW), stop)
        ahead = bytes(self.pages[page + 1 : last])
        count = len(ahead) - len(ahead.lstrip(b"\0"))
        low, high = page + 1 << PAGE_SHIFT, page + 1 + count << PAGE_SHIFT
        if not count or any(a.start < high and low < a.end for a in self._attachments):
            return
        if not self.budget.charge(count * PAGE):
            return  # the next page alone may still fit
        self.resident_pages += count
        self.peak_resident_pages = max(self.peak_resident_pages, self.resident_pages)
        self.pages[page + 1 : page + 1 + count] = bytes((READ | WRITE | TOUCHED,)) * count
        bases = range(low, high, PAGE)
        self.readable.update(bases)
        self.writable.update(bases)
        if self.protection is not None:
            self.protection.changed(page + 1, page + 1 + count)

    def _show_around(self, page: int, mapping: Mapping, bits: int) -> None:
        """`page` shows an image: let the clean pages next to it do so too, as they cost nothing."""
        under = self._attached_at(page << PAGE_SHIFT)
        assert under is not None
        first, last = max(mapping.start, under.start) >> PAGE_SHIFT, min(mapping.end, under.end) >> PAGE_SHIFT
        if last - first > _WHOLE:
            first, last = max(page & -_AROUND, first), min((page & -_AROUND) + _AROUND, last)
        self._show(first, last, bits)

    def _show_early(self, mapping: Mapping) -> None:
        """A few pages of an image that can only be read are mapped to be looked at: show them now."""
        backing, bits = mapping.backing, mapping.bits
        most = PAGE if bits & EXEC else _WHOLE << PAGE_SHIFT  # code is seldom read
        if backing is None or mapping.shared or bits & (READ | WRITE) != READ or mapping.end - mapping.start > most:
            return
        under = self._attached_at(mapping.start)
        if under is None or backing.extent is None or not under.shows(mapping.start, backing.extent, mapping.offset):
            return
        self._show(mapping.start >> PAGE_SHIFT, min(mapping.end, under.end) >> PAGE_SHIFT, bits)

    def _show(self, first: int, last: int, bits: int) -> None:
        """Let those of the pages [first, last) of an image be accessed by `bits` that nothing is known of."""
        known = bytes(self.pages[first:last])
        if self._inherited:
            for other, old in enumerate(known, first):
                if not old and self._inherited.source(other) is None:
                    self._set(other, bits)
            return
        end = 0
        while (start := known.find(0, end)) >= 0:
            end = last - first - len(known[start:].lstrip(b"\0"))
            self.pages[first + start : first + end] = bytes((bits,)) * (end - start)
            bases = range(first + start << PAGE_SHIFT, first + end << PAGE_SHIFT, PAGE)
            if bits & READ:
                self.readable.update(bases)
            if bits & WRITE:
                self.writable.update(bases)
            if self.protection is not None:
                self.protection.changed(first + start, first + end)

    def _fill_data(self, mapping: Mapping) -> None:
        """A page of a program's little data was touched: so will be the others of the image."""
        if not isinstance(mapping.backing, ImageBacking):
            return
        for page in range(mapping.start >> PAGE_SHIFT, mapping.end >> PAGE_SHIFT):
            if self.pages[page] or (self._inherited and self._inherited.source(page) is not None) or page in self._code:
                continue
            at = page << PAGE_SHIFT
            try:
                self._fill(page, mapping, at, "w")
            except MemoryFault:
                return  # nobody has asked for it yet
            self._set(page, mapping.bits | TOUCHED)

    def _fill(self, page: int, mapping: Mapping, address: int, access: Access) -> bool:
        """Bring the first content of a private page in; False if it shows already, and is only looked at."""
        at = page << PAGE_SHIFT
        content: bytes | memoryview | None = None
        under = self._attached_at(at)
        granule = self._inherited.source(page)
        if granule is not None:
            content = granule.read(page)
        elif mapping.backing is not None:
            offset = mapping.offset + at - mapping.start
            extent = mapping.backing.extent
            if under is not None and extent is not None and under.shows(at, extent, offset):
                if access != "w" and not _is_small_data(mapping):
                    return False
                under = None  # it is there already
            else:
                content = _read_page(mapping.backing, offset, address, access)
        if content is None and under is not None:
            content = _ZERO
        elif content is not None and under is not None and len(content) < PAGE:
            content = bytes(content).ljust(PAGE, b"\0")
        self._own(page, content, address, access)
        if granule is not None:
            self._inherited.forget(page)
            if granule.habit is not None:
                self._inherit_ahead(page, granule, granule.habit)
        return True

    def _inherit_ahead(self, page: int, granule: Granule, habit: Habit) -> None:
        """`page` was inherited and has come in: so will the others of `granule` that heirs before it have used."""
        bit = 1 << page - granule.first
        for other, mapping in self._habitual(habit.read & ~bit, granule.first, READ):
            if not self.pages[other] and self._inherited.source(other) is granule:
                try:
                    self._own(other, granule.read(other), other << PAGE_SHIFT, "r")
                except MemoryFault:
                    break  # nobody has asked for it yet
                self._inherited.forget(other)
                self._set(other, mapping.bits | TOUCHED)
        habit.read |= bit

    def _freeze_ahead(self, page: int, habit: Habit) -> None:
        """`page`, which heirs see, is written to: so will the others of its granule that were, after a fork before."""
        first = page & -SIZE
        for other, mapping in self._habitual(habit.written & ~(1 << page - first), first, READ | WRITE):
            holders = self._lent.holders(other)
            if holders and self.pages[other] & TOUCHED:
                try:
                    self._charge_page(other << PAGE_SHIFT, "w")
                except MemoryFault:
                    break
                freeze(other, holders, self.budget)
                self._set(other, mapping.bits | TOUCHED)
        habit.written |= 1 << page - first

    def _habitual(self, mask: int, first: int, need: int) -> Iterator[tuple[int, Mapping]]:
        """Those pages of `mask`, of a granule from page `first` on, that are private data to `need`, with their
        mappings; none where memory is scarce."""
        if mask and ((room := self.budget.room()) is None or room >= _PLENTY):
            mapping: Mapping | None = None
            for page in numbered(first, mask):
                if mapping is None or mapping.end <= page << PAGE_SHIFT:
                    mapping = self._maps.find(page << PAGE_SHIFT)
                if mapping is None or mapping.bits & (need | EXEC) != need or mapping.shared or page in self._code:
                    continue
                yield page, mapping

    def _own(self, page: int, content: bytes | memoryview | None, address: int, access: Access) -> None:
        """Charge an untouched page and give it `content` (None: what is there); MemoryFault when the budget refuses."""
        self._charge_page(address, access)
        self.resident_pages += 1
        if self.resident_pages > self.peak_resident_pages:
            self.peak_resident_pages = self.resident_pages
        if content is not None:
            at = page << PAGE_SHIFT
            self.view[at : at + len(content)] = content
        self.pages[page] = TOUCHED

    def _settle_shared(self, mapping: Mapping, address: int, access: Access) -> int:
        backing = mapping.backing
        assert backing is not None
        at = address & -PAGE
        offset = mapping.offset + at - mapping.start
        if offset >= backing.size():
            raise MemoryFault(address, access, present=True, bus=True)
        if not backing.admit(offset, self.budget):
            raise MemoryFault(address, access, out_of_memory=True)
        under = self._attached_at(at)
        if under is None:
            self._attach(mapping)  # what kept it from that may be gone
            under = self._attached_at(at)
        if under is None or backing.extent is None or not under.shows(at, backing.extent, offset):
            return THROUGH
        if not backing.has_page(offset, write=access == "w"):
            return THROUGH
        bits = mapping.bits
        if backing.tells_writes and access != "w":
            bits &= ~WRITE
        if backing.has_code:
            bits &= ~WRITE
        self._set(at >> PAGE_SHIFT, bits)
        return THROUGH if backing.has_code and access == "w" else bits

    def _charge_page(self, address: int, access: Access) -> None:
        if not self.budget.charge(PAGE):
            raise MemoryFault(address, access, out_of_memory=True)

    def _grow(self, address: int) -> Mapping | None:
        """Extend the mapping that grows down above `address` to it (setrlimit(2), RLIMIT_STACK), or None."""
        below, above = self._maps.around(address)
        start = address & -PAGE
        if above is None or not above.grows_down or start < LOWEST or above.end - start > self.stack_limit:
            return None
        if below is not None and not below.grows_down and below.prot and start - below.end < STACK_GUARD:
            return None
        self._maps.cut(above.start, above.end)
        grown = above._replace(start=start)
        self._maps.insert(grown)
        return grown

    # The table

    def _set(self, page: int, bits: int) -> None:
        self.pages[page] = bits
        base = page << PAGE_SHIFT
        (self.readable.add if bits & READ else self.readable.discard)(base)
        (self.writable.add if bits & WRITE else self.writable.discard)(base)
        if self.protection is not None:
            self.protection.changed_page(page)

    def _clear_fast(self, first: int, last: int) -> None:
        """Let the slow path look again at the pages [first, last)."""
        table = bytes(self.pages[first:last])
        for a, b in used_runs(table):
            bases = range((first + a) << PAGE_SHIFT, (first + b) << PAGE_SHIFT, PAGE)
            self.readable.difference_update(bases)
            self.writable.difference_update(bases)
            self.pages[first + a : first + b] = table[a:b].translate(_ONLY_TOUCHED)
            if self.protection is not None:
                self.protection.changed(first + a, first + b)

    def _drop(self, first: int, last: int) -> None:
        """Forget the private content of the pages [first, last), and give it back."""
        table = bytes(self.pages[first:last])
        kept = 0
        if self._lent:
            for page in self._lent.held_pages(first, last):
                freeze(page, self._lent.holders(page), self.budget)
                kept += 1
        if self._inherited:
            self._inherited.drop(first, last)
        touched = self._clear(first, last, table)
        self.resident_pages -= touched
        self.budget.charge((kept - touched) * PAGE)

    def _clear(self, first: int, last: int, table: bytes) -> int:
        """Empty the pages [first, last), whose bits are `table`; how many had private content."""
        touched = 0
        if runs := [range((first + a) << PAGE_SHIFT, (first + b) << PAGE_SHIFT, PAGE) for a, b in used_runs(table)]:
            for bases in runs:
                self.readable.difference_update(bases)
                self.writable.difference_update(bases)
            self.pages[first:last] = bytes(last - first)
            if self.protection is not None:
                self.protection.changed(first, last)
            if touched := count_touched(table):
                self._reservation.discard_runs(runs)
        return touched

    def _show_touched(self, first: int, last: int, bits: int) -> None:
        """Private content of the pages [first, last) may be read and not written: a first touch would say no more."""
        for a, b in touched_runs(bytes(self.pages[first:last])):
            self.pages[first + a : first + b] = bytes((bits | TOUCHED,)) * (b - a)
            self.readable.update(range((first + a) << PAGE_SHIFT, (first + b) << PAGE_SHIFT, PAGE))
            if self.protection is not None:
                self.protection.changed(first + a, first + b)

    # What the host shows

    def _attached_at(self, address: int) -> Attachment | None:
        for attachment in self._attachments:
            if attachment.start <= address < attachment.end:
                return attachment
        return None

    def _attach(self, mapping: Mapping) -> None:
        """Let the host show what `mapping` maps where that saves copies, or slow accesses.

        Of an image all the rest is attached, for the segments that are mapped next.
        """
        backing = mapping.backing
        if backing is None or (extent := backing.extent) is None:
            return
        if mapping.shared != backing.attach_shared and not (mapping.shared and backing.frozen):
            return
        if extent.fd < 0:
            return  # as on a host without memfd_create(2)
        there = self._attached_at(mapping.start)
        if there is not None and there.shows(mapping.start, extent, mapping.offset):
            return
        rest = mapping.start + extent.size - mapping.offset
        mine = min(mapping.end, rest)
        if len(self._attachments) >= MAX_ATTACHMENTS or (backing.attach_shared and self._shows(mapping, extent)):
            return
        for end in (mine,) if mapping.shared else (min(rest, TASK_SIZE), mine):
            if mapping.start < end and self._is_plain(mapping.start, end):
                self._attach_new(Attachment(mapping.start, end, extent, mapping.offset, backing.attach_shared))
                return

    def _shows(self, mapping: Mapping, extent: Extent) -> bool:
        """Whether a part of what `mapping` maps is attached elsewhere: one place alone is fast, as compiled code takes
        it that a store changes what is at its own address, and nothing else.
        """
        start, end = mapping.offset, mapping.offset + mapping.end - mapping.start
        return any(
            a.extent is extent and a.offset < end and start < a.offset + a.end - a.start for a in self._attachments
        )

    def _attach_new(self, new: Attachment) -> None:
        if self._reservation.attach(new.start, new.end, new.extent, new.offset, shared=new.shared):
            self._attachments.append(new)
            if self.protection is not None:
                self._unify(new)
                self.protection.remapped(new.start, new.end)

    def _unify(self, attachment: Attachment) -> None:
        """Let the host's mapping for a new attachment become one again, however its pages were protected."""
        if not attachment.shared:
            self._reservation.unify(attachment.start, attachment.end)

    def _is_plain(self, start: int, end: int) -> bool:
        """Nothing is attached to [start, end), and no private content is in it."""
        if any(a.start < end and start < a.end for a in self._attachments):
            return False
        return self.is_untouched(start, end)

    def is_untouched(self, start: int, end: int) -> bool:
        """No page of [start, end) has private content of its own."""
        return not count_touched(bytes(self.pages[start >> PAGE_SHIFT : end >> PAGE_SHIFT]))

    def backing_thawed(self, backing: Backing) -> None:
        """A backing that was frozen is so no longer, or has lost pages."""
        for mapping in self._maps:
            if mapping.backing is backing and mapping.shared:
                self._detach(mapping.start, mapping.end, all_=True)

    def _detach(self, start: int, end: int, *, all_: bool = False) -> None:
        """[start, end) is no longer mapped: end the attachments that must not, or need not, be there (or `all_`)."""
        for attachment in [a for a in self._attachments if a.start < end and start < a.end]:
            if all_ or attachment.shared or (start <= attachment.start and attachment.end <= end):
                self._reservation.detach(attachment.start, attachment.end)
                self._attachments.remove(attachment)
                if self.protection is not None:
                    self._reservation.unify(attachment.start, attachment.end)
                    self.protection.remapped(attachment.start, attachment.end)
                self._clear_fast(attachment.start >> PAGE_SHIFT, attachment.end >> PAGE_SHIFT)


def _rests() -> None:
    """Nobody else executes in it."""


def _is_small_data(mapping: Mapping) -> bool:
    """Whether whoever looks at a page of it is about to write there, too: so are a program's own data."""
    return mapping.bits & (WRITE | EXEC) == WRITE and mapping.end - mapping.start <= _SMALL


_ONLY_TOUCHED: Final = bytes(b & TOUCHED for b in range(256))


def _read_page(backing: Backing, offset: int, address: int, access: Access) -> bytes:
    if offset >= backing.size():
        raise MemoryFault(address, access, present=True, bus=True)
    try:
        return backing.read_at(offset, PAGE)[:PAGE]
    except OSError:
        raise MemoryFault(address, access, present=True, bus=True) from None

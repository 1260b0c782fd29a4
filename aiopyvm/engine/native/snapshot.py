"""What one space has translated, for other spaces that run the same program: records, links and all.

A snapshot is of code in images alone, at pages that show the image's own bytes: then the same image at the same
addresses is the same code, and no byte has to be looked at. It is taken when a space is closed that has translated more
than it began with, or earlier, when another space could use it; so it comes to hold what the program's runs had in
common and what they had not. Records say the same wherever they are mapped, so a space adopts it by one copy; the
tables stay shared until the space changes its code.

A program that maps its libraries itself has none of them when it begins. So a snapshot has parts, one for each image at
one place: what is not shown yet is asleep, that is, nothing leads to its records, until the space shows it and is about
to execute it.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from aiopyvm.engine.native.jumpcache import outside
from aiopyvm.engine.native.recordarena import Content
from aiopyvm.mem.codelines import whole_pages
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT
from aiopyvm.mem.space import AddressSpace

if TYPE_CHECKING:
    from aiopyvm.engine.native.space import SpaceCode

WORTH: Final = 16  # blocks and links more than it began with, from which on a space is worth a snapshot
MOST_AGE: Final = 6  # doublings of what a space has to have more
SIZE_SHIFT: Final = 9  # as many instructions are in a snapshot in the time that finding a block or a link takes
GROWN: Final = 4 << MOST_AGE  # of growth, which is always worth a snapshot
WORTH_WRITING: Final = 64  # of growth, in a process that may run nothing else
LOST_SHIFT: Final = 5  # as many instructions are in a snapshot as it may lose blocks and links before it is taken again
MOST: Final = 64  # snapshots kept
MOST_BYTES: Final = 16 << 20  # of one
MOST_STAGES: Final = 32  # of a program that maps one library after the other, whose jump caches are kept
LINE_SHIFT: Final = 6  # memory tracks code by lines of 64 bytes


Key = tuple[bytes, int, int]  # what tells a program or an image, address where its first byte would be, end of code


class Home(NamedTuple):
    """The pages [start, end) show the image of `digest` from `offset` on."""

    start: int
    end: int
    digest: bytes
    offset: int


class Part(NamedTuple):
    """An image at one place, as far as there is code of it."""

    homes: tuple[Home, ...]

    def has(self, address: int) -> bool:
        """Whether `address` is on one of its pages."""
        return any(home.start <= address < home.end for home in self.homes)

    def is_shown(self, space: AddressSpace) -> bool:
        """Whether `space` shows all of it."""
        return all(_is_home(space, home) for home in self.homes)


class Block:
    """The live records of a run, or of its first instructions: `offset` is the first one's."""

    __slots__ = ("addresses", "branches", "end", "next", "offset")

    def __init__(
        self,
        offset: int,
        addresses: tuple[int, ...],
        end: int,  # behind the last byte; may be 1 << 32
        branches: tuple[tuple[int, int, bool], ...],  # index of the instruction, target, whether passes are counted
        next: int,
    ) -> None:
        self.offset = offset
        self.addresses = addresses
        self.end = end
        self.branches = branches
        self.next = next


class Snapshot:
    """Records of code in `homes`, and the tables of the space that made them; nobody changes them any more.

    `pages`: runs (address, length) of pages that have code. `make_blocks` gives the blocks when they are asked for.
    `age`: how many snapshots it has grown from. `weight`: how many blocks and links this process has found for it.
    `whole`: code leads from one part to another by itself, so that all of them are shown or none is adopted.
    `displaced`: among the records are some of a part that it has lost.
    """

    def __init__(
        self,
        homes: tuple[Home, ...] = (),
        pages: tuple[tuple[int, int], ...] = (),
        content: Content | None = None,
        entries: dict[int, int] | None = None,
        counters: dict[int, int] | None = None,
        make_blocks: Callable[[], tuple[Block, ...]] = tuple,
        waiting: dict[int, str] | None = None,
        age: int = 0,
        *,
        weight: int = 0,
        whole: bool = False,
        displaced: bool = False,
    ) -> None:
        self.homes = homes
        self.pages = pages
        self.content = content or Content()
        self.entries = entries or {}
        self.counters = counters or {}
        self.waiting = waiting or {}
        self._jumps: dict[tuple[Part, ...], bytes] = {}  # the jump cache by what of it is asleep
        self._pages_of: dict[Part, Mapping[int, int]] = {}
        self.age = age
        self.weight = weight
        self.whole = whole
        self.displaced = displaced
        self._make_blocks = make_blocks

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The homes by image and place."""
        places: dict[tuple[bytes, int], list[Home]] = {}
        for home in self.homes:
            places.setdefault((home.digest, home.start - home.offset), []).append(home)
        return tuple(Part(tuple(homes)) for homes in places.values())

    def pages_of(self, part: Part) -> Mapping[int, int]:
        """The pages of `part` that have code, as its space tracks them."""
        known = self._pages_of.get(part)
        if known is None:
            runs = [range(at >> PAGE_SHIFT, at + size >> PAGE_SHIFT) for at, size in self.pages if part.has(at)]
            known = self._pages_of[part] = whole_pages(chain.from_iterable(runs))
        return known

    def without(self, gone: tuple[Part, ...]) -> Snapshot:
        """It without the parts `gone`, whose records nothing of it leads to; the records stay where they are."""
        if not gone:
            return self

        def stays(address: int) -> bool:
            return not any(part.has(address) for part in gone)

        content = self.content
        return Snapshot(
            tuple(home for home in self.homes if stays(home.start)),
            tuple(run for run in self.pages if stays(run[0])),
            Content(content.runs, content.singles, content.free, self.jumps_without(gone)),
            {eip: offset for eip, offset in self.entries.items() if stays(eip)},
            {eip: offset for eip, offset in self.counters.items() if stays(eip)},
            lambda: tuple(block for block in self.blocks if stays(block.addresses[0])),
            self.waiting,
            self.age,
            weight=self.weight,
            whole=self.whole,
            displaced=True,
        )

    def jumps_without(self, asleep: tuple[Part, ...]) -> bytes:
        """The jump cache without what leads to `asleep`."""
        if not asleep:
            return self.content.jumps
        known = self._jumps.get(asleep)
        if known is None:
            if len(self._jumps) >= MOST_STAGES:
                self._jumps.clear()
            spans = [(home.start, home.end) for part in asleep for home in part.homes]
            known = self._jumps[asleep] = outside(self.content.jumps, spans)
        return known

    @property
    def worth(self) -> int:
        """How much a space that began with it has to have more to be worth another: ever more, and more of a large one,
        of which another takes longer."""
        return min(4 << MOST_AGE, max(4 << self.age, len(self.entries) >> SIZE_SHIFT))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that the records are of."""
        return self._make_blocks()

    @cached_property
    def lines(self) -> dict[int, tuple[Block, ...]]:
        """The blocks by the number of each line of memory that they have a byte of."""
        lines: dict[int, tuple[Block, ...]] = {}
        for block in self.blocks:
            for line in lines_of(block.addresses[0], block.end):
                lines[line] = (*lines.get(line, ()), block)
        return lines


def lines_of(start: int, end: int) -> range:
    """The numbers of the lines that have a byte of [start, end)."""
    return range(start >> LINE_SHIFT, (end - 1 >> LINE_SHIFT) + 1)


class Store(Protocol):
    """Where snapshots are kept for later processes."""

    def get(self, key: Key) -> Snapshot | None:
        """What was kept for `key`."""

    def put(self, key: Key, snapshot: Snapshot, *, anew: bool) -> None:
        """Keep `snapshot` for `key`, if it is worth it; `anew`: what was kept before it does not count."""


NOTHING: Final = Snapshot()


class Snapshots:
    """The snapshots of this process, by the image that a space begins in. Thread-safe.

    Event loops in several threads share them, but what a space has translated is looked at by its own thread alone:
    another one would find tables and records of different moments.
    """

    def __init__(self) -> None:
        self.store: Store | None = None
        self._kept: dict[Key, Snapshot] = {}
        self._from_store: set[Key] = set()  # of them, what an earlier process kept, before it is used twice
        self._lost: dict[Key, tuple[int, int]] = {}  # what spaces found in vain, and how much of that is to be too much
        self._growing: dict[tuple[int, Key], weakref.ref[SpaceCode]] = {}  # with the space's thread
        self._lock = threading.Lock()
        self.taken = 0
        self.adopted = 0

    def find(self, space: AddressSpace, eip: int, stop: int) -> tuple[Key | None, Snapshot, tuple[Part, ...]]:
        """The snapshot for a space that begins at `eip`, what such ones are kept under, and which parts are asleep.

        None: it begins in no image, and has no label.
        """
        page = eip & -PAGE
        shown = space.shown_image(page, page + PAGE)
        if shown is None:
            return None, NOTHING, ()
        key = (space.label, 0, stop) if space.label else (shown[0].digest, page - shown[1], stop)
        donor = self._growing.pop((threading.get_ident(), key), None)
        code = donor() if donor is not None else None
        if code is not None:
            self.keep(key, code)
        snapshot = self._known(key)
        asleep = tuple(part for part in snapshot.parts if not part.is_shown(space))
        if asleep and (snapshot.whole or len(asleep) == len(snapshot.parts)):
            return key, NOTHING, ()
        self.adopted += snapshot is not NOTHING
        return key, snapshot, asleep

    def _known(self, key: Key) -> Snapshot:
        snapshot = self._kept.get(key)
        if snapshot is None:
            snapshot = (self.store.get(key) if self.store is not None else None) or NOTHING
            self._add(key, snapshot)
            if snapshot is not NOTHING:
                self._from_store.add(key)
        return snapshot

    def _add(self, key: Key, snapshot: Snapshot) -> None:
        with self._lock:
            self._kept.pop(key, None)
            while len(self._kept) >= MOST:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                self._from_store.discard(oldest)
                self._lost.pop(oldest, None)
            self._kept[key] = snapshot

    def pays(self, key: Key, growth: int) -> bool:
        """A snapshot of a space that has ended, with `growth` more than it began with, is worth its time. A little more
        than what an earlier process kept is not when it is seen first: this process may run no other one."""
        if key in self._from_store:
            self._from_store.discard(key)
            return growth >= WORTH_WRITING
        return True

    def loses(self, key: Key, little: int) -> bool:
        """A space has ended that found `little` more than it began with, too little for a snapshot: with that, as much
        has been found in vain as a snapshot takes time for; from then on twice as much."""
        known = self._kept.get(key, NOTHING)
        if not little or known is NOTHING:
            return False
        lost, most = self._lost.get(key) or (0, max(GROWN, len(known.entries) >> LOST_SHIFT))
        enough = lost + little >= most
        self._lost[key] = (0, 2 * most) if enough else (lost + little, most)
        return enough

    def grown(self, key: Key, code: SpaceCode) -> None:
        """The space of `code` has translated enough to be of use for others."""
        if len(self._growing) >= MOST:
            alive = {place: space for place, space in tuple(self._growing.items()) if space() is not None}
            self._growing = alive if len(alive) < MOST else {}
        self._growing[threading.get_ident(), key] = weakref.ref(code)

    def ended(self, key: Key, code: SpaceCode) -> None:
        """The space of `code` is about to be closed: nothing can be had from it any more."""
        place = threading.get_ident(), key
        known = self._growing.get(place)
        if known is not None and known() is code:
            self._growing.pop(place, None)

    def keep(self, key: Key, code: SpaceCode) -> None:
        """Take a snapshot of `code`, if it can be taken, in place of the one before, unless that has more: what another
        space has found meanwhile. Where its program has displaced parts of that one again, the next begins anew."""
        displaced = bool(code.displaced)
        if not displaced and self._kept.get(key, NOTHING).weight > code.weight:
            return
        snapshot = code.snapshot()
        if snapshot is not None:
            self._add(key, snapshot)
            self.taken += 1
            if self.store is not None:
                self.store.put(key, snapshot, anew=displaced)
        elif displaced:
            self._add(key, NOTHING)


def homes_of(space: AddressSpace, pages: Iterable[int]) -> tuple[tuple[Home, ...], tuple[tuple[int, int], ...]] | None:
    """Where `pages` are at home, and the runs (address, length) of them; None: not in images."""
    homes: list[Home] = []
    runs: list[tuple[int, int]] = []
    for page in sorted(pages):
        address = page << PAGE_SHIFT
        shown = space.shown_image(address, address + PAGE)
        if shown is None:
            return None
        image, offset = shown[0].digest, shown[1]
        if homes and homes[-1].digest == image and homes[-1].offset + address - homes[-1].start == offset:
            home = homes[-1]._replace(end=address + PAGE)
            if _is_home(space, home):
                homes[-1] = home
                if sum(runs[-1]) == address:
                    runs[-1] = runs[-1][0], runs[-1][1] + PAGE
                else:
                    runs.append((address, PAGE))
                continue
        homes.append(Home(address, address + PAGE, image, offset))
        runs.append((address, PAGE))
    return tuple(homes), tuple(runs)


def is_whole(parts: tuple[Part, ...], blocks: Iterable[Block]) -> bool:
    """Whether some of `blocks` lead from one part to another without looking an address up."""
    if len(parts) < 2:
        return False
    spans = sorted((home.start, home.end, n) for n, part in enumerate(parts) for home in part.homes)
    starts = [start for start, _, _ in spans]
    nowhere = start, end, here = 0, 0, -1

    def span_of(address: int) -> tuple[int, int, int]:
        at = bisect_right(starts, address) - 1
        return spans[at] if at >= 0 and address < spans[at][1] else nowhere

    for block in blocks:
        if not start <= block.addresses[0] < end:
            start, end, here = span_of(block.addresses[0])
        for address in (block.next, *(target for _, target, _ in block.branches)):
            if not start <= address < end and span_of(address)[2] not in (here, -1):
                return True
    return False


def _is_home(space: AddressSpace, home: Home) -> bool:
    shown = space.shown_image(home.start, home.end)
    return shown is not None and shown[1] == home.offset and shown[0].digest == home.digest

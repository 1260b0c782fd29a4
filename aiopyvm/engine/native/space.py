"""One address space's records: translation, links, the jump cache, and what happens when code changes.

What always holds: an instruction has at most one live record, found by `record`. A record that was live and is not
any more says `miss` (or leads to the one that took its place), so that whatever still leads to it is exact. Passes
through calls and backward branches are counted by one record for each target (`counters`), which regions are
entered through. Lines of memory from which there is a live record are tracked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.jumpcache import joined
from aiopyvm.engine.native.layout import RECORD_SIZE, Context
from aiopyvm.engine.native.pairs import paired
from aiopyvm.engine.native.recordarena import RecordArena
from aiopyvm.engine.native.records import Runs
from aiopyvm.engine.native.snapshot import (
    GROWN,
    LINE_SHIFT,
    MOST_BYTES,
    NOTHING,
    WORTH,
    Block,
    Key,
    Part,
    Snapshot,
    Snapshots,
    homes_of,
    is_whole,
    lines_of,
)
from aiopyvm.mem.layout import PAGE_SHIFT
from aiopyvm.mem.space import AddressSpace

UNCOUNTED: Final = 0xFFFFFFFF  # passes until a counter runs out that nobody waits for


class SpaceCode:
    """The code of one address space, up to `stop` (exclusive; -1: no end).

    `on_drop` is called with each block whose bytes have changed, before its records are dead; `on_clear` when all
    records are about to be dropped. `first` is how many passes a new counter waits for, `threshold` how many
    until code is hot.
    """

    def __init__(self, space: AddressSpace, stop: int, arena: RecordArena, table: HandlerTable, runs: Runs) -> None:
        self.space = space
        self.stop = stop
        self.steps = table.steps
        self.arena = arena
        self._base = NOTHING  # what was adopted; its tables count where these have nothing
        self._asleep: tuple[Part, ...] = ()  # parts of it that count for nothing yet
        self._entries: dict[int, int] = {}  # address -> offset of the live record of the instruction there
        self._counters: dict[int, int] = {}  # address -> offset of its count record
        self.generation = 0  # how often everything was dropped
        self.invalidations = 0
        self.dense = 0  # instructions in a row that were left to Python a few instructions after the one before
        self.stepped_at = 0  # `CpuState.instructions` behind the last of them
        self.vain = 0  # accesses for which generated code came back, and which stayed slow
        self.stay = 0  # instructions for which the Python engine goes on in their place
        self.waiting: dict[int, str] = {}  # offset of a record that is left to Python -> the handler that it waits for
        self.threshold = self.first = UNCOUNTED
        self.patience: Callable[[int], int] = lambda eip: self.first  # passes that a new counter at eip waits for
        self.on_drop: list[Callable[[SpaceCode, Block], None]] = []
        self.made: Collection[object] = ()  # compiled regions that wait to be installed: the hot tier's
        self.pending: Collection[object] = ()  # places that wait for the compiler: the hot tier's
        self.asked: Collection[int] = ()  # places whose counters ran out once, and count up to `threshold`: its, too
        self.on_clear: list[Callable[[SpaceCode], None]] = []
        self._runs = runs
        self._table = table
        self._lines: dict[int, tuple[Block, ...]] = {}  # by number of a 64-byte line
        self._vacant: dict[int, Block] = {}  # dropped blocks by address: their records may be written anew
        self._dead: dict[int, int] = {}  # address -> offset of the record that was dropped last
        self._open = -1  # the address whose stub is the last record of the runs: a run that begins there replaces it
        self._growth = 0  # blocks and links that no snapshot has yet
        self._worth = 1  # of growth, from which on it is worth a snapshot; the first one is worth much
        self._age = 0
        self._weight = 0  # blocks and links that the last snapshot has
        self._key: Key | None = None
        self.context = Context()
        self.context.arena = self.arena.base
        self._publish_jumps()
        space.code_listeners.append(self._on_change)

    # -- the way to a record -------------------------------------------------------------------------------------------

    def enter(self, eip: int) -> int:
        """The offset of the record at `eip`, translated if it is new.

        Raises MemoryFault or DecodeFault of the instruction there.
        """
        if found := self._entries.get(eip):
            return found
        part = self._part_asleep(eip) if self._asleep else None
        if part is not None:
            self._wake(part)
            return self.record(eip) or self._translate(eip)
        return self._base.entries.get(eip, 0) or self._translate(eip)

    def record(self, eip: int) -> int:
        """The offset of the live record at `eip`; 0: there is none."""
        found = self._entries.get(eip) or self._base.entries.get(eip, 0)
        if found and self._asleep and eip not in self._entries and self._part_asleep(eip) is not None:
            return 0
        return found

    def counter(self, eip: int) -> int:
        """The offset of the count record in front of `eip`; 0: there is none."""
        return self._counters.get(eip) or self._base.counters.get(eip, 0)

    @property
    def counters(self) -> dict[int, int]:
        """All count records' offsets by address, as they are now; not to be changed."""
        return {**self._base.counters, **self._counters} if self._counters else self._base.counters

    def follow(self, stub: int) -> int:
        """The stub at offset `stub` was reached: link what led there; the offset to go on at. Raises as `enter`."""
        arena, generation = self.arena, self.generation
        eip = arena.eip(stub)
        back, counted = arena.values(stub)
        target = self.enter(eip)
        if generation != self.generation or target == stub:
            return target
        if counted:
            target = self.counted(eip)
        self._grow()
        if back:
            arena.link(stub + back, target)
            arena.free_single(stub)
        else:
            arena.put(stub, self.steps.goto, eip, target=target)
        return target

    def jump(self, eip: int) -> int:
        """An indirect jump to `eip` was not in the cache: now it is; the offset to go on at. Raises as `enter`."""
        target = self.enter(eip)
        target = self.counter(eip) or (self.counted(eip) if self.threshold != UNCOUNTED else target)
        mask = self.arena.jump_mask
        if self.arena.remember_jump(eip, target):
            self._grow()
        if self.arena.jump_mask != mask:
            self._publish_jumps()
            self._grow(WORTH)  # so that others need not find out
        return target

    def counted(self, eip: int) -> int:
        """The offset of the count record in front of `eip`, which is translated."""
        counter = self.counter(eip)
        if not counter:
            if not self.arena.room(1):
                return self.record(eip)
            counter = self._counters[eip] = self.arena.single()
            self.arena.put(counter, self.steps.count, eip, (self.patience(eip), 0), self.record(eip))
            self.arena.replace_jump(eip, counter)
        return counter

    # -- translation ---------------------------------------------------------------------------------------------------

    def _translate(self, eip: int) -> int:
        if eip == self.stop:
            return self._end(eip)
        run = self._runs.find(self.space, eip, self.stop)
        addresses = run.addresses
        length = len(addresses)
        if not (self._entries.keys().isdisjoint(addresses) and self._base.entries.keys().isdisjoint(addresses)):
            length = next((n for n in range(1, length) if self.record(addresses[n])), length)
        if length < len(addresses):
            addresses = addresses[:length]
        whole = length == len(run.addresses)
        following = run.next if whole else run.addresses[length]
        offset = self._place(addresses, following)
        records = length * RECORD_SIZE
        arena = self.arena
        arena.memory[offset : offset + records] = run.records[:records]
        self._entries.update(zip(addresses, range(offset, offset + records, RECORD_SIZE), strict=True))
        for index, pair in paired(run.handlers[:length], self._table.pairs).items():
            arena.set_handler(offset + index * RECORD_SIZE, pair)
        branches = run.branches if whole else tuple(branch for branch in run.branches if branch[0] < length)
        self._finish(offset + records, following, run.falls or not whole)
        for index, target, counted in branches:
            self._branch(offset + index * RECORD_SIZE, target, counted)
        for index, handler in run.missing:
            if index < length:
                self._want(offset + index * RECORD_SIZE, handler)
        self._revive(addresses, offset)
        self._track(Block(offset, addresses, eip + (following - eip & 0xFFFFFFFF), branches, following))
        return offset

    def _want(self, offset: int, name: str) -> None:
        """The record at `offset` is to have the handler called `name`, now or when there is one."""
        handler = self._table.find(name)
        if handler is not None:
            self.arena.set_handler(offset, handler)
        else:
            self.waiting[offset] = name

    def adopt_handler(self, offset: int) -> bool:
        """Give the record at `offset` the handler that it waits for; False where that is not there yet."""
        handler = self._table.find(self.waiting[offset])
        if handler is not None:
            del self.waiting[offset]
            self.arena.set_handler(offset, handler)
            self._grow(GROWN)  # others are to have it from the start
        return handler is not None

    def _place(self, addresses: tuple[int, ...], following: int) -> int:
        """Where the records of instructions at `addresses` go, and one more behind them, for `following`."""
        if not self.arena.room(len(addresses) + 1):
            self.clear()
        vacant = self._vacant.pop(addresses[0], None)
        if vacant is not None and vacant.addresses == addresses and vacant.next == following:
            return vacant.offset
        offset = self.arena.top
        if self._open == addresses[0]:
            offset -= RECORD_SIZE
        self.arena.top = offset + (len(addresses) + 1) * RECORD_SIZE
        return offset

    def _finish(self, offset: int, following: int, falls: bool) -> None:
        """Write the record behind a run, unless another run begins there."""
        arena, steps = self.arena, self.steps
        known = self.record(following)
        if known == offset:
            return
        at_end = offset + RECORD_SIZE == arena.top
        if at_end:
            self._open = -1
        if known:
            arena.put(offset, steps.goto, following, target=known)
        else:
            arena.put(offset, steps.stub if falls else steps.miss, following)
            if falls and at_end:
                self._open = following

    def _branch(self, offset: int, target: int, counted: bool) -> None:
        """Let the record at `offset` lead to `target`, through a stub where that is not translated."""
        known = self.record(target)
        if known:
            self.arena.link(offset, self.counted(target) if counted else known)
            return
        stub = self.arena.single()
        self.arena.put(stub, self.steps.stub, target, (offset - stub & 0xFFFFFFFF, int(counted)))
        self.arena.link(offset, stub)

    def _revive(self, addresses: Iterable[int], offset: int) -> None:
        """What led to the dead records of `addresses` leads to the new ones from `offset` on."""
        counters = self._counters.keys(), self._base.counters.keys()
        if not self._dead and counters[0].isdisjoint(addresses) and counters[1].isdisjoint(addresses):
            return
        for at, address in enumerate(addresses):
            live = offset + at * RECORD_SIZE
            if self._dead:
                dead = self._dead.pop(address, live)
                if dead != live:
                    self.arena.put(dead, self.steps.goto, address, target=live)
            counter = self.counter(address)
            if counter:
                self.arena.link(counter, live)

    def _end(self, eip: int) -> int:
        if not self.arena.room(1):
            self.clear()
        offset = self._entries[eip] = self.arena.single()
        self.arena.put(offset, self.steps.end, eip)
        return offset

    # -- invalidation --------------------------------------------------------------------------------------------------

    def blocks(self, address: int, end: int) -> set[Block]:
        """The live blocks that have a byte of [address, end)."""
        found: set[Block] = set()
        for known in (self._lines, self._base.lines):
            lines: Iterable[int] = lines_of(address, end)
            if end - address >> LINE_SHIFT > len(known):
                lines = known
            for line in lines:
                found.update(b for b in known.get(line, ()) if b.addresses[0] < end and address < b.end)
        return {block for block in found if self._is_live(block)} if self._asleep else found

    def blocks_at(self, address: int) -> list[Block]:
        """The live blocks that have the byte at `address`."""
        line = address >> LINE_SHIFT
        found = (*self._lines.get(line, ()), *self._base.lines.get(line, ()))
        here = [block for block in found if block.addresses[0] <= address < block.end]
        return [block for block in here if self._is_live(block)] if self._asleep else here

    def _track(self, block: Block) -> None:
        start = block.addresses[0]
        self.space.track_code(start, block.end - start)
        for line in lines_of(start, block.end):
            self._lines[line] = (*self._lines.get(line, ()), block)
        self._grow()

    def _on_change(self, address: int, length: int) -> None:
        for block in self.blocks(address, address + length):
            self._drop(block)

    def _drop(self, block: Block) -> None:
        """The block's bytes have changed."""
        self._own_tables()
        self.invalidations += 1
        for listener in self.on_drop:
            listener(self, block)
        arena, steps = self.arena, self.steps
        for index, _, _ in block.branches:
            self._free_stub(block.offset + index * RECORD_SIZE)
        for index, address in enumerate(block.addresses):
            offset = block.offset + index * RECORD_SIZE
            arena.put(offset, steps.miss, address)
            self.waiting.pop(offset, None)
            del self._entries[address]
            self._dead[address] = offset
            arena.replace_jump(address, 0)
        self._vacant[block.addresses[0]] = block
        for line in lines_of(block.addresses[0], block.end):
            self._lines[line] = tuple(other for other in self._lines[line] if other is not block)
            if not self._lines[line]:
                del self._lines[line]
                self._untrack(line)

    def _free_stub(self, offset: int) -> None:
        """The record at `offset` is about to die: nothing leads to its stub then, where it has one."""
        target = self.arena.target(offset)
        if self.arena.handler(target) == self.steps.stub and self.arena.values(target)[0] == offset - target:
            self.arena.free_single(target)

    def clear(self) -> None:
        """Drop everything: there is too much of it."""
        for listener in self.on_clear:
            listener(self)
        self.generation += 1
        self._own_tables()
        lines = list(self._lines)
        known: dict[int, Any]
        for known in (self._entries, self._counters, self.waiting, self._lines, self._vacant, self._dead):
            known.clear()
        self.arena.clear()
        self._growth = self._weight = 0
        self._open = -1
        self._publish_jumps()
        for line in lines:
            self._untrack(line)

    def _own_tables(self) -> None:
        """The space is about to change code: what it has adopted becomes its own."""
        base, self._base = self._base, NOTHING
        if base is not NOTHING:
            awake, lines = base.entries, dict(base.lines)
            if self._asleep:
                awake = {eip: offset for eip, offset in awake.items() if self._part_asleep(eip) is None}
                lines = {n: own for n, all_ in lines.items() if (own := tuple(filter(self._is_live, all_)))}
            self._entries = {**awake, **self._entries}
            self._counters = {**base.counters, **self._counters}
            for line, blocks in self._lines.items():
                lines[line] = (*lines.get(line, ()), *blocks)
            self._lines, self._asleep = lines, ()

    def _untrack(self, line: int) -> None:
        """Nothing is translated from `line` any more, unless by someone else: stores to it may be fast again."""
        if len(self.space.code_listeners) == 1:
            self.space.untrack_code(line << LINE_SHIFT, 1)

    def _publish_jumps(self) -> None:
        self.context.jump_cache = self.arena.jumps
        self.context.jump_mask = self.arena.jump_mask

    # -- sharing -------------------------------------------------------------------------------------------------------

    def begin(self, eip: int, snapshots: Snapshots) -> None:
        """The space begins at `eip`: adopt what others have translated, and let others adopt what this one will."""
        self._key, snapshot, asleep = snapshots.find(self.space, eip, self.stop)
        if self._key is None:
            return
        self._snapshots = snapshots
        self.space.close_listeners.append(self._closing)
        if snapshot is not NOTHING:
            self._base = snapshot
            self._worth, self._age, self._weight = snapshot.worth, snapshot.age + 1, snapshot.weight
            self.arena.restore(snapshot.content)
            self.waiting = dict(snapshot.waiting)
            self._asleep = asleep
            if asleep:
                self.arena.begin_jumps(snapshot.jumps_without(asleep))
            self._publish_jumps()
            for part in snapshot.parts:
                if part not in asleep:
                    self.space.track_image(snapshot.pages_of(part))

    @property
    def displaced(self) -> tuple[Part, ...]:
        """Parts of what was adopted in whose place something else was executed."""
        return tuple(part for part in self._asleep if self._overlaps(part))

    def _overlaps(self, part: Part) -> bool:
        """Whether the space has translated something by itself where `part` is."""
        for home in part.homes:
            lines = lines_of(home.start, home.end)
            if len(lines) < len(self._lines):
                if not self._lines.keys().isdisjoint(lines):
                    return True
            elif any(line in lines for line in self._lines):
                return True
        return False

    def _part_asleep(self, eip: int) -> Part | None:
        for part in self._asleep:
            for home in part.homes:
                if home.start <= eip < home.end:
                    return part
        return None

    def _is_live(self, block: Block) -> bool:
        """Whether `block`, which is of the tables, counts."""
        return self._entries.get(block.addresses[0]) == block.offset or self._part_asleep(block.addresses[0]) is None

    def _wake(self, part: Part) -> None:
        """The space is about to execute there: what was adopted of that image may be shown now."""
        if not part.is_shown(self.space):
            return
        if self._overlaps(part):
            return  # something else was executed there
        self._asleep = tuple(other for other in self._asleep if other is not part)
        self.arena.begin_jumps(self._base.jumps_without(self._asleep))
        self._publish_jumps()
        self.space.track_image(self._base.pages_of(part))

    @property
    def weight(self) -> int:
        """How many blocks and links it has that this process has found."""
        return self._weight + self._growth

    def snapshot(self) -> Snapshot | None:
        """What another space that runs the same program can begin with; None where that cannot be said.

        A part in whose place there was something else is not of it any more: the program has another library now, or
        has it elsewhere. That its records are still there is not let happen twice.
        """
        gone = self.displaced
        if gone and self._base.displaced:
            return None
        base, asleep = self._base.without(gone), tuple(part for part in self._asleep if part not in gone)
        lines = {**base.lines, **self._lines}
        for line in base.lines.keys() & self._lines.keys():
            lines[line] = (*base.lines[line], *self._lines[line])
        used = {line << LINE_SHIFT >> PAGE_SHIFT for line in lines}
        awake = [page for page in used if not any(part.has(page << PAGE_SHIFT) for part in asleep)]
        found = homes_of(self.space, awake) if awake and self.arena.top <= MOST_BYTES else None
        if found is None:
            return None
        homes = *found[0], *(home for part in asleep for home in part.homes)
        pages = *found[1], *(run for run in base.pages if any(part.has(run[0]) for part in asleep))
        self._weight, self._growth = self.weight, 0
        content, counters = self.arena.copy(), {**base.counters, **self._counters}
        for offset in counters.values():
            content.reset_counter(offset, self.steps.count, self.first)
        if asleep:
            content.jumps = joined(content.jumps, base.content.jumps)
        entries = {**base.entries, **self._entries}
        blocks = tuple({block: None for blocks in lines.values() for block in blocks})
        made = Snapshot(homes, pages, content, entries, counters, lambda: blocks, dict(self.waiting), self._age)
        made.lines, made.weight = lines, self._weight
        made.whole = base.whole or is_whole(made.parts, blocks)
        made.displaced = base.displaced or bool(gone)
        self._age, self._worth = self._age + 1, made.worth
        return made

    def _grow(self, by: int = 1) -> None:
        before = self._growth
        self._growth += by
        if before < max(self._worth, WORTH) <= self._growth and self._key is not None:
            self._snapshots.grown(self._key, self)

    def _closing(self) -> None:
        key, growth = self._key, self._growth
        if key is None:
            return
        self._snapshots.ended(key, self)
        if growth >= self._worth:
            if self._snapshots.pays(key, growth):
                self._snapshots.keep(key, self)
        elif self._snapshots.loses(key, growth + self.arena.crowd):
            for eip in self.arena.spread():
                self.arena.remember_jump(eip, self.counter(eip) or self.record(eip))
            self._snapshots.keep(key, self)


__all__ = ["UNCOUNTED", "Block", "SpaceCode"]

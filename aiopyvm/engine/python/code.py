"""Translated code: `Code` is one address space's, `SharedCode` is what all address spaces share.

What is shared depends on nothing but bytes and addresses: shapes, decoded blocks, compiled regions. What is bound to a
space is made from it after its bytes were compared. A space's code is tracked (`AddressSpace.track_code`): when bytes
of a block change, the block and every region made from it are dropped; `changed` then tells the store that is being
executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from aiopyvm.engine.python.blocks import MAX_BLOCK, Block
from aiopyvm.engine.python.fetch import fetch_insn
from aiopyvm.engine.python.flagstate import Thunks
from aiopyvm.engine.python.regions import Region, RegionCompiler
from aiopyvm.engine.python.room import Rooms
from aiopyvm.engine.python.shapes import MOST_SHAPES, Shape, Shapes
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn, Relative
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import EXEC, PAGE
from aiopyvm.mem.space import AddressSpace

_WINDOW: Final = 144  # bytes looked at for a block, in one page
NEVER_AGAIN: Final = -(1 << 40)  # a link that no count brings to a merge: the region had no room for its target
LINKED: Final = 16  # times that one region was left for another before they are merged with their neighbours
MOST_DECODED: Final = 1 << 14  # instructions of decoded blocks kept for spaces to come
MOST_SHARED: Final = 1 << 14  # instructions of regions kept for spaces to come
MOST_CODE: Final = 1 << 14  # instructions translated for one machine's spaces; a region's count four times
_LINE_SHIFT: Final = 6  # memory tracks code by lines of 64 bytes
_ALIKE: Final = 4  # regions kept for one address
_CHURN: Final = 12  # doublings of the entries that a block needs to become warm, one each time it was overwritten
_MOST_CHURN: Final = 1 << 12  # addresses for which that is known


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A block without a space: what `Code` binds."""

    code: bytes
    insns: tuple[tuple[int, Insn], ...]
    shapes: tuple[tuple[Shape, tuple[int, ...]], ...]
    successors: tuple[int, ...]


@dataclass(slots=True, eq=False)
class BoundRegion:
    """A region bound to one space. `links` counts, by address, how often it was left for another region."""

    region: Region
    function: Callable[..., tuple[int, int]]
    links: dict[int, int] = field(default_factory=dict)
    entries: int = 0  # addresses that lead here


class SharedCode:
    """Shapes, thunks, decoded blocks and regions, for every address space of the process whose processor has the
    features `allowed` (None: all that there are).

    Bounded: what guests make it hold is dropped, the oldest first, and made again when it is needed.
    """

    def __init__(self, allowed: frozenset[str] | None = None) -> None:
        self.allowed = allowed
        self.thunks = Thunks()
        self.shapes = Shapes(self.thunks)
        self.rooms = Rooms()
        self._decoded: dict[tuple[int, int, int], _Decoded] = {}
        self._decoded_length = 0
        self._regions: dict[tuple[int, int], list[Region]] = {}
        self._regions_length = 0
        self.counters = {"blocks": 0, "regions": 0, "regions_adopted": 0, "invalidations": 0}

    def decoded(self, address: int, stop: int, mode: int) -> _Decoded | None:
        """The block that was decoded last at `address` for `mode`, where code ended at `stop`."""
        return self._decoded.get((address, stop, mode))

    def keep_decoded(self, address: int, stop: int, mode: int, decoded: _Decoded) -> None:
        """Keep a block for other spaces."""
        known = self._decoded.pop((address, stop, mode), None)
        self._decoded[address, stop, mode] = decoded
        self._decoded_length += len(decoded.insns) - (len(known.insns) if known is not None else 0)
        while self._decoded_length > MOST_DECODED:
            oldest = self._decoded.pop(next(iter(self._decoded)))
            self._decoded_length -= len(oldest.insns)

    def regions(self, address: int, stop: int) -> list[Region]:
        """The regions that begin at `address`, where code ended at `stop`; the last one made first."""
        return self._regions.get((address, stop), [])[::-1]

    def keep_region(self, address: int, stop: int, region: Region) -> None:
        """Keep a region for other spaces."""
        alike = self._regions.setdefault((address, stop), [])
        alike.append(region)
        self._regions_length += region.length
        if len(alike) > _ALIKE:
            self._regions_length -= alike.pop(0).length
        while self._regions_length > MOST_SHARED and len(self._regions) > 1:
            oldest = self._regions.pop(next(iter(self._regions)))
            self._regions_length -= sum(region.length for region in oldest)


class Code:
    """The code of one address space, up to `stop` (exclusive; -1: no end)."""

    def __init__(self, space: AddressSpace, shared: SharedCode, stop: int, warm_after: int) -> None:
        self.space = space
        self.shared = shared
        self.stop = stop
        self.warm_after = warm_after  # entries of a block before a region is made around it
        self.blocks: dict[int, Block] = {}  # for the flat mode
        self._rare_blocks: dict[int, dict[int, Block]] = {}  # by other modes
        self.entries: dict[int, tuple[BoundRegion, int]] = {}  # address -> region and `pc`
        self.changed = False
        self._lines: dict[int, set[Block]] = {}  # by number of a 64-byte line
        self._users: dict[int, list[BoundRegion]] = {}  # the regions that cover the block at an address
        self._room = shared.rooms.of(space.budget)
        self._room.holders[self] = None
        self._length = 0  # what is used of the room, since everything was dropped
        self._churn: dict[int, int] = {}  # how often the block at an address was overwritten
        self._views = (
            space.view,
            space.view16,
            space.view32,
            space.readable,
            space.writable,
            space_load(space),
            self.store,
            self.probe,
        )
        self._binders: dict[Shape, Callable[..., Any]] = {}
        space.code_listeners.append(self._on_change)
        space.close_listeners.append(self._leave)

    # -- memory, for generated code ------------------------------------------------------------------------------------

    def store(self, address: int, size: int, value: int) -> bool:
        """Store on the slow path; True where translated code was overwritten."""
        self.space.store(address & 0xFFFFFFFF, size, value)
        if self.changed:
            self.changed = False
            return True
        return False

    def probe(self, address: int, size: int, write: bool) -> None:
        """Fault as an access would, at an address that need not be wrapped yet."""
        self.space.probe(address & 0xFFFFFFFF, size, write)

    # -- blocks --------------------------------------------------------------------------------------------------------

    def blocks_of(self, mode: int) -> dict[int, Block]:
        """The blocks that are translated for a mode, by address."""
        return self._rare_blocks.setdefault(mode, {}) if mode else self.blocks

    def translate(self, address: int, mode: int) -> Block:
        """Translate the block at `address`.

        Raises MemoryFault or DecodeFault of its first instruction.

        """
        self._room.make(self, MOST_CODE)
        block = self._add(address, mode)
        self.shared.counters["blocks"] += 1
        if not mode:
            self._adopt(address)
        return block

    def _add(self, address: int, mode: int = 0) -> Block:
        block = self.blocks_of(mode)[address] = self._bind(address, mode, self._decoded_at(address, mode))
        block.warm_at = self.warm_after << self._churn.get(address, 0)
        self._use(len(block.insns))
        self._track(block)
        return block

    def _decoded_at(self, address: int, mode: int = 0) -> _Decoded:
        """The decoded block at `address`: a shared one where its bytes are the same here."""
        decoded = self.shared.decoded(address, self.stop, mode)
        if decoded is None or not self._same(address, decoded.code):
            decoded = self._decode(address, mode)
            self.shared.keep_decoded(address, self.stop, mode, decoded)
        return decoded

    def _same(self, address: int, code: bytes) -> bool:
        """Tell whether `code` is at `address`; no page is touched that running what is there would not touch."""
        room = PAGE - (address & PAGE - 1)
        try:
            if self.space.fetch(address, min(room, len(code))) != code[:room]:
                return False
            return len(code) <= room or self.space.fetch(address + room, len(code) - room) == code[room:]
        except MemoryFault:
            return False

    def _decode(self, address: int, mode: int) -> _Decoded:
        """Decode a block: instructions that lie in one page, or one that does not."""
        window = self.space.fetch(address, min(_WINDOW, PAGE - (address & PAGE - 1)))
        find = self.shared.shapes.find
        allowed = self.shared.allowed
        insn = fetch_insn(self.space, address, allowed=allowed)
        use = find(insn, address, mode)
        insns, uses = [(address, insn)], [use]
        offset = insn.length
        at = address + offset & 0xFFFFFFFF
        last = use[0].special or use[0].ends_block
        while not last and len(insns) < MAX_BLOCK and offset < len(window) and at != self.stop:
            if not (use[0].anywhere and window.startswith(insn.code, offset)):  # a run of the same is decoded once
                try:
                    insn = decode(window[offset : offset + MAX_LENGTH], False, allowed)
                except (DecodeFault, NeedMore):
                    break
                following = find(insn, at, mode)
                if following[0].special:
                    break
                use, last = following, following[0].ends_block
            insns.append((at, insn))
            uses.append(use)
            offset += insn.length
            at = at + insn.length & 0xFFFFFFFF
        code = b"".join([insn.code for _, insn in insns])
        return _Decoded(code, tuple(insns), tuple(uses), _successors(at, insns[-1][1], uses[-1][0]))

    def _bind(self, address: int, mode: int, decoded: _Decoded) -> Block:
        if len(self._binders) > MOST_SHAPES:
            self._binders.clear()
        handlers: list[Any] = []
        bound: tuple[Shape, tuple[int, ...]] | None = None
        for use in decoded.shapes:
            if use is not bound:
                handler = self._handler(*use)
                bound = use
            handlers.append(handler)
        end = address + len(decoded.code)
        special = decoded.shapes[-1][0].special
        return Block(address, end, decoded.code, decoded.insns, tuple(handlers), decoded.successors, special, mode)

    def _handler(self, shape: Shape, parameters: tuple[int, ...]) -> Any:
        if shape.make is None:
            return None
        binder = self._binders.get(shape)
        if binder is None:
            binder = self._binders[shape] = shape.make(*self._views)
        return binder(*parameters)

    # -- regions -------------------------------------------------------------------------------------------------------

    def promote(self, block: Block, minimum: int) -> None:
        """Make the region around a hot block; blocks that ran `minimum` times or more belong to it."""
        if not self._adopt(block.start):
            self._compile([block.start], minimum)

    def merge(self, bound: BoundRegion, minimum: int) -> None:
        """Compile one region of those that often follow one another, from `bound` on."""
        seeds: dict[int, None] = {}
        queue, seen = [bound], {id(bound)}
        while queue:
            region = queue.pop(0)
            seeds.update(dict.fromkeys(region.region.heads))
            for address, count in region.links.items():
                entry = self.entries.get(address)
                if count >= LINKED and entry is not None and id(entry[0]) not in seen:
                    seen.add(id(entry[0]))
                    queue.append(entry[0])
        if len(seen) > 1:
            merged = self._compile(list(seeds), minimum)
            merged.links.update((address, NEVER_AGAIN) for address in seeds if address not in merged.region.heads)

    def _compile(self, heads: list[int], minimum: int) -> BoundRegion:
        region = RegionCompiler(self.shared.thunks, self.blocks.get, minimum).compile(heads)
        self.shared.keep_region(heads[0], self.stop, region)
        self.shared.counters["regions"] += 1
        return self._enter(region)

    def _adopt(self, address: int) -> bool:
        """Use a region that another space compiled, where all its bytes are here too."""
        for region in self.shared.regions(address, self.stop):  # the last one was made with the most experience
            if all(self._has(at, code) for at, code in region.covered):
                self.shared.counters["regions_adopted"] += 1
                self._enter(region)
                return True
        return False

    def _has(self, address: int, code: bytes) -> bool:
        """Tell whether a block that begins with `code` is at `address`, in pages that have been executed already."""
        block = self.blocks.get(address)
        if block is not None:
            return block.code.startswith(code)
        end = address + len(code)
        touched = all(self.space.pages[page] & EXEC for page in (address >> 12, end - 1 >> 12))
        if not touched or self.space.view[address:end] != code:
            return False
        return self._decoded_at(address).code.startswith(code)

    def _enter(self, region: Region) -> BoundRegion:
        bound = BoundRegion(region, region.make(*self._views))
        self._use(4 * region.length)
        for address, _ in region.covered:
            block = self.blocks.get(address) or self._add(address)
            self._users.setdefault(address, []).append(bound)
            block.count = max(block.count, self.warm_after)  # warm in the space that made the region, if not here
            block.warm_at = block.count + 16 * self.warm_after  # it has a region now
        for address, pc in region.heads.items():
            known = self.entries.get(address)
            if known is None or pc == 0 or len(known[0].region.heads) <= len(region.heads):
                self.entries[address] = (bound, pc)
                bound.entries += 1
                if known is not None:
                    known[0].entries -= 1
                    if not known[0].entries:
                        self._release(known[0])
        return bound

    # -- invalidation --------------------------------------------------------------------------------------------------

    def _track(self, block: Block) -> None:
        self.space.track_code(block.start, block.end - block.start)
        for line in _lines(block.start, block.end):
            self._lines.setdefault(line, set()).add(block)

    def _on_change(self, address: int, length: int) -> None:
        end = address + length
        changed: Iterable[int] = _lines(address, end)
        if length >> _LINE_SHIFT > len(self._lines):
            changed = self._lines
        dropped = {
            block
            for line in changed
            for block in self._lines.get(line, ())
            if block.start < end and address < block.end
        }
        if dropped:
            self.changed = True
            self.shared.counters["invalidations"] += len(dropped)
            for block in dropped:
                self._drop(block)

    def _drop(self, block: Block) -> None:
        """Forget a block whose bytes have changed, and every region that covers it."""
        del self.blocks_of(block.mode)[block.start]
        if len(self._churn) >= _MOST_CHURN:
            self._churn.clear()
        self._churn[block.start] = min(self._churn.get(block.start, 0) + 1, _CHURN)
        for line in _lines(block.start, block.end):
            blocks = self._lines[line]
            blocks.discard(block)
            if not blocks:
                del self._lines[line]
                self._untrack(line)
        if block.mode:
            return
        for bound in list(self._users.get(block.start, ())):
            for address in bound.region.heads:
                entry = self.entries.get(address)
                if entry is not None and entry[0] is bound:
                    del self.entries[address]
            self._release(bound)

    def _release(self, bound: BoundRegion) -> None:
        """Forget a region that no entry leads to."""
        for address, _ in bound.region.covered:
            users = self._users[address]
            users.remove(bound)
            if not users:
                del self._users[address]

    def close(self) -> None:
        """Drop all translations, and be told of nothing any more."""
        self.drop()
        self._leave()
        self.space.close_listeners.remove(self._leave)
        self.space.code_listeners.remove(self._on_change)

    def _leave(self) -> None:
        """This space needs no room any more."""
        self._use(-self._length)
        self._room.holders.pop(self, None)

    def _use(self, length: int) -> None:
        self._length += length
        self._room.used += length

    def drop(self) -> None:
        """Drop all translations: there are too many."""
        lines = list(self._lines)
        for blocks in (self.blocks, *self._rare_blocks.values()):
            blocks.clear()
        self.entries.clear()
        self._lines.clear()
        self._users.clear()
        self._binders.clear()
        self._use(-self._length)
        for line in lines:
            self._untrack(line)

    def _untrack(self, line: int) -> None:
        """Nothing is translated from `line` any more, unless by someone else: stores to it may be fast again."""
        if len(self.space.code_listeners) == 1:
            self.space.untrack_code(line << _LINE_SHIFT, 1)


def _lines(start: int, end: int) -> range:
    """The lines that have a byte of [start, end)."""
    return range(start >> _LINE_SHIFT, (end - 1 >> _LINE_SHIFT) + 1)


def space_load(space: AddressSpace) -> Callable[[int, int], int]:
    """`ld` of generated code: a load on the slow path, at an address that need not be wrapped yet."""
    load = space.load
    return lambda address, size: load(address & 0xFFFFFFFF, size)


def _successors(end: int, last: Insn, shape: Shape) -> tuple[int, ...]:
    """The addresses known beforehand where control may go after a block."""
    targets = [end] if shape.falls else []
    mask = 0xFFFF if last.operand_size == 16 else 0xFFFFFFFF
    targets += [end + operand.displacement & mask for operand in last.operands if isinstance(operand, Relative)]
    if last.row.name == "call" and end not in targets:
        targets.append(end)  # where it comes back to
    return tuple(targets)

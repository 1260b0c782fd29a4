"""Translated code: `Code` is one address space's, `SharedCode` is what all address spaces share.

What is shared depends on nothing but bytes and addresses: shapes, decoded blocks, compiled regions. What is bound to a
space is made from it after its bytes were compared. A space's code is tracked (`AddressSpace.track_code`): when bytes
of a block change, the block and every region made from it are dropped; `changed` then tells the store that is being
executed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiopyvm.engine.python.blocks import MAX_BLOCK, Block
from aiopyvm.engine.python.flagstate import Thunks
from aiopyvm.engine.python.regions import Region, RegionCompiler
from aiopyvm.engine.python.shapes import Shape, Shapes
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn, Relative
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.space import AddressSpace

_WINDOW: Final = 144  # bytes looked at for a block
NEVER_AGAIN: Final = -(1 << 40)  # a link that no count brings to a merge: the region had no room for its target
LINKED: Final = 16  # times that one region was left for another before they are merged with their neighbours
_SHARED_BLOCKS: Final = 1 << 16  # decoded blocks kept for spaces to come


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A block without a space: what `Code` binds."""

    code: bytes
    insns: tuple[tuple[int, Insn], ...]
    shapes: tuple[tuple[Shape, tuple[int, ...]], ...]
    successors: tuple[int, ...]


@dataclass(slots=True)
class BoundRegion:
    """A region bound to one space. `links` counts, by address, how often it was left for another region."""

    region: Region
    function: Callable[..., tuple[int, int]]
    links: dict[int, int] = field(default_factory=dict)
    valid: bool = True


class SharedCode:
    """Shapes, thunks, decoded blocks and regions, for every address space of the process."""

    def __init__(self) -> None:
        self.thunks = Thunks()
        self.shapes = Shapes(self.thunks)
        self.decoded: dict[tuple[int, int], _Decoded] = {}
        self.regions: dict[int, list[Region]] = {}
        self.counters = {"blocks": 0, "regions": 0, "regions_adopted": 0, "invalidations": 0}


class Code:
    """The code of one address space, up to `stop` (exclusive; -1: no end)."""

    def __init__(self, space: AddressSpace, shared: SharedCode, stop: int, warm_after: int) -> None:
        self.space = space
        self.shared = shared
        self.stop = stop
        self.warm_after = warm_after  # entries of a block before a region is made around it
        self.blocks: dict[int, Block] = {}
        self.entries: dict[int, tuple[BoundRegion, int]] = {}  # address -> region and `pc`
        self.changed = False
        self._pages: dict[int, set[Block]] = {}
        self._bound: dict[int, BoundRegion] = {}  # by id of the Region
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
        self._binders: dict[int, Callable[..., Any]] = {}
        space.code_listeners.append(self._on_change)

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

    def block(self, address: int) -> Block:
        """The block at `address`, translated if it is new.

        Raises MemoryFault or DecodeFault of its first instruction.

        """
        block = self.blocks.get(address)
        return block if block is not None else self._translate(address)

    def _translate(self, address: int) -> Block:
        block = self._bind(address, self._decoded_at(address))
        self.blocks[address] = block
        self._track(block)
        self.shared.counters["blocks"] += 1
        self._adopt(address)
        return block

    def _decoded_at(self, address: int) -> _Decoded:
        """The decoded block at `address`: a shared one where its bytes are the same here."""
        key = (address, self.stop)
        decoded = self.shared.decoded.get(key)
        if decoded is None or not self._same(address, decoded.code):
            decoded = self._decode(address)
            if len(self.shared.decoded) >= _SHARED_BLOCKS:
                self.shared.decoded.clear()
            self.shared.decoded[key] = decoded
        return decoded

    def single(self, address: int) -> Block:
        """A block of the one instruction at `address`; not kept."""
        return self._bind(address, self._decode(address, 1))

    def _same(self, address: int, code: bytes) -> bool:
        try:
            return self.space.fetch(address, len(code)) == code
        except MemoryFault:
            return False

    def _decode(self, address: int, limit: int = MAX_BLOCK) -> _Decoded:
        window = self.space.fetch(address, _WINDOW)
        insns: list[tuple[int, Insn]] = []
        shapes: list[tuple[Shape, tuple[int, ...]]] = []
        at, offset = address, 0
        while len(insns) < limit and (not insns or (at != self.stop and offset < _WINDOW - MAX_LENGTH)):
            try:
                insn = self._decode_one(window[offset : offset + MAX_LENGTH], at)
            except (DecodeFault, MemoryFault):
                if not insns:
                    raise
                break
            shape, parameters = self.shared.shapes.find(insn, at)
            if shape.special and insns:
                break
            insns.append((at, insn))
            shapes.append((shape, parameters))
            offset += insn.length
            at = (at + insn.length) & 0xFFFFFFFF
            if shape.special or shape.ends_block:
                break
        return _Decoded(window[:offset], tuple(insns), tuple(shapes), _successors(at, insns[-1][1], shapes[-1][0]))

    def _decode_one(self, code: bytes, address: int) -> Insn:
        try:
            return decode(code)
        except NeedMore:
            self.space.fetch((address + len(code)) & 0xFFFFFFFF, 1)  # raises what the missing byte raises
            raise MemoryFault((address + len(code)) & 0xFFFFFFFF, "x") from None

    def _bind(self, address: int, decoded: _Decoded) -> Block:
        handlers = [self._handler(shape, parameters) for shape, parameters in decoded.shapes]
        end = address + len(decoded.code)
        special = decoded.shapes[-1][0].special
        return Block(
            address, end, decoded.code, decoded.insns, tuple(handlers), decoded.successors, special, 0, self.warm_after
        )

    def _handler(self, shape: Shape, parameters: tuple[int, ...]) -> Any:
        if shape.make is None:
            return None
        binder = self._binders.get(id(shape))
        if binder is None:
            binder = self._binders[id(shape)] = shape.make(*self._views)
        return binder(*parameters)

    # -- regions -------------------------------------------------------------------------------------------------------

    def promote(self, block: Block, minimum: int) -> None:
        """Compile the region around a hot block; blocks that ran `minimum` times or more belong to it."""
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
        self.shared.regions.setdefault(heads[0], []).append(region)
        self.shared.counters["regions"] += 1
        return self._enter(region)

    def _adopt(self, address: int) -> None:
        """Use a region that another space compiled, where all its bytes are here too."""
        for region in reversed(self.shared.regions.get(address, ())):  # the last one was made with the most experience
            if all(self._same(at, code) for at, code in region.covered):
                self.shared.counters["regions_adopted"] += 1
                self._enter(region)
                return

    def _enter(self, region: Region) -> BoundRegion:
        bound = BoundRegion(region, region.make(*self._views))
        for address, code in region.covered:
            if address not in self.blocks:
                self.blocks[address] = self._bind(address, self._decoded_at(address))
                self._track(self.blocks[address])
            del code
        self._bound[id(region)] = bound
        for address, pc in region.heads.items():
            known = self.entries.get(address)
            if known is None or pc == 0 or len(known[0].region.heads) <= len(region.heads):
                self.entries[address] = (bound, pc)
        for address, _ in region.covered:
            block = self.blocks[address]
            block.count = max(block.count, self.warm_after)  # warm in the space that made the region, if not here
            block.warm_at = block.count + 16 * self.warm_after  # it has a region now
        return bound

    # -- invalidation --------------------------------------------------------------------------------------------------

    def _track(self, block: Block) -> None:
        self.space.track_code(block.start, block.end - block.start)
        for page in range(block.start >> 12, (block.end - 1 >> 12) + 1):
            self._pages.setdefault(page, set()).add(block)

    def _on_change(self, address: int, length: int) -> None:
        end = address + length
        dropped = {
            block
            for page in range(address >> 12, (end - 1 >> 12) + 1)
            for block in self._pages.get(page, ())
            if block.start < end and address < block.end
        }
        if dropped:
            self.changed = True
            self.shared.counters["invalidations"] += len(dropped)
            self._drop(dropped)

    def _drop(self, dropped: set[Block]) -> None:
        starts = set()
        for block in dropped:
            block.valid = False
            starts.add(block.start)
            if self.blocks.get(block.start) is block:
                del self.blocks[block.start]
            for page in range(block.start >> 12, (block.end - 1 >> 12) + 1):
                self._pages[page].discard(block)
        for key, bound in list(self._bound.items()):
            if any(address in starts for address, _ in bound.region.covered):
                bound.valid = False
                del self._bound[key]
                for address in [at for at, (owner, _) in self.entries.items() if owner is bound]:
                    del self.entries[address]


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

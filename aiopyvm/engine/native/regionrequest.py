"""Finding what a region is made from: the live blocks of a space around a hot address, and its jump tables' words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.space import Block, SpaceCode
from aiopyvm.isa.decode_faults import DecodeFault, NeedMore
from aiopyvm.mem.layout import EXEC, PAGE_SHIFT, READ

if TYPE_CHECKING:  # what makes regions is long to import, and most programs end before one is made
    from aiopyvm.engine.native.regions import Request, Table
    from aiopyvm.engine.native.regionx87 import Stack

MOST_CASES: Final = 128  # words of a jump table


def request_for(code: SpaceCode, root: int, memory: str, stack: Stack) -> Request:
    """What a region at `root` is made from, the live blocks near it; `memory`: the form of its accesses; `stack`: the
    x87 stack with which it became hot.
    """
    from aiopyvm.engine.native.regions import MOST_INSTRUCTIONS, Request
    from aiopyvm.engine.native.regionx87 import is_x87

    found: dict[int, bytes] = {}
    tables: dict[int, Table] = {}
    queue, seen, count, x87 = deque([root]), {root}, 0, False
    while queue and count < 3 * MOST_INSTRUCTIONS:
        address = queue.popleft()
        for block in code.blocks(address, address + 1):
            start = block.addresses[0]
            if start in found:
                continue
            found[start] = bytes(code.space.view[start : block.end])
            count += len(block.addresses)
            x87 = x87 or any(is_x87(bytes(code.space.view[at : min(at + 15, block.end)])) for at in block.addresses)
            ways = [target for _, target, _ in block.branches] + [block.next]
            for table, targets in _tables(code, block):
                tables[table] = targets
                ways += [target for _, target in targets]
            for way in ways:
                if way not in seen and code.record(way):
                    seen.add(way)
                    queue.append(way)
    blocks = tuple(_from_root(found, root, seen))
    return Request(root, blocks, tuple(sorted(tables.items())), memory=memory, stack=stack if x87 else None)


def _from_root(found: Mapping[int, bytes], root: int, ways: set[int]) -> Iterator[tuple[int, bytes]]:
    """The blocks, parted where a way leads into them; what begins at the root stands first."""
    parted: dict[int, bytes] = {}
    ordered = sorted(ways)
    for start, code in found.items():
        end = start + len(code)
        cuts = [start, *ordered[bisect_right(ordered, start) : bisect_left(ordered, end)], end]
        for low, high in pairwise(cuts):
            parted[low] = code[low - start : high - start]
    first = parted.pop(root, b"")
    yield root, first
    yield from sorted(parted.items())


def _tables(code: SpaceCode, block: Block) -> Iterator[tuple[int, Table]]:
    """The jump table of an indirect jump at the end of a block: its address, and those of its words (number, target)
    that were jumped to.
    """
    from aiopyvm.isa.decode import MAX_LENGTH, decode
    from aiopyvm.isa.insn import Memory

    last = block.addresses[-1]
    try:
        insn = decode(bytes(code.space.view[last : min(last + MAX_LENGTH, 1 << 32)]))
    except (DecodeFault, NeedMore):
        return
    for operand in insn.operands:
        if isinstance(operand, Memory) and insn.row.name == "jmp" and operand.base < 0 and operand.scale == 4:
            yield operand.displacement, tuple(_words(code, operand.displacement))


def _words(code: SpaceCode, table: int) -> Iterator[tuple[int, int]]:
    space = code.space
    if table & 3:
        return
    for number, address in enumerate(range(table, min(table + 4 * MOST_CASES, 1 << 32), 4)):
        if not space.pages[address >> PAGE_SHIFT] & READ:
            return
        word = space.view32[address >> 2]
        if not space.pages[word >> PAGE_SHIFT] & EXEC:
            return
        if code.record(word):
            yield number, word


__all__ = ["request_for"]

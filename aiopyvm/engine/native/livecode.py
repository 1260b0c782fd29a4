"""Whether code is there: what a region was made from has to be, as long as the region is installed in a space."""

from __future__ import annotations

from aiopyvm.engine.native.space import Block, SpaceCode
from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import EXEC, PAGE_SHIFT


def is_live(code: SpaceCode, address: int, expected: bytes) -> bool:
    """Tell whether `expected` is at `address` of a space, and all of it belongs to live blocks; they are made so where
    that touches no page.
    """
    end = address + len(expected)
    if bytes(code.space.view[address:end]) != expected:
        return False
    generation = code.generation
    while address < end:
        blocks = code.blocks_at(address) or _translated(code, address)
        if not blocks or generation != code.generation:
            return False
        address = max(block.end for block in blocks)
    return True


def _translated(code: SpaceCode, address: int) -> list[Block]:
    """The new block at `address`; none where that would touch a page."""
    if not code.space.pages[address >> PAGE_SHIFT] & EXEC:
        return []
    try:
        code.enter(address)
    except (MemoryFault, DecodeFault):
        return []
    return code.blocks_at(address)


__all__ = ["is_live"]

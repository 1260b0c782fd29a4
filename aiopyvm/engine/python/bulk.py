"""REP MOVS and REP STOS over pages that are fast: many iterations at once.

It leaves exactly the state that as many single iterations leave, and does nothing (0) where that cannot be said
beforehand: DF set, pages whose fast bit is not set, a destination that overtakes its own source within one element.
Then the instruction's own handler does one.
"""

from __future__ import annotations

from typing import Any, Final

from aiopyvm.isa.insn import Insn
from aiopyvm.mem.space import AddressSpace

_SIZES: Final = {"movsb": 1, "movsw": 2, "movsd": 4, "stosb": 1, "stosw": 2, "stosd": 4}
_PAGE: Final = 4096
_MOST: Final = 1 << 18  # bytes at once: a run must end soon enough for others
_WORTH: Final = 4  # iterations
_EAX, _ECX, _ESI, _EDI = 0, 1, 6, 7
_FS: Final = 4  # segment numbers from here on have a base


def is_bulk(insn: Insn) -> bool:
    """Tell whether `insn` is a REP MOVS or REP STOS that `iterations` may run."""
    return insn.repeats and insn.row.name in _SIZES and insn.address_size == 32 and insn.segment < _FS and not insn.lock


def iterations(insn: Insn, state: list[Any], cpu: Any, space: AddressSpace, left: int) -> int:
    """Run at most `left` iterations; return how many: 0 where only the instruction's handler can tell what happens."""
    size = _SIZES[insn.row.name]
    count = min(state[_ECX], left, _MOST // size)
    if count < _WORTH or cpu.df:
        return 0
    moves = insn.row.name.startswith("movs")
    destination, source = state[_EDI], state[_ESI]
    total = _run(destination, count * size, space.writable)
    if moves:
        total = _run(source, total, space.readable)
        if source < destination < source + total:
            total = destination - source
    count = total // size
    if count < _WORTH:
        return 0
    total = count * size
    if moves:
        space.view[destination : destination + total] = space.view[source : source + total]
        state[_ESI] = source + total & 0xFFFFFFFF
    else:
        space.view[destination : destination + total] = (state[_EAX] & (1 << 8 * size) - 1).to_bytes(
            size, "little"
        ) * count
    state[_EDI] = destination + total & 0xFFFFFFFF
    state[_ECX] -= count
    return count


def _run(address: int, length: int, pages: set[int]) -> int:
    """How many of the `length` bytes from `address` lie in `pages`, without a gap."""
    end = address + length
    page = address & ~(_PAGE - 1)
    while page < end and page in pages:
        page += _PAGE
    return max(0, min(end, page) - address)

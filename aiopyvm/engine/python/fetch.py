"""Fetching one instruction: only pages that it lies in are touched, for touched memory is charged to the guest."""

from __future__ import annotations

from aiopyvm.isa.decode import MAX_LENGTH, NeedMore, decode
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.layout import PAGE
from aiopyvm.mem.space import AddressSpace


def fetch_insn(space: AddressSpace, address: int, code16: bool = False, allowed: frozenset[str] | None = None) -> Insn:
    """Decode the instruction at `address`, for a processor with the features `allowed` (None: all that there are).

    Raises DecodeFault, or MemoryFault at its first byte that cannot be executed.

    """
    code = space.fetch(address, min(MAX_LENGTH, PAGE - (address & PAGE - 1)))
    try:
        return decode(code, code16, allowed)
    except NeedMore:
        more = space.fetch((address + len(code)) & 0xFFFFFFFF, MAX_LENGTH - len(code))
        return decode(code + more, code16, allowed)

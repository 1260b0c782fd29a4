"""Calls whose work a guest can make long go on in steps of a few milliseconds, with others' turns between them.

A step ends with `again`; where the call has come to stands in its record (`Call.state`, `Call.done`). Only SIGKILL
comes between two steps, as on Linux, where such work does not look at signals either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call, Wait

PIECE_COST: Final = 1 << 18  # what one step of such work counts for, as bytes moved


def again(t: Thread) -> Wait:
    """Return a wait that is over at once: the call is continued after others had their turn."""
    return Wait(deadline=t.kernel.clock.monotonic_ns(), uninterruptible=True, reason="its turn")


def call_of(t: Thread) -> Call:
    """Return the record of the call in progress."""
    assert t.call is not None
    return t.call


def by_pieces(t: Thread, address: int, size: int, change: Callable[[int, int], object]) -> Wait | None:
    """Call `change(address, length)` for one piece of a range of memory after the other; None when all are done.

    What `change` raises ends the call. A handler that is continued must come back here with the same range.
    """
    state, end = call_of(t).state, address + size
    at: int = state.pop("piece", address)
    stop = t.memory.step(at, end)
    if stop < end:
        state["piece"] = stop
    change(at, stop - at)
    if stop < end:
        t.moved += PIECE_COST
        return again(t)
    return None

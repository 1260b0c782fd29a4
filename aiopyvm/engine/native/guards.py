"""Who may have regions whose accesses the host checks: arming spaces, and giving that up where it does not pay.

A space is armed when its first such region is about to be installed. It stops being armed, for good, when the host has
no mappings left for it, or when its code faults so often to no purpose that the faults cost more than the checks would:
a guest may fault as often as it likes, for instance in a loop that stores to its own code.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Final

from aiopyvm.engine.native import traps
from aiopyvm.engine.native.codearena import code_arena
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.errors import AiopyvmError, EngineUnavailableError, HostRefusedError
from aiopyvm.mem.space import AddressSpace

VARIABLE: Final = "AIOPYVM_MEMORY"  # "checked" or "mmu" instead of what is found out
MOST_VAIN: Final = 256  # faults to no purpose that are nothing to speak of
VAIN_EVERY: Final = 10_000  # instructions: about what a fault costs, by what checks would


class Guards:
    """Arms spaces. `found`: the process's traps."""

    def __init__(self, found: traps.Traps) -> None:
        self._traps = found
        self.still_ours = found.still_installed  # asked where nothing but Python code has run
        self.armed = 0  # spaces so far
        self.given_up = 0  # of them

    def arm(self, space: AddressSpace, on_end: Callable[[], None]) -> bool:
        """Arm a space, unless it is; False where that cannot be. `on_end` is called when it has come to an end."""
        protection = space.protection
        if protection is None:
            try:
                watch = self._traps.watch(space.base)
            except HostRefusedError:
                return False
            try:
                protection = space.arm(watch)
            except HostRefusedError:
                watch.end()
                return False
            self.armed += 1
            protection.on_end.append(self._count)
        if protection.armed:
            protection.on_end.append(on_end)
        return protection.armed

    def ready(self, space: AddressSpace, *, python: bool = False) -> None:
        """Generated code is about to run in a space, after others have run (`python`: Python code alone): see that
        faults come to us."""
        protection = space.protection
        if protection is None or not protection.armed:
            return
        if not (self._traps.still_installed() if python else self._traps.installed()):
            protection.give_up()

    def vain(self, space: AddressSpace, faults: int, instructions: int) -> None:
        """Code of a space has come back for an access that stays slow, so often, in so many instructions."""
        protection = space.protection
        if protection is not None and protection.armed and faults > MOST_VAIN and faults * VAIN_EVERY > instructions:
            protection.give_up()

    def forget_threads(self) -> None:
        """In a child of fork(2)."""
        self._traps.forget_threads()

    def _count(self) -> None:
        self.given_up += 1


def form() -> str:
    """The form of memory of this process's regions: what AIOPYVM_MEMORY says, else MMU where that is to be had.

    Raises ValueError for another word, EngineUnavailableError where what is asked for is not to be had.
    """
    wanted, reason = os.environ.get(VARIABLE, ""), traps.unsupported()
    if wanted not in ("", CHECKED, MMU):
        raise ValueError(f"{VARIABLE} is {CHECKED!r} or {MMU!r}, not {wanted!r}")
    if wanted == MMU and reason is not None:
        raise EngineUnavailableError(f"{VARIABLE} is {wanted!r}, but {reason}")
    return wanted or (MMU if reason is None else CHECKED)


def guards(memory: str, symbols: Mapping[str, int]) -> Guards | None:
    """What arms spaces in this process, where the handler's entries are `symbols`; None where accesses are checked."""
    if memory == CHECKED:
        return None
    try:
        return Guards(traps.traps_of(code_arena(), symbols))
    except AiopyvmError as refused:
        logging.getLogger("aiopyvm").warning("compiled code checks each access: %s", refused)
        return None


__all__ = ["Guards", "form", "guards"]

"""In and out of generated code: how Python writes where it is to go on, and reads why it came back."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.layout import CONTEXT_OFFSETS, Left
from aiopyvm.engine.protocol import Exit, ExitReason

if TYPE_CHECKING:
    from aiopyvm.engine.native.space import SpaceCode

BEGIN: Final = struct.Struct("<Qqq").pack_into  # rec, budget, no access
END: Final = struct.Struct("<Qq8x3I").unpack_from  # rec, budget, reason, vector, error_code
_LAYOUT: Final = ("rec", "budget", "address", "access", "reason", "vector", "error_code")
assert [CONTEXT_OFFSETS[name] for name in _LAYOUT] == [0, 8, 16, 20, 24, 28, 32]

SPENT: Final = Exit(ExitReason.BUDGET)
CALLED: Final = Exit(ExitReason.SYSCALL)
PAUSED: Final = Exit(ExitReason.PAUSE)
ENDED: Final = Exit(ExitReason.END_OF_CODE)
BUDGET, SYSCALL, TRAP, FAULT, STEP, LINK, JUMP, HOT, END_OF_CODE = map(int, Left)


def exit_of(reason: int, vector: int, error_code: int) -> Exit | None:
    """The exit that generated code came back for; None where it lacks something."""
    if reason == SYSCALL:
        return CALLED
    if reason == FAULT:
        return Exit(ExitReason.FAULT, vector, error_code)
    if reason == TRAP:
        return Exit(ExitReason.FAULT, vector, 0)
    return ENDED if reason == END_OF_CODE else None


def put_off(code: SpaceCode, rec: int) -> None:
    """The counter at address `rec` ran out with the budget: it is at the next pass that this is seen to."""
    code.arena.set_value(rec - code.arena.base, 1)

"""The transcendental x87 functions, as helpers: by default the host's own instruction, whose last bit is its maker's.

A helper's arguments are ST(0), for those of two operands ST(1), the control word and CpuState.portable_math. It returns
`RESULTS`: in bits 0-79 what replaces the operand, in 80-87 the exceptions, in 88-103 C2 where the operand was out of
range, and from bit 104 on what is pushed.

With `portable_math`, and where the host has no such instruction, the result is `x87portable`'s.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.helpers import Helper, helper
from aiopyvm.isa.x87host import OF_TWO, OPCODES, host

_EXCEPTIONS: Final = 0x3F
_C1, _C2 = 0x200, 0x400
_PUSHES: Final = frozenset(("fptan", "fsincos"))


def _on_host(name: str, st0: int, st1: int, control: int) -> int:
    execute = host()
    if execute is None:
        return _portable(name, st0, st1, control)
    first, second, status = execute(name, st0, st1, control)
    exceptions = status & _EXCEPTIONS | (status & _C1) >> 2
    if name not in _PUSHES or status & _C2:
        return first | exceptions << 80 | (status & _C2) << 88
    return second | exceptions << 80 | first << 104


def _portable(name: str, st0: int, st1: int, control: int) -> int:
    from aiopyvm.isa.x87portable import compute  # mpmath takes long to import

    return compute(name, st0, st1, control)


def _define(name: str) -> Helper:
    def of_one(st0: int, control: int, portable: int) -> int:
        return (_portable if portable else _on_host)(name, st0, 0, control)

    def of_two(st0: int, st1: int, control: int, portable: int) -> int:
        return (_portable if portable else _on_host)(name, st0, st1, control)

    function = of_two if name in OF_TWO else of_one
    function.__name__ = f"{name}_results"
    return helper()(function)


FUNCTIONS: Final = {name: _define(name) for name in OPCODES}

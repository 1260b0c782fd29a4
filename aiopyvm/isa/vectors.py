"""Exceptions of the processor by number (Intel SDM vol. 3A, "Exception and Interrupt Vectors")."""

from __future__ import annotations

from typing import Final

DE: Final = 0  # divide error
DB: Final = 1  # debug: INT1, single step
BP: Final = 3  # breakpoint: INT3
OF: Final = 4  # overflow: INTO
BR: Final = 5  # BOUND
UD: Final = 6  # undefined opcode
NP: Final = 11  # segment not present
SS: Final = 12  # stack segment
GP: Final = 13  # general protection
PF: Final = 14  # page fault
MF: Final = 16  # x87 floating-point error
AC: Final = 17  # alignment check
XM: Final = 19  # SIMD floating-point error

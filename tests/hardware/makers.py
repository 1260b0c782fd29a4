"""What processors of different makers do differently, beside the flags that the manual leaves undefined.

On a processor of another maker than that of the recorded vectors blocks are made without it (`cases_blocks.blocks`,
`neutral`); what is left is in how a block ends, where several faults are possible or an instruction has begun.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aiopyvm.isa.spec import Row
from tests.hardware.vectors import same_maker
from tests.hardware.wire import AREA_DATA, State

SAME_MAKER: Final = same_maker()

_INVALID_OPCODE, _GENERAL_PROTECTION, _PAGE_FAULT = 6, 13, 14
_X87_STORES: Final = frozenset({"fst", "fstp", "fist", "fistp", "fisttp", "fbstp"})
_ES: Final = 0x80  # an exception of the x87 is pending
_STATUS: Final = 0x8D5
_OVER_THE_END: Final = range(0xFFFFFFE0, 1 << 32)  # page faults of operands that may go over the end of the addresses
_COMPARED: Final = frozenset({"cmpsb", "cmpsw", "cmpsd", "scasb", "scasw", "scasd"})
_SEVERAL_FAULTS: Final = _COMPARED | {"lodsb", "lodsw", "lodsd", "retf"}
SEGMENTS: Final = frozenset({"Sreg", "CR0-CR7", "DR0-DR7", "es", "ss", "ds", "fs", "gs", "cs"})
_NAMES: Final = frozenset(
    # What is in FIP, FOP and FDP; undefined results; the NaN of several; the alignment of what is not VEX; VEX.W.
    "fnsave fnstenv fxsave shld shrd dpps dppd vdpps vdppd sha1rnds4 sha1nexte sha1msg1 sha1msg2 sha256rnds2 "
    "sha256msg1 sha256msg2 vpinsrd vpextrd int1".split()
)


def differs(row: Row) -> bool:
    """Whether makers do otherwise what the row says, beside undefined flags."""
    if row.name in ("push", "pop"):
        return bool(SEGMENTS & set(row.operands))
    if "gather" in row.name:
        return True  # how far they have come at a fault
    return row.name in _NAMES or (row.name == "nop" and row.encoding.startswith("0F 0D"))


def faults_first(row: Row, hardware: State, ours: State) -> bool:
    """Whether a store of the x87 faults on the hardware, and raises an exception of its own here."""
    stores = row.name in _X87_STORES and hardware.vector in (_GENERAL_PROTECTION, _PAGE_FAULT)
    return not SAME_MAKER and stores and ours.completed and bool(ours.x87[4] & _ES)


def in_the_end(row: Row | None, hardware: State, ours: State) -> State:
    """The hardware's state where a block has ended at an instruction of `row`, without what makers do otherwise there:
    which of several faults is told, how much is fetched of what is no instruction, flags and exceptions of an
    instruction that faults. `row` is None at the end of what can be executed, in front of what would define flags, and
    where there is no instruction."""
    if SAME_MAKER or not {hardware.vector, ours.vector} <= {_INVALID_OPCODE, _GENERAL_PROTECTION, _PAGE_FAULT}:
        return hardware
    if (hardware.vector, ours.cr2) == (_INVALID_OPCODE, AREA_DATA):
        return replace(hardware, signal=ours.signal, vector=_PAGE_FAULT, error_code=ours.error_code, cr2=ours.cr2)
    if row is None or row.name in _COMPARED:
        hardware = replace(hardware, eflags=hardware.eflags & ~_STATUS | ours.eflags & _STATUS)
    wraps = hardware.cr2 in _OVER_THE_END or ours.cr2 in _OVER_THE_END
    if row is not None and (row.name in _SEVERAL_FAULTS or wraps):
        hardware = replace(hardware, vector=ours.vector, error_code=ours.error_code, cr2=ours.cr2)
    if row is not None and row.name in ("maskmovdqu", "vmaskmovdqu"):
        hardware = replace(hardware, cr2=ours.cr2)
    if row is not None and row.name == "vcvtps2ph":
        hardware = replace(hardware, mxcsr=ours.mxcsr)
    return hardware

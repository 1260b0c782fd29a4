"""What generated code and Python agree on: records, the context, the calling convention, why code leaves.

Cold code is a run of *records*, one per instruction, in the arena of an address space. Every handler, and every
compiled region, is a function of one signature (`SIGNATURE`), calling convention `CONVENTION`, and ends with a tail
call of the handler of the next record, or of a `leave` function that returns to `run`'s caller. What always holds where
one of them is entered:

- The general registers are in the `CpuState`; EIP is the record's. The six arithmetic flags are the last six arguments
  (`FLAG_ARGUMENTS`); `run` unpacks them from the `CpuState`, `leave` packs them into it.
- `budget` is how many instructions may still be executed.
- `rec + RECORD_SIZE` is a record too: it stands for the next instruction in memory, or leads there.

A record refers to its handler by distance from `code_base` (a symbol that every object may use) and to another record
by distance from itself, so that a run of records means the same wherever it is mapped.
"""

from __future__ import annotations

import ctypes
import enum
from typing import Final

from aiopyvm.isa.state import CpuState
from aiopyvm.mem.layout import GUARD

CONVENTION: Final = "preserve_nonecc"
ARGUMENTS: Final = ("rec", "cpu", "mem", "ctx", "budget", "zr", "sr", "pr", "cf", "of", "af")
ARGUMENT_TYPES: Final = ("ptr", "ptr", "ptr", "ptr", "i64", "i32", "i32", "i32", "i32", "i32", "i32")
SIGNATURE: Final = ", ".join(f"{kind} %{name}" for kind, name in zip(ARGUMENT_TYPES, ARGUMENTS, strict=True))

# The flags as arguments. ZF: zr == 0; SF: bit 31 of sr; PF: parity of the low byte of pr; CF: cf is 1 (else it is 0);
# OF: bit 31 of of; AF: bit 4 of af. Bits not named mean nothing.
FLAG_ARGUMENTS: Final = {"zf": "zr", "sf": "sr", "pf": "pr", "cf": "cf", "of": "of", "af": "af"}

# Forms of a region's accesses: it looks at the page table before each, or the host's protection stops those that may
# not be, in a space that is armed (`mem.protection`).
CHECKED: Final = "checked"
MMU: Final = "mmu"

PAGE_TABLE: Final = (1 << 32) + GUARD  # `mem` + this: one byte a page, bits READ, WRITE, EXEC of `mem.layout`


class Record(ctypes.LittleEndianStructure):
    """One instruction of a run, or a step between runs."""

    _pack_ = 1
    _fields_ = (
        ("handler", ctypes.c_uint32),  # code_base + handler: the function
        ("eip", ctypes.c_uint32),
        ("registers", ctypes.c_uint8 * 3),  # parameters: offsets in CpuState (4 * number)
        ("length", ctypes.c_uint8),  # bytes of the instruction: the next EIP is eip + length
        ("values", ctypes.c_uint32 * 2),  # parameters: displacements and immediates
        ("link", ctypes.c_int32),  # address of the target's record - address of this one; no target: a third value,
        # or a byte each for registers behind the third
    )


RECORD_SIZE: Final = ctypes.sizeof(Record)


class Context(ctypes.Structure):
    """One core's side of `run(context)`: where to go on, and why it came back."""

    _fields_ = (
        # The first 36 bytes are what Python sets and reads around each run: struct formats "<Qqq" and "<Qq8x3I".
        ("rec", ctypes.c_uint64),  # address of the record to begin with; after: to go on with; 0: find it by EIP
        ("budget", ctypes.c_int64),  # instructions; after: those left
        ("address", ctypes.c_uint32),  # STEP: guest address of the access whose page is slow
        ("access", ctypes.c_uint32),  # STEP: its bytes, + ACCESS_WRITE for a store; 0: it was no access
        ("reason", ctypes.c_uint32),  # Left
        ("vector", ctypes.c_uint32),  # FAULT, TRAP
        ("error_code", ctypes.c_uint32),  # FAULT
        ("jump_mask", ctypes.c_uint32),
        ("cpu", ctypes.c_uint64),  # address of the CpuState
        ("mem", ctypes.c_uint64),  # host address of guest address 0
        ("jump_cache", ctypes.c_uint64),  # address of JumpEntry[jump_mask + 1]
        ("arena", ctypes.c_uint64),  # address that JumpEntry.record counts from
        ("x87", ctypes.c_uint16),  # of generated code alone: the exceptions that the host's x87 holds
        ("_pad", ctypes.c_uint8 * 6),
        ("hot", ctypes.c_int64),  # instructions that regions have executed, since the context was made
        ("leaves", ctypes.c_uint64),  # address of isa.cpuid.Entry[ENTRIES]: what CPUID tells
        ("clock", ctypes.c_uint64),  # address of the host's clock_gettime(2); 0: Python reads the time-stamp counter
        ("counter_zero", ctypes.c_int64),  # Core.counter_zero
        ("time", ctypes.c_int64 * 2),  # of generated code alone: a struct timespec
    )


ACCESS_WRITE: Final = 1 << 16


class JumpEntry(ctypes.Structure):
    """Where an indirect jump to `eip` goes: entry (eip ^ eip >> 12) & jump_mask of the cache, or the other one
    of that pair; `record` 0: unknown."""

    _fields_ = (("eip", ctypes.c_uint32), ("record", ctypes.c_uint32))


class Left(enum.IntEnum):
    """Why generated code came back. `CpuState.eip` says where, exactly, but for what is noted."""

    BUDGET = 0  # budget is 0, at the next instruction
    SYSCALL = 1  # INT 0x80 was executed; at the next instruction
    TRAP = 2  # an instruction raised exception `vector` after it was executed (INT3, INTO, INT n); at the next
    FAULT = 3  # an instruction raised exception `vector` with `error_code`, and has done nothing
    STEP = 4  # the instruction here is for Python to execute (slow memory, no native form); it has done nothing
    LINK = 5  # `rec` is a stub: records[rec + values[0] (signed)].link is to be set to the record of rec.eip
    JUMP = 6  # an indirect jump to EIP found nothing in the jump cache; rec is 0
    HOT = 7  # the counter of the count record `rec` has run out; its link leads to the block that it counts
    END = 8  # EIP is at the end of the code


CPU_OFFSETS: Final = {name: getattr(CpuState, name).offset for name, *_ in CpuState._fields_}
CONTEXT_OFFSETS: Final = {name: getattr(Context, name).offset for name, *_ in Context._fields_}
RECORD_OFFSETS: Final = {name: getattr(Record, name).offset for name, *_ in Record._fields_}

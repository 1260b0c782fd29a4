"""The CPU's architectural state, as one ctypes structure that every engine shares.

Flags live one to a byte, so that an engine sets the ones it computed and nothing else; EFLAGS as a word is composed
on demand. The eight data registers of the x87 stack are stored by physical number (R0..R7), 16 bytes apart; ST(i) is
R[(top + i) & 7].
"""

from __future__ import annotations

import ctypes
import struct
from typing import Final

# EFLAGS bits (Intel SDM vol. 1, "EFLAGS Register").
CF: Final = 1 << 0
PF: Final = 1 << 2
AF: Final = 1 << 4
ZF: Final = 1 << 6
SF: Final = 1 << 7
TF: Final = 1 << 8
IF: Final = 1 << 9
DF: Final = 1 << 10
OF: Final = 1 << 11
IOPL: Final = 3 << 12
NT: Final = 1 << 14
RF: Final = 1 << 16
AC: Final = 1 << 18
ID: Final = 1 << 21
OSZAPC: Final = OF | SF | ZF | AF | PF | CF

FLAG_BITS: Final = {"cf": CF, "pf": PF, "af": AF, "zf": ZF, "sf": SF, "of": OF, "df": DF}  # one byte each in CpuState
SYSTEM_FLAGS: Final = TF | IF | IOPL | NT | AC | ID  # kept together in CpuState.system_flags
USER_WRITABLE_FLAGS: Final = OSZAPC | DF | TF | NT | AC | ID  # what POPF and IRET change at CPL 3 with IOPL 0

GPR32: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
GPR16: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
GPR8: Final = ("al", "cl", "dl", "bl", "ah", "ch", "dh", "bh")
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")  # in the encoding's order

# Selectors that Linux gives a 32-bit program on x86-64, and its three TLS entries (arch/x86/include/asm/segment.h).
USER_CS: Final = 0x23
USER_DS: Final = 0x2B
FIRST_TLS_ENTRY: Final = 12
TLS_ENTRIES: Final = 3

# Mode bits of a block's key: anything but 0 runs on the evaluator alone.
MODE_NON


def set_flat(cpu: CpuState, segment: str) -> None:
    """Load `segment` with Linux's flat user selector: base 0, limit 4 GiB - 1."""
    setattr(cpu, segment, USER_CS if segment == "cs" else USER_DS)
    setattr(cpu, f"{segment}_base", 0)
    setattr(cpu, f"{segment}_limit", 0xFFFFFFFF)
    setattr(cpu, f"{segment}_access", CODE_ACCESS if segment == "cs" else DATA_ACCESS)


def is_flat(cpu: CpuState, segment: str) -> bool:
    """Tell whether `segment` covers all 4 GiB from base 0 with its usual rights."""
    access: int = getattr(cpu, f"{segment}_access") & ~_IGNORED_ACCESS
    whole: bool = getattr(cpu, f"{segment}_base") == 0 and getattr(cpu, f"{segment}_limit") == 0xFFFFFFFF
    return whole and access == (CODE_ACCESS if segment == "cs" else DATA_ACCESS) & ~_IGNORED_ACCESS


def is_limited(cpu: CpuState, segment: str) -> bool:
    """Tell whether FS or GS is present, and its limit or its rights forbid something that a flat one allows."""
    access: int = getattr(cpu, f"{segment}_access")
    if not access & 0x8000:
        return False
    whole: bool = getattr(cpu, f"{segment}_limit") == 0xFFFFFFFF
    return not whole or access & ~_IGNORED_ACCESS != DATA_ACCESS & ~_IGNORED_ACCESS

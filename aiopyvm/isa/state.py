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

# Mode bits of a block's key: what is traced differently; generated code runs under few of them (`CpuState.rare`).
MODE_NON_FLAT: Final = 1  # CS, DS, ES or SS is not base 0, limit 4 GiB, readable; or FS or GS is limited
MODE_ALIGNMENT_CHECK: Final = 2  # EFLAGS.AC
MODE_SINGLE_STEP: Final = 4  # EFLAGS.TF
MODE_CODE16: Final = 8  # CS.D = 0
MODE_X87: Final = 16  # an x87 exception is unmasked (only then can one be pending)
MODE_SIMD: Final = 32  # a SIMD floating-point exception is unmasked in MXCSR
MODE_REGISTERS: Final = frozenset(  # what `CpuState.mode` is computed from: setting one of these may change it
    {"system_flags", "fcw", "mxcsr", *(f"{name}_{part}" for name in SEGMENTS for part in ("base", "limit", "access"))}
)


_ES: Final = 0x80  # of the x87's status word: an unmasked exception is pending
MXCSR_RESET: Final = 0x1F80
MXCSR_MASKS: Final = 0x1F80  # of its exceptions


class Descriptor(ctypes.Structure):
    """A segment descriptor, unpacked.

    `access` is the descriptor's second word, bits 8-23 with base and limit cleared (as LAR).
    """

    _fields_ = (("base", ctypes.c_uint32), ("limit", ctypes.c_uint32), ("access", ctypes.c_uint32))


class CpuState(ctypes.Structure):
    """Registers of one IA-32 thread. All fields may be read and written; `eflags`, `mode`, `tag_word` are derived."""

    _fields_ = (
        # The first 48 bytes are what generated code loads and stores at once: struct format "<9I7B5x".
        ("eax", ctypes.c_uint32),
        ("ecx", ctypes.c_uint32),
        ("edx", ctypes.c_uint32),
        ("ebx", ctypes.c_uint32),
        ("esp", ctypes.c_uint32),
        ("ebp", ctypes.c_uint32),
        ("esi", ctypes.c_uint32),
        ("edi", ctypes.c_uint32),
        ("eip", ctypes.c_uint32),
        ("cf", ctypes.c_uint8),
        ("pf", ctypes.c_uint8),
        ("af", ctypes.c_uint8),
        ("zf", ctypes.c_uint8),
        ("sf", ctypes.c_uint8),
        ("of", ctypes.c_uint8),
        ("df", ctypes.c_uint8),
        ("_pad", ctypes.c_uint8 * 5),
        ("instructions", ctypes.c_uint64),  # executed so far, exact
        ("system_flags", ctypes.c_uint32),  # the EFLAGS bits of SYSTEM_FLAGS
        # Segment registers: selectors and their hidden parts, in SEGMENTS' order.
        ("es", ctypes.c_uint16),
        ("cs", ctypes.c_uint16),
        ("ss", ctypes.c_uint16),
        ("ds", ctypes.c_uint16),
        ("fs", ctypes.c_uint16),
        ("gs", ctypes.c_uint16),
        ("es_base", ctypes.c_uint32),
        ("cs_base", ctypes.c_uint32),
        ("ss_base", ctypes.c_uint32),
        ("ds_base", ctypes.c_uint32),
        ("fs_base", ctypes.c_uint32),
        ("gs_base", ctypes.c_uint32),
        ("es_limit", ctypes.c_uint32),
        ("cs_limit", ctypes.c_uint32),
        ("ss_limit", ctypes.c_uint32),
        ("ds_limit", ctypes.c_uint32),
        ("fs_limit", ctypes.c_uint32),
        ("gs_limit", ctypes.c_uint32),
        ("es_access", ctypes.c_uint32),
        ("cs_access", ctypes.c_uint32),
        ("ss_access", ctypes.c_uint32),
        ("ds_access", ctypes.c_uint32),
        ("fs_access", ctypes.c_uint32),
        ("gs_access", ctypes.c_uint32),
        ("tls", Descriptor * TLS_ENTRIES),  # the GDT entries FIRST_TLS_ENTRY.. (set_thread_area(2)); access 0 = empty
        # x87 (Intel SDM vol. 1, "x87 FPU Execution Environment").
        ("fcw", ctypes.c_uint16),  # control word
        ("fsw", ctypes.c_uint16),  # status word without TOP
        ("ftop", ctypes.c_uint8),  # TOP, 0..7
        ("fvalid", ctypes.c_uint8),  # bit n: physical register n is not empty
        ("fop", ctypes.c_uint16),  # last opcode, 11 bits
        ("fip", ctypes.c_uint32),
        ("fcs", ctypes.c_uint16),
        ("fds", ctypes.c_uint16),
        ("fdp", ctypes.c_uint32),
        ("mxcsr", ctypes.c_uint32),  # SIMD control and status
        ("fpr", (ctypes.c_uint8 * 16) * 8),  # 80 bits each, little-endian, physical order
        ("ymm", (ctypes.c_uint8 * 32) * 8),  # little-endian; the low half of each is XMM
        ("portable_math", ctypes.c_uint8),  # 1: transcendental functions as `x87portable` has them; outlives `reset`
    )

    portable_math: int

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Set the state in which Linux starts a 32-bit program: all zero, flat segments, x87 after FNINIT."""
        portable_math = self.portable_math
        ctypes.memset(ctypes.addressof(self), 0, ctypes.sizeof(self))
        self.portable_math = portable_math
        self.system_flags = IF
        for name in SEGMENTS[:4]:
            set_flat(self, name)
        self.fcw = 0x37F
        self.mxcsr = MXCSR_RESET

    @property
    def eflags(self) -> int:
        """EFLAGS as one 32-bit word; bit 1 reads as 1."""
        word: int = self.system_flags | 2
        for name, bit in FLAG_BITS.items():
            if getattr(self, name):
                word |= bit
        return word

    @eflags.setter
    def eflags(self, word: int) -> None:
        for name, bit in FLAG_BITS.items():
            setattr(self, name, 1 if word & bit else 0)
        self.system_flags = word & SYSTEM_FLAGS

    @property
    def mode(self) -> int:
        """The MODE_* bits that a block translated for this state is keyed by."""
        hidden = _hidden_parts(self, _HIDDEN)
        mode = _segment_modes.get(hidden)
        if mode is None:
            mode = self._segment_mode()
            if len(_segment_modes) < _MOST_SEGMENT_MODES:
                _segment_modes[hidden] = mode
        flags = self.system_flags
        if flags & (AC | TF):
            mode |= (MODE_ALIGNMENT_CHECK if flags & AC else 0) | (MODE_SINGLE_STEP if flags & TF else 0)
        if self.fcw & 0x3F != 0x3F:
            mode |= MODE_X87
        return mode if self.mxcsr & MXCSR_MASKS == MXCSR_MASKS else mode | MODE_SIMD

    @property
    def rare(self) -> int:
        """The MODE_* bits under which no generated code runs: an x87 or SIMD exception that is unmasked matters to it
        where one is raised, which it leaves to Python, or where one of the x87 is pending already (ES).
        """
        mode = self.mode
        return mode & ~(MODE_X87 | MODE_SIMD) if mode and not self.fsw & _ES else mode

    def _segment_mode(self) -> int:
        """The MODE_* bits that come from the segment registers' hidden parts."""
        limited = is_limited(self, "fs") or is_limited(self, "gs")
        flat = not limited and all(is_flat(self, name) for name in SEGMENTS[:4])
        return (0 if flat else MODE_NON_FLAT) | (0 if self.cs_access >> 22 & 1 else MODE_CODE16)

    def copy(self) -> CpuState:
        """Return an independent copy."""
        other = CpuState.__new__(CpuState)
        ctypes.memmove(ctypes.addressof(other), ctypes.addressof(self), ctypes.sizeof(self))
        return other


def _vector_register(number: int, bits: int) -> property:
    """XMM `number` (128 bits) or YMM `number` (256 bits) as an int; a store to XMM keeps the upper half of YMM."""
    offset, size = CpuState.ymm.offset + 32 * number, bits // 8

    def read(self: CpuState) -> int:
        return int.from_bytes(memoryview(self).cast("B")[offset : offset + size], "little")

    def write(self: CpuState, value: int) -> None:
        memoryview(self).cast("B")[offset : offset + size] = value.to_bytes(size, "little")

    return property(read, write, doc=f"{bits} bits of vector register {number}")


for _number in range(8):
    setattr(CpuState, f"xmm{_number}", _vector_register(_number, 128))
    setattr(CpuState, f"ymm{_number}", _vector_register(_number, 256))

_HIDDEN: Final = CpuState.es_base.offset
_hidden_parts: Final = struct.Struct("<16s8x48s").unpack_from  # bases of ES, CS, SS, DS; all limits and access rights
_segment_modes: Final[dict[tuple[bytes, ...], int]] = {}  # of hidden parts that were met
_MOST_SEGMENT_MODES: Final = 256
DATA_ACCESS: Final = 0x00C0F300  # present, DPL 3, read/write data, accessed, 32-bit, page-granular (as LAR shows it)
IGNORED_ACCESS: Final = 0x00100100  # AVL and "accessed"
CODE_ACCESS: Final = 0x00C0FB00  # present, DPL 3, execute/read code, accessed, 32-bit, page-granular


def set_flat(cpu: CpuState, segment: str) -> None:
    """Load `segment` with Linux's flat user selector: base 0, limit 4 GiB - 1."""
    setattr(cpu, segment, USER_CS if segment == "cs" else USER_DS)
    setattr(cpu, f"{segment}_base", 0)
    setattr(cpu, f"{segment}_limit", 0xFFFFFFFF)
    setattr(cpu, f"{segment}_access", CODE_ACCESS if segment == "cs" else DATA_ACCESS)


def is_flat(cpu: CpuState, segment: str) -> bool:
    """Tell whether `segment` covers all 4 GiB from base 0 with its usual rights."""
    access: int = getattr(cpu, f"{segment}_access") & ~IGNORED_ACCESS
    whole: bool = getattr(cpu, f"{segment}_base") == 0 and getattr(cpu, f"{segment}_limit") == 0xFFFFFFFF
    return whole and access == (CODE_ACCESS if segment == "cs" else DATA_ACCESS) & ~IGNORED_ACCESS


def is_limited(cpu: CpuState, segment: str) -> bool:
    """Tell whether FS or GS is present, and its limit or its rights forbid something that a flat one allows."""
    access: int = getattr(cpu, f"{segment}_access")
    if not access & 0x8000:
        return False
    whole: bool = getattr(cpu, f"{segment}_limit") == 0xFFFFFFFF
    return not whole or access & ~IGNORED_ACCESS != DATA_ACCESS & ~IGNORED_ACCESS

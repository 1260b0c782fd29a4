"""Segment registers: what a selector names, and loading one (Intel SDM vol. 3A, "Protection").

The descriptor table is Linux's on x86-64, as a program at privilege level 3 can see it: flat code and data, the
64-bit code segment (as data alone), the CPU number's segment, and the thread's three TLS entries. All else, the LDT
included, is empty or kept from privilege level 3, which looks the same. CS is always the flat 32-bit code segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiopyvm.ir.helpers import helper
from aiopyvm.ir.types import integer
from aiopyvm.isa.state import CODE_ACCESS, DATA_ACCESS, FIRST_TLS_ENTRY, TLS_ENTRIES, USER_CS, USER_DS
from aiopyvm.isa.vectors import GP, NP, SS

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

LIMIT_BITS: Final = 0xF0000  # of the descriptor's second word: limit 19:16, which LAR shows too
GRANULAR: Final = 1 << 23  # G of the second word: the limit counts pages
LOCAL: Final = 4  # TI of a selector: it names the LDT, which is empty
SHOWN: Final = 0x00F0FF00  # of the second word: type, S, DPL, P, AVL, D/B, G
_DESCRIPTOR: Final = integer(96)

# By selector >> 3: base, limit in bytes, second word of the descriptor as LAR shows it.
FIXED: Final = {
    USER_CS >> 3: (0, 0xFFFFFFFF, CODE_ACCESS | LIMIT_BITS),
    USER_DS >> 3: (0, 0xFFFFFFFF, DATA_ACCESS | LIMIT_BITS),
    0x33 >> 3: (0, 0xFFFFFFFF, 0x00AFFB00),  # 64-bit code
    0x7B >> 3: (0, 0, 0x0040F500),  # read-only, expand-down; its limit is the number of the CPU, here always 0
}


def descriptor(cpu: Any, selector: int) -> tuple[int, int, int]:
    """Base, limit and access (as LAR shows it) of `selector`; zeros where privilege level 3 sees no segment."""
    if selector & LOCAL:
        return 0, 0, 0
    index = selector >> 3
    if not 0 <= index - FIRST_TLS_ENTRY < TLS_ENTRIES:
        return FIXED.get(index, (0, 0, 0))
    entry = cpu.tls[index - FIRST_TLS_ENTRY]
    if not entry.access:
        return 0, 0, 0
    raw_limit = entry.limit >> 12 if entry.access & GRANULAR else entry.limit
    return entry.base, entry.limit, entry.access & SHOWN | raw_limit & LIMIT_BITS


@helper(machine=True)
def segment_descriptor(core: Any, selector: int) -> int:
    """`descriptor` as one i96: base, limit, access, 32 bits each, lowest first."""
    base, limit, access = descriptor(core.cpu, selector)
    return access << 64 | limit << 32 | base


class Descriptor:
    """A selector's descriptor while tracing. `access` is 0 where there is none to see."""

    def __init__(self, b: Tracer, selector: Value) -> None:
        word = b.helper(segment_descriptor, _DESCRIPTOR, selector)
        self.base = word.trunc(32)
        self.limit = (word >> 32).trunc(32)
        self.access = (word >> 64).trunc(32)

    @property
    def visible(self) -> Value:
        """1 where there is a segment."""
        return self.access.ne(0)

    @property
    def readable(self) -> Value:
        """1 for data and for readable code."""
        return self.visible & (~self.access.bit(11) | self.access.bit(9))

    @property
    def writable(self) -> Value:
        """1 for writable data."""
        return self.visible & ~self.access.bit(11) & self.access.bit(9)

    @property
    def present(self) -> Value:
        """1 where the descriptor's P bit is set."""
        return self.access.bit(15)


def is_null(selector: Value) -> Value:
    """1 for a null selector, whatever its RPL."""
    return (selector & 0xFFFC).eq(0)


def selector_error(selector: Value) -> Value:
    """The error code that names `selector` (i32)."""
    return (selector & 0xFFFC).zext(32)


def load_segment(b: Tracer, name: str, selector: Value) -> None:
    """Load DS, ES, FS, GS or SS: #GP, #NP and #SS as under MOV, then the register and its hidden part."""
    segment = Descriptor(b, selector)
    error = selector_error(selector)
    if name == "ss":
        b.fault(GP, (selector & 3).ne(3) | ~segment.writable, error)
        b.fault(SS, ~segment.present, error)
    else:
        b.fault(GP, ~is_null(selector) & ~segment.readable, error)
        b.fault(NP, ~is_null(selector) & ~segment.present, error)
    b.set(name, selector)
    b.set(f"{name}_base", segment.base)
    b.set(f"{name}_limit", segment.limit)
    b.set(f"{name}_access", segment.access & ~LIMIT_BITS & 0xFFFFFFFF)


def check_code_selector(b: Tracer, selector: Value, *, returning: bool) -> None:
    """#GP unless `selector` is the flat code segment; RET and IRET ask for RPL 3 too (`returning`)."""
    expected = USER_CS if returning else USER_CS & ~3
    b.fault(GP, (selector if returning else selector & 0xFFFC).ne(expected), selector_error(selector))

"""Helpers of the machine in LLVM text: what CPUID tells, descriptors that segment registers are loaded from, the time.

The first two are written from what their definitions (`isa.insns.system`, `isa.segments`) are made of: the answers of
the core's processor, a table; the descriptors that every program sees, and the thread's own three in the CpuState. The
time-stamp counter is the host's own time, where it goes by that.
"""

from __future__ import annotations

import ctypes
from typing import Final

from aiopyvm.engine.native.hostclock import CLOCK_MONOTONIC
from aiopyvm.engine.native.layout import CONTEXT_OFFSETS, CPU_OFFSETS
from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.isa.cpuid import ENTRIES, Entry
from aiopyvm.isa.segments import FIXED, GRANULAR, LIMIT_BITS, LOCAL, SHOWN
from aiopyvm.isa.state import DATA_ACCESS, FIRST_TLS_ENTRY, IGNORED_ACCESS, TLS_ENTRIES, USER_DS, Descriptor

_WHOLE: Final = 0xFFFFFFFF
_FLAT: Final = FIXED[USER_DS >> 3]


def cpuid_text(text: Text, leaf: str, subleaf: str) -> str:
    """`cpuid_registers` (i128) of a leaf and a subleaf (i32), out of the context's table."""
    place = text.value(f"getelementptr i8, ptr %ctx, i64 {CONTEXT_OFFSETS['leaves']}")
    table = text.fresh(f"load ptr, ptr {place}")
    first = _entry_field(text, table, 0, "leaf", "i32")  # that of all leaves that there are not
    leaves = [_entry_field(text, table, number, "leaf", "i32") for number in range(ENTRIES)]
    known = "false"
    for found in leaves:
        known = text.value(f"or i1 {known}, {text.value(f'icmp eq i32 {leaf}, {found}')}")
    number = text.value(f"select i1 {known}, i32 {leaf}, i32 {first}")
    answer = "0"
    for at, found in enumerate(leaves):
        asked = text.value(f"and i32 {subleaf}, {_entry_field(text, table, at, 'mask', 'i32')}")
        same = text.value(f"icmp eq i32 {asked}, {_entry_field(text, table, at, 'subleaf', 'i32')}")
        same = text.value(f"and i1 {same}, {text.value(f'icmp eq i32 {number}, {found}')}")
        registers = _entry_field(text, table, at, "registers", "i128")
        answer = text.value(f"select i1 {same}, i128 {registers}, i128 {answer}")
    return answer


def _entry_field(text: Text, table: str, number: int, name: str, kind: str) -> str:
    at = number * ctypes.sizeof(Entry) + getattr(Entry, name).offset
    return text.value(f"load {kind}, ptr {text.value(f'getelementptr i8, ptr {table}, i64 {at}')}, align 4")


def clock_place(text: Text) -> str:
    """The host's function that tells the time, null where the time-stamp counter does not go by it."""
    return text.fresh(f"load ptr, ptr {_of_context(text, 'clock')}")


def time_text(text: Text, clock: str) -> str:
    """`time_stamp` (i64): nanoseconds of CLOCK_MONOTONIC, as the function `clock` tells them."""
    place = _of_context(text, "time")
    text.line(f"call i32 {clock}(i32 {CLOCK_MONOTONIC}, ptr {place})")
    seconds = text.fresh(f"load i64, ptr {place}")
    ns = text.fresh(f"load i64, ptr {text.value(f'getelementptr i8, ptr {place}, i64 8')}")
    zero = text.fresh(f"load i64, ptr {_of_context(text, 'counter_zero')}")
    whole = text.fresh(f"add i64 {text.fresh(f'mul i64 {seconds}, 1000000000')}, {ns}")
    return text.fresh(f"sub i64 {whole}, {zero}")


def _of_context(text: Text, name: str) -> str:
    return text.value(f"getelementptr i8, ptr %ctx, i64 {CONTEXT_OFFSETS[name]}")


def descriptor_text(text: Text, selector: str) -> str:
    """`segment_descriptor` (i96) of a selector (i16)."""
    index = text.value(f"zext i16 {text.value(f'lshr i16 {selector}, 3')} to i32")
    found = "0"
    for number, (base, limit, access) in FIXED.items():
        same = text.value(f"icmp eq i32 {index}, {number}")
        found = text.value(f"select i1 {same}, i96 {access << 64 | limit << 32 | base}, i96 {found}")
    entry = text.value(f"sub i32 {index}, {FIRST_TLS_ENTRY}")
    own = text.value(f"icmp ult i32 {entry}, {TLS_ENTRIES}")
    found = text.value(f"select i1 {own}, i96 {_own_descriptor(text, own, entry)}, i96 {found}")
    local = text.value(f"icmp ne i16 {text.value(f'and i16 {selector}, {LOCAL}')}, 0")
    return text.value(f"select i1 {local}, i96 0, i96 {found}")


def _own_descriptor(text: Text, own: str, entry: str) -> str:
    """What the thread's entry number `entry` (i32) shows; another one's where it is not `own`."""
    at = text.value(f"mul i32 {entry}, {ctypes.sizeof(Descriptor)}")
    at = text.value(f"zext i32 {text.value(f'select i1 {own}, i32 {at}, i32 0')} to i64")
    table = text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['tls']}")
    place = text.value(f"getelementptr i8, ptr {table}, i64 {at}")
    base, limit, access = (_field(text, place, name) for name in ("base", "limit", "access"))
    granular = text.fresh(f"icmp ne i32 {text.fresh(f'and i32 {access}, {GRANULAR}')}, 0")
    pages = text.fresh(f"select i1 {granular}, i32 {text.fresh(f'lshr i32 {limit}, 12')}, i32 {limit}")
    shown = text.fresh(
        f"or i32 {text.fresh(f'and i32 {access}, {SHOWN}')}, {text.fresh(f'and i32 {pages}, {LIMIT_BITS}')}"
    )
    word = text.fresh(f"zext i32 {base} to i96")
    for value, shift in ((limit, 32), (shown, 64)):
        high = text.fresh(f"shl i96 {text.fresh(f'zext i32 {value} to i96')}, {shift}")
        word = text.fresh(f"or i96 {word}, {high}")
    return text.fresh(f"select i1 {text.fresh(f'icmp eq i32 {access}, 0')}, i96 0, i96 {word}")


def _field(text: Text, place: str, name: str) -> str:
    offset = getattr(Descriptor, name).offset
    return text.fresh(f"load i32, ptr {text.value(f'getelementptr i8, ptr {place}, i64 {offset}')}")


def is_flat(text: Text, descriptor: str) -> str:
    """Whether it is the descriptor that DS, ES and SS have in the flat mode."""
    return text.value(f"icmp eq i96 {descriptor}, {_FLAT[2] << 64 | _FLAT[1] << 32 | _FLAT[0]}")


def is_unlimited(text: Text, descriptor: str) -> str:
    """Whether FS or GS may be loaded from a descriptor without a change of the mode (`state.is_limited`)."""
    limit = text.value(f"trunc i96 {text.value(f'lshr i96 {descriptor}, 32')} to i32")
    access = text.value(f"trunc i96 {text.value(f'lshr i96 {descriptor}, 64')} to i32")
    rights = text.value(f"and i32 {access}, {~(LIMIT_BITS | IGNORED_ACCESS) & _WHOLE}")
    usual = text.value(f"icmp eq i32 {rights}, {DATA_ACCESS & ~IGNORED_ACCESS}")
    return text.value(f"and i1 {usual}, {text.value(f'icmp eq i32 {limit}, {_WHOLE}')}")

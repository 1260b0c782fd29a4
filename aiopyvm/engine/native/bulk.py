"""REP MOVS and REP STOS: many iterations at once, within a page of the destination and one of the source.

The host's own string instruction does them, element by element as the guest's would, overlapping or not, so the state
is that of as many single iterations. What it does not do is left to the iteration that stands behind it: DF set, a page
that is not fast, an element that straddles pages, only a few iterations left to do or in the budget.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.engine.native.calls import UNCHANGED, dispatch
from aiopyvm.engine.native.layout import CPU_OFFSETS, PAGE_TABLE, RECORD_SIZE
from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, READ, WRITE

_SIZES: Final = {"movsb": 0, "movsw": 1, "movsd": 2, "stosb": 0, "stosw": 1, "stosd": 2}  # log2 of bytes
_SUFFIXES: Final = "bwl"
WORTH: Final = 8  # iterations
MOST: Final = 1 << 16  # a budget above it does not limit
_FS: Final = 4  # segment numbers from here on have a base
_CLOBBERS: Final = "~{memory},~{dirflag},~{fpsr},~{flags}"


def least(text: Text, bits: int, x: str, y: str) -> str:
    """The lesser of two numbers without sign."""
    below = text.fresh(f"icmp ult i{bits} {x}, {y}")
    return text.fresh(f"select i1 {below}, i{bits} {x}, i{bits} {y}")


def room(text: Text, insn: Insn, address: str) -> str:
    """How many whole elements there are from an address (i32) up to the end of the page."""
    used = text.fresh(f"and i32 {address}, {PAGE - 1}")
    return text.fresh(f"lshr i32 {text.fresh(f'sub i32 {PAGE}, {used}')}, {size_of(insn)}")


def size_of(insn: Insn) -> int:
    """The size of an element, its log2."""
    return _SIZES[insn.row.name]


def moves(insn: Insn) -> bool:
    """Tell whether an instruction is REP MOVS, not REP STOS."""
    return insn.row.name.startswith("movs")


def at_once(text: Text, insn: Insn, destination: str, source: str, count: str, value: str) -> None:
    """`count` (i32) iterations by the host, at guest addresses (i32) that may be accessed; `value`: EAX, for STOS."""

    def pointer(address: str) -> str:
        return text.fresh(f"getelementptr i8, ptr %mem, i64 {text.fresh(f'zext i32 {address} to i64')}")

    suffix = _SUFFIXES[size_of(insn)]
    to, times = pointer(destination), text.fresh(f"zext i32 {count} to i64")
    if moves(insn):
        constraints = f"={{di}},={{si}},={{cx}},0,1,2,{_CLOBBERS}"
        operands = f"ptr {to}, ptr {pointer(source)}, i64 {times}"
        text.fresh(f'call {{ ptr, ptr, i64 }} asm sideeffect "rep movs{suffix}", "{constraints}"({operands})')
    else:
        constraints = f"={{di}},={{cx}},0,1,{{ax}},{_CLOBBERS}"
        operands = f"ptr {to}, i64 {times}, i32 {value}"
        text.fresh(f'call {{ ptr, i64 }} asm sideeffect "rep stos{suffix}", "{constraints}"({operands})')


def is_bulk(insn: Insn) -> bool:
    """Tell whether `bulk` can be written for an instruction."""
    plain = insn.address_size == 32 and insn.segment < _FS and not insn.lock
    return HAS_X87 and insn.repeats and insn.row.name in _SIZES and plain


def bulk(text: Text, insn: Insn) -> None:
    """Write the iterations that are done at once, and go on at the record; else control comes out behind."""
    _Bulk(text, insn).write()


class _Bulk:
    def __init__(self, text: Text, insn: Insn) -> None:
        self.text = text
        self.insn = insn
        self.moves = moves(insn)
        self.single = text.new_label()

    def write(self) -> None:
        text = self.text
        scope = text.scope()
        left, destination = self._get("ecx"), self._get("edi")
        source = self._get("esi") if self.moves else ""
        budget = least(text, 64, "%budget", str(MOST))
        count = least(text, 32, left, text.fresh(f"trunc i64 {budget} to i32"))
        for address in (destination, source) if self.moves else (destination,):
            count = least(text, 32, count, room(text, self.insn, address))
        self._go_on_if(text.fresh(f"icmp uge i32 {count}, {WORTH}"))
        direction = text.fresh(f"load i8, ptr {self._field('df')}")
        self._go_on_if(text.fresh(f"icmp eq i8 {direction}, 0"))
        self._go_on_if(self._is_fast(destination, WRITE))
        if self.moves:
            self._go_on_if(self._is_fast(source, READ))
        at_once(text, self.insn, destination, source, count, "" if self.moves else self._get("eax"))
        self._leave(destination, source, left, count)
        text.label(self.single)
        text.leave_scope(scope)

    def _field(self, name: str) -> str:
        return self.text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    def _get(self, name: str) -> str:
        return self.text.fresh(f"load i32, ptr {self._field(name)}")

    def _go_on_if(self, condition: str) -> None:
        label = self.text.new_label()
        self.text.branch(condition, label, self.single)
        self.text.label(label)

    def _is_fast(self, address: str, bit: int) -> str:
        text = self.text
        table = text.value(f"getelementptr i8, ptr %mem, i64 {PAGE_TABLE}")
        page = text.fresh(f"zext i32 {text.fresh(f'lshr i32 {address}, {PAGE_SHIFT}')} to i64")
        found = text.fresh(f"load i8, ptr {text.fresh(f'getelementptr i8, ptr {table}, i64 {page}')}")
        return text.fresh(f"icmp ne i8 {text.fresh(f'and i8 {found}, {bit}')}, 0")

    def _leave(self, destination: str, source: str, left: str, count: str) -> None:
        text = self.text
        size = text.fresh(f"shl i32 {count}, {size_of(self.insn)}")
        for name, address in (("edi", destination), ("esi", source)) if self.moves else (("edi", destination),):
            text.line(f"store i32 {text.fresh(f'add i32 {address}, {size}')}, ptr {self._field(name)}")
        rest = text.fresh(f"sub i32 {left}, {count}")
        text.line(f"store i32 {rest}, ptr {self._field('ecx')}")
        budget = text.fresh(f"sub i64 %budget, {text.fresh(f'zext i32 {count} to i64')}")
        step = text.fresh(f"select i1 {text.fresh(f'icmp eq i32 {rest}, 0')}, i64 {RECORD_SIZE}, i64 0")
        dispatch(text, text.fresh(f"getelementptr i8, ptr %rec, i64 {step}"), budget, UNCHANGED)

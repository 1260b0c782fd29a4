"""Guest memory in a region, checked form: one look at the page's permission byte for accesses near one another.

Accesses of a node, or of all copies of a loop, at constant distances from one value form a *span* (`regionspans`),
which is checked whole before the first of them: its pages, at most two, must allow what all its accesses do. When they
do not, the region is left before that instruction, and cold code checks one by one, so nothing is ever refused too
early. What was checked holds to the end of the function: nothing changes permissions while generated code runs.

The accesses themselves are plain loads and stores. A check is never removed, whatever becomes of its access, nobody but
this function's thread sees guest memory before the function leaves, and no two places of a space are the same memory
(what shows the same shared memory elsewhere is never fast, see `Residence`). So LLVM may forward a push to the pop, or
drop a load whose value nobody needs, without a guest noticing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.native.llvmtext import INVARIANT, LIKELY, NUMBERS, Text
from aiopyvm.engine.native.lower_memory import Accesses
from aiopyvm.ir.builder import Value
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, READ, WRITE

MOST_SPAN: Final = 2048  # bytes
_SIGN: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [base + low, base + high), addresses being 32 bits wide; `base` None is 0."""

    base: Value | None
    low: int
    high: int
    write: bool

    def covers(self, other: Span) -> bool:
        """Whether what was checked for this one need not be checked for `other`."""
        same = self.base is other.base and (self.write or not other.write)
        return same and self.low <= other.low and other.high <= self.high


def split(address: Value) -> tuple[Value | None, int]:
    """An address as base and signed distance."""
    if address.op == "const":
        return None, int(address.attr)
    if address.op == "add" and address.args[1].op == "const":
        distance = int(address.args[1].attr)
        return address.args[0], distance - 2 * _SIGN if distance & _SIGN else distance
    return address, 0


def access(op: Value) -> Span:
    """The span of one load, store or probe."""
    if op.op == "probe":
        size, write = op.attr
    else:
        size, write = (op if op.op == "load" else op.args[1]).bits // 8, op.op == "store"
    base, distance = split(op.args[0])
    return Span(base, distance, distance + size, write)


def load_from(text: Text, kind: str, place: str, *, lane: bool) -> str:
    """Load a value of LLVM type `kind` from a host address; `lane`: into a vector register."""
    if not lane:
        return text.fresh(f"load {kind}, ptr {place}, align 1")
    bits = int(kind[1:])
    return text.of_number(text.fresh(f"load {NUMBERS[bits]}, ptr {place}, align 1"), bits)


def store_to(text: Text, kind: str, value: str, place: str, *, lane: bool) -> None:
    """Store a value of LLVM type `kind` at a host address; `lane`: from a vector register."""
    if lane:
        bits = int(kind[1:])
        kind, value = NUMBERS[bits], text.as_number(value, bits)
    text.line(f"store {kind} {value}, ptr {place}, align 1")


class SpanMemory(Accesses):
    """Writes checks and accesses. `cold` takes the lines of blocks that are hardly ever entered."""

    def __init__(self, text: Text, cold: list[str]) -> None:
        super().__init__(text)
        self._cold = cold

    def first(self, span: Span, name: Callable[[Value], str]) -> str:
        """The address (i32) of the span's first byte."""
        if span.base is None:
            return str(span.low - 2 * _SIGN if span.low & _SIGN else span.low)
        base = name(span.base)
        return self.text.value(f"add i32 {base}, {span.low}") if span.low else base

    def check(self, span: Span, first: str, failed: str, *, single: bool) -> None:
        """Branch to the label `failed` unless all of the span may be accessed at once. `single`: it is one access."""
        size = span.high - span.low
        bit = WRITE if span.write else READ
        text = self.text
        found = self._permissions(first)
        if not single:
            last = text.value(f"add i32 {first}, {size - 1}")
            found = text.value(f"and i8 {found}, {self._permissions(last)}")
        fine = text.new_label()
        text.branch(self._allows(found, bit), fine, failed, LIKELY)
        text.label(fine)
        if single and size > 1:
            self._check_straddling(first, size, bit, failed)

    def _check_straddling(self, first: str, size: int, bit: int, failed: str) -> None:
        """An aligned access has one page; for another, look at the second one, out of the way."""
        text = self.text
        fine, misaligned = text.new_label(), text.new_label()
        aligned = text.value(f"icmp eq i32 {text.value(f'and i32 {first}, {size - 1}')}, 0")
        text.branch(aligned, fine, misaligned, LIKELY)
        lines, text.lines = text.lines, self._cold
        scope = text.scope()
        text.label(misaligned)
        last = text.value(f"add i32 {first}, {size - 1}")
        text.branch(self._allows(self._permissions(last), bit), fine, failed, LIKELY)
        text.leave_scope(scope)
        text.lines = lines
        text.label(fine)

    def is_fast(self, address: str, bit: int) -> str:
        """Whether the page of an address (i32) allows `bit` at once (i1)."""
        return self._allows(self._permissions(address), bit)

    def _allows(self, found: str, bit: int) -> str:
        return self.text.value(f"icmp ne i8 {self.text.value(f'and i8 {found}, {bit}')}, 0")

    def _permissions(self, address: str) -> str:
        text = self.text
        wide = text.value(f"zext i32 {address} to i64")  # as the access has it
        page = text.value(f"lshr i64 {wide}, {PAGE_SHIFT}")
        return text.value(f"load i8, ptr {text.value(f'getelementptr i8, ptr %pages, i64 {page}')}{INVARIANT}")


assert MOST_SPAN <= PAGE

__all__ = ["MOST_SPAN", "Span", "SpanMemory", "access", "load_from", "split", "store_to"]

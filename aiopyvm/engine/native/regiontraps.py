"""Guest memory in a region, host-MMU form: an access is one `mov`, and the host's page protection says what is allowed.

Each stands in a `callbr` asm that also writes an entry of the object's table of traps: where the `mov` is, and the way
out that the host's fault leads to, two signed distances (32 bits), each from where it stands itself. The way out is the
region's exit before the instruction: a fault leaves exact state, and cold code finds out what it was.

What was accessed once can be accessed again by a plain load or store, and what was read or written is known, until a
store that may have hit it: protection does not change before the function is left, and nobody but this function's
thread sees guest memory until then. Probes, and accesses of other sizes, look at the page table (`regionmemory`), which
is right in this form too.

A small displacement is left to the host's addressing: address 0 and the end of the 4 GiB have guards that fault, so an
address that wraps goes the slow way.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.engine.native.hostcpu import has
from aiopyvm.engine.native.llvmtext import LIKELY
from aiopyvm.engine.native.regiondraft import Draft
from aiopyvm.engine.native.regionexits import Exits
from aiopyvm.engine.native.regionmemory import Span
from aiopyvm.engine.native.traplayout import TRAPS
from aiopyvm.ir.builder import Value
from aiopyvm.mem.layout import GUARD

_REACH: Final = GUARD - 64  # of a displacement: an access that begins there ends inside the guard
_LOADS: Final = {8: ("movzbl", 32), 16: ("movzwl", 32), 32: ("movl", 32), 64: ("movq", 64)}
_STORES: Final = {8: ("movb", "q"), 16: ("movw", "r"), 32: ("movl", "r"), 64: ("movq", "r")}
_MOVUPS: Final = "vmovups" if has("avx") else "movups"
_VECTORS: Final = {128: "<2 x i64>"} | ({256: "<4 x i64>"} if has("avx") else {})
_MOV: Final = "771"  # the local label of the `mov`
_TRAP: Final = f"\\0A.pushsection {TRAPS},\\22a\\22,@progbits\\0A.long {_MOV}b - .\\0A.long ${{2:l}} - .\\0A.popsection"


class Trapping:
    """Writes accesses into a draft."""

    def __init__(self, draft: Draft, exits: Exits) -> None:
        self._draft = draft
        self._text = draft.text
        self._exits = exits

    def access(self, op: Value, span: Span, *, guarded: bool) -> bool:
        """Write a load or a store of `span`; False, and nothing written, for what is to be checked.

        `guarded`: it may be left out when the region is executed.
        """
        state = self._draft.state
        bits = 8 * (span.high - span.low)
        if op.op == "probe" or (bits not in _LOADS and bits not in _VECTORS):
            return False
        where = Span(span.base, span.low, span.high, write=False)
        if op.op == "store":
            self._store(span, bits, self._draft.name(op.args[1]), guarded=guarded)
            self.forget(where)
        elif (known := state.words.get(where)) is not None:
            state.names[op] = self._draft.name(known)
        else:
            state.names[op] = self._load(span, bits, guarded=guarded)
        if not guarded:
            state.words[where] = op if op.op == "load" else op.args[1]
        return True

    def forget(self, where: Span) -> None:
        """Something was stored there: what was known to be in memory may have changed."""
        words = self._draft.state.words
        for other in [other for other in words if _may_meet(other, where)]:
            del words[other]

    def execute(self, instruction: str, span: Span, *, write: bool, guarded: bool) -> str:
        """Write an instruction that has one operand, in memory; or, where it may be accessed, the operand's place."""
        if write:
            self.forget(span)
        if place := self._covered(span):
            return place
        kind = "=*m" if write else "*m"
        trap = _TRAP.replace("{2:l}", "{1:l}")
        self._trap(f'callbr void asm sideeffect "{_MOV}: {instruction} $0{trap}", "{kind},!i"'
                   f"(ptr elementtype([10 x i8]) {self._place(span)})", span, guarded)  # fmt: skip
        return ""

    def _load(self, span: Span, bits: int, *, guarded: bool) -> str:
        text, place = self._text, self._covered(span)
        if place:
            return text.fresh(f"load {_VECTORS.get(bits, f'i{bits}')}, ptr {place}, align 1")
        place = self._place(span)
        if bits in _VECTORS:
            value, kind = text.name(), _VECTORS[bits]
            self._trap(f'{value} = callbr {kind} asm sideeffect "{_MOV}: {_MOVUPS} $1, $0{_TRAP}", "=x,*m,!i"'
                       f"(ptr elementtype({kind}) {place})", span, guarded)  # fmt: skip
            return value
        mnemonic, wide = _LOADS[bits]
        value = text.name()
        self._trap(f'{value} = callbr i{wide} asm sideeffect "{_MOV}: {mnemonic} $1, $0{_TRAP}", "=r,*m,!i"'
                   f"(ptr elementtype(i{bits}) {place})", span, guarded)  # fmt: skip
        return text.fresh(f"trunc i{wide} {value} to i{bits}") if bits < wide else value

    def _store(self, span: Span, bits: int, value: str, *, guarded: bool) -> None:
        place = self._covered(span)
        if place:
            self._text.line(f"store {_VECTORS.get(bits, f'i{bits}')} {value}, ptr {place}, align 1")
            return
        place = self._place(span)
        if bits in _VECTORS:
            kind = _VECTORS[bits]
            self._trap(f'callbr void asm sideeffect "{_MOV}: {_MOVUPS} $1, $0{_TRAP}", "=*m,x,!i"'
                       f"(ptr elementtype({kind}) {place}, {kind} {value})", span, guarded)  # fmt: skip
            return
        mnemonic, kind = _STORES[bits]
        if bits < 64 and not value.startswith("%"):
            kind = "i"
        self._trap(f'callbr void asm sideeffect "{_MOV}: {mnemonic} $1, $0{_TRAP}", "=*m,{kind},!i"'
                   f"(ptr elementtype(i{bits}) {place}, i{bits} {value})", span, guarded)  # fmt: skip

    def _trap(self, asm: str, span: Span, guarded: bool) -> None:
        text, fine = self._text, self._text.new_label()
        text.line(f"{asm} to label %{fine} [label %{self._exits.before()}]{LIKELY}")
        text.label(fine)
        if not guarded:
            self._draft.state.trapped.append(span)

    def _covered(self, span: Span) -> str:
        """The host's address of what an access, or a check, has shown to be allowed; "": nothing has."""
        state = self._draft.state
        if any(seen.covers(span) for seen in state.trapped):
            return self._place(span)
        return self._host(self._first(span)) if any(seen.covers(span) for seen, _ in state.checked) else ""

    def _first(self, span: Span) -> str:
        """The guest's address (i32) of the first byte."""
        if span.base is None:
            return str(_signed(span.low & 0xFFFFFFFF))
        base = self._draft.name(span.base)
        return self._text.value(f"add i32 {base}, {_signed(span.low & 0xFFFFFFFF)}") if span.low else base

    def _place(self, span: Span) -> str:
        """The host's address (ptr) of the first byte, or one in a guard where the guest's address wraps."""
        if span.base is None or abs(span.low) > _REACH or not span.low:
            return self._host(self._first(span))
        return self._text.value(f"getelementptr i8, ptr {self._host(self._draft.name(span.base))}, i64 {span.low}")

    def _host(self, address: str) -> str:
        text = self._text
        return text.value(f"getelementptr i8, ptr %mem, i64 {text.value(f'zext i32 {address} to i64')}")


def _may_meet(one: Span, other: Span) -> bool:
    """Whether two spans may have a byte in common, as no two places of a space are the same memory (`Residence`)."""
    if one.base is not other.base:
        return True
    distance = other.low - one.low & 0xFFFFFFFF
    return distance < one.high - one.low or -distance & 0xFFFFFFFF < other.high - other.low


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


__all__ = ["Trapping"]

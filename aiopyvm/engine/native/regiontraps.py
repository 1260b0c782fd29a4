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
from aiopyvm.engine.native.llvmtext import LIKELY, NUMBERS
from aiopyvm.engine.native.lower_vector import llvm_type
from aiopyvm.engine.native.regiondraft import Draft
from aiopyvm.engine.native.regionexits import Exits
from aiopyvm.engine.native.regionlanes import Lanes, is_stored_lane, stored_half
from aiopyvm.engine.native.regionmemory import Span, load_from, store_to
from aiopyvm.engine.native.traplayout import TRAPS
from aiopyvm.ir.builder import Value
from aiopyvm.mem.layout import GUARD

_REACH: Final = GUARD - 64  # of a displacement: an access that begins there ends inside the guard
_LOADS: Final = {8: ("movzbl", 32), 16: ("movzwl", 32), 32: ("movl", 32), 64: ("movq", 64)}
_STORES: Final = {8: ("movb", "q"), 16: ("movw", "r"), 32: ("movl", "r"), 64: ("movq", "r")}
_VEX: Final = "v" if has("avx") else ""
_MOVUPS: Final = f"{_VEX}movups"
_MOVES: Final = {32: f"{_VEX}movss", 64: f"{_VEX}movsd"}
_MOVHPD: Final = f"{_VEX}movhpd"
_V128: Final = "<2 x i64>"
_VECTORS: Final = frozenset((128, 256) if has("avx") else (128,))
_MOV: Final = "771"  # the local label of the `mov`
_TRAP: Final = (
    f"\\0A.pushsection {TRAPS},\\22a\\22,@progbits\\0A.long {_MOV}b - .\\0A.long ${{LABEL:l}} - .\\0A.popsection"
)


class Trapping:
    """Writes accesses into a draft."""

    def __init__(self, draft: Draft, exits: Exits) -> None:
        self._draft = draft
        self._text = draft.text
        self._exits = exits

    def access(self, op: Value, span: Span, lanes: Lanes, *, guarded: bool) -> bool:
        """Write a load or a store of `span`; False, and nothing written, for what is to be checked.

        `guarded`: it may be left out when the region is executed.
        """
        state = self._draft.state
        bits = 8 * (span.high - span.low)
        if op.op == "probe" or (bits not in _LOADS and bits not in _VECTORS):
            return False
        where = Span(span.base, span.low, span.high, write=False)
        if op.op == "store":
            self._store(op.args[1], span, bits, guarded=guarded)
            self.forget(where)
        elif (known := state.words.get(where)) is not None:
            state.names[op] = self._draft.name(known)
        else:
            self._load(op, span, lanes, guarded=guarded)
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
        self._trap("void", f"{instruction} $0", kind, f"ptr elementtype([10 x i8]) {self._place(span)}", span, guarded)
        return ""

    def _load(self, op: Value, span: Span, lanes: Lanes, *, guarded: bool) -> None:
        text, names, kind, lane = self._text, self._draft.state.names, llvm_type(op.type), lanes.is_lane(op)
        if place := self._covered(span):
            names[op] = load_from(text, kind, place, lane=lane)
            return
        place = self._place(span)
        insert = lanes.inserted(op)
        if insert is not None and (insert.attr == 0 or insert.args[0] in names):
            names[insert] = self._load_into(insert, op.bits, place, span, guarded)
            names[op] = text.fresh(f"extractelement {llvm_type(insert.type)} {names[insert]}, i64 {insert.attr}")
        elif op.bits in _VECTORS:
            names[op] = self._trap(
                kind, f"{_MOVUPS} $1, $0", "=x,*m", f"ptr elementtype({kind}) {place}", span, guarded
            )
        elif lane:
            number = NUMBERS[op.bits]
            moved = f"{_MOVES[op.bits]} $1, $0"
            found = self._trap(number, moved, "=x,*m", f"ptr elementtype({number}) {place}", span, guarded)
            names[op] = text.of_number(found, op.bits)
        else:
            mnemonic, wide = _LOADS[op.bits]
            found = self._trap(
                f"i{wide}", f"{mnemonic} $1, $0", "=r,*m", f"ptr elementtype({kind}) {place}", span, guarded
            )
            if op.bits < wide:
                names[op] = text.fresh(f"trunc i{wide} {found} to {kind}")
                text.know(f"zext {kind} {names[op]} to i{wide}", found)
            else:
                names[op] = found

    def _load_into(self, insert: Value, bits: int, place: str, span: Span, guarded: bool) -> str:
        """Load what becomes a lane of a vector (`Lanes.inserted`)."""
        kind, operands = llvm_type(insert.type), f"ptr elementtype(i{bits}) {place}"
        if insert.attr == 0:
            return self._trap(kind, f"{_MOVES[bits]} $1, $0", "=x,*m", operands, span, guarded)
        vector = self._draft.name(insert.args[0])
        return self._trap(kind, f"{_MOVHPD} $2, $1, $0", "=x,x,*m", f"{kind} {vector}, {operands}", span, guarded)

    def _store(self, value: Value, span: Span, bits: int, *, guarded: bool) -> None:
        text, kind, lane = self._text, llvm_type(value.type), is_stored_lane(value)
        if place := self._covered(span):
            store_to(text, kind, self._draft.name(value), place, lane=lane)
            return
        place = self._place(span)
        if (whole := stored_half(value)) is not None:
            mnemonic, kind, register, name = _MOVHPD, _V128, "x", self._draft.name(whole)
        elif bits in _VECTORS:
            mnemonic, register, name = _MOVUPS, "x", self._draft.name(value)
        elif lane:
            mnemonic, kind, register = _MOVES[bits], NUMBERS[bits], "x"
            name = text.as_number(self._draft.name(value), bits)
        else:
            (mnemonic, register), name = _STORES[bits], self._draft.name(value)
            if bits < 64 and not name.startswith("%"):
                register = "i"
        memory = kind if whole is None else "i64"
        operands = f"ptr elementtype({memory}) {place}, {kind} {name}"
        self._trap("void", f"{mnemonic} $1, $0", f"=*m,{register}", operands, span, guarded)

    def _trap(self, result: str, code: str, constraints: str, operands: str, span: Span, guarded: bool) -> str:
        """Write an instruction that may trap; the name of its result, if it is not void."""
        text, fine = self._text, self._text.new_label()
        name = "" if result == "void" else text.name()
        trap = _TRAP.replace("LABEL", str(constraints.count(",") + 1))
        text.line(f'{name and name + " = "}callbr {result} asm sideeffect "{_MOV}: {code}{trap}", "{constraints},!i"'
                  f"({operands}) to label %{fine} [label %{self._exits.before()}]{LIKELY}")  # fmt: skip
        text.label(fine)
        if not guarded:
            self._draft.state.trapped.append(span)
        return name

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

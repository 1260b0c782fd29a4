"""A node's operations in a region: registers, flags, accesses, faults, and guards around what may not be done.

What a guard sets goes to the local variables, so that behind it they hold what was set or what was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiopyvm.engine.native.bulk import is_bulk
from aiopyvm.engine.native.layout import CPU_OFFSETS, FLAG_ARGUMENTS, MMU
from aiopyvm.engine.native.llvmtext import INVARIANT, UNLIKELY
from aiopyvm.engine.native.lower_flags import flag_of_word
from aiopyvm.engine.native.lower_host import may_be_portable
from aiopyvm.engine.native.lower_simd import kept, low_results, simd_into, simd_text
from aiopyvm.engine.native.lower_vector import llvm_type
from aiopyvm.engine.native.regionbulk import many_passes
from aiopyvm.engine.native.regiondraft import Draft, Names
from aiopyvm.engine.native.regionexits import Exits
from aiopyvm.engine.native.regionflags import PART_OF, PARTS
from aiopyvm.engine.native.regionfloat import memory_instruction
from aiopyvm.engine.native.regionlanes import Lanes, is_stored_lane
from aiopyvm.engine.native.regionmemory import Span, SpanMemory, load_from, store_to
from aiopyvm.engine.native.regionplan import is_x87
from aiopyvm.engine.native.regionspans import Bases
from aiopyvm.engine.native.regiontraps import Trapping
from aiopyvm.engine.native.regionwords import FlagWords
from aiopyvm.engine.native.regionx87 import BY_TRACE, FIELDS, TO_FLAGS
from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import SIMD_OPS
from aiopyvm.ir.registers import GENERAL, REGISTERS, TYPES, VECTORS
from aiopyvm.isa.insn import Insn, Memory
from aiopyvm.isa.state import FLAG_BITS, GPR32, SEGMENTS

_SEGMENT_FIELDS = frozenset(f"{name}_{part}" for name in SEGMENTS for part in ("base", "limit", "access"))


SHORT = 8  # passes of a repeated instruction: with more of them doing many at once costs less


class Operations:
    """Writes the operations of nodes into a draft."""

    def __init__(self, draft: Draft, flags: FlagWords, exits: Exits, memory: str) -> None:
        self._draft = draft
        self._text = draft.text
        self._flags = flags
        self._exits = exits
        self._memory = SpanMemory(draft.text, draft.cold)
        self._trapping = Trapping(draft, exits) if memory == MMU else None
        self._ops: Sequence[Value] = ()
        self._short = False
        self._low: dict[Value, Value] = {}  # SIMD operations that are written into a vector
        self._bases = Bases()
        self._spans: dict[Value, Span] = {}
        self._lanes = Lanes(())
        self._host: Insn | None = None  # the instruction, if the host is to execute it as it is
        self._shows = False  # this instruction shows the x87's status word
        self._guard: set[str] = set()  # parts whose flags the open guard tells by recipe
        self._guards: list[tuple[str, dict[str, str], Names]] = []  # open ones: label behind, scope and names before

    def expect(self, ops: Iterable[Value]) -> None:
        """These operations will be written: what is near one another in them is checked at once."""
        ops = tuple(ops)
        self._spans, self._lanes = self._bases.spans(ops), Lanes(ops)

    def write(self, ops: Sequence[Value], last: int, *, short: bool = False) -> None:
        """Write a node's operations, up to the one with number `last`. `short`: unless many passes of a repeated
        instruction are left.
        """
        self._ops, self._short = ops, short
        self._low = low_results(ops)
        self._draft.state.done -= 1
        for op in ops[:last]:
            self._one(op)
        self._draft.state.done += 1
        self._flags.settle()

    def _one(self, op: Value) -> None:
        match op.op:
            case "insn":
                self._flags.settle()
                self._exits.begin(op.attr[1])
                self._draft.state.done += 1
                self._begin_float(op.attr[0])
                if self._short:
                    self._look_at_count(op.attr[0])
            case "get" if op.attr == "fsw" and self._draft.floats is not None:
                if self._shows:
                    self._draft.state.names[op] = self._draft.floats.status()
            case "get":
                self._draft.state.names[op] = self._get(op.attr)
            case "set":
                self._set(op.attr, op.args[0])
            case "load" | "store" if self._host is not None:
                self._access_float(op, self._host)
            case "load" | "store" | "probe":
                self._access(op)
            case "when":
                self._open(op)
            case "end":
                self._close()
            case "fault":
                self._fault(op)
            case name if name in SIMD_OPS:
                self._simd(op)
            case "helper" if may_be_portable(op):
                self._leave_portable(op)
            case "fcompare" | "fcompareq" if self._host is not None and self._host.row.name in TO_FLAGS:
                assert self._draft.floats is not None
                self._draft.state.names[op] = self._draft.floats.compare(self._host)
            case "select" if self._host is not None and self._host.row.name.startswith("fcmov"):
                assert self._draft.floats is not None
                self._draft.floats.move_if(self._host, self._draft.name(op.args[0]))

    def _begin_float(self, insn: Insn) -> None:
        """If the host is to execute an instruction of the x87 as it is: at once, unless something has to be known."""
        floats, name = self._draft.floats, insn.row.name
        self._shows = name == "fnstsw"
        self._host = insn if floats is not None and is_x87(insn.code) and name not in BY_TRACE else None
        if floats is None or self._host is None or name in TO_FLAGS or name.startswith("fcmov"):
            return
        if not any(isinstance(operand, Memory) for operand in insn.operands):
            floats.execute(insn)

    def _simd(self, op: Value) -> None:
        draft = self._draft
        arguments = [*(draft.name(arg) for arg in op.args[:-1]), ""]
        insert = self._low.get(op)
        if insert is not None:
            vector = draft.name(kept(insert))
            draft.state.names[insert] = simd_into(self._text, op, insert, vector, arguments)
        else:
            draft.state.names[op] = simd_text(self._text, op, arguments)

    def _get(self, name: str) -> str:
        text = self._text
        if name in GENERAL:
            return text.fresh(f"load i32, ptr %l.{name}")
        if name in FLAG_ARGUMENTS:
            value = self._draft.state.flags.get(name)
            return self._draft.name(value) if value is not None else flag_of_word(text, name, self._flags.read(name))
        if name in VECTORS:
            return text.fresh(f"load {llvm_type(TYPES[name])}, ptr %l.v{name[-1]}")
        if name == "mxcsr":
            return ""  # only SIMD operations read it
        if name in FLAG_BITS:
            return text.fresh(f"trunc i8 {text.fresh(f'load i8, ptr {self._field(name)}')} to i1")
        fixed = INVARIANT if name in _SEGMENT_FIELDS else ""  # no instruction of a region sets one
        return text.fresh(f"load i{REGISTERS[name]}, ptr {self._field(name)}{fixed}")

    def _field(self, name: str) -> str:
        return self._text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    def _set(self, name: str, value: Value) -> None:
        text, state = self._text, self._draft.state
        if name in GENERAL:
            word = self._draft.name(value)
            if self._guards:
                text.line(f"store i32 {word}, ptr %l.{name}")
            else:
                state.registers[name] = value
        elif name in FLAG_ARGUMENTS:
            if self._guards and PART_OF[name] not in self._guard:
                self._flags.store_word(name, value)
            else:
                state.flags[name] = value
                state.recipes.pop(PART_OF[name], None)
        elif name in VECTORS:
            text.line(f"store {llvm_type(TYPES[name])} {self._draft.name(value)}, ptr %l.v{name[-1]}")
        elif self._draft.floats is not None and name in FIELDS:
            self._draft.floats.set(name, value)
        elif self._draft.floats is not None and name == "fcw":
            self._draft.floats.set_control(self._draft.name(value), self._exits.before())
        elif name in FLAG_BITS:
            text.line(f"store i8 {text.value(f'zext i1 {self._draft.name(value)} to i8')}, ptr {self._field(name)}")
        else:
            text.line(f"store i{REGISTERS[name]} {self._draft.name(value)}, ptr {self._field(name)}")

    def _look_at_count(self, insn: Insn) -> None:
        """Do many passes at once, or let cold code do them."""
        text, fine, leave = self._text, self._text.new_label(), self._exits.before()
        count = text.fresh("load i32, ptr %l.ecx")  # a repeated instruction begins a tree
        many = many_passes(self._draft, self._memory, insn, fine, leave) if is_bulk(insn) else leave
        text.branch(text.fresh(f"icmp ugt i32 {count}, {SHORT}"), many, fine)
        text.label(fine)

    def _leave_portable(self, op: Value) -> None:
        """Cold code leaves to Python a helper whose portable definition is wanted."""
        text, fine = self._text, self._text.new_label()
        wanted = text.value(f"icmp ne i8 {self._draft.name(op.args[-1])}, 0")
        text.branch(wanted, self._exits.before(), fine, UNLIKELY)
        text.label(fine)

    def _fault(self, op: Value) -> None:
        fine = self._text.new_label()
        self._text.branch(self._draft.name(op.args[0]), self._exits.before(), fine, UNLIKELY)
        self._text.label(fine)

    def _access(self, op: Value) -> None:
        """Check the access with its span, unless that was done, then make it."""
        one = self._bases.access(op)
        if self._trapping is not None and self._trapping.access(op, one, self._lanes, guarded=bool(self._guards)):
            return
        first, at = self._check(op, one)
        if op.op == "load":
            place = self._memory.place(first, at)
            self._draft.state.names[op] = load_from(self._text, llvm_type(op.type), place, lane=self._lanes.is_lane(op))
        elif op.op == "store":
            kind, place = llvm_type(op.args[1].type), self._memory.place(first, at)
            store_to(self._text, kind, self._draft.name(op.args[1]), place, lane=is_stored_lane(op.args[1]))

    def _access_float(self, op: Value, insn: Insn) -> None:
        """The memory operand of an instruction that the host executes."""
        floats, one, write = self._draft.floats, self._bases.access(op), op.op == "store"
        assert floats is not None
        if self._trapping is None:
            floats.access(insn, self._memory.place(*self._check(op, one)), write=write)
        elif place := self._trapping.execute(memory_instruction(insn), one, write=write, guarded=bool(self._guards)):
            floats.access(insn, place, write=write)

    def _check(self, op: Value, one: Span) -> tuple[str, int]:
        """Check an access with its span, unless that was done: the address (i32) of something checked, and how many
        bytes behind it the access is.
        """
        whole, state = self._spans[op], self._draft.state
        found = next((entry for entry in state.checked if entry[0].covers(one)), None)
        if found is None:
            first = self._memory.first(whole, self._draft.name)
            single = one.low == whole.low and one.high == whole.high
            self._memory.check(whole, first, self._exits.before(), single=single)
            found = (whole, first)
            if not self._guards:
                state.checked.append(found)
        return found[1], one.low - found[0].low

    # -- guards --------------------------------------------------------------------------------------------------------

    def _open(self, op: Value) -> None:
        """What the guard sets goes to the local variables: before it they get what they have to hold without it."""
        text, state = self._text, self._draft.state
        condition = self._draft.name(op.args[0])
        if not self._guards:
            self._prepare(_guarded(self._ops, op))
        inside, behind = text.new_label(), text.new_label()
        text.branch(condition, inside, behind)
        self._guards.append((behind, text.scope(), state.names))
        state.names = state.names.copy()
        text.label(inside)

    def _prepare(self, sets: set[str]) -> None:
        state = self._draft.state
        for name in GPR32:
            if name in sets and name in state.registers:
                self._text.line(f"store i32 {self._draft.name(state.registers.pop(name))}, ptr %l.{name}")
        for part, flags in PARTS.items():
            written = sets.intersection(flags)
            if len(written) == len(flags):
                self._flags.tell(part)
                self._flags.forget(part)
                self._guard.add(part)
            elif written:
                self._flags.spell(part)

    def _close(self) -> None:
        text, state = self._text, self._draft.state
        behind, scope, names = self._guards.pop()
        if not self._guards:
            for part in sorted(self._guard):
                possible, entry = state.possible[part], state.entry[part]
                self._flags.tell(part)
                state.possible[part], state.entry[part] = state.possible[part] | possible, entry
                self._flags.forget(part)
            self._guard.clear()
        text.line(f"br label %{behind}")
        text.label(behind)
        text.leave_scope(scope)
        state.names = names


def _guarded(ops: Sequence[Value], guard: Value) -> set[str]:
    """The registers that are set inside a guard."""
    sets: set[str] = set()
    depth = 0
    for op in ops[ops.index(guard) :]:
        depth += {"when": 1, "end": -1}.get(op.op, 0)
        if op.op == "set":
            sets.add(op.attr)
        if depth == 0:
            break
    return sets


__all__ = ["Operations"]

"""The LLVM text of a region: one function of `layout.SIGNATURE`.

Each join of the graph begins a *tree*: the nodes that have one way in hang on it. Inside a tree every value is in
static single assignment form as it is traced, over all its nodes; between trees the general registers, the budget and
the flags' recipes (`regionflags`) are local variables (`alloca`), which LLVM makes values of. What always holds:

- Local variables hold the state at the tree's beginning, until an edge to another tree writes what has changed.
- Where an instruction may leave, nothing of it has been done: `_State` is what was before it.
- `%left` is the budget less the longest way to the next look at it, less what completed nodes of earlier trees took; it
  is looked at where the region is entered and on retreating edges. An exit adds up exactly.

A way out stores the registers that the region writes, and goes on through the jump cache; one at the root itself, with
the cold code behind the record that led here. Ways out of checks, rarely
taken, compute their flags in one shared place, by recipe.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from aiopyvm.engine.native.calls import UNCHANGED, WORDS, define, dispatch, jump_through_cache, linked_record
from aiopyvm.engine.native.layout import CPU_OFFSETS, FLAG_ARGUMENTS, PAGE_TABLE
from aiopyvm.engine.native.llvmtext import INVARIANT, LIKELY, UNLIKELY, Text, module
from aiopyvm.engine.native.lower_flags import Names as Naming
from aiopyvm.engine.native.lower_flags import flag_of_word, word_of_flag
from aiopyvm.engine.native.lower_integer import constant, integer_text
from aiopyvm.engine.native.regionflags import PART_OF, PARTS, SLOTS, Recipe, Recipes
from aiopyvm.engine.native.regionmemory import Span, SpanMemory, access, spans
from aiopyvm.engine.native.regions import Flow, Graph, Node, Request
from aiopyvm.engine.native.runtime_ir import leave_declarations
from aiopyvm.ir.builder import Known, Value
from aiopyvm.ir.registers import GENERAL, REGISTERS
from aiopyvm.isa.state import FLAG_BITS, GPR32, SEGMENTS
from aiopyvm.isa.trace import Tracer, trace

Names = dict[Value, str]
_RUN: Final = struct.Struct("<II")
_SEGMENT_FIELDS: Final = frozenset(f"{name}_{part}" for name in SEGMENTS for part in ("base", "limit", "access"))


@dataclass(slots=True)
class _State:
    """What is known at one point of a tree. `registers` and `flags` are those that differ from the local variables;
    `possible` are the recipes that these may tell, by part, beside those with which the tree was entered (`entry`).
    """

    tree: Node
    left: str
    known: Known
    names: Names = field(default_factory=dict)
    registers: dict[str, Value] = field(default_factory=dict)
    flags: dict[str, Value] = field(default_factory=dict)
    recipes: dict[str, Recipe | None] = field(default_factory=dict)  # of `flags`, once they were asked for
    possible: dict[str, frozenset[int]] = field(default_factory=lambda: {"c": frozenset(), "r": frozenset()})
    entry: dict[str, bool] = field(default_factory=lambda: {"c": True, "r": True})
    done: int = 0  # instructions of this tree that are complete
    checked: list[tuple[Span, str]] = field(default_factory=list)  # with the address of the first byte
    scope: dict[str, str] = field(default_factory=dict)

    def fork(self, known: Known, scope: dict[str, str]) -> _State:
        return _State(
            self.tree, self.left, known, self.names.copy(), self.registers.copy(), self.flags.copy(),
            self.recipes.copy(), self.possible.copy(), self.entry.copy(), self.done, self.checked.copy(), scope.copy(),
        )  # fmt: skip


@dataclass(slots=True)
class _Read:
    """A flag that is read from the local variables, where `label` begins: into %read.`number`, then to `behind`."""

    number: int
    flag: str
    tree: Node | None  # whose ways in tell more recipes
    possible: frozenset[int]
    label: str
    behind: str


class RegionText:
    """Writes the function `name` for a graph."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name
        self.text = Text()
        self._cold: list[str] = []  # blocks that are entered rarely stand behind all others
        self._memory = SpanMemory(self.text, self._cold)
        self._tracer = Tracer()
        self._state: _State
        self._spans: dict[Value, Span] = {}
        self._recipes = Recipes()
        self._arrivals: dict[tuple[Node, str], tuple[set[int], set[Node]]] = {}
        self._reads: list[_Read] = []
        self._written = sorted(graph.written, key=GPR32.index)
        self._most = graph.most
        self._work: list[tuple[Node, str, _State]] = []
        self._eip = 0  # of the instruction
        self._exit = ""  # the label of its way out
        self._guard: set[str] = set()  # parts whose flags the open guard tells by recipe
        self._guards: list[tuple[str, dict[str, str], Names]] = []  # open ones: label behind, scope and names before

    def write(self) -> str:
        """The definition of the function."""
        self._enter()
        for node in self.graph.nodes:
            if node.join:
                self._tree(node)
        self._leave()
        self._answer_reads()
        entry = self._variables()
        self.text.lines = [*entry, *self.text.lines, *self._cold]
        return define(self.name, self.text)

    # -- the frame -----------------------------------------------------------------------------------------------------

    def _variables(self) -> list[str]:
        """Local variables; LLVM wants them in the entry block."""
        kinds = dict.fromkeys((*GPR32, *WORDS, "c", "r", "eip"), "i32")
        kinds |= {f"{part}.{index}": "i32" for part, count in SLOTS.items() for index in range(count)}
        kinds |= {f"read.{read.number}": "i32" for read in self._reads}
        kinds |= {"left": "i64", "out": "i64"}
        return [f"  %l.{name} = alloca {kind}" for name, kind in kinds.items()]

    def _enter(self) -> None:
        text = self.text
        text.line(f"%pages = getelementptr i8, ptr %mem, i64 {PAGE_TABLE}")
        for name in GPR32:
            text.line(f"%p.{name} = getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")
            text.line(f"store i32 {text.fresh(f'load i32, ptr %p.{name}')}, ptr %l.{name}")
        for word in WORDS:
            text.line(f"store i32 %{word}, ptr %l.{word}")
        for part in PARTS:
            text.line(f"store i32 0, ptr %l.{part}")
            self._arrival(self.graph.nodes[0], part)[0].add(0)
        text.line(f"%p.eip = getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['eip']}")
        left = text.fresh(f"sub i64 %budget, {self._most}")
        text.line(f"store i64 {left}, ptr %l.left")
        short = text.new_label()
        text.branch(text.fresh(f"icmp slt i64 {left}, 0"), short, _label(self.graph.nodes[0]), UNLIKELY)
        text.label(short)
        dispatch(text, linked_record(text), "%budget", UNCHANGED)

    def _leave(self) -> None:
        """Where all ways out meet: `out_recipes` computes the flags' words, `out` goes on at %l.eip."""
        text = self.text
        lines, text.lines = text.lines, self._cold
        text.leave_scope({})
        text.label("out_recipes")
        for part, behind in (("c", "out_rest"), ("r", "out")):
            recipes = self._recipes.by_part[part]
            labels = [text.new_label() for _ in recipes]
            number = text.fresh(f"load i32, ptr %l.{part}")
            ways = list(zip(recipes, labels, strict=True))
            cases = _cases((recipe.number, label) for recipe, label in ways)
            text.line(f"switch i32 {number}, label %{behind} [ {cases} ]")
            for recipe, label in ways:
                text.leave_scope({})
                text.label(label)
                names = self._slots(part, recipe)
                for flag in PARTS[part]:
                    word = word_of_flag(text, flag, recipe.flags[flag], self._naming(names))
                    text.line(f"store i32 {word}, ptr %l.{FLAG_ARGUMENTS[flag]}")
                text.line(f"br label %{behind}")
            text.leave_scope({})
            text.label(behind)
        words = {word: text.fresh(f"load i32, ptr %l.{word}") for word in WORDS}
        budget = text.fresh(f"add i64 {text.fresh('load i64, ptr %l.out')}, {self._most}")
        eip = text.fresh("load i32, ptr %l.eip")
        root = _signed(self.graph.nodes[0].eip)
        text.branch(text.fresh(f"icmp eq i32 {eip}, {root}"), "out_cold", "out_far", UNLIKELY)
        text.label("out_cold")  # not through the cache, which leads back to here
        dispatch(text, linked_record(text), budget, words)
        text.label("out_far")
        jump_through_cache(text, eip, budget, words, "%p.eip")
        text.lines = lines

    def _slots(self, part: str, recipe: Recipe) -> Names:
        """The leaves of a recipe, out of its slots."""
        text, names = self.text, Names()
        for index, leaf in enumerate(recipe.leaves):
            name = text.fresh(f"load i32, ptr %l.{part}.{index}")
            if leaf.value.bits < 32:
                name = text.value(f"trunc i32 {name} to i{leaf.value.bits}")
            if leaf.offset:
                name = text.value(f"add i{leaf.value.bits} {name}, {leaf.offset}")
            names[leaf.value] = name
        return names

    # -- trees ---------------------------------------------------------------------------------------------------------

    def _tree(self, root: Node) -> None:
        text = self.text
        text.leave_scope({})
        text.label(_label(root))
        state = _State(root, text.fresh("load i64, ptr %l.left"), Tracer().known())
        self._node(root, state)
        while self._work:
            node, label, state = self._work.pop()
            text.leave_scope(state.scope)
            text.label(label)
            self._node(node, state)

    def _node(self, node: Node, state: _State) -> None:
        self._state = state
        tracer = self._tracer
        tracer.resume(state.known)
        for address, insn in node.insns:
            trace(tracer, insn, address)
        self._spans = spans(tracer.ops)
        state.done -= 1
        last = _last(tracer.ops, node.flow)
        for op in tracer.ops[:last]:
            self._one(op)
        state.done += 1
        self._settle()
        state.known = tracer.known()
        self._finish(node, tracer.ops[last:])

    def _finish(self, node: Node, tail: list[Value]) -> None:
        """Write where control goes; `tail` is the last instruction's jump."""
        if node.flow is Flow.BRANCH:
            condition = self._name(tail[0].args[0])
            taken, after = self.text.new_label(), self.text.new_label()
            weights = "" if isinstance(node.taken, Node) == isinstance(node.after, Node) else LIKELY
            if weights and not isinstance(node.taken, Node):
                weights = UNLIKELY
            self.text.branch(condition, taken, after, weights)
            scope, state = self.text.scope(), self._state
            for label, way in ((taken, node.taken), (after, node.after)):
                self._state = state.fork(state.known, scope)
                self._way(node, label, way)
        elif node.flow is Flow.COMPUTED:
            self._computed(node, tail[0].args[0])
        else:
            label = self.text.new_label()
            self.text.line(f"br label %{label}")
            self._state.scope = self.text.scope()
            self._way(node, label, node.after if node.flow is Flow.NEXT else node.taken)

    def _computed(self, node: Node, target: Value) -> None:
        name, text, state = self._name(target), self.text, self._state
        other = text.new_label()
        labels = {address: text.new_label() for address in node.cases}
        index = _table_index(target) if node.table else None
        if index is not None:
            self._by_number(node, name, self._name(index), labels, other)
        elif len(labels) == 1:
            address, label = next(iter(labels.items()))
            text.branch(text.value(f"icmp eq i32 {name}, {_signed(address)}"), label, other, LIKELY)
        else:
            text.line(f"switch i32 {name}, label %{other} [ {_cases(labels.items())} ]")
        scope = text.scope()
        for address, label in labels.items():
            self._state = state.fork(state.known, scope)
            self._way(node, label, node.cases[address])
        self._state = state.fork(state.known, scope)
        self._go_out(other, name)

    def _by_number(self, node: Node, name: str, index: str, labels: dict[int, str], other: str) -> None:
        """Choose by number in the table that the target was loaded from, then see whether it was the one expected."""
        text = self.text
        checks = {address: text.new_label() for address in labels}
        ways = [(number, checks[address]) for number, address in node.table]
        text.line(f"switch i32 {index}, label %{other} [ {_cases(ways)} ]")
        for address, label in labels.items():
            text.label(checks[address])
            text.branch(text.fresh(f"icmp eq i32 {name}, {_signed(address)}"), label, other, LIKELY)

    def _way(self, node: Node, label: str, way: Node | int) -> None:
        """Write the block `label`, a way out of `node` in the current state."""
        if not isinstance(way, Node):
            self._go_out(label, str(_signed(way)))
        elif not way.join:
            self._work.append((way, label, self._state))
        else:
            self._edge(label, way, retreating=way in node.retreating)

    def _edge(self, label: str, way: Node, *, retreating: bool) -> None:
        """Go to another tree: write what has changed into the local variables."""
        text, state = self.text, self._state
        text.leave_scope(state.scope)
        text.label(label)
        for name, value in state.registers.items():
            text.line(f"store i32 {self._name(value)}, ptr %l.{name}")
        for part in PARTS:
            self._tell_flags(part)
            numbers, trees = self._arrival(way, part)
            numbers.update(state.possible[part])
            if state.entry[part]:
                trees.add(state.tree)
        left = text.fresh(f"sub i64 {state.left}, {state.done}")
        text.line(f"store i64 {left}, ptr %l.left")
        if not retreating:
            text.line(f"br label %{_label(way)}")
            return
        short = text.new_label()
        text.branch(text.fresh(f"icmp slt i64 {left}, 0"), short, _label(way), UNLIKELY)
        lines, text.lines = text.lines, self._cold
        text.label(short)
        self._store_registers()
        text.line(f"store i64 {left}, ptr %l.out")
        text.line(f"store i32 {_signed(way.eip)}, ptr %l.eip")
        text.line("br label %out_recipes")
        text.lines = lines

    def _arrival(self, node: Node, part: str) -> tuple[set[int], set[Node]]:
        """The recipes with which a tree is entered, and the trees that pass theirs on to it."""
        return self._arrivals.setdefault((node, part), (set(), set()))

    # -- ways out ------------------------------------------------------------------------------------------------------

    def _store_registers(self) -> None:
        registers = self._state.registers
        for name in self._written:
            value = registers.get(name)
            word = self._name(value) if value is not None else self.text.fresh(f"load i32, ptr %l.{name}")
            self.text.line(f"store i32 {word}, ptr %p.{name}")

    def _go_out(self, label: str, eip: str) -> None:
        """Leave for an address (i32) after the last instruction."""
        text, state = self.text, self._state
        lines, text.lines = text.lines, self._cold
        text.leave_scope(state.scope)
        text.label(label)
        self._store_registers()
        text.line(f"store i32 {eip}, ptr %l.eip")
        text.line(f"store i64 {text.fresh(f'sub i64 {state.left}, {state.done}')}, ptr %l.out")
        if all(flag in state.flags for flag in PART_OF):
            for flag, value in state.flags.items():
                word = word_of_flag(text, flag, value, self._name)
                text.line(f"store i32 {word}, ptr %l.{FLAG_ARGUMENTS[flag]}")
            text.line("br label %out")
        else:
            for part in PARTS:
                self._tell_flags(part)
            text.line("br label %out_recipes")
        text.lines = lines

    def _way_out(self) -> str:
        """The label of a block that leaves before the current instruction."""
        if self._exit:
            return self._exit
        text, state = self.text, self._state
        for part in PARTS:
            self._recipe(part)  # what it needs is computed here, where it may be used again
        label = self._exit = text.new_label()
        lines, text.lines = text.lines, self._cold
        scope, names, possible, entry = text.scope(), state.names, state.possible, state.entry
        state.names, state.possible, state.entry = names.copy(), possible.copy(), entry.copy()
        text.label(label)
        self._store_registers()
        for part in PARTS:
            self._tell_flags(part)
        text.line(f"store i32 {_signed(self._eip)}, ptr %l.eip")
        text.line(f"store i64 {text.fresh(f'sub i64 {state.left}, {state.done}')}, ptr %l.out")
        text.line("br label %out_recipes")
        state.names, state.possible, state.entry = names, possible, entry
        text.leave_scope(scope)
        text.lines = lines
        return label

    # -- flags ---------------------------------------------------------------------------------------------------------

    def _recipe(self, part: str) -> Recipe | None:
        """The recipe for the flags of a part that `state.flags` has; None: none of them, or they have no recipe."""
        state = self._state
        if part in state.recipes:
            return state.recipes[part]
        flags = {flag: state.flags[flag] for flag in PARTS[part] if flag in state.flags}
        recipe = None
        if len(flags) == len(PARTS[part]):
            recipe = self._recipes.find(part, flags, state.names.__contains__, self._holder)
            if recipe is None:
                self._spell(part)
            else:
                for leaf in recipe.leaves:
                    self._name(leaf.held)
        state.recipes[part] = recipe
        return recipe

    def _holder(self, value: Value) -> tuple[Value, int]:
        """A register that holds `value` plus a constant, so that `value` itself need not be kept."""
        held = self._state.registers.values()
        if value in held:
            return value, 0
        for other in held:
            if other.op == "add" and other.args[0] is value and other.args[1].op == "const" and value.bits == 32:
                return other, -_signed(int(other.args[1].attr))
        return value, 0

    def _tell_flags(self, part: str) -> None:
        """Bring a part's recipe and slots up to date with `state.flags`."""
        recipe = self._recipe(part)
        if recipe is None:
            return
        text = self.text
        text.line(f"store i32 {recipe.number}, ptr %l.{part}")
        for index, leaf in enumerate(recipe.leaves):
            name = self._name(leaf.held)
            if leaf.held.bits < 32:
                name = text.value(f"zext i{leaf.held.bits} {name} to i32")
            text.line(f"store i32 {name}, ptr %l.{part}.{index}")
        self._state.possible[part] = frozenset((recipe.number,))
        self._state.entry[part] = False

    def _forget_flags(self, part: str) -> None:
        """The local variables tell the flags of a part from here on."""
        for flag in PARTS[part]:
            self._state.flags.pop(flag, None)
        self._state.recipes.pop(part, None)

    def _spell(self, part: str) -> None:
        """Compute the words of a part's flags: from here on they hold them."""
        text, state = self.text, self._state
        words = {}
        for flag in PARTS[part]:
            value = state.flags.get(flag)
            words[flag] = word_of_flag(text, flag, value, self._name) if value is not None else self._read_word(flag)
        for flag, word in words.items():
            text.line(f"store i32 {word}, ptr %l.{FLAG_ARGUMENTS[flag]}")
        text.line(f"store i32 0, ptr %l.{part}")
        state.possible[part], state.entry[part] = frozenset((0,)), False
        self._forget_flags(part)

    def _settle(self) -> None:
        """Between instructions: a part of which some flags were set, and others not, is spelt."""
        for part, flags in PARTS.items():
            known = sum(flag in self._state.flags for flag in flags)
            if 0 < known < len(flags):
                self._spell(part)

    def _read_word(self, flag: str) -> str:
        """The word (i32) of a flag that the local variables tell."""
        text, state = self.text, self._state
        part = PART_OF[flag]
        tree = state.tree if state.entry[part] else None
        read = _Read(len(self._reads), flag, tree, state.possible[part], text.new_label(), text.new_label())
        self._reads.append(read)
        text.line(f"br label %{read.label}")
        text.label(read.behind)
        return text.fresh(f"load i32, ptr %l.read.{read.number}")

    def _answer_reads(self) -> None:
        """Write the blocks that compute flags from recipes, now that it is known which ones come to them."""
        text = self.text
        lines, text.lines = text.lines, self._cold
        arriving = self._arriving()
        for read in self._reads:
            part = PART_OF[read.flag]
            numbers = set(read.possible) | (arriving[read.tree, part] if read.tree is not None else set())
            recipes = [recipe for recipe in self._recipes.by_part[part] if recipe.number in numbers]
            labels = {recipe.number: text.new_label() for recipe in recipes}
            text.leave_scope({})
            text.label(read.label)
            word = text.fresh(f"load i32, ptr %l.{FLAG_ARGUMENTS[read.flag]}")
            text.line(f"store i32 {word}, ptr %l.read.{read.number}")
            number = text.fresh(f"load i32, ptr %l.{part}")
            text.line(f"switch i32 {number}, label %{read.behind} [ {_cases(labels.items())} ]")
            for recipe in recipes:
                text.leave_scope({})
                text.label(labels[recipe.number])
                names = self._slots(part, recipe)
                word = word_of_flag(text, read.flag, recipe.flags[read.flag], self._naming(names))
                text.line(f"store i32 {word}, ptr %l.read.{read.number}")
                text.line(f"br label %{read.behind}")
        text.lines = lines

    def _arriving(self) -> dict[tuple[Node, str], set[int]]:
        """All recipes with which each tree may be entered."""
        found = {place: set(numbers) for place, (numbers, _) in self._arrivals.items()}
        changed = True
        while changed:
            changed = False
            for (node, part), (_, trees) in self._arrivals.items():
                for tree in trees:
                    more = found.get((tree, part), set()) - found[node, part]
                    changed = changed or bool(more)
                    found[node, part] |= more
        return found

    # -- operations ----------------------------------------------------------------------------------------------------

    def _name(self, value: Value) -> str:
        return self._named(self._state.names, value)

    def _naming(self, names: Names) -> Naming:
        return partial(self._named, names)

    def _named(self, names: Names, value: Value) -> str:
        """The LLVM name of a value, computed where it is first asked for."""
        if value.op == "const":
            return constant(value.attr, value.bits)
        name = names.get(value)
        if name is None:
            name = names[value] = integer_text(self.text, value, [self._named(names, arg) for arg in value.args])
        return name

    def _one(self, op: Value) -> None:
        match op.op:
            case "insn":
                self._settle()
                self._eip, self._exit = op.attr[1], ""
                self._state.done += 1
            case "get":
                self._get(op)
            case "set":
                self._set(op)
            case "load" | "store" | "probe":
                self._access(op)
            case "when":
                self._open(op)
            case "end":
                self._close()
            case "fault":
                self._fault(op)

    def _get(self, op: Value) -> None:
        name, text = op.attr, self.text
        if name in GENERAL:
            self._state.names[op] = text.fresh(f"load i32, ptr %l.{name}")
        elif name in FLAG_ARGUMENTS:
            value = self._state.flags.get(name)
            self._state.names[op] = (
                self._name(value) if value is not None else flag_of_word(text, name, self._read_word(name))
            )
        elif name in FLAG_BITS:
            self._state.names[op] = text.fresh(f"trunc i8 {text.fresh(f'load i8, ptr {self._field(name)}')} to i1")
        else:
            fixed = INVARIANT if name in _SEGMENT_FIELDS else ""  # no instruction of a region sets one
            self._state.names[op] = text.fresh(f"load i{REGISTERS[name]}, ptr {self._field(name)}{fixed}")

    def _field(self, name: str) -> str:
        return self.text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    def _set(self, op: Value) -> None:
        name, value, text = op.attr, op.args[0], self.text
        if name in GENERAL:
            word = self._name(value)
            if self._guards:
                text.line(f"store i32 {word}, ptr %l.{name}")
            else:
                self._state.registers[name] = value
        elif name in FLAG_ARGUMENTS:
            if self._guards and PART_OF[name] not in self._guard:
                text.line(f"store i32 {word_of_flag(text, name, value, self._name)}, ptr %l.{FLAG_ARGUMENTS[name]}")
            else:
                self._state.flags[name] = value
                self._state.recipes.pop(PART_OF[name], None)
        elif name in FLAG_BITS:
            text.line(f"store i8 {text.value(f'zext i1 {self._name(value)} to i8')}, ptr {self._field(name)}")
        else:
            text.line(f"store i{REGISTERS[name]} {self._name(value)}, ptr {self._field(name)}")

    def _fault(self, op: Value) -> None:
        fine = self.text.new_label()
        self.text.branch(self._name(op.args[0]), self._way_out(), fine, UNLIKELY)
        self.text.label(fine)

    def _access(self, op: Value) -> None:
        one, whole, state = access(op), self._spans[op], self._state
        found = next((entry for entry in state.checked if entry[0].covers(one)), None)
        if found is None:
            first = self._memory.first(whole, self._name)
            self._memory.check(whole, first, self._way_out(), single=one.low == whole.low and one.high == whole.high)
            found = (whole, first)
            if not self._guards:
                state.checked.append(found)
        at = one.low - found[0].low
        if op.op == "load":
            state.names[op] = self._memory.load_at(found[1], at, op.bits)
        elif op.op == "store":
            self._memory.store_at(found[1], at, op.args[1].bits, self._name(op.args[1]))

    # -- guards --------------------------------------------------------------------------------------------------------

    def _open(self, op: Value) -> None:
        """What the guard sets goes to the local variables: before it they get what they have to hold without it."""
        text, state = self.text, self._state
        condition = self._name(op.args[0])
        if not self._guards:
            self._prepare(_guarded(self._tracer.ops, op))
        inside, behind = text.new_label(), text.new_label()
        text.branch(condition, inside, behind)
        self._guards.append((behind, text.scope(), state.names))
        state.names = state.names.copy()
        text.label(inside)

    def _prepare(self, sets: set[str]) -> None:
        text, state = self.text, self._state
        for name in GPR32:
            if name in sets and name in state.registers:
                text.line(f"store i32 {self._name(state.registers.pop(name))}, ptr %l.{name}")
        for part, flags in PARTS.items():
            written = sets.intersection(flags)
            if len(written) == len(flags):
                self._tell_flags(part)
                self._forget_flags(part)
                self._guard.add(part)
            elif written:
                self._spell(part)

    def _close(self) -> None:
        text, state = self.text, self._state
        behind, scope, names = self._guards.pop()
        if not self._guards:
            for part in sorted(self._guard):
                possible, entry = state.possible[part], state.entry[part]
                self._tell_flags(part)
                state.possible[part], state.entry[part] = state.possible[part] | possible, entry
                self._forget_flags(part)
            self._guard.clear()
        text.line(f"br label %{behind}")
        text.label(behind)
        text.leave_scope(scope)
        state.names = names


def object_text(request: str) -> str:
    """The LLVM text of an object with the function `region` and the constant `covered`, for a `Request` as text.

    Raises ValueError where there is nothing to compile.
    """
    graph = Graph(Request.from_text(request))
    if not graph.nodes:
        raise ValueError("the instruction at the root has no place in a region")
    covered = graph.covered()
    table = _RUN.pack(len(covered), 0) + b"".join(_RUN.pack(address, len(code)) for address, code in covered)
    constant_ = "".join(f"\\{byte:02X}" for byte in table)
    data = f'@covered = hidden constant [{len(table)} x i8] c"{constant_}"'
    return module([leave_declarations(), data, RegionText(graph, "region").write()])


def read_covered(data: bytes) -> list[tuple[int, int]]:
    """The runs (address, bytes) of the constant `covered`, which `data` begins with."""
    count, _ = _RUN.unpack_from(data, 0)
    return [_RUN.unpack_from(data, _RUN.size * (index + 1)) for index in range(count)]


def _label(node: Node) -> str:
    return f"n{node.index}"


def _table_index(target: Value) -> Value | None:
    """The number of the word that an address was loaded from, where its table's address is known."""
    if target.op != "load" or target.args[0].op != "add":
        return None
    offset, table = target.args[0].args
    if table.op != "const" or offset.op != "shl" or offset.args[1].op != "const" or offset.args[1].attr != 2:
        return None
    return offset.args[0]


def _cases(ways: Iterable[tuple[int, str]]) -> str:
    return " ".join(f"i32 {_signed(number)}, label %{label}" for number, label in ways)


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _last(ops: Sequence[Value], flow: Flow) -> int:
    """Where in a node's operations those begin that say where control goes."""
    return len(ops) - {Flow.BRANCH: 3, Flow.JUMP: 1, Flow.COMPUTED: 1}.get(flow, 0)


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


__all__ = ["RegionText", "object_text", "read_covered"]

"""The LLVM text of a region: one function of `layout.SIGNATURE`.

Each join of the graph begins a *tree*: the nodes that have one way in hang on it. Inside a tree every value is in
static single assignment form as it is traced, over all its nodes; between trees the general registers, the budget and
the flags' recipes (`regionwords`) are local variables (`alloca`), which LLVM makes values of. What always holds:

- Local variables hold the state at the tree's beginning, until an edge to another tree writes what has changed.
- `%left` is the budget less the longest way to the next look at it, less what completed nodes of earlier trees took; it
  is looked at where the region is entered and on retreating edges. An exit adds up exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiopyvm.engine.native.calls import UNCHANGED, count_hot, define, dispatch, linked_record
from aiopyvm.engine.native.layout import CHECKED, CPU_OFFSETS, PAGE_TABLE
from aiopyvm.engine.native.llvmtext import LIKELY, UNLIKELY, module
from aiopyvm.engine.native.lower import VECTOR_SIZE
from aiopyvm.engine.native.lower_simd import masks
from aiopyvm.engine.native.regiondraft import Draft, State, cases, label_of, signed
from aiopyvm.engine.native.regionexits import Exits
from aiopyvm.engine.native.regionfile import table_of
from aiopyvm.engine.native.regionfloat import Floats
from aiopyvm.engine.native.regionnodes import Flow, Node
from aiopyvm.engine.native.regionops import Operations
from aiopyvm.engine.native.regionplan import Request, is_x87
from aiopyvm.engine.native.regions import Graph, repeated
from aiopyvm.engine.native.regionwords import FlagWords
from aiopyvm.engine.native.regionx87 import begun_with, forget
from aiopyvm.engine.native.runtime_ir import leave_declarations
from aiopyvm.ir.builder import Known, Value
from aiopyvm.isa.state import GPR32, MXCSR_MASKS
from aiopyvm.isa.trace import Tracer, trace


class RegionText:
    """Writes the function `name` for a graph; `memory`: the form of its accesses."""

    def __init__(self, graph: Graph, name: str, memory: str = CHECKED) -> None:
        self.graph = graph
        self.name = name
        self._draft = Draft(graph)
        self._text = self._draft.text
        self._flags = FlagWords(self._draft)
        self._exits = Exits(self._draft, self._flags)
        if graph.x87 is not None and graph.nodes[0].stack is not None:
            self._draft.floats = Floats(self._draft, graph.x87, graph.nodes[0].stack)
        self._operations = Operations(self._draft, self._flags, self._exits, memory)
        self._tracer = Tracer()
        self._work: list[tuple[Node, str, State]] = []
        self._traced: dict[Node, tuple[list[Value], Known]] = {}

    def write(self) -> str:
        """The definition of the function."""
        self._enter()
        for node in self.graph.nodes:
            if node.join:
                self._tree(node)
        self._exits.meet()
        self._flags.answer_reads()
        self._text.lines = [*self._variables(), *self._text.lines, *self._draft.cold]
        return define(self.name, self._text)

    def _variables(self) -> list[str]:
        """Local variables; LLVM wants them in the entry block."""
        kinds = dict.fromkeys((*GPR32, *self._flags.variables(), "eip"), "i32") | {"left": "i64", "out": "i64"}
        kinds |= {f"v{number}": kind for number, kind in self._draft.vector_variables()}
        if self._draft.floats is not None:
            kinds |= self._draft.floats.variables()
        return [f"  %l.{name} = alloca {kind}" for name, kind in kinds.items()]

    def _enter(self) -> None:
        text = self._text
        text.line(f"%pages = getelementptr i8, ptr %mem, i64 {PAGE_TABLE}")
        for name in GPR32:
            text.line(f"%p.{name} = getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")
            text.line(f"store i32 {text.fresh(f'load i32, ptr %p.{name}')}, ptr %l.{name}")
        for number, kind in self._draft.vector_variables():
            text.line(f"%p.v{number} = getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['ymm'] + VECTOR_SIZE * number}")
            text.line(f"store {kind} {text.fresh(f'load {kind}, ptr %p.v{number}, align 8')}, ptr %l.v{number}")
        self._flags.enter(self.graph.nodes[0])
        text.line(f"%p.eip = getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['eip']}")
        left = text.fresh(f"sub i64 %budget, {self._draft.most}")
        text.line(f"store i64 {left}, ptr %l.left")
        short, enough = text.new_label(), text.new_label()
        refused = text.fresh(f"icmp slt i64 {left}, 0")
        if self._draft.floats is not None:
            refused = text.fresh(f"or i1 {refused}, {text.fresh(f'xor i1 {self._draft.floats.enters()}, true')}")
        if self.graph.raises:
            unmasked = text.fresh(f"icmp ne i32 {masks(text)}, {MXCSR_MASKS}")
            refused = text.fresh(f"or i1 {refused}, {unmasked}")
        text.branch(refused, short, enough, UNLIKELY)
        text.label(short)
        dispatch(text, linked_record(text), "%budget", UNCHANGED)
        text.label(enough)
        count_hot(text, "%budget", "add")
        if self._draft.floats is not None:
            self._draft.floats.enter()
        text.line(f"br label %{label_of(self.graph.nodes[0])}")

    # -- trees ---------------------------------------------------------------------------------------------------------

    def _tree(self, root: Node) -> None:
        text = self._text
        text.leave_scope({})
        text.label(label_of(root))
        self._node(root, State(root, text.fresh("load i64, ptr %l.left"), begun_with(Tracer(), root.stack)))
        while self._work:
            node, label, state = self._work.pop()
            if label:  # else it goes on in the same block
                text.leave_scope(state.scope)
                text.label(label)
            self._node(node, state)

    def _node(self, node: Node, state: State) -> None:
        self._draft.state = state
        if node not in self._traced:
            self._trace(node, state.known)
        ops, state.known = self._traced.pop(node)
        if node.flow is Flow.REPEAT:
            self._repeat(node, ops)
            return
        last = _last(ops, node.flow)
        self._operations.write(ops, last)
        self._finish(node, ops[last:])

    def _repeat(self, node: Node, ops: Sequence[Value]) -> None:
        """Write a repeated instruction: one pass, and the branch to itself."""
        found = repeated(ops)
        assert found is not None
        body, outer, inner = found
        self._operations.write(body, len(body), short=True)
        again = self._text.value(f"and i1 {self._draft.name(outer)}, {self._draft.name(inner)}")
        self._branch(node, again)

    def _trace(self, node: Node, known: Known) -> None:
        """Trace a node, and with it all copies of a loop, which are reached through it alone."""
        tracer = self._tracer
        copy: Node | None = node
        found: list[Value] = []
        while copy is not None:
            tracer.resume(known)
            for address, insn in copy.insns:
                if self._draft.floats is not None and is_x87(insn.code):
                    forget(tracer, insn)
                trace(tracer, insn, address)
            known = tracer.known()
            self._traced[copy] = tracer.ops, known
            found += tracer.ops
            copy = copy.again
        self._operations.expect(found)

    def _finish(self, node: Node, tail: list[Value]) -> None:
        """Write where control goes; `tail` is the last instruction's jump."""
        text, state = self._text, self._draft.state
        if node.flow is Flow.BRANCH:
            self._branch(node, self._draft.name(tail[0].args[0]))
        elif node.flow is Flow.COMPUTED:
            self._computed(node, tail[0].args[0])
        elif isinstance(way := node.after if node.flow is Flow.NEXT else node.taken, Node) and not way.join:
            self._work.append((way, "", state))  # LLVM moves nothing over two blocks to where it is asked for
        else:
            label = text.new_label()
            text.line(f"br label %{label}")
            state.scope = text.scope()
            self._way(node, label, way)

    def _branch(self, node: Node, condition: str) -> None:
        text, state = self._text, self._draft.state
        taken, after = text.new_label(), text.new_label()
        weights = "" if isinstance(node.taken, Node) == isinstance(node.after, Node) else LIKELY
        if weights and not isinstance(node.taken, Node):
            weights = UNLIKELY
        text.branch(condition, taken, after, weights)
        scope = text.scope()
        for label, way in ((taken, node.taken), (after, node.after)):
            self._draft.state = state.fork(state.known, scope)
            self._way(node, label, way)

    def _computed(self, node: Node, target: Value) -> None:
        name, text, state = self._draft.name(target), self._text, self._draft.state
        other = text.new_label()
        labels = {address: text.new_label() for address in node.cases}
        index = _table_index(target) if node.table else None
        if index is not None:
            self._by_number(node, name, self._draft.name(index), labels, other)
        elif len(labels) == 1:
            address, label = next(iter(labels.items()))
            text.branch(text.value(f"icmp eq i32 {name}, {signed(address)}"), label, other, LIKELY)
        else:
            text.line(f"switch i32 {name}, label %{other} [ {cases(labels.items())} ]")
        scope = text.scope()
        for address, label in labels.items():
            self._draft.state = state.fork(state.known, scope)
            self._way(node, label, node.cases[address])
        self._draft.state = state.fork(state.known, scope)
        self._exits.behind(other, name)

    def _by_number(self, node: Node, name: str, index: str, labels: dict[int, str], other: str) -> None:
        """Choose by number in the table that the target was loaded from, then see whether it was the one expected."""
        text = self._text
        checks = {address: text.new_label() for address in labels}
        ways = [(number, checks[address]) for number, address in node.table]
        text.line(f"switch i32 {index}, label %{other} [ {cases(ways)} ]")
        for address, label in labels.items():
            text.label(checks[address])
            text.branch(text.fresh(f"icmp eq i32 {name}, {signed(address)}"), label, other, LIKELY)

    def _way(self, node: Node, label: str, way: Node | int) -> None:
        """Write the block `label`, a way out of `node` in the current state."""
        if not isinstance(way, Node):
            self._exits.behind(label, str(signed(way)))
        elif not way.join:
            self._work.append((way, label, self._draft.state))
        else:
            self._edge(label, way, retreating=way in node.retreating)

    def _edge(self, label: str, way: Node, *, retreating: bool) -> None:
        """Go to another tree: write what has changed into the local variables."""
        text, state = self._text, self._draft.state
        text.leave_scope(state.scope)
        text.label(label)
        for name, value in state.registers.items():
            text.line(f"store i32 {self._draft.name(value)}, ptr %l.{name}")
        self._flags.arrive(way)
        if self._draft.floats is not None:
            self._draft.floats.arrive()
        left = text.fresh(f"sub i64 {state.left}, {state.done}")
        text.line(f"store i64 {left}, ptr %l.left")
        if not retreating:
            text.line(f"br label %{label_of(way)}")
            return
        short = text.new_label()
        text.branch(text.fresh(f"icmp slt i64 {left}, 0"), short, label_of(way), UNLIKELY)
        self._exits.spent(short, way.eip, left)


def object_text(request: str) -> str:
    """The LLVM text of an object with the function `region` and the constant `covered`, for a `Request` as text.

    Raises ValueError where there is nothing to compile.
    """
    wanted = Request.from_text(request)
    graph = Graph(wanted)
    if not graph.nodes:
        raise ValueError("the instruction at the root has no place in a region")
    table = table_of(graph.covered())
    constant = "".join(f"\\{byte:02X}" for byte in table)
    data = f'@covered = hidden constant [{len(table)} x i8] c"{constant}"'
    return module([leave_declarations(), data, RegionText(graph, "region", wanted.memory).write()])


def _table_index(target: Value) -> Value | None:
    """The number of the word that an address was loaded from, where its table's address is known."""
    if target.op != "load" or target.args[0].op != "add":
        return None
    offset, table = target.args[0].args
    if table.op != "const" or offset.op != "shl" or offset.args[1].op != "const" or offset.args[1].attr != 2:
        return None
    return offset.args[0]


def _last(ops: Sequence[Value], flow: Flow) -> int:
    """Where in a node's operations those begin that say where control goes."""
    return len(ops) - {Flow.BRANCH: 3, Flow.JUMP: 1, Flow.COMPUTED: 1}.get(flow, 0)


__all__ = ["RegionText", "object_text"]

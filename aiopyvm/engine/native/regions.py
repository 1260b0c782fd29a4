"""Finding a region: the code around a hot address that is compiled as one function.

A region is a graph of *nodes*, straight runs of instructions, that begins at its root and holds what was executed near
it. A node belongs to a *context*: the calls between the root and it, so that a short function is compiled once for each
place that calls it, and its return is one comparison. What is not followed is a way out, an address.

What always holds: every cycle has a retreating edge, the only place where a budget has to be looked at; a node that is
no join has one way in, and may use whatever was computed on it.

Everything here is a function of plain data (`Request`), so that it can be done by another process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.native.lower_host import is_host
from aiopyvm.engine.native.regionloops import repeat_loops, straighten
from aiopyvm.engine.native.regionnodes import Context, Flow, Node
from aiopyvm.engine.native.regionplan import Blocks, Request, Stack, Table, is_x87
from aiopyvm.engine.native.regionx87 import FIELDS, Use, begun_with, use
from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import FLOAT_OPS, LANE_OPS, SIMD_OPS
from aiopyvm.ir.pure import PURE
from aiopyvm.ir.registers import FLAGS, GENERAL, REGISTERS, VECTORS
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn, Memory
from aiopyvm.isa.state import MODE_REGISTERS, SEGMENTS
from aiopyvm.isa.trace import Tracer, trace

MOST_CALLS: Final = 4  # that a context has
_PLAIN: Final = frozenset(
    {*PURE, *LANE_OPS, *SIMD_OPS, "raise", "const", "get", "set", "load", "store", "probe", "fault", "insn", "when",
     "end", "jump"}
)  # fmt: skip
_KEYED: Final = MODE_REGISTERS | frozenset(SEGMENTS)
_WIDTHS: Final = frozenset((8, 16, 32, 64, 128, 256))  # bits of an access
_PLAIN_X87: Final = frozenset({*FLOAT_OPS, "fexc", "getfp", "setfp", "helper"})
_WIDTHS_X87: Final = _WIDTHS | {80}


@dataclass(frozen=True, slots=True)
class Nature:
    """What a region has to know of an instruction, wherever it stands."""

    flow: Flow
    registers: frozenset[str]  # general registers that it sets
    vectors: frozenset[str]  # vector registers that it uses
    x87: Use | None = None
    raises: bool = False  # SIMD exceptions


class Code(Blocks):
    """The bytes of a request, by address, and their instructions."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.blocks)
        self._allowed = request.allowed

    def insn(self, address: int) -> Insn | None:
        """The instruction at `address`, if all of it is there."""
        index = bisect_right(self.starts, address) - 1
        if index < 0:
            return None
        offset = address - self.starts[index]
        code = self.runs[index][offset : offset + MAX_LENGTH]
        if not code:
            return None
        try:
            return decode(code, False, self._allowed)
        except (DecodeFault, NeedMore):
            return None


def nature(ops: Sequence[Value], x87: Use | None = None) -> Nature:
    """What a traced instruction is to a region; `x87`: what it does to the stack, where it is one of the x87."""
    registers = frozenset(op.attr for op in ops if op.op == "set" and op.attr in GENERAL)
    vectors = frozenset(op.attr for op in ops if op.op in ("get", "set") and op.attr in VECTORS)
    if any(op.op in SIMD_OPS for op in ops):
        plain = all(map(_is_plain, ops)) and _faults_first(ops) and not _sets_flags_deep(ops)
        return Nature(Flow.NEXT if plain else Flow.OUT, registers, vectors, raises=True)
    if x87 is not None:
        plain = all(map(_is_plain_x87, ops)) and _faults_first(ops)
        return Nature(Flow.NEXT if plain else Flow.OUT, registers, vectors, x87)
    if not all(map(_is_plain, ops)) or not _faults_first(ops) or _sets_flags_deep(ops):
        return Nature(Flow.OUT, registers, vectors)
    jumps = [op for op in ops if op.op == "jump"]
    if not jumps:
        return Nature(Flow.NEXT, registers, vectors)
    target = jumps[-1].args[0]
    if len(jumps) == 1 and ops[-1] is jumps[0]:
        return Nature(Flow.JUMP if target.op == "const" else Flow.COMPUTED, registers, vectors)
    tail = [op.op for op in ops[-3:]]
    if len(jumps) == 1 and tail == ["when", "jump", "end"] and target.op == "const" and _depth(ops[:-3]) == 0:
        return Nature(Flow.BRANCH, registers, vectors)
    return Nature(Flow.REPEAT if repeated(ops) is not None else Flow.OUT, registers, vectors)


def repeated(ops: Sequence[Value]) -> tuple[list[Value], Value, Value] | None:
    """What a repeated instruction's trace does, and the two conditions under which the instruction follows itself; None
    where it is none, or the conditions depend on what it does.
    """
    ends = [op for op in ops if op.op != "const"][-4:]
    whens = [op for op in ops if op.op == "when"]
    if [op.op for op in ends] != ["when", "jump", "end", "end"] or len(whens) != 2:
        return None
    outer, inner = whens
    begin, address = ops.index(outer), next(op.attr[1] for op in ops if op.op == "insn")
    before = set(ops[:begin])
    if ends[1].args[0].attr != address or not all(_known_before(when.args[0], before) for when in whens):
        return None
    return [*ops[: ops.index(inner)], ops[-1]], outer.args[0], inner.args[0]


def _known_before(value: Value, before: set[Value]) -> bool:
    """Tell whether a value can be computed from operations of `before`."""
    return (
        value in before
        or value.op == "const"
        or (value.op in PURE and all(_known_before(arg, before) for arg in value.args))
    )


def _depth(ops: Sequence[Value]) -> int:
    return sum({"when": 1, "end": -1}.get(op.op, 0) for op in ops)


def _sets_flags_deep(ops: Sequence[Value]) -> bool:
    """Tell whether a flag is set in a guard inside a guard."""
    depth = 0
    for op in ops:
        depth += {"when": 1, "end": -1}.get(op.op, 0)
        if depth > 1 and op.op == "set" and op.attr in FLAGS:
            return True
    return False


def _is_plain(op: Value) -> bool:
    if op.op in ("get", "set") and op.attr in FIELDS:
        return False
    if op.op == "set":
        return op.attr not in _KEYED
    if op.op == "load":
        return op.bits in _WIDTHS
    if op.op == "store":
        return op.args[1].bits in _WIDTHS
    return op.op in _PLAIN or is_host(op)


def _is_plain_x87(op: Value) -> bool:
    if op.op == "set":
        return op.attr == "fcw" or op.attr not in _KEYED
    if op.op in ("load", "store"):
        return (op if op.op == "load" else op.args[1]).bits in _WIDTHS_X87
    return op.op in _PLAIN or op.op in _PLAIN_X87


def _faults_first(ops: Sequence[Value]) -> bool:
    """Tell whether nothing may fault behind an effect: a way out finds the instruction not begun, or, a restartable
    one, with vector registers that it goes on from.
    """
    effects = restartable = False
    probed: dict[Value, int] = {}
    for op in ops:
        if op.op == "insn":
            restartable = op.attr[0].row.restartable
        elif op.op == "set":
            effects = effects or not (restartable and op.attr in VECTORS)
        elif op.op in ("load", "store"):
            size = (op if op.op == "load" else op.args[1]).bits // 8
            if effects and probed.get(op.args[0], 0) < size:
                return False
            effects = effects or op.op == "store"
        elif op.op == "probe":
            if effects:
                return False
            probed[op.args[0]] = max(op.attr[0] if op.attr[1] else 0, probed.get(op.args[0], 0))
        elif op.op == "fault" and effects:
            return False
    return True


class Graph:
    """The region of a request. `nodes[0]` is its root; there is none where the root cannot be compiled."""

    def __init__(self, request: Request) -> None:
        self.code = Code(request)
        self.nodes: list[Node] = []
        self.length = 0  # instructions
        self._starts = {address for address, _ in request.blocks}
        self._tables, self._jumps = dict(request.tables), dict(request.jumps)
        self._limit = request.limit
        self._by_place: dict[tuple[Context, int, Stack | None], Node] = {}
        self._queue: deque[Node] = deque()
        self._natures: dict[tuple[bytes, Stack | None], Nature] = {}
        self._recursive: dict[tuple[int, Stack | None], Node] = {}  # where calls of the root by itself return to
        self._returns: list[Node] = []  # returns from the root's own context
        self._grow(request.root, request.stack)
        straighten(self.nodes)
        repeat_loops(self.nodes, self._has_vectors)
        self._mark_joins()
        self._mark_retreating()
        self._measure()

    @property
    def most(self) -> int:
        """The longest way between two looks at the budget, in instructions."""
        heads = {node for other in self.nodes for node in other.retreating}
        return max(node.longest for node in {self.nodes[0], *heads})

    @property
    def written(self) -> frozenset[str]:
        """The general registers that the region sets."""
        return frozenset().union(*(kind.registers for kind in self._all()))

    @property
    def x87(self) -> tuple[frozenset[int], frozenset[int]] | None:
        """The x87 registers that the region reads or sets, and those that it sets; None: it has no x87 instruction."""
        uses = [kind.x87 for kind in self._all() if kind.x87 is not None]
        if not uses:
            return None
        written = frozenset().union(*(one.written for one in uses))
        return written.union(*(one.read for one in uses)), written

    @property
    def raises(self) -> bool:
        """Whether the region has instructions that raise SIMD exceptions."""
        return any(kind.raises for kind in self._all())

    def _all(self) -> Iterator[Nature]:
        for node in self.nodes:
            stack = node.stack
            for _, insn in node.insns:
                yield (kind := self._nature(insn, stack))
                stack = kind.x87.after if kind.x87 is not None else stack

    @property
    def vectors(self) -> dict[int, int]:
        """The vector registers that the region uses, by number: how many of their bits."""
        names = frozenset().union(*(kind.vectors for kind in self._all()))
        used: dict[int, int] = {}
        for name in sorted(names):  # YMM after XMM
            used[int(name[-1])] = REGISTERS[name]
        return used

    def covered(self) -> list[tuple[int, bytes]]:
        """The code that the region was made from, in runs, by address."""
        found = {address: insn.code for node in self.nodes for address, insn in node.insns}
        runs: list[tuple[int, bytes]] = []
        for address, code in sorted(found.items()):
            if runs and runs[-1][0] + len(runs[-1][1]) == address:
                runs[-1] = (runs[-1][0], runs[-1][1] + code)
            else:
                runs.append((address, code))
        return runs

    # -- growing -------------------------------------------------------------------------------------------------------

    def _nature(self, insn: Insn, stack: Stack | None) -> Nature:
        stack = stack if is_x87(insn.code) else None
        known = self._natures.get((insn.code, stack))
        if known is None:
            tracer = Tracer()
            if stack is not None:
                tracer.resume(begun_with(tracer, stack))
            trace(tracer, insn, 0)
            ops = tracer.ops
            known = self._natures[insn.code, stack] = nature(ops, use(insn, ops, tracer) if stack is not None else None)
        return known

    def _has_vectors(self, node: Node) -> bool:
        return any(self._nature(insn, node.stack).vectors for _, insn in node.insns)

    def _grow(self, root: int, stack: Stack | None) -> None:
        self._node((), root, stack)
        while self._queue:
            node = self._queue.popleft()
            self._fill(node)
        for node in self._returns:
            ways = self._recursive.items()
            node.cases.update({address: back for (address, stack), back in ways if stack == node.stack_after})

    def _node(self, context: Context, address: int, stack: Stack | None) -> Node | int:
        """The node at `address`, a new one where there is room for it; else the address."""
        known = self._by_place.get((context, address, stack))
        if known is not None:
            return known
        insn = self.code.insn(address) if self.length < self._limit else None
        if insn is None or self._nature(insn, stack).flow is Flow.OUT:
            return address
        node = Node(context, address, len(self.nodes), stack, stack)
        self.nodes.append(node)
        self._by_place[context, address, stack] = node
        self._queue.append(node)
        self._read(node, insn)
        return node

    def _read(self, node: Node, insn: Insn | None) -> None:
        """Read the node's instructions, up to where control may part or meet."""
        address = node.eip
        while insn is not None and (kind := self._nature(insn, node.stack_after)).flow is not Flow.OUT:
            if kind.flow is Flow.REPEAT and node.insns:
                return  # it is a node of its own
            node.insns.append((address, insn))
            node.stack_after = kind.x87.after if kind.x87 is not None else node.stack_after
            self.length += 1
            address = (address + insn.length) & 0xFFFFFFFF
            node.flow = kind.flow
            if kind.flow is not Flow.NEXT or address in self._starts:
                return
            insn = self.code.insn(address)

    def _fill(self, node: Node) -> None:
        """Find where the node goes."""
        address, insn = node.insns[-1]
        behind = (address + insn.length) & 0xFFFFFFFF
        if node.flow is Flow.NEXT:
            node.after = self._next(node, behind)
        elif node.flow is Flow.REPEAT:
            node.after, node.taken = self._next(node, behind), node
        elif node.flow is Flow.COMPUTED:
            self._fill_computed(node, insn, behind)
        else:
            target = self._target(insn, address)
            if node.flow is Flow.BRANCH:
                node.after = self._next(node, behind)
                node.taken = self._next(node, target)
            elif insn.row.name == "call":
                node.taken = self._call(node, target, behind)
            else:
                node.taken = self._next(node, target)

    def _next(self, node: Node, address: int) -> Node | int:
        """The node at `address` in the same context."""
        return self._node(node.context, address, node.stack_after)

    def _target(self, insn: Insn, address: int) -> int:
        tracer = Tracer()
        trace(tracer, insn, address)
        return int(next(op for op in reversed(tracer.ops) if op.op == "jump").args[0].attr)

    def _call(self, node: Node, target: int, behind: int) -> Node | int:
        context, stack = node.context, node.stack_after
        root = self.nodes[0]
        if target == root.eip and stack == root.stack:
            back = self._node(context, behind, stack)
            if isinstance(back, Node) and self._recursive.setdefault((behind, stack), back) is back:
                return root
            return target
        if len(context) >= MOST_CALLS or any(function == target for _, function in context):
            return target
        return self._node((*context, (behind, target)), target, stack)

    def _fill_computed(self, node: Node, insn: Insn, behind: int) -> None:
        if insn.row.name == "ret":
            if not node.context:
                self._returns.append(node)
                return
            caller = node.context[-1][0]
            back = self._node(node.context[:-1], caller, node.stack_after)
            if isinstance(back, Node):
                node.cases[caller] = back
            return
        for _, target in self._jumps.get(behind - len(insn.code), ()):
            case = self._next(node, target)
            if isinstance(case, Node):
                node.cases[target] = case
        for operand in insn.operands:
            if isinstance(operand, Memory):
                for number, target in self._words(operand):
                    call = insn.row.name == "call"
                    case = self._call(node, target, behind) if call else self._next(node, target)
                    if isinstance(case, Node):
                        node.cases[target] = case
                        node.table.append((number, target))

    def _words(self, operand: Memory) -> Table:
        """What is known of the words that a jump or call to what memory holds may find: number, target."""
        table = self._tables.get(operand.displacement, ())
        return table if operand.index >= 0 else tuple(word for word in table if word[0] == 0)

    # -- what holds of the whole ---------------------------------------------------------------------------------------

    def _mark_joins(self) -> None:
        for node in self.nodes:
            for successor in node.successors():
                successor.entered += 1
        for node in self.nodes:
            node.join = node.entered != 1 or node.index == 0

    def _mark_retreating(self) -> None:
        """Depth first from the root; an edge to a node that is on the way closes a cycle. `self._order`: postorder."""
        self._order: list[Node] = []
        state: dict[Node, int] = {}  # 1: on the way, 2: left
        stack: list[tuple[Node, Iterator[Node]]] = []

        def enter(node: Node) -> None:
            state[node] = 1
            stack.append((node, node.successors()))

        if self.nodes:
            enter(self.nodes[0])
        while stack:
            node, ways = stack[-1]
            way = next(ways, None)
            if way is None:
                stack.pop()
                state[node] = 2
                self._order.append(node)
            elif state.get(way) == 1:
                node.retreating.add(way)
                way.join = True
            elif way not in state:
                enter(way)
        reached = set(self._order)
        self.nodes = [node for node in self.nodes if node in reached]

    def _measure(self) -> None:
        for node in self._order:
            ways = [way.longest for way in node.successors() if way not in node.retreating]
            node.longest = len(node.insns) + max(ways, default=0)


__all__ = ["Graph", "nature", "repeated"]

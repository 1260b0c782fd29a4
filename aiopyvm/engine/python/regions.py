"""Warm code: a region of blocks as one Python function, registers in locals.

A region is a set of *chains*. A chain starts at a head and follows the likelier successor of each block, over
branches, calls and predicted returns, as one trace of IR; every other way out is an edge: to another chain's head
(`pc=k`), or out of the region. The function dispatches on `pc`; a chain that comes back to its own head loops in
place. The budget `n` is checked at each chain's head for the whole chain, so that an exit falls on the exact
instruction: too little left, and the cold tier goes on one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Final

from aiopyvm.engine.python.blocks import Block
from aiopyvm.engine.python.flagstate import Thunks
from aiopyvm.engine.python.lowering import Lowering
from aiopyvm.engine.python.shapes import base_scope
from aiopyvm.engine.python.values import FlagsAt, Site
from aiopyvm.ir.builder import Value
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.state import GPR32
from aiopyvm.isa.trace import Tracer, trace

MAX_CHAIN: Final = 48  # instructions
SHORT_CHAIN: Final = 16
FIRST_REGION: Final = 96  # instructions after which a region around one block takes no more chains
MERGED_REGION: Final = 256  # the same for a region made of several; making it holds up the event loop
MAX_OPERATIONS: Final = 4000  # of a region: what compiling takes grows with them
_REGISTERS: Final = ",".join(GPR32)


@dataclass(slots=True)
class Region:
    """A compiled region. `make(M1, M2, M4, RD, WR, ld, st, pr)` gives `region(R, cpu, n, pc) -> (eip, n)`.

    `heads` maps addresses to entries `pc`; `covered` are the (address, bytes) that it was made from; `sites` tells, by
    line, what to restore after an exception.
    """

    make: Callable[..., Callable[..., tuple[int, int]]]
    heads: dict[int, int]
    covered: tuple[tuple[int, bytes], ...]
    sites: dict[int, Site]
    scope: dict[str, Any]
    function_code: CodeType
    length: int  # instructions

    def recompute(self, flags: FlagsAt, values: dict[str, Any]) -> int:
        """The flags that were set since the thunk in the locals `values` was made."""
        leaves: list[Any] = [values[text] if text in values else int(text, 0) for text in flags.leaves]
        if len(leaves) > 3:
            leaves[2:] = [tuple(leaves[2:])]
        leaves += [None] * (3 - len(leaves))
        return flags.thunk(*leaves)


@dataclass(slots=True)
class _Chain:
    """One chain: its operations, where it goes at the end (None: an indirect jump, or a jump written already), its
    length.
    """

    head: int
    ops: list[Value] = field(default_factory=list)
    length: int = 0
    predictions: dict[Value, int] = field(default_factory=dict)  # return jumps -> where the chain goes on
    followed: dict[Value, int] = field(default_factory=dict)  # jumps of which the chain is the continuation
    inverted: set[Value] = field(default_factory=set)  # guards whose taken side is the continuation
    next: int | None = None
    blocks: list[Block] = field(default_factory=list)


class ChainBuilder:
    """Traces one chain from a head, choosing successors by how often their blocks ran."""

    def __init__(self, blocks: Callable[[int], Block | None], seeds: list[int]) -> None:
        self._block = blocks
        self._seeds = set(seeds)  # chains of their own: only short ones are repeated in others

    def build(self, head: int) -> _Chain:
        """The chain from `head`, whose block exists."""
        chain = _Chain(head)
        tracer = Tracer()
        chain.ops = tracer.ops
        calls: list[int] = []
        address: int | None = head
        seen: set[int] = set()
        while address is not None:
            block = self._block(address)
            full = block is None or chain.length + len(block.insns) > MAX_CHAIN
            joins = address in self._seeds and chain.length >= SHORT_CHAIN
            if block is None or (chain.length and (full or joins or address == head or address in seen)):
                chain.next = address
                break
            seen.add(address)
            chain.blocks.append(block)
            address = self._trace_block(chain, tracer, block, calls)
        return chain

    def _trace_block(self, chain: _Chain, tracer: Tracer, block: Block, calls: list[int]) -> int | None:
        start = len(tracer.ops)
        for at, insn in block.insns:
            start = len(tracer.ops)
            trace(tracer, insn, at)
            chain.length += 1
        at, insn = block.insns[-1]
        return self._successor(chain, tracer.ops[start:], at, insn, calls)

    def _successor(self, chain: _Chain, ops: list[Value], at: int, insn: Insn, calls: list[int]) -> int | None:
        """Where the chain goes on after a block's last instruction."""
        behind = (at + insn.length) & 0xFFFFFFFF
        jumps = [op for op in ops if op.op == "jump"]
        if not jumps:
            return behind
        last = ops[-1]
        if last.op == "jump":
            if last.args[0].op == "const":
                if insn.row.name == "call":
                    calls.append(behind)
                chain.followed[last] = int(last.args[0].attr)
                return chain.followed[last]
            if insn.row.name == "ret" and calls:
                chain.predictions[last] = calls.pop()
                return chain.predictions[last]
            return None
        if len(jumps) == 1 and [op.op for op in ops[-3:]] == ["when", "jump", "end"] and jumps[0].args[0].op == "const":
            target = int(jumps[0].args[0].attr)
            if self._likelier(target, behind):
                chain.inverted.add(ops[-3])
                chain.followed[jumps[0]] = target
                return target
        return behind

    def _likelier(self, taken: int, behind: int) -> bool:
        a, b = self._block(taken), self._block(behind)
        return a is not None and (b is None or a.count > b.count)


class ChainLowering(Lowering):
    """Registers and the flags' thunk in locals; the ways out are edges."""

    def __init__(self, chain: _Chain, region: RegionCompiler, depth: int) -> None:
        super().__init__(chain.ops, region.thunks, region.scope, region.lines, depth)
        self._chain = chain
        self._region = region
        self._after = chain.head  # the address behind the current instruction

    def read_register(self, op: Value) -> None:
        self.hold(op, op.attr)

    def write_register(self, op: Value) -> None:
        value = op.args[0]
        pending = value in self._pending
        self.assign_register(op, self.text(value))
        if pending or value.op == "const":
            self._define(value, self._names.get(value, op.attr), value.bits)

    def assign_register(self, op: Value, text: str) -> bool:
        value = op.args[0]
        if text != op.attr:
            self.save_holders(op.attr)
            if value is self.ops[self.position] and value.op == "load":
                self.mark_site()
            self.write(f"{op.attr}={text}")
        if value not in self._names:
            self.hold(value, op.attr)
        return True

    # -- edges ---------------------------------------------------------------------------------------------------------

    def edge(self, target: int) -> None:
        """Leave the chain for a known address, this instruction included in the count."""
        self.write_flags(self.position)
        self.write(f"n-={self.completed + 1}")
        pc = self._region.entry(target)
        if pc is None:
            self.write(f"eip={target:#x};pc=-1;break")
        elif target == self._chain.head:
            self.write("continue")
        else:
            self.write(f"pc={pc};break")

    def edge_to(self, text: str) -> None:
        """Leave the chain for a computed address."""
        self.write_flags(self.position)
        self.write(f"n-={self.completed + 1}")
        self.write(f"eip={text};pc=HEADS.get(eip,-1);break")

    def jump(self, target: Value) -> None:
        op = self.ops[self.position]
        if op in self._chain.followed:
            return
        predicted = self._chain.predictions.get(op)
        if predicted is not None:
            text = self.atom(target)
            self.write(f"if {text}!={predicted:#x}:")
            self.depth += 1
            self.edge_to(text)
            self.depth -= 1
        elif target.op == "const":
            self.edge(target.attr)
        else:
            self.edge_to(self.text(target))

    def leave_dirty(self, target: str | None) -> None:
        self.write_flags(self.position)
        self.write(f"n-={self.completed + 1}")
        self.write(f"eip={target or hex(self._after)};pc=-1;break")

    def _begin_instruction(self, op: Value) -> None:
        super()._begin_instruction(op)
        insn, address = op.attr
        self._after = (address + insn.length) & 0xFFFFFFFF

    def _op_when(self, op: Value) -> None:
        if op not in self._chain.inverted:
            super()._op_when(op)
            return
        self._skip_jump(op)
        self.write(f"if not {self.text(op.args[0])}:")
        self.depth += 1
        self.position += 1  # the flags are noted at the jump
        self.edge(self._after)
        self.position -= 1
        self.depth -= 1

    def _skip_jump(self, op: Value) -> None:
        """The guard's body is the followed jump: only its negation leaves."""
        for value in list(self._pending):
            if value is not op.args[0]:
                self._materialise(value)

    def _op_end(self, op: Value) -> None:
        if self.ops[self.position - 2] not in self._chain.inverted:
            super()._op_end(op)

    def finish(self) -> None:
        """The end of the chain: go on at its next address, if it does not end in a jump."""
        if self._stored:
            self.write("if dirty:")
            self.depth += 1
            self.leave_dirty(None)
            self.depth -= 1
        if self._chain.next is not None:
            self.edge(self._chain.next)


class RegionCompiler:
    """Compiles the region around one hot block."""

    def __init__(self, thunks: Thunks, blocks: Callable[[int], Block | None], minimum: int) -> None:
        self.thunks = thunks
        self.scope: dict[str, Any] = base_scope()
        self.lines: list[str] = []
        self._blocks = blocks
        self._minimum = minimum
        self.heads: dict[int, int] = {}
        self._chains: dict[int, _Chain] = {}

    def _warm(self, address: int) -> Block | None:
        block = self._blocks(address)
        return block if block is not None and block.count >= self._minimum and not block.special else None

    def entry(self, address: int) -> int | None:
        """The `pc` of a head, or None."""
        return self.heads.get(address)

    def compile(self, heads: list[int]) -> Region:
        """The region around the blocks at `heads`; the first one is entered with `pc` 0."""
        self._collect(heads, FIRST_REGION if len(heads) == 1 else MERGED_REGION)
        sites = self._write()
        source = "\n".join(self.lines)
        self.scope["HEADS"] = self.heads
        module = compile(source, f"<region {heads[0]:#x}>", "exec")
        exec(module, self.scope)
        make = self.scope["make"]
        function_code = next(item for item in make.__code__.co_consts if isinstance(item, CodeType))
        covered = {block.start: block.code for chain in self._chains.values() for block in chain.blocks}
        length = sum(chain.length for chain in self._chains.values())
        bytes_ = tuple(covered.items())
        return Region(make, self.heads, bytes_, sites, self.scope, function_code, length)

    def _collect(self, heads: list[int], enough: int) -> None:
        """Build chains from `heads` and from the warm targets of their edges, until they have `enough` instructions."""
        queue = list(heads)
        total = operations = 0
        builder = ChainBuilder(self._warm, heads)
        while queue and total < enough and operations < MAX_OPERATIONS:
            address = queue.pop(0)
            if address in self.heads or self._warm(address) is None:
                continue
            chain = builder.build(address)
            self.heads[address] = len(self.heads)
            self._chains[address] = chain
            total += chain.length
            operations += len(chain.ops)
            queue.extend(self._targets(chain))

    def _targets(self, chain: _Chain) -> list[int]:
        """Addresses that the chain's edges lead to, and where its calls return to."""
        targets: list[int] = [] if chain.next is None else [chain.next]
        for block in chain.blocks:
            targets.extend(block.successors)
        inside = {block.start for block in chain.blocks[1:]}
        return [target for target in targets if target not in inside or target == chain.next]

    def _write(self) -> dict[int, Site]:
        self.lines += [
            "def make(M1,M2,M4,RD,WR,ld,st,pr):",
            " def region(R,cpu,n,pc):",
            f"  {_REGISTERS},flags,cf=R",
            "  fk,fa,fb,fc=flags",
            "  dirty=0;eip=0",
            "  while pc>=0:",
        ]
        sites: dict[int, Site] = {}
        self._dispatch(list(self._chains.values()), 3, sites)
        self.lines += [f"  R[:]={_REGISTERS},(fk,fa,fb,fc),cf", "  return eip,n", " return region"]
        return sites

    def _dispatch(self, chains: list[_Chain], depth: int, sites: dict[int, Site]) -> None:
        """A binary tree of comparisons with `pc`, the chains at its leaves."""
        if len(chains) == 1:
            self._chain(chains[0], depth, sites)
            return
        middle = len(chains) // 2
        pad = " " * depth
        self.lines.append(f"{pad}if pc<{self.heads[chains[middle].head]}:")
        self._dispatch(chains[:middle], depth + 1, sites)
        self.lines.append(f"{pad}else:")
        self._dispatch(chains[middle:], depth + 1, sites)

    def _chain(self, chain: _Chain, depth: int, sites: dict[int, Site]) -> None:
        pad = " " * depth
        self.lines += [f"{pad}while 1:", f"{pad} if n<{chain.length}: eip={chain.head:#x};pc=-1;break"]
        lowering = ChainLowering(chain, self, depth + 1)
        lowering.run()
        lowering.finish()
        sites.update(lowering.sites)

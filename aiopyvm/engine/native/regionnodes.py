"""The nodes of a region's graph: straight runs of instructions, and where control goes behind them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiopyvm.engine.native.regionplan import Stack
from aiopyvm.isa.insn import Insn

Context = tuple[tuple[int, int], ...]  # calls: where they return to, and the function


class Flow(enum.Enum):
    """Where control goes after an instruction."""

    NEXT = "next"
    BRANCH = "branch"  # to a known address, or to the next instruction
    JUMP = "jump"  # to a known address
    COMPUTED = "computed"
    REPEAT = "repeat"  # to itself, or to the next instruction
    OUT = "out"  # the instruction has no place in a region


@dataclass(eq=False, slots=True)
class Node:
    """A straight run of instructions. `after` and `taken` are where it goes, a node or an address; `cases` are the
    nodes that a computed jump is compared with, by address; `stack` and `stack_after` the x87 stack before and behind.
    """

    context: Context
    eip: int
    index: int
    stack: Stack | None = None
    stack_after: Stack | None = None
    insns: list[tuple[int, Insn]] = field(default_factory=list)
    flow: Flow = Flow.NEXT
    after: Node | int = 0
    taken: Node | int = 0
    cases: dict[int, Node] = field(default_factory=dict)
    table: list[tuple[int, int]] = field(default_factory=list)  # the cases' numbers in a jump table
    entered: int = 0  # ways in
    join: bool = False
    retreating: set[Node] = field(default_factory=set)  # successors for which the budget is looked at
    longest: int = 0  # instructions, to the next look at the budget
    again: Node | None = None  # the next node of a repeated loop, which is entered from here alone

    def successors(self) -> Iterator[Node]:
        """The nodes where control may go, one by way."""
        ways: list[Node | int] = []
        if self.flow in (Flow.NEXT, Flow.BRANCH, Flow.REPEAT):
            ways.append(self.after)
        if self.flow in (Flow.BRANCH, Flow.JUMP, Flow.REPEAT):
            ways.append(self.taken)
        if self.flow is Flow.COMPUTED:
            ways.extend(self.cases.values())
        return (way for way in ways if isinstance(way, Node))

    def lead(self, old: Node, new: Node) -> None:
        """Go to `new` where it went to `old`."""
        self.after, self.taken = (new if way is old else way for way in (self.after, self.taken))


__all__ = ["Context", "Flow", "Node"]

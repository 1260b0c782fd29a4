"""A region's graph brought into shape before it is written: nodes that follow one another alone become one, and the
innermost loops are repeated.

What always holds: the graph's root, its first node, stays its first node, and a node that is repeated has the same ways
out as each of its copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from aiopyvm.engine.native.regionnodes import Flow, Node

MOST_COPIES: Final = 8  # of a loop
REPEATED: Final = 40  # instructions of all copies of a loop


def straighten(nodes: list[Node]) -> None:
    """Make one node of two where the second follows the first alone: a block may have begun between them only because
    Python had an instruction to execute there.
    """
    entered = Counter(way for node in nodes for way in node.successors())
    gone: set[Node] = set()
    for node in nodes:
        while node not in gone and node.flow is Flow.NEXT and isinstance(way := node.after, Node):
            if entered[way] > 1 or way in (node, nodes[0]) or way.flow is Flow.REPEAT:
                break
            node.insns += way.insns
            node.flow, node.after, node.taken, node.stack_after = way.flow, way.after, way.taken, way.stack_after
            node.cases, node.table = way.cases, way.table
            gone.add(way)
    nodes[:] = [node for node in nodes if node not in gone]
    for index, node in enumerate(nodes):
        node.index = index


def repeat_loops(nodes: list[Node], has_vectors: Callable[[Node], bool]) -> None:
    """Repeat the innermost loops, so that the copies share one look at the budget and their accesses a check: those of
    one node, and those of vectors, in which what is there for ways out alone is carried to the next pass once for all
    copies. `has_vectors`: whether a node uses vector registers. A loop that has the root in its middle is repeated
    with a copy of the root instead, which then only leads into it.
    """
    for loop in _loops_of(nodes):
        copies = min(MOST_COPIES, REPEATED // sum(len(node.insns) for node in loop))
        if copies < 2 or any(node.flow in (Flow.REPEAT, Flow.COMPUTED) for node in loop):
            continue
        if len(loop) > 1 and not any(map(has_vectors, loop)):
            continue
        if nodes[0] in loop[1:]:
            loop = _without_root(loop, nodes)
        for node, behind in pairwise(loop):
            node.again = behind
        last = loop
        for _ in range(copies - 1):
            last = _copied_behind(last, loop[0], nodes)


def _loops_of(nodes: Sequence[Node]) -> list[list[Node]]:
    """The loops that can be repeated; the one around the root is in it where the root is in none of the others."""
    loops = list(_loops(nodes, nodes[:1]))
    if not any(nodes[0] in loop for loop in loops):
        around = [loop for loop in _loops(nodes, ()) if nodes[0] in loop]
        loops += [min(around, key=len)] if around else []
    return loops


def _loops(nodes: Sequence[Node], entered: Sequence[Node]) -> Iterator[list[Node]]:
    """Where control goes round through nodes that are entered from one another alone, but for the first one: the
    shortest way round of each first one. `entered` are nodes that can only be first.
    """
    before: dict[Node, list[Node]] = {}
    for node in nodes:
        for way in node.successors():
            before.setdefault(way, []).append(node)
    for head in nodes:
        loops = (_loop(head, last, before, entered) for last in before.get(head, ()))
        if loop := min(filter(None, loops), key=len, default=None):
            yield loop


def _loop(head: Node, last: Node, before: Mapping[Node, Sequence[Node]], entered: Sequence[Node]) -> list[Node]:
    """The nodes from `head` to `last`, where they are entered from one another alone; else none."""
    loop = [last]
    while loop[-1] is not head:
        ways = before.get(loop[-1], ())
        if len(ways) != 1 or loop[-1] in entered or ways[0] in loop:
            return []
        loop.append(ways[0])
    return loop[::-1]


def _without_root(loop: Sequence[Node], nodes: list[Node]) -> list[Node]:
    """Put a copy of the root, and of what is behind it, in their place in `loop`, and return the loop. The root is
    entered from outside alone then, and leads to where the loop begins.
    """
    at = loop.index(nodes[0])
    copies = _copied(loop[at:], nodes)
    loop[at - 1].lead(nodes[0], copies[0])
    return [*loop[:at], *copies]


def _copied(run: Sequence[Node], nodes: list[Node]) -> list[Node]:
    """Copies of nodes each of which leads to the next."""
    copies = [replace(node, cases={}, table=[], retreating=set(), again=None) for node in run]
    for copy in copies:
        copy.index = len(nodes)
        nodes.append(copy)
    for copy, old, new in zip(copies, run[1:], copies[1:], strict=False):
        copy.lead(old, new)
    return copies


def _copied_behind(loop: Sequence[Node], head: Node, nodes: list[Node]) -> list[Node]:
    """Put a copy of a loop behind `loop`, its last one; both lead to `head` at their end."""
    copies = _copied(loop, nodes)
    for copy, behind in pairwise(copies):
        copy.again = behind
    loop[-1].lead(head, copies[0])
    loop[-1].again = copies[0]
    return copies


__all__ = ["MOST_COPIES", "REPEATED", "repeat_loops", "straighten"]

"""A region's function while it is written: its text, and what is known at the point where it is written.

What always holds:

- Local variables hold the state at a tree's beginning, until an edge to another tree writes what has changed: `State`
  has what differs from them.
- Where an instruction may leave, nothing of it has been done: the state is what was before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.engine.native.lower_flags import Names as Naming
from aiopyvm.engine.native.lower_vector import constant_text, llvm_type, pure_text
from aiopyvm.engine.native.regionflags import Recipe
from aiopyvm.engine.native.regionmemory import Span
from aiopyvm.engine.native.regionnodes import Node
from aiopyvm.engine.native.regions import Graph
from aiopyvm.ir.builder import Known, Value
from aiopyvm.ir.types import V128, V256
from aiopyvm.isa.state import GPR32

if TYPE_CHECKING:
    from aiopyvm.engine.native.regionfloat import Floats

Names = dict[Value, str]


@dataclass(slots=True)
class FloatState:
    """What is known of the x87 at one point of a tree: fields of the `CpuState` that were set in it, and the condition
    codes that were, which are the host's.
    """

    fields: dict[str, Value] = field(default_factory=dict)
    codes: int = 0

    def copy(self) -> FloatState:
        """The same, to be changed apart."""
        return FloatState(self.fields.copy(), self.codes)


@dataclass(slots=True)
class State:
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
    trapped: list[Span] = field(default_factory=list)  # accesses that the host has let through
    words: dict[Span, Value] = field(default_factory=dict)  # what is in memory
    x87: FloatState = field(default_factory=FloatState)
    scope: dict[str, str] = field(default_factory=dict)

    def fork(self, known: Known, scope: dict[str, str]) -> State:
        """The same state at the beginning of another block."""
        return State(
            self.tree, self.left, known, self.names.copy(), self.registers.copy(), self.flags.copy(),
            self.recipes.copy(), self.possible.copy(), self.entry.copy(), self.done, self.checked.copy(),
            self.trapped.copy(), self.words.copy(), self.x87.copy(), scope.copy(),
        )  # fmt: skip


class Draft:
    """The function for a graph: `text` is its body, `state` what is known where it ends now."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.text = Text()
        self.cold: list[str] = []  # blocks that are entered rarely stand behind all others
        self.state: State
        self.most = graph.most  # the longest way between two looks at the budget
        self._written = sorted(graph.written, key=GPR32.index)
        self.vectors = graph.vectors  # local variables hold them at every point
        self.floats: Floats | None = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is written meanwhile goes behind all other blocks."""
        lines, self.text.lines = self.text.lines, self.cold
        yield
        self.text.lines = lines

    def name(self, value: Value) -> str:
        """The LLVM name of a value, computed where it is first asked for."""
        return self._named(self.state.names, value)

    def naming(self, names: Names) -> Naming:
        """As `name`, with other values known than those of the state."""
        return partial(self._named, names)

    def _named(self, names: Names, value: Value) -> str:
        if value.op == "const":
            return constant_text(value)
        name = names.get(value)
        if name is None:
            name = names[value] = pure_text(self.text, value, [self._named(names, arg) for arg in value.args])
        return name

    def store_registers(self) -> None:
        """Write the registers that the region may have set to the `CpuState`."""
        if self.floats is not None:
            self.floats.store()
        registers = self.state.registers
        for name in self._written:
            value = registers.get(name)
            word = self.name(value) if value is not None else self.text.fresh(f"load i32, ptr %l.{name}")
            self.text.line(f"store i32 {word}, ptr %p.{name}")
        for number, kind in self.vector_variables():
            vector = self.text.fresh(f"load {kind}, ptr %l.v{number}")
            self.text.line(f"store {kind} {vector}, ptr %p.v{number}, align 8")

    def vector_variables(self) -> list[tuple[int, str]]:
        """The local variables %l.vN of vector registers: number and type."""
        return [(number, llvm_type(V128 if bits == 128 else V256)) for number, bits in sorted(self.vectors.items())]


def label_of(node: Node) -> str:
    """The label of the tree that begins with a node."""
    return f"n{node.index}"


def cases(ways: Iterable[tuple[int, str]]) -> str:
    """The ways of a switch over i32: number, label."""
    return " ".join(f"i32 {signed(number)}, label %{label}" for number, label in ways)


def signed(word: int) -> int:
    """A 32-bit word as LLVM writes it."""
    return word - (1 << 32) if word >> 31 else word


__all__ = ["Draft", "FloatState", "Names", "State", "cases", "label_of", "signed"]

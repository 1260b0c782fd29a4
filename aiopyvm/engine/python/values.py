"""The values of a trace as texts, while lines of Python are written for it: see `Values`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.python.expressions import expression, is_vector
from aiopyvm.engine.python.flagstate import Thunk, Thunks
from aiopyvm.engine.python.plan import Plan
from aiopyvm.ir.builder import Value
from aiopyvm.ir.registers import GENERAL
from aiopyvm.isa.state import FLAG_BITS

_NAMES_TWICE: Final = frozenset({"ctz", "shl"})  # their text may name an argument more than once
_LONG: Final = 160


@dataclass(frozen=True, slots=True)
class FlagsAt:
    """Flags that were set since the thunk in the locals was made: their mask, and how to compute them from locals."""

    mask: int
    thunk: Thunk
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """What is known at a line that may raise: the instruction's address, how many were completed, and newer flags."""

    address: int
    completed: int
    flags: FlagsAt | None


@dataclass(slots=True)
class _Pending:
    text: str
    bound: int
    registers: frozenset[str]


class Values:
    """Gives every value of a trace a text: a constant, a local, a register's local, or an expression not yet written.

    An expression that is used once is *pending*: it is written where it is used, or into a local before a register
    that it names is set. A value that a register's local stands for is saved before that is set, if it is used later.
    """

    def __init__(self, ops: Sequence[Value], thunks: Thunks, lines: list[str], depth: int) -> None:
        self.ops = ops
        self.plan = Plan(ops, thunks)
        self.lines = lines
        self.depth = depth
        self.sites: dict[int, Site] = {}
        self.completed = -1  # instructions completed before the current one
        self.position = 0
        self._address = 0
        self._names: dict[Value, str] = {}
        self._bounds: dict[Value, int] = {}
        self._pending: dict[Value, _Pending] = {}
        self._holders: dict[str, set[Value]] = {}  # registers' locals that stand for a value
        self._written: Value | None = None  # a `set` that stands already: with the operation whose value it takes

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Append one line."""
        self.lines.append(" " * self.depth + text)

    def mark_site(self) -> None:
        """Note what is known at the line that comes next."""
        self.sites[len(self.lines) + 1] = Site(self._address, self.completed, self.flags_at(self.position))

    def flags_at(self, position: int) -> FlagsAt | None:
        """The flags of `Plan.flags` as texts."""
        point = self.plan.flags.get(position)
        if point is None:
            return None
        flags, recipe = point
        mask = sum(FLAG_BITS[name] for name in flags)
        return FlagsAt(mask, recipe.function, tuple(self.atom(leaf) for leaf in recipe.leaves))

    # -- values --------------------------------------------------------------------------------------------------------

    def _define(self, value: Value, text: str, bound: int) -> None:
        self._names[value] = text
        self._bounds[value] = bound

    def hold(self, value: Value, register: str) -> None:
        """`value` is what the local `register` has, until that is set."""
        self._define(value, register, value.bits)
        self._holders.setdefault(register, set()).add(value)

    def alias(self, value: Value, text: str, bound: int) -> None:
        """`value` is what another value is whose text is `text`, also where that is a register's local."""
        self._define(value, text, bound)
        if text in self._holders:
            self._holders[text].add(value)

    def temporary(self, value: Value, text: str, bound: int) -> None:
        """Write `value` into a local of its own."""
        following = self.ops[self.position + 1] if self.position + 1 < len(self.ops) else None
        current = self.ops[self.position] is value
        site = current and value.op == "load"
        takes = current and following is not None and self._sets_register(following, value)
        if takes and following is not None and self.assign_register(following, text):
            self._written = following
            return
        name = f"v{len(self.lines)}"
        if site:
            self.mark_site()
        self.write(f"{name}={text}")
        self._define(value, name, bound)

    @staticmethod
    def _sets_register(op: Value, value: Value) -> bool:
        return op.op == "set" and op.args[0] is value and op.attr in GENERAL

    def assign_register(self, op: Value, text: str) -> bool:
        """Write `text`, the value that `op` sets, straight into its register's local; False where there are no such
        locals.
        """
        return False

    def _registers(self, value: Value) -> frozenset[str]:
        pending = self._pending.get(value)
        if pending is not None:
            return pending.registers
        name = self._names.get(value, "")
        return frozenset((name,)) if name in GENERAL else frozenset()

    def text(self, value: Value) -> str:
        """The text of a value at this point: a pending expression is consumed."""
        pending = self._pending.pop(value, None)
        if pending is not None:
            self._bounds[value] = pending.bound
            return pending.text
        return self._names[value]

    def atom(self, value: Value) -> str:
        """The text of a value that may be written several times."""
        if value in self._pending:
            self._materialise(value)
        return self._names[value]

    def bound(self, value: Value) -> int:
        """An upper limit of the value's bit length."""
        pending = self._pending.get(value)
        return pending.bound if pending is not None else self._bounds[value]

    def _materialise(self, value: Value) -> None:
        pending = self._pending.pop(value)
        self.temporary(value, pending.text, pending.bound)

    def _pure(self, op: Value) -> None:
        if self._is_address(op):
            return
        if is_vector(op) or is_vector(op.args[0]):
            self.of_vectors(op)
            return
        bounds = [self.bound(arg) for arg in op.args]
        registers = frozenset().union(*(self._registers(arg) for arg in op.args))
        get = self.atom if op.op in _NAMES_TWICE else self.text
        text, bound = expression(op, [get(arg) for arg in op.args], bounds)
        if text == self._names.get(op.args[0]):  # a cast that changes nothing
            self.alias(op, text, bound)
        elif self.plan.uses.get(op, 0) == 1 and len(text) < _LONG:
            self._pending[op] = _Pending(text, bound, registers)
        else:
            self.temporary(op, text, bound)

    def of_vectors(self, op: Value) -> None:
        """Write a pure operation on vectors."""
        raise NotImplementedError

    def _is_address(self, op: Value) -> bool:
        """Write a sum that is only used as an address without wrapping it; tell whether `op` was one."""
        uses = self.plan.uses.get(op, 0)
        if op.op != "add" or uses == 0 or self.plan.address_uses.get(op, 0) != uses or op.bits != 32:
            return False
        x, y = op.args
        if y.op == "const":
            offset = y.attr - (1 << 32) if y.attr >> 31 else y.attr
            self.temporary(op, f"{self.text(x)}{offset:+d}", 64)
        else:
            self.temporary(op, f"{self.text(x)}+{self.text(y)}", 64)
        return True

    def save_holders(self, register: str) -> None:
        """Before `register`'s local is set: keep what is still needed of its old value."""
        for value in [value for value, pending in self._pending.items() if register in pending.registers]:
            self._materialise(value)
        holders = self._holders.pop(register, set())
        needed = [value for value in holders if self.plan.last_use.get(value, -1) > self.position]
        if needed:
            name = f"v{len(self.lines)}"
            self.write(f"{name}={register}")
            for value in needed:
                self._names[value] = name

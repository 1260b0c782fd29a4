"""What a trace needs, found before a line of code is written for it: see `Plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiopyvm.engine.python.flagstate import ARITHMETIC, Recipe, Thunks
from aiopyvm.ir.builder import Value
from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.pure import PURE

_ON_DEMAND = frozenset(
    {*PURE, *LANES, "const", "get", "param", "getfp", "fexc"}
)  # no effect, no fault: written only when needed
_LEAVING = frozenset({"load", "store", "probe", "fault", "raise", "jump", "exit"})


def sets_arithmetic_flag(op: Value) -> bool:
    """Tell whether `op` writes one of the six flags that thunks stand for."""
    return op.op == "set" and op.attr in ARITHMETIC


@dataclass(slots=True)
class Group:
    """Aligned words near one another, `base + low` to `base + high`: where they are on one fast page, one test is
    enough for all. `write`: one of them is written. `local` is that test's outcome, once it is written.
    """

    base: Value
    low: int
    high: int
    write: bool
    accesses: int
    local: str = ""


_GROUP_SPAN = 1024  # bytes
_GROUP_WORTH = 3  # accesses


class Plan:
    """Which values of a trace are needed and where they are used last; and, at every point where control may leave,
    the flags.

    `flags[position]` is, for the point just before operation `position` (`len(ops)`: the end), the set flags' values
    and the recipe to compute them; flags not named there are as at the start of the trace, or as the last guard that
    set flags left them.
    """

    def __init__(self, ops: Sequence[Value], thunks: Thunks) -> None:
        self.ops = ops
        self.needed: set[Value] = set()
        self.last_use: dict[Value, int] = {}
        self.uses: dict[Value, int] = {}
        self.address_uses: dict[Value, int] = {}
        self.flags: dict[int, tuple[dict[str, Value], Recipe]] = {}
        self._points: dict[int, dict[str, Value]] = {}
        self._thunks = thunks
        self._mark_needed()
        self._plan_flags()
        self._count_uses()
        self.groups = self._find_groups()

    def _find_groups(self) -> dict[Value, Group]:
        """The group of each address that has one."""
        groups: dict[Value, Group] = {}
        addresses: dict[Value, Group] = {}
        first: dict[Value, int] = {}
        for position, op in enumerate(self.ops):
            size = _access_size(op)
            if size != 4 or op.args[0].op == "const":
                continue
            base, offset = _base_and_offset(op.args[0])
            group = groups.get(base)
            if group is None:
                group = groups[base] = Group(base, offset, offset, False, 0)
            low, high = min(group.low, offset), max(group.high, offset)
            if high - low <= _GROUP_SPAN and (offset - group.low) % 4 == 0:
                group.low, group.high, group.accesses = low, high, group.accesses + 1
                group.write = group.write or op.op == "store"
                addresses[op.args[0]] = group
                first.setdefault(op.args[0], position)
        found = {address: group for address, group in addresses.items() if group.accesses >= _GROUP_WORTH}
        for address, group in found.items():
            self.needed.add(group.base)
            self._use(group.base, first[address])
        return found

    def _mark_needed(self) -> None:
        stack: list[Value] = []
        for op in self.ops:
            name = op.op
            if name in _ON_DEMAND or sets_arithmetic_flag(op):
                continue
            if op.type is not None:
                self.needed.add(op)
            stack.extend(op.args)
        self._need(stack)

    def _need(self, stack: list[Value]) -> None:
        """Values are needed, and what they are computed from."""
        while stack:
            value = stack.pop()
            if value not in self.needed:
                self.needed.add(value)
                stack.extend(value.args)

    def _plan_flags(self) -> None:
        """Walk the trace with the flags set so far; note them where something may leave the trace."""
        state: dict[str, Value] = {}
        outer: list[dict[str, Value]] = []
        stored = False
        for position, op in enumerate(self.ops):
            name = op.op
            if sets_arithmetic_flag(op):
                state[op.attr] = op.args[0]
            elif name == "insn":
                if stored:
                    self._note(position, state)
                stored = False
            elif name == "when":
                if guard_sets_flags(self.ops, position):
                    self._note(position, state)
                    outer.append({})
                    state = {}
                else:
                    outer.append(state)
                    state = dict(state)
            elif name == "end":
                before = outer.pop()
                if guard_sets_flags(self.ops, opening(self.ops, position)):
                    self._note(position, state)
                state = before
            elif name in _LEAVING or (name == "helper" and op.attr.faults):
                self._note(position, state)
                stored = stored or name == "store"
        self._note(len(self.ops), state)

    def _note(self, position: int, state: dict[str, Value]) -> None:
        if state:
            self._points[position] = {name: state[name] for name in ARITHMETIC if name in state}

    def _count_uses(self) -> None:
        recipes: dict[tuple[tuple[str, Value], ...], Recipe] = {}
        for position, flags in self._points.items():
            key = tuple(flags.items())
            recipe = recipes.get(key)
            if recipe is None:
                recipe = recipes[key] = self._thunks.make(flags, self.needed)
            self.flags[position] = (flags, recipe)
            for leaf in recipe.leaves:
                self._need([leaf])
                self._use(leaf, position)
        for position, op in enumerate(self.ops):
            if op.type is not None and op not in self.needed:
                continue
            for index, arg in enumerate(op.args):
                self._use(arg, position)
                if index == 0 and op.op in ("load", "store", "probe"):
                    self.address_uses[arg] = self.address_uses.get(arg, 0) + 1

    def _use(self, value: Value, position: int) -> None:
        self.uses[value] = self.uses.get(value, 0) + 1
        self.last_use[value] = max(self.last_use.get(value, -1), position)


def _access_size(op: Value) -> int:
    """Bytes of a load or store; 0 for any other operation."""
    return op.bits // 8 if op.op == "load" else op.args[1].bits // 8 if op.op == "store" else 0


def _base_and_offset(address: Value) -> tuple[Value, int]:
    """An address as a base and a signed offset."""
    if address.op == "add" and address.args[1].op == "const":
        offset = int(address.args[1].attr)
        return address.args[0], offset - (1 << 32) if offset >> 31 else offset
    return address, 0


def opening(ops: Sequence[Value], position: int) -> int:
    """The position of the `when` that the `end` at `position` closes."""
    depth = 0
    while True:
        depth += {"end": 1, "when": -1}.get(ops[position].op, 0)
        if depth == 0:
            return position
        position -= 1


def guard_sets_flags(ops: Sequence[Value], position: int) -> bool:
    """Tell whether the guard that opens at `position` writes an arithmetic flag."""
    depth = 0
    while True:
        op = ops[position]
        depth += {"when": 1, "end": -1}.get(op.op, 0)
        if depth == 0:
            return False
        if sets_arithmetic_flag(op):
            return True
        position += 1

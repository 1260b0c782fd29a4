"""LLVM IR as text, one function at a time: `Text` names values, shares equal ones, and keeps track of blocks.

Instructions without effects go through `value`, which gives an equal one that dominates the current block its old
name; all others through `fresh` or `line`. Metadata and intrinsics that the text names are declared by `module`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

LIKELY: Final = ", !prof !0"  # the branch goes to its first label
UNLIKELY: Final = ", !prof !1"
NUMBERS: Final = {32: "float", 64: "double"}  # by their bits
INVARIANT: Final = ", !invariant.load !2"  # what is loaded never changes while generated code runs

_METADATA: Final = (
    '!0 = !{!"branch_weights", i32 1048576, i32 1}',
    '!1 = !{!"branch_weights", i32 1, i32 1048576}',
    "!2 = !{}",
)
_ATTRIBUTES: Final = 'attributes #0 = { nounwind "frame-pointer"="none" }'
_INTRINSIC: Final = re.compile(r"call (i\d+|<\d+ x i\d+>|void|ptr) (@llvm\.[a-z0-9.]+)\(([^)]*)\)")
_KINDS: Final = re.compile(r"(?:^|, )(ptr|i\d+|<\d+ x i\d+>)")
_CODE_BASE: Final = "@code_base = external hidden global i8"


class Unlowerable(Exception):
    """An operation has no native form; the argument says which, or why."""


class Text:
    """The body of one function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.block = "entry"  # label of the block that lines are appended to
        self._names = 0
        self._shared: dict[str, str] = {}
        self._slots: dict[str, str] = {}
        self._numbers: dict[str, str] = {}

    def body(self) -> str:
        """All lines: the entry block begins with the slots."""
        return "\n".join([*self._slots.values(), *self.lines])

    def slot(self, name: str, kind: str, align: int) -> str:
        """The address of a place of the stack frame, the same for the same name."""
        self._slots.setdefault(name, f"  %{name} = alloca {kind}, align {align}")
        return f"%{name}"

    def name(self) -> str:
        """A new name for a value."""
        self._names += 1
        return f"%v{self._names}"

    def fresh(self, expression: str) -> str:
        """Append `name = expression`; the name."""
        name = self.name()
        self.lines.append(f"  {name} = {expression}")
        return name

    def value(self, expression: str) -> str:
        """The name of an expression without effects that depends on nothing but its operands."""
        name = self._shared.get(expression)
        if name is None:
            name = self._shared[expression] = self.fresh(expression)
        return name

    def know(self, expression: str, name: str) -> None:
        """The value of an expression is there already, under that name."""
        self._shared[expression] = name

    def as_number(self, name: str, bits: int) -> str:
        """An integer of 32 or 64 bits as a number of the same bits: the one that it was made of, if any."""
        return self._numbers.get(name) or self.value(f"bitcast i{bits} {name} to {NUMBERS[bits]}")

    def of_number(self, number: str, bits: int) -> str:
        """The integer of a floating-point number's bits. LLVM keeps numbers in vector registers: whoever wants the bits
        there asks for `as_number`, and nothing goes through a general register.
        """
        name = self.value(f"bitcast {NUMBERS[bits]} {number} to i{bits}")
        self._numbers[name] = number
        return name

    def is_number(self, name: str) -> bool:
        """Whether an integer was made of a floating-point number."""
        return name in self._numbers

    def know_below_or_equal(self, carry: str, zero: str, either: str) -> None:
        """CF or ZF, all i1, is there already."""
        self.know(f"or i1 {carry}, {zero}", either)
        self.know(f"or i1 {zero}, {carry}", either)

    def line(self, text: str) -> None:
        """Append an instruction without a value."""
        self.lines.append("  " + text)

    def new_label(self) -> str:
        """A label that is not in use."""
        self._names += 1
        return f"b{self._names}"

    def label(self, label: str) -> None:
        """Begin the block `label`."""
        self.lines.append(f"{label}:")
        self.block = label

    def branch(self, condition: str, yes: str, no: str, weights: str = "") -> None:
        """Append a conditional branch."""
        self.lines.append(f"  br i1 {condition}, label %{yes}, label %{no}{weights}")

    def scope(self) -> dict[str, str]:
        """What is shared here; hand it to `leave_scope` where it is dominated no more."""
        return self._shared.copy()

    def leave_scope(self, scope: dict[str, str]) -> None:
        """Share only what `scope` has."""
        self._shared = scope


def module(functions: Iterable[str], triple: str = "") -> str:
    """The text of a whole module: functions and what they refer to."""
    body = "\n".join(functions)
    declared: dict[str, str] = {}
    for result, name, arguments in _INTRINSIC.findall(body):
        declared[name] = f"declare {result} {name}({', '.join(_KINDS.findall(arguments))})"
    head = [f'target triple = "{triple}"'] if triple else []
    return "\n".join([*head, _CODE_BASE, *sorted(declared.values()), body, _ATTRIBUTES, *_METADATA, ""])

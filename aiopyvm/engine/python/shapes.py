"""Cold code: one generated function per *shape* of instruction.

A shape is a row of the table with what its IR depends on: sizes, which kind of operand, which address form. Register
numbers, displacements, immediates and branch targets are parameters. Its function is compiled once for all; binding it
to one address space's views and to one instruction's parameters makes a handler `insn(R, cpu)` that returns None (go
on behind it), a target, or a `Leave`.

`R` is the state that generated code works on: eight general registers, the flags' thunk as a tuple, and CF or None
(`flagstate`). A handler that stores may raise `CodeChanged`, after the instruction is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiopyvm.engine.python.blocks import ends_block, is_special
from aiopyvm.engine.python.bulk import is_bulk
from aiopyvm.engine.python.expressions import PARITY, is_vector, sdiv, srem
from aiopyvm.engine.python.flagstate import ARITHMETIC, Thunks, force, packed
from aiopyvm.engine.python.fpregisters import read_fp, read_vector, write_fp, write_vector
from aiopyvm.engine.python.lowering import Lowering
from aiopyvm.engine.shapes import SENTINELS, parameters, replace_sentinels, shape_key, trace_shape
from aiopyvm.ir.builder import Value
from aiopyvm.ir.evaluate import Leave
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.state import GPR32
from aiopyvm.isa.trace import Tracer, trace

Handler = Callable[[list[Any], Any], "int | Leave | None"]


class CodeChanged(Exception):
    """An instruction overwrote translated code.

    It is complete; `target` is where it goes, None for the next instruction.

    """

    def __init__(self, target: int | None) -> None:
        super().__init__(target)
        self.target = target


class ShapeLowering(Lowering):
    """Registers in the list `R`; every way out is a `return`."""

    def read_register(self, op: Value) -> None:
        self.temporary(op, self._slot(op.attr), 32)

    def write_register(self, op: Value) -> None:
        self.write(f"{self._slot(op.attr)}={self.text(op.args[0])}")

    def _slot(self, register: str) -> str:
        return f"R[p{register[1:]}]" if register[0] == "$" else f"R[{GPR32.index(register)}]"

    def vector_number(self, register: str) -> str:
        return f"p{register[2:]}" if register[0] == "$" else super().vector_number(register)

    def _op_get(self, op: Value) -> None:
        if op.attr[0] == "$" and not is_vector(op):
            self.read_register(op)
        else:
            super()._op_get(op)

    def _op_set(self, op: Value) -> None:
        if op.attr[0] == "$" and not is_vector(op.args[0]):
            self.write_register(op)
        else:
            super()._op_set(op)

    def _op_param(self, op: Value) -> None:
        self._define(op, f"p{op.attr}", op.bits)

    def assign_thunk(self, name: str, arguments: list[str], carry: str) -> None:
        self.write(f"R[8]=({name},{','.join(arguments)})")
        if carry != "cf":
            self.write(f"R[9]={carry}")
        else:
            self.write("R[9]=cf")

    def write_flags(self, position: int) -> None:
        super().write_flags(position)
        point = self.plan.flags.get(position)
        if point is not None and set(point[0]) == {"cf"}:
            self.write("R[9]=cf")

    def jump(self, target: Value) -> None:
        text = self.text(target)
        self.write_flags(self.position)
        self.write(f"return {text}")

    def leave(self, kind: str, vector: int) -> None:
        name = f"leave_{kind}_{vector}"
        self.scope[name] = Leave(kind, vector)
        self.write_flags(self.position)
        self.write(f"return {name}")

    def leave_dirty(self, target: str | None) -> None:
        self.write_flags(self.position)
        self.write(f"raise CodeChanged({target})")

    def finish(self) -> None:
        """The way out behind the last operation."""
        self.write_flags(self.position)
        if self._stored:
            self.write("if dirty: raise CodeChanged(None)")


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A compiled shape: `make(M1, M2, M4, RD, WR, ld, st, pr)` gives `bind(*parameters)`, which gives a handler.

    `make` is None where the instruction acts on the machine itself: only the evaluator runs it. `sentinels`: two
    parameters more, EIP and the next EIP. `anywhere`: what it does to the state does not depend on EIP, but for a
    jump's target. `special` and `ends_block` are as in `blocks`; `falls` tells that the next
    instruction may follow.
    """

    make: Callable[..., Callable[..., Handler]] | None
    sentinels: bool
    anywhere: bool
    special: bool
    ends_block: bool
    falls: bool


_Use = tuple[
    Shape, tuple[int, ...], int | None
]  # a shape, an instruction's parameters, its target relative to its address
_USES: Final = 1 << 14
MOST_SHAPES: Final = 1 << 11  # about 14 MB; more are dropped and made again


class Shapes:
    """Compiled shapes by key, shared by all address spaces."""

    def __init__(self, thunks: Thunks) -> None:
        self._thunks = thunks
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._uses: dict[bytes | tuple[bytes, int], _Use] = {}  # by an instruction's bytes, and its mode if not flat
        self._fixed_rows: set[int] = set()  # rows whose immediates shape their IR without being marked static

    def __len__(self) -> int:
        return len(self._shapes)

    def find(self, insn: Insn, address: int, mode: int = 0) -> tuple[Shape, tuple[int, ...]]:
        """The shape of an instruction in a mode (MODE_* bits), compiled if it is new, and the parameters to bind it
        with.
        """
        key = (insn.code, mode) if mode else insn.code
        use = self._uses.get(key)
        if use is None:
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
                self._uses.clear()
            use = self._use(insn, mode)
            if use is None:
                return self._concrete(insn, address, mode), ()
            if len(self._uses) >= _USES:
                self._uses.clear()
            self._uses[key] = use
        shape, values, relative = use
        if relative is not None:
            values = (*values, address + relative & (0xFFFF if insn.operand_size == 16 else 0xFFFFFFFF))
        if shape.sentinels:
            values = (*values, address, address + insn.length & 0xFFFFFFFF)
        return shape, values

    def _use(self, insn: Insn, mode: int) -> _Use | None:
        """How an instruction uses its shape; None where its IR depends on its address."""
        fixed = id(insn.row) in self._fixed_rows
        key = shape_key(insn, fixed, mode)
        shape = self._shapes.get(key)
        if shape is None:
            try:
                shape = self._shapes[key] = self._compile(insn, fixed, mode)
            except TypeError:
                if fixed:
                    return None
                self._fixed_rows.add(id(insn.row))
                return self._use(insn, mode)
        return shape, *parameters(insn, fixed)

    def _concrete(self, insn: Insn, address: int, mode: int) -> Shape:
        """For the few instructions whose IR depends on their address: a shape of one."""
        key = (mode, insn.code, address)
        shape = self._shapes.get(key)
        if shape is None:
            tracer = Tracer(mode)
            trace(tracer, insn, address)
            shape = self._shapes[key] = self._finish(insn, tracer, 0, False, False)
        return shape

    def _compile(self, insn: Insn, fixed: bool, mode: int) -> Shape:
        first = trace_shape(insn, fixed, SENTINELS[0], mode)
        used = first.address_used and replace_sentinels(first, trace_shape(insn, fixed, SENTINELS[1], mode))
        return self._finish(insn, first, len(first.params) + (2 if used else 0), used, not used)

    def _finish(self, insn: Insn, tracer: Tracer, count: int, sentinels: bool, anywhere: bool) -> Shape:
        ops = tracer.ops
        special, falls = is_special(ops) or is_bulk(insn), ops[-1].op not in ("jump", "exit")
        kind = (sentinels, anywhere, special, ends_block(ops), falls)
        if any(op.op == "helper" and op.attr.machine for op in ops):
            return Shape(None, *kind)
        source, scope = self._source(tracer, count)
        exec(compile(source, f"<shape {insn.row}>", "exec"), scope)
        return Shape(scope["make"], *kind)

    def _source(self, tracer: Tracer, count: int) -> tuple[str, dict[str, Any]]:
        parameters = ",".join(f"p{index}" for index in range(count))
        lines = ["def make(M1,M2,M4,RD,WR,ld,st,pr):", f" def bind({parameters}):", "  def insn(R,cpu):"]
        if any(op.op == "store" for op in tracer.ops):
            lines.append("   dirty=0")
        if _reads_flags(tracer.ops):
            lines.append("   fk,fa,fb,fc=R[8];cf=R[9]")
        scope: dict[str, Any] = base_scope()
        lowering = ShapeLowering(tracer.ops, self._thunks, scope, lines, 3)
        lowering.run()
        lowering.finish()
        lines += ["   return None", "  return insn", " return bind"]
        return "\n".join(lines), scope


def base_scope() -> dict[str, Any]:
    """The names that any generated code may use."""
    return {
        "PARITY": PARITY,
        "sdiv": sdiv,
        "srem": srem,
        "packed": packed,
        "force": force,
        "getfp": read_fp,
        "setfp": write_fp,
        "getv": read_vector,
        "setv": write_vector,
        "CodeChanged": CodeChanged,
    }


def _reads_flags(ops: list[Value]) -> bool:
    """Tell whether the code names the flags' locals: it reads flags, or sets some of them only."""
    written = {op.attr for op in ops if op.op == "set" and op.attr in ARITHMETIC}
    guarded = any(op.op == "when" for op in ops)
    return (
        any(op.op == "get" and op.attr in ARITHMETIC for op in ops)
        or 0 < len(written) < 6
        or (guarded and bool(written))
    )

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
from aiopyvm.engine.python.expressions import PARITY, sdiv, srem
from aiopyvm.engine.python.flagstate import ARITHMETIC, Thunks, force, packed
from aiopyvm.engine.python.fpregisters import read_fp, write_fp
from aiopyvm.engine.python.lowering import Lowering
from aiopyvm.ir.builder import Value
from aiopyvm.ir.evaluate import Leave
from aiopyvm.ir.registers import GENERAL
from aiopyvm.ir.types import I32, integer
from aiopyvm.isa.insn import Immediate, Insn, Memory, Operand, Register, Relative
from aiopyvm.isa.places import ImmediatePlace, MemoryPlace, Place, RegisterPlace
from aiopyvm.isa.state import GPR32, SEGMENTS
from aiopyvm.isa.trace import Tracer, lockable, trace, trace_operations

Handler = Callable[[list[Any], Any], "int | Leave | None"]
_SENTINELS: Final = ((0x5E17A5E1, 0x2B7C93D5), (0x6A09E667, 0x3C6EF372))  # stand for EIP and the next EIP while tracing


class CodeChanged(Exception):
    """An instruction overwrote translated code.

    It is complete; `target` is where it goes, None for the next instruction.

    """

    def __init__(self, target: int | None) -> None:
        super().__init__(target)
        self.target = target


class ShapeTracer(Tracer):
    """Traces an instruction with its operands as parameters: `params` are their values for the instruction that was
    given.
    """

    def __init__(self, insn: Insn, fixed_immediates: bool, sentinels: tuple[int, int]) -> None:
        super().__init__()
        self.params: list[int] = []
        self._operands = iter(range(len(insn.operands)))
        self._fixed = fixed_immediates
        self.sentinels = sentinels
        self.address_used = False

    @property
    def eip(self) -> int:
        self.address_used = True
        return self.sentinels[0]

    @eip.setter
    def eip(self, value: int) -> None:
        pass

    @property
    def next_eip(self) -> int:
        self.address_used = True
        return self.sentinels[1]

    @next_eip.setter
    def next_eip(self, value: int) -> None:
        pass

    def _param(self, value: int, type_: Any = I32) -> Value:
        self.params.append(value)
        return self.emit("param", type_, (), len(self.params) - 1)

    def _register(self, number: int) -> str:
        self.params.append(number)
        return f"${len(self.params) - 1}"

    def get(self, register: str) -> Value:
        if register[0] == "$":
            return self.emit("get", I32, (), register)
        return super().get(register)

    def set(self, register: str, value: Value | int) -> None:
        if register[0] == "$":
            self.emit("set", None, (self.lift(value, I32),), register)
            self.forget(*GENERAL)
        else:
            super().set(register, value)

    def effective_address(self, operand: Memory) -> Value:
        total = self._param(operand.displacement) if operand.displacement else self.const(0)
        if operand.index >= 0:
            total = (self.get(self._register(operand.index)) << (operand.scale.bit_length() - 1)) + total
        if operand.base >= 0:
            total = self.get(self._register(operand.base)) + total
        return total & 0xFFFF if operand.address_size == 16 else total

    def place(self, operand: Operand) -> Place:
        index = next(self._operands)
        match operand:
            case Register("gpr", number, width):
                place = RegisterPlace(self, number, width)
                place.name = self._register(number & 3 if width == 8 else number)
                return place
            case Memory():
                wrap = 0xFFFF if operand.address_size == 16 else 0xFFFFFFFF
                return MemoryPlace(
                    self, SEGMENTS[operand.segment], self.effective_address(operand), operand.width, wrap
                )
            case Immediate(value, width) if index not in self.insn.row.static and not self._fixed:
                return ImmediatePlace(self._param(value, integer(width)))
            case Relative(displacement, _):
                return ImmediatePlace(self._param(displacement))  # bound as a target
        return super().place(operand)


def _operand_key(operand: Operand, static: bool) -> tuple[Any, ...]:
    match operand:
        case Register("gpr", number, 8):
            return ("gpr", 8, number >= 4)
        case Register("gpr", _, width):
            return ("gpr", width)
        case Memory():
            return (
                "mem", operand.segment, operand.base >= 0, operand.index >= 0, operand.scale, operand.displacement != 0,
                operand.address_size, operand.width, operand.base if static else None,
            )  # fmt: skip
        case Immediate(value, width):
            return ("imm", width, value if static else None)
        case Relative():
            return ("rel",)
    return ("fixed", operand)


def shape_key(insn: Insn, fixed_immediates: bool) -> tuple[Any, ...]:
    """What two instructions must share to share a handler's code."""
    keys = [_operand_key(op, fixed_immediates or i in insn.row.static) for i, op in enumerate(insn.operands)]
    return (id(insn.row), insn.operand_size, insn.address_size, insn.segment, insn.rep, insn.lock, *keys)


class ShapeLowering(Lowering):
    """Registers in the list `R`; every way out is a `return`."""

    def read_register(self, op: Value) -> None:
        self.temporary(op, self._slot(op.attr), 32)

    def write_register(self, op: Value) -> None:
        self.write(f"{self._slot(op.attr)}={self.text(op.args[0])}")

    def _slot(self, register: str) -> str:
        return f"R[p{register[1:]}]" if register[0] == "$" else f"R[{GPR32.index(register)}]"

    def _op_get(self, op: Value) -> None:
        if op.attr[0] == "$":
            self.read_register(op)
        else:
            super()._op_get(op)

    def _op_set(self, op: Value) -> None:
        if op.attr[0] == "$":
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
    parameters more, EIP and the next EIP. `special` and `ends_block` are as in `blocks`; `falls` tells that the next
    instruction may follow.
    """

    make: Callable[..., Callable[..., Handler]] | None
    sentinels: bool
    special: bool
    ends_block: bool
    falls: bool
    source: str


_Use = tuple[
    Shape, tuple[int, ...], int | None
]  # a shape, an instruction's parameters, its target relative to its address
_USES: Final = 1 << 14
MOST_SHAPES: Final = 1 << 12  # more are dropped and made again


class Shapes:
    """Compiled shapes by key, shared by all address spaces."""

    def __init__(self, thunks: Thunks) -> None:
        self._thunks = thunks
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._uses: dict[bytes, _Use] = {}  # by an instruction's bytes
        self._fixed_rows: set[int] = set()  # rows whose immediates shape their IR without being marked static

    def __len__(self) -> int:
        return len(self._shapes)

    def find(self, insn: Insn, address: int) -> tuple[Shape, tuple[int, ...]]:
        """The shape of an instruction, compiled if it is new, and the parameters to bind it with."""
        use = self._uses.get(insn.code)
        if use is None:
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
                self._uses.clear()
            use = self._use(insn, address)
            if use is None:
                return self._concrete(insn, address), ()
            if len(self._uses) >= _USES:
                self._uses.clear()
            self._uses[insn.code] = use
        shape, values, relative = use
        if relative is not None:
            values = (*values, address + relative & (0xFFFF if insn.operand_size == 16 else 0xFFFFFFFF))
        if shape.sentinels:
            values = (*values, address, address + insn.length & 0xFFFFFFFF)
        return shape, values

    def _use(self, insn: Insn, address: int) -> _Use | None:
        """How an instruction uses its shape; None where its IR depends on its address."""
        fixed = id(insn.row) in self._fixed_rows
        key = shape_key(insn, fixed)
        shape = self._shapes.get(key)
        if shape is None:
            try:
                shape = self._shapes[key] = self._compile(insn, fixed)
            except TypeError:
                if fixed:
                    return None
                self._fixed_rows.add(id(insn.row))
                return self._use(insn, address)
        return shape, *_parameters(insn, fixed)

    def _concrete(self, insn: Insn, address: int) -> Shape:
        """For the few instructions whose IR depends on their address: a shape of one."""
        key = (insn.code, address)
        shape = self._shapes.get(key)
        if shape is None:
            tracer = Tracer()
            trace(tracer, insn, address)
            shape = self._shapes[key] = self._finish(insn, tracer, 0, False)
        return shape

    def _compile(self, insn: Insn, fixed: bool) -> Shape:
        first = _trace_shape(insn, fixed, _SENTINELS[0])
        used = first.address_used and _replace_sentinels(first, _trace_shape(insn, fixed, _SENTINELS[1]))
        return self._finish(insn, first, len(first.params) + (2 if used else 0), used)

    def _finish(self, insn: Insn, tracer: Tracer, count: int, sentinels: bool) -> Shape:
        ops = tracer.ops
        kind = (sentinels, is_special(ops) or is_bulk(insn), ends_block(ops), ops[-1].op not in ("jump", "exit"))
        if any(op.op == "helper" and op.attr.machine for op in ops):
            return Shape(None, *kind, "")
        source, scope = self._source(tracer, count)
        exec(compile(source, f"<shape {insn.row}>", "exec"), scope)
        return Shape(scope["make"], *kind, source)

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


def _parameters(insn: Insn, fixed: bool) -> tuple[tuple[int, ...], int | None]:
    """The parameters of an instruction's shape in the order in which tracing meets them; a branch target, always last,
    as what is to be added to the address (None: there is none).
    """
    values: list[int] = []
    if insn.lock and not lockable(insn):
        return (), None  # #UD before any operand is looked at
    for index, operand in enumerate(insn.operands):
        match operand:
            case Register("gpr", number, width):
                values.append(number & 3 if width == 8 else number)
            case Memory():
                if operand.displacement:
                    values.append(operand.displacement)
                values.extend(number for number in (operand.index, operand.base) if number >= 0)
            case Immediate(value, _) if index not in insn.row.static and not fixed:
                values.append(value)
            case Relative(displacement, _):
                return tuple(values), insn.length + displacement
    return tuple(values), None


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


def _trace_shape(insn: Insn, fixed: bool, sentinels: tuple[int, int]) -> ShapeTracer:
    """Trace `insn` as if EIP and the next EIP were the sentinels."""
    tracer = ShapeTracer(insn, fixed, sentinels)
    tracer.insn = insn
    tracer.emit("insn", None, (), (insn, sentinels[0]))
    trace_operations(tracer, insn)
    return tracer


def _replace_sentinels(first: ShapeTracer, second: ShapeTracer) -> bool:
    """Turn the constants that are EIP or the next EIP into parameters; TypeError where they were computed with."""
    if len(first.ops) != len(second.ops):
        raise TypeError("the trace's shape depends on the address")
    base = len(first.params)
    used = False
    for a, b in zip(first.ops, second.ops, strict=True):
        if a.op != b.op or a.type != b.type:
            raise TypeError("the trace's shape depends on the address")
        if a.op == "const" and a.attr != b.attr:
            if a.attr not in first.sentinels or second.sentinels[first.sentinels.index(a.attr)] != b.attr:
                raise TypeError("a constant was computed from the address")
            a.attr = base + first.sentinels.index(a.attr)
            a.op = "param"
            used = True
    return used

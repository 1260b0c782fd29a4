"""Cold handlers: one generated function per operand shape, whose operands come from the record.

`Shape` is what instructions share that one handler executes: its name (a symbol, the same in every process), where a
record has its parameters (`Fields`), and its text. A shape that has no native form raises `Unlowerable`; its
instructions' records have the handler `step`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from aiopyvm.engine.native.bulk import bulk, is_bulk
from aiopyvm.engine.native.calls import (
    UNCHANGED,
    Words,
    call,
    check_budget,
    context_field,
    define,
    dispatch,
    jump_through_cache,
    record_field,
)
from aiopyvm.engine.native.layout import ACCESS_WRITE, CONTEXT_OFFSETS, CPU_OFFSETS, RECORD_OFFSETS, RECORD_SIZE
from aiopyvm.engine.native.llvmtext import Text, Unlowerable
from aiopyvm.engine.native.lower import VECTOR_SIZE, Lowering
from aiopyvm.engine.shapes import (
    NOWHERE,
    SENTINELS,
    ShapeTracer,
    general_key,
    is_parameter,
    replace_sentinels,
    shape_key,
    trace_shape,
)
from aiopyvm.ir.builder import Value
from aiopyvm.isa.insn import Immediate, Insn, Memory, Register, Relative
from aiopyvm.isa.insns import branch, interrupt
from aiopyvm.isa.notation import VECTOR_KINDS
from aiopyvm.isa.trace import lockable

GENERAL: Final = "g"  # what the names of general shapes begin with
_REGISTERS: Final = 3
_IN_LINK: Final = 4  # more of them
_VALUES: Final = 2
_SCALES: Final = 3  # the bits of a register's field that a scale may have


@dataclass(frozen=True, slots=True)
class Fields:
    """Where a record has a shape's parameters, as indexes into `engine.shapes.parameters(...)[0]`.

    `registers[i]`: the parameter (a register's number n) that field `registers[i]` has as 4 * n. `values[i]`: the one
    that `values[i]` has, and, where there is no `target`, `link` for i = 2. `target`: `link` is a branch's; where it
    and a third value are missing, its bytes are for registers behind the third. `scale`: the parameter (-1: none) in
    the two low bits of the field whose register is the parameter before it.
    """

    registers: tuple[int, ...]
    values: tuple[int, ...]
    target: bool
    scale: int = -1

    def pack(self, values: Sequence[int]) -> tuple[bytes, int]:
        """The field `registers`, and what `link` has for registers, for the values of the parameters."""
        packed = bytearray(CPU_OFFSETS["ds_base"] if values[i] == NOWHERE else 4 * values[i] for i in self.registers)
        if self.scale >= 0:
            packed[self.registers.index(self.scale - 1)] |= values[self.scale]
        more = int.from_bytes(packed[_REGISTERS:], "little") if self.fit else 0
        return bytes(packed[:_REGISTERS].ljust(_REGISTERS, b"\0")), more

    @property
    def fit(self) -> bool:
        """Whether a record has room for them."""
        in_link = len(self.registers) > _REGISTERS
        room = _VALUES if self.target or in_link else _VALUES + 1
        most = _REGISTERS if self.target else _REGISTERS + _IN_LINK
        return len(self.registers) <= most and len(self.values) <= room


def fields(insn: Insn, general: bool = False) -> Fields:
    """The fields for an instruction's shape; the order is that of `engine.shapes.parameters`."""
    kinds, target = "", False
    operands = insn.operands if not insn.lock or lockable(insn) else ()
    for index, operand in enumerate(operands):
        match operand:
            case Register(kind) if kind == "gpr" or kind in VECTOR_KINDS:
                kinds += "r"
            case Memory() if general:
                kinds += "vrsr"
            case Memory():
                kinds += "v" * (operand.displacement != 0) + "r" * ((operand.index >= 0) + (operand.base >= 0))
            case Immediate() if is_parameter(insn, index, general):
                kinds += "v"
            case Relative():
                target = True
    registers = tuple(i for i, kind in enumerate(kinds) if kind == "r")
    return Fields(registers, tuple(i for i, kind in enumerate(kinds) if kind == "v"), target, kinds.find("s"))


def has_general(insn: Insn) -> bool:
    """Tell whether an instruction has a general shape that is not its own one."""
    addresses = [i for i, operand in enumerate(insn.operands) if isinstance(operand, Memory)]
    static = any(isinstance(insn.operands[i], Immediate) and is_parameter(insn, i, True) for i in insn.row.static)
    vsib = any(isinstance(operand, Memory) and operand.vsib for operand in insn.operands)
    illegal = vsib or insn.address_size == 16 or (insn.lock and not lockable(insn))
    return bool(addresses or static) and not illegal and not set(addresses) & set(insn.row.static)


class Shape:
    """The shape of `insn` in the flat mode; immediates that are not marked static are parameters.

    `general`: its general shape (see `engine.shapes`).
    """

    def __init__(self, insn: Insn, general: bool = False) -> None:
        self.insn = insn
        self.general = general
        self.fields = fields(insn, general)

    @cached_property
    def name(self) -> str:
        """The handler's symbol."""
        shared = general_key(self.insn)[2:] if self.general else shape_key(self.insn, False)[1:]
        key = (str(self.insn.row), self.general, *shared)
        return (GENERAL if self.general else "h") + hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest()

    def trace(self) -> ShapeTracer:
        """The shape's operations; EIP and the next EIP are parameters behind the others.

        Raises Unlowerable where they depend on the address otherwise.
        """
        try:
            tracer = trace_shape(self.insn, False, SENTINELS[0], general=self.general)
            if tracer.address_used:
                replace_sentinels(tracer, trace_shape(self.insn, False, SENTINELS[1], general=self.general))
        except TypeError as error:
            raise Unlowerable(str(error)) from None
        return tracer

    def text(self) -> str:
        """The definition of the handler. Raises Unlowerable."""
        if not self.fields.fit:
            raise Unlowerable("more parameters than a record has room for")
        tracer = self.trace()
        text = Text()
        check_budget(text)
        if is_bulk(self.insn):
            bulk(text, self.insn)
        lowering = HandlerLowering(text, self.fields, len(tracer.params))
        lowering.run(tracer.ops)
        lowering.finish()
        return define(self.name, text)


class HandlerLowering(Lowering):
    """One instruction: registers in the CpuState, parameters in the record, flags in arguments.

    `behind`: the lowering of the instruction before it, where both are one handler's; its record stands behind that
    one's.
    """

    def __init__(self, text: Text, fields: Fields, count: int, behind: HandlerLowering | None = None) -> None:
        self._before: Words = UNCHANGED if behind is None else dict(behind.state)
        super().__init__(text, dict(self._before))
        self._at = 0 if behind is None else 1  # how many instructions the handler has executed before
        self.fields = fields
        self._count = count  # parameters; EIP and the next EIP are behind them
        self._slow: dict[tuple[str, int], str] = {}  # labels, by an access's address and `Context.access`

    def _record(self, name: str, bits: int, at: int = 0) -> str:
        return record_field(self.text, name, bits, at + self._at * RECORD_SIZE)

    def _linked_record(self) -> str:
        distance = self.text.value(f"sext i32 {self._record('link', 32)} to i64")
        return self.text.value(f"getelementptr i8, ptr {self._own_record()}, i64 {distance}")

    def _own_record(self, behind: int = 0) -> str:
        """The instruction's record, or one so many behind it."""
        at = self._at + behind
        return self.text.value(f"getelementptr i8, ptr %rec, i64 {at * RECORD_SIZE}") if at else "%rec"

    def _register(self, name: str) -> str:
        """The address of a general register, or of the shape's register "$n"."""
        if name[0] != "$":
            return self.field(name)
        at = self.fields.registers.index(int(name[1:]))
        field = self._register_field(at)
        if int(name[1:]) + 1 == self.fields.scale:
            field = self.text.value(f"and i8 {field}, {~_SCALES & 255}")
        offset = self.text.value(f"zext i8 {field} to i64")
        return self.text.value(f"getelementptr i8, ptr %cpu, i64 {offset}")

    def vector(self, name: str) -> str:
        if name[0] != "$":
            return super().vector(name)
        field = self._register_field(self.fields.registers.index(int(name[2:])))
        number = self.text.value(f"zext i8 {field} to i64")
        offset = self.text.value(f"mul i64 {number}, {VECTOR_SIZE // 4}")
        return self.text.value(f"getelementptr i8, ptr {self.field('ymm')}, i64 {offset}")

    def _register_field(self, at: int) -> str:
        return self._record("registers", 8, at) if at < _REGISTERS else self._record("link", 8, at - _REGISTERS)

    def read_register(self, name: str) -> str:
        return self.text.fresh(f"load i32, ptr {self._register(name)}")

    def write_register(self, name: str, value: str) -> None:
        self.text.line(f"store i32 {value}, ptr {self._register(name)}")

    def parameter(self, op: Value) -> str:
        word = self._parameter(op.attr)
        if op.bits > 32:
            raise Unlowerable(f"a parameter of {op.bits} bits")
        return self.text.value(f"trunc i32 {word} to i{op.bits}") if op.bits < 32 else word

    def _parameter(self, index: int) -> str:
        if index == self._count:
            return self._record("eip", 32)
        if index == self._count + 1:
            return self._next_eip()
        if index == self.fields.scale:
            at = self.fields.registers.index(index - 1)
            return self.text.value(f"zext i8 {self._register_field(at)} to i32")
        if index in self.fields.registers:  # a register's number
            at = self.fields.registers.index(index)
            number = self.text.value(f"lshr i8 {self._register_field(at)}, 2")
            return self.text.value(f"zext i8 {number} to i32")
        if index not in self.fields.values:
            place = self.text.fresh(f"getelementptr i8, ptr {self._linked_record()}, i64 {RECORD_OFFSETS['eip']}")
            return self.text.fresh(
                f"load i32, ptr {place}"
            )  # a branch's target: every record that it may lead to has it
        at = self.fields.values.index(index)
        return self._record("values", 32, 4 * at) if at < _VALUES else self._record("link", 32)

    def _next_eip(self) -> str:
        length = self.text.value(f"zext i8 {self._record('length', 8)} to i32")
        return self.text.value(f"add i32 {self._record('eip', 32)}, {length}")

    # -- leaving -------------------------------------------------------------------------------------------------------

    def step_label(self) -> str:
        return self.slow_label("0", 0, False)

    def slow_label(self, address: str, size: int, write: bool) -> str:
        key = address, size | (ACCESS_WRITE if write else 0)
        if key not in self._slow:
            self._slow[key] = self.text.new_label()
        return self._slow[key]

    def _left(self, done: int = 1) -> str:
        """What is left of the budget when the handler's instructions before, and `done` more, are executed."""
        spent = self._at + done
        return self.text.value(f"add i64 %budget, {-spent}") if spent else "%budget"

    def _go(self, rec: str) -> None:
        dispatch(self.text, rec, self._left(), self.state)

    def jump(self, target: Value) -> None:
        known = target.args[0] if target.op == "and" and target.args[1].op == "const" else target
        if known.op == "param" and known.attr not in self.fields.values:
            if known.attr == self._count:
                self._go(self._own_record())
            elif known.attr == self._count + 1:
                self._go(self._own_record(1))
            else:
                self._go(self._linked_record())
        else:
            eip = self.name(target)
            jump_through_cache(self.text, eip, self._left(), self.state, self.field("eip"))

    def leave(self, kind: str, vector: int) -> None:
        if kind == "trap":
            self.text.line(f"store i32 {vector}, ptr {context_field(self.text, 'vector')}")
        call(self.text, f"@leave_{kind}", self._own_record(), self._left(), self.state)

    def leave_fault(self, vector: int, error_code: str) -> None:
        self.text.line(f"store i32 {vector}, ptr {context_field(self.text, 'vector')}")
        self.text.line(f"store i32 {error_code}, ptr {context_field(self.text, 'error_code')}")
        call(self.text, "@leave_fault", self._own_record(), self._left(0), self._before)

    def finish(self) -> None:
        """The way out behind the last operation, and those for Python to execute the instruction."""
        if not self.ended:
            self._go(self._own_record(1))
        self.ways_out()

    def ways_out(self) -> None:
        """Where the instruction is left to Python."""
        text = self.text
        for (address, access), label in self._slow.items():
            text.label(label)
            for name, value in (("address", address), ("access", str(access))) if access else ():
                place = text.fresh(f"getelementptr i8, ptr %ctx, i64 {CONTEXT_OFFSETS[name]}")
                text.line(f"store i32 {value}, ptr {place}")
            scope = text.scope()
            call(text, "@leave_step", self._own_record(), self._left(0), self._before)
            text.leave_scope(scope)


class Shapes:
    """Shapes by what instructions share; at most `most` are kept."""

    def __init__(self, most: int = 1 << 13) -> None:
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._most = most

    def has_general(self, insn: Insn) -> bool:
        """Whether an instruction has a general shape beside its own one."""
        return has_general(insn)

    def find(self, insn: Insn, general: bool = False) -> Shape:
        """The shape of an instruction, or its general one."""
        key = general_key(insn) if general else shape_key(insn, False)
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= self._most:
                self._shapes.clear()
            shape = self._shapes[key] = Shape(insn, general)
        return shape


@dataclass(frozen=True, slots=True)
class Flow:
    """Where control may go from an instruction: `ends`: elsewhere than to the next one; `falls`: to the next one;
    `call`: its target is a procedure.
    """

    ends: bool
    falls: bool
    call: bool


_STRAIGHT: Final = Flow(ends=False, falls=True, call=False)
_BRANCHES: Final = branch.__name__
_INTERRUPTS: Final = interrupt.__name__
_NEVER_FALL: Final = frozenset(("jmp", "ret", "retf", "iret", "iretd", "call"))


def flow(insn: Insn) -> Flow:
    """Where control may go from `insn`. A REP's jump to itself is not told."""
    module, name = insn.row.semantics.__module__, insn.row.name
    if module == _BRANCHES:
        return Flow(ends=True, falls=name not in _NEVER_FALL, call=name == "call")
    if module == _INTERRUPTS:
        return Flow(ends=True, falls=True, call=False)
    return _STRAIGHT


__all__ = ["Fields", "Flow", "HandlerLowering", "Shape", "Shapes", "fields", "flow", "has_general"]

"""Shapes: what instructions share that differ only in register numbers, displacements, immediates and targets.

A shape is a row of the table with what its IR depends on: sizes, which kind of operand, which address form. Its trace
has `param` operations, and registers named "$n" (vector registers "$xn"), where an operand's value would stand; the
values of an instruction's parameters are in the order in which tracing meets them. Segments that are flat are one: in
mode 0 they trace alike.

A *general* shape is every 32-bit address at once: displacement, index, scale and base are parameters, a register that
an address does not have is number `NOWHERE`, and static immediates are parameters too.
"""

from __future__ import annotations

from typing import Any, Final

from aiopyvm.ir.builder import Value
from aiopyvm.ir.registers import GENERAL, VECTORS
from aiopyvm.ir.types import I8, I32, Type, integer
from aiopyvm.isa.insn import Immediate, Insn, Memory, Operand, Register, Relative
from aiopyvm.isa.notation import VECTOR_KINDS
from aiopyvm.isa.places import ImmediatePlace, MemoryPlace, MmxPlace, Place, RegisterPlace, VectorPlace, VsibPlace
from aiopyvm.isa.state import MODE_X87, SEGMENTS
from aiopyvm.isa.trace import Tracer, lockable, trace_operations
from aiopyvm.isa.x87 import opcode

NOWHERE: Final = -1  # the register, always 0, that a general shape's address has in place of none
_FLAT: Final = (0, 2, 3)  # ES, SS, DS; to CS nothing is written
_F3: Final = 0xF3
_COUNTED_WITH_F3: Final = ("bsf", "bsr")  # F3 makes TZCNT and LZCNT of them, on processors that have these
SENTINELS: Final = ((0x5E17A5E1, 0x2B7C93D5), (0x6A09E667, 0x3C6EF372))  # stand for EIP and the next EIP while tracing


class AddressTracer(Tracer):
    """A tracer that knows whether somebody asked for the instruction's address, or the next one's."""

    address_used = False

    @property
    def eip(self) -> int:
        self.address_used = True
        return self._eip

    @eip.setter
    def eip(self, value: int) -> None:
        self._eip = value

    @property
    def next_eip(self) -> int:
        self.address_used = True
        return self._next_eip

    @next_eip.setter
    def next_eip(self, value: int) -> None:
        self._next_eip = value


class ShapeTracer(AddressTracer):
    """Traces an instruction with its operands as parameters: `params` are their values for the instruction that was
    given.
    """

    def __init__(
        self, insn: Insn, fixed_immediates: bool, sentinels: tuple[int, int], mode: int = 0, general: bool = False
    ) -> None:
        super().__init__(mode)
        self._general = general
        self.params: list[int] = []
        self._operands = iter(range(len(insn.operands)))
        self._fixed = fixed_immediates
        self.sentinels = sentinels
        self.eip, self.next_eip = sentinels

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

    def get_vector(self, name: str, type_: Type) -> Value:
        return self.emit("get", type_, (), name)

    def set_vector(self, name: str, value: Value) -> None:
        self.emit("set", None, (value,), name)
        self.forget(*VECTORS)

    def effective_address(self, operand: Memory) -> Value:
        if self._general:
            return self._general_address(operand)
        total = self._param(operand.displacement) if operand.displacement else self.const(0)
        if operand.index >= 0:
            total = (self.get(self._register(operand.index)) << (operand.scale.bit_length() - 1)) + total
        if operand.base >= 0:
            total = self.get(self._register(operand.base)) + total
        return total & 0xFFFF if operand.address_size == 16 else total

    def _general_address(self, operand: Memory) -> Value:
        if operand.address_size == 16:
            raise TypeError("no general shape has addresses of 16 bits")
        total = self._param(operand.displacement)
        index = self.get(self._register(operand.index))
        total = (index << (self._param(operand.scale.bit_length() - 1) & 3)) + total
        return self.get(self._register(operand.base)) + total

    def place(self, operand: Operand) -> Place:
        index = next(self._operands)
        match operand:
            case Register("gpr", number, width):
                place = RegisterPlace(self, number, width)
                place.name = self._register(number & 3 if width == 8 else number)
                return place
            case Register("xmm" | "ymm", number, width):
                vector = VectorPlace(self, number, width, self.insn.row.vex)
                vector.name = f"$x{self._register(number)[1:]}"
                return vector
            case Register("mm", number, _):
                return MmxPlace(self, self._param(number, I8))
            case Memory() if operand.vsib:
                vsib = super().place(operand)
                assert isinstance(vsib, VsibPlace)
                vsib.index.name = f"$x{self._register(operand.index)[1:]}"
                return vsib
            case Memory():
                wrap = 0xFFFF if operand.address_size == 16 else 0xFFFFFFFF
                return MemoryPlace(
                    self, SEGMENTS[operand.segment], self.effective_address(operand), operand.width, wrap
                )
            case Immediate(value, width) if not self._fixed and is_parameter(self.insn, index, self._general):
                return ImmediatePlace(self._param(value, integer(width)))
            case Relative(displacement, _):
                return ImmediatePlace(self._param(displacement))  # bound as a target
        return super().place(operand)


def _operand_key(operand: Operand, static: bool, flat: bool) -> tuple[Any, ...]:
    match operand:
        case Register("gpr", number, 8):
            return ("gpr", 8, number >= 4)
        case Register("gpr", _, width):
            return ("gpr", width)
        case Register(kind) if kind in VECTOR_KINDS:
            return (kind,)
        case Memory():
            return (
                "mem", segment_key(operand.segment, flat), operand.base >= 0, operand.index >= 0, operand.scale,
                operand.displacement != 0, operand.address_size, operand.width, operand.base if static else None,
                operand.vsib,
            )  # fmt: skip
        case Immediate(value, width):
            return ("imm", width, value if static else None)
        case Relative():
            return ("rel",)
    return ("fixed", operand)


def segment_key(segment: int, flat: bool) -> int:
    """What a segment's number, or a segment override (-1: none), means for a shape, where segments may be flat."""
    return -1 if flat and segment in _FLAT else segment


def shape_key(insn: Insn, fixed_immediates: bool, mode: int = 0) -> tuple[Any, ...]:
    """What two instructions must share to share a handler's code for a mode."""
    flat = not mode
    keys = [_operand_key(op, fixed_immediates or i in insn.row.static, flat) for i, op in enumerate(insn.operands)]
    if mode & MODE_X87 and "D8" <= insn.row.encoding[:2] <= "DF":
        keys.append(("fop", opcode(insn.code)))  # such blocks keep it
    segment = segment_key(insn.segment, flat)
    return (id(insn.row), mode, insn.operand_size, insn.address_size, segment, _rep(insn), insn.lock, *keys)


def _rep(insn: Insn) -> int:
    """The repeat prefix. Compilers write F3 BSF, which is TZCNT where there is one: without it, it is BSF's handler."""
    return 0 if insn.rep == _F3 and insn.row.name in _COUNTED_WITH_F3 else insn.rep


def is_parameter(insn: Insn, index: int, general: bool) -> bool:
    """Tell whether an immediate operand is a parameter of its shape, or of the general one."""
    return index not in insn.row.static or (general and not insn.row.operands[index].isdigit())


def general_key(insn: Insn) -> tuple[Any, ...]:
    """What two instructions must share to share the code of a general shape in the flat mode."""
    keys: list[tuple[Any, ...]] = []
    for index, operand in enumerate(insn.operands):
        match operand:
            case Memory():
                keys.append(("mem", segment_key(operand.segment, True), operand.width))
            case Immediate(_, width) if is_parameter(insn, index, True):
                keys.append(("imm", width))
            case _:
                keys.append(_operand_key(operand, True, True))
    return ("general", id(insn.row), insn.operand_size, segment_key(insn.segment, True), _rep(insn), insn.lock, *keys)


def parameters(insn: Insn, fixed: bool, general: bool = False) -> tuple[tuple[int, ...], int | None]:
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
            case Register(kind, number) if kind in VECTOR_KINDS:
                values.append(number)
            case Memory() if general:
                scale = operand.scale.bit_length() - 1
                values.extend((operand.displacement, operand.index, scale, operand.base))
            case Memory():
                if operand.displacement:
                    values.append(operand.displacement)
                numbers = (operand.base, operand.index) if operand.vsib else (operand.index, operand.base)
                values.extend(number for number in numbers if number >= 0)
            case Immediate(value, _) if not fixed and is_parameter(insn, index, general):
                values.append(value)
            case Relative(displacement, _):
                return tuple(values), insn.length + displacement
    return tuple(values), None


def trace_shape(
    insn: Insn, fixed: bool, sentinels: tuple[int, int], mode: int = 0, general: bool = False
) -> ShapeTracer:
    """Trace `insn` for a mode (MODE_* bits), as if EIP and the next EIP were the sentinels."""
    tracer = ShapeTracer(insn, fixed, sentinels, mode, general)
    tracer.insn = insn
    tracer.emit("insn", None, (), (insn, sentinels[0]))
    trace_operations(tracer, insn)
    return tracer


def replace_sentinels(first: ShapeTracer, second: ShapeTracer) -> bool:
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

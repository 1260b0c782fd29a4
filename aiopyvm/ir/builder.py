"""Values and the builder that traces them.

A `Value` is one operation of a trace; those with a type can be computed with (`x + y`, `x >> 3`, `x.eq(0)`), an int
beside a value becomes a constant of its type. Constants are folded as they are built, by the very functions that the
evaluator uses; a pure operation built twice is the same value; and reading a register gives the value last written to
it, so that a trace over several instructions is in static single assignment form while every `set` still stands where
it happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.ops import FLOAT_OPS, OPS, SIMD_OPS
from aiopyvm.ir.pure import PURE, compute
from aiopyvm.ir.registers import OVERLAPS, TYPES
from aiopyvm.ir.simplify import simplify
from aiopyvm.ir.types import F80, I1, I8, I32, Type, integer


class Value:
    """One operation: `op` (a name of `OPS`), result `type` (None for an effect), `args`, and `attr`."""

    __slots__ = ("args", "attr", "builder", "op", "type")

    def __init__(
        self, builder: Builder, op: str, type_: Type | None, args: tuple[Value, ...], attr: Any = None
    ) -> None:
        self.builder = builder
        self.op = op
        self.type = type_
        self.args = args
        self.attr = attr

    @property
    def bits(self) -> int:
        """Width of the result in bits."""
        if self.type is None:
            raise TypeError(f"{self.op} has no result")
        return self.type.size

    width = bits

    def __index__(self) -> int:
        if self.op == "const":
            return int(self.attr)
        raise TypeError(f"the value of this {self.op} is not known while tracing: mark its operand static")

    def __bool__(self) -> bool:
        raise TypeError("a traced value has no truth: use select, when or fault")

    def _binary(self, op: str, other: Value | int, result: Type | None = None) -> Value:
        return self.builder.pure(op, result or self.type, (self, self.builder.lift(other, self.type)))

    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._binary("xor", other)

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary("shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        return self._binary("shr", other)

    def sar(self, other: Value | int) -> Value:
        """Arithmetic shift right."""
        return self._binary("sar", other)

    def udiv(self, other: Value | int) -> Value:
        """Unsigned quotient."""
        return self._binary("udiv", other)

    def urem(self, other: Value | int) -> Value:
        """Unsigned remainder."""
        return self._binary("urem", other)

    def sdiv(self, other: Value | int) -> Value:
        """Signed quotient, truncated toward zero."""
        return self._binary("sdiv", other)

    def srem(self, other: Value | int) -> Value:
        """Signed remainder, with the dividend's sign."""
        return self._binary("srem", other)

    def __invert__(self) -> Value:
        return self.builder.pure("not", self.type, (self,))

    def __neg__(self) -> Value:
        return self.builder.pure("neg", self.type, (self,))

    @property
    def _truth(self) -> Type:
        """The type of a comparison: i1, of as many lanes."""
        return I1 if self.type is None or self.type.lanes == 1 else integer(1, self.type.lanes)

    def eq(self, other: Value | int) -> Value:
        """1 where equal (i1)."""
        return self._binary("eq", other, self._truth)

    def ne(self, other: Value | int) -> Value:
        """1 where different (i1)."""
        return ~self.eq(other)

    def ult(self, other: Value | int) -> Value:
        """1 where below, unsigned."""
        return self._binary("ult", other, self._truth)

    def ule(self, other: Value | int) -> Value:
        """1 where below or equal, unsigned."""
        return self._binary("ule", other, self._truth)

    def slt(self, other: Value | int) -> Value:
        """1 where less, signed."""
        return self._binary("slt", other, self._truth)

    def sle(self, other: Value | int) -> Value:
        """1 where less or equal, signed."""
        return self._binary("sle", other, self._truth)

    def zext(self, bits: int) -> Value:
        """Zero-extend to `bits`, each lane of a vector."""
        return self._resized("zext", bits)

    def sext(self, bits: int) -> Value:
        """Sign-extend to `bits`, each lane of a vector."""
        return self._resized("sext", bits)

    def trunc(self, bits: int) -> Value:
        """Keep the low `bits`, of each lane of a vector."""
        return self._resized("trunc", bits)

    def _resized(self, op: str, bits: int) -> Value:
        assert self.type is not None
        return self if bits == self.type.bits else self.builder.pure(op, integer(bits, self.type.lanes), (self,))

    def bit(self, n: int) -> Value:
        """Bit `n` (i1)."""
        return (self >> n).trunc(1) if n else self.trunc(1)

    @property
    def msb(self) -> Value:
        """The sign bit (i1)."""
        return self.bit(self.bits - 1)

    def cast(self, type_: Type) -> Value:
        """The same bits as another type of that size."""
        return self if type_ == self.type else self.builder.pure("bitcast", type_, (self,))

    # -- vectors -------------------------------------------------------------------------------------------------------

    def lanes(self, bits: int) -> Value:
        """The same bits as integer lanes of `bits` each; as one integer where that is all of them."""
        return self.cast(integer(bits, self.bits // bits))

    def saturating(self, op: str, other: Value | int) -> Value:
        """A saturating sum or difference: "uadds", "sadds", "usubs", "ssubs"."""
        return self._binary(op, other)

    def extract(self, lane: int) -> Value:
        """One lane."""
        assert self.type is not None
        return self.builder.move("extract", self.type.lane, (self,), lane)

    def insert(self, lane: int, value: Value) -> Value:
        """The vector with another value as one lane."""
        assert self.type is not None
        return self.builder.move("insert", self.type, (self, self.builder.lift(value, self.type.lane)), lane)

    def shuffle(self, lanes: Iterable[int], other: Value | None = None) -> Value:
        """A vector of these lanes; those of `other` are numbered behind this one's."""
        assert self.type is not None
        numbers = tuple(lanes)
        type_ = Type.vector(self.type.lane, len(numbers))
        return self.builder.move("shuffle", type_, (self, self if other is None else other), numbers)

    def splat(self, lanes: int) -> Value:
        """A vector with this scalar in all lanes."""
        assert self.type is not None
        return self.builder.move("splat", Type.vector(self.type, lanes), (self,))

    def permute(self, numbers: Value) -> Value:
        """A vector of the lanes with these numbers (a vector of integers), modulo how many there are."""
        assert self.type is not None
        assert numbers.type is not None
        type_ = Type.vector(self.type.lane, numbers.type.lanes)
        return self.builder.move("permute", type_, (self, numbers))

    def clz(self) -> Value:
        """Leading zero bits."""
        return self.builder.pure("clz", self.type, (self,))

    def ctz(self) -> Value:
        """Trailing zero bits."""
        return self.builder.pure("ctz", self.type, (self,))

    def popcnt(self) -> Value:
        """Number of ones."""
        return self.builder.pure("popcnt", self.type, (self,))

    def parity(self) -> Value:
        """1 where the low byte has an even number of ones (i1)."""
        return self.builder.pure("parity", I1, (self.trunc(8),))

    def __repr__(self) -> str:
        from aiopyvm.ir.printer import describe

        return describe(self)


class _Stack:
    """What is known of the x87 registers: values by distance from one base, where no two distances are one register."""

    __slots__ = ("base", "values")

    def __init__(self, base: Value | None = None, values: dict[int, Value] | None = None) -> None:
        self.base = base
        self.values = values or {}

    def copy(self) -> _Stack:
        return _Stack(self.base, self.values.copy())

    def clear(self) -> None:
        self.values.clear()

    def get(self, index: Value) -> Value | None:
        base, distance = _split(index)
        return self.values.get(distance) if base is self.base else None

    def set(self, index: Value, value: Value) -> None:
        """Know `value`; a register of another base may be any of those that were known."""
        base, distance = _split(index)
        if base is not self.base:
            self.base = base
            self.values.clear()
        self.values[distance] = value


def _split(index: Value) -> tuple[Value | None, int]:
    """A register number as a base and a distance (0..7) modulo 8; a constant has no base."""
    distance = 0
    while True:
        if index.op == "const":
            return None, distance + int(index.attr) & 7
        if index.op == "and" and index.args[1].op == "const" and index.args[1].attr == 7:
            index = index.args[0]
        elif index.op == "add" and index.args[1].op == "const":
            distance += int(index.args[1].attr)
            index = index.args[0]
        else:
            return index, distance & 7


@dataclass(frozen=True, slots=True)
class Known:
    """What a builder knows at one point of a trace."""

    memo: dict[tuple[Any, ...], Value]
    registers: dict[str, Value]
    stack: _Stack


class Builder:
    """Appends operations to `ops`, the trace."""

    def __init__(self) -> None:
        self.ops: list[Value] = []
        self._memo: dict[tuple[Any, ...], Value] = {}  # pure operations that may be used here
        self._known: dict[str, Value] = {}  # registers whose value is known here
        self._known_fp = _Stack()
        self._guards: list[tuple[dict[tuple[Any, ...], Value], dict[str, Value], set[str], _Stack]] = []

    # -- the three ways to append --------------------------------------------------------------------------------------

    def emit(self, op: str, type_: Type | None, args: tuple[Value, ...] = (), attr: Any = None) -> Value:
        """Append one operation as it is."""
        value = Value(self, op, type_, args, attr)
        self.ops.append(value)
        return value

    def pure(self, op: str, type_: Type | None, args: tuple[Value, ...], attr: Any = None) -> Value:
        """Append a pure operation, or the constant it folds to."""
        assert type_ is not None
        function = PURE.get(op)
        if function is not None:
            for arg in args:
                if arg.op != "const":
                    break
            else:
                return self.const(compute(op, type_, args[0].type, *[arg.attr for arg in args]), type_)
            simpler = simplify(op, type_, args)
            if simpler is not None:
                return simpler
        return self._shared((op, type_, *args), op, type_, args, attr)

    def move(self, op: str, type_: Type, args: tuple[Value, ...], attr: Any = None) -> Value:
        """Append one of the operations that move lanes, or the constant it folds to."""
        if all(arg.op == "const" for arg in args):
            return self.const(LANES[op](type_, args[0].type, attr, *[arg.attr for arg in args]), type_)
        return self._shared((op, type_, attr, *args), op, type_, args, attr)

    def _shared(self, key: tuple[Any, ...], op: str, type_: Type, args: tuple[Value, ...], attr: Any) -> Value:
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self.emit(op, type_, args, attr)
        return found

    def const(self, value: int, type_: Type = I32) -> Value:
        """The constant `value`, reduced modulo 2**bits."""
        reduced = value & type_.mask
        return self._shared(("const", type_, reduced), "const", type_, (), reduced)

    def lift(self, value: Value | int, type_: Type | None) -> Value:
        """`value` itself, or an int as a constant of `type_`, the same in all lanes. Widths must agree."""
        assert type_ is not None
        if isinstance(value, Value):
            if value.type != type_:
                raise TypeError(f"operand is {value.type}, expected {type_}")
            return value
        return self.const(value if type_.lanes == 1 else type_.splat(value), type_)

    # -- several ways to go on -----------------------------------------------------------------------------------------

    def known(self) -> Known:
        """What is known here, outside guards; `resume` goes on from it, once for each way that control may take."""
        return Known(self._memo.copy(), self._known.copy(), self._known_fp.copy())

    def resume(self, known: Known) -> None:
        """Go on where `known` was asked for, with a new list of operations."""
        self.ops = []
        self._memo, self._known, self._known_fp = known.memo.copy(), known.registers.copy(), known.stack.copy()

    # -- state ---------------------------------------------------------------------------------------------------------

    def get(self, register: str) -> Value:
        """Read a register of `TYPES`."""
        known = self._known.get(register)
        if known is None:
            known = self._known[register] = self.emit("get", TYPES[register], (), register)
        return known

    def set(self, register: str, value: Value | int) -> None:
        """Write a register of `TYPES`."""
        new = self.lift(value, TYPES[register])
        if self._known.get(register) is new:
            return  # it has that value
        self.emit("set", None, (new,), register)
        self._known[register] = new
        if self._guards:
            self._guards[-1][2].add(register)
        if register in OVERLAPS:
            self._changes(OVERLAPS[register])

    def _changes(self, register: str) -> None:
        """A register that shows some of one that was written."""
        self._known.pop(register, None)
        if self._guards:
            self._guards[-1][2].add(register)

    def forget(self, *registers: str) -> None:
        """Drop what is known of `registers` (none named: of all): something else may have changed them."""
        for register in registers or tuple(self._known):
            self._known.pop(register, None)
        if not registers:
            self._known_fp.clear()

    def getfp(self, index: Value) -> Value:
        """Read physical x87 register `index` (i8)."""
        known = self._known_fp.get(index)
        if known is None:
            known = self.emit("getfp", F80, (index,))
            self._known_fp.set(index, known)
        return known

    def setfp(self, index: Value, value: Value) -> None:
        """Write physical x87 register `index` (i8)."""
        new = self.lift(value, F80)
        self.emit("setfp", None, (index, new))
        self._known_fp.set(index, new)
        if self._guards:
            self._guards[-1][2].add("fpr")

    # -- memory --------------------------------------------------------------------------------------------------------

    def load(self, address: Value, type_: Type) -> Value:
        """Read memory at a linear address; may fault."""
        return self.emit("load", type_, (self.lift(address, I32),))

    def store(self, address: Value, value: Value) -> None:
        """Write memory at a linear address; may fault."""
        self.emit("store", None, (self.lift(address, I32), value))

    def probe(self, address: Value, size: int, write: bool) -> None:
        """Fault as an access of `size` bytes would, and do nothing else."""
        self.emit("probe", None, (self.lift(address, I32),), (size, write))

    # -- choice and control --------------------------------------------------------------------------------------------

    def select(self, condition: Value, yes: Value | int, no: Value | int) -> Value:
        """`yes` where `condition` (i1, or one for each lane) is 1, else `no`; at least one of them a Value."""
        type_ = yes.type if isinstance(yes, Value) else no.type if isinstance(no, Value) else None
        if type_ is None:
            raise TypeError("select needs a Value to know its type")
        return self.pure("select", type_, (condition, self.lift(yes, type_), self.lift(no, type_)))

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Guard the operations of the block; no value computed inside may be used outside."""
        self.emit("when", None, (self.lift(condition, I1),))
        self._guards.append((self._memo, self._known, set(), self._known_fp))
        self._memo, self._known, self._known_fp = self._memo.copy(), self._known.copy(), self._known_fp.copy()
        yield
        self.emit("end", None)
        self._memo, self._known, written, self._known_fp = self._guards.pop()
        if "fpr" in written:
            self._known_fp.clear()
        if written:
            self.forget(*written)
        if self._guards:
            self._guards[-1][2].update(written)

    def fault(self, vector: int, condition: Value | None = None, error_code: Value | int = 0) -> None:
        """Raise exception `vector` (where `condition` is 1); the instruction has no effect."""
        guard = self.const(1, I1) if condition is None else self.lift(condition, I1)
        if guard.op != "const" or guard.attr:
            self.emit("fault", None, (guard, self.lift(error_code, I32)), vector)

    def jump(self, target: Value | int) -> None:
        """Continue at linear `target` and end the instruction."""
        self.emit("jump", None, (self.lift(target, I32),))

    def exit(self, kind: str, vector: int = 0) -> None:
        """Leave the engine after this instruction: kind "syscall", or "trap" with its vector."""
        self.emit("exit", None, (), (kind, vector))

    # -- floating point and helpers ------------------------------------------------------------------------------------

    def floating(self, op: str, type_: Type, *args: Value) -> Value:
        """A floating-point operation of `FLOAT_OPS`; the last argument is the control word (i16)."""
        assert op in FLOAT_OPS
        assert OPS[op].arity == len(args)
        return self.emit(op, type_, args)

    def simd(self, op: str, type_: Type, *args: Value, attr: Any = None) -> Value:
        """A SIMD operation of `SIMD_OPS` under the MXCSR there is; see `raises`."""
        assert op in SIMD_OPS
        arguments = (*args, self.get("mxcsr"))
        assert OPS[op].arity == len(arguments)
        return self.emit(op, type_, arguments, attr)

    def raises(self, *operations: Value) -> None:
        """Exceptions of SIMD operations to MXCSR, in their order; #XM at the first that is not masked: the instruction
        then does nothing else.
        """
        assert all(operation.op in SIMD_OPS for operation in operations)
        self.emit("raise", None, operations)
        self._changes("mxcsr")

    def fexc(self, operation: Value) -> Value:
        """The exceptions (i8) of a floating-point operation."""
        assert operation.op in FLOAT_OPS
        return self.emit("fexc", I8, (operation,))

    def helper(self, helper: Any, type_: Type, *args: Value) -> Value:
        """Call a registered `Helper` (`aiopyvm.ir.helpers`)."""
        value = self.emit("helper", type_, args, helper)
        if helper.machine:
            self.forget()  # it may write any register
        return value

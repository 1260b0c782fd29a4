"""The x87 in a region: registers are values, the status word is put together where it is looked at.

The region is entered with the one x87 stack that it was made for (`regionx87`). What always holds inside:

- The host's control word is the guest's. The host's exceptions are among the guest's: what is not is cleared first.
- `%l.fsw` and the traced status word lack exceptions that the host has (`regionstatus`). They are added where the guest
  looks, and where the region is left.
- Registers keep what was popped, as the hardware's do, so each physical register is a local variable, `%l.fp0` and so
  on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiopyvm.engine.native import lower_float
from aiopyvm.engine.native.calls import context_field
from aiopyvm.engine.native.layout import CPU_OFFSETS
from aiopyvm.engine.native.llvmtext import LIKELY, UNLIKELY
from aiopyvm.engine.native.lower_float import HOST_CONTROL
from aiopyvm.engine.native.regionasm import KIND, Asms
from aiopyvm.engine.native.regiondraft import Draft, FloatState
from aiopyvm.engine.native.regions import Node
from aiopyvm.engine.native.regionstatus import Terms, compared_by, is_operation, terms
from aiopyvm.engine.native.regionx87 import Stack
from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F80
from aiopyvm.isa.x87 import EXCEPTIONS

Naming = Callable[[Value], str]

_REGISTER_SIZE: Final = 16  # bytes from one x87 register to the next
_SIGN: Final = 1 << 79
_LETTER: Final = {32: "s", 64: "l"}  # of a float in memory
_INTEGER: Final = {16: "s", 32: "l", 64: "ll"}
_ARITHMETIC: Final = ("fadd", "fsub", "fmul", "fdiv")
_UNARY: Final = {"fsqrt": "fsqrt", "frint": "frndint"}
_COMPARE: Final = {"fcompare": "fcom", "fcompareq": "fucom"}
_CONSTANTS: Final = {0: "fldz", 0x3FFF8000000000000000: "fld1"}
_ZERO: Final = 0
_LESS: Final = 8  # bit of the status word that says so after a comparison
_EQUAL: Final = 14


class Floats:
    """Writes what the x87 does into a draft. `used`: the registers that the region reads or sets, and those it sets."""

    def __init__(self, draft: Draft, used: tuple[frozenset[int], frozenset[int]], stack: Stack) -> None:
        self._draft = draft
        self._text = draft.text
        self._used, self._written = (sorted(registers) for registers in used)
        self._stack = stack
        self._asms = Asms(draft.text)
        self._terms: dict[Value, Terms] = {}
        self._places: dict[Value, str] = {}  # memory operands of this instruction
        self._targets: dict[Value, int] = {}  # registers that operations' results go to

    @property
    def _state(self) -> FloatState:
        return self._draft.state.x87

    # -- the function --------------------------------------------------------------------------------------------------

    def finish(self, lines: Sequence[str]) -> list[str]:
        """The function's lines, all being written."""
        return self._asms.finish(lines)

    def variables(self) -> dict[str, str]:
        """The local variables and their types."""
        return {f"fp{n}": KIND for n in self._used} | {"fsw": "i16", "fip": "i32"}

    def enters(self) -> str:
        """Whether (i1) the stack is the one that the region was made for."""
        text = self._text
        place = self._field("ftop")
        assert CPU_OFFSETS["fvalid"] == CPU_OFFSETS["ftop"] + 1
        return text.fresh(f"icmp eq i16 {text.fresh(f'load i16, ptr {place}')}, {self._word(self._stack)}")

    @staticmethod
    def _word(stack: Stack) -> int:
        word = stack[0] | stack[1] << 8
        return word - (1 << 16) if word >> 15 else word

    def enter(self) -> None:
        """The region is entered: read the state, give the host the guest's control word."""
        text = self._text
        for n in self._used:
            text.line(f"store {KIND} {text.fresh(f'load {KIND}, ptr {self._register(n)}, align 2')}, ptr %l.fp{n}")
        status = text.fresh(f"load i16, ptr {self._field('fsw')}")
        text.line(f"store i16 {status}, ptr %l.fsw")
        last = text.fresh(f"load i32, ptr {self._field('fip')}")
        text.line(f"store i32 {last}, ptr %l.fip")
        lower_float.forget(text, status)
        self._unusual(lambda control: self._load_control(control))

    def _unusual(self, write: Callable[[str], None]) -> None:
        """What is to be done where the guest's control word, with all exceptions masked, is not the host's."""
        text = self._text
        control = text.fresh(f"load i16, ptr {self._field('fcw')}")
        other, same = text.new_label(), text.new_label()
        text.branch(text.fresh(f"icmp eq i16 {control}, {HOST_CONTROL}"), same, other, LIKELY)
        text.label(other)
        write(control)
        text.line(f"br label %{same}")
        text.label(same)

    def _load_control(self, control: str) -> None:
        slot = self._text.slot("control", "i16", 2)
        self._text.line(f"store i16 {control}, ptr {slot}")
        self._text.line(f'call void asm sideeffect "fldcw $0", "*m"(ptr elementtype(i16) {slot})')

    def leave(self) -> None:
        """Where all ways out meet: add the host's exceptions, give it its control word back."""
        text = self._text
        raised = self._exceptions()
        text.line(f"store i16 {raised}, ptr {context_field(text, 'x87')}")
        status = text.fresh(f"or i16 {text.fresh('load i16, ptr %l.fsw')}, {raised}")
        text.line(f"store i16 {status}, ptr {self._field('fsw')}")
        self._unusual(lambda control: self._load_control(str(HOST_CONTROL)))

    def _exceptions(self) -> str:
        """The host's exceptions (i16)."""
        status = self._text.fresh('call i16 asm sideeffect "fnstsw %ax", "={ax}"()')
        return self._text.fresh(f"and i16 {status}, {EXCEPTIONS}")

    def _field(self, name: str) -> str:
        return self._text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    def _register(self, n: int) -> str:
        return self._text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['fpr'] + _REGISTER_SIZE * n}")

    # -- between trees, and out ----------------------------------------------------------------------------------------

    def arrive(self) -> None:
        """Another tree is entered from here: bring the local variables up to date."""
        text, name = self._text, self._draft.name
        for n, value in self._state.registers.items():
            text.line(f"store {KIND} {name(value)}, ptr %l.fp{n}")
        if "fsw" in self._state.fields:
            text.line(f"store i16 {self._status()}, ptr %l.fsw")
        if "fip" in self._state.fields:
            text.line(f"store i32 {name(self._state.fields['fip'])}, ptr %l.fip")

    def store(self) -> None:
        """At a way out: write what the region may have changed to the `CpuState`, and `%l.fsw`."""
        text, name = self._text, self._draft.name
        for n in self._written:
            value = self._state.registers.get(n)
            held = name(value) if value is not None else text.fresh(f"load {KIND}, ptr %l.fp{n}")
            text.line(f"store {KIND} {held}, ptr {self._register(n)}, align 2")
        if "fsw" in self._state.fields:
            text.line(f"store i16 {self._status()}, ptr %l.fsw")
        fip = name(self._state.fields["fip"]) if "fip" in self._state.fields else text.fresh("load i32, ptr %l.fip")
        text.line(f"store i32 {fip}, ptr {self._field('fip')}")
        stack = tuple(
            int(self._state.fields[field].attr) if field in self._state.fields else known
            for field, known in zip(("ftop", "fvalid"), _stack_of(self._draft.state.tree), strict=True)
        )
        text.line(f"store i16 {self._word((stack[0], stack[1]))}, ptr {self._field('ftop')}")

    def _status(self) -> str:
        """The status word (i16), without exceptions that the host has."""
        text, name, found = self._text, self._draft.name, ""
        for leaf, mask in terms(self._state.fields["fsw"], self._terms).items():
            if is_operation(leaf):
                word = self._asms.status(leaf)
            else:
                word = text.fresh("load i16, ptr %l.fsw") if leaf.op == "get" else name(leaf)
            part = text.value(f"and i16 {word}, {mask}")
            found = text.value(f"or i16 {found}, {part}") if found else part
        return found or "0"

    # -- one instruction -----------------------------------------------------------------------------------------------

    def expect(self, ops: Sequence[Value]) -> None:
        """These operations of one node will be written."""
        self._targets = {op.args[1]: int(op.args[0].attr) for op in ops if op.op == "setfp"}

    def begin(self) -> None:
        """An instruction begins."""
        self._places = {}

    def get(self, op: Value) -> str:
        """The name of what a `getfp` reads: nothing has set it in this tree."""
        n = int(op.args[0].attr)
        self._state.registers[n] = op
        return self._text.fresh(f"load {KIND}, ptr %l.fp{n}")

    def shown(self) -> str:
        """The guest's status word (i16), all exceptions in it."""
        text = self._text
        word = self._status() if "fsw" in self._state.fields else text.fresh("load i16, ptr %l.fsw")
        if self._state.last is None:
            raised = self._exceptions()
        else:
            raised = text.value(f"and i16 {self._asms.status(self._state.last)}, {EXCEPTIONS}")
        return text.value(f"or i16 {word}, {raised}")

    def set_control(self, control: str, refused: str) -> None:
        """The control word is set, here and in the host; `refused`: where to go if it unmasks an exception."""
        text, fine = self._text, self._text.new_label()
        masks = text.value(f"and i16 {control}, {EXCEPTIONS}")
        text.branch(text.value(f"icmp ne i16 {masks}, {EXCEPTIONS}"), refused, fine, UNLIKELY)
        text.label(fine)
        text.line(f"store i16 {control}, ptr {self._field('fcw')}")
        self._load_control(control)

    def at(self, load: Value, place: str) -> None:
        """The memory operand of an operation of this instruction is at `place`, which may be read."""
        self._places[load] = place

    def operate(self, op: Value) -> str:
        """Write an operation whose result is no store's; the name of its result, "" where that is a relation."""
        self._state.last = op
        asms, kind, name = self._asms, op.op, self._draft.name
        if kind == "helper":
            return self._with_memory(op)
        if kind == "fromint":
            return asms.load(op, f"fild{_INTEGER[op.args[0].bits]}", self._places[op.args[0]])
        if kind == "fconvert":
            return asms.load(op, f"fld{_LETTER[op.args[0].bits]}", self._places[op.args[0]])
        if kind in _UNARY:
            return asms.of_one(op, _UNARY[kind], name(op.args[0]))
        x, y = op.args[:2]
        if kind in _COMPARE:
            if y.op == "const" and y.attr == _ZERO:
                asms.of_one(op, "ftst", name(x), result=False)
            else:
                asms.of_registers(op, _COMPARE[kind], name(x), name(y), result=False)
            return ""
        if kind in ("fsub", "fdiv") and self._is_overwritten(op, y):
            return asms.of_registers(op, f"{kind}r", name(y), name(x))
        if self._is_overwritten(op, y):
            x, y = y, x
        return asms.of_registers(op, kind, name(x), name(y))

    def _is_overwritten(self, op: Value, operand: Value) -> bool:
        """Whether an operation's result takes the place of its operand."""
        return operand is not op.args[0] and self._state.registers.get(self._targets.get(op, -1)) is operand

    def _with_memory(self, op: Value) -> str:
        mnemonic, _, operand = op.attr.name.partition("_")
        size = 32 if operand == "m32fp" else 64
        x, place = self._draft.name(op.args[0]), self._places[op.args[1]]
        compares = mnemonic == "fcom"
        result = self._asms.with_memory(op, f"{mnemonic}{_LETTER[size]}", x, place, result=not compares)
        return "" if compares else result

    def set(self, op: Value) -> None:
        """A `setfp`."""
        value = op.args[1]
        self._draft.name(value)
        self._state.registers[int(op.args[0].attr)] = value

    def store_at(self, op: Value, place: str) -> None:
        """Store a register, or write an operation whose result is stored, at `place`, which may be written."""
        if op.type is F80:
            self._text.line(f"store {KIND} {self._draft.name(op)}, ptr {place}, align 1")
            return
        self._state.last = op
        x, bits = self._draft.name(op.args[0]), op.bits
        if op.op == "fconvert":
            self._asms.store(op, f"fst{_LETTER[bits]}", x, place, pops=False)
        elif bits == 64:
            self._asms.store(op, "fistpll", x, place, pops=True)
        else:
            self._asms.store(op, f"fist{_INTEGER[bits]}", x, place, pops=False)

    # -- values --------------------------------------------------------------------------------------------------------

    def named(self, value: Value, name: Naming) -> str | None:
        """The name of a value that is the x87's; None for another one."""
        if (compared := compared_by(value)) is not None:
            return self._relation(compared)
        if value.type is F80:
            return self._float(value, name)
        if value.op == "bitcast" and value.args[0].type is F80:
            return self._text.value(f"bitcast {KIND} {name(value.args[0])} to i80")
        return None

    def _float(self, value: Value, name: Naming) -> str:
        text = self._text
        if value.op == "const":
            return self._constant(int(value.attr))
        if value.op == "select":
            condition, yes, no = map(name, value.args)
            return text.value(f"select i1 {condition}, {KIND} {yes}, {KIND} {no}")
        (bits,) = value.args
        if bits.op == "trunc" and bits.args[0].op == "helper":
            return name(bits.args[0])
        if (mnemonic := _sign_operation(bits)) is not None:
            return text.value(f'call {KIND} asm "{mnemonic}", "={{st}},0"({KIND} {name(bits.args[0].args[0])})')
        return text.value(f"bitcast i80 {name(bits)} to {KIND}")

    def _constant(self, bits: int) -> str:
        mnemonic = _CONSTANTS.get(bits)
        if mnemonic is not None:
            return self._text.fresh(f'call {KIND} asm "{mnemonic}", "={{st}}"()')
        return self._text.value(f"bitcast i80 {bits} to {KIND}")

    def _relation(self, operation: Value) -> str:
        """0 greater, 1 less, 2 equal, 3 unordered (i8)."""
        text, status = self._text, self._asms.status(operation)
        less = text.value(f"and i16 {text.value(f'lshr i16 {status}, {_LESS}')}, 1")
        equal = text.value(f"and i16 {text.value(f'lshr i16 {status}, {_EQUAL - 1}')}, 2")
        return text.value(f"trunc i16 {text.value(f'or i16 {less}, {equal}')} to i8")


def _sign_operation(bits: Value) -> str | None:
    """The instruction that changes the sign of a float as these 80 bits say."""
    if bits.op not in ("xor", "and") or bits.args[1].op != "const" or bits.args[0].op != "bitcast":
        return None
    return {("xor", _SIGN): "fchs", ("and", _SIGN - 1): "fabs"}.get((bits.op, bits.args[1].attr))


def _stack_of(node: Node) -> Stack:
    assert node.stack is not None
    return node.stack


def memory_operands(ops: Sequence[Value]) -> frozenset[Value]:
    """Accesses of a node that are operands of the x87, and operations whose results are only stored."""
    users: dict[Value, list[Value]] = {}
    for op in ops:
        for arg in op.args:
            if arg.op == "load":
                users.setdefault(arg, []).append(op)
    loads = {load for load, found in users.items() if load.type is F80 or all(map(is_operation, found))}
    stores = {op for op in ops if op.op == "store" and (op.args[1].type is F80 or is_operation(op.args[1]))}
    return frozenset(loads | stores | {store.args[1] for store in stores if store.args[1].type is not F80})


__all__ = ["Floats", "memory_operands"]

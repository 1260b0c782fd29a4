"""From a trace of IR to LLVM text: `Lowering` walks the operations in order.

What always holds in the code that it writes: a check that fails and a fault leave where the instruction has done
nothing, so an instruction whose trace has an effect before something that may fault has no native form
(`Unlowerable`); but a restartable one may have set vector registers, which are in the `CpuState`. Values are integers
of their bits, floating-point ones too. `state` names what lives in SSA values (the flags' words; registers, in a
subclass that keeps them there): guards merge it with phi nodes.

A subclass says where registers and parameters are and how control leaves; `handlers.py` for one instruction from a
record, and the hot tier for a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiopyvm.engine.native.layout import CPU_OFFSETS, FLAG_ARGUMENTS
from aiopyvm.engine.native.llvmtext import LIKELY, UNLIKELY, Text, Unlowerable
from aiopyvm.engine.native.lower_flags import flag_of_word, word_of_flag
from aiopyvm.engine.native.lower_float import Operand, float_helper_text, float_text
from aiopyvm.engine.native.lower_host import HOST, may_be_portable
from aiopyvm.engine.native.lower_machine import (
    clock_place,
    cpuid_text,
    descriptor_text,
    is_flat,
    is_unlimited,
    time_text,
)
from aiopyvm.engine.native.lower_memory import CheckedMemory
from aiopyvm.engine.native.lower_modes import MODE_BITS, has_ones, loaded, mode_sets, raising
from aiopyvm.engine.native.lower_simd import (
    begin_noting,
    kept,
    leave_noted,
    low_results,
    read_mxcsr,
    simd_into,
    simd_text,
    write_mxcsr,
)
from aiopyvm.engine.native.lower_vector import constant_text, is_vector, llvm_type, pure_text
from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import FLOAT_OPS, LANE_OPS, SIMD_OPS
from aiopyvm.ir.pure import PURE
from aiopyvm.ir.registers import GENERAL, REGISTERS
from aiopyvm.isa.state import FLAG_BITS, MODE_REGISTERS, SEGMENTS
from aiopyvm.isa.x87 import EXCEPTIONS

_FP_SIZE: Final = 16  # bytes from one x87 register to the next
_FP_REGISTERS: Final = 7
VECTOR_SIZE: Final = 32  # bytes from one vector register to the next
_BASED: Final = ("fs", "gs")  # whose descriptors the mode does not depend on, as long as they are unlimited
_FLAT: Final = ("ds", "es", "ss")  # whose descriptors are the flat one
_KEYED: Final = MODE_REGISTERS | frozenset(SEGMENTS)  # what code is keyed by, or changes with it
_UNDERFLOW: Final = 0x10  # UM of the control word: unmasked, it is raised by what is tiny and exact, too


class Lowering:
    """Writes one trace into a function."""

    def __init__(self, text: Text, state: dict[str, str]) -> None:
        self.text = text
        self.state = state
        self.memory = CheckedMemory(text)
        self.ended = False  # control cannot come here
        self._names: dict[Value, str] = {}
        self._exceptions: dict[Value, str] = {}  # of floating-point operations
        self._guards: list[tuple[str, str, dict[str, str], dict[str, str], dict[tuple[str, bool], int]]] = []
        self._effects = self._restartable = False
        self._modes: dict[Value, list[Value]] = {}  # of the trace: see `mode_sets`
        self._segments: tuple[str, ...] = ()  # in which the descriptor that was looked at keeps the mode
        self._loads: dict[Value, str] = {}  # descriptors: the segment register that gets each
        self._statuses: set[Value] = set()  # status words of the x87 that may have new exceptions
        self._noted = False  # the instruction's SIMD operations have begun

    # -- what a subclass decides ---------------------------------------------------------------------------------------

    def read_register(self, name: str) -> str:
        """The value (i32) of a general register, or of the shape's register "$n"."""
        raise NotImplementedError

    def write_register(self, name: str, value: str) -> None:
        """Set a general register, or the shape's register "$n"."""
        raise NotImplementedError

    def parameter(self, op: Value) -> str:
        """The value of a `param`."""
        raise NotImplementedError

    def jump(self, target: Value) -> None:
        """Leave for `target`, the instruction being complete."""
        raise NotImplementedError

    def leave(self, kind: str, vector: int) -> None:
        """Leave after an `exit` operation."""
        raise NotImplementedError

    def leave_fault(self, vector: int, error_code: str) -> None:
        """Leave with an exception; the instruction has done nothing."""
        raise NotImplementedError

    def slow_label(self, address: str, size: int, write: bool) -> str:
        """The label of the block that leaves the current instruction, which has done nothing, to Python, because of an
        access of `size` bytes.
        """
        raise NotImplementedError

    def step_label(self) -> str:
        """The label of the block that leaves the current instruction, which has done nothing, to Python."""
        raise NotImplementedError

    def begin(self, op: Value) -> None:
        """Begin the instruction of an `insn` operation."""

    # -- the walk ------------------------------------------------------------------------------------------------------

    def run(self, ops: Sequence[Value]) -> None:
        """Write all operations."""
        skipped = 0  # guards that open where control cannot come
        low = low_results(ops)
        self._modes, self._statuses, self._loads = mode_sets(ops), raising(ops), loaded(ops)
        for op in ops:
            if self.ended and (skipped or op.op != "end"):
                skipped += {"when": 1, "end": -1}.get(op.op, 0)
                continue
            if op in self._names or (op.op == "bitcast" and op.args[0] in low):
                continue  # a low lane that the operation itself has put into its vector
            if op.op in PURE or op.op in LANE_OPS:
                self._names[op] = pure_text(self.text, op, [self.name(arg) for arg in op.args])
                if op in self._statuses:
                    self._leave_raised(op)
            elif op in low:
                self._note(op)
                insert, arguments = low[op], [self.name(arg) for arg in op.args[:-1]] + [""]
                self._names[insert] = simd_into(self.text, op, insert, self.name(kept(insert)), arguments)
            elif op.op in SIMD_OPS:
                self._note(op)
                self._names[op] = simd_text(self.text, op, [self.name(arg) for arg in op.args[:-1]] + [""])
            elif op.op in FLOAT_OPS:
                self._names[op], self._exceptions[op] = float_text(
                    self.text, op, self._operands(op), self.read_field("fsw")
                )
            elif op.op != "const":
                self._one(op)

    def _one(self, op: Value) -> None:
        handler = getattr(self, f"_op_{op.op}", None)
        if handler is None:
            raise Unlowerable(op.op)
        handler(op)

    def _op_helper(self, op: Value) -> None:
        if may_be_portable(op):
            self._leave_portable(op)
        match op.attr.name:
            case "cpuid_registers":
                self._names[op] = cpuid_text(self.text, self.name(op.args[0]), self.name(op.args[1]))
            case name if name in HOST:
                self._names[op] = pure_text(self.text, op, [self.name(arg) for arg in op.args])
            case "time_stamp":
                self._names[op] = self._time_stamp(op)
            case "segment_descriptor":
                self._names[op] = self._descriptor(op)
            case _:
                self._names[op] = self._float_helper(op)

    def _time_stamp(self, op: Value) -> str:
        """Leave the counter to Python where it is not the host's own time."""
        self._may_fault(op)
        label = self.text.new_label()
        clock = clock_place(self.text)
        self.text.branch(self.text.fresh(f"icmp ne ptr {clock}, null"), label, self.step_label(), LIKELY)
        self.text.label(label)
        return time_text(self.text, clock)

    def _leave_portable(self, op: Value) -> None:
        """Leave to Python a function whose portable definition is wanted."""
        self._may_fault(op)
        label = self.text.new_label()
        wanted = self.text.value(f"icmp eq i8 {self.name(op.args[-1])}, 0")
        self.text.branch(wanted, label, self.step_label(), LIKELY)
        self.text.label(label)

    def _descriptor(self, op: Value) -> str:
        """Leave to Python a descriptor that is not an unlimited one of data: loading it may change the mode. DS, ES and
        SS have to be flat.
        """
        self._may_fault(op)
        found, label = descriptor_text(self.text, self.name(op.args[0])), self.text.new_label()
        flat = self._loads.get(op) in _FLAT
        self.text.branch((is_flat if flat else is_unlimited)(self.text, found), label, self.step_label(), LIKELY)
        self.text.label(label)
        self._segments = _FLAT if flat else _BASED
        return found

    def _float_helper(self, op: Value) -> str:
        return float_helper_text(self.text, op, self._operands(op), self.read_field("fsw"))

    def _operands(self, op: Value) -> list[str]:
        """The operands of a floating-point operation: x87 registers, which nothing has set yet, where they are."""
        if self._effects:
            raise Unlowerable(f"{op.op} after an effect")
        return [Operand(self._fp_register(arg.args[0])) if arg.op == "getfp" else self.name(arg) for arg in op.args]

    def _op_fexc(self, op: Value) -> None:
        self._names[op] = self._exceptions[op.args[0]]

    def name(self, value: Value) -> str:
        """The LLVM name of a value that was written, or the constant."""
        if value.op == "const":
            return constant_text(value)
        if value.op == "get" and value.attr == "mxcsr" and value not in self._names:
            self._names[value] = read_mxcsr(self.text)
        return self._names[value]

    def _may_fault(self, op: Value) -> None:
        if self._effects:
            raise Unlowerable(f"{op.op} after an effect")

    def _op_insn(self, op: Value) -> None:
        self._effects = self._noted = False
        self._segments = ()
        self._insn = op.attr[0]
        self._restartable = self._insn.row.restartable
        self.memory.new_instruction()
        self.begin(op)

    def _op_param(self, op: Value) -> None:
        self._names[op] = self.parameter(op)

    # -- registers and flags -------------------------------------------------------------------------------------------

    def _op_get(self, op: Value) -> None:
        name = op.attr
        if name in GENERAL or (name[0] == "$" and not is_vector(op)):
            self._names[op] = self.read_register(name)
        elif name in FLAG_ARGUMENTS:
            self._names[op] = flag_of_word(self.text, name, self.state[FLAG_ARGUMENTS[name]])
        elif is_vector(op):
            self._names[op] = self.text.fresh(f"load {llvm_type(op.type)}, ptr {self.vector(name)}, align 8")
        elif name != "mxcsr":  # it is read where somebody else than SIMD operations needs it
            self._names[op] = self.read_field(name)

    def _op_set(self, op: Value) -> None:
        name, value = op.attr, op.args[0]
        if name in _KEYED and name.partition("_")[0] not in self._segments:
            for each in self._modes.get(op, (op,)):
                self._keep_mode(each)
        self._effects = self._effects or not (is_vector(value) and self._restartable)
        if name in GENERAL or (name[0] == "$" and not is_vector(value)):
            self.write_register(name, self.name(value))
        elif name in FLAG_ARGUMENTS:
            self.state[FLAG_ARGUMENTS[name]] = word_of_flag(self.text, name, value, self.name)
        elif is_vector(value):
            self.text.line(f"store {llvm_type(value.type)} {self.name(value)}, ptr {self.vector(name)}, align 8")
        elif name == "mxcsr":
            write_mxcsr(self.text, self.name(value))
        else:
            self.write_field(name, self.name(value))

    def _op_raise(self, op: Value) -> None:
        """The host has noted the exceptions; one that the guest has not masked is left to Python."""
        if self._noted:
            self._may_fault(op)
            leave_noted(self.text, self.step_label)

    def _note(self, op: Value) -> None:
        """Begin the SIMD operations of an instruction."""
        if not self._noted:
            self._may_fault(op)
            begin_noting(self.text, self.step_label)
            self._noted = not self._guards

    def _leave_raised(self, status: Value) -> None:
        """Leave to Python an instruction of the x87 that raises an exception that is not masked."""
        self._may_fault(status)
        text, look, fine = self.text, self.text.new_label(), self.text.new_label()
        control = text.fresh(f"load i16, ptr {self.field('fcw')}")
        unmasked = text.fresh(f"and i16 {text.fresh(f'xor i16 {control}, -1')}, {EXCEPTIONS}")
        text.branch(text.fresh(f"icmp eq i16 {unmasked}, 0"), fine, look, LIKELY)
        scope = text.scope()
        text.label(look)
        raised = text.fresh(f"or i16 {self.name(status)}, {_UNDERFLOW}")
        raised = text.fresh(f"and i16 {raised}, {unmasked}")
        text.branch(text.fresh(f"icmp eq i16 {raised}, 0"), fine, self.step_label(), LIKELY)
        text.leave_scope(scope)
        text.label(fine)

    def vector(self, name: str) -> str:
        """The address of a vector register, or of the shape's "$xn"."""
        return self.text.value(f"getelementptr i8, ptr {self.field('ymm')}, i64 {VECTOR_SIZE * int(name[-1])}")

    def _keep_mode(self, op: Value) -> None:
        """Leave to Python what would change the mode: an x87 exception unmasked, EFLAGS.AC or TF set. FLDCW may unmask
        one that the status word has not.
        """
        if op.attr not in MODE_BITS:
            raise Unlowerable(f"set {op.attr}")
        if op.attr == "fcw" and self._insn.row.name == "fldcw":
            self._leave_pending(op)
            return
        mask, usual = MODE_BITS[op.attr]
        if not mask or (usual == mask and has_ones(op.args[0], mask)):
            return
        self._may_fault(op)
        bits, text = op.args[0].bits, self.text
        found = text.value(f"and i{bits} {self.name(op.args[0])}, {mask}")
        label = text.new_label()
        text.branch(text.value(f"icmp eq i{bits} {found}, {usual}"), label, self.step_label(), LIKELY)
        text.label(label)

    def _leave_pending(self, op: Value) -> None:
        """Leave to Python a control word that makes an exception pending."""
        self._may_fault(op)
        text, label = self.text, self.text.new_label()
        unmasked = text.fresh(f"and i16 {text.fresh(f'xor i16 {self.name(op.args[0])}, -1')}, {EXCEPTIONS}")
        pending = text.fresh(f"and i16 {self.read_field('fsw')}, {unmasked}")
        text.branch(text.fresh(f"icmp eq i16 {pending}, 0"), label, self.step_label(), LIKELY)
        text.label(label)

    def field(self, name: str) -> str:
        """The address of a field of the CpuState."""
        return self.text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    def read_field(self, name: str) -> str:
        """The value of a register that is neither general nor an arithmetic flag."""
        if name in FLAG_BITS:
            return self.text.fresh(f"trunc i8 {self.text.fresh(f'load i8, ptr {self.field(name)}')} to i1")
        return self.text.fresh(f"load i{REGISTERS[name]}, ptr {self.field(name)}")

    def write_field(self, name: str, value: str) -> None:
        """Set a register that is neither general nor an arithmetic flag."""
        bits = REGISTERS[name]
        if name in FLAG_BITS:
            value, bits = self.text.value(f"zext i1 {value} to i8"), 8
        self.text.line(f"store i{bits} {value}, ptr {self.field(name)}")

    def _fp_register(self, index: Value) -> str:
        """The address of a physical x87 register."""
        number = self.text.value(f"and i8 {self.name(index)}, {_FP_REGISTERS}")
        offset = self.text.value(f"mul i64 {self.text.value(f'zext i8 {number} to i64')}, {_FP_SIZE}")
        return self.text.value(f"getelementptr i8, ptr {self.field('fpr')}, i64 {offset}")

    def _op_getfp(self, op: Value) -> None:
        text, low = self.text, self._fp_register(op.args[0])
        high = text.value(f"getelementptr i8, ptr {low}, i64 8")
        significand = text.value(f"zext i64 {text.fresh(f'load i64, ptr {low}')} to i80")
        rest = text.value(f"zext i16 {text.fresh(f'load i16, ptr {high}')} to i80")
        self._names[op] = text.value(f"or i80 {significand}, {text.value(f'shl i80 {rest}, 64')}")

    def _op_setfp(self, op: Value) -> None:
        self._effects = True
        text, low, value = self.text, self._fp_register(op.args[0]), self.name(op.args[1])
        high = text.value(f"getelementptr i8, ptr {low}, i64 8")
        text.line(f"store i64 {text.value(f'trunc i80 {value} to i64')}, ptr {low}")
        rest = text.value(f"lshr i80 {value}, 64")
        text.line(f"store i16 {text.value(f'trunc i80 {rest} to i16')}, ptr {high}")

    # -- memory --------------------------------------------------------------------------------------------------------

    def _check(self, op: Value, size: int, write: bool) -> str:
        address = self.name(op.args[0])
        if not self.memory.is_checked(address, size, write):
            self._may_fault(op)
            self.memory.check(address, size, write, self.slow_label(address, size, write))
        return address

    def _op_probe(self, op: Value) -> None:
        self._check(op, *op.attr)

    def _op_load(self, op: Value) -> None:
        address = self._check(op, op.bits // 8, False)
        if is_vector(op):
            self._names[op] = self.memory.load_whole(address, llvm_type(op.type))
        else:
            self._names[op] = self.memory.load(address, op.bits)

    def _op_store(self, op: Value) -> None:
        bits = op.args[1].bits
        address = self._check(op, bits // 8, True)
        self._effects = True
        value = self.name(op.args[1])
        if is_vector(op.args[1]):
            self.memory.store_whole(address, llvm_type(op.args[1].type), value)
        else:
            self.memory.store(address, bits, value)

    # -- guards --------------------------------------------------------------------------------------------------------

    def _op_when(self, op: Value) -> None:
        text, inside, behind = self.text, self.text.new_label(), self.text.new_label()
        before = text.block
        text.branch(self.name(op.args[0]), inside, behind)
        self._guards.append((before, behind, self.state.copy(), text.scope(), self.memory.checked.copy()))
        text.label(inside)

    def _op_end(self, op: Value) -> None:
        before, behind, state, scope, checked = self._guards.pop()
        text = self.text
        inside = text.block
        if not self.ended:
            text.line(f"br label %{behind}")
        text.label(behind)
        text.leave_scope(scope)
        self.memory.checked = checked
        if self.ended:
            self.state.update(state)
        else:
            for key, old in state.items():
                if (new := self.state[key]) != old:
                    kind = self.kind(key)
                    self.state[key] = text.fresh(f"phi {kind} [ {old}, %{before} ], [ {new}, %{inside} ]")
        self.ended = False

    def kind(self, key: str) -> str:
        """The LLVM type of an entry of `state`."""
        return "i32"

    # -- leaving -------------------------------------------------------------------------------------------------------

    def _op_fault(self, op: Value) -> None:
        self._may_fault(op)
        condition, text = op.args[0], self.text
        if condition.op == "const":
            self.leave_fault(op.attr, self.name(op.args[1]))
            self.ended = True
            return
        raised, fine, scope = text.new_label(), text.new_label(), text.scope()
        text.branch(self.name(condition), raised, fine, UNLIKELY)
        text.label(raised)
        self.leave_fault(op.attr, self.name(op.args[1]))
        text.leave_scope(scope)
        text.label(fine)

    def _op_jump(self, op: Value) -> None:
        self.jump(op.args[0])
        self.ended = True

    def _op_exit(self, op: Value) -> None:
        self.leave(*op.attr)
        self.ended = True


__all__ = ["Lowering"]

"""From a trace of IR to lines of Python: `Lowering` walks the operations in order.

What always holds in the code that it writes, at every line that may raise: the architectural registers are as before
the instruction (all sets stand where they happen, and within an instruction whatever may fault comes first), and
`sites[line]` tells the instruction, how many were completed before it, and what the flags were.

A pure operation is written where its value is used, if that is once, else into a local; those that only flags need
become part of a thunk (`flagstate`). Memory is accessed through views where the page's fast bit is set, else by `ld`
and `st`; `st` tells (and `dirty` keeps) that code was overwritten, and then the trace is left after that instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from aiopyvm.engine.python.expressions import is_vector
from aiopyvm.engine.python.flagstate import ARITHMETIC, WITHOUT_CARRY, Thunks
from aiopyvm.engine.python.plan import Group, guard_sets_flags, opening, sets_arithmetic_flag
from aiopyvm.engine.python.values import Values
from aiopyvm.engine.python.vectors import vector_function
from aiopyvm.ir.builder import Value
from aiopyvm.ir.float import direct
from aiopyvm.ir.helpers import Fault
from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.ops import FLOAT_OPS, SIMD_OPS
from aiopyvm.ir.pure import PURE
from aiopyvm.ir.registers import GENERAL
from aiopyvm.ir.simd import raise_exceptions, simd
from aiopyvm.isa.state import FLAG_BITS

# `address & mask in readable`: the page's fast bit, and that the access is aligned (it then straddles no page). Bits
# above 32 miss too, so that an address need not be wrapped before it is tried.
_FAST: Final = {8: 0x1FFFFFFFFF000, 16: 0x1FFFFFFFFF001, 32: 0x1FFFFFFFFF003}
_VIEW: Final = {8: ("M1", ""), 16: ("M2", ">>1"), 32: ("M4", ">>2")}


class Lowering(Values):
    """Writes one trace. A subclass says where registers live and how control leaves.

    `scope` collects the objects that the text names (helpers, thunks, types); `depth` is the indentation of the next
    line.
    """

    def __init__(
        self, ops: Sequence[Value], thunks: Thunks, scope: dict[str, Any], lines: list[str], depth: int
    ) -> None:
        super().__init__(ops, thunks, lines, depth)
        self.scope = scope
        self._stored = False
        self._guards = 0
        self._fast: dict[Value, tuple[str, int]] = {}  # probed addresses: the outcome's local, and for how many bits

    # -- what a subclass decides ---------------------------------------------------------------------------------------

    def read_register(self, op: Value) -> None:
        """Define the value of `get` or `param` of a general register."""
        raise NotImplementedError

    def write_register(self, op: Value) -> None:
        """Write the line for `set` of a general register."""
        raise NotImplementedError

    def jump(self, target: Value) -> None:
        """Leave for `target`; every register is up to date, flags are told by `write_flags`."""
        raise NotImplementedError

    def leave(self, kind: str, vector: int) -> None:
        """Leave after an `exit` operation."""
        raise NotImplementedError

    def leave_dirty(self, target: str | None) -> None:
        """Leave after this instruction, because it overwrote code: for `target`, or (None) for the next instruction."""
        raise NotImplementedError

    def run(self) -> None:
        """Write all operations."""
        for position, op in enumerate(self.ops):
            self.position = position
            if op is not self._written:
                self._one(op)
        self.position = len(self.ops)

    def _one(self, op: Value) -> None:
        name = op.op
        if name == "insn":
            self._begin_instruction(op)
        elif op.type is not None and op not in self.plan.needed:
            return
        elif name in PURE:
            self._pure(op)
        elif name in LANES:
            self.of_vectors(op)
        elif name == "const":
            self._define(op, str(op.attr) if op.attr < 65536 else hex(op.attr), op.attr.bit_length())
        else:
            handler = getattr(self, f"_op_{name}", None)
            if handler is not None:
                handler(op)
            elif name in FLOAT_OPS:
                self._float(op)
            elif name in SIMD_OPS:
                self._simd(op)
            else:
                raise NotImplementedError(f"the Python engine cannot write {op!r}")

    def _begin_instruction(self, op: Value) -> None:
        if self._stored:
            self.write("if dirty:")
            self.depth += 1
            self.leave_dirty(None)
            self.depth -= 1
            self._stored = False
        self.completed += 1
        self._fast.clear()
        self._address = op.attr[1]

    # -- registers and flags -------------------------------------------------------------------------------------------

    def _op_get(self, op: Value) -> None:
        if op.attr in GENERAL:
            self.read_register(op)
        elif is_vector(op):
            self.temporary(op, f"getv(cpu,{self.vector_number(op.attr)},{op.bits // 8})", op.bits)
        elif op.attr in ARITHMETIC:
            shift = FLAG_BITS[op.attr].bit_length() - 1
            thunk = self.thunk_call()
            self.temporary(op, f"{thunk}>>{shift}&1" if shift else f"{thunk}&1 if cf is None else cf", 1)
        else:
            self.temporary(op, f"cpu.{op.attr}", op.bits)

    def vector_number(self, register: str) -> str:
        """The text of a vector register's number."""
        return register[-1]

    def thunk_call(self) -> str:
        """The text that computes the flags that the locals stand for."""
        return "fk(fa,fb,fc)"

    def _op_set(self, op: Value) -> None:
        if sets_arithmetic_flag(op):
            return
        if op.attr in GENERAL:
            self.write_register(op)
        elif is_vector(op.args[0]):
            value = op.args[0]
            self.write(f"setv(cpu,{self.vector_number(op.attr)},{value.bits // 8},{self.text(value)})")
        else:
            self.write(f"cpu.{op.attr}={self.text(op.args[0])}")

    def write_flags(self, position: int) -> None:
        """Bring the flags' locals up to date with the flags just before operation `position`."""
        point = self.plan.flags.get(position)
        if point is None:
            return
        names, recipe = set(point[0]), point[1]
        leaves = [self.atom(leaf) for leaf in recipe.leaves]
        arguments = leaves if len(leaves) <= 3 else [*leaves[:2], f"({','.join(leaves[2:])})"]
        arguments += ["None"] * (3 - len(arguments))
        self.scope[recipe.name] = recipe.function
        if names == {"cf"}:
            self.write(f"cf={recipe.name}({','.join(arguments)})")
        elif names == set(ARITHMETIC):
            self.assign_thunk(recipe.name, arguments, "None")
        elif names == WITHOUT_CARRY:
            self.write("if cf is None: cf=fk(fa,fb,fc)&1")
            self.assign_thunk(recipe.name, arguments, "cf")
        else:
            mask = sum(FLAG_BITS[name] for name in names)
            flags = f"force(fk,fa,fb,fc,cf)&{~mask}|{recipe.name}({','.join(arguments)})"
            self.assign_thunk("packed", [flags, "None", "None"], "None")

    def assign_thunk(self, name: str, arguments: list[str], carry: str) -> None:
        """Set the flags' locals."""
        pairs = zip(("fa", "fb", "fc", "fk"), [*arguments, name], strict=True)
        self.write(";".join(f"{left}={right}" for left, right in pairs if right != "None"))
        if carry != "cf":
            self.write(f"cf={carry}")

    # -- guards --------------------------------------------------------------------------------------------------------

    def _op_when(self, op: Value) -> None:
        if guard_sets_flags(self.ops, self.position):
            self.write_flags(self.position)
        for value in list(self._pending):
            if value is not op.args[0]:
                self._materialise(value)
        for register in self._registers_set(self.position):
            self.save_holders(register)
        self.write(f"if {self.text(op.args[0])}:")
        self.depth += 1
        self._guards += 1

    def _op_end(self, op: Value) -> None:
        start = opening(self.ops, self.position)
        if guard_sets_flags(self.ops, start):
            self.write_flags(self.position)
        if self.lines[-1].endswith(":"):
            self.write("pass")
        for register in self._registers_set(start):
            self._holders.pop(register, None)
        self._pending.clear()
        self.depth -= 1
        self._guards -= 1

    def _registers_set(self, start: int) -> set[str]:
        """The general registers that the guard that opens at `start` sets."""
        registers: set[str] = set()
        depth = 0
        for op in self.ops[start:]:
            depth += {"when": 1, "end": -1}.get(op.op, 0)
            if depth == 0:
                break
            if op.op == "set" and op.attr in GENERAL:
                registers.add(op.attr)
        return registers

    # -- memory --------------------------------------------------------------------------------------------------------

    def _op_probe(self, op: Value) -> None:
        size, write = op.attr
        address = self._address_atom(op.args[0])
        pages = "WR" if write else "RD"
        self.flags_at(self.position)
        if size * 8 in _VIEW:
            name = f"v{len(self.lines)}"
            self.write(f"{name}={address}&{_FAST[size * 8]:#x} in {pages}")
            if write:
                self._fast[op.args[0]] = (name, size * 8)
            self.mark_site()
            self.write(f"if not {name}: pr({address},{size},{write})")
        else:
            self.mark_site()
            self.write(f"pr({address},{size},{write})")

    def _address_atom(self, address: Value) -> str:
        return hex(address.attr) if address.op == "const" else self.atom(address)

    def _is_fast(self, address: Value, bits: int, pages: str) -> str:
        """The text of the test whether an access may use a view: a probe's outcome where there was one."""
        name, probed = self._fast.get(address, ("", 0))
        if probed == bits:
            return name
        test = f"{self._address_atom(address)}&{_FAST[bits]:#x} in {pages}"
        group = self.plan.groups.get(address)
        if group is None or bits != 32:
            return test
        if not group.local and self._guards == 0:
            group.local = self._test_group(group)
        return f"{group.local} or {test}" if group.local else test

    def _test_group(self, group: Group) -> str:
        """Write the one test for all words of a group; its outcome's local."""
        low = f"{self.atom(group.base)}{group.low:+d}" if group.low else self.atom(group.base)
        name, pages = f"v{len(self.lines)}", "WR" if group.write else "RD"
        room = 0xFFC - (group.high - group.low)
        self.write(f"{name}={low}&{_FAST[32]:#x} in {pages} and {low}&4095<={room}")
        return name

    def _op_load(self, op: Value) -> None:
        address = self._address_atom(op.args[0])
        bits = op.bits
        slow = f"ld({address},{bits // 8})"
        if bits in _VIEW:
            view, shift = _VIEW[bits]
            text = f"{view}[{address}{shift}] if {self._is_fast(op.args[0], bits, 'RD')} else {slow}"
        elif bits == 64:
            words = f"M4[{address}>>2]|M4[({address}>>2)+1]<<32"
            text = f"{words} if {_two_words(address, 'RD')} else {slow}"
        else:
            text = slow
        self.flags_at(self.position)
        self.temporary(op, text, bits)

    def _op_store(self, op: Value) -> None:
        value = op.args[1]
        address, text, bits = self._address_atom(op.args[0]), self.atom(value), value.bits
        if bits in _VIEW:
            view, shift = _VIEW[bits]
            self.flags_at(self.position)
            self.write(f"if {self._is_fast(op.args[0], bits, 'WR')}: {view}[{address}{shift}]={text}")
            self.mark_site()
            self.write(f"elif st({address},{bits // 8},{text}): dirty=1")
        elif bits == 64:
            self.flags_at(self.position)
            words = f"M4[{address}>>2]={text}&0xffffffff;M4[({address}>>2)+1]={text}>>32"
            self.write(f"if {_two_words(address, 'WR')}: {words}")
            self.mark_site()
            self.write(f"elif st({address},8,{text}): dirty=1")
        else:
            self.mark_site()
            self.write(f"if st({address},{bits // 8},{text}): dirty=1")
        self._stored = True

    # -- faults, helpers, floating point -------------------------------------------------------------------------------

    def _op_fault(self, op: Value) -> None:
        self.scope["Fault"] = Fault
        condition, error_code = self.text(op.args[0]), self.text(op.args[1])
        self.flags_at(self.position)
        self.write(f"if {condition}:")
        self.depth += 1
        self.mark_site()
        self.write(f"raise Fault({op.attr},{error_code})")
        self.depth -= 1

    def _op_helper(self, op: Value) -> None:
        name = f"helper_{op.attr.name}"
        self.scope[name] = op.attr.function
        arguments = ",".join(self.text(arg) for arg in op.args)
        self.mark_site()
        self.temporary(op, f"{name}({arguments})", op.bits)

    def _float(self, op: Value) -> None:
        argument = op.args[0].type
        assert op.type is not None
        assert argument is not None
        function = f"{op.op}_{op.type.kind}{op.type.bits}_{argument.kind}{argument.bits}"
        self.scope[function] = direct(op.op, op.type, argument)
        arguments = ",".join([self.text(arg) for arg in op.args])
        name = f"v{len(self.lines)}"
        self.write(f"{name},{name}x={function}({arguments})")
        self._define(op, name, op.bits)

    def of_vectors(self, op: Value) -> None:
        function = vector_function(op.op, op.attr, op.type, op.args[0].type)
        if function is None:
            self.alias(op, self.atom(op.args[0]), op.bits)  # the same bits
            return
        name = f"vector{len(self.lines)}"
        self.scope[name] = function
        self.temporary(op, f"{name}({','.join(self.text(arg) for arg in op.args)})", op.bits)

    def _simd(self, op: Value) -> None:
        function = f"simd{len(self.lines)}"
        self.scope[function] = partial(simd, op.op, op.attr, op.type, op.args[0].type)
        name = f"v{len(self.lines)}"
        self.write(f"{name},{name}x={function}({','.join(self.text(arg) for arg in op.args)})")
        self._define(op, name, op.bits)

    def _op_raise(self, op: Value) -> None:
        self.scope["raise_exceptions"] = raise_exceptions
        self.flags_at(self.position)
        self.mark_site()
        self.write(f"raise_exceptions(cpu,({','.join(self._names[arg] + 'x' for arg in op.args)},))")

    def _op_fexc(self, op: Value) -> None:
        self._define(op, f"{self._names[op.args[0]]}x", 8)

    def _op_getfp(self, op: Value) -> None:
        self.temporary(op, f"getfp(cpu,{self.text(op.args[0])})", 80)

    def _op_setfp(self, op: Value) -> None:
        self.write(f"setfp(cpu,{self.text(op.args[0])},{self.text(op.args[1])})")

    # -- leaving -------------------------------------------------------------------------------------------------------

    def _op_jump(self, op: Value) -> None:
        if self._stored:
            target = self.atom(op.args[0])
            self.write("if dirty:")
            self.depth += 1
            self.leave_dirty(target)
            self.depth -= 1
        self.jump(op.args[0])

    def _op_exit(self, op: Value) -> None:
        self.leave(*op.attr)


def _two_words(address: str, pages: str) -> str:
    """The text of the test whether two aligned words at `address` may use a view."""
    return f"{address}&{_FAST[32]:#x} in {pages} and {address}+4&{_FAST[32]:#x} in {pages}"

"""From a decoded instruction at an address to IR: `trace(builder, insn, address, mode)`.

`Tracer` is the builder that instruction functions get. Beside the IR's own vocabulary it has the machine's: flags,
registers by name, segments, the stack, the addresses of this and the next instruction.
"""

from __future__ import annotations

from dataclasses import replace

from aiopyvm.ir.builder import Builder, Value
from aiopyvm.ir.types import I8, I32, Type, integer
from aiopyvm.isa.insn import FarPointer, Immediate, Insn, Memory, Operand, Register, Relative
from aiopyvm.isa.places import (
    ImmediatePlace,
    MemoryPlace,
    MmxPlace,
    Place,
    RegisterPlace,
    SegmentPlace,
    StackPlace,
    SystemPlace,
    VectorPlace,
    VsibPlace,
)
from aiopyvm.isa.state import (
    AF,
    CF,
    DF,
    GPR8,
    GPR16,
    GPR32,
    MODE_ALIGNMENT_CHECK,
    MODE_CODE16,
    MODE_NON_FLAT,
    OF,
    PF,
    SEGMENTS,
    SF,
    SYSTEM_FLAGS,
    ZF,
)  # fmt: skip
from aiopyvm.isa.vectors import AC, GP, SS, UD

FLAG_NAMES = {CF: "cf", PF: "pf", AF: "af", ZF: "zf", SF: "sf", OF: "of", DF: "df"}
_BY_NAME = {
    **{name: (number, 32) for number, name in enumerate(GPR32)},
    **{name: (number, 16) for number, name in enumerate(GPR16)},
    **{name: (number, 8) for number, name in enumerate(GPR8)},
}


class Tracer(Builder):
    """Traces instructions, one after another, into one list of operations. `mode` is the block's MODE_* bits."""

    def __init__(self, mode: int = 0) -> None:
        super().__init__()
        self.mode = mode
        self.insn: Insn
        self.eip = 0  # of the instruction being traced
        self.next_eip = 0

    # -- registers and flags -------------------------------------------------------------------------------------------

    def reg(self, name: str) -> RegisterPlace:
        """The place of a general register of any width: "eax", "ax", "ah"."""
        return RegisterPlace(self, *_BY_NAME[name])

    def get_vector(self, name: str, type_: Type) -> Value:
        """The vector register that a place calls so."""
        return self.get(name)

    def set_vector(self, name: str, value: Value) -> None:
        """Set the vector register that a place calls so."""
        self.set(name, value)

    def flag(self, bit: int) -> Value:
        """The flag whose EFLAGS bit is `bit` (i1)."""
        return self.get(FLAG_NAMES[bit])

    def set_flag(self, bit: int, value: Value | int) -> None:
        """Set the flag whose EFLAGS bit is `bit`."""
        self.set(FLAG_NAMES[bit], value)

    # -- addresses -----------------------------------------------------------------------------------------------------

    def effective_address(self, operand: Memory) -> Value:
        """base + index * scale + displacement (i32), wrapped at the address size."""
        total = self.const(operand.displacement, I32)
        if operand.index >= 0:
            total = (self.get(GPR32[operand.index]) << (operand.scale.bit_length() - 1)) + total
        if operand.base >= 0:
            total = self.get(GPR32[operand.base]) + total
        return total & 0xFFFF if operand.address_size == 16 and total.op != "const" else total

    def linear(self, segment: str, offset: Value, size: int, *, write: bool) -> Value:
        """The linear address of `segment:offset`, with the checks that the block's mode asks for.

        Where the mode is flat, FS and GS fault when they are null, and when an access goes over the end of 4 GiB; a
        smaller limit is a mode of its own. Accesses over the end through a segment with base 0 are left to the pages.
        """
        if write and segment == "cs":
            self.fault(GP)  # code is never writable
        if self.mode & MODE_NON_FLAT:
            self._check_segment(segment, offset, size, write=write)
            offset = self.get(f"{segment}_base") + offset
        elif segment in ("fs", "gs"):
            base = self.get(f"{segment}_base")
            self.fault(GP, self.get(f"{segment}_access").bit(15) ^ 1)
            over = self.const(-size, I32).ult(offset)
            if size > 1 and (over.op != "const" or over.attr):
                self.fault(GP, over & base.ne(0))
            offset = base + offset
        if self.mode & MODE_ALIGNMENT_CHECK and size in (2, 4, 8) and "unaligned" not in self.insn.row.attributes:
            self.fault(AC, (offset & (size - 1)).ne(0))
        return offset

    def _check_segment(self, segment: str, offset: Value, size: int, *, write: bool) -> None:
        """#GP(0) (#SS(0) for SS) outside the limit, for null, or for a wrong kind of access (SDM vol. 3A, 5.3-5.5)."""
        vector = SS if segment == "ss" else GP
        access, limit = self.get(f"{segment}_access"), self.get(f"{segment}_limit")
        last = offset.zext(64) + (size - 1)
        expand_down = (access & 0xC00).eq(0x400)
        top = self.select(access.bit(22), self.const(0xFFFFFFFF), self.const(0xFFFF))
        unlimited = self.get(f"{segment}_base").eq(0) & limit.eq(0xFFFFFFFF)
        outside_up = limit.zext(64).ult(last) & ~unlimited
        outside_down = offset.ule(limit) | top.zext(64).ult(last)
        self.fault(vector, access.bit(15) ^ 1)
        self.fault(vector, self.select(expand_down, outside_down, outside_up))
        # Type bits: 11 code/data, 9 readable (code) or writable (data).
        refused = access.bit(11) | ~access.bit(9) if write else access.bit(11) & ~access.bit(9)
        self.fault(vector, refused)

    def memory(self, segment: str, offset: Value, width: int) -> MemoryPlace:
        """The place `segment:offset` of `width` bits."""
        return MemoryPlace(self, segment, offset, width)

    # -- the stack -----------------------------------------------------------------------------------------------------

    def stack(self, at: int, width: int) -> MemoryPlace:
        """The stack's memory at ESP + `at` (bytes, may be negative)."""
        return self.memory("ss", self.get("esp") + at, width)

    def push(self, value: Value) -> None:
        """Push a 16- or 32-bit value: one store, then ESP moves."""
        top = self.get("esp") - value.bits // 8
        self.memory("ss", top, value.bits).store(value)
        self.set("esp", top)

    def pop(self, width: int) -> Value:
        """Pop `width` bits: one load, then ESP moves."""
        value = self.stack(0, width).load()
        self.set("esp", self.get("esp") + width // 8)
        return value

    # -- EFLAGS as a word ----------------------------------------------------------------------------------------------

    def eflags(self) -> Value:
        """EFLAGS as PUSHFD stores it (i32): bit 1 set, RF and VM clear."""
        word = self.get("system_flags") | 2
        for bit, name in FLAG_NAMES.items():
            word = word | (self.get(name).zext(32) << (bit.bit_length() - 1))
        return word

    def set_eflags(self, word: Value, mask: int) -> None:
        """Set the EFLAGS bits of `mask` from `word` (i32); the others stay."""
        if system := mask & SYSTEM_FLAGS:
            self.set("system_flags", (self.get("system_flags") & ~system & 0xFFFFFFFF) | (word & system))
        for bit, name in FLAG_NAMES.items():
            if bit & mask:
                self.set(name, word.bit(bit.bit_length() - 1))

    # -- control flow --------------------------------------------------------------------------------------------------

    @property
    def eip_mask(self) -> int:
        """What near branches keep of EIP: 16 bits with a 16-bit operand size."""
        return 0xFFFF if self.insn.operand_size == 16 else 0xFFFFFFFF

    def jump_near(self, target: Value | int) -> None:
        """Branch within the code segment, EIP cut to the operand size."""
        self.jump(self.lift(target, I32) & 0xFFFF if self.insn.operand_size == 16 else target)

    def jump_if(self, condition: Value, target: Value | int) -> None:
        """`jump_near` where `condition` is 1."""
        with self.when(condition):
            self.jump_near(target)

    # -- operands ------------------------------------------------------------------------------------------------------

    def place(self, operand: Operand) -> Place:
        """The place of a decoded operand; memory operands compute their effective address here."""
        match operand:
            case Register("gpr", number, width):
                return RegisterPlace(self, number, width)
            case Register("sreg", number, _):
                return SegmentPlace(self, number)
            case Register("st", number, _):
                return StackPlace(self, number)
            case Register("xmm" | "ymm", number, width):
                return VectorPlace(self, number, width, self.insn.row.vex)
            case Register("mm", number, _):
                return MmxPlace(self, self.const(number, I8))
            case Register("cr" | "dr", number, _):
                return SystemPlace(number)
            case Memory() if operand.vsib:
                offset = self.effective_address(replace(operand, index=-1))
                index = VectorPlace(self, operand.index, 128 if operand.vsib == "xmm" else 256)
                return VsibPlace(self, SEGMENTS[operand.segment], offset, index, operand.scale)
            case Memory():
                wrap = 0xFFFF if operand.address_size == 16 else 0xFFFFFFFF
                segment, offset = SEGMENTS[operand.segment], self.effective_address(operand)
                return MemoryPlace(self, segment, offset, operand.width, wrap)
            case Immediate(value, width):
                return ImmediatePlace(self.const(value, integer(width)))
            case Relative(displacement, _):
                target = (self.next_eip + displacement) & self.eip_mask
                return ImmediatePlace(self.const(target, I32))
            case FarPointer(selector, offset, width):
                return ImmediatePlace(self.const(selector << 32 | offset, integer(48)))
        raise TypeError(f"no place for {operand!r}")


def trace(b: Tracer, insn: Insn, address: int) -> None:
    """Append the IR of `insn` at linear `address` to `b.ops`: an `insn` marker, then its operations."""
    b.insn = insn
    b.eip = address
    b.next_eip = (address + insn.length) & (0xFFFF if b.mode & MODE_CODE16 else 0xFFFFFFFF)
    b.emit("insn", None, (), (insn, address))
    trace_operations(b, insn)


def trace_operations(b: Tracer, insn: Insn) -> None:
    """Append the operations of `insn`, for a builder that knows its addresses already."""
    if insn.lock and not lockable(insn):
        b.fault(UD)
        return
    insn.row.semantics(b, *map(b.place, insn.operands))


def holds_trap_back(insn: Insn) -> bool:
    """Tell whether no single-step trap comes behind the instruction, but behind the next one: MOV and POP to SS.

    Intel SDM vol. 3A, "Masking Exceptions and Interrupts When Switching Stacks". LSS does not.
    """
    return insn.row.name in ("mov", "pop") and insn.operands[0] == Register("sreg", SEGMENTS.index("ss"), 16)


def lockable(insn: Insn) -> bool:
    """Tell whether a LOCK prefix is legal: the row allows it, the destination is memory (Intel SDM vol. 2A, LOCK)."""
    return insn.row.lock and bool(insn.operands) and isinstance(insn.operands[0], Memory)


__all__ = ["FLAG_NAMES", "Tracer", "holds_trap_back", "lockable", "trace", "trace_operations"]

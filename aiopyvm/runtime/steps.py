"""`Step`: one executed instruction as a learner reads it: address, bytes, Intel text, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiopyvm.errors import GuestMemoryError
from aiopyvm.isa.insn import Memory as MemoryOperand
from aiopyvm.isa.state import FLAG_BITS, GPR32, SEGMENTS

if TYPE_CHECKING:
    from aiopyvm.isa.insn import Insn
    from aiopyvm.isa.state import CpuState
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.mem.space import AddressSpace

LONGEST: Final = 15  # bytes of an instruction
_NAMES: Final = (*GPR32, *FLAG_BITS, *SEGMENTS)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction that was executed.

    `changes` maps what is different now to its value: registers, flags, and memory as "[0x1000]" (32 bits, or the
    operand's width). EIP is not among them.
    """

    address: int
    code: bytes
    text: str
    changes: Mapping[str, int]

    def __str__(self) -> str:
        changes = " ".join(f"{name}={value:#x}" for name, value in self.changes.items())
        return f"{self.address:08x}  {self.code.hex():<16} {self.text:<32} {changes}".rstrip()


class Observer:
    """Looks at a thread before an instruction; `step` compares afterwards."""

    __slots__ = ("_before", "_code", "_places", "_text", "_thread", "address")

    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        cpu = thread.core.cpu
        self.address: int = cpu.eip
        self._before: CpuState = cpu.copy()
        self._code, self._text, insn = instruction_at(thread.memory, self.address, cpu)
        self._places = dict(_places(thread.memory, cpu, insn))

    def step(self) -> Step:
        """Return what the instruction did."""
        cpu = self._thread.core.cpu
        changes = {name: value for name in _NAMES if (value := getattr(cpu, name)) != getattr(self._before, name)}
        space = self._thread.memory
        for (address, size), old in self._places.items():
            new = _peek(space, address, size)
            if new is not None and new != old:
                changes[f"[{address:#x}]"] = int.from_bytes(new, "little")
        return Step(self.address, self._code, self._text, changes)


def instruction_at(space: AddressSpace, address: int, cpu: CpuState) -> tuple[bytes, str, Insn | None]:
    """Return the bytes, text and decoded form of the instruction at `address`; what is none is "(bad)"."""
    from aiopyvm.isa.disasm import iter_disassemble

    linear = address + cpu.cs_base & 0xFFFFFFFF
    length = LONGEST
    while length and (code := _peek(space, linear, length)) is None:
        length -= 1
    if not length or code is None:
        return b"", "(not mapped)", None
    line = next(iter_disassemble(code, address, code16=not cpu.cs_access >> 22 & 1))
    return line.code, line.text if line.insn is not None else "(bad)", line.insn


def _peek(space: AddressSpace, address: int, size: int) -> bytes | None:
    try:
        return space.peek(address, size)
    except GuestMemoryError:
        return None


def _places(space: AddressSpace, cpu: CpuState, insn: Insn | None) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The memory that the instruction may write: its operands, the stack below ESP, the string destination."""
    candidates = [(cpu.esp - 4 * n & 0xFFFFFFFF, 4) for n in range(1, 9)]
    if insn is not None:
        candidates += [
            (effective_address(cpu, operand), operand.width // 8)
            for operand in insn.operands
            if isinstance(operand, MemoryOperand) and operand.width
        ]
        if insn.row.name.lower().startswith(("movs", "stos", "ins")):
            candidates.append((cpu.es_base + cpu.edi & 0xFFFFFFFF, 4))
    for address, size in candidates:
        old = _peek(space, address, size)
        if old is not None:
            yield (address, size), old


def effective_address(cpu: CpuState, operand: MemoryOperand) -> int:
    """Return the linear address of a memory operand in the state of `cpu`."""
    address = operand.displacement
    if operand.base >= 0:
        address += getattr(cpu, GPR32[operand.base])
    if operand.index >= 0:
        address += getattr(cpu, GPR32[operand.index]) * operand.scale
    mask = 0xFFFF if operand.address_size == 16 else 0xFFFFFFFF
    return int(getattr(cpu, f"{SEGMENTS[operand.segment]}_base") + (address & mask)) & 0xFFFFFFFF

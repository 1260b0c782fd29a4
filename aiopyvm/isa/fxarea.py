"""Parts of the FXSAVE area as instructions store and load them: what FXSAVE and XSAVE share.

A part is stored from `Pieces`, values with their offsets; it is loaded by a function that gives the value of a type at
an offset, and takes effect by another, so that everything that may fault comes before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiopyvm.ir.types import F80, I32, I64, I80, I128, V128, Type
from aiopyvm.isa.state import MODE_ALIGNMENT_CHECK
from aiopyvm.isa.vectors import GP
from aiopyvm.isa.x87 import CONDITIONS, CONTROL_BITS, CONTROL_ONES, EXCEPTIONS, SF, register, summary
from aiopyvm.isa.xarea import FDP, MXCSR, MXCSR_MASK, REGISTERS, STACK, STEP, XMM

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.places import MemoryPlace
    from aiopyvm.isa.trace import Tracer

Pieces = list[tuple[int, "Value"]]  # offset and value
Load = Callable[[Type, int], "Value"]  # the value of a type at an offset
_OPCODE: Final = 0x7FF


def align(b: Tracer, place: MemoryPlace, size: int) -> None:
    """#AC where it is checked and the operand is not aligned to 4; #GP where it is not aligned to `size`."""
    if b.mode & MODE_ALIGNMENT_CHECK:
        b.linear(place.segment, place.offset, 4, write=False)
    b.fault(GP, (place.linear() & (size - 1)).ne(0))


def concatenated(*parts: Value) -> Value:
    """One integer of 128 bits, of parts from the lowest on; what is missing is 0."""
    whole, at = parts[0].zext(128), parts[0].bits
    for part in parts[1:]:
        whole = whole | part.zext(128) << at
        at += part.bits
    return whole


def x87_pieces(b: Tracer) -> Pieces:
    """Control, status, tags, opcode, the last instruction's and operand's addresses, ST(0) to ST(7)."""
    status = b.get("fsw") | b.get("ftop").zext(16) << 11
    head = concatenated(b.get("fcw"), status, b.get("fvalid").zext(16), b.get("fop"), b.get("fip"))
    registers = [b.getfp(register(b, i)).cast(I80).zext(128) for i in range(REGISTERS)]
    return [(0, head), (FDP, b.get("fdp").zext(64)), *((STACK + STEP * i, x) for i, x in enumerate(registers))]


def mxcsr_piece(b: Tracer) -> Pieces:
    """MXCSR and the bits that it has."""
    return [(MXCSR, b.get("mxcsr").zext(64) | MXCSR_MASK << 32)]


def xmm_pieces(b: Tracer) -> Pieces:
    """XMM0 to XMM7."""
    return [(XMM + STEP * n, b.get_vector(f"xmm{n}", V128).cast(I128)) for n in range(REGISTERS)]


@dataclass(frozen=True, slots=True)
class X87Image:
    """The x87's part of an area, loaded: the first words, of 64 bits each, and ST(0) to ST(7)."""

    words: list[Value]
    stack: list[Value]

    @property
    def control(self) -> Value:
        """The control word that it gives."""
        return self.words[0].trunc(16) & CONTROL_BITS | CONTROL_ONES

    def apply(self, b: Tracer) -> None:
        """The x87's state but for its control word := the image; ES and B follow from that word as it is here."""
        words, control = self.words, self.control
        status = (words[0] >> 16).trunc(16)
        b.set("fsw", summary(b, status & (CONDITIONS | EXCEPTIONS | SF), control))
        b.set("ftop", (status >> 11).trunc(8) & (REGISTERS - 1))
        b.set("fvalid", (words[0] >> 32).trunc(8))
        b.set("fop", (words[0] >> 48).trunc(16) & _OPCODE)
        b.set("fip", words[1].trunc(32))
        b.set("fdp", words[2].trunc(32))
        b.set("fcs", 0)
        b.set("fds", 0)
        for i, value in enumerate(self.stack):
            b.setfp(register(b, i), value)


def load_x87(load: Load) -> X87Image:
    """Load the x87's part."""
    words = [load(I64, 8 * n) for n in range(MXCSR // 8)]
    return X87Image(words, [load(F80, STACK + STEP * i) for i in range(REGISTERS)])


def load_mxcsr(b: Tracer, load: Load) -> Value:
    """MXCSR in the area (i32), which is not looked at yet."""
    return load(I32, MXCSR)


def load_xmm(load: Load) -> list[Value]:
    """XMM0 to XMM7 in the area."""
    return [load(V128, XMM + STEP * n) for n in range(REGISTERS)]


__all__ = [
    "Load", "Pieces", "X87Image", "align", "concatenated", "load_mxcsr", "load_x87", "load_xmm", "mxcsr_piece",
    "x87_pieces", "xmm_pieces",
]  # fmt: skip

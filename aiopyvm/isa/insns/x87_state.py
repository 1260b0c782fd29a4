"""FXSAVE and FXRSTOR: the state of x87, MMX and SSE as 512 bytes (Intel SDM vol. 1, "FXSAVE Area")."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F80, I8, I32, I64, I80, I128, V128
from aiopyvm.isa.places import MemoryPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import MODE_ALIGNMENT_CHECK
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vectors import GP
from aiopyvm.isa.x87 import CONDITIONS, CONTROL_BITS, CONTROL_ONES, EXCEPTIONS, SF, register, summary

MXCSR_MASK = 0xFFFF  # the bits that MXCSR has
SIZE = 512
_STACK, _VECTORS = 32, 160  # where ST(0) and XMM0 are, the others behind them
_REGISTERS = 8
_STEP = 16
_OPCODE = 0x7FF


def _align(b: Tracer, place: MemoryPlace) -> None:
    """#AC where it is checked and the operand is not aligned to 4; #GP where it is not aligned to 16."""
    if b.mode & MODE_ALIGNMENT_CHECK:
        b.linear(place.segment, place.offset, 4, write=False)
    b.fault(GP, (place.linear() & (_STEP - 1)).ne(0))


def _concatenated(*parts: Value) -> Value:
    """One integer of 128 bits, of parts from the lowest on; what is missing is 0."""
    whole, at = parts[0].zext(128), parts[0].bits
    for part in parts[1:]:
        whole = whole | part.zext(128) << at
        at += part.bits
    return whole


@insn("fxsave", source="Intel SDM vol. 2A, FXSAVE", cpuid="fxsr")
@form("NP 0F AE /0", "m512byte")
def fxsave(b: Tracer, dst: MemoryPlace) -> None:
    """dst := x87, XMM and MXCSR; #GP unless it is aligned to 16. What is behind XMM7 stays."""
    _align(b, dst)
    status = b.get("fsw") | b.get("ftop").zext(16) << 11
    tags, zero = b.get("fvalid").zext(16), b.const(0, I32)
    first = _concatenated(b.get("fcw"), status, tags, b.get("fop"), b.get("fip"), zero)
    second = _concatenated(b.get("fdp"), zero, b.get("mxcsr"), b.const(MXCSR_MASK, I32))
    registers = [b.getfp(register(b, i)).cast(I80).zext(128) for i in range(_REGISTERS)]
    vectors = [b.get_vector(f"xmm{n}", V128).cast(I128) for n in range(_REGISTERS)]
    pieces = [first, second, *registers, *vectors]
    dst.prepare_store(1, SIZE - 1)
    for n in range(len(pieces)):
        dst.prepare_store(_STEP, _STEP * n)
    for n, piece in enumerate(pieces):
        dst.store(piece, _STEP * n)


@insn("fxrstor", source="Intel SDM vol. 2A, FXRSTOR", cpuid="fxsr")
@form("NP 0F AE /1", "m512byte")
def fxrstor(b: Tracer, src: MemoryPlace) -> None:
    """x87, XMM and MXCSR := src; #GP unless it is aligned to 16, and for a bit that MXCSR has not."""
    _align(b, src)
    src.load_as(I8, SIZE - 1)
    words = [src.load_as(I64, 8 * n) for n in range(_STACK // 8)]
    mxcsr = words[3].trunc(32)
    b.fault(GP, (mxcsr & ~MXCSR_MASK).ne(0))
    registers = [src.load_as(F80, _STACK + _STEP * i) for i in range(_REGISTERS)]
    vectors = [src.load_as(V128, _VECTORS + _STEP * n) for n in range(_REGISTERS)]
    control = words[0].trunc(16) & CONTROL_BITS | CONTROL_ONES
    status = (words[0] >> 16).trunc(16)
    b.set("mxcsr", mxcsr)
    b.set("fcw", control)
    b.set("fsw", summary(b, status & (CONDITIONS | EXCEPTIONS | SF), control))
    b.set("ftop", (status >> 11).trunc(8) & (_REGISTERS - 1))
    b.set("fvalid", (words[0] >> 32).trunc(8))
    b.set("fop", (words[0] >> 48).trunc(16) & _OPCODE)
    b.set("fip", words[1].trunc(32))
    b.set("fdp", words[2].trunc(32))
    b.set("fcs", 0)
    b.set("fds", 0)
    for i, value in enumerate(registers):
        b.setfp(register(b, i), value)
    for n, vector in enumerate(vectors):
        b.set_vector(f"xmm{n}", vector)

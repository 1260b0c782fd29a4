"""Integer operations on the lanes of XMM registers (SSE2) and of MMX registers (MMX), and bitwise ones."""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.ir.builder import Value
from aiopyvm.isa.places import VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load, mask
from aiopyvm.isa.trace import Tracer

Operation = Callable[[Value, Value], Value]


def _lanewise(name: str, opcode: int, bits: int, operation: Operation) -> None:
    """The rows of an operation on lanes of `bits`."""

    @insn(name, source=f"Intel SDM vol. 2B, {name.upper()}")
    @form(f"66 0F {opcode:02X} /r", "xmm1, xmm2/m128")
    def vectors(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := dst op src, lane by lane."""
        dst.store(operation(dst.load().lanes(bits), load(b, src).lanes(bits)))


for _name, _opcode, _bits in (("paddb", 0xFC, 8), ("paddw", 0xFD, 16), ("paddd", 0xFE, 32), ("paddq", 0xD4, 64)):
    _lanewise(_name, _opcode, _bits, lambda x, y: x + y)
for _name, _opcode, _bits in (("psubb", 0xF8, 8), ("psubw", 0xF9, 16), ("psubd", 0xFA, 32), ("psubq", 0xFB, 64)):
    _lanewise(_name, _opcode, _bits, lambda x, y: x - y)
for _name, _opcode, _bits in (("pcmpeqb", 0x74, 8), ("pcmpeqw", 0x75, 16), ("pcmpeqd", 0x76, 32)):
    _lanewise(_name, _opcode, _bits, lambda x, y: mask(x.eq(y)))
_lanewise("pand", 0xDB, 64, lambda x, y: x & y)
_lanewise("pandn", 0xDF, 64, lambda x, y: ~x & y)
_lanewise("por", 0xEB, 64, lambda x, y: x | y)
_lanewise("pxor", 0xEF, 64, lambda x, y: x ^ y)

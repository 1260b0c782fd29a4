"""FXSAVE and FXRSTOR: the state of x87, MMX and SSE as 512 bytes (Intel SDM vol. 1, "FXSAVE Area")."""

from __future__ import annotations

from aiopyvm.ir.types import I8
from aiopyvm.isa import fxarea
from aiopyvm.isa.places import MemoryPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vectors import GP
from aiopyvm.isa.xarea import FXSAVE_SIZE, MXCSR_MASK, STEP


@insn("fxsave", source="Intel SDM vol. 2A, FXSAVE", cpuid="fxsr")
@form("NP 0F AE /0", "m512byte")
def fxsave(b: Tracer, dst: MemoryPlace) -> None:
    """dst := x87, XMM and MXCSR; #GP unless it is aligned to 16. What is behind XMM7 stays."""
    fxarea.align(b, dst, STEP)
    pieces = sorted((*fxarea.x87_pieces(b), *fxarea.mxcsr_piece(b), *fxarea.xmm_pieces(b)), key=lambda piece: piece[0])
    dst.prepare_store(1, FXSAVE_SIZE - 1)
    for at, piece in pieces:
        dst.prepare_store(piece.bits // 8, at)
    for at, piece in pieces:
        dst.store(piece, at)


@insn("fxrstor", source="Intel SDM vol. 2A, FXRSTOR", cpuid="fxsr")
@form("NP 0F AE /1", "m512byte")
def fxrstor(b: Tracer, src: MemoryPlace) -> None:
    """x87, XMM and MXCSR := src; #GP unless it is aligned to 16, and for a bit that MXCSR has not."""
    fxarea.align(b, src, STEP)
    src.load_as(I8, FXSAVE_SIZE - 1)
    x87 = fxarea.load_x87(src.load_as)
    mxcsr = fxarea.load_mxcsr(b, src.load_as)
    vectors = fxarea.load_xmm(src.load_as)
    b.fault(GP, (mxcsr & ~MXCSR_MASK).ne(0))
    control = x87.control
    b.set("mxcsr", mxcsr)
    b.set("fcw", control)
    x87.apply(b)
    for n, vector in enumerate(vectors):
        b.set_vector(f"xmm{n}", vector)

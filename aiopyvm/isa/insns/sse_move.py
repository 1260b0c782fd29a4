"""SSE and SSE2 moves of whole registers."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import V128
from aiopyvm.isa.places import MemoryPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, align, load
from aiopyvm.isa.trace import Tracer


def _whole(place: Source) -> Value:
    return place.load_as(V128) if isinstance(place, MemoryPlace) else place.load()


def _aligned(name: str, prefix: str, load_opcode: int, store_opcode: int) -> None:
    source = f"Intel SDM vol. 2, {name.upper()}"

    @insn(name, source=source)
    @form(f"{prefix} 0F {load_opcode:02X} /r", "xmm1, xmm2/m128")
    @form(f"{prefix} 0F {store_opcode:02X} /r", "xmm2/m128, xmm1")
    def move(b: Tracer, dst: Source, src: Source) -> None:
        """dst := src; 16 bytes of memory are aligned."""
        align(b, dst)
        dst.store(load(b, src))


def _unaligned(name: str, prefix: str, load_opcode: int, store_opcode: int) -> None:
    @insn(name, source=f"Intel SDM vol. 2, {name.upper()}")
    @form(f"{prefix} 0F {load_opcode:02X} /r", "xmm1, xmm2/m128")
    @form(f"{prefix} 0F {store_opcode:02X} /r", "xmm2/m128, xmm1")
    def move(b: Tracer, dst: Source, src: Source) -> None:
        """dst := src."""
        dst.store(_whole(src))


_aligned("movaps", "NP", 0x28, 0x29)
_aligned("movapd", "66", 0x28, 0x29)
_aligned("movdqa", "66", 0x6F, 0x7F)
_unaligned("movups", "NP", 0x10, 0x11)
_unaligned("movupd", "66", 0x10, 0x11)
_unaligned("movdqu", "F3", 0x6F, 0x7F)

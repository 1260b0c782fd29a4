"""Segment registers and descriptors: MOV to and from them, LDS LES LFS LGS LSS, ARPL LAR LSL VERR VERW."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.places import Destination, MemoryPlace, RegisterPlace, SegmentPlace, Source
from aiopyvm.isa.segments import Descriptor, load_segment
from aiopyvm.isa.spec import Semantics, form, insn
from aiopyvm.isa.state import ZF
from aiopyvm.isa.vectors import UD

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer


@insn("mov", source="Intel SDM vol. 2B, MOV")
@form("8C /r", "r/m16, Sreg")
@form("8C /r", "r32/m16, Sreg")
def mov_from_segment(b: Tracer, dst: Destination, src: SegmentPlace) -> None:
    """dst := the selector, zero-extended; memory gets 16 bits."""
    dst.store(src.load().zext(dst.width))


@insn("mov", source="Intel SDM vol. 2B, MOV")
@form("o* 8E /r", "Sreg, r/m16")
def mov_to_segment(b: Tracer, dst: SegmentPlace, src: Source) -> None:
    """dst := selector and descriptor; #UD for CS."""
    if dst.name == "cs":
        b.fault(UD)
    else:
        dst.store(src.load())


def _define_far_load(name: str, opcode: str) -> None:
    """LDS and its like: a far pointer's selector into a segment register, its offset into a general one."""

    def load(b: Tracer, dst: RegisterPlace, src: MemoryPlace) -> None:
        """dst := offset, segment register := selector."""
        offset = src.load(dst.width)
        load_segment(b, name[1:], src.load(16, at=dst.width // 8))
        dst.store(offset)

    function: Semantics = form(opcode, "r16, m16:16")(form(opcode, "r32, m16:32")(load))
    insn(name, source="Intel SDM vol. 2A, LDS/LES/LFS/LGS/LSS")(function)


_FAR_LOADS = {"lds": "C5 /r", "les": "C4 /r", "lfs": "0F B4 /r", "lgs": "0F B5 /r", "lss": "0F B2 /r"}
for _name, _opcode in _FAR_LOADS.items():
    _define_far_load(_name, _opcode)


@insn("arpl", source="Intel SDM vol. 2A, ARPL", writes=ZF)
@form("o* 63 /r", "r/m16, r16")
def arpl(b: Tracer, dst: Destination, src: RegisterPlace) -> None:
    """dst's RPL := src's where that is greater, and ZF tells; dst is not written otherwise."""
    x, y = dst.load(), src.load()
    raised = (x & 3).ult(y & 3)
    with b.when(raised):
        dst.store((x & 0xFFFC) | (y & 3))
    b.set_flag(ZF, raised)


def _define_query(name: str, opcode: str, summary: str) -> None:
    def query(b: Tracer, dst: RegisterPlace, src: Source) -> None:
        segment = Descriptor(b, src.load().trunc(16))
        answer = segment.access & 0x00FFFF00 if name == "lar" else segment.limit
        with b.when(segment.visible):
            dst.store(answer.trunc(dst.width))
        b.set_flag(ZF, segment.visible)

    query.__doc__ = summary
    function: Semantics = form(opcode, "r16, r/m16")(form(opcode, "r32, r32/m16")(query))
    insn(name, source=f"Intel SDM vol. 2A, {name.upper()}", writes=ZF)(function)


_define_query("lar", "0F 02 /r", "dst := the access rights of a visible segment, and ZF tells.")
_define_query("lsl", "0F 03 /r", "dst := the limit in bytes of a visible segment, and ZF tells.")


@insn("verr", source="Intel SDM vol. 2C, VERR/VERW", writes=ZF)
@form("o* 0F 00 /4", "r/m16")
def verr(b: Tracer, src: Source) -> None:
    """ZF := the segment can be read."""
    b.set_flag(ZF, _segment(b, src).readable)


@insn("verw", source="Intel SDM vol. 2C, VERR/VERW", writes=ZF)
@form("o* 0F 00 /5", "r/m16")
def verw(b: Tracer, src: Source) -> None:
    """ZF := the segment can be written."""
    b.set_flag(ZF, _segment(b, src).writable)


def _segment(b: Tracer, src: Source) -> Descriptor:
    selector: Value = src.load()
    return Descriptor(b, selector)

"""Bitwise logic: AND OR XOR NOT TEST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.flags import set_logic_flags
from aiopyvm.isa.insns.alu import alu_forms
from aiopyvm.isa.places import Destination, Source
from aiopyvm.isa.spec import form, forms, insn
from aiopyvm.isa.state import AF, OSZAPC

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer


@insn("and", source="Intel SDM vol. 2A, AND", writes=OSZAPC, undefined=AF, lock=True)
@alu_forms(4)
def and_(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst AND src."""
    result = dst.modify() & src.load()
    dst.store(result)
    set_logic_flags(b, result)


@insn("or", source="Intel SDM vol. 2B, OR", writes=OSZAPC, undefined=AF, lock=True)
@alu_forms(1)
def or_(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst OR src."""
    result = dst.modify() | src.load()
    dst.store(result)
    set_logic_flags(b, result)


@insn("xor", source="Intel SDM vol. 2D, XOR", writes=OSZAPC, undefined=AF, lock=True)
@alu_forms(6)
def xor(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst XOR src."""
    result = dst.modify() ^ src.load()
    dst.store(result)
    set_logic_flags(b, result)


@insn("not", source="Intel SDM vol. 2B, NOT", lock=True)
@form("F6 /2", "r/m8")
@form("F7 /2", "r/m16")
@form("F7 /2", "r/m32")
def not_(b: Tracer, dst: Destination) -> None:
    """dst := NOT dst; no flag changes."""
    dst.store(~dst.modify())


@insn("test", source="Intel SDM vol. 2B, TEST", writes=OSZAPC, undefined=AF)
@form("A8 ib", "al, imm8")
@form("A9 iw", "ax, imm16")
@form("A9 id", "eax, imm32")
@form("F6 /0 ib", "r/m8, imm8")
@form("F7 /0 iw", "r/m16, imm16")
@form("F7 /0 id", "r/m32, imm32")
@form("84 /r", "r/m8, r8")
@form("85 /r", "r/m16, r16")
@form("85 /r", "r/m32, r32")
@forms(
    ("F6 /1 ib", "r/m8, imm8"),
    ("F7 /1 iw", "r/m16, imm16"),
    ("F7 /1 id", "r/m32, imm32"),
    attributes="alias",
)
def test(b: Tracer, dst: Source, src: Source) -> None:
    """Flags of dst AND src."""
    set_logic_flags(b, dst.load() & src.load())

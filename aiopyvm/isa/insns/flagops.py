"""Single flags and AH: CLC STC CMC CLD STD LAHF SAHF SALC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, DF, PF, SF, ZF

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer

SZAPC = SF | ZF | AF | PF | CF


@insn("clc", source="Intel SDM vol. 2A, CLC", writes=CF)
@form("F8")
def clc(b: Tracer) -> None:
    """CF := 0."""
    b.set_flag(CF, 0)


@insn("stc", source="Intel SDM vol. 2B, STC", writes=CF)
@form("F9")
def stc(b: Tracer) -> None:
    """CF := 1."""
    b.set_flag(CF, 1)


@insn("cmc", source="Intel SDM vol. 2A, CMC", reads=CF, writes=CF)
@form("F5")
def cmc(b: Tracer) -> None:
    """CF := NOT CF."""
    b.set_flag(CF, ~b.flag(CF))


@insn("cld", source="Intel SDM vol. 2A, CLD", writes=DF)
@form("FC")
def cld(b: Tracer) -> None:
    """DF := 0: string instructions go up."""
    b.set_flag(DF, 0)


@insn("std", source="Intel SDM vol. 2B, STD", writes=DF)
@form("FD")
def std(b: Tracer) -> None:
    """DF := 1: string instructions go down."""
    b.set_flag(DF, 1)


@insn("lahf", source="Intel SDM vol. 2A, LAHF", reads=SZAPC)
@form("9F")
def lahf(b: Tracer) -> None:
    """AH := SF:ZF:0:AF:0:PF:1:CF."""
    value = b.flag(CF).zext(8) | 2
    for flag, position in ((PF, 2), (AF, 4), (ZF, 6), (SF, 7)):
        value = value | b.flag(flag).zext(8) << position
    b.reg("ah").store(value)


@insn("sahf", source="Intel SDM vol. 2B, SAHF", writes=SZAPC)
@form("9E")
def sahf(b: Tracer) -> None:
    """SF:ZF:-:AF:-:PF:-:CF := AH."""
    ah = b.reg("ah").load()
    for flag, position in ((CF, 0), (PF, 2), (AF, 4), (ZF, 6), (SF, 7)):
        b.set_flag(flag, ah.bit(position))


@insn("salc", source="Intel SDM vol. 2, opcode map (D6, undocumented)", reads=CF)
@form("D6")
def salc(b: Tracer) -> None:
    """AL := 0xff where CF is set, else 0."""
    b.reg("al").store(b.flag(CF).sext(8))

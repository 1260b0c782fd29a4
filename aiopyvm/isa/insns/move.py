"""Copying: MOV MOVZX MOVSX XCHG CMOVcc SETcc LEA XLAT CBW CWDE CWD CDQ. Segment registers are in segment.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.flags import CONDITIONS, condition
from aiopyvm.isa.places import Destination, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.spec import Semantics, form, insn
from aiopyvm.isa.state import SEGMENTS

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer


@insn("mov", source="Intel SDM vol. 2B, MOV")
@form("88 /r", "r/m8, r8")
@form("89 /r", "r/m16, r16")
@form("89 /r", "r/m32, r32")
@form("8A /r", "r8, r/m8")
@form("8B /r", "r16, r/m16")
@form("8B /r", "r32, r/m32")
@form("A0", "al, moffs8")
@form("A1", "ax, moffs16")
@form("A1", "eax, moffs32")
@form("A2", "moffs8, al")
@form("A3", "moffs16, ax")
@form("A3", "moffs32, eax")
@form("B0+rb ib", "r8, imm8")
@form("B8+rw iw", "r16, imm16")
@form("B8+rd id", "r32, imm32")
@form("C6 /0 ib", "r/m8, imm8")
@form("C7 /0 iw", "r/m16, imm16")
@form("C7 /0 id", "r/m32, imm32")
def mov(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := src."""
    dst.store(src.load())


@insn("movzx", source="Intel SDM vol. 2B, MOVZX")
@form("0F B6 /r", "r16, r/m8")
@form("0F B6 /r", "r32, r/m8")
@form("0F B7 /r", "r32, r/m16")
@form("o16 0F B7 /r", "r16, r/m16")
def movzx(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := src, zero-extended."""
    dst.store(src.load().zext(dst.width))


@insn("movsx", source="Intel SDM vol. 2B, MOVSX/MOVSXD")
@form("0F BE /r", "r16, r/m8")
@form("0F BE /r", "r32, r/m8")
@form("0F BF /r", "r32, r/m16")
@form("o16 0F BF /r", "r16, r/m16")
def movsx(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := src, sign-extended."""
    dst.store(src.load().sext(dst.width))


@insn("xchg", source="Intel SDM vol. 2D, XCHG", lock=True)
@form("90+rw", "ax, r16")
@form("90+rd", "eax, r32")
@form("86 /r", "r/m8, r8")
@form("87 /r", "r/m16, r16")
@form("87 /r", "r/m32, r32")
def xchg(b: Tracer, dst: Destination, src: RegisterPlace) -> None:
    """dst and src change places."""
    x, y = dst.modify(), src.load()
    dst.store(y)
    src.store(x)


def _define_conditional(number: int, names: tuple[str, ...], reads: int) -> None:
    """CMOVcc and SETcc of one condition."""

    def cmov(b: Tracer, dst: RegisterPlace, src: Source) -> None:
        """dst := src where the condition holds; src is read in either case."""
        value = src.load()
        dst.store(b.select(condition(b, number), value, dst.load()))

    def set_(b: Tracer, dst: Destination) -> None:
        """dst := 1 where the condition holds, else 0."""
        dst.store(condition(b, number).zext(8))

    def add(prefix: str, source: str, function: Semantics, feature: str = "") -> None:
        aliases = tuple(prefix + name for name in names[1:])
        insn(prefix + names[0], source=source, reads=reads, aliases=aliases, cpuid=feature)(function)

    cmov_form = f"0F {0x40 + number:02X} /r"
    add("cmov", "Intel SDM vol. 2A, CMOVcc", form(cmov_form, "r16, r/m16")(form(cmov_form, "r32, r/m32")(cmov)), "cmov")
    add("set", "Intel SDM vol. 2B, SETcc", form(f"0F {0x90 + number:02X} /r", "r/m8")(set_))


for _number, (_names, _reads) in enumerate(CONDITIONS):
    _define_conditional(_number, _names, _reads)


@insn("lea", source="Intel SDM vol. 2A, LEA")
@form("8D /r", "r16, m")
@form("8D /r", "r32, m")
def lea(b: Tracer, dst: RegisterPlace, src: MemoryPlace) -> None:
    """dst := the effective address, cut or zero-extended to dst."""
    dst.store(src.offset.trunc(dst.width))


@insn("xlatb", source="Intel SDM vol. 2D, XLAT/XLATB", aliases=("xlat",))
@form("D7")
def xlatb(b: Tracer) -> None:
    """AL := byte at DS:[EBX + AL] (BX with 16-bit addresses); DS may be overridden."""
    offset = b.get("ebx") + b.reg("al").load().zext(32)
    if b.insn.address_size == 16:
        offset = offset & 0xFFFF
    segment = SEGMENTS[b.insn.segment] if b.insn.segment >= 0 else "ds"
    b.reg("al").store(b.memory(segment, offset, 8).load())


@insn("cbw", source="Intel SDM vol. 2A, CBW/CWDE/CDQE")
@form("o16 98")
def cbw(b: Tracer) -> None:
    """AX := AL, sign-extended."""
    b.reg("ax").store(b.reg("al").load().sext(16))


@insn("cwde", source="Intel SDM vol. 2A, CBW/CWDE/CDQE")
@form("o32 98")
def cwde(b: Tracer) -> None:
    """EAX := AX, sign-extended."""
    b.set("eax", b.reg("ax").load().sext(32))


@insn("cwd", source="Intel SDM vol. 2A, CWD/CDQ/CQO")
@form("o16 99")
def cwd(b: Tracer) -> None:
    """DX := copies of AX's sign."""
    b.reg("dx").store(b.reg("ax").load().sar(15))


@insn("cdq", source="Intel SDM vol. 2A, CWD/CDQ/CQO")
@form("o32 99")
def cdq(b: Tracer) -> None:
    """EDX := copies of EAX's sign."""
    b.set("edx", b.get("eax").sar(31))

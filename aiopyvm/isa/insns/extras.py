"""Later additions to the general instructions: MOVBE, ADCX ADOX, CRC32, MOVNTI, MOVDIRI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.isa.places import Destination, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import CF, OF

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

_CASTAGNOLI: Final = 0x82F63B78  # the polynomial 11EDC6F41h, its bits in reverse order


@insn("movbe", source="Intel SDM vol. 2B, MOVBE", cpuid="movbe")
@form("NFx 0F 38 F0 /r", "r16, m16")
@form("NFx 0F 38 F0 /r", "r32, m32")
@form("NFx 0F 38 F1 /r", "m16, r16")
@form("NFx 0F 38 F1 /r", "m32, r32")
def movbe(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := src, its bytes in reverse order."""
    x = src.load()
    if x.bits == 16:
        dst.store((x << 8) | (x >> 8))
    else:
        dst.store((x << 24) | ((x & 0xFF00) << 8) | ((x >> 8) & 0xFF00) | (x >> 24))


def _add(b: Tracer, dst: RegisterPlace, src: Source, flag: int) -> None:
    """dst := dst + src + flag; the flag is the carry out."""
    total = dst.load().zext(64) + src.load().zext(64) + b.flag(flag).zext(64)
    dst.store(total.trunc(32))
    b.set_flag(flag, total.bit(32))


@insn("adcx", source="Intel SDM vol. 2A, ADCX", reads=CF, writes=CF, cpuid="adx")
@form("66 0F 38 F6 /r", "r32, r/m32")
def adcx(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := dst + src + CF; CF is the carry out."""
    _add(b, dst, src, CF)


@insn("adox", source="Intel SDM vol. 2A, ADOX", reads=OF, writes=OF, cpuid="adx")
@form("o* F3 0F 38 F6 /r", "r32, r/m32")
def adox(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := dst + src + OF; OF is the carry out."""
    _add(b, dst, src, OF)


@insn("crc32", source="Intel SDM vol. 2A, CRC32", cpuid="sse4_2")
@form("o* F2 0F 38 F0 /r", "r32, r/m8")
@form("o16 F2 0F 38 F1 /r", "r32, r/m16")
@form("F2 0F 38 F1 /r", "r32, r/m32")
def crc32(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """dst := dst with the bits of src divided by Castagnoli's polynomial."""
    data = src.load()
    rest: Value = dst.load() ^ data.zext(32)
    for _ in range(data.bits):
        rest = (rest >> 1) ^ (-(rest & 1) & _CASTAGNOLI)
    dst.store(rest)


@insn("movnti", source="Intel SDM vol. 2B, MOVNTI", cpuid="sse2")
@form("NP 0F C3 /r", "m32, r32")
def movnti(b: Tracer, dst: MemoryPlace, src: RegisterPlace) -> None:
    """dst := src."""
    dst.store(src.load())


@insn("movdiri", source="Intel SDM vol. 2B, MOVDIRI", cpuid="movdiri")
@form("NP 0F 38 F9 /r", "m32, r32")
def movdiri(b: Tracer, dst: MemoryPlace, src: RegisterPlace) -> None:
    """dst := src."""
    dst.store(src.load())

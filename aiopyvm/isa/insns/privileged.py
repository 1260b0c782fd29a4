"""Instructions that privilege level 3 may not execute, or not without I/O privilege: #GP(0), and nothing else.

SYSENTER, SYSEXIT and RSM are #UD: CPUID does not tell of the first two, and the third is for system management mode
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiopyvm.isa.spec import form, forms, insn
from aiopyvm.isa.vectors import GP, UD

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer

# Mnemonic, heading in the manual, rows.
_PRIVILEGED: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("hlt", "2A, HLT", (("F4", ""),)),
    ("cli", "2A, CLI", (("FA", ""),)),
    ("sti", "2B, STI", (("FB", ""),)),
    ("clts", "2A, CLTS", (("0F 06", ""),)),
    ("invd", "2A, INVD", (("0F 08", ""),)),
    ("wbinvd", "2D, WBINVD", (("0F 09", ""),)),
    ("invlpg", "2A, INVLPG", (("0F 01 /7", "m"),)),
    ("lgdt", "2A, LGDT/LIDT", (("o* 0F 01 /2", "m"),)),
    ("lidt", "2A, LGDT/LIDT", (("o* 0F 01 /3", "m"),)),
    ("lldt", "2A, LLDT", (("0F 00 /2", "r/m16"), ("0F 00 /2", "r32/m16"))),
    ("ltr", "2A, LTR", (("0F 00 /3", "r/m16"), ("0F 00 /3", "r32/m16"))),
    ("lmsw", "2A, LMSW", (("0F 01 /6", "r/m16"), ("0F 01 /6", "r32/m16"))),
    ("mov", "2B, MOV (control registers)", (("o* 0F 20 /r", "r32, CR0-CR7"), ("o* 0F 22 /r", "CR0-CR7, r32"))),
    ("mov", "2B, MOV (debug registers)", (("o* 0F 21 /r", "r32, DR0-DR7"), ("o* 0F 23 /r", "DR0-DR7, r32"))),
    ("wrmsr", "2D, WRMSR", (("0F 30", ""),)),
    ("rdmsr", "2B, RDMSR", (("0F 32", ""),)),
    ("rdpmc", "2B, RDPMC", (("0F 33", ""),)),
    ("in", "2A, IN", (("E4 ib", "al, imm8"), ("E5 ib", "ax, imm8"), ("E5 ib", "eax, imm8"))),
    ("in", "2A, IN", (("o* EC", "al, dx"), ("ED", "ax, dx"), ("ED", "eax, dx"))),
    ("out", "2B, OUT", (("E6 ib", "imm8, al"), ("E7 ib", "imm8, ax"), ("E7 ib", "imm8, eax"))),
    ("out", "2B, OUT", (("o* EE", "dx, al"), ("EF", "dx, ax"), ("EF", "dx, eax"))),
    ("insb", "2A, INS/INSB/INSW/INSD", (("6C", ""),)),
    ("insw", "2A, INS/INSB/INSW/INSD", (("o16 6D", ""),)),
    ("insd", "2A, INS/INSB/INSW/INSD", (("o32 6D", ""),)),
    ("outsb", "2B, OUTS/OUTSB/OUTSW/OUTSD", (("6E", ""),)),
    ("outsw", "2B, OUTS/OUTSB/OUTSW/OUTSD", (("o16 6F", ""),)),
    ("outsd", "2B, OUTS/OUTSB/OUTSW/OUTSD", (("o32 6F", ""),)),
)
# Mnemonic, feature, encoding, operand.
_EXTENDED_STATE: tuple[tuple[str, str, str, str], ...] = (
    ("xsetbv", "xsave", "NP 0F 01 D1", ""),
    ("xsaves", "xsaves", "NP 0F C7 /5", "mem"),
    ("xrstors", "xsaves", "NP 0F C7 /3", "mem"),
)
_UNDEFINED = (
    ("sysenter", "2B, SYSENTER", (("0F 34", ""),)),
    ("sysexit", "2B, SYSEXIT", (("0F 35", ""),)),
    ("rsm", "2B, RSM", (("0F AA", ""),)),
)


def privileged(b: Tracer, *operands: Any) -> None:
    """#GP(0), whatever the operands; they are not accessed."""
    b.fault(GP)


def undefined(b: Tracer, *operands: Any) -> None:
    """#UD."""
    b.fault(UD)


for _name, _heading, _rows in _PRIVILEGED:
    _rep = "rep" if _name[:-1] in ("ins", "outs") else ""
    _feature = "msr" if _name in ("rdmsr", "wrmsr") else ""
    insn(_name, source=f"Intel SDM vol. {_heading}", rep=_rep, cpuid=_feature)(
        forms(*_rows, zero_extend=True)(privileged)
    )
for _name, _feature, _encoding, _operand in _EXTENDED_STATE:
    insn(_name, source=f"Intel SDM vol. 2D, {_name.upper()}", cpuid=_feature)(form(_encoding, _operand)(privileged))
for _name, _heading, _rows in _UNDEFINED:
    insn(_name, source=f"Intel SDM vol. {_heading}", cpuid="sep" if _name != "rsm" else "")(forms(*_rows)(undefined))

"""Instructions that raise an exception or an interrupt: INT n, INT3, INTO, INT1, BOUND, UD0, UD1, UD2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.places import ImmediatePlace, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import OF
from aiopyvm.isa.vectors import BP, BR, DB, GP, UD
from aiopyvm.isa.vectors import OF as OVERFLOW

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer

SYSCALL = 0x80


@insn("int", source="Intel SDM vol. 2A, INT n/INTO/INT3/INT1")
@form("CD ib", "imm8", static=(0,))
def int_(b: Tracer, vector: ImmediatePlace) -> None:
    """0x80 calls the kernel; 3 and 4 trap; the other gates are closed to privilege level 3: #GP(vector * 8 + 2)."""
    number = int(vector)
    if number == SYSCALL:
        b.exit("syscall")
    elif number in (BP, OVERFLOW):
        b.exit("trap", number)
    else:
        b.fault(GP, error_code=number * 8 + 2)


@insn("int3", source="Intel SDM vol. 2A, INT n/INTO/INT3/INT1")
@form("CC")
def int3(b: Tracer) -> None:
    """#BP, EIP behind the instruction."""
    b.exit("trap", BP)


@insn("int1", source="Intel SDM vol. 2A, INT n/INTO/INT3/INT1", aliases=("icebp",))
@form("F1")
def int1(b: Tracer) -> None:
    """#DB, EIP behind the instruction."""
    b.exit("trap", DB)


@insn("into", source="Intel SDM vol. 2A, INT n/INTO/INT3/INT1", reads=OF)
@form("CE")
def into(b: Tracer) -> None:
    """#OF, EIP behind the instruction, where OF is set."""
    with b.when(b.flag(OF)):
        b.exit("trap", OVERFLOW)


@insn("bound", source="Intel SDM vol. 2A, BOUND")
@form("62 /r", "r16, m16&16")
@form("62 /r", "r32, m32&32")
def bound(b: Tracer, index: RegisterPlace, bounds: MemoryPlace) -> None:
    """#BR unless lower bound <= index <= upper bound, signed; the upper one is read when the lower one holds."""
    x = index.load()
    b.fault(BR, x.slt(bounds.load(x.bits)))
    b.fault(BR, bounds.load(x.bits, at=x.bits // 8).slt(x))


@insn("ud2", source="Intel SDM vol. 2B, UD")
@form("0F 0B")
def ud2(b: Tracer) -> None:
    """#UD."""
    b.fault(UD)


@insn("ud1", source="Intel SDM vol. 2B, UD")
@form("0F B9 /r", "r16, r/m16")
@form("0F B9 /r", "r32, r/m32")
def ud1(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """#UD; operands are decoded and not read."""
    b.fault(UD)


@insn("ud0", source="Intel SDM vol. 2B, UD")
@form("0F FF /r", "r16, r/m16")
@form("0F FF /r", "r32, r/m32")
def ud0(b: Tracer, dst: RegisterPlace, src: Source) -> None:
    """#UD; operands are decoded and not read."""
    b.fault(UD)

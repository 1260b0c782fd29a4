"""Control flow: JMP Jcc JCXZ JECXZ LOOP LOOPE LOOPNE CALL RET, near and far, and IRET.

A 16-bit operand size cuts EIP to 16 bits. Far transfers reach one segment, the flat code segment that the program
runs in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.flags import CONDITIONS, condition
from aiopyvm.isa.places import ImmediatePlace, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.segments import check_code_selector
from aiopyvm.isa.spec import Semantics, form, insn
from aiopyvm.isa.state import DF, NT, OSZAPC, USER_CS, USER_WRITABLE_FLAGS, ZF
from aiopyvm.isa.vectors import GP

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer


@insn("jmp", source="Intel SDM vol. 2A, JMP")
@form("o* EB cb", "rel8")
@form("o16 E9 cw", "rel16")
@form("o32 E9 cd", "rel32")
def jmp(b: Tracer, target: ImmediatePlace) -> None:
    """EIP := target."""
    b.jump_near(target.load())


@insn("jmp", source="Intel SDM vol. 2A, JMP")
@form("FF /4", "r/m16")
@form("FF /4", "r/m32")
def jmp_rm(b: Tracer, target: Source) -> None:
    """EIP := target, an address."""
    b.jump_near(target.load().zext(32))


def _define_jump(number: int, names: tuple[str, ...], reads: int) -> None:
    def jcc(b: Tracer, target: ImmediatePlace) -> None:
        """EIP := target where the condition holds."""
        b.jump_if(condition(b, number), target.load())

    function: Semantics = form(f"o* {0x70 + number:02X} cb", "rel8")(
        form(f"o16 0F {0x80 + number:02X} cw", "rel16")(form(f"o32 0F {0x80 + number:02X} cd", "rel32")(jcc))
    )
    aliases = tuple("j" + name for name in names[1:])
    insn("j" + names[0], source="Intel SDM vol. 2A, Jcc", reads=reads, aliases=aliases)(function)


for _number, (_names, _reads) in enumerate(CONDITIONS):
    _define_jump(_number, _names, _reads)


def _counter(b: Tracer) -> RegisterPlace:
    return b.reg("ecx" if b.insn.address_size == 32 else "cx")


@insn("jecxz", source="Intel SDM vol. 2A, Jcc")
@form("o* a32 E3 cb", "rel8")
def jecxz(b: Tracer, target: ImmediatePlace) -> None:
    """EIP := target where ECX is 0."""
    b.jump_if(_counter(b).load().eq(0), target.load())


@insn("jcxz", source="Intel SDM vol. 2A, Jcc")
@form("o* a16 E3 cb", "rel8")
def jcxz(b: Tracer, target: ImmediatePlace) -> None:
    """EIP := target where CX is 0."""
    b.jump_if(_counter(b).load().eq(0), target.load())


def _count_down(b: Tracer) -> Value:
    """Count ECX (CX with 16-bit addresses) down; 1 where it is not 0 yet."""
    counter = _counter(b)
    left = counter.load() - 1
    counter.store(left)
    return left.ne(0)


@insn("loop", source="Intel SDM vol. 2A, LOOP/LOOPcc")
@form("o* E2 cb", "rel8")
def loop(b: Tracer, target: ImmediatePlace) -> None:
    """Count down; EIP := target where the count is not 0."""
    b.jump_if(_count_down(b), target.load())


@insn("loope", source="Intel SDM vol. 2A, LOOP/LOOPcc", reads=ZF, aliases=("loopz",))
@form("o* E1 cb", "rel8")
def loope(b: Tracer, target: ImmediatePlace) -> None:
    """Count down; EIP := target where the count is not 0 and ZF is set."""
    b.jump_if(_count_down(b) & b.flag(ZF), target.load())


@insn("loopne", source="Intel SDM vol. 2A, LOOP/LOOPcc", reads=ZF, aliases=("loopnz",))
@form("o* E0 cb", "rel8")
def loopne(b: Tracer, target: ImmediatePlace) -> None:
    """Count down; EIP := target where the count is not 0 and ZF is clear."""
    b.jump_if(_count_down(b) & ~b.flag(ZF), target.load())


def _return_address(b: Tracer) -> Value:
    return b.const(b.next_eip).trunc(b.insn.operand_size)


@insn("call", source="Intel SDM vol. 2A, CALL")
@form("o16 E8 cw", "rel16")
@form("o32 E8 cd", "rel32")
def call(b: Tracer, target: ImmediatePlace) -> None:
    """Push the next EIP; EIP := target."""
    b.push(_return_address(b))
    b.jump_near(target.load())


@insn("call", source="Intel SDM vol. 2A, CALL")
@form("FF /2", "r/m16")
@form("FF /2", "r/m32")
def call_rm(b: Tracer, target: Source) -> None:
    """Push the next EIP; EIP := target, an address."""
    address = target.load().zext(32)
    b.push(_return_address(b))
    b.jump_near(address)


@insn("ret", source="Intel SDM vol. 2B, RET")
@form("o* C3")
def ret(b: Tracer) -> None:
    """Pop EIP."""
    b.jump_near(b.pop(b.insn.operand_size).zext(32))


@insn("ret", source="Intel SDM vol. 2B, RET")
@form("o* C2 iw", "imm16")
def ret_imm(b: Tracer, count: ImmediatePlace) -> None:
    """Pop EIP, then drop `count` bytes."""
    target = b.pop(b.insn.operand_size).zext(32)
    b.set("esp", b.get("esp") + count.load().zext(32))
    b.jump_near(target)


# -- far transfers -----------------------------------------------------------------------------------------------------


def _enter_code_segment(b: Tracer, target: Value) -> None:
    b.set("cs", USER_CS)
    b.jump_near(target)


def _call_far(b: Tracer, selector: Value, target: Value) -> None:
    """Push CS (16 bits, in a slot of the operand size) and the next EIP, then go."""
    check_code_selector(b, selector, returning=False)
    width = b.insn.operand_size
    size = width // 8
    old_cs, old_eip = b.stack(-size, width), b.stack(-2 * size, width)
    old_cs.prepare_store()
    old_eip.prepare_store()
    old_cs.store(b.get("cs").zext(width))
    old_eip.store(_return_address(b))
    b.set("esp", b.get("esp") - 2 * size)
    _enter_code_segment(b, target)


def _split(pointer: Source) -> tuple[Value, Value]:
    """Selector and offset (i32) of a far pointer in the code or in memory."""
    if isinstance(pointer, MemoryPlace):
        width = pointer.width - 16
        offset = pointer.load(width)
        return pointer.load(16, at=width // 8), offset.zext(32)
    value = pointer.load()
    return (value >> 32).trunc(16), value.trunc(32)


@insn("jmp", source="Intel SDM vol. 2A, JMP")
@form("EA cd", "ptr16:16")
@form("EA cp", "ptr16:32")
@form("FF /5", "m16:16")
@form("FF /5", "m16:32")
def jmp_far(b: Tracer, pointer: Source) -> None:
    """CS:EIP := pointer."""
    selector, target = _split(pointer)
    check_code_selector(b, selector, returning=False)
    _enter_code_segment(b, target)


@insn("call", source="Intel SDM vol. 2A, CALL")
@form("9A cd", "ptr16:16")
@form("9A cp", "ptr16:32")
@form("FF /3", "m16:16")
@form("FF /3", "m16:32")
def call_far(b: Tracer, pointer: Source) -> None:
    """Push CS and the next EIP; CS:EIP := pointer."""
    _call_far(b, *_split(pointer))


def _return_far(b: Tracer, drop: Value | int) -> None:
    width = b.insn.operand_size
    size = width // 8
    selector = b.stack(size, 16).load()
    target = b.stack(0, width).load().zext(32)
    check_code_selector(b, selector, returning=True)
    b.set("esp", b.get("esp") + 2 * size + drop)
    _enter_code_segment(b, target)


@insn("retf", source="Intel SDM vol. 2B, RET")
@form("o* CB")
def retf(b: Tracer) -> None:
    """Pop EIP and CS."""
    _return_far(b, 0)


@insn("retf", source="Intel SDM vol. 2B, RET")
@form("o* CA iw", "imm16")
def retf_imm(b: Tracer, count: ImmediatePlace) -> None:
    """Pop EIP and CS, then drop `count` bytes."""
    _return_far(b, count.load().zext(32))


def _iret(b: Tracer, width: int) -> None:
    """Pop EIP, CS and EFLAGS; #GP(0) where NT asks for a task switch. IF and IOPL stay, as at privilege level 3."""
    size = width // 8
    b.fault(GP, (b.get("system_flags") & NT).ne(0))
    flags, selector, target = (b.stack(size * n, width).load().zext(32) for n in (2, 1, 0))
    check_code_selector(b, selector.trunc(16), returning=True)
    b.set("esp", b.get("esp") + 3 * size)
    b.set_eflags(flags, USER_WRITABLE_FLAGS & ((1 << width) - 1))
    _enter_code_segment(b, target)


@insn("iret", source="Intel SDM vol. 2A, IRET/IRETD", writes=OSZAPC | DF)
@form("o16 CF")
def iret(b: Tracer) -> None:
    """Pop IP, CS and FLAGS."""
    _iret(b, 16)


@insn("iretd", source="Intel SDM vol. 2A, IRET/IRETD", writes=OSZAPC | DF)
@form("o32 CF")
def iretd(b: Tracer) -> None:
    """Pop EIP, CS and EFLAGS."""
    _iret(b, 32)

"""The stack: PUSH POP PUSHA POPA PUSHF POPF ENTER LEAVE. The stack's address size is always 32 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.isa.insn import Memory
from aiopyvm.isa.places import Destination, ImmediatePlace, MemoryPlace, RegisterPlace, SegmentPlace, Source
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import DF, GPR16, GPR32, OSZAPC, USER_WRITABLE_FLAGS

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer

ESP = 4


@insn("push", source="Intel SDM vol. 2B, PUSH")
@form("50+rw", "r16")
@form("50+rd", "r32")
@form("FF /6", "r/m16")
@form("FF /6", "r/m32")
@form("o16 6A ib", "imm8")
@form("o32 6A ib", "imm8")
@form("o16 68 iw", "imm16")
@form("o32 68 id", "imm32")
def push(b: Tracer, src: Source) -> None:
    """Push src, sign-extended to the operand size."""
    b.push(src.load().sext(b.insn.operand_size))


@insn("push", source="Intel SDM vol. 2B, PUSH")
@form("o* 0E", "cs")
@form("o* 16", "ss")
@form("o* 1E", "ds")
@form("o* 06", "es")
@form("o* 0F A0", "fs")
@form("o* 0F A8", "gs")
def push_segment(b: Tracer, src: SegmentPlace) -> None:
    """Push a selector: 16 bits are written, also where ESP moves by 4."""
    size = b.insn.operand_size // 8
    b.stack(-size, 16).store(src.load())
    b.set("esp", b.get("esp") - size)


@insn("pop", source="Intel SDM vol. 2B, POP")
@form("58+rw", "r16")
@form("58+rd", "r32")
def pop(b: Tracer, dst: RegisterPlace) -> None:
    """Pop into dst; into ESP, the popped value stays."""
    dst.store(b.pop(dst.width))


@insn("pop", source="Intel SDM vol. 2B, POP")
@form("8F /0", "r/m16", static=(0,))
@form("8F /0", "r/m32", static=(0,))
def pop_rm(b: Tracer, dst: Destination) -> None:
    """Pop into dst; an address that is based on ESP sees it after the pop."""
    size = dst.width // 8
    value = b.stack(0, dst.width).load()
    operand = b.insn.operands[0]
    if isinstance(dst, MemoryPlace):
        place = dst.displaced(size) if isinstance(operand, Memory) and operand.base == ESP else dst
        place.store(value)
        b.set("esp", b.get("esp") + size)
    else:
        b.set("esp", b.get("esp") + size)
        dst.store(value)


@insn("pop", source="Intel SDM vol. 2B, POP")
@form("o* 1F", "ds")
@form("o* 07", "es")
@form("o* 17", "ss")
@form("o* 0F A1", "fs")
@form("o* 0F A9", "gs")
def pop_segment(b: Tracer, dst: SegmentPlace) -> None:
    """Pop into a segment register: 16 bits are read, also where ESP moves by 4."""
    dst.store(b.stack(0, 16).load())
    b.set("esp", b.get("esp") + b.insn.operand_size // 8)


def _push_all(b: Tracer, names: tuple[str, ...], width: int) -> None:
    places = [b.stack(-width // 8 * (n + 1), width) for n in range(8)]
    for place in places:
        place.prepare_store()
    for place, name in zip(places, names, strict=True):
        place.store(b.reg(name).load())
    b.set("esp", b.get("esp") - width)


@insn("pusha", source="Intel SDM vol. 2B, PUSHA/PUSHAD")
@form("o16 60")
def pusha(b: Tracer) -> None:
    """Push AX CX DX BX SP BP SI DI; SP as it was before."""
    _push_all(b, GPR16, 16)


@insn("pushad", source="Intel SDM vol. 2B, PUSHA/PUSHAD")
@form("o32 60")
def pushad(b: Tracer) -> None:
    """Push EAX ECX EDX EBX ESP EBP ESI EDI; ESP as it was before."""
    _push_all(b, GPR32, 32)


def _pop_all(b: Tracer, names: tuple[str, ...], width: int) -> None:
    values = {name: b.stack(width // 8 * n, width).load() for n, name in enumerate(reversed(names))}
    for name, value in values.items():
        if name != names[ESP]:  # read, so that it faults, and dropped
            b.reg(name).store(value)
    b.set("esp", b.get("esp") + width)


@insn("popa", source="Intel SDM vol. 2B, POPA/POPAD")
@form("o16 61")
def popa(b: Tracer) -> None:
    """Pop DI SI BP, (skip SP,) BX DX CX AX."""
    _pop_all(b, GPR16, 16)


@insn("popad", source="Intel SDM vol. 2B, POPA/POPAD")
@form("o32 61")
def popad(b: Tracer) -> None:
    """Pop EDI ESI EBP, (skip ESP,) EBX EDX ECX EAX."""
    _pop_all(b, GPR32, 32)


@insn("pushf", source="Intel SDM vol. 2B, PUSHF/PUSHFD", reads=OSZAPC | DF)
@form("o16 9C")
def pushf(b: Tracer) -> None:
    """Push the low half of EFLAGS."""
    b.push(b.eflags().trunc(16))


@insn("pushfd", source="Intel SDM vol. 2B, PUSHF/PUSHFD", reads=OSZAPC | DF)
@form("o32 9C")
def pushfd(b: Tracer) -> None:
    """Push EFLAGS, RF and VM clear."""
    b.push(b.eflags())


@insn("popf", source="Intel SDM vol. 2B, POPF/POPFD", writes=OSZAPC | DF)
@form("o16 9D")
def popf(b: Tracer) -> None:
    """Pop the low half of EFLAGS; IF and IOPL stay, as at privilege level 3."""
    b.set_eflags(b.stack(0, 16).load().zext(32), USER_WRITABLE_FLAGS & 0xFFFF)
    b.set("esp", b.get("esp") + 2)


@insn("popfd", source="Intel SDM vol. 2B, POPF/POPFD", writes=OSZAPC | DF)
@form("o32 9D")
def popfd(b: Tracer) -> None:
    """Pop EFLAGS; IF and IOPL stay, as at privilege level 3."""
    b.set_eflags(b.stack(0, 32).load(), USER_WRITABLE_FLAGS)
    b.set("esp", b.get("esp") + 4)


@insn("enter", source="Intel SDM vol. 2A, ENTER")
@form("o* C8 iw ib", "imm16, imm8", static=(1,), zero_extend=True)
def enter(b: Tracer, frame: ImmediatePlace, nesting: ImmediatePlace) -> None:
    """Make a stack frame: push EBP, `nesting` modulo 32 frame pointers, then room for `frame` bytes."""
    width = b.insn.operand_size
    size = width // 8
    level = int(nesting) & 31
    pointer = b.reg("ebp" if width == 32 else "bp")
    outer = [b.memory("ss", b.get("ebp") - size * n, width) for n in range(1, level)]
    slots = [b.stack(-size * (n + 1), width) for n in range(level + 1)]
    bottom = b.get("esp") - size * (level + 1) - frame.load().zext(32)
    slots[0].prepare_store()
    for source, slot in zip(outer, slots[1:], strict=False):
        source.prepare_load()
        slot.prepare_store()
    if level:
        slots[level].prepare_store()
    b.memory("ss", bottom, width).prepare_store()
    new = (b.get("esp") - size).trunc(width)
    slots[0].store(pointer.load())
    for source, slot in zip(outer, slots[1:], strict=False):
        slot.store(source.load())
    if level:
        slots[level].store(new)
    pointer.store(new)
    b.set("esp", bottom)


@insn("leave", source="Intel SDM vol. 2A, LEAVE")
@form("o* C9")
def leave(b: Tracer) -> None:
    """ESP := EBP, then pop EBP."""
    width = b.insn.operand_size
    frame = b.get("ebp")
    value = b.memory("ss", frame, width).load()
    b.set("esp", frame + width // 8)
    b.reg("ebp" if width == 32 else "bp").store(value)

"""From instructions to Intel syntax.

Numbers are hexadecimal. Branches show their target's address. A prefix is written where it is: `lock`, `rep`, a
segment (before the memory operand, or in front where there is none), `addr16` and `data16` where neither the operands
nor the mnemonic show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from aiopyvm.isa.decode import DecodeFault, Decoder, NeedMore, decoder
from aiopyvm.isa.insn import FarPointer, Immediate, Insn, Memory, Operand, Register, Relative
from aiopyvm.isa.notation import Pattern
from aiopyvm.isa.state import GPR16, GPR32, SEGMENTS
from aiopyvm.isa.syntax import SIZE_NAMES, Ambiguity, is_far, pattern_of, register_name


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction at its address, or (`insn` None) one byte that begins none."""

    address: int
    code: bytes
    text: str
    insn: Insn | None


def disassemble(code: bytes | bytearray | memoryview, address: int = 0) -> str:
    """Return the text of all of `code`, one instruction per line; a byte that begins none is `db 0x..`.

    `address` (0..2**32-1) is that of the first byte. Raises TypeError, ValueError for arguments that are none.
    """
    if not isinstance(code, (bytes, bytearray, memoryview)):
        raise TypeError(f"code is bytes, not {type(code).__name__}")
    if not 0 <= address <= 0xFFFFFFFF:
        raise ValueError(f"an address has 32 bits, not {address:#x}")
    return "\n".join(line.text for line in iter_disassemble(code, address))


def iter_disassemble(
    code: bytes | bytearray | memoryview, address: int = 0, *, code16: bool = False, table: Decoder | None = None
) -> Iterator[Line]:
    """Yield one `Line` after the other over all of `code`. `code16` tells a 16-bit code segment."""
    view = bytes(code)
    decode = (table or decoder()).decode
    at = 0
    while at < len(view):
        here = (address + at) & 0xFFFFFFFF
        try:
            insn = decode(view[at : at + 15], code16)
        except (DecodeFault, NeedMore):
            yield Line(here, view[at : at + 1], f"db {view[at]:#04x}", None)
            at += 1
        else:
            yield Line(here, insn.code, format_insn(insn, here, code16=code16), insn)
            at += insn.length


def format_insn(insn: Insn, address: int = 0, *, code16: bool = False, ambiguity: Ambiguity | None = None) -> str:
    """Return the Intel syntax of `insn` at `address`."""
    pattern = pattern_of(insn.row)
    operands = [_operand(operand, n, insn, pattern, address) for n, operand in enumerate(insn.operands)]
    words = [*_prefixes(insn, pattern, ambiguity or table_ambiguity(), code16), insn.row.name]
    return f"{' '.join(words)} {', '.join(operands)}".rstrip()


@cache
def table_ambiguity() -> Ambiguity:
    """What the whole instruction table needs said."""
    return Ambiguity(decoder().patterns)


def _prefixes(insn: Insn, pattern: Pattern, ambiguity: Ambiguity, code16: bool) -> Iterator[str]:
    if insn.lock:
        yield "lock"
    if insn.rep and insn.rep != pattern.mandatory:
        yes = "repe" if insn.row.rep == "repe" else "rep"
        yield yes if insn.rep == 0xF3 else "repne"
    memory = [operand for operand in insn.operands if isinstance(operand, Memory)]
    if insn.segment >= 0 and not memory:
        yield SEGMENTS[insn.segment]
    shown = any(operand.base >= 0 or operand.index >= 0 for operand in memory)
    if insn.address_size == 16 and not code16 and not shown and ambiguity.needs_addr16(pattern):
        yield "addr16"
    if insn.operand_size == 16 and not code16 and ambiguity.needs_data16(pattern):
        yield "data16"


def _operand(operand: Operand, n: int, insn: Insn, pattern: Pattern, address: int) -> str:
    match operand:
        case Register(kind, number, width):
            return register_name(kind, number, width)
        case Immediate(value, width):
            return _signed(value, width) if _is_sign_extended(pattern, n) else f"{value:#x}"
        case Relative(displacement, _):
            mask = 0xFFFF if insn.operand_size == 16 else 0xFFFFFFFF
            return f"{(address + insn.length + displacement) & mask:#x}"
        case FarPointer(selector, offset, _):
            return f"{selector:#x}:{offset:#x}"
        case Memory():
            far = "far " if is_far(pattern.fields[n], pattern) else ""
            return far + _memory(operand, insn.segment)


def _is_sign_extended(pattern: Pattern, n: int) -> bool:
    field = pattern.fields[n]
    return field.place == "imm" and field.signed and 8 * pattern.immediates[field.index] < field.width


def _memory(operand: Memory, override: int) -> str:
    size = SIZE_NAMES[operand.width]
    segment = f"{SEGMENTS[override]}:" if override >= 0 else ""
    return f"{size} ptr {segment}[{_address(operand)}]" if size else f"{segment}[{_address(operand)}]"


def _address(operand: Memory) -> str:
    names = GPR16 if operand.address_size == 16 else GPR32
    parts = [names[operand.base]] if operand.base >= 0 else []
    if operand.index >= 0:
        scaled = operand.scale > 1 or operand.base < 0
        index = f"{operand.vsib}{operand.index}" if operand.vsib else names[operand.index]
        parts.append(index + (f"*{operand.scale}" if scaled else ""))
    if not parts:
        return f"{operand.displacement:#x}"
    text = "+".join(parts)
    if operand.displacement:
        signed = _signed(operand.displacement, operand.address_size)
        text += signed if signed.startswith("-") else f"+{signed}"
    return text


def _signed(value: int, width: int) -> str:
    return f"-{(1 << width) - value:#x}" if value >> (width - 1) else f"{value:#x}"


__all__ = ["Line", "disassemble", "format_insn", "iter_disassemble"]

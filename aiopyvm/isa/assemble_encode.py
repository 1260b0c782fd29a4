"""From operands as written to machine code: every encoding that a row of the instruction table gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiopyvm.isa.assemble_lexer import SyntaxProblem
from aiopyvm.isa.assemble_operands import MemoryText, OperandText, PointerText, RegisterText, ValueText
from aiopyvm.isa.notation import NFX, NP, Field, Pattern
from aiopyvm.isa.state import SEGMENTS
from aiopyvm.isa.syntax import Ambiguity, is_far

_SEGMENT_BYTES: Final = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_RM16: Final = {(3, 6): 0, (3, 7): 1, (5, 6): 2, (5, 7): 3, (6, -1): 4, (7, -1): 5, (5, -1): 6, (3, -1): 7}


class RangeProblem(SyntaxProblem):
    """The row takes such operands, but not this value."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The prefixes written before the mnemonic: `rep` is 0, 0xF2 or 0xF3, `segment` a number or -1."""

    lock: bool = False
    rep: int = 0
    segment: int = -1
    addr16: bool = False
    data16: bool = False


def encode(
    pattern: Pattern, operands: tuple[OperandText, ...], prefixes: Prefixes, address: int, ambiguity: Ambiguity
) -> Iterator[bytes]:
    """Yield the encodings by one row, shortest first; none where the operands do not fit it.

    `address` is the instruction's. Raises RangeProblem where only a value is too large.
    """
    if len(operands) != len(pattern.fields):
        return
    if not all(_fits(operand, field, pattern) for operand, field in zip(operands, pattern.fields, strict=True)):
        return
    operand_size = _operand_size(pattern, prefixes, ambiguity)
    address_size = _address_size(pattern, operands, prefixes, ambiguity)
    if not operand_size or not address_size:
        return
    head = _head(pattern, prefixes, operands, operand_size, address_size)
    if head is None:
        return
    for body in _bodies(pattern, operands, address_size):
        length = len(head) + len(body) + sum(pattern.immediates)
        yield head + body + _immediates(pattern, operands, address + length, operand_size)


def _fits(operand: OperandText, field: Field, pattern: Pattern) -> bool:
    match operand:
        case RegisterText(kind, number, width):
            if field.place == "fixed":
                return (kind, number, width) == (field.kind, field.value, field.width)
            return (kind, width) == (field.kind, field.width) and number in field.numbers and not field.vsib
        case MemoryText():
            return _fits_memory(operand, field, pattern)
        case ValueText(value, reach, _):
            if field.place == "fixed":
                return field.kind == "imm" and value == field.value
            return field.place == "imm" or (field.place == "rel" and (reach != "short" or field.width == 8))
        case PointerText():
            return field.place == "ptr"


def _fits_memory(operand: MemoryText, field: Field, pattern: Pattern) -> bool:
    if field.place == "moffs":
        if operand.base >= 0 or operand.index >= 0:
            return False
    elif field.place != "rm" or field.memory_width < 0 or field.vsib != operand.vsib:
        return False
    if is_far(field, pattern):
        if not operand.far and operand.width != 48:
            return False
    elif operand.far:
        return False
    return operand.width < 0 or not field.memory_width or operand.width == field.memory_width


def _operand_size(pattern: Pattern, prefixes: Prefixes, ambiguity: Ambiguity) -> int:
    if prefixes.data16:
        return 0 if pattern.operand_size == 32 or pattern.vex is not None else 16
    if pattern.vex is not None:
        return 32
    if pattern.operand_size == 16 and ambiguity.needs_data16(pattern):
        return 0
    return 16 if pattern.mandatory == 0x66 else pattern.operand_size or 32


def _address_size(pattern: Pattern, operands: tuple[OperandText, ...], prefixes: Prefixes, ambiguity: Ambiguity) -> int:
    shown = {operand.address_size for operand in operands if isinstance(operand, MemoryText)} - {0}
    size = 16 if prefixes.addr16 else min(shown, default=0)
    if shown - {size}:
        return 0
    if pattern.address_size == 16 and not size and ambiguity.needs_addr16(pattern):
        return 0
    if pattern.address_size and size and size != pattern.address_size:
        return 0
    return size or pattern.address_size or 32


def _head(
    pattern: Pattern, prefixes: Prefixes, operands: tuple[OperandText, ...], operand_size: int, address_size: int
) -> bytes | None:
    """The prefixes and the opcode's escape bytes; None where the row cannot have such prefixes."""
    rep = prefixes.rep
    if pattern.vex is not None:
        if rep or prefixes.lock:
            return None
    elif pattern.mandatory in (0xF2, 0xF3):
        if rep not in (0, pattern.mandatory):
            return None
        rep = pattern.mandatory
    elif rep and pattern.mandatory in (NP, NFX, 0x66):
        return None
    if pattern.mandatory == NP and operand_size == 16:
        return None
    out = bytearray()
    if prefixes.lock:
        out.append(0xF0)
    segment = _segment(prefixes, operands)
    if segment >= 0:
        out.append(_SEGMENT_BYTES[segment])
    if address_size == 16:
        out.append(0x67)
    if operand_size == 16:
        out.append(0x66)
    if rep:
        out.append(rep)
    return bytes(out) + _escape(pattern, operands)


def _escape(pattern: Pattern, operands: tuple[OperandText, ...]) -> bytes:
    if pattern.vex is None:
        return pattern.escape
    pairs = zip(operands, pattern.fields, strict=True)
    return pattern.vex.prefix(sum(o.number for o, f in pairs if f.place == "vvvv" and isinstance(o, RegisterText)))


def _segment(prefixes: Prefixes, operands: tuple[OperandText, ...]) -> int:
    named = {SEGMENTS.index(o.segment) for o in operands if isinstance(o, MemoryText) and o.segment}
    if prefixes.segment >= 0:
        named.add(prefixes.segment)
    if len(named) > 1:
        raise SyntaxProblem("two segments")
    return named.pop() if named else -1


# -- opcode, ModRM, SIB, displacement ----------------------------------------------------------------------------------


def _bodies(pattern: Pattern, operands: tuple[OperandText, ...], address_size: int) -> Iterator[bytes]:
    """Yield the opcode byte, ModRM, SIB and displacement, in every length that they can have."""
    opcode = pattern.opcode & 0xFF
    reg, rm = 0, None
    for operand, field in zip(operands, pattern.fields, strict=True):
        match field.place:
            case "opcode" if isinstance(operand, RegisterText):
                opcode += operand.number
            case "reg" if isinstance(operand, RegisterText):
                reg = operand.number
            case "rm":
                rm = operand
            case "moffs" if isinstance(operand, MemoryText):
                yield bytes([opcode]) + _displacement(operand, address_size // 8, address_size)
                return
    if not pattern.modrm:
        yield bytes([opcode])
        return
    fixed = min(pattern.modrm)
    if not any(field.place == "reg" for field in pattern.fields):
        reg = fixed >> 3 & 7
    if isinstance(rm, MemoryText):
        tails = _memory16(rm, reg) if address_size == 16 else _memory32(rm, reg)
    else:
        tails = iter([bytes([0xC0 | reg << 3 | rm.number if isinstance(rm, RegisterText) else fixed])])
    for tail in tails:
        if tail[0] in pattern.modrm:
            yield bytes([opcode]) + tail


def _displacement(operand: MemoryText, size: int, address_size: int) -> bytes:
    value = operand.displacement
    if not -(1 << (address_size - 1)) <= value < 1 << address_size:
        raise RangeProblem(f"displacement {value:#x} does not fit {address_size} bits")
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _short(value: int, address_size: int) -> bool:
    """Whether a sign-extended byte is enough."""
    return (value + 0x80) & ((1 << address_size) - 1) < 0x100


def _memory16(operand: MemoryText, reg: int) -> Iterator[bytes]:
    reg <<= 3
    if operand.base < 0:
        yield bytes([reg | 6]) + _displacement(operand, 2, 16)
        return
    rm = _RM16[operand.base, operand.index]
    if operand.displacement == 0 and rm != 6:
        yield bytes([reg | rm])
    if _short(operand.displacement, 16):
        yield bytes([0x40 | reg | rm]) + _displacement(operand, 1, 16)
    yield bytes([0x80 | reg | rm]) + _displacement(operand, 2, 16)


def _memory32(operand: MemoryText, reg: int) -> Iterator[bytes]:
    reg <<= 3
    base, index = operand.base, operand.index
    if base < 0:
        head = bytes([reg | 4, _sib(5, index, operand.scale)]) if index >= 0 else bytes([reg | 5])
        yield head + _displacement(operand, 4, 32)
        return
    needs_sib = index >= 0 or base == 4
    sib = bytes([_sib(base, index, operand.scale)]) if needs_sib else b""
    rm = reg | (4 if needs_sib else base)
    if operand.displacement == 0 and base != 5:
        yield bytes([rm]) + sib
    if _short(operand.displacement, 32):
        yield bytes([0x40 | rm]) + sib + _displacement(operand, 1, 32)
    yield bytes([0x80 | rm]) + sib + _displacement(operand, 4, 32)


def _sib(base: int, index: int, scale: int) -> int:
    return (scale.bit_length() - 1) << 6 | (4 if index < 0 else index) << 3 | base


# -- what follows ------------------------------------------------------------------------------------------------------


def _immediates(pattern: Pattern, operands: tuple[OperandText, ...], end: int, operand_size: int) -> bytes:
    out = bytearray()
    for operand, field in zip(operands, pattern.fields, strict=True):
        if field.place not in ("imm", "rel", "ptr", "is4"):
            continue
        size = pattern.immediates[field.index]
        match operand:
            case RegisterText(_, number):
                out.append(number << 4)
            case PointerText(selector, offset):
                out += _number(offset, size - 2, "offset") + _number(selector, 2, "selector")
            case ValueText(value) if field.place == "rel":
                out += _relative(value, end, size, operand_size)
            case ValueText(value):
                out += _immediate(value, size, field)
    return bytes(out)


def _number(value: int, size: int, what: str) -> bytes:
    if not -(1 << (8 * size - 1)) <= value < 1 << 8 * size:
        raise RangeProblem(f"{what} {value:#x} does not fit {8 * size} bits")
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _immediate(value: int, size: int, field: Field) -> bytes:
    whole = int.from_bytes(_number(value, field.width // 8, "value"), "little")
    data = (whole & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    extended = int.from_bytes(data, "little", signed=field.signed) & ((1 << field.width) - 1)
    if extended != whole:
        raise RangeProblem(f"value {value:#x} does not fit {8 * size} bits")
    return data


def _relative(target: int, end: int, size: int, operand_size: int) -> bytes:
    if not 0 <= target < 1 << operand_size:
        raise RangeProblem(f"branch target {target:#x} does not fit {operand_size} bits")
    distance = (target - end) & ((1 << operand_size) - 1)
    if distance >> (operand_size - 1):
        distance -= 1 << operand_size
    if not -(1 << (8 * size - 1)) <= distance < 1 << (8 * size - 1):
        raise RangeProblem(f"branch target {target:#x} is out of reach")
    return (distance & ((1 << 8 * size) - 1)).to_bytes(size, "little")

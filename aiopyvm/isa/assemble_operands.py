"""The assembler's operands as they are written, before a row of the instruction table is known."""

from __future__ import annotations

from dataclasses import dataclass

from aiopyvm.isa.assemble_expression import Linear, Reader
from aiopyvm.isa.assemble_lexer import SyntaxProblem
from aiopyvm.isa.syntax import REGISTERS, SIZE_WORDS


@dataclass(frozen=True, slots=True)
class RegisterText:
    """A register."""

    kind: str
    number: int
    width: int


@dataclass(frozen=True, slots=True)
class MemoryText:
    """[base + index * scale + displacement]. Not written: `width` -1, `segment` ""; no register: `address_size` 0."""

    width: int
    segment: str
    base: int
    index: int
    scale: int
    displacement: int
    address_size: int
    far: bool
    symbolic: bool
    vsib: str = ""


@dataclass(frozen=True, slots=True)
class ValueText:
    """A number; `reach` is "short" or "near" where that was written."""

    value: int
    reach: str
    symbolic: bool


@dataclass(frozen=True, slots=True)
class PointerText:
    """selector:offset."""

    selector: int
    offset: int


_VSIB = {128: "xmm", 256: "ymm"}

OperandText = RegisterText | MemoryText | ValueText | PointerText


def read_operand(r: Reader) -> OperandText:
    """Read one operand."""
    r.used_symbol = False
    if r.peek() in REGISTERS and r.peek(1) in ("", ","):
        kind, number, width = REGISTERS[r.peek()]
        r.at += 1
        return RegisterText(kind, number, width)
    reach = ""
    far = False
    while r.peek() in ("short", "near", "far", "offset"):
        far = far or r.peek() == "far"
        reach = r.peek() if r.peek() in ("short", "near") else reach
        r.at += 1
    width = -1
    if r.peek() in SIZE_WORDS:
        width = SIZE_WORDS[r.peek()]
        r.at += 1
    r.take("ptr")
    segment = _segment(r)
    if r.take("["):
        segment = _segment(r) or segment
        address = r.expression()
        r.expect("]")
        return _memory(address, width, segment, far, r.used_symbol)
    if width >= 0 or segment:
        raise SyntaxProblem("expected '['")
    value = r.constant()
    if r.take(":"):
        return PointerText(value, r.constant())
    return ValueText(value, reach, r.used_symbol)


def _segment(r: Reader) -> str:
    if r.peek() in REGISTERS and REGISTERS[r.peek()][0] == "sreg" and r.peek(1) == ":":
        r.at += 2
        return r.tokens[r.at - 2].text
    return ""


def _memory(address: Linear, width: int, segment: str, far: bool, symbolic: bool) -> MemoryText:
    vector = next((term for term in address.terms if term[1] in _VSIB), None)
    if vector is not None:
        return _vector_memory(address, vector, width, segment, symbolic)
    widths = {term[1] for term in address.terms}
    if len(widths) > 1 or len(address.terms) > 2:
        raise SyntaxProblem("these registers make no address")
    address_size = widths.pop() if widths else 0
    base, index, scale = _base_and_index(address.terms, address_size)
    return MemoryText(width, segment, base, index, scale, _displacement(address), address_size, far, symbolic)


def _vector_memory(
    address: Linear, vector: tuple[int, int, int], width: int, segment: str, symbolic: bool
) -> MemoryText:
    """Memory that a vector register indexes, from at most one base register on."""
    others = [term for term in address.terms if term is not vector]
    if len(others) > 1 or any(bits != 32 or scale for _, bits, scale in others):
        raise SyntaxProblem("these registers make no address")
    base = others[0][0] if others else -1
    number, bits, scale = vector
    displacement = _displacement(address)
    return MemoryText(width, segment, base, number, scale or 1, displacement, 32, False, symbolic, _VSIB[bits])


def _displacement(address: Linear) -> int:
    if not -(1 << 31) <= address.constant < 1 << 32:
        raise SyntaxProblem(f"displacement {address.constant:#x} is too large")
    return address.constant


def _base_and_index(terms: tuple[tuple[int, int, int], ...], address_size: int) -> tuple[int, int, int]:
    plain = [number for number, _, scale in terms if not scale]
    scaled = [(number, scale) for number, _, scale in terms if scale]
    if address_size == 16:
        return _base_and_index16(plain, scaled)
    if len(plain) == 2:
        base, index = plain if plain[1] != 4 else (plain[1], plain[0])
        scaled = [(index, 1)]
    elif len(plain) == 1:
        base = plain[0]
    else:
        base = -1
    if len(scaled) > 1 or (scaled and scaled[0][0] == 4):
        raise SyntaxProblem("these registers make no address")
    return (base, *scaled[0]) if scaled else (base, -1, 1)


def _base_and_index16(plain: list[int], scaled: list[tuple[int, int]]) -> tuple[int, int, int]:
    bases = [number for number in plain if number in (3, 5)]
    indexes = [number for number in plain if number in (6, 7)]
    if scaled or len(bases) + len(indexes) != len(plain) or len(bases) > 1 or len(indexes) > 1:
        raise SyntaxProblem("these registers make no address")
    if not bases:
        return indexes[0], -1, 1
    return bases[0], indexes[0] if indexes else -1, 1

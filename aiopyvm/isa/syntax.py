"""Intel syntax as the disassembler writes and the assembler reads it: names, sizes, which prefixes the text must show.

What always holds: text that `format_insn` writes is read back as an instruction with the same mnemonic, operands and
prefixes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from aiopyvm.isa.notation import Field, Pattern, compile_row
from aiopyvm.isa.state import GPR8, GPR16, GPR32, SEGMENTS

if TYPE_CHECKING:
    from aiopyvm.isa.spec import Row

SIZE_WORDS: Final = {
    "byte": 8,
    "word": 16,
    "dword": 32,
    "fword": 48,
    "qword": 64,
    "tbyte": 80,
    "xmmword": 128,
    "ymmword": 256,
}
SIZE_NAMES: Final = {width: word for word, width in SIZE_WORDS.items()}
SIZE_NAMES[0] = ""

REP_NAMES: Final = {"rep": 0xF3, "repe": 0xF3, "repz": 0xF3, "repne": 0xF2, "repnz": 0xF2}
GENERAL: Final = {8: GPR8, 16: GPR16, 32: GPR32}


def register_name(kind: str, number: int, width: int) -> str:
    """The name of a register operand."""
    match kind:
        case "gpr":
            return GENERAL[width][number]
        case "sreg":
            return SEGMENTS[number]
        case "st":
            return f"st({number})"
        case _:
            return f"{kind}{number}"


REGISTERS: Final = {
    **{name: ("gpr", number, width) for width, names in GENERAL.items() for number, name in enumerate(names)},
    **{name: ("sreg", number, 16) for number, name in enumerate(SEGMENTS)},
    "st": ("st", 0, 80),
    **{f"st{n}": ("st", n, 80) for n in range(8)},
    **{f"st({n})": ("st", n, 80) for n in range(8)},
    **{f"{kind}{n}": (kind, n, 32) for kind in ("cr", "dr") for n in range(8)},
    **{f"{kind}{n}": (kind, n, bits) for kind, bits in (("mm", 64), ("xmm", 128), ("ymm", 256)) for n in range(8)},
}


@cache
def pattern_of(row: Row) -> Pattern:
    """The row's pattern."""
    return compile_row(row)


def is_far(field: Field, pattern: Pattern) -> bool:
    """Tell whether the operand is a far pointer that only the word `far` tells from a near one (JMP and CALL)."""
    return len(pattern.fields) == 1 and field.name in ("m16:16", "m16:32")


def _shapes(field: Field, pattern: Pattern) -> set[str]:
    """What an operand can look like in text, widths included only where text shows them."""
    match field.place:
        case "imm":
            return {"value"}
        case "fixed" if field.kind == "imm":
            return {"value"}
        case "rel" | "ptr":
            return {field.place}
    shapes = set()
    if field.kind:
        shapes.add(f"{field.kind}{field.width}" + (f".{field.value}" if field.place == "fixed" else ""))
        if field.place == "fixed":
            shapes.add(f"{field.kind}{field.width}")
    if field.memory_width >= 0 and field.place != "fixed":
        shapes.add("far" * is_far(field, pattern) + f"m{field.memory_width}")
    return shapes


def same_text(a: Pattern, b: Pattern) -> bool:
    """Tell whether the two rows have instructions that look alike, but for `data16` and `addr16`."""
    if a.row.name != b.row.name or len(a.fields) != len(b.fields):
        return False
    return all(_shapes(x, a) & _shapes(y, b) for x, y in zip(a.fields, b.fields, strict=True))


class Ambiguity:
    """Which rows of a table need their operand or address size said in text, because another row looks alike."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self._by_name: dict[str, list[Pattern]] = {}
        for pattern in patterns:
            self._by_name.setdefault(pattern.row.name, []).append(pattern)
        self._data16: dict[Row, bool] = {}
        self._addr16: dict[Row, bool] = {}

    def needs_data16(self, pattern: Pattern) -> bool:
        """Tell whether text must say `data16` where the operand size is 16."""
        if pattern.row not in self._data16:
            rivals = self._by_name.get(pattern.row.name, [])
            self._data16[pattern.row] = pattern.mandatory != 0x66 and (
                pattern.operand_size == 0 or any(p.operand_size != 16 and same_text(pattern, p) for p in rivals)
            )
        return self._data16[pattern.row]

    def needs_addr16(self, pattern: Pattern) -> bool:
        """Tell whether text must say `addr16` where the address size is 16 and no operand shows it."""
        if pattern.row not in self._addr16:
            rivals = self._by_name.get(pattern.row.name, [])
            self._addr16[pattern.row] = pattern.address_size == 0 or any(
                p.address_size != 16 and same_text(pattern, p) for p in rivals
            )
        return self._addr16[pattern.row]

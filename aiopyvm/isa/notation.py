"""The manual's notation of a row, compiled: from `"o32 81 /2 id"` and `("r/m32", "imm32")` to a `Pattern`.

`aiopyvm.isa.spec` describes the notation. A pattern says which bytes match (prefixes, opcode, ModRM) and where each
operand is; the decoder and the assembler read nothing else. What always holds: a pattern's `fields` are as many as
the row's operands, and `immediates` lists the bytes behind ModRM, SIB and displacement in their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Final

from aiopyvm.errors import InternalError
from aiopyvm.isa.state import GPR8, GPR16, GPR32, SEGMENTS
from aiopyvm.isa.vex import Vex
from aiopyvm.isa.vex import parse as parse_vex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiopyvm.isa.spec import Row

NP: Final = 0  # `Pattern.mandatory`: none of 66, F2, F3 may stand before the opcode
ANY: Final = -1  # `Pattern.mandatory`: the row does not care
NFX: Final = -2  # `Pattern.mandatory`: neither F2 nor F3 may stand before the opcode

IMMEDIATE_SIZES: Final = {"ib": 1, "iw": 2, "id": 4, "cb": 1, "cw": 2, "cd": 4, "cp": 6, "/is4": 1}

# Memory operands and the width of their access in bits; 0: none, or only the instruction knows it.
MEMORY: Final = {
    "m": 0, "m8": 8, "m16": 16, "m32": 32, "m64": 64, "m80": 80, "m128": 128,
    "m32fp": 32, "m64fp": 64, "m80fp": 80, "m16int": 16, "m32int": 32, "m64int": 64, "m80dec": 80, "m80bcd": 80,
    "m256": 256, "m16:16": 32, "m16:32": 48, "m16&16": 32, "m32&32": 64, "m16&32": 48,
    "m2byte": 16, "m14/28byte": 0, "m94/108byte": 0, "m512byte": 0, "mem": 0,
}  # fmt: skip
# Registers that are part of the mnemonic's row: kind, number, width.
FIXED: Final[dict[str, tuple[str, int, int]]] = {
    **{name: ("gpr", number, 8) for number, name in enumerate(GPR8)},
    **{name: ("gpr", number, 16) for number, name in enumerate(GPR16)},
    **{name: ("gpr", number, 32) for number, name in enumerate(GPR32)},
    **{name: ("sreg", number, 16) for number, name in enumerate(SEGMENTS)},
    "ST": ("st", 0, 80),
    "ST(0)": ("st", 0, 80),
    "<XMM0>": ("xmm", 0, 128),
}
# Registers that ModRM.reg, ModRM.r/m or the opcode's low bits name: kind, width, numbers that exist.
REGISTERS: Final[dict[str, tuple[str, int, frozenset[int]]]] = {
    "r8": ("gpr", 8, frozenset(range(8))),
    "r16": ("gpr", 16, frozenset(range(8))),
    **{name: ("gpr", 32, frozenset(range(8))) for name in ("r32", "r32a", "r32b", "reg")},
    "Sreg": ("sreg", 16, frozenset(range(6))),
    "ST(i)": ("st", 80, frozenset(range(8))),
    **{name: ("mm", 64, frozenset(range(8))) for name in ("mm", "mm1", "mm2")},
    **{f"xmm{n}": ("xmm", 128, frozenset(range(8))) for n in ("", 1, 2, 3, 4)},
    **{f"ymm{n}": ("ymm", 256, frozenset(range(8))) for n in ("", 1, 2, 3, 4)},
    "CR0-CR7": ("cr", 32, frozenset({0, 2, 3, 4})),
    "DR0-DR7": ("dr", 32, frozenset(range(8))),
}
_IMMEDIATES: Final = {"imm8": 8, "imm16": 16, "imm32": 32}
_RELATIVES: Final = {"rel8": 8, "rel16": 16, "rel32": 32}
_POINTERS: Final = {"ptr16:16": 16, "ptr16:32": 32}
_OFFSETS: Final = {"moffs8": 8, "moffs16": 16, "moffs32": 32}
_CODE_SIZES: Final = {  # bytes of code
    **{name: width // 8 for name, width in (_IMMEDIATES | _RELATIVES).items()},
    **{name: width // 8 + 2 for name, width in _POINTERS.items()},
}
_REGISTER_OR_MEMORY: Final = re.compile(r"r(?:eg|(\d*))/m(\d+)")
_VECTOR_OR_MEMORY: Final = re.compile(r"(mm|xmm|ymm)\d?/m(\d+)")
_VSIB: Final = re.compile(r"vm(?:32|64)(x|y)")  # elements of memory, whose indexes are in a vector register
VECTOR_KINDS: Final = frozenset({"mm", "xmm", "ymm"})  # of registers that instructions are shaped alike for
_WITHOUT: Final = {"NP": NP, "NFx": NFX}
_ESCAPES: Final = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
_OPCODE_BYTE: Final = re.compile(r"([0-9A-F]{2})(?:\+(rb|rw|rd|i))?")

_ALL: Final = frozenset(range(8))

# What tells the operand size (see spec.py). DX is a port number wherever a row names it.
_SIZE_32: Final = {"r32", "r/m32", "m32", "imm32", "rel32", "ptr16:32", "m16:32", "m32&32", "moffs32", *GPR32}
_SIZE_16: Final = {"r16", "r/m16", "m16", "rel16", "ptr16:16", "m16:16", "m16&16", "moffs16", *GPR16} - {"dx"}


@dataclass(frozen=True, slots=True)
class Field:
    """Where one operand is.

    `place` is "reg" or "rm" (ModRM), "vvvv" (VEX), "opcode" (its low three bits), "fixed" (`value`: a register's number
    or a constant), "imm", "rel", "ptr" (`index` into the pattern's immediates), "is4" (a register, in the high bits of
    such a byte), "moffs". `kind` ("" for memory alone) and `width` describe the register form, `memory_width` (-1 for
    registers alone) the memory form; `numbers` are the register numbers that exist. Immediates are extended to `width`
    bits, by their sign where `signed`. `vsib`: the kind of the index register, where it is a vector.
    """

    name: str
    place: str
    kind: str = ""
    width: int = 0
    memory_width: int = 0
    numbers: frozenset[int] = frozenset(range(8))
    value: int = 0
    vsib: str = ""
    index: int = 0
    signed: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Pattern:
    """A row, compiled.

    `opcode` is (page << 8 | byte): page 0 one byte, 1 after 0F, 2 after 0F 38, 3 after 0F 3A; behind VEX, the first of
    those that match (see `isa/vex.py`).

    `mandatory` is ANY, NP, NFX or 0x66, 0xF2, 0xF3; `operand_size` and `address_size` are 16, 32 or 0 (either).
    `in_opcode`: the opcode's low three bits are a register. `modrm` are the values of ModRM that match, none where
    there is no ModRM byte. Of several patterns that match, the one of the highest `rank` is meant.
    """

    row: Row
    opcode: int
    mandatory: int
    operand_size: int
    address_size: int
    in_opcode: bool
    modrm: frozenset[int]
    rank: tuple[int, int]
    immediates: tuple[int, ...]
    fields: tuple[Field, ...]
    vex: Vex | None = None

    @property
    def opcodes(self) -> Sequence[int]:
        """The opcodes that match."""
        if self.vex is not None:
            return tuple(page << 8 | self.opcode & 0xFF for page in self.vex.pages)
        return range(self.opcode, self.opcode + 8) if self.in_opcode else range(self.opcode, self.opcode + 1)

    @property
    def prefix(self) -> bytes:
        """The mandatory prefix, where it is a byte of its own."""
        return bytes((self.mandatory,)) if self.mandatory > 0 and self.vex is None else b""

    @property
    def escape(self) -> bytes:
        """What stands between the prefixes and the opcode's byte: the map's escape bytes, or VEX."""
        return _ESCAPES[self.opcode >> 8] if self.vex is None else self.vex.prefix()

    @property
    def has_vvvv(self) -> bool:
        """Whether VEX.vvvv is an operand."""
        return any(field.place == "vvvv" for field in self.fields)

    @property
    def ignores_mod(self) -> bool:
        """Whether ModRM.r/m is a register whatever ModRM.mod says (MOV to and from control and debug registers)."""
        return any(field.kind in ("cr", "dr") for field in self.fields)

    def accepts(self, has_66: bool, rep: int, operand_size: int, address_size: int) -> bool:
        """Tell whether the row can stand behind these prefixes: `rep` is 0, 0xF2 or 0xF3."""
        if self.operand_size and self.operand_size != operand_size:
            return False
        if self.address_size and self.address_size != address_size:
            return False
        match self.mandatory:
            case -1:
                return True
            case -2:
                return not rep
            case 0:
                return not has_66 and not rep
            case 0x66:
                return has_66 and not rep
            case prefix:
                return rep == prefix


def compile_row(row: Row) -> Pattern:
    """Compile a row. Raises InternalError, with the row in its message, where its notation is wrong."""
    try:
        return _compile(row)
    except ValueError as error:
        raise InternalError(f"row {str(row)!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Encoding:
    """The encoding's tokens, sorted out. `second` is a fixed second byte or -1; `modrm` is "", "r" or a digit."""

    operand_size: int  # -1: not said
    address_size: int
    mandatory: int
    opcode: int
    plus: str
    second: int
    second_plus: bool
    modrm: str
    immediates: tuple[int, ...]
    vex: Vex | None


@lru_cache(1024)
def _parse_encoding(encoding: str, operands: tuple[str, ...]) -> _Encoding:
    tokens = re.sub(r"\s*\+\s*", "+", encoding).split()
    sizes = {"o": -1, "a": 0}
    while tokens and tokens[0] in ("o16", "o32", "o*", "a16", "a32"):
        token = tokens.pop(0)
        sizes[token[0]] = 0 if token[1:] == "*" else int(token[1:])
    mandatory = ANY
    if len(tokens) > 1 and tokens[0] in (*_WITHOUT, "66", "F2", "F3"):
        token = tokens.pop(0)
        mandatory = _WITHOUT[token] if token in _WITHOUT else int(token, 16)
    vex = parse_vex(tokens[0], operands) if tokens else None
    if vex is not None:
        tokens.pop(0)
        sizes["o"], mandatory = 0, vex.mandatory or NP
    opcode, plus = _parse_opcode(tokens, escaped=vex is None)
    if vex is not None:
        opcode |= vex.pages[0] << 8
    second, second_plus = -1, False
    if tokens and (match := _OPCODE_BYTE.fullmatch(tokens[0])):
        second, second_plus = int(match[1], 16), match[2] == "i"
        tokens.pop(0)
    modrm = tokens.pop(0)[1:] if tokens and re.fullmatch("/[r0-7]", tokens[0]) else ""
    if unknown := [token for token in tokens if token not in IMMEDIATE_SIZES]:
        raise ValueError(f"no such token: {unknown[0]}")
    immediates = tuple(IMMEDIATE_SIZES[token] for token in tokens)
    return _Encoding(sizes["o"], sizes["a"], mandatory, opcode, plus, second, second_plus, modrm, immediates, vex)


def _parse_opcode(tokens: list[str], *, escaped: bool) -> tuple[int, str]:
    """The opcode and what is added to it; `escaped`: escape bytes may stand before it."""
    page = 0
    for escape, number in (("0F", 1), ("38", 2), ("3A", 3)):
        if escaped and tokens and tokens[0] == escape and (number == 1 or page == 1):
            tokens.pop(0)
            page = number
    if not tokens or not (match := _OPCODE_BYTE.fullmatch(tokens[0])):
        raise ValueError("no opcode byte")
    tokens.pop(0)
    return page << 8 | int(match[1], 16), match[2] or ""


def _compile(row: Row) -> Pattern:
    e = _parse_encoding(row.encoding, row.operands)
    if e.modrm and e.second >= 0:
        raise ValueError("both a fixed second byte and ModRM")
    fields = _fields(row, e)
    return Pattern(
        row=row,
        opcode=e.opcode,
        mandatory=e.mandatory,
        operand_size=e.operand_size if e.operand_size >= 0 else _implied_size(row.operands, e.mandatory),
        address_size=32 if any(field.vsib for field in fields) else e.address_size,
        in_opcode=bool(e.plus),
        modrm=_modrm_values(e, fields),
        rank=(0 if e.mandatory in (ANY, NP, NFX) else 1, 0 if e.plus or e.second_plus else 2 if e.second >= 0 else 1),
        immediates=e.immediates,
        fields=fields,
        vex=e.vex,
    )


def _implied_size(operands: Iterable[str], mandatory: int) -> int:
    if mandatory == 0x66:
        return 0
    names = {part for name in operands for part in _size_names(name)}
    return 32 if names & _SIZE_32 else 16 if names & _SIZE_16 else 0


def _size_names(operand: str) -> Iterator[str]:
    yield operand
    if match := _REGISTER_OR_MEMORY.fullmatch(operand):
        yield f"r{match[1] or match[2]}"


def _modrm_values(e: _Encoding, fields: tuple[Field, ...]) -> frozenset[int]:
    if e.second >= 0:
        return frozenset(range(e.second, e.second + 8) if e.second_plus else (e.second,))
    if not e.modrm:
        return frozenset()
    if any(field.vsib for field in fields):
        return frozenset(range(4, 0xC0, 8))
    regs = rms = _ALL
    memory = register = True
    for field in fields:
        if field.place == "reg":
            regs = field.numbers
        elif field.place == "rm":
            rms, register, memory = field.numbers, bool(field.kind), field.memory_width >= 0
    if any(field.kind in ("cr", "dr") for field in fields):
        memory = True  # ModRM.mod means nothing
    return _matching(regs if e.modrm == "r" else frozenset({int(e.modrm)}), rms, register, memory)


@lru_cache(256)
def _matching(regs: frozenset[int], rms: frozenset[int], register: bool, memory: bool) -> frozenset[int]:
    """The values of ModRM with such reg fields, and with such registers or memory in r/m."""
    mods = (0, 1, 2) * memory + (3,) * register
    return frozenset(mod << 6 | reg << 3 | rm for mod in mods for reg in regs for rm in (rms if mod == 3 else _ALL))


# -- operands ----------------------------------------------------------------------------------------------------------


def _fields(row: Row, e: _Encoding) -> tuple[Field, ...]:
    places = _modrm_places(row, e)
    fields: list[Field] = []
    index = 0
    narrow = any(map(_is_vector, row.operands))
    for name in row.operands:
        if name in _CODE_SIZES:
            width = 0 if narrow else _first_width(fields, max(e.operand_size, 0))
            field = _in_code(name, index, width, row.zero_extend)
            if e.immediates[index : index + 1] != (_CODE_SIZES[name],):
                raise ValueError(f"{name} does not fit the encoding")
            index += 1
        elif name in FIXED:
            kind, number, width = FIXED[name]
            field = Field(name, "fixed", kind, width, value=number)
        elif name.isdigit():
            field = Field(name, "fixed", "imm", _first_width(fields, 8), value=int(name))
        elif name in _OFFSETS:
            field = Field(name, "moffs", memory_width=_OFFSETS[name])
        else:
            field = _register_or_memory(name, places)
            if field.place == "is4":
                field = replace(field, index=index)
                index += 1
        fields.append(field)
    if index != len(e.immediates):
        raise ValueError("more immediates in the encoding than operands")
    return tuple(fields)


def _is_vector(name: str) -> bool:
    return name.lstrip("<").lower().startswith(tuple(VECTOR_KINDS))


def _in_code(name: str, index: int, width: int, zero_extend: bool) -> Field:
    if name in _IMMEDIATES:
        return Field(name, "imm", width=max(_IMMEDIATES[name], width), index=index, signed=not zero_extend)
    if name in _RELATIVES:
        return Field(name, "rel", width=_RELATIVES[name], index=index, signed=True)
    return Field(name, "ptr", width=_POINTERS[name], index=index)


def _first_width(before: list[Field], default: int) -> int:
    return (before[0].width or before[0].memory_width or default) if before else default


def _modrm_places(row: Row, e: _Encoding) -> dict[str, list[str]]:
    """Where each encoded register or memory operand is: by name, in order of appearance."""
    encoded = [name for name in row.operands if name in REGISTERS or name in MEMORY or _either(name)]
    is4 = "/is4" in row.encoding
    if e.plus:
        slots = ["opcode"]
    elif e.vex is not None and len(encoded) == 2 + (e.modrm == "r") + is4:
        slots = _vex_slots(encoded, e, row)
    elif e.second_plus or e.modrm.isdigit():
        slots = ["rm"]
    elif e.modrm == "r":
        memory = [name not in REGISTERS for name in encoded]
        control = [name[:2] in ("CR", "DR") for name in encoded]
        slots = ["rm", "reg"] if (memory and memory[0]) or (len(control) > 1 and control[1]) else ["reg", "rm"]
    else:
        slots = []
    if len(encoded) > len(slots):
        raise ValueError(f"no place in the encoding for {encoded[len(slots)]}")
    places: dict[str, list[str]] = {}
    for name, slot in zip(encoded, slots, strict=False):
        places.setdefault(name, []).append(slot)
    return places


def _vex_slots(encoded: list[str], e: _Encoding, row: Row) -> list[str]:
    """Where the operands of a row with VEX.vvvv are, in the manual's letters (Op/En): VM, RMV, MVR or RVM."""
    memory = [name not in REGISTERS for name in encoded]
    if e.modrm != "r":
        return ["vvvv", "rm"]
    if len(encoded) > 3:
        return ["reg", "vvvv", "rm", "is4"]
    if memory[1]:
        return ["reg", "rm", "vvvv"]
    return ["rm", "vvvv", "reg"] if memory[0] or "MVR" in row.attributes else ["reg", "vvvv", "rm"]


def _register_or_memory(name: str, places: dict[str, list[str]]) -> Field:
    if name not in places:
        raise ValueError(f"no such operand: {name}")
    place = places[name].pop(0)
    if name in REGISTERS:
        kind, width, numbers = REGISTERS[name]
        return Field(name, place, kind, width, memory_width=-1, numbers=numbers)
    if place != "rm":
        raise ValueError(f"{name} cannot stand in {place}")
    if name in MEMORY:
        return Field(name, place, memory_width=MEMORY[name])
    if vsib := _VSIB.fullmatch(name):
        return Field(name, place, memory_width=0, vsib=f"{vsib[1]}mm")
    match = _either(name)
    assert match
    memory_width = int(match[2])
    if match[1] in VECTOR_KINDS:
        return Field(name, place, match[1], REGISTERS[match[1]][1], memory_width)
    return Field(name, place, "gpr", int(match[1] or (32 if name.startswith("reg") else memory_width)), memory_width)


def _either(name: str) -> re.Match[str] | None:
    """The parts of an operand that is a register or memory, or memory that a vector indexes."""
    return _REGISTER_OR_MEMORY.fullmatch(name) or _VECTOR_OR_MEMORY.fullmatch(name) or _VSIB.fullmatch(name)


# -- the table as a whole ----------------------------------------------------------------------------------------------


def conflicts(patterns: Iterable[Pattern]) -> list[str]:
    """Describe every two rows that match the same bytes with equal right, and every row that no bytes reach."""
    by_opcode: dict[int, list[Pattern]] = {}
    patterns = list(patterns)
    for pattern in patterns:
        for opcode in pattern.opcodes:
            by_opcode.setdefault(opcode, []).append(pattern)
    found: dict[str, None] = {}
    reached: set[int] = set()
    for candidates in by_opcode.values():
        if len({bool(pattern.modrm) for pattern in candidates}) > 1:
            found[f"with and without ModRM: {' | '.join(str(p.row) for p in candidates)}"] = None
        for matching in _rivals(candidates):
            best = [p for p in matching if p.rank == matching[0].rank]
            reached.add(id(best[0]))
            if len(best) > 1:
                found[f"overlap: {' | '.join(str(p.row) for p in best)}"] = None
    found.update({f"unreachable: {p.row}": None for p in patterns if id(p) not in reached})
    return list(found)


def _rivals(candidates: list[Pattern]) -> Iterator[list[Pattern]]:
    """Yield the patterns that match, best first, for each state of the prefixes and each value of ModRM."""
    seen: set[tuple[int, ...]] = set()
    for has_66, rep, address_size in product((False, True), (0, 0xF2, 0xF3), (16, 32)):
        accepting = [p for p in candidates if p.accepts(has_66, rep, 16 if has_66 else 32, address_size)]
        accepting.sort(key=lambda p: p.rank, reverse=True)
        state = tuple(map(id, accepting))
        if not accepting or state in seen:
            continue
        seen.add(state)
        matches = {tuple([p for p in accepting if not p.modrm or value in p.modrm]) for value in range(256)}
        yield from (list(matching) for matching in matches if matching)


def best_match(candidates: Iterable[Pattern], modrm: int) -> Pattern | None:
    """The highest-ranked pattern that matches `modrm` (-1: there is none)."""
    best: Pattern | None = None
    for pattern in candidates:
        if (modrm < 0 or modrm in pattern.modrm) and (best is None or pattern.rank > best.rank):
            best = pattern
    return best

"""What the generated decoder knows of the instruction table, as numbers: from opcode bytes to leaves, keys of shapes.

Made from the rows by way of the Python decoder (`isa/decode.py`), which stays the definition. A *leaf* is a row with
one kind of each operand: where they are encoded, and what of them is a parameter of a record. Leaf 0 stands for all
that is left to Python: bytes that are no instruction, far pointers, control registers, more parameters than a record
has room for. A *key* is a leaf with all else that a shape depends on (`Tables.key`): equal keys mean equal shapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from aiopyvm.engine.native.decodejob import CALLS, ENDS, FALLS, LOCKABLE, MOST_NEEDS, NO_VVVV, STATIC_BASE, place
from aiopyvm.engine.native.records import CALL, NEVER_FALL
from aiopyvm.engine.shapes import segment_key
from aiopyvm.isa import vex
from aiopyvm.isa.decode import Decoder
from aiopyvm.isa.decode_lengths import ESCAPES
from aiopyvm.isa.insn import Immediate, Insn, Memory, Register
from aiopyvm.isa.notation import VECTOR_KINDS, Field, Pattern, best_match

CONTEXTS: Final = 6  # 66 or not + 2 * (no repeat prefix, F2, F3); addresses of 16 bits are left to Python
OF_PP: Final = (0, 1, 4, 2)  # what VEX.pp stands for
OPCODES: Final = vex.UNDEFINED << 8  # of a context
SLOTS: Final = 16  # of a ModRM table: by reg with memory, then by reg with a register
MORE: Final = 0x8000  # in an opcode's entry: a ModRM table; in a ModRM table: eight entries by r/m

# The kinds of operands in a leaf's plan; those that are no parameters are not there.
END, REG, REG8, RM, RM8, OPCODE, OPCODE8, MEMORY, IMMEDIATE, STATIC, RELATIVE, OFFSET, VVVV, IS4 = range(14)
FIXED: Final = 16  # + a register's number

# A key's bits.
KEY_CONTEXT, KEY_SEGMENT, KEY_LOCK, KEY_HIGH, KEY_MEMORY, KEY_STATIC, KEY_BASE = 16, 19, 22, 23, 26, 32, 48
HAS_BASE, HAS_INDEX, SCALE, HAS_DISPLACEMENT = 1, 2, 2, 16  # of KEY_MEMORY; SCALE is a shift
GENERAL: Final = 1 << 62  # the key of a general shape, which has no bits of the address or of a static immediate

FIRST_SEGMENT: Final = 6  # in PREFIXES: a segment that is flat; then + number + 1
PREFIXES: Final = {0x66: 1, 0x67: 2, 0xF2: 3, 0xF3: 4, 0xF0: 5} | {
    byte: FIRST_SEGMENT + segment_key(number, True) + 1
    for number, byte in enumerate((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))
}
_PLAN: Final = 4
PLAN_FLAGS, PLAN_NEED = 48, 56  # bits of a packed leaf
_REGISTERS: Final = 3
_MORE_REGISTERS: Final = 4  # in place of the third value
_VALUES: Final = 3
_STATIC_BITS: Final = 16
_SIZES: Final = {1: 0, 2: 1, 4: 2}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Leaf:
    """`plan`: the operands that are parameters; `immediates`: how those among them are read, in their order."""

    pattern: Pattern
    plan: bytes
    immediates: bytes
    flags: int
    need: int  # the number of what its row needs (`Tables.needs`)
    fixed: tuple[tuple[str, int], ...]  # registers that the leaf's own bytes name

    @property
    def packed(self) -> int:
        """The leaf as the decoder reads it: four bytes of plan, two of immediates, flags, the need."""
        packed = self.plan.ljust(_PLAN, b"\0") + self.immediates.ljust(2, b"\0") + bytes((self.flags, self.need))
        return int.from_bytes(packed, "little")


class Tables:
    """All leaves, and the way to them: `opcodes` by context, map and byte; `modrms` by table and slot; `registers`."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.needs = sorted({pattern.row.cpuid for pattern in decoder.patterns} | {""})
        if len(self.needs) > MOST_NEEDS:
            raise ValueError(f"rows have {len(self.needs)} different needs")
        self._numbers: dict[Leaf, int] = {}
        self._modrm_numbers: dict[tuple[int, ...], int] = {}
        self._register_numbers: dict[tuple[int, ...], int] = {}
        self.opcodes = [self._opcode(context, opcode) for context in range(CONTEXTS) for opcode in range(OPCODES)]
        self.modrms = [entry for table in self._modrm_numbers for entry in table]
        self.registers = [entry for table in self._register_numbers for entry in table]
        self.leaves = [0, *(leaf.packed for leaf in self._numbers)]
        self._by_number = [None, *self._numbers]

    def _opcode(self, context: int, opcode: int) -> int:
        candidates = self._decoder.candidates(context & 1 | context >> 1 << 2, opcode)
        if not candidates:
            return 0
        if not candidates[0].modrm:
            best = best_match(candidates, -1)
            return self._leaf(best, -1) if best is not None else 0
        slots = [self._leaf(best_match(candidates, reg << 3), reg << 3) for reg in range(8)]
        for reg in range(8):
            first = 0xC0 + 8 * reg
            row = tuple(self._leaf(best_match(candidates, modrm), modrm) for modrm in range(first, first + 8))
            slots.append(row[0] if len(set(row)) == 1 else MORE | _number(self._register_numbers, row))
        return MORE | _number(self._modrm_numbers, tuple(slots)) if any(slots) else 0

    def _leaf(self, pattern: Pattern | None, modrm: int) -> int:
        leaf = _make_leaf(pattern, modrm, self.needs.index(pattern.row.cpuid)) if pattern is not None else None
        return _number(self._numbers, leaf) + 1 if leaf is not None else 0

    def find(self, insn: Insn) -> tuple[int, int]:
        """The context and the leaf of an instruction."""
        code, at, context = insn.code, 0, 0
        while (prefix := PREFIXES.get(code[at], 0)) != 0:
            if prefix == 2:
                return 0, 0
            context = {1: context | 1, 3: context & 1 | 2, 4: context & 1 | 4}.get(prefix, context)
            at += 1
        opcode = code[at]
        if opcode == 0x0F:
            at += 1
            opcode = 0x100 | code[at]
            if opcode in ESCAPES:
                at += 1
                opcode = ESCAPES[opcode] << 8 | code[at]
        elif opcode & 0xFE == vex.THREE_BYTES and code[at + 1] >= 0xC0:
            page, pp, at = vex.read(code, at + 1)
            context, opcode = OF_PP[pp], page << 8 | code[at]
        entry = self.opcodes[context * OPCODES + opcode]
        if entry & MORE:
            modrm = code[at + 1]
            entry = self.modrms[(entry & ~MORE) * SLOTS + (modrm >> 3 & 7) + 8 * (modrm >= 0xC0)]
            if entry & MORE:
                entry = self.registers[(entry & ~MORE) * 8 + (modrm & 7)]
        return context, entry

    def key(self, insn: Insn) -> int:
        """The key of an instruction's shape; 0: it is left to Python.

        From bit 0 on: leaf; context; segment override + 1, if it is not flat; LOCK; which of the first three register
        parameters are AH to BH; the form of the address; a static immediate; a static address's base + 1.
        """
        context, number = self.find(insn)
        leaf = self._by_number[number]
        if leaf is None or (insn.lock and not leaf.flags & LOCKABLE):
            return 0
        segment = segment_key(insn.segment, True) + 1
        key = number | context << KEY_CONTEXT | segment << KEY_SEGMENT | insn.lock << KEY_LOCK
        registers = 0
        for index, operand in enumerate(insn.operands):
            match operand:
                case Register("gpr", register, width):
                    if leaf.pattern.fields[index].place != "fixed":
                        key |= (width == 8 and register >= 4) << KEY_HIGH + registers
                    registers += 1
                case Register(kind) if kind in VECTOR_KINDS:
                    registers += 1
                case Memory():
                    registers += (operand.base >= 0) + (operand.index >= 0)
                    key |= _address_bits(operand) << KEY_MEMORY
                    if leaf.flags & STATIC_BASE:
                        key |= operand.base + 1 << KEY_BASE
                case Immediate() if leaf.pattern.fields[index].place == "imm" and index in insn.row.static:
                    key |= (operand.value & (1 << _STATIC_BITS) - 1) << KEY_STATIC
        return key


def _number(numbers: dict[T, int], thing: T) -> int:
    """The number of a thing: a new one gets the next."""
    return numbers.setdefault(thing, len(numbers))


def general(key: int) -> int:
    """The key of the general shape of instructions with `key`."""
    return key & (1 << KEY_MEMORY) - 1 | GENERAL


def _address_bits(address: Memory) -> int:
    bits = HAS_BASE * (address.base >= 0) | HAS_INDEX * (address.index >= 0) | address.scale.bit_length() - 1 << SCALE
    return bits | HAS_DISPLACEMENT * (address.displacement != 0)


# -- leaves ------------------------------------------------------------------------------------------------------------


class _ForPython(Exception):
    """A leaf that the generated decoder does not know."""


def _make_leaf(pattern: Pattern, modrm: int, need: int) -> Leaf | None:
    try:
        return _Maker(pattern, modrm).leaf(need)
    except _ForPython:
        return None


class _Maker:
    """Makes one leaf: `modrm` has its mod and reg (and r/m, where that is part of the leaf)."""

    def __init__(self, pattern: Pattern, modrm: int) -> None:
        if pattern.ignores_mod:
            raise _ForPython
        self.pattern = pattern
        self.modrm = modrm
        self.plan: list[int] = []
        self.immediates: list[int] = []
        self.fixed: list[tuple[str, int]] = []
        self.registers = self.values = 0

    def leaf(self, need: int) -> Leaf:
        """The leaf. Raises _ForPython."""
        for index, field in enumerate(self.pattern.fields):
            self._operand(field, index in self.pattern.row.static)
        relative = RELATIVE in self.plan
        more = self.registers > _REGISTERS
        if self.registers > _REGISTERS + _MORE_REGISTERS * (not relative) or len(self.plan) > _PLAN:
            raise _ForPython
        if self.values > _VALUES - (relative or more):
            raise _ForPython
        flags = self._flags(relative)
        return Leaf(self.pattern, bytes(self.plan), bytes(self.immediates), flags, need, tuple(self.fixed))

    def _flags(self, relative: bool) -> int:
        row = self.pattern.row
        is_memory = [self._is_memory(field) for field in self.pattern.fields]
        flags = ENDS * (relative or row.name in NEVER_FALL or row.name == CALL)
        flags |= FALLS * (row.name not in NEVER_FALL and row.name != CALL) | CALLS * (row.name == CALL)
        flags |= LOCKABLE * (row.lock and is_memory[:1] == [True])
        flags |= NO_VVVV * (self.pattern.vex is not None and not self.pattern.has_vvvv)
        return flags | STATIC_BASE * any(is_memory[index : index + 1] == [True] for index in row.static)

    def _is_memory(self, field: Field) -> bool:
        return field.place == "moffs" or (field.place == "rm" and self.modrm < 0xC0)

    def _operand(self, field: Field, static: bool) -> None:
        match field.place:
            case "fixed" if field.kind == "gpr" or field.kind in VECTOR_KINDS:
                self._register(FIXED + (field.value & 3 if field.width == 8 else field.value))
            case "fixed":
                if field.kind == "imm" and not static:
                    raise _ForPython
            case "reg":
                self._encoded(field, REG, self.modrm >> 3 & 7)
            case "rm" if self.modrm >= 0xC0:
                self._encoded(field, RM, self.modrm & 7)
            case "rm" if field.vsib:
                raise _ForPython
            case "rm":
                self.plan.append(MEMORY)
                self.registers += 2
                self.values += 1
            case "opcode":
                self._encoded(field, OPCODE, -1)
            case "vvvv":
                self._register(VVVV)
            case "is4":
                self._register(IS4)
            case "moffs":
                self.plan.append(OFFSET)
                self.values += 1
            case "imm":
                self._immediate(field, static)
            case "rel":
                self.plan.append(RELATIVE)
                self.immediates.append(self._reading(field, 32))
            case _:
                raise _ForPython

    def _register(self, kind: int) -> None:
        self.plan.append(kind)
        self.registers += 1

    def _encoded(self, field: Field, kind: int, number: int) -> None:
        """A register that ModRM or the opcode names: a parameter, or part of the leaf."""
        if field.kind == "gpr" or field.kind in VECTOR_KINDS:
            self._register(kind + (field.width == 8))
        elif number < 0:
            raise _ForPython
        else:
            self.fixed.append((field.kind, number))

    def _immediate(self, field: Field, static: bool) -> None:
        self.values += 1  # in the general shape, where it is static
        if static and 8 * self.pattern.immediates[field.index] > _STATIC_BITS:
            raise _ForPython
        self.plan.append(STATIC if static else IMMEDIATE)
        self.immediates.append(self._reading(field, field.width))

    def _reading(self, field: Field, width: int) -> int:
        """How an immediate becomes `width` bits: log2 of its bytes, 4 where it is signed, log2 of width's bytes * 8."""
        return _SIZES[self.pattern.immediates[field.index]] | 4 * field.signed | _SIZES[width // 8] << 3


def table_of(keys: Iterable[tuple[int, str]], bits: int) -> list[tuple[int, str]]:
    """A hash table of 2**bits places: each key's place is the first free one from `place` on. Key 0: nothing."""
    table = [(0, "")] * (1 << bits)
    for key, name in keys:
        at = place(key, bits)
        while table[at][0]:
            at = (at + 1) % len(table)
        table[at] = key, name
    return table

"""From bytes to `Insn`: tables derived from the rows of the instruction table.

The prefixes before an opcode make a context (66, 67, last of F2/F3, code size; behind VEX, pp stands for the first and
the third). Each context has one entry per opcode, and where a ModRM byte follows, one per value of it: a `_Leaf`, which
knows the row, the length and how to read each operand. Entries are made when they are first met. Decoded instructions
are kept by their bytes and shared. Both are bounded: a guest that makes up ever new code finds them emptied.

What always holds: nothing is raised but `DecodeFault` and `NeedMore`, whatever the bytes; an instruction that is
complete within 15 bytes never needs the 16th; the same bytes give an equal `Insn`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from aiopyvm.isa import vex
from aiopyvm.isa.decode_faults import DecodeFault as DecodeFault
from aiopyvm.isa.decode_faults import NeedMore as NeedMore
from aiopyvm.isa.decode_lengths import ESCAPES, has_modrm, ignores_mod, immediate_bytes
from aiopyvm.isa.insn import FarPointer, Immediate, Insn, Memory, Operand, Register, Relative
from aiopyvm.isa.notation import Field, Pattern, best_match, compile_row
from aiopyvm.isa.spec import Row, table
from aiopyvm.isa.vectors import GP, UD

MAX_LENGTH: Final = 15
_INSN_LIMIT: Final = 1 << 14  # about 8 MB
_LEAF_LIMIT: Final = 1 << 13
_LEAVES_OF_A_LIST: Final = 4  # what an empty list of 256 weighs

_BIT_66: Final = 1
_BIT_67: Final = 2
_REP_SHIFT: Final = 2  # two bits: 0, 1 = F2, 2 = F3
_BIT_CODE16: Final = 16
_REPS: Final = (0, 0xF2, 0xF3)
_NOT_IN_VEX: Final = _BIT_67 | _BIT_CODE16
_OF_PP: Final = (0, _BIT_66, 2 << _REP_SHIFT, 1 << _REP_SHIFT)
_VVVV: Final = vex.NO_REGISTER << 3  # in the last byte of VEX
_PREFIXES: Final = {0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65}
_SEGMENT_OVERRIDES: Final = {0x26: 0, 0x2E: 1, 0x36: 2, 0x3E: 3, 0x64: 4, 0x65: 5}
_IS_PREFIX: Final = bytes(byte in _PREFIXES for byte in range(256))

Reader = Callable[[bytes, int, int], Operand]  # (code, offset of what follows ModRM, segment override) -> operand


class _Leaf:
    """What is known once prefixes, opcode and ModRM are: how many bytes follow, and what the operands are."""

    __slots__ = (
        "address_size",
        "operand_size",
        "readers",
        "row",
        "sib_displacement",
        "tail",
        "unused_vvvv",
        "vsib",
        "vvvv",
    )

    def __init__(self, sizes: tuple[int, int], modrm: int, immediates: int) -> None:
        self.operand_size, self.address_size = sizes
        self.tail = _address_bytes(modrm, self.address_size) + immediates
        self.sib_displacement = self.address_size == 32 and modrm & 0xC7 == 0x04 and modrm >= 0
        self.row: Row | None = None  # None: #UD, once all bytes are there
        self.readers: tuple[Reader, ...] = ()
        self.vvvv = 0  # how far before the end of opcode and ModRM the last byte of VEX is, 0: there is none
        self.unused_vvvv = self.vsib = False

    @classmethod
    def of(cls, pattern: Pattern, sizes: tuple[int, int], modrm: int) -> _Leaf:
        """The leaf of a pattern's instructions."""
        if pattern.ignores_mod:
            modrm |= 0xC0
        offsets = sum(sizes[1] // 8 for field in pattern.fields if field.place == "moffs")
        leaf = cls(sizes, modrm, sum(pattern.immediates) + offsets)
        leaf.row = pattern.row
        if pattern.vex is not None:
            leaf.vvvv, leaf.unused_vvvv = 2 + (modrm >= 0), not pattern.has_vvvv
            leaf.vsib = any(field.vsib for field in pattern.fields)
        leaf.readers = tuple(_reader(field, pattern, modrm, sizes[1]) for field in pattern.fields)
        return leaf


_Entry = _Leaf | list[_Leaf | None] | None


class Decoder:
    """Decodes by the given rows. `decode` of this module is the whole table's."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.patterns = tuple(compile_row(row) for row in rows)
        self._by_opcode: dict[int, list[Pattern]] = {}
        for pattern in self.patterns:
            for opcode in pattern.opcodes:
                self._by_opcode.setdefault(opcode, []).append(pattern)
        self._contexts: list[list[_Entry]] = [[] for _ in range(32)]  # each is made when it is met
        self._leaves = 0
        self._decoded: tuple[dict[bytes, Insn], dict[bytes, Insn]] = ({}, {})

    def decode(self, code: bytes | memoryview, code16: bool = False) -> Insn:
        """Decode the instruction at the start of `code`, of which no more than 15 bytes are looked at.

        `code16` tells a 16-bit code segment. Raises DecodeFault for #UD and #GP, NeedMore where `code` is too short.
        """
        context = _BIT_CODE16 if code16 else 0
        at = 0
        try:
            opcode = code[0]
            if _IS_PREFIX[opcode]:
                at, context = _skip_prefixes(code, context)
                opcode = code[at]
            at += 1
            if opcode == 0x0F:
                opcode = 0x100 | code[at]
                at += 1
                if opcode & 0x1F8 == 0x138:
                    opcode = ESCAPES[opcode] << 8 | code[at]
                    at += 1
            elif opcode & 0xFE == 0xC4 and code[at] >= 0xC0:
                page, pp, at = vex.read(code, at)
                context = context & _NOT_IN_VEX | _OF_PP[pp]
                opcode = page << 8 | code[at]
                at += 1
            entries = self._contexts[context] or self._make_context(context)
            entry = entries[opcode] or self._make_entry(context, opcode)
            if isinstance(entry, list):
                modrm = code[at]
                at += 1
                leaf = entry[modrm] or self._make_leaf(context, opcode, modrm)
            else:
                leaf = entry
            end = at + leaf.tail
            if leaf.sib_displacement and code[at] & 7 == 5:
                end += 4
        except IndexError:
            raise _short(len(code)) from None
        if end > len(code) or end > MAX_LENGTH:
            raise _short(end if end > MAX_LENGTH else len(code))
        key = bytes(code[:end])
        insn = self._decoded[code16].get(key)
        return insn or self._build(leaf, key, at, code16)

    def candidates(self, context: int, opcode: int) -> list[Pattern]:
        """The patterns of an opcode (page << 8 | byte) that the prefixes of `context` (_BIT_66, ...) admit."""
        operand_size, address_size = _sizes(context, opcode)
        has_66, rep = bool(context & _BIT_66), _REPS[context >> _REP_SHIFT & 3]
        patterns = self._by_opcode.get(opcode, ())
        return [p for p in patterns if p.accepts(has_66, rep, operand_size, address_size)]

    def _make_context(self, context: int) -> list[_Entry]:
        entries = self._contexts[context]
        entries += [None] * (vex.PAGES << 8)
        return entries

    def _make_entry(self, context: int, opcode: int) -> _Leaf | list[_Leaf | None]:
        """Make the entry of an opcode. ModRM belongs to the opcode: prefixes do not change whether there is one."""
        patterns = self._by_opcode.get(opcode)
        entry: _Leaf | list[_Leaf | None]
        self._make_room()
        if any(pattern.modrm for pattern in patterns) if patterns else has_modrm(opcode):
            entry = [None] * 256
            self._leaves += _LEAVES_OF_A_LIST
        else:
            entry = self._leaf(context, opcode, -1)
        self._contexts[context][opcode] = entry
        return entry

    def _make_leaf(self, context: int, opcode: int, modrm: int) -> _Leaf:
        self._make_room()
        leaf = self._leaf(context, opcode, modrm)
        leaves = self._contexts[context][opcode]
        if isinstance(leaves, list):
            leaves[modrm] = leaf
        return leaf

    def _make_room(self) -> None:
        if self._leaves >= _LEAF_LIMIT:
            self._leaves = 0
            for entries in self._contexts:
                entries[:] = [None] * len(entries)

    def _leaf(self, context: int, opcode: int, modrm: int) -> _Leaf:
        self._leaves += 1
        sizes = _sizes(context, opcode)
        candidates = self.candidates(context, opcode)
        if pattern := best_match(candidates, modrm):
            return _Leaf.of(pattern, sizes, modrm)
        if candidates[0].ignores_mod if candidates else ignores_mod(opcode):
            modrm |= 0xC0
        immediates = sum(candidates[0].immediates) if candidates else immediate_bytes(opcode)
        return _Leaf(sizes, modrm, immediates)

    def _build(self, leaf: _Leaf, code: bytes, after_modrm: int, code16: bool) -> Insn:
        if leaf.row is None:
            raise DecodeFault(UD)
        segment, rep, lock, has_66 = -1, 0, False, False
        for byte in code:
            if not _IS_PREFIX[byte]:
                break
            if byte in _SEGMENT_OVERRIDES:
                segment = _SEGMENT_OVERRIDES[byte]
            elif byte == 0xF0:
                lock = True
            elif byte >= 0xF2:
                rep = byte
            elif byte == 0x66:
                has_66 = True
        if leaf.vvvv and (lock or rep or has_66 or (leaf.unused_vvvv and ~code[after_modrm - leaf.vvvv] & _VVVV)):
            raise DecodeFault(UD)
        operands = tuple([reader(code, after_modrm, segment) for reader in leaf.readers])
        if leaf.vsib and not _distinct(operands):
            raise DecodeFault(UD)
        insn = Insn(leaf.row, operands, code, leaf.operand_size, leaf.address_size, segment, rep, lock)
        decoded = self._decoded[code16]
        if len(decoded) >= _INSN_LIMIT:
            decoded.clear()
        decoded[code] = insn
        return insn


def _distinct(operands: Iterable[Operand]) -> bool:
    """Whether a gather's destination, mask and indexes are different registers (Intel SDM vol. 2, VGATHERDPS)."""
    numbers = [o.number if isinstance(o, Register) else o.index for o in operands if isinstance(o, (Register, Memory))]
    return len(set(numbers)) == len(numbers)


def _skip_prefixes(code: bytes | memoryview, context: int) -> tuple[int, int]:
    at = 0
    byte = code[0]
    while _IS_PREFIX[byte]:
        if byte == 0x66:
            context |= _BIT_66
        elif byte == 0x67:
            context |= _BIT_67
        elif byte >= 0xF2:
            context = context & ~(3 << _REP_SHIFT) | (byte - 0xF1) << _REP_SHIFT
        at += 1
        if at >= MAX_LENGTH:
            raise DecodeFault(GP)
        byte = code[at]
    return at, context


def _short(length: int) -> Exception:
    return DecodeFault(GP) if length >= MAX_LENGTH else NeedMore()


def _sizes(context: int, opcode: int) -> tuple[int, int]:
    code16 = bool(context & _BIT_CODE16)
    short = code16 != bool(context & _BIT_66) and opcode >> 8 < vex.FIRST
    return (16 if short else 32), (16 if code16 != bool(context & _BIT_67) else 32)


# -- operands ----------------------------------------------------------------------------------------------------------


def _reader(field: Field, pattern: Pattern, modrm: int, address_size: int) -> Reader:
    match field.place:
        case "fixed":
            return _constant(_fixed(field))
        case "reg":
            return _constant(Register(field.kind, modrm >> 3 & 7, field.width))
        case "rm" if modrm >= 0xC0:
            return _constant(Register(field.kind, modrm & 7, field.width))
        case "rm":
            return _memory16(modrm, field) if address_size == 16 else _memory32(modrm, field)
        case "opcode":
            return _opcode_register(field)
        case "vvvv":
            return _vvvv(field)
        case "is4":
            return _is4(field, sum(pattern.immediates[field.index :]))
        case "moffs":
            return _offset(field, address_size)
        case _:
            return _in_code(field, pattern.immediates)


def _constant(operand: Operand) -> Reader:
    return lambda code, at, segment: operand


def _fixed(field: Field) -> Operand:
    if field.kind == "imm":
        return Immediate(field.value, field.width)
    return Register(field.kind, field.value, field.width)


def _opcode_register(field: Field) -> Reader:
    registers = tuple(Register(field.kind, number, field.width) for number in range(8))
    return lambda code, at, segment: registers[code[at - 1] & 7]


def _vvvv(field: Field) -> Reader:
    registers = tuple(Register(field.kind, number, field.width) for number in range(8))
    return lambda code, at, segment: registers[~code[at - 3] >> 3 & 7]


def _is4(field: Field, back: int) -> Reader:
    registers = tuple(Register(field.kind, number, field.width) for number in range(8))
    return lambda code, at, segment: registers[code[len(code) - back] >> 4 & 7]


def _in_code(field: Field, immediates: tuple[int, ...]) -> Reader:
    size = immediates[field.index]
    back = sum(immediates[field.index :])
    width, signed, mask = field.width, field.signed, (1 << field.width) - 1

    def immediate(code: bytes, at: int, segment: int) -> Operand:
        start = len(code) - back
        return Immediate(int.from_bytes(code[start : start + size], "little", signed=signed) & mask, width)

    def relative(code: bytes, at: int, segment: int) -> Operand:
        start = len(code) - back
        return Relative(int.from_bytes(code[start : start + size], "little", signed=True), width)

    def pointer(code: bytes, at: int, segment: int) -> Operand:
        start = len(code) - back
        middle = start + size - 2
        offset = int.from_bytes(code[start:middle], "little")
        return FarPointer(int.from_bytes(code[middle : middle + 2], "little"), offset, width)

    return {"imm": immediate, "rel": relative, "ptr": pointer}[field.place]


def _offset(field: Field, address_size: int) -> Reader:
    width = field.memory_width

    def offset(code: bytes, at: int, segment: int) -> Operand:
        displacement = int.from_bytes(code[at : at + address_size // 8], "little")
        return Memory(3 if segment < 0 else segment, -1, -1, 1, displacement, address_size, width)

    return offset


# -- addresses (Intel SDM vol. 2A, "ModR/M and SIB Bytes") -----------------------------------------------------------

_BASES16: Final = ((3, 6), (3, 7), (5, 6), (5, 7), (6, -1), (7, -1), (5, -1), (3, -1))


def _address_bytes(modrm: int, address_size: int) -> int:
    """SIB and displacement bytes behind ModRM, but for the displacement that a SIB without base has."""
    if modrm < 0 or modrm >= 0xC0:
        return 0
    mod, rm = modrm >> 6, modrm & 7
    if address_size == 16:
        return (2 if rm == 6 else 0, 1, 2)[mod]
    return (4 if rm == 5 else 0, 1, 4)[mod] + (rm == 4)


def _memory16(modrm: int, field: Field) -> Reader:
    width = field.memory_width
    base, index = _BASES16[modrm & 7]
    if modrm & 0xC7 == 6:
        base = -1
    default = 2 if base == 5 else 3
    size = _address_bytes(modrm, 16)

    def memory(code: bytes, at: int, segment: int) -> Operand:
        displacement = int.from_bytes(code[at : at + size], "little", signed=True) & 0xFFFF
        return Memory(default if segment < 0 else segment, base, index, 1, displacement, 16, width)

    return memory


def _memory32(modrm: int, field: Field) -> Reader:
    mod, base = modrm >> 6, modrm & 7
    if base == 4:
        return _memory_sib(mod, field)
    width = field.memory_width
    if modrm & 0xC7 == 5:
        base = -1
    default = 2 if base == 5 else 3
    size = _address_bytes(modrm, 32)

    def memory(code: bytes, at: int, segment: int) -> Operand:
        displacement = int.from_bytes(code[at : at + size], "little", signed=True) & 0xFFFFFFFF
        return Memory(default if segment < 0 else segment, base, -1, 1, displacement, 32, width)

    return memory


def _memory_sib(mod: int, field: Field) -> Reader:
    width = field.memory_width
    vsib = field.vsib
    sizes = (0, 1, 4)

    def memory(code: bytes, at: int, segment: int) -> Operand:
        sib = code[at]
        base, index, size = sib & 7, sib >> 3 & 7, sizes[mod]
        if base == 5 and mod == 0:
            base, size = -1, 4
        displacement = int.from_bytes(code[at + 1 : at + 1 + size], "little", signed=True) & 0xFFFFFFFF
        if segment < 0:
            segment = 2 if base in (4, 5) else 3
        if index == 4 and not vsib:
            return Memory(segment, base, -1, 1, displacement, 32, width)
        return Memory(segment, base, index, 1 << (sib >> 6), displacement, 32, width, vsib)

    return memory


@cache
def decoder(allowed: frozenset[str] | None = None) -> Decoder:
    """The decoder of the rows for which a processor with the features `allowed` has all that they need; None: of the
    whole instruction table."""
    return Decoder(row for row in table() if allowed is None or allowed.issuperset(row.cpuid.split()))


def decode(code: bytes | memoryview, code16: bool = False, allowed: frozenset[str] | None = None) -> Insn:
    """Decode the instruction at the start of `code` by the whole table, or by that of a processor with the features
    `allowed`; see `Decoder.decode`."""
    return decoder(allowed).decode(code, code16)

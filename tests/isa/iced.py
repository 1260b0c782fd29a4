"""Our decoder's answer and iced-x86's for the same bytes, compared operand by operand.

`compare(code)` returns a `Verdict`. What is not equal is explained in `iced_names.py`, with the reason, or "differs".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import iced_x86

from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import FarPointer, Immediate, Insn, Memory, Operand, Register, Relative
from aiopyvm.isa.trace import lockable
from tests.isa.iced_names import GENERAL_PURPOSE_FEATURES, HOLES, INSTEAD, NAMES, READS_16_BITS


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is equal, both invalid, not implemented, explained or differs; `detail` says which instruction and why."""

    kind: str
    detail: str = ""


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


MNEMONICS: Final = _names(iced_x86.Mnemonic)
CODES: Final = _names(iced_x86.Code)
FEATURES: Final = _names(iced_x86.CpuidFeature)
_REGISTER_NAMES: Final = _names(iced_x86.Register)
_GPR: Final = {
    8: ("AL", "CL", "DL", "BL", "AH", "CH", "DH", "BH"),
    16: ("AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"),
    32: ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"),
}
_VECTOR_BITS: Final = {"mm": 64, "xmm": 128, "ymm": 256}
_SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS")
_REGISTERS: Final = {
    **{name: Register("gpr", n, width) for width, names in _GPR.items() for n, name in enumerate(names)},
    **{name: Register("sreg", n, 16) for n, name in enumerate(_SEGMENTS)},
    **{f"ST{n}": Register("st", n, 80) for n in range(8)},
    **{f"{kind.upper()}{n}": Register(kind, n, 32) for kind in ("cr", "dr") for n in range(8)},
    **{
        f"{k.upper()}{n}": Register(k, n, bits)
        for k, bits in (("mm", 64), ("xmm", 128), ("ymm", 256))
        for n in range(8)
    },
    **{
        f"{kind.upper()}{n}": Register(kind, n, width)
        for kind, width in (("mm", 64), ("xmm", 128), ("ymm", 256))
        for n in range(8)
    },
}
_BY_NUMBER: Final = {n: _REGISTERS.get(name) for n, name in _REGISTER_NAMES.items()}
_SEGMENT_NUMBER: Final = {n: _SEGMENTS.index(name) for n, name in _REGISTER_NAMES.items() if name in _SEGMENTS}

_K = iced_x86.OpKind
_IMPLICIT_MEMORY: Final = {
    _K.MEMORY_SEG_SI, _K.MEMORY_SEG_ESI, _K.MEMORY_SEG_DI, _K.MEMORY_SEG_EDI, _K.MEMORY_ESDI, _K.MEMORY_ESEDI,
}  # fmt: skip
_BRANCHES: Final = {_K.NEAR_BRANCH16, _K.NEAR_BRANCH32}
_FAR_BRANCHES: Final = {_K.FAR_BRANCH16, _K.FAR_BRANCH32}


def compare(code: bytes, *, code16: bool = False, decode: Callable[[bytes, bool], Insn] = decode) -> Verdict:
    """Decode the first instruction of `code` (15 bytes or more) with both; `decode` is ours."""
    theirs = iced_x86.Decoder(16 if code16 else 32, code).decode()
    valid = theirs.code != iced_x86.Code.INVALID
    try:
        ours: Insn | None = decode(code, code16)
    except DecodeFault:
        ours = None
    except NeedMore:
        return Verdict("differs", "more than 15 bytes wanted")
    if ours is not None and _undefined(ours):
        ours = None
    if ours is None:
        return _only_theirs(theirs) if valid else Verdict("both invalid")
    if not valid:
        return Verdict("differs", f"only ours: {ours.row}")
    return _both(ours, theirs)


def _undefined(insn: Insn) -> bool:
    """Whether the instruction is #UD when it is executed: LOCK where it is not allowed, MOV to CS."""
    return (insn.lock and not lockable(insn)) or (
        insn.row.name == "mov" and insn.operands[0] == Register("sreg", 1, 16)
    )


def _only_theirs(theirs: Any) -> Verdict:
    name = CODES[theirs.code]
    features = _features(theirs.code)
    if reason := HOLES.get(MNEMONICS[theirs.mnemonic]) or HOLES.get(name):
        return Verdict("explained", f"{name}: {reason}")
    if features <= GENERAL_PURPOSE_FEATURES:
        return Verdict("differs", f"only iced: {name} {sorted(features)}")
    return Verdict("not implemented", "+".join(sorted(features - GENERAL_PURPOSE_FEATURES)))


@functools.cache
def _features(code: Any) -> frozenset[str]:
    instruction = iced_x86.Instruction()
    instruction.code = code
    features: Iterable[Any] = instruction.cpuid_features()
    return frozenset(FEATURES[feature] for feature in features)


def _both(ours: Insn, theirs: Any) -> Verdict:
    mnemonic = MNEMONICS[theirs.mnemonic]
    if ours.length != theirs.len:
        return Verdict("differs", f"length: {ours.row} | {CODES[theirs.code]}")
    instead, reason = INSTEAD.get(mnemonic, ("", ""))
    if ours.row.name != instead and ours.row.name not in NAMES.get(mnemonic, (mnemonic.lower(),)):
        return Verdict("differs", f"name: {ours.row} | {CODES[theirs.code]}")
    if problem := _prefixes(ours, theirs) or _operands(ours, theirs):
        return Verdict("differs", f"{problem}: {ours.row} | {CODES[theirs.code]}")
    return Verdict("explained", f"{CODES[theirs.code]}: {reason}") if ours.row.name == instead else Verdict("equal")


def _prefixes(ours: Insn, theirs: Any) -> str:
    if ours.lock != theirs.has_lock_prefix:
        return "lock"
    if ours.row.rep and (ours.rep == 0xF3, ours.rep == 0xF2) != (theirs.has_rep_prefix, theirs.has_repne_prefix):
        return "rep"
    return ""


def _operands(ours: Insn, theirs: Any) -> str:
    kinds = [theirs.op_kind(n) for n in range(theirs.op_count)]
    indices = [n for n, kind in enumerate(kinds) if kind not in _IMPLICIT_MEMORY]
    if len(kinds) != len(indices):  # a string instruction: operands are implicit, but for the source's segment
        return _string(ours, theirs, kinds)
    if len(indices) > len(ours.operands):
        indices = _without_implied(indices, len(ours.operands), theirs)
    operands = [operand for operand, name in zip(ours.operands, ours.row.operands, strict=True) if name != "<XMM0>"]
    if len(indices) != len(operands):
        return "number of operands"
    if ours.row.name == "xchg" and kinds == [_K.REGISTER, _K.REGISTER]:
        indices.sort(key=lambda n: _BY_NUMBER[theirs.op_register(n)] != ours.operands[0])  # the order means nothing
    for operand, n in zip(operands, indices, strict=True):
        if problem := _operand(operand, n, kinds[n], ours, theirs):
            return problem
    return ""


def _string(ours: Insn, theirs: Any, kinds: list[int]) -> str:
    wide = {_K.MEMORY_SEG_ESI, _K.MEMORY_SEG_EDI, _K.MEMORY_ESEDI}
    if (ours.address_size == 32) != any(kind in wide for kind in kinds):
        return "address size"
    sourced = any(kind not in (_K.MEMORY_ESDI, _K.MEMORY_ESEDI) for kind in kinds)
    segment = ours.segment if ours.segment >= 0 else 3
    return "segment" if sourced and _SEGMENT_NUMBER[theirs.memory_segment] != segment else ""


def _without_implied(indices: list[int], count: int, theirs: Any) -> list[int]:
    """Leave out what the manual's operand column does not name: ST(0) of FCOM, XLAT's memory, a NOP's register."""
    if count == 0:
        return []
    if theirs.mnemonic == iced_x86.Mnemonic.RESERVEDNOP:
        return indices[:count]
    is_top = [_BY_NUMBER[theirs.op_register(n)] == Register("st", 0, 80) for n in indices]
    return indices[1:] if is_top[0] else indices


def _operand(operand: Operand, n: int, kind: int, ours: Insn, theirs: Any) -> str:
    match operand:
        case Register():
            return "" if kind == _K.REGISTER and _same(operand, theirs.op_register(n), ours) else "register"
        case Memory():
            return _memory(operand, ours, theirs) if kind == _K.MEMORY else "kind"
        case Immediate(value, width):
            if kind in (_K.REGISTER, _K.MEMORY) or kind in _BRANCHES or kind in _FAR_BRANCHES:
                return "kind"
            return "" if theirs.immediate(n) & ((1 << width) - 1) == value else "immediate"
        case Relative(displacement, _):
            mask = 0xFFFF if ours.operand_size == 16 else 0xFFFFFFFF
            target = (ours.length + displacement) & mask
            return "" if kind in _BRANCHES and theirs.near_branch_target & mask == target else "target"
        case FarPointer(selector, offset, width):
            if kind not in _FAR_BRANCHES:
                return "kind"
            theirs_offset = theirs.far_branch32 if width == 32 else theirs.far_branch16
            return "" if (theirs.far_branch_selector, theirs_offset) == (selector, offset) else "far pointer"


def _same(operand: Register, number: int, ours: Insn) -> bool:
    theirs = _BY_NUMBER[number]
    if theirs == operand:
        return True
    narrow = operand.width == 16 and ours.row.name in READS_16_BITS
    return narrow and theirs == Register("gpr", operand.number, 32)


@functools.cache
def _memory_bits(memory_size: Any) -> int:
    return int(iced_x86.MemorySizeInfo(memory_size).size) * 8


def _memory(operand: Memory, ours: Insn, theirs: Any) -> str:
    if _SEGMENT_NUMBER.get(theirs.memory_segment) != operand.segment:
        return "segment"
    if not _is_register(theirs.memory_base, operand.base, operand.address_size):
        return "base"
    if operand.vsib:
        if _BY_NUMBER[theirs.memory_index] != Register(operand.vsib, operand.index, _VECTOR_BITS[operand.vsib]):
            return "index"
    elif not _is_register(theirs.memory_index, operand.index, operand.address_size):
        return "index"
    if operand.index >= 0 and theirs.memory_index_scale != operand.scale:
        return "scale"
    if theirs.memory_displacement & ((1 << operand.address_size) - 1) != operand.displacement:
        return "displacement"
    if operand.base < 0 and operand.index < 0 and theirs.memory_displ_size * 8 != operand.address_size:
        return "address size"
    accessed = operand.width and ours.row.name != "nop"
    if accessed and _memory_bits(theirs.memory_size) != operand.width:
        return "width"
    return ""


def _is_register(theirs: int, number: int, width: int) -> bool:
    if number < 0:
        return theirs == iced_x86.Register.NONE
    register = _BY_NUMBER[theirs]
    return register is not None and (register.kind, register.number, register.width) == ("gpr", number, width)

"""Instructions to be tried on very many states, and what guests/src/drill.c, which does so, reads and writes.

A `Drill` is one instruction with `VARIANTS` random states of its own. The program mixes them: registers, flags and
memory of one state may come from any variant, some get random bits. What holds an address keeps to the first variant.
The states come from the campaigns' own random cases (`cases.py`, `cases_x87.py`, `cases_vector.py`).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import FarPointer, Insn, Memory, Register, Relative
from aiopyvm.isa.spec import Row
from aiopyvm.isa.state import SEGMENTS
from tests.hardware import cases, cases_vector, cases_x87
from tests.hardware.campaign_vector import MASKED
from tests.hardware.cases_vector import MXCSR_MASKS, uses_mmx
from tests.hardware.wire import DATA, PAGE, TABLE, WHOLE_SELECTOR, X87_INITIAL, Case

VARIANTS: Final = 32
SLOTS: Final = 4096  # instructions of one run at most
_MOST_CONTENTS: Final = 512
_TRIES: Final = 60
_X87, _VECTOR, _AVX = 1, 2, 4

# What does not come back behind itself, loads what is not put back, tells of the machine that it runs on, or is half
# done when it faults (ENTER), or has an operand larger than there is room for (XRSTOR, XSAVE).
NOT_DRILLED: Final = frozenset(
    "jmp call ret retf iret iretd int int1 popf popfd lds les lfs lgs lss lsl sgdt sidt sldt str smsw sysenter sysexit "
    "movdir64b monitor mwait enter xrstor xsave xsaveopt xsavec".split()
)
_STRINGS: Final = frozenset(
    kind + width for kind in ("movs", "cmps", "stos", "lods", "scas", "ins", "outs") for width in "bwd"
)
_BIT_TESTS: Final = ("bt", "bts", "btr", "btc")
_EAX, _ECX, _EDX, _EBX, _ESP, _EBP, _ESI, _EDI = range(8)

_ORDER = struct.Struct("<6I")
_HEAD = struct.Struct("<5I2H")
_VARIANT = struct.Struct("<8III108s256s")
_STATE = struct.Struct("<8II6I108s256s")
_STACK_WINDOW: Final = 128


@dataclass(frozen=True)
class Drill:
    """One instruction: which registers may hold anything, where its memory operand is, and its variants, packed."""

    row: Row
    code: bytes
    free_gpr: int
    free_ymm: int
    uses: int
    window: tuple[int, int]  # address and size in bytes; the size 0 where there is none
    variants: bytes

    def pack(self) -> bytes:
        """What the program reads of it, but for the code."""
        return _HEAD.pack(self.free_gpr, self.free_ymm, self.uses, *self.window, WHOLE_SELECTOR, WHOLE_SELECTOR) + (
            self.variants
        )


def order(drills: list[Drill], base: int, seed: int, states: range, chunk: int) -> bytes:
    """The program's whole input. `base` is the number of the first instruction; chunk 0 asks for the states."""
    codes = b"".join(bytes((len(drill.code),)) + drill.code.ljust(15, b"\0") for drill in drills)
    head = _ORDER.pack(base, len(drills), seed, states.start, states.stop, chunk)
    return head + codes + b"".join(drill.pack() for drill in drills)


def answer_size(states: range, chunk: int) -> int:
    """Bytes that the program writes for each instruction: digests, that of the pages, how many states had no fault."""
    return 8 * -(-len(states) // chunk) + 8 + 4


def split_states(answer: bytes, drill: Drill) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The states before and after, as names and what they hold, of an answer to a chunk of 0."""
    size = _STATE.size + drill.window[1] + _STACK_WINDOW
    told = [_named(answer[at : at + size], drill) for at in range(0, len(answer) - size + 1, size)]
    yield from zip(told[::2], told[1::2], strict=True)


def _named(state: bytes, drill: Drill) -> dict[str, str]:
    *fields, x87, ymm = _STATE.unpack_from(state)
    names = "eax ecx edx ebx esp ebp esi edi eflags mxcsr signal vector error_code cr2 eip".split()
    out = {name: f"{value:x}" for name, value in zip(names, fields, strict=True)}
    if drill.uses & _X87:
        out |= {"x87": x87[:28].hex(" ", 4)}
        out |= {f"st{n}": x87[28 + 10 * n : 38 + 10 * n][::-1].hex() for n in range(8)}
    if drill.uses & _VECTOR:
        out |= {f"ymm{n}": ymm[32 * n : 32 * n + 32][::-1].hex() for n in range(8)}
    behind = state[_STATE.size :]
    return out | {"memory": behind[: drill.window[1]].hex(), "stack": behind[drill.window[1] :].hex()}


def rows(name: str) -> list[Row]:
    """The rows of a family that can be drilled."""
    source = {"integer": cases, "x87": cases_x87, "vector": cases_vector}[name]
    return [row for row in source.rows() if row.name not in NOT_DRILLED and not _is_elsewhere(row)]


def _is_elsewhere(row: Row) -> bool:
    """Whether the row branches or loads a segment register."""
    loads = row.operands[:1] == ("Sreg",) or (row.name == "pop" and row.operands[0] in ("ds", "es", "ss", "fs", "gs"))
    return loads or any(name.startswith(("rel", "ptr")) for name in row.operands)


def drills(rng: random.Random, name: str, count: int, listed: list[Row] | None = None) -> Iterator[Drill]:
    """`count` instructions of a family, going round its rows, or those `listed`."""
    found = rows(name) if listed is None else listed
    for n in range(count):
        yield _drill(rng, name, found[n % len(found)])


def _cases(rng: random.Random, name: str, row: Row) -> Iterator[Case]:
    source = {"integer": cases, "x87": cases_x87, "vector": cases_vector}[name]
    while True:
        for _, case in source.cases(rng, VARIANTS, [row]):
            if case.segments[:2] == (0x2B, 0x2B):
                yield case


def _drill(rng: random.Random, name: str, row: Row) -> Drill:
    stream = _cases(rng, name, row)
    for _ in range(_TRIES):
        others = [next(stream) for _ in range(VARIANTS)]
        insn = _decoded(others[0])
        size = max([8, *(len(data) for case in others for _, data in case.patches[:1] if name != "integer")])
        if insn is not None:
            window = _window(insn, others[0], min(size, _MOST_CONTENTS))
            if not _is_half_done(insn) or (window[1] >= size and not _is_into_code(insn)):
                break
    else:
        raise AssertionError(f"no instruction of the row: {row}")
    contents = b"".join(_content(rng, case, name, window[1]) for case in others)
    free = 0xFF & ~sum(1 << n for n in set(_fixed(insn)))
    masks = MXCSR_MASKS if row.name in MASKED else 0  # where #XM, too, would find a part done
    variants = b"".join(_variant(case, masks) for case in others)
    return Drill(row, others[0].code, free, _free_ymm(insn), _uses(name, row), window, variants + contents)


def _is_half_done(insn: Insn) -> bool:
    """Whether the processor does a part of it before its store faults: large ones of the x87, those of `MASKED`."""
    stores = insn.row.operands[:1] in (("m80fp",), ("m80dec",)) or insn.row.name in MASKED
    return stores and any(isinstance(operand, Memory) for operand in insn.operands)


def _is_into_code(insn: Insn) -> bool:
    """Whether an operand is in memory of CS, which cannot be written."""
    return any(isinstance(operand, Memory) and SEGMENTS[operand.segment] == "cs" for operand in insn.operands)


def _decoded(case: Case) -> Insn | None:
    """The case's instruction; None where it does not decode or goes elsewhere."""
    try:
        insn = decode(case.code)
    except (DecodeFault, NeedMore):
        return None
    if insn.length != len(case.code) or any(isinstance(o, Relative | FarPointer) for o in insn.operands):
        return None
    return insn


def _uses(name: str, row: Row) -> int:
    x87 = _X87 if name == "x87" or uses_mmx(row) else 0
    return x87 | (_VECTOR if name == "vector" else 0) | (_AVX if "VEX." in row.encoding else 0)


def _variant(case: Case, masks: int) -> bytes:
    ymm = b"".join(case.ymm) if case.ymm is not None else bytes(256)
    return _VARIANT.pack(*case.regs, case.eflags & ~0x44000, case.mxcsr | masks, case.x87 or X87_INITIAL, ymm)


def _fixed(insn: Insn) -> Iterator[int]:
    """General registers that keep what the case says: addresses and counts."""
    yield _ESP
    name = insn.row.name
    for operand in insn.operands:
        if isinstance(operand, Memory):
            yield from (n for n in (operand.base, operand.index if not operand.vsib else -1) if n >= 0)
            if name in _BIT_TESTS:
                yield from (other.number for other in insn.operands if isinstance(other, Register))
    if name in _STRINGS and not insn.row.cpuid:
        yield from (_ECX, _ESI, _EDI)
    if name == "leave":
        yield _EBP
    if name == "xlatb":
        yield _EBX
    if "maskmov" in name:
        yield _EDI


def _free_ymm(insn: Insn) -> int:
    """Vector registers that may hold anything: all but one of addresses."""
    indexes = [operand.index for operand in insn.operands if isinstance(operand, Memory) and operand.vsib]
    return 0xFF & ~sum(1 << n for n in indexes)


def _window(insn: Insn, case: Case, size: int) -> tuple[int, int]:
    """Address and size of the memory operand, as far as it is inside DATA; the size 0 where there is none."""
    size = (size + 3) & ~3
    for operand in insn.operands:
        if not isinstance(operand, Memory) or operand.vsib:
            continue
        parts = (
            (case.regs[operand.base] if operand.base >= 0 else 0),
            (case.regs[operand.index] * operand.scale if operand.index >= 0 else 0),
        )
        offset = sum(parts) + operand.displacement & (0xFFFF if operand.address_size == 16 else 0xFFFFFFFF)
        address = offset + (DATA if operand.segment in (4, 5) else 0) & 0xFFFFFFFF
        if DATA <= address <= DATA + PAGE - 4:
            return address, min(size, DATA + PAGE - address & ~3)
    return DATA, 0


def _content(rng: random.Random, case: Case, name: str, size: int) -> bytes:
    """What the memory operand holds in one variant."""
    if name == "integer":
        return b"".join(struct.pack("<I", cases.value(rng)) for _ in range(size // 4))
    told = case.patches[0][1] if case.patches else b""
    start = rng.randrange(PAGE)
    return (told + TABLE[start : start + size])[:size]


__all__ = ["NOT_DRILLED", "SLOTS", "Drill", "answer_size", "drills", "order", "rows", "split_states"]

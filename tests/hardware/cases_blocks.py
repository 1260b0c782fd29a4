"""Random blocks of 5 to 200 instructions: integer, x87 and vector mixed, with loops, calls, faults and code that
changes itself.

A block keeps some registers as pointers, so that most of its operands can be accessed; a few cannot. Its code is made
of pieces, each some bytes with places in them that want the address of another piece.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.notation import Pattern, compile_row
from aiopyvm.isa.spec import table
from tests.hardware import cases_x87, makers, x87_values
from tests.hardware.cases import NOT_RUN, value
from tests.hardware.cases_vector import is_gather, mxcsr, registers
from tests.hardware.encode import NUMBERS, Encoder, Keeper
from tests.hardware.families import family
from tests.hardware.wire import (
    AREA,
    AREA_DATA,
    DATA,
    DEFAULT_ESP,
    MAX_FILL,
    PAGE,
    STACK,
    WHOLE_SELECTOR,
    Case,
)  # fmt: skip

_CONTROL: Final = AREA_DATA  # four control words, of which the block loads one now and then
_MODES: Final = AREA_DATA + 0x10  # and of MXCSR
_COUNTERS: Final = AREA_DATA + 0x20
_ENVIRONMENTS: Final = AREA_DATA + 0x80  # one state of the x87
_POINTERS: Final = (3, 5, 6, 7)  # EBX EBP ESI EDI
_CONDITIONS: Final = 16
# What blocks make themselves where they want it, and what almost always ends one.
# What differs from one processor to the other, or from run to run; what Linux carries out itself where the processor
# forbids it; what has done a half when it faults in the middle of a block.
_UNEVEN: Final = frozenset(
    "sgdt sidt sldt str smsw lsl popa popad pusha pushad enter rdrand rdseed rdtscp rdpid xgetbv xsave xsaveopt xsavec "
    "xrstor".split()
)
_OWN: Final = frozenset(
    "call jmp ret retf loop loope loopne jcxz jecxz enter leave popa popad popf popfd fldcw fldenv frstor fxrstor "
    "ldmxcsr xrstor hlt in out insb insd insw outsb outsd outsw int int1 int3 into bound iret iretd lds les lfs lgs "
    "lss cli sti clts invd wbinvd invlpg lgdt lidt lldt ltr lmsw rdmsr wrmsr rdpmc rsm ud0 ud1 ud2 sgdt sidt sldt "
    "str smsw lsl maskmovq maskmovdqu vmaskmovdqu vldmxcsr xsave xsaveopt xsavec".split()
) | NOT_RUN.keys() | _UNEVEN  # fmt: skip
_SELDOM: Final = frozenset(
    "div idiv aam fninit fnsave fnstenv std xlatb bt btc btr bts movsb movsw movsd cmpsb cmpsw cmpsd stosb stosw stosd "
    "lodsb lodsw lodsd scasb scasw scasd".split()
)
_RELATIVE: Final = frozenset({"rel8", "rel16", "rel32"})


@dataclass
class _Piece:
    """Bytes, and what to add to them: at an offset, the address of a piece plus a constant, relative or not."""

    code: bytes
    fixes: tuple[tuple[int, int, int, bool], ...] = ()  # offset in `code`, piece, constant, relative
    label: int = -1  # where it is what `fixes` calls a piece


@cache
def _names() -> frozenset[str]:
    return frozenset(row.name for row in table())


@cache
def patterns(neutral: bool = False) -> dict[str, list[Pattern]]:
    """The patterns that blocks are made of, by family."""
    found: dict[str, list[Pattern]] = {"integer": [], "x87": [], "vector": []}
    for row in table():
        conditional = row.name.startswith("j") or _RELATIVE & set(row.operands)
        segment = makers.SEGMENTS & set(row.operands)
        own = row.name in _OWN or (neutral and makers.differs(row))
        if not own and not conditional and not segment and not is_gather(row):
            found[family(row)].append(compile_row(row))
    return {name: listed for name, listed in found.items() if listed}


def blocks(rng: random.Random, count: int, most: int = 200, neutral: bool = False) -> Iterator[Case]:
    """Yield `count` blocks of 5 to `most` instructions. The result of `neutral` ones is the same on a processor of any
    maker: where an instruction leaves flags undefined, another one defines them."""
    for _ in range(count):
        yield _Block(rng, rng.randint(5, rng.choice((20, 60, most))), neutral).case()


def _is_neutral(code: bytes) -> bool:
    """Whether the code is one instruction and what any maker's processor does alike."""
    try:
        insn = decode(code)
    except (DecodeFault, NeedMore):
        return False
    return len(insn.code) == len(code) and not insn.row.undefined and not makers.differs(insn.row)


class _Block:
    def __init__(self, rng: random.Random, length: int, neutral: bool) -> None:
        self._rng = rng
        self._neutral = neutral
        self._left = length
        kept = rng.sample(_POINTERS, rng.randint(2, 4))
        places = ((AREA_DATA, PAGE * 2), (AREA_DATA, PAGE * 2), (DATA, PAGE))
        values = {
            register: start + (rng.randrange(size) & ~15) for register in kept for start, size in (rng.choice(places),)
        }
        self._keeper = Keeper(values, DATA)
        self._encoder = Encoder(rng, self._keeper)
        self._pieces: list[_Piece] = []
        self._functions: list[int] = []
        self._labels = 0
        self._counters = 0
        found = patterns(neutral)
        weights = [rng.choice((0, 1, 4)) if name != "integer" else rng.choice((1, 2, 4)) for name in found]
        self._families = rng.choices(list(found), weights, k=32)

    def case(self) -> Case:
        rng = self._rng
        while self._left > 0:
            self._element(0)
        self._end()
        code_at = self._start(sum(len(piece.code) for piece in self._pieces))
        regs = [value(rng) for _ in range(8)]
        for register, pointer in self._keeper.values.items():
            regs[register] = pointer
        regs[4] = DEFAULT_ESP
        fill = rng.randrange(MAX_FILL)
        flags = (
            rng.getrandbits(12) & 0x8D5
            | (0x400 if rng.random() < 0.05 else 0)
            | (0x40000 if rng.random() < 0.01 and not self._neutral else 0)
        )
        return Case(
            self._code(code_at),
            tuple(regs),  # type: ignore[arg-type]
            flags | 2,
            eip=code_at,
            segments=(0x2B, 0x2B, WHOLE_SELECTOR, 0),
            fill=fill,
            x87=cases_x87.image(rng, unmasked=0.03),
            patches=self._patches(),
            single_step=False,
            block=True,
            mxcsr=mxcsr(rng, unmasked=0.03),
            ymm=registers(rng, rng.choice(("ps", "pd", "")), fill),
        )  # fmt: skip

    # -- the layout ----------------------------------------------------------------------------------------------------

    def _start(self, size: int) -> int:
        """Where the code begins: mostly so that it is on both pages; a few run over the end of the second."""
        rng = self._rng
        if rng.random() < 0.04:
            return max(AREA, AREA_DATA - rng.randint(1, size))
        if rng.random() < 0.6:
            return max(AREA, AREA + PAGE - rng.randrange(size))
        return AREA + rng.randrange(AREA_DATA - AREA - size)

    def _code(self, start: int) -> bytes:
        addresses, at = dict[int, int](), start
        for piece in self._pieces:
            addresses[piece.label] = at
            at += len(piece.code)
        out, at = bytearray(), start
        for piece in self._pieces:
            code = bytearray(piece.code)
            for offset, label, constant, relative in piece.fixes:
                address = addresses[label] + constant - (at + offset + 4 if relative else 0)
                code[offset : offset + 4] = struct.pack("<I", address & 0xFFFFFFFF)
            out += code
            at += len(code)
        return bytes(out[: AREA_DATA - start])

    def _put(self, code: bytes, *fixes: tuple[int, int, int, bool], label: int = -1) -> None:
        self._pieces.append(_Piece(code, fixes, label))

    def _label(self) -> int:
        self._labels += 1
        return self._labels

    # -- elements ------------------------------------------------------------------------------------------------------

    def _element(self, depth: int) -> None:
        """One instruction, or something of several."""
        rng = self._rng
        chance = rng.random()
        if chance > 0.2 or depth > 2:
            self._left -= 1
            self._put(self._instruction())
            return
        self._left -= 2
        elements: tuple[Callable[[int], None], ...] = (
            self._branch, self._branch, self._loop, self._call, self._jump, self._control, self._modify, self._modify,
            self._copied, self._string, self._anything,
        )  # fmt: skip
        rng.choice(elements)(depth)

    def _instruction(self) -> bytes:
        rng = self._rng
        listed = patterns(self._neutral)[rng.choice(self._families)]
        while True:
            pattern = rng.choice(listed)
            if pattern.row.name not in _SELDOM or rng.random() < 0.1:
                code = self._encoder.encode(pattern)
                if self._neutral and pattern.row.undefined:
                    code += bytes((0x39, 0xC0 | rng.randrange(64)))  # cmp r32, r32
                return code

    def _some(self, depth: int, most: int = 5) -> None:
        for _ in range(self._rng.randint(1, most)):
            self._element(depth + 1)

    def _branch(self, depth: int) -> None:
        """A conditional jump over some elements."""
        label = self._label()
        self._put(bytes((0x0F, 0x80 | self._rng.randrange(_CONDITIONS))) + bytes(4), (2, label, 0, True))
        self._some(depth)
        self._put(b"", label=label)

    def _loop(self, depth: int) -> None:
        """Some elements a few times; the count is in memory."""
        if depth > 1 or self._counters >= 8:
            return self._branch(depth)
        counter = struct.pack("<I", _COUNTERS + 4 * self._counters)
        self._counters += 1
        self._put(b"\xc7\x05" + counter + struct.pack("<I", self._rng.randint(2, 9)))
        label = self._label()
        self._put(b"", label=label)
        self._some(depth, 6)
        self._put(b"\xff\x0d" + counter)
        self._put(b"\x0f\x85" + bytes(4), (2, label, 0, True))
        return None

    def _call(self, depth: int) -> None:
        """A call of a function that stands behind the next jump."""
        rng = self._rng
        function, after = self._label(), self._label()
        if self._functions and rng.random() < 0.5:
            self._put(b"\xe8" + bytes(4), (1, rng.choice(self._functions), 0, True))
            return
        self._put(b"\xe9" + bytes(4), (1, after, 0, True))
        self._put(b"", label=function)
        for _ in range(rng.randint(1, 4)):
            self._put(self._quiet())
        self._put(rng.choice((b"\xc3", b"\xc3", b"\xc2\x04\x00", b"\xc2\x00\x00")))
        self._put(b"", label=after)
        self._functions.append(function)
        self._put(b"\xe8" + bytes(4), (1, function, 0, True))

    def _quiet(self) -> bytes:
        """An instruction that leaves the stack pointer."""
        while True:
            code = self._instruction()
            if not {0x9C, 0x60, 0x68, 0x6A, 0xFF, 0x8F, *range(0x50, 0x60)} & set(code[:2]):
                return code

    def _jump(self, depth: int) -> None:
        """A jump through a register, through memory, or by a return."""
        rng = self._rng
        label = self._label()
        kind = rng.randrange(3)
        if kind == 0:
            self._put(b"\xb8" + bytes(4), (1, label, 0, False))
            self._put(b"\xff\xe0")
        elif kind == 1:
            self._put(b"\x68" + bytes(4), (1, label, 0, False))
            self._put(b"\xc3")
        else:
            slot = struct.pack("<I", AREA_DATA + 0x78)
            self._put(b"\xc7\x05" + slot + bytes(4), (6, label, 0, False))
            self._put(b"\xff\x25" + slot)
        self._put(self._instruction() if rng.random() < 0.5 else rng.randbytes(rng.randrange(9)))
        self._put(b"", label=label)

    def _control(self, depth: int) -> None:
        """The control word of the x87, or its whole state, or MXCSR."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.4 and "ldmxcsr" in _names():
            self._put(b"\x0f\xae\x15" + struct.pack("<I", _MODES + 4 * rng.randrange(4)))
        elif chance < 0.85:
            self._put(b"\xd9\x2d" + struct.pack("<I", _CONTROL + 2 * rng.randrange(4)))
        else:
            self._put(rng.choice((b"\xdd\x25", b"\xd9\x25")) + struct.pack("<I", _ENVIRONMENTS))

    def _modify(self, depth: int) -> None:
        """A store into code that is executed later, or was before in a loop."""
        rng = self._rng
        victim = self._label()
        new = self._short()
        old = next((code for code in (self._short() for _ in range(12)) if len(code) == len(new)), b"\x90" * len(new))
        kind = rng.randrange(3)
        if kind == 0:  # one instruction becomes another
            padded = new + b"\x90" * (8 - len(new))
            stores = b"\xc7\x05" + bytes(4) + padded[:4], b"\xc7\x05" + bytes(4) + padded[4:]
            for offset, store in zip((0, 4), stores, strict=True):
                self._put(store, (2, victim, offset, False))
            old = old + b"\x90" * (8 - len(old))
        elif kind == 1:  # a constant changes each time
            xor = b"\x2d" if self._neutral else b"\x35"
            old = rng.choice((b"\xb8", b"\x05", xor, b"\xba", b"\x68\0\0\0\0\x5a")) + rng.randbytes(4)
            old = old if old[0] != 0x68 else b"\x68" + rng.randbytes(4) + b"\x5a"
            self._put(b"\x80\x35" + bytes(4) + rng.randbytes(1), (2, victim, rng.randint(1, 4), False))
        else:  # a byte of any instruction
            if self._neutral and not _is_neutral(new[:1] + old[1:]):
                new = old
            self._put(b"\xc6\x05" + bytes(4) + new[:1], (2, victim, 0, False))
        near = rng.random()
        if near < 0.6:
            self._some(depth, 2 if near < 0.3 else 5)
        self._put(b"", label=victim)
        self._put(old)

    def _short(self) -> bytes:
        """An instruction of at most eight bytes."""
        while True:
            code = self._instruction()
            if len(code) <= 8:
                return code

    def _copied(self, depth: int) -> None:
        """Code that REP MOVSB copies over other code."""
        rng = self._rng
        source, target, after = self._label(), self._label(), self._label()
        code = b"".join(self._quiet() for _ in range(rng.randint(1, 3)))
        self._put(b"\x56\x57")  # push esi; push edi
        self._put(b"\xbe" + bytes(4), (1, source, 0, False))
        self._put(b"\xbf" + bytes(4), (1, target, 0, False))
        self._put(b"\xb9" + struct.pack("<I", len(code)) + b"\xfc\xf3\xa4\x5f\x5e")
        self._put(b"\xe9" + bytes(4), (1, after, 0, True))
        self._put(b"", label=source)
        self._put(code)
        self._put(b"", label=after)
        if rng.random() < 0.5:
            self._some(depth, 3)
        self._put(b"", label=target)
        self._put(b"\x90" * len(code))

    def _string(self, depth: int) -> None:
        """A repeated string instruction over data."""
        rng = self._rng
        size = rng.choice((1, 2, 4))
        count = rng.choice((0, 1, 3, 17, rng.randrange(120)))
        self._put(b"\x56\x57")
        for opcode in (b"\xbe", b"\xbf"):
            self._put(opcode + struct.pack("<I", self._encoder.place(count * size or 1)))
        self._put(b"\xb9" + struct.pack("<I", count))
        operation = rng.choice((0xA4, 0xA6, 0xAA, 0xAC, 0xAE)) | (size > 1)
        self._put((b"\x66" if size == 2 else b"") + rng.choice((b"\xf3", b"\xf2", b"\xf3")) + bytes((operation,)))
        self._put(b"\xfc\x5f\x5e")

    def _anything(self, depth: int) -> None:
        """Any row of the table, most of which end the block, or some bytes."""
        rng = self._rng
        if rng.random() < 0.9:
            return self._branch(depth)
        rows = [row for row in table() if row.name not in NOT_RUN.keys() | _UNEVEN]
        row = rng.choice(rows)
        if not (self._neutral and (row.undefined or makers.differs(row))):
            self._put(self._encoder.encode(compile_row(row)))
        return None

    def _end(self) -> None:
        """How the code ends: with the INT3 behind it, mostly."""
        chance = self._rng.random()
        if chance < 0.05:
            self._put(self._rng.choice((b"\xcd\x80", b"\x0f\x0b", b"\xf4", b"\xe9\0\0\0\x10", b"\xce")))

    # -- what memory holds ---------------------------------------------------------------------------------------------

    def _patches(self) -> tuple[tuple[int, bytes], ...]:
        rng = self._rng
        words = b"".join(struct.pack("<H", cases_x87.control(rng, unmasked=0.04)) for _ in range(4))
        numbers = b""
        while len(numbers) < NUMBERS[1] - NUMBERS[0] - 16:
            numbers += x87_values.double(rng).to_bytes(8, "little") + x87_values.single(rng).to_bytes(4, "little")
            numbers += x87_values.extended(rng).to_bytes(10, "little") + bytes(2)
        return (
            (_CONTROL, words),
            (_MODES, b"".join(struct.pack("<I", mxcsr(rng, unmasked=0.03)) for _ in range(4))),
            (_ENVIRONMENTS, cases_x87.image(rng, unmasked=0.04)),
            (NUMBERS[0], numbers),
            (STACK + 0x7C0, rng.randbytes(64)),
        )

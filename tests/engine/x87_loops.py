"""Random loops of x87 instructions whose stack is in order, as compilers make them: what regions take in.

ESI points to special and ordinary numbers of all kinds, EDI to where results go, near the end of what may be written;
EBX to control words that mask all exceptions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from aiopyvm.engine.protocol import Core
from aiopyvm.isa.assemble import assemble
from tests.engine.test_code import BASE, machine
from tests.hardware import x87_values

DATA: Final = 0x11000
RESULTS: Final = DATA + 0x800
CONTROLS: Final = DATA + 0xC00
_SLOTS: Final = 24  # numbers in memory, 16 bytes each
_ARITHMETIC: Final = ("add", "sub", "subr", "mul", "div", "divr")
_CONDITIONS: Final = ("b", "e", "be", "u", "nb", "ne", "nbe", "nu")
_JUMPS: Final = ("jb", "je", "jbe", "jp", "jae", "jne", "ja", "jnp")


class _Writer:
    """Writes instructions, `depth` registers being in use where it is."""

    def __init__(self, rng: random.Random, depth: int) -> None:
        self.rng = rng
        self.depth = depth
        self.labels = 0

    def one(self) -> str:
        """One instruction, or a few that belong together."""
        ways: list[Callable[[], str]] = [self._control, self._push] if self.depth < 7 else []
        if self.depth:
            ways += [self._arithmetic, self._memory, self._compare, self._store, self._unary, self._to_memory]
        if self.depth > 1:
            ways += [self._popping, self._exchange, self._popping]
        return self.rng.choice(ways)()

    def _at(self, size: str, register: str = "esi") -> str:
        return f"{size} ptr [{register} + {16 * self.rng.randrange(_SLOTS) + self.rng.choice((0, 0, 0, 1))}]"

    def _other(self) -> int:
        return self.rng.randrange(self.depth)

    def _push(self) -> str:
        sources = [f"fld {self._at(size)}" for size in ("dword", "qword", "tbyte")]
        sources += [f"fild {self._at(size)}" for size in ("word", "dword", "qword")]
        sources += self.rng.choices(("fld1", "fldz", "fldpi", "fldl2e", "fldl2t", "fldln2"), k=2)
        if self.depth:
            sources += [f"fld st({self._other()})"] * 2
        self.depth += 1
        return self.rng.choice(sources)

    def _arithmetic(self) -> str:
        name, other = self.rng.choice(_ARITHMETIC), self._other()
        return f"f{name} st({other}), st(0)" if self.rng.random() < 0.4 else f"f{name} st(0), st({other})"

    def _memory(self) -> str:
        name = self.rng.choice(_ARITHMETIC)
        if self.rng.random() < 0.3:
            return f"fi{name} {self._at(self.rng.choice(('word', 'dword')))}"
        return f"f{name} {self._at(self.rng.choice(('dword', 'qword')))}"

    def _popping(self) -> str:
        other = self.rng.randrange(1, self.depth)
        self.depth -= 1
        return f"f{self.rng.choice(_ARITHMETIC)}p st({other}), st(0)"

    def _exchange(self) -> str:
        other = self._other()
        return self.rng.choice((f"fxch st({other})", f"fst st({other})", self._move(other)))

    def _move(self, other: int) -> str:
        return f"fcmov{self.rng.choice(_CONDITIONS)} st(0), st({other})"

    def _unary(self) -> str:
        if self.depth < 7 and self.rng.random() < 0.1:
            self.depth += 1
            return "fxtract"
        ways = ["fchs", "fabs", "fsqrt", "frndint", "fnop", "fxam; fnstsw ax; or edx, eax"]
        return self.rng.choice([*ways, "fscale"] if self.depth > 1 else ways)

    def _compare(self) -> str:
        kind = self.rng.randrange(6)
        if kind == 0:
            return f"{self.rng.choice(('fcom', 'fucom'))} st({self._other()})"
        if kind == 1:
            return f"fcom {self._at(self.rng.choice(('dword', 'qword')))}; fnstsw ax; sahf; {self._skip()}"
        if kind == 2:
            return f"ficom {self._at(self.rng.choice(('word', 'dword')))}; fnstsw {self._at('word', 'edi')}"
        if kind == 3:
            return "ftst; fnstsw ax; xor edx, eax"
        name, other = self.rng.choice(("fcomi", "fucomi")), self._other()
        if kind == 4 and self.depth > 1:
            self.depth -= 1
            name += "p"
        return f"{name} st(0), st({other}); {self._skip()}"

    def _skip(self) -> str:
        self.labels += 1
        label = f"over{self.labels}"
        return f"{self.rng.choice(_JUMPS)} {label}; add edx, {self.labels}; {label}:"

    def _store(self) -> str:
        if self.rng.random() < 0.4:
            self.depth -= 1
            sizes = [("fstp", "dword"), ("fstp", "qword"), ("fstp", "tbyte"), ("fistp", "dword"), ("fistp", "qword")]
            sizes.append(("fisttp", self.rng.choice(("word", "dword", "qword"))))
        else:
            sizes = [("fst", "dword"), ("fst", "qword"), ("fist", "word"), ("fist", "dword"), ("fst", "qword")]
        name, size = self.rng.choice(sizes)
        return f"{name} {self._at(size, 'edi')}"

    def _to_memory(self) -> str:
        return self.rng.choice((f"mov eax, {self._at('dword')}", f"add {self._at('dword', 'edi')}, ecx", "fnstsw ax"))

    def _control(self) -> str:
        return f"fldcw word ptr [ebx + {2 * self.rng.randrange(12)}]; fnstcw {self._at('word', 'edi')}"


def loop(rng: random.Random) -> Callable[[], Core]:
    """What makes a core about to run a random loop."""
    depth = rng.randrange(0, 5)
    writer = _Writer(rng, depth)
    body = [writer.one() for _ in range(rng.randrange(2, 14))]
    while writer.depth < depth:
        body.append(writer._push())
    while writer.depth > depth:
        writer.depth -= 1
        body.append("fstp st(0)")
    code = assemble(f"again: {'; '.join(body)}; dec ecx; jnz again; int 0x80", BASE)
    data, control, status = _data(rng), rng.choice((0x37F, 0x37F, 0x27F, 0xF7F, 0x67F, 0x47F)), rng.getrandbits(16)
    registers = [x87_values.extended(rng) if rng.random() < 0.5 else x87_values.normal(rng) for _ in range(8)]
    top, passes = rng.choice(((8 - depth) & 7, rng.randrange(8))), rng.randrange(2, 12)
    near_end = rng.random() < 0.15

    def make() -> Core:
        core = machine(code, pages=3)
        core.memory.write(DATA, data)
        cpu = core.cpu
        cpu.esi, cpu.edi, cpu.ebx, cpu.ecx = DATA, RESULTS, CONTROLS, passes
        if near_end:
            core.memory.map(0x20000, 0x2000, 3)
            core.memory.protect(0x21000, 0x1000, 1)
            cpu.edi = 0x21000 - 16 * _SLOTS // 2
        cpu.fcw, cpu.fsw, cpu.ftop = control, status & 0x477F, top
        cpu.fvalid = sum(1 << (top + n & 7) for n in range(depth))
        for register, value in zip(cpu.fpr, registers, strict=True):
            register[:10] = list(value.to_bytes(10, "little"))
        return core

    return make


def _data(rng: random.Random) -> bytes:
    """Numbers of all kinds, one for each slot, and control words."""
    kinds: tuple[tuple[Callable[[random.Random], int], int], ...] = (
        (x87_values.single, 4), (x87_values.double, 8), (x87_values.extended, 10), (x87_values.normal, 10),
        (lambda r: r.getrandbits(64) >> r.randrange(64), 8),
    )  # fmt: skip
    image = bytearray(0x1000)
    for slot in range(_SLOTS + 1):
        make, size = rng.choice(kinds)
        image[16 * slot : 16 * slot + size] = make(rng).to_bytes(size, "little")
    for n in range(12):
        word = 0x7F | rng.choice((0, 2, 3, 3)) << 8 | rng.randrange(4) << 10
        image[CONTROLS - DATA + 2 * n : CONTROLS - DATA + 2 * n + 2] = word.to_bytes(2, "little")
    return bytes(image)

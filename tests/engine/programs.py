"""Random programs for comparing tiers: instructions that decode, over registers that often point into data."""

from __future__ import annotations

import random
from dataclasses import dataclass

from aiopyvm.engine.protocol import Core, Exit
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.state import GPR32, CpuState
from aiopyvm.mem.space import AddressSpace

CODE = 0x1000
DATA = 0x8000
DATA_SIZE = 0x3000
_VALUES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class Program:
    """Code at CODE, registers, flags, and the data area's seed."""

    code: bytes
    registers: tuple[int, ...]
    eflags: int
    seed: int

    def core(self) -> Core:
        """A fresh machine: code, a data area of three pages (the last one read-only), nothing else."""
        space = AddressSpace()
        space.map(CODE, 0x2000, 7)
        space.write(CODE, self.code)
        space.map(DATA, DATA_SIZE, 3)
        space.write(DATA, random.Random(self.seed).randbytes(DATA_SIZE))
        space.protect(DATA + 0x2000, 0x1000, 1)
        cpu = CpuState()
        for name, value in zip(GPR32, self.registers, strict=True):
            setattr(cpu, name, value)
        cpu.eflags = self.eflags
        cpu.eip = CODE
        return Core(cpu, space, end_of_code=CODE + len(self.code))


@dataclass(frozen=True)
class Outcome:
    """Everything that must be the same on every tier."""

    exit: Exit
    cpu: bytes
    memory: bytes


def outcome(core: Core, exit_: Exit) -> Outcome:
    """The machine as it is now."""
    memory = core.memory.peek(CODE, 0x2000) + core.memory.peek(DATA, DATA_SIZE)
    return Outcome(exit_, bytes(core.cpu), memory)


def instruction(random_: random.Random) -> bytes:
    """The bytes of some instruction of the table."""
    while True:
        prefix = b"\x66" if random_.random() < 0.15 else b""
        code = prefix + (b"\x0f" if random_.random() < 0.2 else b"") + random_.randbytes(12)
        try:
            return decode(code).code
        except (DecodeFault, NeedMore):
            continue


def program(random_: random.Random, length: int = 12, loop: bool = False, itself: bool = False) -> Program:
    """A program of `length` random instructions.

    With `loop`, they are run 40 times (EDI counts; the body may spoil that); with `itself`, some registers point into
    the code.
    """
    code = b"".join(instruction(random_) for _ in range(length))
    if loop and len(code) < 120:
        code += b"\x4f\x75" + bytes([(-len(code) - 3) & 0xFF])  # dec edi; jnz CODE
    registers = [
        random_.choice(_VALUES) if random_.random() < 0.3 else DATA + random_.randrange(DATA_SIZE) for _ in GPR32
    ]
    if itself:
        for index in random_.sample(range(8), 3):
            registers[index] = CODE + random_.randrange(len(code) + 4)
    if loop:
        registers[7] = 40
    return Program(
        code,
        tuple(registers),
        random_.choice((0x202, 0x202 | random_.getrandbits(12) & 0xCD5)),
        random_.getrandbits(32),
    )


def run(engine: object, case: Program, slices: list[int]) -> list[Outcome]:
    """Run a program in slices of at most `slices[i]` instructions; the outcome after each, until it ends."""
    core = case.core()
    outcomes = []
    for budget in slices:
        exit_ = engine.run(core, budget)  # type: ignore[attr-defined]
        outcomes.append(outcome(core, exit_))
        if exit_.reason:
            break
    core.memory.close()
    return outcomes

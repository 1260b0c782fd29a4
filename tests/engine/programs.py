"""Random programs for comparing tiers: instructions that decode, over registers that often point into data."""

from __future__ import annotations

import random
from dataclasses import dataclass

from aiopyvm.engine.protocol import Core, Exit
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.state import AC, GPR32, CpuState
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
    x87: int = 0  # the control word, where the x87 registers are filled too
    rare: bool = False  # alignment checks, segments with bases and limits

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
        random_ = random.Random(self.seed)
        if self.x87:
            cpu.fcw = self.x87
            cpu.ftop = random_.randrange(8)
            cpu.fvalid = random_.getrandbits(8) | random_.choice((0, 0xFF))
            for register in cpu.fpr:
                register[:10] = list(random_.choice((_double, _any_float))(random_))
        if self.rare:
            _make_rare(cpu, random_)
        return Core(cpu, space, end_of_code=CODE + len(self.code))


_ACCESSES = (0, 0xC0F300, 0xC0F300, 0xC0F100, 0xC0F700, 0x40F300, 0xC0FB00, 0xC0F900)  # of segments, as LAR has them


def _make_rare(cpu: CpuState, random_: random.Random) -> None:
    """Alignment checking, or a few segments that are not flat, or both."""
    if random_.random() < 0.4:
        cpu.system_flags |= AC
        if random_.random() < 0.5:
            return
    for name in random_.sample(("es", "ss", "ds", "ds", "fs", "gs"), random_.randrange(1, 4)):
        setattr(cpu, f"{name}_base", random_.choice((0, 0, 1, 0x10, 0x1000, 0xFFFFF000)))
        setattr(cpu, f"{name}_limit", random_.choice((0xFFFFFFFF, 0xFFFFFFFF, DATA + 0x800, DATA + 0xFFF, CODE)))
        setattr(cpu, f"{name}_access", random_.choice(_ACCESSES))


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


def _double(random_: random.Random) -> bytes:
    """An ordinary number as 80 bits."""
    exponent = 16383 + random_.randrange(-70, 70) | random_.getrandbits(1) << 15
    return (1 << 63 | random_.getrandbits(63)).to_bytes(8, "little") + exponent.to_bytes(2, "little")


def _any_float(random_: random.Random) -> bytes:
    """80 bits, special ones often."""
    exponent = random_.choice((0, 1, 0x3FFF, 0x7FFE, 0x7FFF)) | random_.getrandbits(1) << 15
    significand = random_.choice((0, 1 << 63, 3 << 62, 5 << 61, random_.getrandbits(64)))
    return significand.to_bytes(8, "little") + exponent.to_bytes(2, "little")


_FLAG_CODES = [
    bytes.fromhex(code)
    for code in (
        "f5 f8 f9 9e 9f d6 40 4b fec4 11d8 19da 10fc 18c4 d0d4 d1d8 d1d3 d3e0 d2ec c1d009 c0dc03 0fa4d807 "
        "0fadc3 0f92c1 0f9fc4 0f42c3 0fa3d0 0fbbd0 0fbcc3 0fafc3 27 37 d40a 39d8 85c0 f7d8 f7e3 9c58 7201f5 "
        "7000 e301f9 0fb1d8"
    ).split()
]


def flag_program(random_: random.Random, length: int, loop: bool) -> Program:
    """As `program`, of instructions that read and write flags, one after another."""
    made = program(random_, 1, loop)
    code = b"".join(random_.choice(_FLAG_CODES) for _ in range(length))
    if loop and len(code) < 120:
        code += b"\x4f\x75" + bytes([(-len(code) - 3) & 0xFF])
    return Program(code, made.registers, made.eflags, made.seed)


def x87_instruction(random_: random.Random) -> bytes:
    """The bytes of some x87 instruction, or sometimes of any."""
    while True:
        if random_.random() < 0.2:
            return instruction(random_)
        if random_.random() < 0.5:
            code = bytes([random_.randrange(0xD8, 0xE0), random_.randrange(0xC0, 0x100)])
        else:
            code = bytes([random_.randrange(0xD8, 0xE0)]) + random_.randbytes(8)
        try:
            return decode(code).code
        except (DecodeFault, NeedMore):
            continue


def x87_program(random_: random.Random, length: int, loop: bool) -> Program:
    """As `program`, x87 instructions mostly; in a few programs exceptions are unmasked."""
    made = program(random_, 1, loop)
    code = b"".join(x87_instruction(random_) for _ in range(length))
    if loop and len(code) < 120:
        code += b"\x4f\x75" + bytes([(-len(code) - 3) & 0xFF])
    control = random_.choice((0x37F, 0x37F, 0x27F, 0xC7F, 0x340, 0x372, 0xF72))
    return Program(code, made.registers, made.eflags, made.seed, control)


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

"""Random programs of loops, branches, calls and memory accesses, which end: what regions are made of."""

from __future__ import annotations

import random

from aiopyvm.engine.protocol import Core
from aiopyvm.isa.assemble import assemble
from tests.engine.test_code import BASE, machine

_FREE = ("eax", "ebx", "edx", "ebp")
_BYTES = ("al", "bl", "dl", "ah", "bh", "dh")
_CONDITIONS = ("o", "no", "b", "ae", "z", "nz", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
_BINARY = ("add", "sub", "adc", "sbb", "and", "or", "xor", "cmp", "test")
_UNARY = ("inc", "dec", "neg", "not")
_SHIFT = ("shl", "shr", "sar", "rol", "ror", "rcl", "rcr")


def _memory(random_: random.Random, size: str = "dword") -> str:
    base = random_.choice(("edi", "esi", "edi + ecx", "esi + ecx * 4", "edi + ecx * 2"))
    return f"{size} ptr [{base} + {random_.choice((0, 1, 2, 3, 4, 8, 12, 0x1FE, -4, -7))}]"


def _instruction(random_: random.Random) -> str:
    x, y, byte = random_.choice(_FREE), random_.choice(_FREE), random_.choice(_BYTES)
    constant = random_.choice((0, 1, 2, 31, 0x7F, 0x80, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, random_.getrandbits(32)))
    condition = random_.choice(_CONDITIONS)
    return random_.choice((
        f"{random_.choice(_BINARY)} {x}, {y}", f"{random_.choice(_BINARY)} {x}, {constant}",
        f"{random_.choice(_BINARY)} {_memory(random_)}, {x}", f"{random_.choice(_UNARY)} {x}",
        f"{random_.choice(_UNARY)} {_memory(random_)}", f"{random_.choice(_SHIFT)} {x}, {random_.randrange(32)}",
        f"{random_.choice(_SHIFT)} {x}, cl", f"{random_.choice(_SHIFT)} {_memory(random_)}, cl",
        f"mov {x}, {_memory(random_)}", f"mov {_memory(random_)}, {x}", f"add {x}, {_memory(random_)}",
        f"mov {byte}, {_memory(random_, 'byte')}", f"add {_memory(random_, 'byte')}, {byte}",
        f"movzx {x}, {_memory(random_, 'word')}", f"lea {x}, [{y} + {x} * 2 + 5]", f"imul {x}, {y}, 77", f"mul {y}",
        f"set{condition} {byte}", f"cmov{condition} {x}, {y}", f"bt {x}, {random_.randrange(32)}", f"bswap {x}",
        f"xadd {x}, {y}", f"cmpxchg {_memory(random_)}, {x}", f"shld {x}, {y}, cl", "cmc", "stc", "cld", "std", "lahf",
        "sahf", f"push {x}; pop {y}", "pushfd; pop edx", f"bsf {x}, {y}", "cdq", "lodsb; dec esi",
        "stosd; mov edi, 0x11ff0", f"push ecx; mov ecx, {random_.randrange(30)}; rep movsb; pop ecx; mov edi, 0x11ff0",
    ))  # fmt: skip


def _body(random_: random.Random, name: str, functions: list[str]) -> list[str]:
    lines = []
    for number in range(random_.randrange(3, 12)):
        kind = random_.random()
        if kind < 0.2:
            lines.append(f"j{random_.choice(_CONDITIONS)} {name}{number}; {_instruction(random_)}; {name}{number}:")
        elif kind < 0.3 and functions:
            lines.append(f"call {random_.choice(functions)}")
        elif kind < 0.36:
            inner = _instruction(random_).replace("eax", "edx")
            lines.append(f"mov eax, 5; {name}{number}: {inner}; dec eax; jnz {name}{number}")
        else:
            lines.append(_instruction(random_))
    return lines


def branching(seed: int) -> Core:
    """A core about to run a program at BASE that ends in INT 0x80, unless it faults; its data are around 0x12000."""
    random_ = random.Random(seed)
    functions = [f"f{n}" for n in range(random_.randrange(3))]
    lines = ["mov ecx, 40", "again:", "mov edi, 0x11ff0", "mov esi, 0x12ffc", *_body(random_, "m", functions)]
    lines += ["dec ecx", "jnz again", "int 0x80"]
    for name in functions:
        lines += [f"{name}:", *_body(random_, name + "x", []), "ret"]
    core = machine(assemble("\n".join(lines), BASE), pages=6)
    core.memory.write(0x11000, random_.randbytes(0x3000))
    core.memory.protect(0x13000, 4096, random_.choice((0, 1, 3, 3)))
    core.cpu.esp = 0x15800
    core.cpu.eflags = random_.getrandbits(32) & 0x8D5
    for name in _FREE:
        setattr(core.cpu, name, random_.getrandbits(32))
    return core

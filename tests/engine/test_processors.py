"""Every engine executes what its processor has, and no more, and tells of it what CPUID tells."""

from __future__ import annotations

import pytest

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.cpuid import EXTENDED, Processor
from aiopyvm.isa.processors import PROCESSORS
from aiopyvm.isa.state import CpuState
from aiopyvm.isa.vectors import UD
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import engine_of

CODE = 0x1000
ROUNDS = 50
TIERS = ("evaluator", "cold", "warm", "native", "hot", "guarded")
# One instruction of each feature or so, and the first processor that has it.
FIRST = {
    "bswap edx": "i486",
    "fabs": "i486",
    "cmove edx, ebx": "pentium3",
    "movd mm0, edx": "pentium3",
    "addps xmm0, xmm1": "pentium3",
    "nop [edx]": "pentium3",
    "pxor xmm0, xmm1": "pentium4",
    "pshufb xmm0, xmm1": "x86-64-v2-32",
    "popcnt edx, ebx": "x86-64-v2-32",
    "tzcnt edx, ebx": "x86-64-v3-32",
    "mulx eax, edx, ebx": "x86-64-v3-32",
    "aesenc xmm0, xmm1": "x86-64-v3-32",
    "adox edx, ebx": "max",
}
FALLS_BACK = {"tzcnt edx, ebx"}  # to an older instruction, whose prefix is ignored


def run(tier: str, processor: Processor, code: bytes, **registers: int) -> tuple[Exit, CpuState]:
    """Execute `code` up to its end."""
    space = AddressSpace()
    space.map(CODE, 0x1000, 7)
    space.write(CODE, code)
    cpu = CpuState()
    cpu.eip = CODE
    for name, value in registers.items():
        setattr(cpu, name, value)
    core = Core(cpu, space, end_of_code=CODE + len(code), processor=processor)
    return engine_of(tier, processor.allowed).run(core, 10_000), cpu


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("tier", TIERS)
def test_instructions_that_a_processor_lacks_are_undefined(tier: str, name: str) -> None:
    """In a loop that is hot before it comes to the instruction, and in straight code."""
    processor, order = PROCESSORS[name], list(PROCESSORS)
    for text, first in FIRST.items():
        there = order.index(first) <= order.index(name) or text in FALLS_BACK
        head = assemble(f"again: add eax, ecx; dec ecx; jnz again; {text}; nop", CODE)
        exit_, cpu = run(tier, processor, head, ecx=ROUNDS, ebx=6)
        if there:
            assert exit_.reason == ExitReason.END_OF_CODE, text
            assert cpu.instructions == 3 * ROUNDS + 2
        else:
            assert (exit_.reason, exit_.vector) == (ExitReason.FAULT, UD), text
            assert cpu.eip == CODE + len(assemble("again: add eax, ecx; dec ecx; jnz again", CODE))
            assert cpu.instructions == 3 * ROUNDS


@pytest.mark.parametrize("tier", TIERS)
def test_hot_code_is_that_of_the_processor(tier: str) -> None:
    """F3 0F BD is LZCNT, or BSR with a prefix: in one process, with one code, for two processors."""
    code = assemble(f"mov ecx, {ROUNDS}; again: lzcnt edx, ebx; add eax, edx; dec ecx; jnz again", CODE)
    for name, result in (("pentium4", 4), ("max", 27), ("x86-64-v2-32", 4), ("x86-64-v3-32", 27)):
        exit_, cpu = run(tier, PROCESSORS[name], code, ebx=0x10)
        assert exit_.reason == ExitReason.END_OF_CODE
        assert (cpu.edx, cpu.eax) == (result, ROUNDS * result), name


LEAVES = (*range(10), 13, *range(EXTENDED, EXTENDED + 10), 0x40000000, 0xFFFFFFFF)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("tier", ["evaluator", "cold", "native"])
def test_cpuid(tier: str, name: str) -> None:
    processor = PROCESSORS[name]
    code = assemble("cpuid")
    for leaf in LEAVES:
        for subleaf in (0, 1, 4, 0xFFFFFFFF):
            _, cpu = run(tier, processor, code, eax=leaf, ecx=subleaf)
            assert (cpu.eax, cpu.ebx, cpu.ecx, cpu.edx) == processor.cpuid(leaf, subleaf), (hex(leaf), subleaf)

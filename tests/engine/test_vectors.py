"""Vector registers, their operations and MXCSR: the same on every engine, wherever a run is cut."""

from __future__ import annotations

import itertools
import random
import struct

import pytest

from aiopyvm.engine.protocol import Core, Engine
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from tests.engine.engines import ENGINES, engine_of
from tests.engine.test_code import BASE, machine

DATA = BASE + 0x1000
VALUES = (
    struct.pack("<4f2d", 1.5, -0.0, 1e-40, 3.25e38, 1 / 3, 2.0**-1060) + bytes(range(16)) + b"\xff" * 8 + b"\x80" * 8
)
PROGRAM = f"""
    mov ecx, 300
    mov ebx, {DATA}
    movups xmm0, xmmword ptr [ebx]
    movaps xmm1, xmmword ptr [ebx + 16]
    movdqa xmm6, xmmword ptr [ebx + 32]
    movdqu xmm7, xmmword ptr [ebx + 41]
again:
    paddd xmm6, xmm7
    psubw xmm6, xmmword ptr [ebx + 48]
    addps xmm2, xmm0
    addsd xmm3, qword ptr [ebx + 16]
    mulpd xmm5, xmm1
    divss xmm4, dword ptr [ebx + 4]
    pxor xmm7, xmm5
    pcmpeqb xmm7, xmm6
    movdqa xmmword ptr [ebx + 64], xmm7
    paddb xmm7, xmmword ptr [ebx + 64]
    movupd xmmword ptr [ebx + 81], xmm2
    dec ecx
    jnz again
    hlt
"""


def prepared(program: str) -> Core:
    core = machine(assemble(program, BASE))
    core.memory.write(DATA, VALUES)
    for number in range(2, 6):
        setattr(core.cpu, f"ymm{number}", random.Random(number).getrandbits(256))
    return core


def outcome(engine: Engine, slices: itertools.repeat[int], program: str = PROGRAM) -> tuple[bytes, bytes]:
    """The state and the data when the program is over."""
    core = prepared(program)
    while engine.run(core, next(slices)).vector != 13:
        pass
    return bytes(core.cpu), core.memory.read(DATA, 128)


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("budget", [1_000_000, 61, 7])
def test_engines_agree(tier: str, budget: int) -> None:
    expected = outcome(PythonEngine("evaluator"), itertools.repeat(1_000_000))
    engine = engine_of(tier)
    assert outcome(engine, itertools.repeat(budget)) == expected
    if tier in ("hot", "guarded"):
        assert engine.statistics()["regions_failed"] == 0
        assert engine.statistics()["instructions_hot"] or budget < 61


# What has a way of its own in an engine: masks and flags from lanes, moves by bytes, the host's instructions, MM
# registers and what they do to the x87's stack.
INTEGERS = f"""
    mov ecx, 200
    mov ebx, {DATA}
    movdqu xmm0, xmmword ptr [ebx]
    movdqa xmm1, xmmword ptr [ebx + 32]
    movdqu xmm2, xmmword ptr [ebx + 41]
    fldpi
again:
    movd mm1, ecx
    punpcklbw mm1, mm1
    paddusb mm2, mm1
    pshufb mm2, qword ptr [ebx + 32]
    movq2dq xmm3, mm2
    pshufb xmm2, xmm1
    aesenc xmm2, xmm0
    pclmulqdq xmm3, xmm2, 0x10
    sha256rnds2 xmm3, xmm1
    pcmpistrm xmm3, xmmword ptr [ebx + 5], 0x4c
    paddd xmm0, xmm3
    pcmpgtb xmm3, xmm2
    pmovmskb eax, xmm3
    mov edx, dword ptr [ebx + 64]
    movd xmm5, edx
    mov edx, ecx
    pxor xmm5, xmm2
    psrlw xmm2, 3
    movd xmm4, ecx
    pslld xmm1, xmm4
    pminuw xmm1, xmm2
    palignr xmm1, xmm0, 5
    packuswb xmm3, xmm1
    ptest xmm3, xmm0
    sbb edx, eax
    pinsrb xmm1, edx, 3
    mpsadbw xmm2, xmm1, 6
    movq qword ptr [ebx + 64], mm2
    dec ecx
    jnz again
    emms
    hlt
"""


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("budget", [1_000_000, 61, 7])
def test_engines_agree_on_integers(tier: str, budget: int) -> None:
    expected = outcome(PythonEngine("evaluator"), itertools.repeat(1_000_000), INTEGERS)
    assert outcome(engine_of(tier), itertools.repeat(budget), INTEGERS) == expected


# Loads and stores of lanes: alone, into halves and zeros, of what was just stored, used as integers too.
LANES = f"""
    mov ecx, 200
    mov ebx, {DATA}
    movupd xmm0, xmmword ptr [ebx]
again:
    movq xmm1, qword ptr [ebx + 5]
    movhpd xmm1, qword ptr [ebx + 24]
    movlpd xmm0, qword ptr [ebx + 16]
    movhps xmm0, qword ptr [ebx + 33]
    mulpd xmm1, xmm0
    movlpd qword ptr [ebx + 80], xmm1
    movhpd qword ptr [ebx + 91], xmm1
    movsd xmm2, qword ptr [ebx + 80]
    movss xmm3, dword ptr [ebx + 4]
    addsd xmm2, qword ptr [ebx + 24]
    subss xmm3, dword ptr [ebx + 8]
    movd xmm4, dword ptr [ebx + 12]
    paddd xmm5, xmm4
    mov eax, dword ptr [ebx + 12]
    add edx, eax
    movsd qword ptr [ebx + 64], xmm2
    movss dword ptr [ebx + 12], xmm3
    movd dword ptr [ebx + 72], xmm5
    mov eax, dword ptr [ebx + 64]
    xor edx, eax
    movhpd xmm6, qword ptr [ebx + 64]
    movhpd qword ptr [ebx + 8], xmm6
    cvtsi2sd xmm7, dword ptr [ebx + 72]
    vaddsd xmm0, xmm7, qword ptr [ebx + 104]
    vmovq xmm5, qword ptr [ebx + 96]
    vmovddup xmm7, qword ptr [ebx + 88]
    vbroadcastss ymm4, dword ptr [ebx + 100]
    dec ecx
    jnz again
    hlt
"""


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("budget", [1_000_000, 61, 7])
def test_engines_agree_on_lanes(tier: str, budget: int) -> None:
    expected = outcome(PythonEngine("evaluator"), itertools.repeat(1_000_000), LANES)
    engine = engine_of(tier)
    assert outcome(engine, itertools.repeat(budget), LANES) == expected
    if tier in ("hot", "guarded"):
        assert engine.statistics()["regions_failed"] == 0
        assert engine.statistics()["instructions_hot"] or budget < 61


LANE_MOVES = (
    "movq xmm0, qword ptr [ebx]",
    "movhpd xmm0, qword ptr [ebx]",
    "movlpd xmm0, qword ptr [ebx]",
    "movss xmm0, dword ptr [ebx]",
    "mulsd xmm0, qword ptr [ebx]",
    "movhpd qword ptr [ebx], xmm0",
    "movlpd qword ptr [ebx], xmm0",
    "movss dword ptr [ebx], xmm0",
)


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("move", LANE_MOVES)
def test_a_lane_that_ends_behind_the_last_page_faults_in_its_pass(tier: str, move: str) -> None:
    core = prepared(f"mov ebx, {DATA + 0xF00}\nagain:\n{move}\nadd ebx, 4\njmp again")
    size = 8 if "qword" in move else 4
    exit_ = engine_of(tier).run(core, 1_000_000)
    assert (exit_.vector, core.cpu.ebx) == (14, DATA + 0x1000 - size + 4)
    assert exit_.address == DATA + 0x1000


@pytest.mark.parametrize("tier", ENGINES)
def test_a_misaligned_operand_faults_before_its_page_is_looked_at(tier: str) -> None:
    core = machine(assemble("movaps xmm0, xmmword ptr [0x7001]", BASE))
    exit_ = engine_of(tier).run(core, 10)
    assert (exit_.vector, exit_.error_code, core.cpu.eip) == (13, 0, BASE)


@pytest.mark.parametrize("tier", ENGINES)
def test_an_unmasked_exception_leaves_its_flag_and_nothing_else(tier: str) -> None:
    core = machine(assemble("divps xmm0, xmm1", BASE))
    core.cpu.mxcsr = 0x1F80 & ~0x200  # ZE
    core.cpu.xmm0 = int.from_bytes(struct.pack("<4f", 1, 1, 1, 1e30), "little")
    before = core.cpu.xmm0
    exit_ = engine_of(tier).run(core, 10)
    assert (exit_.vector, core.cpu.eip, core.cpu.xmm0, core.cpu.mxcsr) == (19, BASE, before, 0x1D84)


@pytest.mark.parametrize("tier", ENGINES)
def test_a_store_to_xmm_keeps_the_upper_half(tier: str) -> None:
    core = machine(assemble("pxor xmm1, xmm1\nhlt", BASE))
    core.cpu.ymm1 = 5 << 200 | 7
    engine_of(tier).run(core, 10)
    assert core.cpu.ymm1 == 5 << 200


# Every condition behind what compares strings or numbers, while the flags are in use behind it, too.
CONDITIONS = f"""
    mov ebx, {DATA}
    mov edx, 400
again:
    movdqu xmm1, xmmword ptr [ebx]
    movdqu xmm2, xmmword ptr [ebx + 8]
    {{compare}}
    {{jump}} taken
    lea esi, [esi + esi * 2 + 1]
    movdqu xmm3, xmmword ptr [ebx + 3]
taken:
    setc al
    setz ah
    lea edi, [edi + edi * 2]
    lea edi, [edi + eax]
    sets al
    seto ah
    lea edi, [edi + eax * 4]
    lea esi, [esi + ecx + 1]
    inc ebx
    dec edx
    jnz again
    hlt
"""


@pytest.mark.parametrize("tier", ("native", "hot", "guarded"))
@pytest.mark.parametrize("jump", ("jc", "jz", "js", "jo", "jbe", "ja", "jp", "jnp"))
@pytest.mark.parametrize("compare", ("pcmpistri xmm1, xmm2, 0x1a", "pcmpistrm xmm1, xmm2, 0x08", "comisd xmm1, xmm2"))
def test_engines_agree_on_conditions(tier: str, jump: str, compare: str) -> None:
    program = CONDITIONS.format(compare=compare, jump=jump)

    def state(engine: Engine) -> tuple[bytes, bytes]:
        core = prepared(program)
        core.memory.write(DATA, random.Random(7).randbytes(96) + bytes(range(1, 130)) * 2 + b"ab\0" * 30)
        while engine.run(core, 1_000_000).vector != 13:
            pass
        return bytes(core.cpu), core.memory.read(DATA, 128)

    assert state(engine_of(tier)) == state(PythonEngine("evaluator"))

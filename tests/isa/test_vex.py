"""Rows with VEX, of every way to say where operands are: decoded as iced-x86 does, shown, and assembled again."""

from __future__ import annotations

import random

import pytest

from aiopyvm.isa import vex
from aiopyvm.isa.assemble import Assembler
from aiopyvm.isa.decode import DecodeFault, Decoder
from aiopyvm.isa.disasm import format_insn
from aiopyvm.isa.notation import compile_row
from aiopyvm.isa.spec import Row
from aiopyvm.isa.syntax import Ambiguity
from aiopyvm.isa.trace import Tracer
from tests.isa.iced import compare
from tests.isa.random_code import shaped_bytes


def no_meaning(b: Tracer, *operands: object) -> None:
    """These rows are only decoded."""


def row(name: str, encoding: str, operands: str, attributes: str = "") -> Row:
    names = tuple(part.strip() for part in operands.split(",")) if operands else ()
    return Row(name, encoding, names, no_meaning, "", zero_extend=True, attributes=frozenset(attributes.split()))


ROWS = (
    row("vaddps", "VEX.128.0F.WIG 58 /r", "xmm1, xmm2, xmm3/m128"),
    row("vaddps", "VEX.256.0F.WIG 58 /r", "ymm1, ymm2, ymm3/m256"),
    row("vmovss", "VEX.LIG.F3.0F.WIG 10 /r", "xmm1, xmm2, xmm3"),
    row("vmovss", "VEX.LIG.F3.0F.WIG 10 /r", "xmm1, m32"),
    row("vmovss", "VEX.LIG.F3.0F.WIG 11 /r", "xmm1, xmm2, xmm3", "alias MVR"),
    row("vmovss", "VEX.LIG.F3.0F.WIG 11 /r", "m32, xmm1"),
    row("vmovaps", "VEX.256.0F.WIG 29 /r", "ymm2/m256, ymm1"),
    row("vpsrldq", "VEX.128.66.0F.WIG 73 /3 ib", "xmm1, xmm2, imm8"),
    row("vblendvps", "VEX.256.66.0F3A.W0 4A /r /is4", "ymm1, ymm2, ymm3/m256, ymm4"),
    row("vmaskmovps", "VEX.128.66.0F38.W0 2E /r", "m128, xmm1, xmm2"),
    row("vmaskmovps", "VEX.256.66.0F38.W0 2C /r", "ymm1, ymm2, m256"),
    row("vgatherdps", "VEX.256.66.0F38.W0 92 /r", "ymm1, vm32y, ymm2"),
    row("vgatherqpd", "VEX.128.66.0F38.W1 93 /r", "xmm1, vm64x, xmm2"),
    row("vfmadd231pd", "VEX.256.66.0F38.W1 B8 /r", "ymm1, ymm2, ymm3/m256"),
    row("vextractf128", "VEX.256.66.0F3A.W0 19 /r ib", "xmm1/m128, ymm2, imm8"),
    row("vcvtsi2sd", "VEX.LIG.F2.0F.W0 2A /r", "xmm1, xmm2, r/m32"),
    row("vmovd", "VEX.128.66.0F.W0 7E /r", "r/m32, xmm1"),
    row("vpmovmskb", "VEX.256.66.0F.WIG D7 /r", "reg, ymm1"),
    row("vzeroupper", "VEX.128.0F.WIG 77", ""),
)
DECODER = Decoder(ROWS)
AMBIGUITY = Ambiguity(DECODER.patterns)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_as_iced_decodes(row: Row) -> None:
    """In any of the prefix's forms, with bits that mean nothing here set or clear, with registers and memory."""
    rng = random.Random(str(row))
    kinds = set()
    for _ in range(400):
        verdict = compare(shaped_bytes(rng, compile_row(row)), decode=DECODER.decode)
        if "only iced" not in verdict.detail:  # of another row
            assert verdict.kind != "differs", verdict.detail
        kinds.add(verdict.kind)
    assert kinds >= {"equal", "both invalid"}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_shown_and_assembled(row: Row) -> None:
    """What is shown is assembled to an instruction that is shown the same."""
    rng = random.Random(str(row))
    shown = set()
    assembler = Assembler(DECODER)
    for _ in range(100):
        try:
            insn = DECODER.decode(shaped_bytes(rng, compile_row(row)))
        except DecodeFault:
            continue
        text = format_insn(insn, ambiguity=AMBIGUITY)
        again = DECODER.decode(assembler.assemble(text))
        assert (again.row.name, again.operands) == (insn.row.name, insn.operands), text
        shown.add(text)
    assert len(shown) > 10 or not row.operands


def test_registers_of_a_gather_are_different() -> None:
    """#UD where two of destination, indexes and mask are one (Intel SDM vol. 2C, VGATHERDPS)."""
    for destination, index, mask in ((1, 1, 2), (1, 2, 1), (1, 2, 2)):
        code = vex.Vex(2, (1,), (0,), 0x66).prefix(mask) + bytes((0x92, destination << 3 | 4, index << 3, 0, 0, 0, 0))
        with pytest.raises(DecodeFault):
            DECODER.decode(code)


@pytest.mark.parametrize("code", ["66c4e278f2c3", "f3c4e278f2c3", "f0c4e278f2c3", "c4e47af2c3", "c4e47cf2c3"])
def test_what_vex_forbids(code: str) -> None:
    """66, F3 or LOCK before VEX; pp and L that no row has."""
    data = bytes.fromhex(code)
    with pytest.raises(DecodeFault):
        Decoder(_bmi()).decode(data.ljust(15, b"\0"))


def test_the_high_bit_of_vvvv_names_no_register() -> None:
    """As the hardware was seen to take it."""
    decoder = Decoder(_bmi())
    high, low = (decoder.decode(bytes.fromhex(f"c4e2{last}f3cb")) for last in ("38", "78"))
    assert high.operands == low.operands


def _bmi() -> list[Row]:
    return [
        row("andn", "VEX.LZ.0F38.W0 F2 /r", "r32a, r32b, r/m32"),
        row("blsr", "VEX.LZ.0F38.W0 F3 /1", "r32, r/m32"),
    ]

"""The decoder on chosen bytes: prefixes, addresses, ends of the code, lengths."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random

import pytest

from aiopyvm.isa.decode import DecodeFault, Decoder, NeedMore, decode
from aiopyvm.isa.insn import Immediate, Insn, Memory, Register
from aiopyvm.isa.notation import compile_row, conflicts
from aiopyvm.isa.spec import Row
from tests.isa.random_code import patterns, random_bytes

DS, SS, FS, GS = 3, 2, 4, 5
EAX = Register("gpr", 0, 32)


def row(name: str, encoding: str, operands: str = "") -> Row:
    names = tuple(part.strip() for part in operands.split(",")) if operands else ()
    return Row(name, encoding, names, lambda b: None, "tests")


def memory_of(code: str) -> Memory:
    operand = decode(bytes.fromhex(code)).operands[1]
    assert isinstance(operand, Memory)
    return operand


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("0300", Memory(DS, 0, -1, 1, 0, 32, 32)),
        ("0305 78563412", Memory(DS, -1, -1, 1, 0x12345678, 32, 32)),
        ("0345 80", Memory(SS, 5, -1, 1, 0xFFFFFF80, 32, 32)),
        ("0385 ffffffff", Memory(SS, 5, -1, 1, 0xFFFFFFFF, 32, 32)),
        ("030424", Memory(SS, 4, -1, 1, 0, 32, 32)),
        ("0304e4", Memory(SS, 4, -1, 1, 0, 32, 32)),  # no index: the scale means nothing
        ("03048d 04000000", Memory(DS, -1, 1, 4, 4, 32, 32)),
        ("030425 04000000", Memory(DS, -1, -1, 1, 4, 32, 32)),
        ("03446c 08", Memory(SS, 4, 5, 2, 8, 32, 32)),
        ("0344ad 08", Memory(SS, 5, 5, 4, 8, 32, 32)),
        ("0304 28", Memory(DS, 0, 5, 1, 0, 32, 32)),  # EBP as an index does not choose SS
        ("64 0300", Memory(FS, 0, -1, 1, 0, 32, 32)),
        ("64 65 0300", Memory(GS, 0, -1, 1, 0, 32, 32)),  # the last override counts
        ("3e 0345 00", Memory(DS, 5, -1, 1, 0, 32, 32)),
        ("67 0300", Memory(DS, 3, 6, 1, 0, 16, 32)),
        ("67 0302", Memory(SS, 5, 6, 1, 0, 16, 32)),
        ("67 0346 fe", Memory(SS, 5, -1, 1, 0xFFFE, 16, 32)),
        ("67 0306 3412", Memory(DS, -1, -1, 1, 0x1234, 16, 32)),
        ("67 0387 3412", Memory(DS, 3, -1, 1, 0x1234, 16, 32)),
    ],
)
def test_addresses(code: str, expected: Memory) -> None:
    assert memory_of(code) == expected


def test_prefixes_in_any_order_and_number() -> None:
    insn = decode(bytes.fromhex("66 f2 f0 65 f3 66 26 01 08"))
    assert (insn.length, insn.operand_size, insn.rep, insn.lock, insn.segment) == (9, 16, 0xF3, True, 0)
    assert insn.operands[1] == Register("gpr", 1, 16)


def test_immediates_are_extended() -> None:
    assert decode(b"\x83\xc0\xff").operands == (EAX, Immediate(0xFFFFFFFF, 32))
    assert decode(b"\x66\x83\xc0\x80").operands[1] == Immediate(0xFF80, 16)
    assert decode(b"\x6b\xc0\xfe").operands[2] == Immediate(0xFFFFFFFE, 32)


def test_a_16_bit_code_segment_swaps_the_sizes() -> None:
    assert decode(b"\x01\x07", code16=True).operands[1] == Register("gpr", 0, 16)
    assert decode(b"\x66\x67\x01\x07", code16=True).operand_size == 32
    assert decode(b"\x01\x07").operand_size == 32  # the same bytes, kept apart


def test_insns_are_shared() -> None:
    assert decode(b"\x01\xd8\x90") is decode(memoryview(b"\x01\xd8"))


@pytest.mark.parametrize(
    ("code", "vector"),
    [
        ("66" * 15, 13),
        ("66" * 14 + "0fff", 13),
        ("66" * 14 + "01c0", 13),
        ("66" * 11 + "0385 00000000", 13),
        ("66" * 13 + "0f04", 6),
        ("0f04", 6),
        ("fe3f", 6),
        ("0f0f", 6),
    ],
)
def test_faults(code: str, vector: int) -> None:
    with pytest.raises(DecodeFault) as caught:
        decode(bytes.fromhex(code))
    assert (caught.value.vector, caught.value.error_code) == (vector, 0)


def test_fifteen_bytes_are_allowed() -> None:
    assert decode(bytes.fromhex("66" * 13 + "01c0" + "cc")).length == 15


@pytest.mark.parametrize(
    "code", ["", "66", "0f", "0f38", "01", "0344", "0304", "0305 000000", "81c0 000000", "fe", "fe7f", "67 0306 00"]
)
def test_need_more(code: str) -> None:
    with pytest.raises(NeedMore):
        decode(bytes.fromhex(code))


def test_every_proper_prefix_needs_more_and_the_rest_changes_nothing() -> None:
    rng = random.Random(3)
    seen = 0
    while seen < 2000:
        code = random_bytes(rng)
        try:
            insn = decode(code)
        except DecodeFault:
            continue
        seen += 1
        for n in range(insn.length):
            with pytest.raises(NeedMore):
                decode(insn.code[:n])
        assert decode(insn.code + rng.randbytes(9)) is insn


def test_nothing_but_its_own_exceptions() -> None:
    rng = random.Random(4)
    vectors = set()
    for _ in range(30_000):
        code = rng.randbytes(rng.randrange(20))
        insn: Insn | None = None
        needed = False
        try:
            insn = decode(code, code16=rng.random() < 0.5)
        except DecodeFault as fault:
            vectors.add(fault.vector)
        except NeedMore:
            needed = True
        assert not needed or len(code) < 15
        assert insn is None or (code.startswith(insn.code) and 1 <= insn.length <= 15)
    assert vectors <= {6, 13}


def test_ever_new_code_takes_bounded_memory() -> None:
    """A leaf is about 400 bytes and an instruction 500: both together stay below 20 MB."""
    small = Decoder([row("add", "01 /r", "r/m32, r32"), row("add", "81 /0 id", "r/m32, imm32")])
    gc.collect()
    before = len(gc.get_objects())
    for prefixes in itertools.product((b"", b"\x66"), (b"", b"\x67"), (b"", b"\xf2", b"\xf3")):
        for opcode, modrm in itertools.product(range(256), range(0, 256, 8)):
            with contextlib.suppress(DecodeFault, NeedMore):
                small.decode(b"".join(prefixes) + bytes((0x0F, opcode, modrm)) + bytes(9))
    for n in range(40_000):
        small.decode(b"\x81\xc0" + n.to_bytes(4, "little"))
    assert len(gc.get_objects()) - before < 100_000


# -- rows --------------------------------------------------------------------------------------------------------------


def test_the_table_has_no_overlapping_and_no_unreachable_rows() -> None:
    assert conflicts(patterns()) == []


@pytest.mark.parametrize(
    "rows",
    [
        [row("a", "01 /r", "r/m32, r32"), row("b", "01 /r", "r32, r/m32")],
        [row("a", "o* 05 ib", "imm8"), row("b", "o32 05 ib", "imm8")],
        [row("a", "FE /0", "r/m8"), row("b", "FE /0", "m8")],
        [row("a", "D4 ib", "imm8"), row("b", "D4 0A")],
        [row("a", "F3 90"), row("b", "F3 90")],
    ],
)
def test_conflicts_are_found(rows: list[Row]) -> None:
    assert conflicts(map(compile_row, rows))


def test_a_more_special_row_wins() -> None:
    rows = [
        row("xchg", "90+rd", "eax, r32"),
        row("nop", "90"),
        row("pause", "F3 90"),
        row("fixed", "D9 E8"),
        row("group", "D9 /5", "m16"),
    ]
    assert conflicts(map(compile_row, rows)) == []
    small = Decoder(rows)
    names = [small.decode(bytes.fromhex(code)).row.name for code in ("90", "91", "f390", "f391", "d9e8", "66d928")]
    assert names == ["nop", "xchg", "pause", "xchg", "fixed", "group"]


@pytest.mark.parametrize(
    ("encoding", "operands"),
    [("01 /r", "r/m32, r33"), ("01", "r/m32"), ("05 ib", "imm32"), ("05 ib", ""), ("zz", ""), ("01 /8", ""), ("", "")],
)
def test_wrong_notation_names_its_row(encoding: str, operands: str) -> None:
    with pytest.raises(RuntimeError, match="wrong"):
        compile_row(row("wrong", encoding, operands))

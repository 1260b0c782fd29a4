"""What the disassembler writes, the assembler reads: the same instruction comes back, for every row of the table."""

from __future__ import annotations

import random

import pytest

from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.disasm import format_insn
from aiopyvm.isa.insn import Insn, Relative
from aiopyvm.isa.notation import Pattern, compile_row
from tests.isa.random_code import patterns, random_bytes, shaped_bytes

ADDRESS = 0x08049000


def meaning(insn: Insn) -> object:
    """What the text must keep: all but the encoding (opcodes that mean the same, lengths of displacements)."""
    pattern = compile_row(insn.row)
    sizes = (0, 0) if pattern.mandatory > 0 and not pattern.operand_size else (insn.operand_size, insn.rep)
    operands = tuple(
        (insn.length + operand.displacement) & (0xFFFF if insn.operand_size == 16 else 0xFFFFFFFF)
        if isinstance(operand, Relative)
        else operand
        for operand in insn.operands
    )
    return operands, *sizes, insn.address_size, insn.segment, insn.lock


def check(code: bytes) -> bool:
    """Round trip of the instruction at the start of `code`, if there is one."""
    try:
        insn = decode(code)
    except (DecodeFault, NeedMore):
        return False
    text = format_insn(insn, ADDRESS)
    again = assemble(text, ADDRESS)
    found = decode(again)
    said = f"{insn.code.hex()} is {text!r} is {again.hex()}"
    assert insn.row.name in (found.row.name, *found.row.aliases), said
    assert meaning(found) == meaning(insn), said
    near = any(
        isinstance(operand, Relative) for operand in insn.operands
    )  # a shorter instruction is farther from its target
    assert near or len(again) <= insn.length, said
    return True


@pytest.mark.parametrize("pattern", patterns(), ids=lambda p: str(p.row))
def test_every_row_comes_back(pattern: Pattern) -> None:
    rng = random.Random(str(pattern.row))
    found = 0
    for _ in range(1000):
        code = shaped_bytes(rng, pattern)
        try:
            reached = decode(code).row is pattern.row
        except (DecodeFault, NeedMore):
            continue
        if reached:
            check(code)
            found += 1
        if found == 6:
            return
    pytest.fail(f"only {found} of 1000 strings were instructions of the row")


def test_random_code_comes_back() -> None:
    rng = random.Random(7)
    assert sum(check(random_bytes(rng)) for _ in range(5000)) > 1000

"""Every row of the instruction table: its trace is well-formed and precise, its flags are those it declares."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from functools import cache

import pytest

from aiopyvm.ir.registers import FLAGS
from aiopyvm.ir.verify import flag_effects, verify
from aiopyvm.isa.decode import decode
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.notation import Pattern, compile_row
from aiopyvm.isa.spec import Row, table
from aiopyvm.isa.state import FLAG_BITS, MODE_ALIGNMENT_CHECK, MODE_NON_FLAT, MODE_X87
from aiopyvm.isa.trace import Tracer, lockable, trace

MODES = (0, MODE_NON_FLAT | MODE_ALIGNMENT_CHECK | MODE_X87)
ADDRESS = 0x1000
_VSIB = b"\x13"  # indexes in register 2, so that they, destination (0) and mask (1) are different


def _variants(pattern: Pattern) -> Iterator[bytes]:
    """Prefixes that change what the row does."""
    sizes = b"\x66" if pattern.operand_size == 16 else b""
    sizes += b"\x67" if pattern.address_size == 16 else b""
    mandatory = pattern.prefix
    yield sizes + mandatory
    if pattern.operand_size == 0 and pattern.mandatory == -1:
        yield sizes + b"\x66"
    if pattern.address_size == 0 and pattern.modrm:
        yield sizes + b"\x67" + mandatory
    if pattern.row.rep:
        yield sizes + b"\xf2"
        yield sizes + b"\xf3"
    if pattern.modrm and min(pattern.modrm) < 0xC0:
        yield sizes + b"\x64" + mandatory
        yield sizes + b"\x2e" + mandatory
        if pattern.row.lock:
            yield sizes + b"\xf0" + mandatory


def _modrms(pattern: Pattern) -> list[bytes]:
    """One ModRM with a register operand and some with memory operands, of those that the row allows."""
    if not pattern.modrm:
        return [b""]
    kinds = ((0xC0, 0xC0), (0xC7, 0x04), (0xC7, 0x05), (0xC7, 0x43))
    found = [next((v for v in sorted(pattern.modrm) if v & mask == wanted), -1) for mask, wanted in kinds]
    return [bytes((value,)) for value in found if value >= 0]


@cache
def instructions(row: Row) -> tuple[Insn, ...]:
    """Instructions of the row: each kind of operand, each prefix that changes its meaning, a few immediates."""
    pattern = compile_row(row)
    rng = random.Random(str(row))
    gathers = pattern.vex if any(field.vsib for field in pattern.fields) else None
    escape = gathers.prefix(1) if gathers is not None else pattern.escape
    opcode = escape + bytes(((pattern.opcode & 0xFF) + pattern.in_opcode * 3,))
    out = []
    for prefixes in _variants(pattern):
        for modrm in _modrms(pattern):
            for rest in (rng.randbytes(12), bytes(12), b"\x01" * 12)[: 3 if pattern.immediates else 1]:
                behind = _VSIB + rest if gathers is not None else rest
                out.append(decode((prefixes + opcode + modrm + behind)[:15]))
    return tuple(out)


@pytest.fixture(params=table(), ids=str)
def row(request: pytest.FixtureRequest) -> Row:
    row: Row = request.param
    return row


def test_row(row: Row) -> None:
    """Decodes to itself; traces are well-formed and fault precisely in every mode; flags are those declared."""
    reads, writes = 0, 0
    for insn in instructions(row):
        assert insn.row is row
        for mode in MODES:
            tracer = Tracer(mode)
            trace(tracer, insn, ADDRESS)
            verify(tracer.ops)
            if insn.lock and not lockable(insn):
                assert (tracer.ops[-1].op, tracer.ops[-1].attr) == ("fault", 6)
            elif mode == 0:
                read, written = flag_effects(tracer.ops, FLAGS)
                reads |= sum(FLAG_BITS[name] for name in read)
                writes |= sum(FLAG_BITS[name] for name in written)
    assert (reads, writes) == (row.reads, row.writes)
    assert row.undefined & ~sum(FLAG_BITS.values()) == 0
    assert (row.semantics.__doc__ or "").endswith(".")
    assert row.source.startswith(("Intel SDM vol. ", "the hardware: "))


def test_a_declared_flag_that_is_not_traced_is_found() -> None:
    (row,) = [row for row in table() if row.encoding == "F8"]
    lying = dataclasses.replace(row, writes=row.writes | row.writes << 2)
    with pytest.raises(AssertionError):
        test_row(lying)

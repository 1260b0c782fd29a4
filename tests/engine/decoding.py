"""Compares the generated decoder with the instruction table: `python -m tests.engine.decoding --count N --seed S`.

`--files ELF...` adds the code sections of files, decoded from every 64th byte on, `--all` every opcode with every ModRM
byte behind each of some prefixes, and every opcode behind VEX. Random bytes are made of prefixes, opcodes and
addresses, so that every row of the table is met. Records are compared bit by bit; where generated code stops before the
table does, it has to be before an instruction that it may leave to Python. The exit status is 1 where something
differs.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain, islice, product
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from aiopyvm.engine.native.blockdecoder import MOST_BYTES, BlockDecoder
from aiopyvm.engine.native.decodetables import Tables
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.records import MAX_RUN, Form, Run, Runs
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode, decoder
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.backing import BytesBacking
from aiopyvm.mem.layout import PAGE, PROT_EXEC, PROT_READ
from aiopyvm.mem.space import AddressSpace

BASE = 0x08048000
_PREFIXES = b"\x66\xf2\xf3\xf0\x2e\x3e\x26\x36\x64\x65\x67"
_SETS = (b"", b"\x66\xf2", b"\xf3\x66", b"\xf0\x66", b"\x64\xf0")


@cache
def tables() -> Tables:
    """The tables of the whole instruction table."""
    return Tables(decoder())


class Decoding:
    """Both decoders over pages of code, which `compare` is given; `instructions` were decoded in generated code."""

    def __init__(self, table: HandlerTable) -> None:
        self._table = table
        self._numbers: dict[str, int] = {}
        self.runs = Runs(self._form, table.find, BlockDecoder(table.loaded.address("decode"), MAX_RUN))
        self.instructions = 0
        self.left = 0  # runs that generated code left to Python

    def _form(self, insn: Insn) -> Form:
        """As if each shape had a handler, a different one for each: so that keys that mix up shapes are seen."""
        form = self._table.form(insn)
        if not form.missing:
            return form
        number = self._numbers.setdefault(form.missing, len(self._numbers) + (1 << 31))
        return form._replace(handler=number, missing="")

    def compare(self, code: bytes, stop: int = -1, at: int = 0) -> str:
        """What differs at offset `at` of two pages of `code`; "": nothing."""
        space = AddressSpace()
        space.map(BASE, 2 * PAGE, PROT_READ | PROT_EXEC, BytesBacking(code))
        try:
            return self._compare(space, BASE + at, stop)
        finally:
            space.close()

    def every(self, code: bytes, step: int) -> Iterator[str]:
        """What differs from each `step`th byte of `code` on, of at most 16 MiB."""
        space = AddressSpace()
        space.map(BASE, -(-len(code) // PAGE) * PAGE, PROT_READ | PROT_EXEC, BytesBacking(code))
        for at in range(0, len(code), step):
            yield self._compare(space, BASE + at, -1)
        space.close()

    def _compare(self, space: AddressSpace, address: int, stop: int) -> str:
        asked = self.runs.decoded_by_table
        try:
            found = self.runs.find(space, address, stop)
        except DecodeFault as fault:
            return self._faults(space, address, fault.vector)
        self.instructions += len(found.addresses)
        by_table = self.runs.decoded_by_table > asked
        self.left += by_table
        expected = self.runs.decode(space, address, stop)
        shorter = len(found.addresses) < len(expected.addresses)
        return self._differ(expected, found) or (self._left(space, found, by_table) if by_table or shorter else "")

    def _faults(self, space: AddressSpace, address: int, vector: int) -> str:
        try:
            self.runs.decode(space, address, -1)
        except DecodeFault as fault:
            return "" if fault.vector == vector else f"exception {vector} instead of {fault.vector}"
        return f"only generated code raises {vector}"

    def _differ(self, expected: Run, found: Run) -> str:
        count = len(found.addresses)
        if found.records != expected.records[: len(found.records)] or found.addresses != expected.addresses[:count]:
            return f"records: {found.records.hex()} instead of {expected.records[: len(found.records)].hex()}"
        if count == len(expected.addresses):
            same = (found.branches, found.next, found.falls) == (expected.branches, expected.next, expected.falls)
        else:
            same = (found.branches, found.next, found.falls) == ((), expected.addresses[count], True)
        return "" if same else f"{found} instead of {expected}"

    def _left(self, space: AddressSpace, found: Run, by_table: bool) -> str:
        """Whether generated code knew the instruction that it left to the table, or that it stopped at."""
        at = found.addresses[0] if by_table else found.next
        first = found.addresses[0]
        room = min(first + MOST_BYTES, (first | PAGE - 1) + 1) - at
        try:
            insn = decode(space.fetch(at, room)[:MAX_LENGTH])
        except (DecodeFault, NeedMore):
            return ""
        return f"generated code left {insn.code.hex()}" if tables().key(insn) else ""


def random_code(rng: random.Random) -> bytes:
    """Bytes of a run that are instructions as often as not."""
    code = bytearray()
    for _ in range(rng.randint(1, 6)):
        code += bytes(rng.choice(_PREFIXES) for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 14))))
        match rng.randrange(10):
            case 0 | 1 | 2:
                code.append(0x0F)
            case 3:
                code += bytes((0xC5, 0xC0 | rng.randrange(64)))
            case 4:
                code += bytes((0xC4, 0xE0 | rng.choice((1, 2, 3, 2, 3, rng.randrange(32))), rng.randrange(256)))
        code += bytes((rng.randrange(256), rng.randrange(256), rng.randrange(256)))
        code += rng.choice((b"", bytes(4), b"\0", rng.randbytes(1), rng.randbytes(4), rng.randbytes(8)))
    return bytes(code)


def all_codes(prefixes: bytes) -> Iterator[bytes]:
    """Every opcode and ModRM byte behind `prefixes`, with a SIB byte and some more."""
    for opcode, modrm in product(range(512), range(256)):
        escape = b"\x0f" if opcode >= 256 else b""
        yield prefixes + escape + bytes((opcode & 255, modrm, modrm ^ 0x5A, 0, 1, 2, 0x80, 4, 0x90))


def all_vex() -> Iterator[bytes]:
    """Every opcode behind VEX, with some ModRM bytes and values of vvvv."""
    for map_, last, opcode in product((1, 2, 3), range(256), range(256)):
        modrm = opcode * 37 + last * 11 & 0xFF
        yield bytes((0xC4, 0xE0 | map_, last, opcode, modrm, modrm ^ 0x5A, 0, 1, 2, 0x80, 4, 0x90))


def sections(path: Path) -> Iterator[bytes]:
    """The code of an ELF file."""
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
                yield section.data()


def main() -> int:
    """Run the campaign."""
    from tests.engine.engines import native_handlers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="runs of random bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=Path, nargs="*", default=())
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    both, rng, wrong = Decoding(native_handlers()), random.Random(options.seed), 0
    codes = chain(
        (random_code(rng) for _ in range(options.count)),
        *(all_codes(prefixes) for prefixes in (*_SETS, *(bytes((byte,)) for byte in _PREFIXES)) if options.all),
        all_vex() if options.all else (),
    )
    while batch := [code.ljust(MOST_BYTES, b"\x90")[:MOST_BYTES] for code in islice(codes, 1024)]:
        for code, difference in zip(batch, both.every(b"".join(batch), MOST_BYTES), strict=True):
            if difference:
                wrong += 1
                print(f"{code.hex()}: {difference}")
    for path in options.files:
        for data in sections(path):
            for index, difference in enumerate(both.every(data, 64)):
                if difference:
                    wrong += 1
                    print(f"{path}+{64 * index:#x}: {difference}")
    print(f"{both.instructions} instructions, {both.left} runs were left; {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

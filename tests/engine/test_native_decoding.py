"""The generated decoder against the instruction table: records, where runs end, what is left to Python."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from aiopyvm.engine.native.blockdecoder import BlockDecoder
from aiopyvm.engine.native.decodejob import LEARNED_BITS
from aiopyvm.engine.native.recordarena import RECORD
from aiopyvm.engine.native.records import MAX_RUN
from tests.engine.decoding import BASE, Decoding, all_codes, random_code, sections
from tests.engine.engines import native_handlers

GUESTS = Path(__file__).parents[2] / "guests" / "bin"
STEP = 256


@pytest.fixture(scope="module")
def both() -> Decoding:
    """Both decoders."""
    return Decoding(native_handlers())


def differences(both: Decoding, codes: list[bytes]) -> dict[str, str]:
    padded = b"".join(code.ljust(STEP, b"\x90")[:STEP] for code in codes)
    found = zip(codes, both.every(padded, STEP), strict=True)
    return {code.hex(): difference for code, difference in found if difference}


def test_random_bytes(both: Decoding) -> None:
    rng = random.Random(5)
    before = both.instructions
    assert not differences(both, [random_code(rng) for _ in range(4000)])
    assert both.instructions - before > 20_000


@pytest.mark.parametrize("prefixes", [b"", b"\x66", b"\xf3", b"\xf0", b"\x65"], ids=bytes.hex)
def test_every_opcode(both: Decoding, prefixes: bytes) -> None:
    assert not differences(both, list(islice(all_codes(prefixes), len(prefixes), None, 37)))


@pytest.mark.parametrize("name", ["hello", "sha256"])
def test_code_of_guests(both: Decoding, name: str) -> None:
    left = both.left
    for data in sections(GUESTS / name):
        assert not [difference for difference in both.every(data, 5) if difference]
    assert both.left - left < 20


def test_runs_end_where_they_have_to(both: Decoding) -> None:
    nops = b"\x90" * 4096
    assert [difference for difference in both.every(nops, 16) if difference] == []
    for stop in (BASE + 1, BASE + 63, BASE + 64, BASE + 65):
        assert not both.compare(nops, stop)
    assert not both.compare(b"\x66" * 14 + b"\x90")
    assert not both.compare(b"\x66" * 15 + b"\x90")  # #GP: longer than 15 bytes
    assert not both.compare(b"\x90\x0f\x0b\x90")
    assert not both.compare(b"\x90\x0f\xff\x90")  # UD0, which the table does not have: not decoded
    assert not both.compare(b"\x90" * 4095 + b"\xe9", at=4090)  # an instruction that leaves the page


def test_what_is_learned_is_bounded_and_found_again() -> None:
    decoder = BlockDecoder(native_handlers().loaded.address("decode"), MAX_RUN)
    code = b"\x67\x8b\x07" + b"\xd9\xc7"  # the first is left to Python; FLD ST(7) has no handler of its own
    decoder.window[: len(code)] = code
    assert decoder.decode(BASE, len(code), -1).count == 0
    code = code[3:]
    decoder.window[: len(code)] = code
    key = int(decoder.decode(BASE, len(code), -1).key)
    assert key
    for round_ in range(3):
        decoder.learn(key, 0x1234 + round_)
        assert decoder.decode(BASE, len(code), -1).count == 1
        assert RECORD.unpack(decoder.records)[:2] == (0x1234 + round_, BASE)
        for other in range(1, 3 << LEARNED_BITS):
            decoder.learn(other << 53 | 0xFFFF, 1)
        job = decoder.decode(BASE, len(code), -1)  # it comes back at all: the table is never full
        assert (job.count, job.key) == (0, key)

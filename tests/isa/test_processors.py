"""Processors: what CPUID tells is coherent, and instructions that one lacks are none."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.cpuid import ENTRIES, EXTENDED, FEATURES, WITHOUT_BIT, Processor
from aiopyvm.isa.decode import DecodeFault, decode
from aiopyvm.isa.processors import DEFAULT, MAX, MISSING, PROCESSORS, find_processor
from aiopyvm.isa.spec import table
from aiopyvm.isa.vectors import UD

ALL = PROCESSORS.values()
STATE = 0xD  # the leaf of XSAVE, whose subleaf 1 has features


@pytest.fixture(params=ALL, ids=lambda p: p.name)
def processor(request: pytest.FixtureRequest) -> Processor:
    found = request.param
    assert isinstance(found, Processor)
    return found


def test_names() -> None:
    assert find_processor("default") is DEFAULT
    assert find_processor("i486") is PROCESSORS["i486"]
    with pytest.raises(ValueError, match="default, i486, pentium3, pentium4, x86-64-v2-32, x86-64-v3-32, max"):
        find_processor("i386")
    with pytest.raises(TypeError):
        find_processor(486)  # type: ignore[arg-type]


def test_the_leaves_tell_the_features(processor: Processor) -> None:
    """A bit of each feature, in whichever leaf there is; no other bit of those leaves."""
    found = set()
    for name, (leaf, register, bit) in FEATURES.items():
        last = processor.last_extended if leaf >= EXTENDED else processor.last
        if leaf <= last and processor.cpuid(leaf, leaf == STATE)[register] >> bit & 1:
            found.add(name)
    assert found | set(WITHOUT_BIT) == set(processor.features) | set(WITHOUT_BIT)
    bits = sum(value.bit_count() for leaf in (1, 7) if leaf <= processor.last for value in _flags(processor, leaf))
    assert bits == sum(FEATURES[name][0] in (1, 7) for name in processor.features if name in FEATURES)


def _flags(processor: Processor, leaf: int) -> tuple[int, ...]:
    return processor.cpuid(leaf, 0)[2:] if leaf == 1 else processor.cpuid(leaf, 0)[1:]


def test_leaves_that_there_are_not_give_the_last_basic_one(processor: Processor) -> None:
    last = processor.cpuid(processor.last, 0)
    assert processor.cpuid(0, 0)[0] == processor.last
    assert processor.cpuid(processor.last + 1, 0) == last
    assert processor.cpuid(0x40000000, 0) == last
    assert processor.cpuid(0xFFFFFFFF, 0) == last
    if processor.last_extended:
        assert processor.cpuid(EXTENDED, 0)[0] == processor.last_extended
    else:
        assert processor.cpuid(EXTENDED, 0) == last
    assert processor.cpuid(0, 7) == processor.cpuid(0, 0)


def test_signatures() -> None:
    """Those of the processors that are named (Intel SDM vol. 2A, CPUID, "Version Information")."""
    signatures = {name: PROCESSORS[name].cpuid(1, 0)[0] for name in PROCESSORS}
    assert signatures["i486"] == 0x483
    assert signatures["pentium3"] == 0x68A
    assert signatures["pentium4"] == 0xF29
    assert signatures["x86-64-v2-32"] == 0x106A5
    assert signatures["x86-64-v3-32"] == 0x306C3


def test_the_brand_is_the_name(processor: Processor) -> None:
    if processor.last_extended:
        words = [word for leaf in range(3) for word in processor.cpuid(EXTENDED + 2 + leaf, 0)]
        assert b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0") == processor.brand


def test_caches() -> None:
    """Leaf 4 is a list that ends; sizes are ways * lines * sets."""
    sizes = []
    for number in range(10):
        eax, ebx, ecx, _ = MAX.cpuid(4, number)
        if not eax & 31:
            break
        sizes.append(((ebx >> 22) + 1) * ((ebx & 0xFFF) + 1) * (ecx + 1))
    assert sizes == [32 << 10, 32 << 10, 256 << 10, 8192 << 10]
    assert MAX.cpuid(EXTENDED + 6, 0)[2] >> 16 == 256


def test_the_table_of_generated_code_has_room(processor: Processor) -> None:
    assert len(processor.leaves) <= ENTRIES
    assert processor.table[0].leaf == processor.last


def test_newer_processors_have_what_older_ones_have() -> None:
    levels = [set(PROCESSORS[name].features) for name in PROCESSORS]
    assert all(older <= newer for older, newer in pairwise(levels))


def test_max_has_all_that_rows_need() -> None:
    needed = {name for row in table() for name in row.cpuid.split()} - set(MISSING)
    assert needed <= set(MAX.features)
    assert MAX.allowed is None


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("bswap eax", "i486"),
        ("cpuid", "i486"),
        ("fsin", "i486"),
        ("pause", "i486"),
        ("rdtsc", "pentium3"),
        ("cmpxchg8b [eax]", "pentium3"),
        ("cmove eax, ecx", "pentium3"),
        ("fcomi st(0), st(1)", "pentium3"),
        ("nop [eax]", "pentium3"),
        ("emms", "pentium3"),
        ("addps xmm0, xmm1", "pentium3"),
        ("prefetchnta [eax]", "pentium3"),
        ("fxsave [eax]", "pentium3"),
        ("addpd xmm0, xmm1", "pentium4"),
        ("clflush [eax]", "pentium4"),
        ("haddps xmm0, xmm1", "x86-64-v2-32"),
        ("pshufb mm0, mm1", "x86-64-v2-32"),
        ("pmulld xmm0, xmm1", "x86-64-v2-32"),
        ("crc32 eax, cl", "x86-64-v2-32"),
        ("popcnt eax, ecx", "x86-64-v2-32"),
        ("movbe eax, [ecx]", "x86-64-v3-32"),
        ("andn eax, ecx, edx", "x86-64-v3-32"),
        ("aesenc xmm0, xmm1", "x86-64-v3-32"),
        ("rdrand eax", "x86-64-v3-32"),
        ("adcx eax, ecx", "max"),
        ("sha1nexte xmm0, xmm1", "max"),
    ],
)
def test_an_instruction_that_is_lacking_is_undefined(text: str, first: str) -> None:
    code = assemble(text)
    there = False
    for processor in ALL:
        there = there or processor.name == first
        if there:
            assert decode(code, allowed=processor.allowed).code == code
        else:
            with pytest.raises(DecodeFault) as fault:
                decode(code + bytes(15), allowed=processor.allowed)
            assert fault.value.vector == UD


@pytest.mark.parametrize(
    ("code", "older", "newer"),
    [("f30fbcc1", "bsf", "tzcnt"), ("f30fbdc1", "bsr", "lzcnt")],
)
def test_the_prefix_of_a_later_instruction_is_ignored(code: str, older: str, newer: str) -> None:
    """F3 BSF is TZCNT where there is one (Intel SDM vol. 2B, TZCNT)."""
    data = bytes.fromhex(code)
    assert decode(data, allowed=PROCESSORS["x86-64-v2-32"].allowed).row.name == older
    assert decode(data, allowed=PROCESSORS["x86-64-v3-32"].allowed).row.name == newer


def test_vex_is_les_and_lds_without_avx() -> None:
    """Before a memory operand; before a register it is #UD (Intel SDM vol. 2A, "Intel Advanced Vector Extensions")."""
    allowed = PROCESSORS["x86-64-v2-32"].allowed
    assert decode(bytes.fromhex("c502"), allowed=allowed).row.name == "lds"
    assert decode(bytes.fromhex("c402"), allowed=allowed).row.name == "les"
    for code in ("c5f058c2", "c4e27918c1"):
        with pytest.raises(DecodeFault) as fault:
            decode(bytes.fromhex(code) + bytes(11), allowed=allowed)
        assert fault.value.vector == UD


def test_hwcap_and_platform() -> None:
    for processor in ALL:
        assert processor.hwcap == processor.cpuid(1, 0)[3]
    platforms = [processor.platform for processor in ALL]
    assert platforms == [b"i486", b"i686", b"i686", b"i686", b"i686", b"i686"]

"""CPUID announces what is there, and no more."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import iced_x86
import pytest

from aiopyvm.isa.cpuid import FEATURES, WITHOUT_BIT
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.notation import Pattern
from aiopyvm.isa.processors import MAX
from aiopyvm.isa.spec import table
from tests.isa.iced import CODES, MNEMONICS
from tests.isa.iced import FEATURES as ICED_FEATURES
from tests.isa.iced_names import HOLES, INSTEAD, NAMES
from tests.isa.random_code import patterns, shaped_bytes

# Where iced-x86 calls a feature otherwise than /proc/cpuinfo does. What is not of one is of every processor.
ICED = {"abm": "LZCNT", "pni": "SSE3", "3dnowprefetch": "PREFETCHW", "clflush": "CLFSH", "sha_ni": "SHA"}
# Of those that tell no instruction, or none of 32-bit code.
WITHOUT_INSTRUCTIONS = ("erms", "lahf_lm", "osxsave", "xgetbv1", *WITHOUT_BIT)


# What iced-x86 calls a feature that rows name otherwise; "": an i486 has it, or it is ignored without the feature.
ROWS = {
    **dict.fromkeys(("CPUID", "PAUSE", "RDPMC", "SMM", "WBNOINVD"), ""),
    **dict.fromkeys(("INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486"), ""),
    **dict.fromkeys(("FPU287", "FPU387"), "fpu"),
    **dict.fromkeys(("MULTIBYTENOP", "CET_IBT", "CET_SS", "CLDEMOTE", "PREFETCHITI"), "nopl"),
    **dict.fromkeys(("PREFETCHW", "PREFETCHWT1"), "3dnowprefetch"),
    **{theirs: ours for ours, theirs in ICED.items()},
}


def words(theirs: Iterable[str]) -> set[str]:
    """Features of iced-x86 in the words of the table."""
    return {ROWS.get(name, name.lower()) for name in theirs} - {""}


def mnemonics(feature: str) -> Iterator[str]:
    """The mnemonics that 32-bit code has with a feature and those that are announced, by iced-x86."""
    wanted = ICED.get(feature, feature.upper())
    for number in CODES:
        code: Any = number
        about = iced_x86.OpCodeInfo(code)
        if about.mode32 and about.is_instruction:
            instruction = iced_x86.Instruction()
            instruction.code = code
            needed = {ICED_FEATURES[found] for found in instruction.cpuid_features()}
            if wanted in needed and words(needed) <= set(MAX.features):
                yield MNEMONICS[about.mnemonic]


def ours(name: str) -> Iterator[str]:
    """What the table may call a mnemonic of iced-x86's. FINIT is FWAIT and FNINIT."""
    yield from (name.lower(), f"fn{name[1:].lower()}", INSTEAD.get(name, ("",))[0])
    yield from NAMES.get(name, ())


@pytest.mark.parametrize("feature", [name for name in MAX.features if name not in WITHOUT_INSTRUCTIONS])
def test_what_is_announced_is_there(feature: str) -> None:
    """Every instruction of it, and rows that say that they are of it."""
    names = {row.name for row in table()}
    found = set(mnemonics(feature))
    assert found
    missing = {name for name in found if not names & {*ours(name)}}
    assert missing <= HOLES.keys()


def test_rows_name_features_that_cpuid_has() -> None:
    assert {name for row in table() for name in row.cpuid.split()} <= {*FEATURES, *WITHOUT_BIT}


OTHERWISE = {
    "fwait": ("", "fpu"),  # 9B waits for an FPU that may not be there
    "paddq": ("mmx", "sse2"),  # SDM vol. 2B, PADDQ: SSE2 with MM registers too
    "psubq": ("mmx", "sse2"),
    "nop": ("3dnowprefetch", "nopl"),
}


def features_of(code: bytes) -> str | None:
    """What iced-x86 says of the instruction at the start of `code`, in the words of the table."""
    theirs = iced_x86.Decoder(32, code).decode()
    if theirs.code == iced_x86.Code.INVALID:
        return None
    names = [ICED_FEATURES[number] for number in theirs.cpuid_features()]
    return " ".join(sorted(words(names)))


@pytest.mark.parametrize("pattern", patterns(), ids=lambda p: str(p.row))
def test_rows_name_what_they_need(pattern: Pattern) -> None:
    """The features of each row are those of iced-x86's list."""
    rng = random.Random(str(pattern.row))
    for _ in range(1000):
        code = shaped_bytes(rng, pattern)
        try:
            same = decode(code).row is pattern.row
        except (DecodeFault, NeedMore):
            continue
        if same and (found := features_of(code)) is not None:
            row = pattern.row
            assert row.cpuid in (found, *OTHERWISE.get(row.name, ())), code.hex()
            return
    pytest.fail("no instruction of the row that iced-x86 knows")


def test_a_feature_is_announced_once() -> None:
    assert len(set(MAX.features)) == len(MAX.features)
    assert len(set(FEATURES.values())) == len(FEATURES)

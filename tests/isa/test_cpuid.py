"""CPUID announces what is there, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import iced_x86
import pytest

from aiopyvm.isa.cpuid import ANNOUNCED, FEATURES
from aiopyvm.isa.spec import table
from tests.isa.iced import CODES, MNEMONICS
from tests.isa.iced import FEATURES as ICED_FEATURES
from tests.isa.iced_names import HOLES, INSTEAD, NAMES

# Where iced-x86 calls a feature otherwise than /proc/cpuinfo does. What is not of one is of every processor.
ICED = {"abm": "LZCNT", "pni": "SSE3", "3dnowprefetch": "PREFETCHW", "clflush": "CLFSH", "sha_ni": "SHA"}
OF_EVERY_PROCESSOR = ("fpu", "tsc", "cx8", "cmov")


def mnemonics(feature: str) -> Iterator[str]:
    """The mnemonics that 32-bit code has with a feature and those that are announced, by iced-x86."""
    wanted = ICED.get(feature, feature.upper())
    for number in CODES:
        code: Any = number
        about = iced_x86.OpCodeInfo(code)
        if about.mode32 and about.is_instruction:
            instruction = iced_x86.Instruction()
            instruction.code = code
            if wanted in {ICED_FEATURES[found] for found in instruction.cpuid_features()}:
                yield MNEMONICS[about.mnemonic]


@pytest.mark.parametrize("feature", [name for name in ANNOUNCED if name not in OF_EVERY_PROCESSOR])
def test_what_is_announced_is_there(feature: str) -> None:
    """Every instruction of it, and rows that say that they are of it."""
    names = {row.name for row in table()}
    found = set(mnemonics(feature))
    assert found
    missing = {name for name in found if not names & {name.lower(), *NAMES.get(name, ()), INSTEAD.get(name, ("",))[0]}}
    assert missing <= HOLES.keys()


def test_rows_name_features_that_cpuid_has() -> None:
    assert {row.cpuid for row in table()} - {""} <= FEATURES.keys()


def test_a_feature_is_announced_once() -> None:
    assert len(set(ANNOUNCED)) == len(ANNOUNCED)
    assert len(set(FEATURES.values())) == len(FEATURES)

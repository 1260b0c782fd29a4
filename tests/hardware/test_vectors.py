"""Recorded cases of the real CPU, replayed on every engine: no such CPU is needed here."""

from __future__ import annotations

from collections import Counter

import pytest

from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from tests.hardware import vectors
from tests.hardware.machine import differences
from tests.hardware.subjects import HotMachine, NativeMachine, machine_of
from tests.hardware.wire import Case

# How many cases of each set at most.
TIERS = {"evaluator": 3000, "cold": 3000, "warm": 300, "native": 600, "general": 1000, "hot": 200, "guarded": 100}
SHOWN = 10
ON_DEMAND = ("avx",)  # sets of which most general shapes have no handler ahead of time
HOSTS = ("x87functions",)  # sets in which the engines do what this host's CPU does
OF_HOST = ("rcp", "rsqrt")  # mnemonics, in other sets, of which that is true


def undefined_flags(case: Case) -> int:
    """EFLAGS bits that the manual leaves undefined after the case's instruction; a block is compared whole."""
    if case.block:
        return 0
    try:
        return decode(case.code).row.undefined
    except (DecodeFault, NeedMore):
        return 0


def is_of_host(case: Case) -> bool:
    """Whether the engines do what this host's CPU does, in the last bits, where the manual leaves them open."""
    try:
        return decode(case.code).row.name.removeprefix("v").startswith(OF_HOST)
    except (DecodeFault, NeedMore):
        return False


def test_there_are_vectors() -> None:
    assert vectors.names()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", vectors.names())
def test_replay(name: str, tier: str) -> None:
    same_cpu = vectors.of_this_cpu(name)
    if name in HOSTS and not same_cpu:
        pytest.skip("another CPU than that of the vectors: last bits of sines and logarithms differ")
    pairs = [pair for pair in vectors.load(name) if same_cpu or pair[0].block or not is_of_host(pair[0])]
    assert pairs
    step = max(1, len(pairs) // TIERS[tier])
    pairs = pairs[::step]
    machine = machine_of(tier, [case for case, _ in pairs])
    wrong: list[str] = []
    kinds: Counter[str] = Counter()
    for case, expected in pairs:
        lines = differences(expected, machine.run(case), undefined_flags=undefined_flags(case))
        if lines:
            wrong.append(f"{case.code.hex()}: {'; '.join(lines)}")
            kinds[case.code[:2].hex()] += 1
    assert not wrong, f"{len(wrong)} differ: {kinds.most_common(SHOWN)}\n" + "\n".join(wrong[:SHOWN])
    if isinstance(machine, NativeMachine) and not (tier == "general" and name in ON_DEMAND):
        # Of a hundred. Prefixes that mean nothing make shapes of their own, and blocks write to their own code.
        most = 10 if tier == "native" and name != "blocks" else 60
        assert machine.left < machine.cases * most // 100, machine.summary()
    if isinstance(machine, HotMachine):
        # Transcendental functions are left to handlers.
        assert name == "x87functions" or machine.executed > machine.cases // 3, machine.summary()

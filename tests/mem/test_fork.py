"""Copy-on-write over generations, in every order of ends; what it costs."""

from __future__ import annotations

import gc
import itertools
import time

import pytest

from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.residence import SPACE_COST
from aiopyvm.mem.space import AddressSpace
from tests.mem.model import PAGE
from tests.mem.test_space import RW, RWX, Limited

BASE = 0x10000000


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_generations_keep_their_own_content_whoever_ends_first(order: tuple[int, ...]) -> None:
    """Great-grandparent to child; each wrote one page of its own before it forked."""
    budget = Unlimited()
    family = [AddressSpace(budget)]
    family[0].map(BASE, 40 * PAGE, RW)
    family[0].write(BASE, b"0" * 40 * PAGE)
    expected = [[0] * 40]
    for n in range(1, 4):
        family.append(family[-1].fork(budget))
        family[n].write(BASE + n * 10 * PAGE, b"%d" % n * PAGE)
        expected.append([n if i == n * 10 else old for i, old in enumerate(expected[-1])])
    family[0].write(BASE + 20 * PAGE, b"9" * PAGE)
    expected[0][20] = 9
    alive = set(range(4))
    for end in order:
        family[end].close()
        alive.remove(end)
        for n in alive:
            for i in (0, 10, 15, 16, 20, 30, 39):
                assert family[n].peek(BASE + i * PAGE, PAGE) == b"%d" % expected[n][i] * PAGE
                assert family[n].load(BASE + i * PAGE + 5, 1) == 48 + expected[n][i]
    del family
    gc.collect()
    assert budget.used == 0


def test_a_write_costs_a_page_only_while_someone_else_sees_it() -> None:
    budget = Unlimited()
    parent = AddressSpace(budget)
    parent.map(BASE, 4 * PAGE, RW)
    parent.write(BASE, b"x" * 4 * PAGE)
    child = parent.fork(budget)
    before = budget.used
    parent.store(BASE, 1, 1)
    assert budget.used == before + PAGE
    parent.store(BASE, 1, 2)
    assert budget.used == before + PAGE
    child.close()
    gc.collect()
    before = budget.used
    parent.store(BASE + PAGE, 1, 1)
    assert budget.used == before
    assert BASE + PAGE in parent.writable


def test_looking_again_at_a_lent_page_does_not_make_it_writable() -> None:
    parent = AddressSpace()
    parent.map(BASE, PAGE, RW)
    parent.store(BASE, 4, 1)
    child = parent.fork(parent.budget)
    parent.protect(BASE, PAGE, 1)
    parent.protect(BASE, PAGE, RW)
    assert parent.load(BASE, 4) == 1
    parent.store(BASE, 4, 2)
    assert child.load(BASE, 4) == 1


def test_forks_without_writes_between_share_their_granules() -> None:
    parent = AddressSpace()
    parent.map(BASE, 4 * PAGE, RW)
    parent.write(BASE, b"x" * 4 * PAGE)
    budget = Unlimited()
    children = [parent.fork(budget) for _ in range(50)]
    before = parent.budget.used  # type: ignore[attr-defined]
    parent.store(BASE, 1, 1)
    assert parent.budget.used == before + PAGE  # type: ignore[attr-defined]
    assert all(child.load(BASE, 1) == 120 for child in children)


def test_what_was_done_after_a_fork_is_done_at_once_after_the_next() -> None:
    budget = Unlimited()
    parent = AddressSpace(budget)
    parent.map(BASE, 16 * PAGE, RW)
    parent.write(BASE, b"".join(bytes((n,)) * PAGE for n in range(16)))
    for used, looks, writes in ((0, (2, 5, 9), (3, 9)), (2, (5,), (9,))):
        child = parent.fork(budget)
        assert [child.load(BASE + n * PAGE, 1) for n in looks] == list(looks)
        assert child.resident_pages == len(looks) + used
        before = budget.used
        for n in writes:
            parent.store(BASE + n * PAGE, 1, n)
        assert budget.used == before + 2 * PAGE
        child.write(BASE + 2 * PAGE, b"-" * PAGE)
        for n in range(16):
            assert parent.peek(BASE + n * PAGE, PAGE) == bytes((n,)) * PAGE
            assert child.peek(BASE + n * PAGE, PAGE) == (b"-" if n == 2 else bytes((n,))) * PAGE
        child.close()


def test_what_is_done_at_once_reaches_over_mappings() -> None:
    """Data that can only be read, as what a loader has relocated, come with the rest, and are not ready for writes;
    code stays where it is."""
    budget = Unlimited()
    parent = AddressSpace(budget)
    for n in range(5):
        parent.map(BASE + n * PAGE, PAGE, RW, name=str(n))
    parent.write(BASE, b"".join(bytes((n,)) * PAGE for n in range(5)))
    parent.protect(BASE + PAGE, PAGE, 1)
    parent.protect(BASE + 2 * PAGE, PAGE, 5)
    for read, written in ((1, 1), (3, 2)):
        child = parent.fork(budget)
        assert child.load(BASE + 3 * PAGE, 1) == 3
        assert child.resident_pages == read
        assert [child.load(BASE + n * PAGE, 1) for n in range(4)] == [0, 1, 2, 3]
        with pytest.raises(MemoryFault):
            child.store(BASE + PAGE, 1, 7)
        before = budget.used
        parent.store(BASE + 3 * PAGE, 1, 3)
        assert budget.used == before + written * PAGE
        parent.store(BASE, 1, 0)
        assert budget.used == before + 2 * PAGE
        with pytest.raises(MemoryFault):
            parent.store(BASE + PAGE, 1, 7)
        child.close()


def test_nothing_is_copied_ahead_where_memory_is_scarce_or_protected() -> None:
    budget = Limited(64 << 20)
    parent = AddressSpace(budget)
    parent.map(BASE, 4 * PAGE, RW)
    parent.write(BASE, b"x" * 4 * PAGE)
    first = parent.fork(budget)
    assert first.peek(BASE, 4 * PAGE) == b"x" * 4 * PAGE
    assert [first.load(BASE + n * PAGE, 1) for n in range(4)] == [120] * 4
    guarded = parent.fork(budget)
    guarded.protect(BASE + PAGE, PAGE, 0)
    assert guarded.load(BASE, 1) == 120
    with pytest.raises(MemoryFault):
        guarded.load(BASE + PAGE, 1)
    budget.limit = budget.used + (1 << 20)
    poor = parent.fork(budget)
    assert poor.load(BASE, 1) == 120
    assert poor.resident_pages == 1


def test_a_write_that_the_budget_refuses_changes_nothing() -> None:
    budget = Limited(2 * SPACE_COST + 8 * 1024)
    parent = AddressSpace(budget)
    parent.map(BASE, PAGE, RW)
    parent.write(BASE, b"x" * PAGE)
    child = parent.fork(budget)
    budget.limit = budget.used
    for space, access in ((parent, lambda: parent.store(BASE, 4, 1)), (child, lambda: child.load(BASE, 4))):
        with pytest.raises(MemoryFault) as caught:
            access()
        assert caught.value.out_of_memory
        assert space.peek(BASE, PAGE) == b"x" * PAGE
    parent.close()
    assert child.load(BASE, 1) == 120


def test_a_chain_of_a_thousand_generations_stays_small() -> None:
    """Each forks and ends, as daemons do; nothing grows with the number of ancestors."""
    budget = Unlimited()
    space = AddressSpace(budget)
    space.map(BASE, 64 * PAGE, RW)
    space.write(BASE, b"x" * 64 * PAGE)
    used = []
    for n in range(1000):
        child = space.fork(budget)
        space.close()
        space = child
        space.store(BASE + n % 64 * PAGE, 4, n)
        used.append(budget.used)
    assert max(used[100:]) <= max(used[:100])
    assert space.load(BASE + 999 % 64 * PAGE, 4) == 999
    space.close()
    del child, space
    gc.collect()
    assert budget.used == 0


def test_a_parent_that_forks_forever_stays_small() -> None:
    budget = Unlimited()
    parent = AddressSpace(budget)
    parent.map(BASE, 64 * PAGE, RW)
    parent.write(BASE, b"x" * 64 * PAGE)
    before = budget.used
    for n in range(500):
        child = parent.fork(budget)
        parent.store(BASE + n % 64 * PAGE, 4, n)
        assert child.load(BASE + n % 64 * PAGE, 1) == 120 or n >= 64
        child.close()
    del child
    gc.collect()
    assert budget.used == before
    parent.store(BASE, 4, 1)
    assert not parent._lent.holders(BASE >> 12)


def test_a_fork_of_50_megabytes_takes_milliseconds() -> None:
    parent = AddressSpace()
    parent.map(BASE, 50 << 20, RW)
    parent.write(BASE, b"x" * (50 << 20))
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        child = parent.fork(parent.budget)
        best = min(best, time.perf_counter() - start)
        parent.store(BASE, 4, 1)
        child.close()
    assert best < 0.02  # a few milliseconds on an idle machine
    parent.close()


def test_a_fork_inherits_protections_and_limits() -> None:
    parent = AddressSpace()
    parent.map(BASE, PAGE, RWX, name="code")
    parent.stack_limit = 12345
    parent.track_code(BASE, 10)
    told: list[tuple[int, int]] = []
    parent.code_listeners.append(lambda address, length: told.append((address, length)))
    child = parent.fork(parent.budget)
    assert child.stack_limit == 12345
    assert [m.name for m in child.mappings()] == ["code"]
    child.store(BASE, 4, 1)
    assert told == []
    parent.store(BASE, 4, 1)
    assert told == [(BASE, 4)]

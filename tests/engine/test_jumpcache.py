"""The jump cache's places, and what of it another cache takes over."""

from __future__ import annotations

import random

from aiopyvm.engine.native.jumpcache import ENTRY_SIZE, JumpCache, entries, joined, outside

SIZE = 64


def cache_of(known: dict[int, int]) -> JumpCache:
    made = JumpCache(bytearray(ENTRY_SIZE * SIZE), 0, SIZE)
    for eip, record in known.items():
        made.push(eip, record)
    return made


def test_what_was_pushed_last_is_found_and_nothing_is_there_twice() -> None:
    rng = random.Random(5)
    made, known = cache_of({}), {}
    for n in range(1, 2000):
        eip = rng.randrange(1 << 14)
        made.push(eip, n)
        known[eip] = n
        assert made.get(eip) == n
    found = list(made)
    assert len({eip for eip, _ in found}) == len(found)
    assert all(known[eip] == record for eip, record in found)


def test_two_addresses_of_one_pair_are_there_together() -> None:
    made = cache_of({})
    assert made.put(0x10, 1)
    assert made.put(0x10 + SIZE, 2)
    assert made.put(0x11 + SIZE, 4) is False  # the other place of that pair is 0x11's first one
    assert (made.get(0x10), made.get(0x10 + SIZE), made.get(0x11 + SIZE)) == (1, 2, 0)
    made.replace(0x10, 0)
    assert made.put(0x11 + SIZE, 4)
    made.replace(0x10, 7)  # it is not known any more
    assert made.get(0x10) == 0


def test_a_cache_without_some_addresses_and_with_them_again() -> None:
    made = cache_of({n * 37: n + 1 for n in range(20)})
    content = made.content()
    spans = [(100, 300), (500, 501), (0, 37)]
    left = dict(entries(outside(content, spans)))
    assert left == {eip: record for eip, record in made if not (100 <= eip < 300 or eip < 37)}
    again = joined(outside(content, spans), content)
    assert sorted(entries(again)) == sorted(made)

"""Finding what a region is made from: the live blocks of a space around a hot address, and its jump tables' words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Final

from aiopyvm.engine.native.regionfile import CHUNK
from aiopyvm.engine.native.regionplan import MOST_INSTRUCTIONS, Request, Stack, Table, is_x87
from aiopyvm.engine.native.space import Block, SpaceCode
from aiopyvm.mem.layout import EXEC, PAGE_SHIFT, READ

MOST_CASES: Final = 128  # words of a jump table
MOST_DISTANCES: Final = 16  # of a table of distances, that are followed
RARE_SHIFT: Final = 8  # what is passed less than once in 256 passes of the root is not worth a place in its region
_CALLS: Final = b"\xe8\xff"  # and jumps to words in memory, as in a PLT
_X87: Final = re.compile(rb"[\xd8-\xdf]")
_JUMPS_OR_RETURNS: Final = re.compile(
    rb"[\x2e\x3e\xf2\xf3]*(?:[\xc2\xc3\xe9\xeb]|\xff[\x20-\x2f\x60-\x6f\xa0-\xaf\xe0-\xef])"
)
_JUMP: Final = re.compile(rb"[\x2e\x3e]?\xff\x24[\x85\x8d\x95\x9d\xad\xb5\xbd](....)", re.DOTALL)  # JMP [4 * r + table]
_DISTANCES: Final = re.compile(  # ADD r, number; ADD r, [r + 4 * i]; JMP r, behind a call that gave r its own address
    rb"(?:\x05|\x81([\xc0-\xc7]))(....)\x03(.)([\x80-\xbf]).{0,8}[\x2e\x3e]?\xff([\xe0-\xe7])", re.DOTALL
)
_WORD: Final = re.compile(rb"\xff[\x15\x25](....)", re.DOTALL)  # CALL [word], JMP [word], as in a PLT


def request_for(
    code: SpaceCode,
    root: int,
    memory: str,
    stack: Stack,
    allowed: frozenset[str] | None = None,
    chunks: Iterable[frozenset[int]] = (),
) -> Request:
    """What a region at `root` is made from, the live blocks near it; `memory`: the form of its accesses; `stack`: the
    x87 stack with which it became hot; `allowed`: the features of the processor; `chunks`: those of the
    regions that there are (`regionfile.chunks_of`).
    """
    rarely = _Rarely(code, chunks)
    found: dict[int, bytes] = {}
    tables: dict[int, Table] = {}
    jumps: dict[int, Table] = {}
    queue, seen, count, x87 = deque([root]), {root}, 0, False
    while queue and count < 3 * MOST_INSTRUCTIONS:
        address = queue.popleft()
        for block in code.blocks_at(address):
            start = block.addresses[0]
            if start in found:
                continue
            found[start] = bytes(code.space.view[start : block.end])
            count += len(block.addresses)
            x87 = x87 or _has_x87(block, found[start])
            last = block.addresses[-1] - start
            ways = [target for _, target, _ in block.branches]
            if not _JUMPS_OR_RETURNS.match(found[start], last):
                ways.append(block.next)
            if found[start].find(b"\xff", last) >= 0:
                ways += _targets(code, found[start], last, tables)
                if distances := tuple(_distances(code, start, found[start])):
                    jumps[block.addresses[-1]] = distances
                    ways += [target for _, target in distances]
            calls = found[start][last] in _CALLS
            for way in ways:
                if way not in seen and code.record(way) and not (calls and rarely.comes_to(way)):
                    seen.add(way)
                    queue.append(way)
    blocks = tuple(_from_root(found, root, seen))
    return Request(
        root, blocks, tuple(sorted(tables.items())), memory=memory, stack=stack if x87 else None, allowed=allowed,
        jumps=tuple(sorted(jumps.items())),
    )  # fmt: skip


class _Rarely:
    """Where calls have hardly ever led: it would take the room of what is executed more often."""

    def __init__(self, code: SpaceCode, chunks: Iterable[frozenset[int]]) -> None:
        self._code = code
        self._of_regions = chunks
        self._few = code.threshold >> RARE_SHIFT

    def comes_to(self, address: int) -> bool:
        """Whether this address is such a place."""
        counter = self._code.counter(address)
        first = self._code.threshold if address in self._code.asked else self._code.first
        if not counter or not 0 <= first - self._code.arena.values(counter)[0] < self._few:
            return False
        return address >> CHUNK not in self._chunks  # regions pass without counting

    @cached_property
    def _chunks(self) -> set[int]:
        """The chunks of memory that regions cover."""
        return set().union(*self._of_regions)


def _targets(code: SpaceCode, block: bytes, last: int, tables: dict[int, Table]) -> list[int]:
    """Where the last instruction of a block, at `last`, goes by words in memory, which are added to `tables`."""
    if jump := _JUMP.fullmatch(block, last):
        table = int.from_bytes(jump[1], "little")
        tables[table] = tuple(_words(code, table, MOST_CASES))
        return [target for _, target in tables[table]]
    if jump := _WORD.fullmatch(block, last):
        table = int.from_bytes(jump[1], "little")
        word = tuple(_words(code, table, 1))
        tables.setdefault(table, word)
        return [target for _, target in word]
    return []


def _distances(code: SpaceCode, start: int, block: bytes) -> Iterator[tuple[int, int]]:
    """Where a block at `start` has jumped to if it is one that jumps by a table of distances, as glibc's string
    routines do: number, target. The first instructions find the table, whose distances are from its own address.
    """
    jump = _DISTANCES.fullmatch(block)
    if jump is None:
        return
    register = jump[5][0] & 7
    if (jump[1] or b"\xc0")[0] & 7 != register or jump[3][0] != 4 | register << 3 or jump[4][0] & 7 != register:
        return
    table, found = start + int.from_bytes(jump[2], "little") & 0xFFFFFFFF, 0
    for number, distance in enumerate(_readable(code, table, MOST_CASES)):
        target = table + distance & 0xFFFFFFFF
        if found < MOST_DISTANCES and code.record(target):
            found += 1
            yield number, target


def _has_x87(block: Block, code: bytes) -> bool:
    """Whether an instruction of a block, whose bytes are `code`, is one of the x87's."""
    start = block.addresses[0]
    return _X87.search(code) is not None and any(is_x87(code[at - start :]) for at in block.addresses)


def _from_root(found: Mapping[int, bytes], root: int, ways: set[int]) -> Iterator[tuple[int, bytes]]:
    """The blocks, parted where a way leads into them; what begins at the root stands first."""
    parted: dict[int, bytes] = {}
    ordered = sorted(ways)
    for start, code in found.items():
        end = start + len(code)
        cuts = [start, *ordered[bisect_right(ordered, start) : bisect_left(ordered, end)], end]
        for low, high in pairwise(cuts):
            parted[low] = code[low - start : high - start]
    first = parted.pop(root, b"")
    yield root, first
    yield from sorted(parted.items())


def _words(code: SpaceCode, table: int, most: int) -> Iterator[tuple[int, int]]:
    """The words of the jump table at an address that were jumped to, of at most so many: number, target."""
    for number, word in enumerate(_readable(code, table, most)):
        if code.record(word):
            yield number, word
        elif not code.space.pages[word >> PAGE_SHIFT] & EXEC:
            return


def _readable(code: SpaceCode, table: int, most: int) -> Iterator[int]:
    """At most so many words at an address, as far as the guest may read them; none where it is not aligned."""
    space = code.space
    if table & 3:
        return
    for address in range(table, min(table + 4 * most, 1 << 32), 4):
        if not space.pages[address >> PAGE_SHIFT] & READ:
            return
        yield space.view32[address >> 2]


__all__ = ["request_for"]

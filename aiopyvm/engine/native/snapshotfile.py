"""Snapshots on disk, so that the first run of a program in a process finds what the last process translated.

They are kept with the other generated code (`cache.py`) under what they depend on: the program's image and place, the
handlers that records refer to, and what their counters begin with. A record whose handler was made on demand waits for
it again in the next process.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.engine.native.cache import ObjectCache, object_cache
from aiopyvm.engine.native.cachekey import name_of
from aiopyvm.engine.native.codearena import FIXED_END
from aiopyvm.engine.native.layout import RECORD_SIZE
from aiopyvm.engine.native.recordarena import RECORD, Content
from aiopyvm.engine.native.regionfile import features_text
from aiopyvm.engine.native.snapshot import MOST, Block, Home, Key, Snapshot

if TYPE_CHECKING:
    from aiopyvm.engine.native.handlertable import HandlerTable

KIND: Final = "program"
WORTH: Final = 64  # instructions more than what is on disk, and a sixteenth more, from which on it is written again
SMALL: Final = 16  # instructions from which on it is written at first
_WORDS: Final = RECORD_SIZE // 4
_LENGTHS: Final = struct.Struct("<15I")  # of the parts


class SnapshotFiles:
    """Keeps snapshots of programs for later processes. `table`: the handlers that records refer to; `passes`: what
    counters begin with; `allowed`: the features of the processor that they were decoded for.
    """

    def __init__(
        self,
        table: HandlerTable,
        cache: ObjectCache | None = None,
        *,
        passes: int = 0,
        allowed: frozenset[str] | None = None,
    ) -> None:
        self._table = table
        self._cache = cache if cache is not None else object_cache()
        self._handlers = _digest_of(table.loaded.symbols)
        self._for = f"{passes} {features_text(allowed)}"
        self._sizes: dict[Key, tuple[int, int]] = {}  # of what is on disk: instructions, bytes of the jump cache

    def get(self, key: Key) -> Snapshot | None:
        """What an earlier process kept for `key`."""
        data = self._cache.get(self._name(key))
        if data is None:
            return None
        try:
            snapshot = unpack(data)
        except (ValueError, struct.error):
            return None  # it is written again when there is something to write
        self._remember(key, snapshot)
        return snapshot

    def put(self, key: Key, snapshot: Snapshot, *, anew: bool = False) -> None:
        """Keep `snapshot` for `key`, if it has enough more than what is kept, which at `anew` does not count."""
        (size, jumps), (known, known_jumps) = _size(snapshot), (0, 0) if anew else self._sizes.get(key, (0, 0))
        if size >= (known + max(WORTH, known >> 4) if known else SMALL) or (known and jumps > known_jumps):
            self._remember(key, snapshot)
            self._cache.put(self._name(key), pack(snapshot, self._table))

    def _remember(self, key: Key, snapshot: Snapshot) -> None:
        self._sizes.pop(key, None)
        while len(self._sizes) >= MOST:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[key] = _size(snapshot)

    def _name(self, key: Key) -> str:
        digest, start, stop = key
        return name_of(KIND, self._handlers, digest, f"{start} {stop} {self._for}".encode())


def _digest_of(symbols: Mapping[str, int]) -> bytes:
    """What tells one set of handlers, and where they are, from another."""
    places = array("q", symbols.values())
    return hashlib.sha256("\0".join(symbols).encode() + b"\0\0" + places.tobytes()).digest()


def _size(snapshot: Snapshot) -> tuple[int, int]:
    return len(snapshot.entries), len(snapshot.content.jumps)


def pack(snapshot: Snapshot, table: HandlerTable) -> bytes:
    """A snapshot as bytes; handlers that only this process has are named."""
    content = snapshot.content
    words = array("I", content.runs)
    waiting = dict(snapshot.waiting)
    for record, handler in enumerate(words[::_WORDS]):
        if handler >= FIXED_END:
            waiting[record * RECORD_SIZE] = table.name_at(handler)
            words[record * _WORDS] = table.steps.step
    blocks = array("I", _block_words(snapshot))
    tables = [array("I", part) for known in (snapshot.entries, snapshot.counters) for part in (known, known.values())]
    flags = bytes((snapshot.whole | snapshot.displaced << 1,))
    homes = array("Q", (number for home in snapshot.homes for number in (home.start, home.end, home.offset)))
    pages = array("Q", itertools.chain.from_iterable(snapshot.pages))
    arrays = (blocks, *tables, homes, pages, array("Q", content.free), array("Q", waiting))
    texts = (b"".join(home.digest for home in snapshot.homes), "\0".join(waiting.values()).encode(), flags)
    parts = [words.tobytes(), bytes(content.singles), content.jumps, *(part.tobytes() for part in arrays), *texts]
    return b"".join([_LENGTHS.pack(*map(len, parts)), *parts])


def unpack(data: bytes) -> Snapshot:
    """Undo `pack`. Raises ValueError, struct.error for what is none."""
    at = _LENGTHS.size
    parts = []
    for length in _LENGTHS.unpack_from(data):
        parts.append(data[at : at + length])
        at += length
    if at != len(data) or len(parts[-1]) != 1:
        raise ValueError("a snapshot of another length")
    runs, singles, jumps, blocks, *tables, places, pages, free, offsets, digests, names, flags = parts
    known = [array("I", part) for part in tables]
    waiting = zip(array("Q", offsets), names.decode().split("\0") if names else (), strict=True)
    return Snapshot(
        _homes(array("Q", places).tolist(), digests),
        tuple(_pairs(array("Q", pages).tolist())),
        Content(runs, bytearray(singles), tuple(array("Q", free)), jumps),
        dict(zip(known[0], known[1], strict=True)),
        dict(zip(known[2], known[3], strict=True)),
        lambda: _blocks(array("I", blocks), runs),
        dict(waiting),
        whole=bool(flags[0] & 1),
        displaced=bool(flags[0] & 2),
    )


def _homes(numbers: list[int], digests: bytes) -> tuple[Home, ...]:
    starts, ends, offsets = numbers[::3], numbers[1::3], numbers[2::3]
    size = hashlib.sha256().digest_size
    cut = [digests[at : at + size] for at in range(0, len(digests), size)]
    return tuple(map(Home, starts, ends, cut, offsets))


def _pairs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)


def _block_words(snapshot: Snapshot) -> Iterator[int]:
    for block in snapshot.blocks:
        yield from (block.offset, len(block.addresses), block.next, len(block.branches))
        for index, target, counted in block.branches:
            yield from (index, target, counted)


def _blocks(words: array[int], runs: bytes) -> tuple[Block, ...]:
    """The blocks that `_block_words` told of; their records know the addresses."""
    blocks = []
    left: Any = iter(words)
    for offset in left:
        count, following, branches = next(left), next(left), next(left)
        found = tuple((next(left), next(left), bool(next(left))) for _ in range(branches))
        addresses = tuple(RECORD.unpack_from(runs, offset + n * RECORD_SIZE)[1] for n in range(count))
        end = addresses[0] + (following - addresses[0] & 0xFFFFFFFF)
        blocks.append(Block(offset, addresses, end, found, following))
    return tuple(blocks)

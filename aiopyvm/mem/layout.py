"""Sizes and bits that every file of this package shares, and what holds of the page table.

The table has one byte a page. The low three bits are the fast path's: an engine that finds READ, WRITE or EXEC set may
access the reservation at once. The upper bits are this package's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

PAGE: Final = 4096
PAGE_SHIFT: Final = 12
PAGES: Final = 1 << 20  # entries of the page table
TASK_SIZE: Final = 0xFFFFE000  # Linux: nothing is mapped at or above it
GUARD: Final = 1 << 16  # host bytes after the 4 GiB, so that an access at its end stays inside

READ: Final = 1
WRITE: Final = 2
EXEC: Final = 4
TOUCHED: Final = 8  # private content of this space, in its reservation and charged
HELD: Final = 16  # would be WRITE, but has tracked code
THROUGH: Final = 256  # never in the table: this access goes to the backing, not to the reservation

PROT_READ: Final = 1  # mman.h
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4

PROT_BITS: Final = tuple((READ if p else 0) | (WRITE if p & 2 else 0) | (EXEC if p & 4 else 0) for p in range(8))
"""Fast bits by PROT_*: on x86 what can be written or executed can be read."""

UNWRITE: Final = bytes(b & ~(WRITE | HELD) if b & TOUCHED else b for b in range(256))
"""Translation of page bytes: private content no longer writable at once."""

_USED_RUN: Final = re.compile(rb"[^\0]+", re.DOTALL)
_TOUCHED_BYTES: Final = b"".join(b"\\x%02x-\\x%02x" % (b, b | TOUCHED - 1) for b in range(TOUCHED, 256, 2 * TOUCHED))
_TOUCHED_RUN: Final = re.compile(b"[" + _TOUCHED_BYTES + b"]+", re.DOTALL)
_IS_TOUCHED: Final = bytes(1 if b & TOUCHED else 0 for b in range(256))


def used_runs(table: bytes) -> Iterator[tuple[int, int]]:
    """Runs [start, end) of entries that have any bit, by index in `table`."""
    for match in _USED_RUN.finditer(table):
        yield match.span()


def touched_runs(table: bytes) -> Iterator[tuple[int, int]]:
    """Runs [start, end) of entries that have TOUCHED, by index in `table`."""
    for match in _TOUCHED_RUN.finditer(table):
        yield match.span()


def count_touched(table: bytes) -> int:
    """How many entries have TOUCHED."""
    return table.translate(_IS_TOUCHED).count(1)


def page_up(n: int) -> int:
    """`n` rounded up to a multiple of the page size."""
    return (n + PAGE - 1) & -PAGE

"""Which bytes of a space have been translated, by lines of 64 bytes: a bit mask of 64 lines a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_LINE_SHIFT: Final = 6
_LINES: Final = 64
_WHOLE: Final = (1 << _LINES) - 1


class CodeLines:
    """Lines with tracked code, by page number."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._pages)

    def __contains__(self, page: int) -> bool:
        return page in self._pages

    def add(self, address: int, length: int) -> list[int]:
        """Track [address, address+length); the pages that had no tracked line before."""
        fresh = []
        for page, mask in _masks(address, length):
            if page not in self._pages:
                fresh.append(page)
            self._pages[page] = self._pages.get(page, 0) | mask
        return fresh

    def add_pages(self, pages: Mapping[int, int]) -> None:
        """Track all lines of `pages`, which `whole_pages` made."""
        self._pages.update(pages)

    def remove(self, address: int, length: int) -> list[int]:
        """Stop tracking every line that has a byte of the range; the pages that have no tracked line left."""
        gone = []
        for page, mask in _masks(address, length):
            left = self._pages.get(page, 0) & ~mask
            if left:
                self._pages[page] = left
            elif self._pages.pop(page, None) is not None:
                gone.append(page)
        return gone

    def hit(self, address: int, length: int) -> bool:
        """True if a tracked line has a byte of the range."""
        return any(self._pages.get(page, 0) & mask for page, mask in _masks(address, length))

    def pages(self, start: int, end: int) -> list[int]:
        """The pages of [start, end) that have tracked lines, in order."""
        if end - start > len(self._pages):
            return sorted(page for page in self._pages if start <= page < end)
        return [page for page in range(start, end) if page in self._pages]


def whole_pages(pages: Iterable[int]) -> Mapping[int, int]:
    """All lines of `pages`, given by their numbers."""
    return dict.fromkeys(pages, _WHOLE)


def _masks(address: int, length: int) -> Iterator[tuple[int, int]]:
    line, last = address >> _LINE_SHIFT, (address + length - 1) >> _LINE_SHIFT
    while line <= last:
        page, first = line // _LINES, line % _LINES
        count = min(last - line + 1, _LINES - first)
        yield page, ((1 << count) - 1) << first
        line += count

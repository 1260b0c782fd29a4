"""A regular file's bytes in memory: sparse pages over an immutable base, charged to the budget.

How it works. Page i (4 KiB) is `_pages[i]` when it was ever written, else the part of the base that is there (what
Python gave as bytes, or a host file under a copy-on-write mount), else zeros. What always holds: bytes past `size`
read as zeros when the file grows again; only written pages are charged; the base is never changed.

A content that guests map for all to see and one of them to write (`share`) has its pages in an extent, which the host
shows to them: `_pages` are views of it then, and what is in the extent and no page of these is zeros. Only what lies
behind the extent, as the file has grown, is in memory of Python's.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Final

from aiopyvm.abi.errno import ENOMEM, ENOSPC, ENXIO, EOPNOTSUPP, Errno
from aiopyvm.kernel.ports import Budget
from aiopyvm.mem.arena import Extent, arena
from aiopyvm.mem.backing import Backing

PAGE = 4096
SHIFT = 12
LEAST_SHOWN: Final = 1 << 20  # bytes of an extent: what grows within it stays in it
MOST_SHOWN: Final = 1 << 30  # of a file
MAX_PUNCHED = 16384  # pages of a base that one call covers with zeros
Base = Callable[[int, int], bytes]  # (offset, size) -> at most size bytes


class Content:
    """Bytes 0..size-1 of one file."""

    __slots__ = (
        "_base", "_base_size", "_budget", "_charged", "_overlaid", "_pages", "_shown_by", "_view", "_whole",
        "_whole_bytes", "extent", "size",
    )  # fmt: skip

    def __init__(self, budget: Budget, whole: bytes = b"") -> None:
        self._budget = budget
        self._pages: dict[int, bytearray | memoryview] = {}
        self.extent: Extent | None = None  # whole pages from 0 on, shown by the host
        self._view: memoryview | None = None  # of it
        self._shown_by: weakref.WeakSet[Backing] | None = None
        self._whole: bytes | None = whole  # all of the content as one object, where that is known
        self._whole_bytes = 0  # what is charged for it
        self._base: Base | None = _reader(whole) if whole else None
        self._base_size = len(whole)
        self._overlaid = 0  # pages that hide a page of the base
        self._charged = 0
        self.size = len(whole)

    @classmethod
    def over(cls, budget: Budget, base: Base, size: int) -> Content:
        """Return a content that shows `size` bytes of `base` until they are written."""
        content = cls(budget)
        content._whole = None
        content._base = base
        content._base_size = content.size = size
        return content

    @property
    def allocated(self) -> int:
        """How many pages hold data (st_blocks is eight times that)."""
        return len(self._pages) - self._overlaid + ((self._base_size + PAGE - 1) >> SHIFT)

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, offset: int, n: int) -> bytes:
        """Return at most `n` bytes from `offset` on; b"" at and after the end."""
        n = min(n, self.size - offset)
        if n <= 0:
            return b""
        if self._whole is not None:
            return self._whole[offset : offset + n]
        if not self._pages:
            return self._from_base(offset, n)
        start = offset & (PAGE - 1)
        if start + n <= PAGE:
            page = self._pages.get(offset >> SHIFT)
            return bytes(page[start : start + n]) if page is not None else self._from_base(offset, n)
        return self._gather(offset, n)

    def _gather(self, offset: int, n: int) -> bytes:
        parts = []
        end = offset + n
        pages = self._pages
        while offset < end:
            page = pages.get(offset >> SHIFT)
            start = offset & (PAGE - 1)
            stop = min(PAGE, start + end - offset)
            parts.append(page[start:stop] if page is not None else self._from_base(offset, stop - start))
            offset += stop - start
        return b"".join(parts)

    def _from_base(self, offset: int, n: int) -> bytes:
        there = min(n, self._base_size - offset)
        if there <= 0 or self._base is None:
            return bytes(n)
        return self._base(offset, there).ljust(n, b"\0")

    def snapshot(self) -> bytes:
        """Return the whole content as one immutable object, the same until the next change. Raises Errno(ENOMEM)."""
        if self._whole is None:
            if not self._budget.charge(self.size):
                raise Errno(ENOMEM)
            whole = self.read(0, self.size)
            if self.extent is not None:  # which changes without a word
                self._budget.charge(-self.size)
                return whole
            self._whole_bytes = self.size
            self._whole = whole
        return self._whole

    @property
    def given(self) -> bytes | None:
        """The content that Python gave, until it is changed."""
        return self._whole if self._whole and not self._whole_bytes else None

    def shows_base(self, size: int) -> bool:
        """Whether this is the base as it was, of `size` bytes: nothing was written, nothing cut off."""
        return not self._pages and self._base_size == self.size == size

    def _forget_whole(self) -> None:
        self._whole = None
        if self._whole_bytes:
            self._budget.charge(-self._whole_bytes)
            self._whole_bytes = 0

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Store `data`, or as much of it as the budget allows; return how much. Raises Errno(ENOSPC) when none."""
        if not data:
            return 0
        n = len(data)
        pages = self._pages
        first, last = offset >> SHIFT, (offset + n - 1) >> SHIFT
        if offset + n > self.size:
            self._clear_tail()
        for i in range(first, last + 1):
            if i not in pages and not self._charge():
                n = (i << SHIFT) - offset
                if n <= 0:
                    raise Errno(ENOSPC)
                break
            self._store(i, offset, data, n)
        self._forget_whole()
        self.size = max(self.size, offset + n)
        return n

    def _store(self, i: int, offset: int, data: bytes | memoryview, n: int) -> None:
        base = i << SHIFT
        start = max(0, offset - base)
        stop = min(PAGE, offset + n - base)
        piece = data[base + start - offset : base + stop - offset]
        page = self._pages.get(i)
        if page is not None:
            page[start:stop] = piece
            return
        self._new_page(i, b"" if stop - start == PAGE else self._from_base(base, PAGE))[start:stop] = piece

    def _new_page(self, i: int, content: bytes) -> bytearray | memoryview:
        """Page `i`, which was none, with `content`: nothing, or a whole page."""
        page: bytearray | memoryview
        if self._view is not None and i << SHIFT < len(self._view):
            page = self._view[i << SHIFT : (i + 1) << SHIFT]
            if content.strip(b"\0"):
                page[:] = content
        else:
            page = bytearray(content) or bytearray(PAGE)
        self._overlaid += i << SHIFT < self._base_size
        self._pages[i] = page
        return page

    def truncate(self, size: int) -> None:
        """Set the size; what is cut off is forgotten and its memory given back."""
        if size < self.size:
            self._cut(size)
        if size > self.size:
            self._clear_tail()
        if size != self.size:
            self._forget_whole()
            self.size = size

    def _clear_tail(self) -> None:
        """The file grows: what a mapping has stored behind its end, in its last page, was never part of it."""
        if (
            self.extent is not None
            and (start := self.size & PAGE - 1)
            and (page := self._pages.get(self.size >> SHIFT))
        ):
            page[start:] = bytes(PAGE - start)

    def _cut(self, size: int) -> None:
        keep = (size + PAGE - 1) >> SHIFT
        end = (self.size + PAGE - 1) >> SHIFT
        pages = self._pages
        self._drop([i for i in pages if i >= keep] if end - keep > len(pages) else range(keep, end))
        page = pages.get(size >> SHIFT)
        if page is not None and size & (PAGE - 1):
            page[size & (PAGE - 1) :] = bytes(PAGE - (size & (PAGE - 1)))
        if size < self._base_size:
            self._base_size = size
            if size == 0:
                self._base = None

    def _drop(self, indices: Iterable[int]) -> None:
        pages = self._pages
        gone = [i for i in indices if pages.pop(i, None) is not None]
        if gone and self.extent is not None:
            self._hide(gone)
        based = (self._base_size + PAGE - 1) >> SHIFT
        self._overlaid -= sum(i < based for i in gone) if self._overlaid else 0
        self._charge(-len(gone))

    def _charge(self, pages: int = 1) -> bool:
        if not self._budget.charge(PAGE * pages):
            return False
        self._charged += pages
        return True

    def free(self) -> None:
        """Forget everything and give the memory back."""
        self._forget_whole()
        self._budget.charge(-PAGE * self._charged)
        self._charged = self._overlaid = self._base_size = self.size = 0
        self._pages = {}
        self._base = None
        self._whole = b""
        if self.extent is not None:
            shown_by, self.extent, self._view, self._shown_by = self._shown_by, None, None, None
            for backing in tuple(shown_by or ()):
                backing.extent = None
                backing.hide()

    # --- for mappings -----------------------------------------------------------------------------------------------

    def share(self, backing: Backing) -> Extent | None:
        """Have the pages in an extent from now on, for `backing`; None where the host has none, or
        the file is too large.
        """
        if self.extent is None and self.size <= MOST_SHOWN:
            size = max(2 * self.size + PAGE - 1 & -PAGE, LEAST_SHOWN)
            try:
                extent = arena().allocate(size)
                view = extent.view() if extent.fd >= 0 else None
            except OSError:
                return None
            if view is None:
                return None
            for i, page in self._pages.items():
                if i << SHIFT < size:
                    view[i << SHIFT : (i + 1) << SHIFT] = page
                    self._pages[i] = view[i << SHIFT : (i + 1) << SHIFT]
            self.extent, self._view, self._shown_by = extent, view, weakref.WeakSet()
            self._forget_whole()
        if self._shown_by is not None:
            self._shown_by.add(backing)
        return self.extent

    def show_page(self, offset: int) -> bool:
        """Let the page at `offset` be in the extent, for a mapping to write; False without the memory for it, or beyond
        its end. Raises Errno as what is below.
        """
        i = offset >> SHIFT
        if self._view is None or offset >= len(self._view):
            return False
        if i not in self._pages:
            content = self._from_base(i << SHIFT, PAGE)
            if not self._charge():
                return False
            self._new_page(i, content)
            self._forget_whole()
        return True

    def _hide(self, gone: list[int]) -> None:
        """Pages were dropped: they are zeros in the extent, and not anybody's who maps them."""
        assert self.extent is not None
        first, last = min(gone), min(max(gone) + 1, self.extent.size >> SHIFT)
        if last - first == len(gone):
            self.extent.clear(first << SHIFT, (last - first) << SHIFT)
        else:
            for i in gone:
                if i < last:
                    self.extent.clear(i << SHIFT, PAGE)
        for backing in tuple(self._shown_by or ()):
            backing.hide()

    # --- holes ------------------------------------------------------------------------------------------------------

    def punch(self, offset: int, length: int) -> None:
        """Make a range read as zeros; whole pages of it give their memory back (fallocate(2), PUNCH_HOLE).

        Over a base the zeros are pages of their own: then Errno(ENOSPC) may be raised, or Errno(EOPNOTSUPP) for more
        than 64 MiB of them.
        """
        end = min(offset + length, self.size)
        if offset >= end:
            return
        first, last = (offset + PAGE - 1) >> SHIFT, end >> SHIFT  # whole pages
        based = min(last, (self._base_size + PAGE - 1) >> SHIFT)
        if based - first > MAX_PUNCHED:
            raise Errno(EOPNOTSUPP)
        self._forget_whole()
        for start, stop in ((offset, min(end, first << SHIFT)), (max(offset, last << SHIFT), end)):
            if start < stop and (start >> SHIFT in self._pages or start < self._base_size):
                self.write(start, bytes(stop - start))
            if last < first:
                return  # all in one page
        self._cover(first, based)
        gone = range(max(first, based), last)
        self._drop([i for i in self._pages if i in gone] if len(gone) > len(self._pages) else gone)

    def _cover(self, first: int, last: int) -> None:
        """Hide the pages [first, last) of the base behind zeros. Raises Errno(ENOSPC), and nothing has changed."""
        fresh = [i for i in range(first, last) if i not in self._pages]
        if fresh and not self._charge(len(fresh)):
            raise Errno(ENOSPC)
        self._overlaid += len(fresh)
        for i in range(first, last):
            if self._view is not None and i << SHIFT < len(self._view):
                page = self._pages[i] = self._view[i << SHIFT : (i + 1) << SHIFT]
                page[:] = bytes(PAGE)
            else:
                self._pages[i] = bytearray(PAGE)

    def seek_data(self, offset: int) -> int:
        """Return the first offset >= `offset` with data (SEEK_DATA). Raises Errno(ENXIO) when there is none."""
        if offset >= self.size:
            raise Errno(ENXIO)
        if offset < self._base_size or offset >> SHIFT in self._pages:
            return offset
        later = [i for i in self._pages if i > offset >> SHIFT]
        if not later:
            raise Errno(ENXIO)
        return min(later) << SHIFT

    def seek_hole(self, offset: int) -> int:
        """Return the first offset >= `offset` without data, the end at last (SEEK_HOLE). Raises Errno(ENXIO)."""
        if offset >= self.size:
            raise Errno(ENXIO)
        i = offset >> SHIFT
        if offset < self._base_size:
            i = (self._base_size + PAGE - 1) >> SHIFT
        while i in self._pages:
            i += 1
        return min(max(offset, i << SHIFT), self.size)


def _reader(whole: bytes) -> Base:
    return lambda offset, n: whole[offset : offset + n]

"""What is in a guest's memory, looked at as a whole: taken, compared, put back."""

from __future__ import annotations

from collections.abc import Iterator

from aiopyvm.errors import GuestMemoryError
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, used_runs
from aiopyvm.mem.space import AddressSpace

Content = dict[int, bytes]  # by address of the first byte; whole pages
NEAR = 16  # changed bytes that are no further apart are one change


def content_of(space: AddressSpace) -> Content:
    """The pages that were ever used, as runs: address to bytes. Pages of shared mappings that the host does not show
    in place are not among them."""
    view, pages = space.view, space.pages
    found: Content = {}
    for mapping in space.mappings():
        first = mapping.start >> PAGE_SHIFT
        for a, b in used_runs(bytes(pages[first : mapping.end >> PAGE_SHIFT])):
            start, end = (first + a) << PAGE_SHIFT, (first + b) << PAGE_SHIFT
            found[start] = bytes(view[start:end])
    return found


def by_page(content: Content) -> Content:
    """The same, one entry for each page."""
    return {
        start + at: data[at : at + PAGE] for start, data in content.items() for at in range(0, len(data), PAGE)
    }  # fmt: skip


def different_pages(one: AddressSpace, other: AddressSpace, mine: Content, its: Content) -> Iterator[int]:
    """Addresses of pages that differ; `mine` and `its` are the contents of the spaces. A page that only one of them
    has used is looked up in the other."""
    if mine == its:
        return
    a, b = by_page(mine), by_page(its)
    for page in sorted(a.keys() | b.keys()):
        if (a[page] if page in a else _peek(one, page)) != (b[page] if page in b else _peek(other, page)):
            yield page


def _peek(space: AddressSpace, page: int) -> bytes | None:
    try:
        return space.peek(page, PAGE)
    except GuestMemoryError:
        return None


def put_back(space: AddressSpace, content: Content) -> None:
    """Give memory the content it had, where nothing was mapped or unmapped since `content` was taken.

    A page that was used since gets its backing's content again, or zeros.
    """
    saved = by_page(content)
    for page, now in by_page(content_of(space)).items():
        before = saved[page] if page in saved else unused(space, page)
        if before != now:
            space.poke(page, before)


def unused(space: AddressSpace, page: int) -> bytes:
    """What a page of a mapping has that nobody has used."""
    mapping = space.find_mapping(page)
    assert mapping is not None
    if mapping.backing is None:
        return bytes(PAGE)
    return mapping.backing.read_at(mapping.offset + page - mapping.start, PAGE).ljust(PAGE, b"\0")


def changes(before: bytes, after: bytes) -> Iterator[tuple[int, int]]:
    """The places [start, end) where two pages differ; places near to one another are one."""
    start = end = -1
    for at in (at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b):
        if start >= 0 and at - end <= NEAR:
            end = at + 1
            continue
        if start >= 0:
            yield start, end
        start, end = at, at + 1
    if start >= 0:
        yield start, end

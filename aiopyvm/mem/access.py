"""Accesses to a space: the guest's, the kernel's copies, a debugger's looks, and the tracking of translated code.

Each tests the fast bits first and leaves the rest to `Residence`. Nothing is stored before every page of the access is
known to be writable (but `write` keeps what precedes the first bad byte). Listeners are called after the bytes have
changed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from collections.abc import Mapping as Table

from aiopyvm.errors import GuestMemoryError, HostRefusedError
from aiopyvm.mem.budget import MemoryBudget
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import EXEC, HELD, PAGE, PAGE_SHIFT, READ, THROUGH, TOUCHED, WRITE
from aiopyvm.mem.mappings import Mapping
from aiopyvm.mem.residence import Residence


class Accesses(Residence):
    """Loads, stores, fetches and copies; see the module's docstring."""

    __slots__ = ("close_listeners", "code_listeners", "translations")

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__(budget)
        self.translations: dict[object, object] = {}  # what engines keep for this space; gone when it is closed
        self.code_listeners: list[Callable[[int, int], None]] = []
        self.close_listeners: list[Callable[[], None]] = []  # called before the space is closed

    # The guest's

    def load(self, address: int, size: int) -> int:
        """The little-endian number in `size` bytes (>= 1) at `address`. Raises MemoryFault."""
        if size == 4:
            if address & 0xFFFFF003 in self.readable:
                return self.view32[address >> 2]
        elif size == 1:
            if address & 0xFFFFF000 in self.readable:
                return self.view[address]
        elif size == 2 and address & 0xFFFFF001 in self.readable:
            return self.view16[address >> 1]
        end = address + size
        if address & 0xFFFFF000 in self.readable and (address & 0xFFF) + size <= PAGE:
            return int.from_bytes(self.view[address:end], "little")
        if self._ready(address, end, "r") & THROUGH:
            return int.from_bytes(self._gather(address, end), "little")
        return int.from_bytes(self.view[address:end], "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Write `value` (0 <= value < 256**size) little-endian at `address`, wholly or not at all.

        Raises MemoryFault.
        """
        if size == 4:
            if address & 0xFFFFF003 in self.writable:
                self.view32[address >> 2] = value
                return
        elif size == 1:
            if address & 0xFFFFF000 in self.writable:
                self.view[address] = value
                return
        elif size == 2 and address & 0xFFFFF001 in self.writable:
            self.view16[address >> 1] = value
            return
        end = address + size
        data = value.to_bytes(size, "little")
        if address & 0xFFFFF000 in self.writable and (address & 0xFFF) + size <= PAGE:
            self.view[address:end] = data
        else:
            self._put(address, data, self._ready(address, end, "w"))

    def fetch(self, address: int, limit: int) -> bytes:
        """The executable bytes from `address`: at least one, at most `limit`.

        Raises MemoryFault where there is none.
        """
        seen = self._ready(address, address + 1, "x")
        end = (address | PAGE - 1) + 1
        stop = address + limit
        while end < stop:
            try:
                seen |= self._ready(end, end + 1, "x")
            except MemoryFault:
                break
            end += PAGE
        end = min(end, stop)
        return self._gather(address, end) if seen & THROUGH else bytes(self.view[address:end])

    def probe(self, address: int, size: int, write: bool) -> None:
        """Raise the MemoryFault that an access to [address, address+size) would raise."""
        if size > 0:
            self._ready(address, address + size, "w" if write else "r")

    # The kernel's

    def read(self, address: int, n: int) -> bytes:
        """Copy `n` bytes out. Raises MemoryFault with the address of the first bad byte."""
        return bytes(self.show(address, n))

    def show(self, address: int, n: int) -> bytes | memoryview:
        """As `read`, without a copy where that can be: good until the guest's memory changes, and not to be kept.

        A system call of the host may be given it, which would not bear a fault: the host's protection is made right.
        """
        if n <= 0:
            return b""
        end = address + n
        fast = address & 0xFFFFF000 in self.readable and end <= (address | PAGE - 1) + 1
        if not fast and self._ready(address, end, "r") & THROUGH:
            return self._gather(address, end)
        if self.protection is not None:
            self.protection.ready()
        return self.view[address:end]

    def glance(self, address: int, n: int) -> bytes | memoryview:
        """As `show`, for a copy that Python itself makes: it bears a fault."""
        end = address + n
        if address & 0xFFFFF000 in self.readable and 0 < n and end <= (address | PAGE - 1) + 1:
            return self.view[address:end]
        if n <= 0:
            return b""
        if self._ready(address, end, "r") & THROUGH:
            return self._gather(address, end)
        return self.view[address:end]

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in. Raises MemoryFault with the address of the first bad byte; what precedes it is written."""
        n = len(data)
        if not n:
            return
        end = address + n
        if address & 0xFFFFF000 in self.writable and end <= (address | PAGE - 1) + 1:
            self.view[address:end] = data
            return
        try:
            seen = self._ready(address, end, "w")
        except MemoryFault as fault:
            if good := fault.address - address:
                self._put(address, memoryview(data)[:good], self._ready(address, fault.address, "w"))
            raise
        self._put(address, data, seen)

    def room(self, address: int, n: int) -> memoryview | None:
        """The `n` (>= 1) bytes at `address`, to be stored to before anything else is done; None: `write` has to do it.

        Raises MemoryFault.
        """
        end = address + n
        fast = address & 0xFFFFF000 in self.writable and end <= (address | PAGE - 1) + 1
        if not fast and self._ready(address, end, "w") & (THROUGH | HELD):
            return None
        return self.view[address:end]

    def read_cstr(self, address: int, limit: int = 4096) -> bytes:
        """The bytes before the first NUL; exactly `limit` bytes when there is none among them. Raises MemoryFault."""
        parts = []
        while limit > 0:
            end = min((address | PAGE - 1) + 1, address + limit)
            if self._ready(address, end, "r") & THROUGH:
                part, nul, _ = self._gather(address, end).partition(b"\0")
                found = bool(nul)
            else:
                at = self._reservation.find(b"\0", address, end)
                found = at >= 0
                part = bytes(self.view[address : at if found else end])
            parts.append(part)
            if found:
                break
            limit -= end - address
            address = end
        return b"".join(parts)

    # A debugger's

    def peek(self, address: int, n: int) -> bytes:
        """`n` bytes as the guest has them, whatever its permissions; touches nothing. Raises GuestMemoryError."""
        if n <= 0:
            return b""
        self._require_mapped(address, n)
        return self._gather(address, address + n)

    def poke(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` whatever the guest's permissions.

        Raises GuestMemoryError; HostRefusedError for want of memory.
        """
        n = len(data)
        if n <= 0:
            return
        self._require_mapped(address, n)
        seen = 0
        for page in range(address >> PAGE_SHIFT, (address + n - 1 >> PAGE_SHIFT) + 1):
            at = max(address, page << PAGE_SHIFT)
            mapping = self._maps.find(at)
            assert mapping is not None
            try:
                seen |= self._settle(mapping, at, "w")
            except MemoryFault as fault:
                if fault.out_of_memory:
                    raise HostRefusedError(errno.ENOMEM, f"no memory for guest address {at:#010x}") from None
                raise GuestMemoryError(f"guest address {at:#010x} is past the end of what is mapped there") from None
            if page in self._code:
                seen |= HELD
        self._put(address, data, seen)

    def _require_mapped(self, address: int, n: int) -> None:
        if address < 0 or not self._maps.covers(address, address + n):
            raise GuestMemoryError(f"{n} bytes at guest address {address:#010x} are not all mapped")

    # Code tracking

    def track_code(self, address: int, length: int) -> None:
        """From now on a change of [address, address+length) calls `code_listeners` with (address, length) of the
        change.

        A change is a store, a copy or a poke of other bytes than were there (the listener may be told of bytes near
        by: lines of 64 are tracked), or that the pages were unmapped, mapped over or protected: then nothing in them
        is tracked any more.
        """
        for page in self._code.add(address, length):
            mapping = self._maps.find(page << PAGE_SHIFT)
            if mapping is not None and mapping.shared and mapping.backing is not None:
                mapping.backing.code_found()
            bits = self.pages[page]
            if bits & WRITE:
                self._set(page, bits & ~WRITE | HELD)

    def track_image(self, pages: Table[int, int]) -> None:
        """As `track_code`, of whole pages (`whole_pages`) that show an image (`shown_image`): none of them may be
        written at once."""
        self._code.add_pages(pages)

    def untrack_code(self, address: int, length: int) -> None:
        """Stop tracking the 64-byte lines of [address, address+length): no translation of a byte in them is left."""
        for page in self._code.remove(address, length):
            bits = self.pages[page]
            if bits & HELD:
                self._set(page, bits & ~HELD | WRITE)

    def backing_has_code(self, backing: object) -> None:
        """A shared backing is run as code somewhere: stores to it take the slow path from now on."""
        for m in self._maps:
            if m.backing is backing and m.shared:
                self._clear_fast(m.start >> PAGE_SHIFT, m.end >> PAGE_SHIFT)

    def backing_changed(self, backing: object, offset: int, length: int) -> None:
        """Bytes [offset, offset+length) of a shared backing have changed."""
        if not self._code:
            return
        for m in list(self._maps):
            if m.backing is backing and m.shared:
                start = max(m.start, m.start + offset - m.offset)
                end = min(m.end, m.start + offset + length - m.offset)
                if start < end and self._code.hit(start, end - start):
                    self._tell(start, end - start)

    def _tell(self, address: int, length: int) -> None:
        for listener in tuple(self.code_listeners):
            listener(address, length)

    def _code_gone(self, first: int, last: int) -> None:
        """Whatever was translated from the pages [first, last) is void."""
        for page in self._code.pages(first, last):
            self.untrack_code(page << PAGE_SHIFT, PAGE)
            self._tell(page << PAGE_SHIFT, PAGE)

    # Bytes in and out of ready pages

    def _put(self, address: int, data: bytes | bytearray | memoryview, seen: int) -> None:
        """Store `data` where `_ready(..., "w")` saw the bits `seen`."""
        end = address + len(data)
        hit = seen & HELD and self._code.hit(address, end - address)
        if seen & THROUGH:
            self._scatter(address, memoryview(data))
        elif hit and self.view[address:end] == data:
            return  # the same bytes: the code is as it was
        else:
            self.view[address:end] = data
        if hit:
            self._tell(address, end - address)

    def _scatter(self, address: int, data: memoryview) -> None:
        """Store page by page, through shared mappings into their backing."""
        end = address + len(data)
        at = address
        while at < end:
            stop = min((at | PAGE - 1) + 1, end)
            part = data[at - address : stop - address]
            mapping = self._maps.find(at)
            assert mapping is not None
            if mapping.shared and mapping.backing is not None:
                _write_through(mapping, at, part)
            else:
                self.view[at:stop] = part
            at = stop

    def _gather(self, address: int, end: int) -> bytes:
        """Copy mapped bytes out page by page, wherever they are, without touching them."""
        parts = []
        while address < end:
            stop = min((address | PAGE - 1) + 1, end)
            parts.append(self._look(address, stop))
            address = stop
        return b"".join(parts)

    def _look(self, address: int, stop: int) -> bytes:
        """The bytes [address, stop) of one mapped page."""
        page = address >> PAGE_SHIFT
        if self.pages[page] & (TOUCHED | READ | EXEC):
            return bytes(self.view[address:stop])
        mapping = self._maps.find(address)
        assert mapping is not None
        if (granule := self._inherited.source(page)) is not None:
            start = page << PAGE_SHIFT
            return bytes(granule.read(page)[address - start : stop - start])
        if mapping.backing is None:
            return bytes(stop - address)
        try:
            content = mapping.backing.read_at(mapping.offset + address - mapping.start, stop - address)
        except OSError:
            raise GuestMemoryError(f"the file mapped at guest address {address:#010x} cannot be read") from None
        return content.ljust(stop - address, b"\0")


def _write_through(mapping: Mapping, address: int, data: memoryview) -> None:
    """Store into the backing of a shared mapping; what lies past its end is lost, as on Linux."""
    assert mapping.backing is not None
    offset = mapping.offset + address - mapping.start
    inside = bytes(data[: max(0, mapping.backing.size() - offset)])
    if inside:
        try:
            mapping.backing.write_at(offset, inside)
        except OSError:
            raise MemoryFault(address, "w", present=True, bus=True) from None
        mapping.backing.changed(offset, len(inside))

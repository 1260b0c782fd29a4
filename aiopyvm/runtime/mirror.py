"""A guest's memory inside a stepped process of the host: pages come there when the processor asks for them.

What always holds between two instructions: a page that is there has the guest's bytes; it is writable there only if
the guest may write it, and then it is among those that `pull` looks at. Whatever else changes the guest's memory or
its mappings is seen by the next `push`.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.engine.protocol import Exit
from aiopyvm.engine.python.rare import page_fault
from aiopyvm.host.ptrace import Places, Tracee
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE
from aiopyvm.mem.space import AddressSpace

MOST_OPEN: Final = 32  # pages that are writable at once
_MMAP, _MPROTECT, _MUNMAP = 9, 10, 11
_FLAGS: Final = 0x32  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
_NO_FILE: Final = (1 << 64) - 1


class Mirror:
    """The memory of `space`, as `tracee` has it. Raises HostRefusedError where the host refuses what that needs."""

    def __init__(self, space: AddressSpace, tracee: Tracee) -> None:
        self.space = space
        self.tracee = tracee
        self._known: dict[int, bytes] = {}  # by page address: what both have
        self._prot: dict[int, int] = {}  # of the guest's mapping, when the page came
        self._open: dict[int, None] = {}  # writable there, in the order in which they became so
        self._places: Places | None = None
        self._seen = b""  # of the open pages, one after the other

    def push(self) -> None:
        """Let the tracee have what the guest's kernel has changed."""
        space = self.space
        for page in list(self._known):
            mapping = space.find_mapping(page)
            if mapping is None or mapping.prot != self._prot[page]:
                self._forget(page)
                continue
            content = space.peek(page, PAGE)
            if content != self._known[page]:
                self._known[page] = content
                self.tracee.write(page, content)
                self._places = None

    def pull(self) -> None:
        """Let the guest have what the tracee has written."""
        if not self._open:
            return
        if self._places is None:
            self._places = Places(list(self._open), PAGE)
            self._seen = b"".join(self._known[page] for page in self._open)
        now = self.tracee.read_blocks(self._places)
        if now == self._seen:
            return
        for n, page in enumerate(self._open):
            content = now[n * PAGE : (n + 1) * PAGE]
            if content != self._known[page]:
                self._known[page] = content
                self.space.poke(page, content)
        self._seen = now

    def admit(self, address: int, eip: int, length: int) -> Exit | None:
        """The instruction of `length` bytes at `eip` has faulted at `address`: make that access possible, or return
        the exit that it is. Whether an access to a page that is not there reads or writes is not known: it reads."""
        page = address & -PAGE
        try:
            if page in self._known:
                self._admit_more(page, address, eip, length)
                return None
            if eip <= address < eip + length and (address == eip or not address & PAGE - 1):
                self.space.fetch(address, 1)
            else:
                self.space.probe(address, 1, write=False)
        except MemoryFault as fault:
            return page_fault(fault)
        self._bring(page)
        return None

    def _admit_more(self, page: int, address: int, eip: int, length: int) -> None:
        """The page is there, and the access still faulted: it writes. Raises MemoryFault."""
        if not self._prot[page] & PROT_EXEC and eip <= address < eip + length:
            self.space.fetch(address, 1)  # raises
        if page in self._open:
            raise MemoryFault(address, "w", present=True)
        self.space.probe(address, 1, write=True)
        if len(self._open) >= MOST_OPEN:
            self._protect(next(iter(self._open)))
        self._open[page] = None
        self._places = None
        self.tracee.call(_MPROTECT, page, PAGE, self._host_prot(page) | PROT_WRITE)

    def _bring(self, page: int) -> None:
        mapping = self.space.find_mapping(page)
        assert mapping is not None
        self._prot[page] = mapping.prot
        self._known[page] = content = self.space.peek(page, PAGE)
        self.tracee.call(_MMAP, page, PAGE, self._host_prot(page), _FLAGS, _NO_FILE, 0)
        if content.count(0) != PAGE:
            self.tracee.write(page, content)

    def _host_prot(self, page: int) -> int:
        return PROT_READ | self._prot[page] & PROT_EXEC

    def _protect(self, page: int) -> None:
        self.tracee.call(_MPROTECT, page, PAGE, self._host_prot(page))
        del self._open[page]
        self._places = None

    def _forget(self, page: int) -> None:
        self.tracee.call(_MUNMAP, page, PAGE)
        del self._known[page], self._prot[page]
        if self._open.pop(page, 0) is None:
            self._places = None

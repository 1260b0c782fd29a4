"""A naive address space to compare with: a dictionary of pages, each with its own bytes; forks copy everything."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiopyvm.mem.faults import Access, MemoryFault

PAGE = 4096
_ALLOWED = {"r": 7, "w": 2, "x": 4}


@dataclass
class Page:
    """`origin` is what MADV_DONTNEED brings back; `bus`: past the end of the backing."""

    prot: int
    data: bytearray
    origin: bytes
    shared: bool = False
    bus: bool = False

    def copy(self) -> Page:
        return Page(self.prot, self.data if self.shared else bytearray(self.data), self.origin, self.shared, self.bus)


@dataclass
class Model:
    """The same operations as `AddressSpace`, on whole pages."""

    pages: dict[int, Page] = field(default_factory=dict)

    def fork(self) -> Model:
        return Model({n: page.copy() for n, page in self.pages.items()})

    def map(self, address: int, length: int, prot: int, content: bytes | None, *, shared: bool = False) -> None:
        """`content` None: zeros; pages past its end are bus faults."""
        for i in range(length // PAGE):
            part = bytes(PAGE) if content is None else content[i * PAGE : (i + 1) * PAGE]
            origin = part.ljust(PAGE, b"\0")
            self.pages[address // PAGE + i] = Page(prot, bytearray(origin), origin, shared, bus=not part)

    def share(self, address: int, pages: list[bytearray], prot: int) -> None:
        for i, data in enumerate(pages):
            self.pages[address // PAGE + i] = Page(prot, data, b"", shared=True)

    def unmap(self, address: int, length: int) -> None:
        for n in range(address // PAGE, (address + length) // PAGE):
            self.pages.pop(n, None)

    def protect(self, address: int, length: int, prot: int) -> None:
        for n in range(address // PAGE, (address + length) // PAGE):
            if n not in self.pages:
                break
            self.pages[n].prot = prot

    def discard(self, address: int, length: int) -> None:
        for n in range(address // PAGE, (address + length) // PAGE):
            if n in self.pages and not self.pages[n].shared:
                self.pages[n].data[:] = self.pages[n].origin

    def move(self, old: int, length: int, new: int) -> None:
        lifted = [self.pages.pop(old // PAGE + i) for i in range(length // PAGE)]
        for i, page in enumerate(lifted):
            self.pages[new // PAGE + i] = page

    def check(self, address: int, size: int, access: Access) -> MemoryFault | None:
        """The fault that an access raises, if any."""
        for at in (address, *range((address | PAGE - 1) + 1, address + size, PAGE)):
            page = self.pages.get(at // PAGE)
            if page is None:
                return MemoryFault(at, access)
            if not page.prot & _ALLOWED[access]:
                return MemoryFault(at, access, present=True)
            if page.bus:
                return MemoryFault(at, access, present=True, bus=True)
        return None

    def read(self, address: int, n: int) -> bytes:
        return bytes(self.pages[a // PAGE].data[a % PAGE] for a in range(address, address + n))

    def write(self, address: int, data: bytes) -> None:
        for a, byte in enumerate(data, address):
            self.pages[a // PAGE].data[a % PAGE] = byte

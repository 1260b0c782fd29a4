"""The debug registers of a thread (Intel SDM vol. 3B, "Debug Registers"): up to four places that are watched.

How it works. While DR7 enables a place the thread's instructions are executed one by one, by their definition, with
accesses seen (`seen`). A place of data is told after the instruction that accessed it; one of code before the
instruction there, which is let go on the next time (RF). `take` gives what the last instruction met, and notes it in
DR6. What always holds: `places` has what DR7 enables.
"""

from __future__ import annotations

from typing import Any, Final

DR6_RESERVED: Final = 0xFFFF0FF0  # bits that read as 1
BS: Final = 1 << 14  # DR6: a single step
COUNT: Final = 4
EXECUTE, WRITE, IO, ACCESS = range(4)  # R/Wn of DR7
LENGTHS: Final = (1, 2, 8, 4)  # LENn of DR7


class DebugRegisters:
    """DR0 to DR7 of one thread; `addresses` are DR0 to DR3."""

    __slots__ = ("_hits", "_passed", "addresses", "control", "places", "status")

    def __init__(self) -> None:
        self.addresses = [0] * COUNT
        self.status = DR6_RESERVED
        self.control = 0
        self.places: tuple[tuple[int, int, int, int], ...] = ()  # number, kind, first byte, byte behind the last
        self._hits = 0
        self._passed = -1  # where code was told of: the instruction there is executed next

    def set(self, addresses: list[int], control: int) -> None:
        """Set the places, and which of them are enabled. Raises ValueError for what is no place."""
        places = []
        for number, address in enumerate(addresses):
            kind, length = control >> 16 + 4 * number & 3, LENGTHS[control >> 18 + 4 * number & 3]
            if not control >> 2 * number & 3:
                continue
            if kind == IO or (kind == EXECUTE and length > 1) or address & length - 1:
                raise ValueError(f"no place for a breakpoint: {length} bytes at {address:#x}, kind {kind}")
            places.append((number, kind, address, address + length))
        self.addresses, self.control, self.places = addresses, control, tuple(places)

    def stops_at(self, eip: int) -> bool:
        """The instruction at `eip` is to be told of before it is executed."""
        passed, self._passed = self._passed, -1
        if passed == eip:
            return False
        for number, kind, start, _ in self.places:
            if kind == EXECUTE and start == eip:
                self._hits |= 1 << number
        if self._hits:
            self._passed = eip
        return self._hits != 0

    def note(self, address: int, size: int, kind: int) -> None:
        """The instruction made an access (WRITE or ACCESS, a load)."""
        for number, wanted, start, end in self.places:
            if wanted in (kind, ACCESS) and address < end and start < address + size:
                self._hits |= 1 << number

    def forget(self) -> None:
        """The instruction was not executed after all."""
        self._hits = 0

    @property
    def met(self) -> bool:
        """A place was met since `take`."""
        return self._hits != 0

    def take(self, *, stepped: bool) -> int:
        """A debug exception: DR6 as it is then; the numbers of the places that were met, as bits."""
        hits, self._hits = self._hits, 0
        self.status = DR6_RESERVED | hits | (BS if stepped else 0)
        return hits

    def seen(self, core: Any) -> SeenCore:
        """`core` with accesses to memory that are noted here."""
        return SeenCore(core, self)


class SeenCore:
    """A core whose accesses to memory are noted."""

    def __init__(self, core: Any, debug: DebugRegisters) -> None:
        self._core = core
        self.cpu = core.cpu
        self.memory = SeenMemory(core.memory, debug)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


class SeenMemory:
    """An address space whose loads and stores are noted."""

    def __init__(self, space: Any, debug: DebugRegisters) -> None:
        self._space = space
        self._debug = debug

    def load(self, address: int, size: int) -> int:
        """As the space's."""
        value: int = self._space.load(address, size)
        self._debug.note(address, size, ACCESS)
        return value

    def store(self, address: int, size: int, value: int) -> None:
        """As the space's."""
        self._space.store(address, size, value)
        self._debug.note(address, size, WRITE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)

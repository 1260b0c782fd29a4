"""Guest memory in checked form: the page's permission byte before each access, then the access itself.

An access may straddle two pages: that of its last byte is looked at too, in a branch of its own (which leaves more
registers than combining the two). An address over the end of 4 GiB finds a page
that is never mapped. What was checked in an instruction needs no second check there. A failing check leaves the
instruction for Python, which raises the fault or makes the page fast, so the code behind a check never faults.

Guest accesses are `volatile`: LLVM neither deletes, merges nor reorders them against one another. The permission bytes
are plain loads: nothing changes them while generated code runs.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.engine.native.layout import PAGE_TABLE
from aiopyvm.engine.native.llvmtext import LIKELY, Text
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, READ, WRITE

_WHOLE: Final = frozenset((8, 16, 32, 64))  # bits that one access moves


class Accesses:
    """Writes accesses of checked guest memory into a function; `volatile` as LLVM has it, or nothing."""

    volatile = ""

    def __init__(self, text: Text) -> None:
        self.text = text

    def load_at(self, address: str, at: int, bits: int) -> str:
        """Load an integer of 8, 16, 32 or 64 bits `at` bytes behind a checked address."""
        return self.text.fresh(f"load {self.volatile}i{bits}, ptr {self.place(address, at)}, align 1")

    def store_at(self, address: str, at: int, bits: int, value: str) -> None:
        """Store an integer of 8, 16, 32 or 64 bits `at` bytes behind a checked address."""
        self.text.line(f"store {self.volatile}i{bits} {value}, ptr {self.place(address, at)}, align 1")

    def load_whole(self, address: str, kind: str, at: int = 0) -> str:
        """Load a value of LLVM type `kind` `at` bytes behind a checked address."""
        return self.text.fresh(f"load {self.volatile}{kind}, ptr {self.place(address, at)}, align 1")

    def store_whole(self, address: str, kind: str, value: str, at: int = 0) -> None:
        """Store a value of LLVM type `kind` `at` bytes behind a checked address."""
        self.text.line(f"store {self.volatile}{kind} {value}, ptr {self.place(address, at)}, align 1")

    def place(self, address: str, at: int) -> str:
        """The host's address (ptr) of what is `at` bytes behind a checked address: none wraps inside what was checked,
        for the last page is never mapped.
        """
        text = self.text
        host = text.value(f"getelementptr i8, ptr %mem, i64 {text.value(f'zext i32 {address} to i64')}")
        return text.value(f"getelementptr i8, ptr {host}, i64 {at}") if at else host


class CheckedMemory(Accesses):
    """Writes accesses into a function; `checked` is what the current instruction needs not check again."""

    volatile = "volatile "

    def __init__(self, text: Text) -> None:
        super().__init__(text)
        self.checked: dict[tuple[str, bool], int] = {}  # by address and whether for writing: bytes

    def new_instruction(self) -> None:
        """Forget what was checked."""
        self.checked.clear()

    def is_checked(self, address: str, size: int, write: bool) -> bool:
        """Tell whether an access can no longer fail: what may be written may be read."""
        return any(self.checked.get((address, kind), 0) >= size for kind in ({True, write}))

    def check(self, address: str, size: int, write: bool, failed: str) -> None:
        """Branch to the label `failed` unless [address, address+size) may be accessed at once."""
        if self.is_checked(address, size, write):
            return
        if size > PAGE:
            raise ValueError(f"no check of {size} bytes")
        self._check_page(address, write, failed)
        if size > 1:
            self._check_page(self.text.value(f"add i32 {address}, {size - 1}"), write, failed)
        self.checked[address, write] = size

    def _check_page(self, address: str, write: bool, failed: str) -> None:
        text = self.text
        bit = text.value(f"and i8 {self._permissions(address)}, {WRITE if write else READ}")
        fine, label = text.value(f"icmp ne i8 {bit}, 0"), text.new_label()
        text.branch(fine, label, failed, LIKELY)
        text.label(label)

    def _permissions(self, address: str) -> str:
        text = self.text
        table = text.value(f"getelementptr i8, ptr %mem, i64 {PAGE_TABLE}")
        page = text.value(f"zext i32 {text.value(f'lshr i32 {address}, {PAGE_SHIFT}')} to i64")
        return text.value(f"load i8, ptr {text.value(f'getelementptr i8, ptr {table}, i64 {page}')}")

    def load(self, address: str, bits: int) -> str:
        """Load an integer of `bits` from a checked address."""
        if bits in _WHOLE:
            return self.load_at(address, 0, bits)
        pieces = _pieces(bits)
        value = ""
        for at, size in pieces:
            piece = self.text.value(f"zext i{size} {self.load_at(address, at, size)} to i{bits}")
            if at:
                piece = self.text.value(f"shl i{bits} {piece}, {8 * at}")
            value = self.text.value(f"or i{bits} {value}, {piece}") if value else piece
        return value

    def store(self, address: str, bits: int, value: str) -> None:
        """Store an integer of `bits` at a checked address."""
        if bits in _WHOLE:
            self.store_at(address, 0, bits, value)
            return
        for at, size in _pieces(bits):
            piece = self.text.value(f"lshr i{bits} {value}, {8 * at}") if at else value
            self.store_at(address, at, size, self.text.value(f"trunc i{bits} {piece} to i{size}"))


def _pieces(bits: int) -> list[tuple[int, int]]:
    """How an integer of whole bytes is moved: byte offsets and bits of each piece."""
    pieces, at = [], 0
    while 8 * at < bits:
        size = next(size for size in (64, 32, 16, 8) if size <= bits - 8 * at)
        pieces.append((at, size))
        at += size // 8
    return pieces

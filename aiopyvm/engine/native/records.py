"""From bytes to records: what an instruction becomes, and runs of them that any number of spaces copy.

A `Form` is an instruction's record without its address. A `Run` is what stands at an address: straight code up to where
control may go elsewhere, the end of its page, or the end of code; it depends on bytes and addresses alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.recordarena import NO_REGISTERS, RECORD
from aiopyvm.isa.decode_faults import DecodeFault, NeedMore
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE
from aiopyvm.mem.space import AddressSpace

if TYPE_CHECKING:
    from aiopyvm.isa.insn import Insn

MAX_RUN: Final = 64  # instructions
_WINDOW: Final = 256  # bytes looked at for a run, in one page
MOST_FORMS: Final = 1 << 13
MOST_RUNS: Final = 1 << 15  # instructions of runs that are kept for spaces to come


@dataclass(frozen=True, slots=True)
class Form:
    """How an instruction's record is filled, wherever it stands.

    `handler` is the handler's distance from code_base. `relative`: a static target, from the next instruction on, cut
    with `mask`; None: `third` is a value. `ends`: control may go elsewhere than to the next instruction; `falls`: it
    may go there. `call`: the target is a procedure. `missing` names the handler that is wanted, where there is none
    yet and `handler` leaves the instruction to Python.
    """

    handler: int
    registers: bytes = NO_REGISTERS
    values: tuple[int, int] = (0, 0)
    third: int = 0
    relative: int | None = None
    mask: int = 0xFFFFFFFF
    ends: bool = False
    falls: bool = True
    call: bool = False
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Straight code at `addresses[0]`: its bytes, the addresses of its instructions, their records without links.

    `branches`: (index of the instruction, target, whether passes through it are to be counted). `next`: the address
    behind the last instruction; `falls`: control may go there. `missing`: (index, handler that is wanted).
    """

    code: bytes
    addresses: tuple[int, ...]
    records: bytes
    branches: tuple[tuple[int, int, bool], ...]
    next: int
    falls: bool
    missing: tuple[tuple[int, str], ...]


class Runs:
    """Decodes runs, and keeps those that were decoded last, for all spaces of the process.

    `form` tells how an instruction's record is filled.
    """

    def __init__(self, form: Callable[[Insn], Form]) -> None:
        self._make_form = form
        self._forms: dict[bytes, Form] = {}
        self._runs: dict[tuple[int, int], Run] = {}
        self._length = 0
        self._lock = threading.Lock()
        self.decoded = 0

    def find(self, space: AddressSpace, address: int, stop: int) -> Run:
        """The run at `address` of `space`, where code ends at `stop`.

        Raises MemoryFault or DecodeFault of its first instruction. Touches no page that executing that instruction
        would not touch.
        """
        key = address, stop
        run = self._runs.get(key)
        if run is None or not _has(space, address, run.code):
            run = self._decode(space, address, stop)
            with self._lock:
                if self._length >= MOST_RUNS:
                    self._runs.clear()
                    self._length = 0
                self._runs[key] = run
                self._length += len(run.addresses)
        return run

    def forget(self) -> None:
        """Forget all runs and forms: handlers have come."""
        with self._lock:
            self._forms.clear()
            self._runs.clear()
            self._length = 0

    def form(self, insn: Insn) -> Form:
        """How `insn` becomes a record."""
        form = self._forms.get(insn.code)
        if form is None:
            if len(self._forms) >= MOST_FORMS:
                self._forms.clear()
            form = self._forms[insn.code] = self._make_form(insn)
        return form

    def _decode(self, space: AddressSpace, address: int, stop: int) -> Run:
        """Decode instructions that lie in one page, or one that does not."""
        from aiopyvm.engine.python.fetch import fetch_insn  # programs that were run before do without
        from aiopyvm.isa.decode import MAX_LENGTH, decode

        insn = fetch_insn(space, address)
        window = space.fetch(address, min(_WINDOW, PAGE - (address & PAGE - 1)))
        maker = _Maker(address)
        form = self.form(insn)
        offset = insn.length
        while maker.add(insn, form) and len(maker.addresses) < MAX_RUN and offset < len(window) and maker.at != stop:
            try:
                insn = decode(window[offset : offset + MAX_LENGTH])
            except (DecodeFault, NeedMore):
                break
            form = self.form(insn)
            offset += insn.length
        self.decoded += len(maker.addresses)
        return maker.run()


class _Maker:
    """A run in the making; `at` is where its next instruction stands."""

    def __init__(self, address: int) -> None:
        self.at = address
        self.addresses: list[int] = []
        self._code: list[bytes] = []
        self._records: list[bytes] = []
        self._branches: list[tuple[int, int, bool]] = []
        self._missing: list[tuple[int, str]] = []
        self._falls = True

    def add(self, insn: Insn, form: Form) -> bool:
        """Add an instruction; False where no other can follow."""
        index, address, length = len(self.addresses), self.at, len(insn.code)
        self.at = address + length & 0xFFFFFFFF
        if form.relative is not None:
            target = self.at + form.relative & form.mask
            self._branches.append((index, target, form.call or target <= address))
        if form.missing:
            self._missing.append((index, form.missing))
        self.addresses.append(address)
        self._code.append(insn.code)
        self._records.append(RECORD.pack(form.handler, address, form.registers, length, *form.values, form.third))
        self._falls = form.falls
        return not form.ends

    def run(self) -> Run:
        """The run as it is now."""
        return Run(
            b"".join(self._code), tuple(self.addresses), b"".join(self._records), tuple(self._branches), self.at,
            self._falls, tuple(self._missing),
        )  # fmt: skip


def _has(space: AddressSpace, address: int, code: bytes) -> bool:
    """Tell whether `code` is at `address`; no page is touched that running what is there would not touch."""
    room = PAGE - (address & PAGE - 1)
    try:
        if space.fetch(address, min(room, len(code))) != code[:room]:
            return False
        return len(code) <= room or space.fetch(address + room, len(code) - room) == code[room:]
    except MemoryFault:
        return False

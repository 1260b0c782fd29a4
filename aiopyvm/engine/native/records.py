"""From bytes to records: what an instruction becomes, and runs of them that any number of spaces copy.

A `Form` is an instruction's record without its address. A `Run` is what stands at an address: straight code up to where
control may go elsewhere, the end of its page, or the end of code; it depends on bytes and addresses alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.engine.native.decodejob import BRANCH, CALLS, FALLS, DecodeJob
from aiopyvm.engine.native.recordarena import NO_REGISTERS, RECORD
from aiopyvm.isa.decode_faults import DecodeFault, NeedMore
from aiopyvm.mem.layout import EXEC, PAGE, PAGE_SHIFT
from aiopyvm.mem.space import AddressSpace

if TYPE_CHECKING:
    from aiopyvm.engine.native.blockdecoder import BlockDecoder
    from aiopyvm.isa.insn import Insn

# Rows behind which decoding goes on nowhere: control never comes back behind the instruction, or seldom.
MAX_LENGTH: Final = 15  # bytes of an instruction (Intel SDM vol. 3B, "Limit on Instruction Length")
NEVER_FALL: Final = frozenset(("jmp", "ret", "retf", "iret", "iretd", "hlt", "ud2"))
CALL: Final = "call"
MAX_RUN: Final = 64  # instructions
_WINDOW: Final = 256  # bytes looked at for a run, in one page
MOST_FORMS: Final = 1 << 13


class Form(NamedTuple):
    """How an instruction's record is filled, wherever it stands.

    `handler` is the handler's distance from code_base. `relative`: a static target, from the next instruction on, cut
    with `mask`; None: `third` is a value. `ends`: control may go elsewhere than to the next instruction; `falls`: it
    may go there. `call`: the target is a procedure. `general`: it is filled for a general shape. `missing` names the
    handler that is wanted, where there is none yet and `handler` leaves the instruction to Python.
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
    general: bool = False


class Run(NamedTuple):
    """Straight code at `addresses[0]`: the addresses of its instructions, their records without links.

    `branches`: (index of the instruction, target, whether passes through it are to be counted). `next`: the address
    behind the last instruction; `falls`: control may go there. `missing`: (index, handler that is wanted).
    """

    addresses: tuple[int, ...]
    records: bytes
    branches: tuple[tuple[int, int, bool], ...]
    next: int
    falls: bool
    missing: tuple[tuple[int, str], ...]

    @property
    def handlers(self) -> list[int]:
        """The instructions' handlers."""
        return memoryview(self.records).cast("I")[:: RECORD.size // 4].tolist()


class Runs:
    """Decodes runs, for all spaces of the process. Thread-safe.

    `form` tells how an instruction's record is filled; `find_handler` where a handler is that was missing (None: it
    still is). `decoder` decodes in generated code what it knows (None: nothing); the rest is decoded here, by the
    instruction table, one instruction at a time, as far as a processor with the features `allowed` has it (None: all).
    """

    def __init__(
        self,
        form: Callable[[Insn], Form],
        find_handler: Callable[[str], int | None],
        decoder: BlockDecoder | None = None,
        allowed: frozenset[str] | None = None,
    ) -> None:
        self._make_form = form
        self._find_handler = find_handler
        self._decoder = decoder
        self._allowed = allowed
        self._forms: dict[bytes, Form] = {}
        self._lock = threading.Lock()
        self.blocks = 0
        self.decoded = 0  # instructions, in all blocks
        self.decoded_by_table = 0  # those of them that generated code did not know

    def find(self, space: AddressSpace, address: int, stop: int) -> Run:
        """The run at `address` of `space`, where code ends at `stop`.

        Raises MemoryFault or DecodeFault of its first instruction. Touches no page that executing that instruction
        would not touch.
        """
        run = None
        if self._decoder is not None:
            with self._lock:
                run = self._generated(self._decoder, space, address, stop)
        if run is None:
            run = self.decode(space, address, stop, MAX_RUN if self._decoder is None else 1)
            self.decoded_by_table += len(run.addresses)
        self.decoded += len(run.addresses)
        self.blocks += 1
        return run

    def form(self, insn: Insn) -> Form:
        """How `insn` becomes a record."""
        form = self._forms.get(insn.code)
        if form is None:
            if len(self._forms) >= MOST_FORMS:
                self._forms.clear()
            form = self._forms[insn.code] = self._make_form(insn)
        return form

    def _generated(self, decoder: BlockDecoder, space: AddressSpace, address: int, stop: int) -> Run | None:
        """What generated code decodes of the run; None: not one instruction."""
        room = min(_WINDOW, PAGE - (address & PAGE - 1))
        window = decoder.window
        if space.pages[address >> PAGE_SHIFT] & EXEC:
            window[:room] = space.view[address : address + room]
        else:
            window[:room] = space.fetch(address, room)
        job = self._taught(decoder, address, room, stop)
        if not job.count and room < MAX_LENGTH and space.pages[address + room >> PAGE_SHIFT] & EXEC:
            window[room:MAX_LENGTH] = space.view[address + room : address + MAX_LENGTH]
            job = self._taught(decoder, address, MAX_LENGTH, stop, 1)
        count, flow, following = job.count, job.flow, job.next
        if not count:
            return None
        branches: tuple[tuple[int, int, bool], ...] = ()
        if flow & BRANCH:
            last = following - job.length & 0xFFFFFFFF
            branches = ((count - 1, job.target, bool(flow & CALLS) or job.target <= last),)
        return Run(decoder.addresses, decoder.records, branches, following, bool(flow & FALLS), ())

    def _taught(self, decoder: BlockDecoder, address: int, room: int, stop: int, most: int = 0) -> DecodeJob:
        """Let the decoder decode what is in its window, and teach it what it could know."""
        while True:
            job = decoder.decode(address, room, stop, most)
            at = job.next - address & 0xFFFFFFFF
            if not job.key or not self._teach(decoder, job.key, bytes(decoder.window[at:room])):
                return job

    def _teach(self, decoder: BlockDecoder, key: int, code: bytes) -> bool:
        """Tell the decoder which handler the instruction at the start of `code` has; False where it has none yet."""
        from aiopyvm.isa.decode import decode  # programs whose instructions are common do without

        form = self.form(decode(code, False, self._allowed))
        handler = self._find_handler(form.missing) if form.missing else None if form.general else form.handler
        if handler is not None:
            decoder.learn(key, handler)
        return handler is not None

    def decode(self, space: AddressSpace, address: int, stop: int, most: int = MAX_RUN) -> Run:
        """The run at `address`, at most `most` instructions, by the instruction table; as `find`.

        Its instructions lie in one page, or there is one that does not.
        """
        from aiopyvm.engine.python.fetch import fetch_insn
        from aiopyvm.isa.decode import decode

        insn = fetch_insn(space, address, allowed=self._allowed)
        window = space.fetch(address, min(_WINDOW, PAGE - (address & PAGE - 1)))
        maker = _Maker(address)
        form = self.form(insn)
        offset = insn.length
        while maker.add(insn, form) and len(maker.addresses) < most and offset < len(window) and maker.at != stop:
            try:
                insn = decode(window[offset : offset + MAX_LENGTH], False, self._allowed)
            except (DecodeFault, NeedMore):
                break
            form = self.form(insn)
            offset += insn.length
        return maker.run()


class _Maker:
    """A run in the making; `at` is where its next instruction stands."""

    def __init__(self, address: int) -> None:
        self.at = address
        self.addresses: list[int] = []
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
        self._records.append(RECORD.pack(form.handler, address, form.registers, length, *form.values, form.third))
        self._falls = form.falls
        return not form.ends

    def run(self) -> Run:
        """The run as it is now."""
        return Run(
            tuple(self.addresses), b"".join(self._records), tuple(self._branches), self.at,
            self._falls, tuple(self._missing),
        )  # fmt: skip

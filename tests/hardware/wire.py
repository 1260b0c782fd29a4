"""Cases for the real CPU and the states after them, and their binary form, which guests/src/harness.c speaks.

A case is one instruction and the whole state before it. What it can see is fixed: one page of code, one of data with a
read-only page behind it, one of stack; all else is unmapped. Contents of DATA and STACK are 4096 bytes each of one
fixed pseudo-random table, from `fill` on, then patched. A record holds only what differs, so millions of them stay
small.

A case can also be a block: any code, in two pages that it can write to, with two more pages of data behind them. It
runs until something ends it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

PAGE: Final = 4096
CODE: Final = 0x00400000  # r-x, one page; INT3 wherever the case's own bytes are not
DATA: Final = 0x00500000  # rw-, one page
READ_ONLY: Final = DATA + PAGE  # r--, one page: TABLE[:4096]
STACK: Final = 0x00600000  # rw-, one page
AREA: Final = 0x00800000  # of blocks alone: two pages of code, rwx, INT3 wherever the block's own bytes are not, then
AREA_DATA: Final = AREA + 2 * PAGE  # two of data, rw-, with the same contents as DATA and STACK
AREA_END: Final = AREA + 4 * PAGE
WHOLE_SELECTOR: Final = 0x63  # GDT entry 12: base DATA, limit 4 GiB, writable data
SMALL_SELECTOR: Final = 0x6B  # GDT entry 13: base DATA, limit 0x7ff (bytes), writable data
SMALL_LIMIT: Final = 0x7FF
DEFAULT_EIP: Final = CODE + 0x800
DEFAULT_ESP: Final = STACK + 0x800
MAX_FILL: Final = 2 * PAGE

Changes = tuple[tuple[int, bytes], ...]
Vectors = tuple[bytes, ...]


def _make_table() -> bytes:
    x, out = 0x2545F491, bytearray()
    for _ in range(4 * PAGE):
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        out.append(x >> 24)
    return bytes(out)


TABLE: Final = _make_table()
READ_ONLY_CONTENTS: Final = TABLE[:PAGE]

# FNINIT: control word 0x37f, everything empty.
X87_INITIAL: Final = struct.pack("<7I", 0xFFFF037F, 0xFFFF0000, 0xFFFFFFFF, 0, 0, 0, 0) + bytes(80)

MXCSR_INITIAL: Final = 0x1F80
SIGVTALRM: Final = 26

_REQUEST = struct.Struct("<I8III4HHBBB108sB")
_ANSWER = struct.Struct("<I8III6HBBHIII108s")
_PATCH = struct.Struct("<IH")
_VECTORS = struct.Struct("<IB")
_VECTOR_SIZE: Final = 32
_FLAG_X87, _FLAG_NO_TF, _FLAG_VECTOR, _FLAG_BLOCK = 1, 2, 4, 8
_NOT_ZERO = re.compile(rb"[^\0]+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    """One instruction, or a block, and the state before it.

    `code` is at most 15 bytes (16 are allowed, to see the fault). `regs` are EAX ECX EDX EBX ESP EBP ESI EDI,
    `segments` DS ES FS GS. `x87` is a 108-byte FSAVE image (32-bit protected mode), None for the state after FNINIT.
    `patches` are (address, bytes) inside DATA or STACK. EFLAGS: CF PF AF ZF SF DF OF NT AC ID are loaded; TF, RF, IF
    and IOPL are not.

    With `single_step` the CPU's TF is set, as a debugger would: one REP iteration is one step, and PUSHF shows TF.
    Without it the INT3s around the code end the case: a whole REP runs, and a branch must stay in CODE or fault.

    `ymm` are YMM0 to YMM7, 32 bytes each, of which the low 16 are XMM; with them `mxcsr` is loaded, which must have no
    reserved bits. None: all zero, MXCSR as after reset, and the state after the case tells nothing of them.

    With `block`, `code` is any number of instructions in AREA's first two pages, run until an exception (INT3 too,
    which stands everywhere behind the code) or the end of its time, but for one step with `single_step`; patches may
    also be in AREA's pages and AREA_DATA's two.
    """

    code: bytes
    regs: tuple[int, int, int, int, int, int, int, int] = (0, 0, 0, 0, DEFAULT_ESP, 0, 0, 0)
    eflags: int = 2
    eip: int = DEFAULT_EIP
    segments: tuple[int, int, int, int] = (0x2B, 0x2B, 0, 0)
    fill: int = 0
    x87: bytes | None = None
    patches: Changes = ()
    single_step: bool = True
    mxcsr: int = MXCSR_INITIAL
    ymm: Vectors | None = None
    block: bool = False

    def memory(self) -> dict[int, bytearray]:
        """Return what the pages that can be written to hold before the case, by address: DATA, STACK, those of AREA."""
        first, second = TABLE[self.fill : self.fill + PAGE], TABLE[self.fill + PAGE : self.fill + 2 * PAGE]
        pages = {DATA: bytearray(first), STACK: bytearray(second)}
        if self.block:
            code = bytearray(b"\xcc" * (AREA_DATA - AREA))
            code[self.eip - AREA : self.eip - AREA + len(self.code)] = self.code
            pages |= {AREA: code[:PAGE], AREA + PAGE: code[PAGE:]}
            pages |= {AREA_DATA: bytearray(first), AREA_DATA + PAGE: bytearray(second)}
        for address, data in self.patches:
            offset = address & (PAGE - 1)
            pages[address & ~(PAGE - 1)][offset : offset + len(data)] = data
        return pages

    def code_page(self) -> bytearray:
        """Return what CODE holds: INT3 but for the case's bytes, cut at the page's end (a block is elsewhere)."""
        page = bytearray(b"\xcc" * PAGE)
        if self.block:
            return page
        offset = self.eip - CODE
        page[offset : offset + len(self.code)] = self.code
        return page[:PAGE]

    def pack(self) -> bytes:
        """Return the record that the harness reads. Raises ValueError for a case outside the fixed places."""
        self._check()
        flags = (_FLAG_X87 if self.x87 is not None else 0) | (0 if self.single_step else _FLAG_NO_TF)
        flags |= (_FLAG_VECTOR if self.ymm is not None else 0) | (_FLAG_BLOCK if self.block else 0)
        tail = b"".join((self.code, self._pack_vectors(), *(_PATCH.pack(a, len(d)) + d for a, d in self.patches)))
        head = _REQUEST.pack(
            _REQUEST.size + len(tail), *self.regs, self.eip, self.eflags, *self.segments, self.fill,
            flags, len(self.code) & 0xFF, len(self.patches), self.x87 or bytes(108), len(self.code) >> 8,
        )  # fmt: skip
        return head + tail

    def _pack_vectors(self) -> bytes:
        """MXCSR, and the registers that are not the table's bytes."""
        if self.ymm is None:
            return b""
        told = [n for n, value in enumerate(self.ymm) if value != _table_vector(self.fill, n)]
        return _pack_vectors(self.mxcsr, [(n, self.ymm[n]) for n in told])

    def _check(self) -> None:
        if self.block:
            good = 0 <= self.eip - AREA < AREA_DATA - AREA
            good = good and 1 <= len(self.code) <= AREA_DATA - self.eip
        else:
            good = 1 <= len(self.code) <= 16 and 0 <= self.eip - CODE < PAGE
        if not good or not 0 <= self.fill <= MAX_FILL:
            raise ValueError(f"code, eip or fill out of range: {self!r}")
        if self.ymm is not None and (len(self.ymm) != 8 or any(len(value) != _VECTOR_SIZE for value in self.ymm)):
            raise ValueError(f"vector registers are not eight of 32 bytes: {self!r}")
        pages = (DATA, STACK, AREA, AREA + PAGE, AREA_DATA, AREA_DATA + PAGE) if self.block else (DATA, STACK)
        for address, data in self.patches:
            page, offset = address & ~(PAGE - 1), address & (PAGE - 1)
            if page not in pages or not 1 <= len(data) <= PAGE - offset:
                raise ValueError(f"patch at {address:#x}, {len(data)} bytes, is not inside a page that has contents")

    @classmethod
    def unpack(cls, record: bytes) -> Case:
        """Return the case that `pack` wrote."""
        v = _REQUEST.unpack_from(record)
        regs, (eip, eflags), segments = v[1:9], v[9:11], v[11:15]
        fill, flags, length, count, x87, length_high = v[15:21]
        length |= length_high << 8
        at = _REQUEST.size
        code = record[at : at + length]
        at += length
        mxcsr, ymm = MXCSR_INITIAL, None
        if flags & _FLAG_VECTOR:
            mxcsr, told, at = _unpack_vectors(record, at)
            given = dict(told)
            ymm = tuple(given.get(n) or _table_vector(fill, n) for n in range(8))
        return cls(
            code, regs, eflags, eip, segments, fill,
            x87 if flags & _FLAG_X87 else None,
            _unpack_runs(record, at, count),
            not flags & _FLAG_NO_TF, mxcsr, ymm, bool(flags & _FLAG_BLOCK),
        )  # fmt: skip


def _table_vector(fill: int, number: int) -> bytes:
    """What a vector register holds of which a record tells nothing."""
    return TABLE[fill + _VECTOR_SIZE * number :][:_VECTOR_SIZE]


def _pack_vectors(mxcsr: int, registers: Sequence[tuple[int, bytes]]) -> bytes:
    return _VECTORS.pack(mxcsr, sum(1 << n for n, _ in registers)) + b"".join(value for _, value in registers)


def _unpack_vectors(record: bytes, at: int) -> tuple[int, Changes, int]:
    """MXCSR, registers that are told, and where what follows begins."""
    mxcsr, mask = _VECTORS.unpack_from(record, at)
    at += _VECTORS.size
    told = []
    for number in range(8):
        if mask >> number & 1:
            told.append((number, record[at : at + _VECTOR_SIZE]))
            at += _VECTOR_SIZE
    return mxcsr, tuple(told), at


@dataclass(frozen=True, slots=True)
class State:
    """The state after a case, as the real CPU left it.

    `signal` is what Linux sent and `vector` the exception: 1 when the instruction completed (the single step; also
    ICEBP), else the fault's. `error_code` and `cr2` are the fault's (`cr2` is 0 unless `vector` is 14). `eflags` has
    TF and RF cleared. `x87` is a 108-byte FSAVE image with FCS and FDS zero; the instruction did not itself run FSAVE.
    `changes` are the maximal runs of bytes of each page that differ from before; pages in the order of `Case.memory`.
    `mxcsr` and `ymm`, the vector registers that differ from before (number, 32 bytes), are told where the case has
    vector registers. A block that did not end has the signal SIGVTALRM, and the state is any on its way.
    """

    regs: tuple[int, int, int, int, int, int, int, int]
    eip: int
    eflags: int
    segments: tuple[int, int, int, int, int, int]  # DS ES FS GS CS SS
    signal: int
    vector: int
    error_code: int
    cr2: int
    x87: bytes
    changes: Changes
    mxcsr: int | None = None
    ymm: Changes = ()

    @property
    def completed(self) -> bool:
        """Whether the instruction ran to its end, without a fault."""
        return self.vector == 1

    def pack(self) -> bytes:
        """Return the record, as the harness writes it."""
        vectors = b"" if self.mxcsr is None else _pack_vectors(self.mxcsr, self.ymm)
        tail = vectors + b"".join(_PATCH.pack(a, len(d)) + d for a, d in self.changes)
        head = _ANSWER.pack(
            _ANSWER.size + len(tail), *self.regs, self.eip, self.eflags, *self.segments, self.signal,
            0 if self.mxcsr is None else _FLAG_VECTOR,
            len(self.changes), self.vector, self.error_code, self.cr2, self.x87,
        )  # fmt: skip
        return head + tail

    @classmethod
    def unpack(cls, record: bytes) -> State:
        """Return the state that a record holds."""
        v = _ANSWER.unpack_from(record)
        signal, flags, count, vector, error_code, cr2, x87 = v[17:24]
        mxcsr: int | None = None
        ymm: Changes = ()
        at = _ANSWER.size
        if flags & _FLAG_VECTOR:
            mxcsr, ymm, at = _unpack_vectors(record, at)
        return cls(
            v[1:9], v[9], v[10], v[11:17], signal, vector, error_code, cr2, x87,
            _unpack_runs(record, at, count), mxcsr, ymm,
        )  # fmt: skip


def _unpack_runs(record: bytes, at: int, count: int) -> Changes:
    runs = []
    for _ in range(count):
        address, length = _PATCH.unpack_from(record, at)
        at += _PATCH.size
        runs.append((address, record[at : at + length]))
        at += length
    return tuple(runs)


def split_records(stream: bytes) -> Iterator[bytes]:
    """Yield the records of `stream`, each of which begins with its size; ValueError when the last one is cut short."""
    at = 0
    while at < len(stream):
        (size,) = struct.unpack_from("<I", stream, at)
        if size < 4 or at + size > len(stream):
            raise ValueError(f"record of {size} bytes at {at} of {len(stream)}")
        yield stream[at : at + size]
        at += size


def changed_runs(address: int, before: bytes | bytearray, after: bytes | bytearray) -> Changes:
    """Return the maximal runs of bytes that differ, as in `State.changes`; `address` is that of the first byte."""
    if before == after:
        return ()
    size = len(before)
    differing = int.from_bytes(before, "little") ^ int.from_bytes(after, "little")
    runs = _NOT_ZERO.finditer(differing.to_bytes(size, "little"))
    return tuple((address + run.start(), bytes(after[run.start() : run.end()])) for run in runs)

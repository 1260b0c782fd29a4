"""Runs the hardware harness's cases on an engine of ours, and tells how two states differ.

`Machine(engine).run(case)` gives the same `State` as the real CPU should, from the same pages at the same addresses. A
block is run in two slices, of which the first is short, so that a budget ends in its middle.
"""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Final

from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.isa.state import GPR32, SEGMENTS, CpuState
from aiopyvm.mem.space import AddressSpace
from tests.hardware.wire import (
    AREA,
    AREA_DATA,
    AREA_END,
    CODE,
    DATA,
    PAGE,
    READ_ONLY,
    READ_ONLY_CONTENTS,
    SIGVTALRM,
    SMALL_LIMIT,
    SMALL_SELECTOR,
    STACK,
    WHOLE_SELECTOR,
    X87_INITIAL,
    Case,
    Changes,
    State,
    Vectors,
    changed_runs,
)  # fmt: skip

_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_COMPLETED: Final = 1
_SIGNALS: Final = {
    0: 8,
    1: 5,
    3: 5,
    6: 4,
    7: 7,
    16: 8,
    17: 7,
    19: 8,
    0x80: 31,
}  # vector to signal; SIGSEGV for the rest
_BLOCK_LIMIT: Final = 30_000  # instructions of a block, more than those of nearly any that ends
_FIRST_SLICES: Final = 61  # instructions, at most
_REPEAT_LIMIT: Final = 20_000  # more iterations than a REP can make inside the mapped pages
_PREFIXES: Final = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3"
_STRING_OPCODES: Final = b"\x6c\x6d\x6e\x6f\xa4\xa5\xa6\xa7\xaa\xab\xac\xad\xae\xaf"
_DATA_ACCESS: Final = 0x0010F300  # AVL, present, DPL 3, read/write data, accessed
_BIG: Final = 0x00400000  # the D/B bit, as LAR shows it
_GRANULARITY: Final = 0x00800000


class Machine:
    """One address space with the harness's pages, reused for any number of cases on one engine."""

    def __init__(self, engine: Engine, memory: AddressSpace) -> None:
        self.engine = engine
        self.memory = memory
        self.block_limit = _BLOCK_LIMIT
        self._lay_out()

    def _lay_out(self) -> None:
        """Map the pages, as the harness does."""
        memory = self.memory
        memory.map(CODE, PAGE, _PROT_READ | _PROT_EXEC)
        memory.map(DATA, PAGE, _PROT_READ | _PROT_WRITE)
        memory.map(READ_ONLY, PAGE, _PROT_READ)
        memory.map(STACK, PAGE, _PROT_READ | _PROT_WRITE)
        memory.poke(READ_ONLY, READ_ONLY_CONTENTS)
        self._code = bytes(PAGE)  # what CODE holds
        self._has_area = False

    def begin(self, case: Case) -> Core:
        """Return a core that is about to execute `case`."""
        self._prepare(case)
        return Core(make_cpu(case), self.memory)

    def run(self, case: Case) -> State:
        """Execute `case` on the engine and return the state after it."""
        before = self._prepare(case)
        core = Core(make_cpu(case), self.memory)
        exit_ = self._execute_block(core, case) if case.block and not case.single_step else self._execute(core, case)
        vector, error_code, cr2 = _outcome(exit_)
        signal = _SIGNALS.get(vector, 11)
        if case.block and not case.single_step and exit_.reason == ExitReason.BUDGET:
            vector, signal = 0, SIGVTALRM
        cpu = core.cpu
        changes = tuple(
            run for page, data in before.items() for run in changed_runs(page, data, self.memory.peek(page, PAGE))
        )
        return State(
            tuple(getattr(cpu, name) for name in GPR32), cpu.eip, cpu.eflags,
            tuple(getattr(cpu, name) for name in ("ds", "es", "fs", "gs", "cs", "ss")),
            signal, vector, error_code, cr2, x87_image(cpu), changes,
            *(() if case.ymm is None else (cpu.mxcsr, _changed_vectors(case.ymm, cpu))),
        )  # fmt: skip

    def _prepare(self, case: Case) -> dict[int, bytearray]:
        if case.block and not self._has_area:
            self.memory.map(AREA, AREA_DATA - AREA, _PROT_READ | _PROT_WRITE | _PROT_EXEC)
            self.memory.map(AREA_DATA, AREA_END - AREA_DATA, _PROT_READ | _PROT_WRITE)
            self._has_area = True
        before = case.memory()
        for page, data in before.items():
            self.memory.poke(page, bytes(data))
        code = bytes(case.code_page())
        if code != self._code:
            self.memory.poke(CODE, code)
            self._code = code
        return before

    def _execute(self, core: Core, case: Case) -> Exit:
        return self._whole(core, case, self.engine.run(core, 1))

    def _execute_block(self, core: Core, case: Case) -> Exit:
        exit_ = self.engine.run(core, 1 + case.fill % _FIRST_SLICES)
        return exit_ if exit_.reason != ExitReason.BUDGET else self.engine.run(core, self.block_limit)

    def _whole(self, core: Core, case: Case, exit_: Exit) -> Exit:
        """Go on behind the case's first instruction where it is a REP that the hardware did not step."""
        if case.single_step or not _is_repeated(case.code):
            return exit_
        for _ in range(_REPEAT_LIMIT):
            if exit_.reason != ExitReason.BUDGET or core.cpu.eip != case.eip:
                return exit_
            exit_ = self.engine.run(core, 1)
        raise AssertionError(f"REP did not end: {case!r}")


def make_cpu(case: Case) -> CpuState:
    """Return the registers that `case` begins with."""
    cpu = CpuState()
    for name, value in zip(GPR32, case.regs, strict=True):
        setattr(cpu, name, value)
    cpu.eip = case.eip
    cpu.eflags = case.eflags & ~0x13300 | 0x200  # TF, RF, IOPL are not loaded; IF is set
    for entry, limit, access in (
        (0, 0xFFFFFFFF, _DATA_ACCESS | _BIG | _GRANULARITY),
        (1, SMALL_LIMIT, _DATA_ACCESS | _BIG),
    ):
        tls = cpu.tls[entry]
        tls.base, tls.limit, tls.access = DATA, limit, access
    for name, selector in zip(("ds", "es", "fs", "gs"), case.segments, strict=True):
        _load_segment(cpu, name, selector)
    load_x87(cpu, case.x87 or X87_INITIAL)
    cpu.mxcsr = case.mxcsr
    for register, data in zip(cpu.ymm, case.ymm or (), strict=False):
        register[:] = data
    return cpu


def _changed_vectors(before: Vectors, cpu: CpuState) -> Changes:
    """The vector registers that are not as they were, as in `State.ymm`."""
    after = map(bytes, cpu.ymm)
    return tuple((n, now) for n, (then, now) in enumerate(zip(before, after, strict=True)) if then != now)


def _load_segment(cpu: CpuState, name: str, selector: int) -> None:
    assert name in SEGMENTS
    if selector == 0x2B:
        base, limit, access = 0, 0xFFFFFFFF, _DATA_ACCESS | _BIG | _GRANULARITY
    elif selector in (WHOLE_SELECTOR, SMALL_SELECTOR):
        entry = cpu.tls[(selector - WHOLE_SELECTOR) >> 3]
        base, limit, access = entry.base, entry.limit, entry.access
    elif selector < 4:
        base = limit = access = 0
    else:
        raise ValueError(f"the harness has no segment {selector:#x}")
    for part, value in (("", selector), ("_base", base), ("_limit", limit), ("_access", access)):
        setattr(cpu, name + part, value)


def load_x87(cpu: CpuState, image: bytes) -> None:
    """Set the x87 registers from a 108-byte FSAVE image."""
    control, status, tags, fip, fcs_fop, fdp, fds = struct.unpack_from("<7I", image)
    cpu.fcw, cpu.fsw, cpu.ftop = control & 0xFFFF, status & 0xC7FF, status >> 11 & 7
    cpu.fvalid = sum(1 << r for r in range(8) if tags >> 2 * r & 3 != 3)
    cpu.fip, cpu.fcs, cpu.fop, cpu.fdp, cpu.fds = fip, fcs_fop & 0xFFFF, fcs_fop >> 16 & 0x7FF, fdp, fds & 0xFFFF
    for i in range(8):
        register = cpu.fpr[(cpu.ftop + i) & 7]
        register[:10] = image[28 + 10 * i : 38 + 10 * i]


def x87_image(cpu: CpuState) -> bytes:
    """Return the x87 registers as `State.x87` has them: an FSAVE image with FCS and FDS zero."""
    tags = sum(_tag(cpu, r) << 2 * r for r in range(8))
    head = struct.pack(
        "<7I", 0xFFFF0000 | cpu.fcw, 0xFFFF0000 | cpu.fsw & 0xC7FF | cpu.ftop << 11, 0xFFFF0000 | tags,
        cpu.fip, cpu.fop << 16, cpu.fdp, 0,
    )  # fmt: skip
    return head + b"".join(bytes(cpu.fpr[(cpu.ftop + i) & 7])[:10] for i in range(8))


def _tag(cpu: CpuState, register: int) -> int:
    """Intel SDM vol. 1, "x87 FPU Tag Word": 0 valid, 1 zero, 2 special (denormal, unnormal, infinity, NaN), 3 empty."""
    if not cpu.fvalid >> register & 1:
        return 3
    raw = bytes(cpu.fpr[register])
    significand = int.from_bytes(raw[:8], "little")
    exponent = int.from_bytes(raw[8:10], "little") & 0x7FFF
    if exponent == 0:
        return 2 if significand else 1
    return 0 if exponent != 0x7FFF and significand >> 63 else 2


def _outcome(exit_: Exit) -> tuple[int, int, int]:
    if exit_.reason == ExitReason.BUDGET:
        return _COMPLETED, 0, 0
    if exit_.reason == ExitReason.SYSCALL:
        return 0x80, 0, 0
    assert exit_.reason == ExitReason.FAULT, f"unexpected exit {exit_}"
    return exit_.vector, exit_.error_code, exit_.address if exit_.vector == 14 else 0


def _is_repeated(code: bytes) -> bool:
    opcode = code.lstrip(_PREFIXES)[:1]
    repeated = any(p in code[: len(code) - len(code.lstrip(_PREFIXES))] for p in (b"\xf2", b"\xf3"))
    return repeated and opcode != b"" and opcode in _STRING_OPCODES


def differences(expected: State, actual: State, *, undefined_flags: int = 0, x87_pointers: bool = False) -> list[str]:
    """Return one line for each part in which `actual` differs; empty when they agree.

    `undefined_flags` are EFLAGS bits left out. Without `x87_pointers` the last instruction's and operand's addresses
    and opcode are left out: processors differ in when they update them.
    """
    found: list[str] = []
    for field in fields(State):
        want, got = getattr(expected, field.name), getattr(actual, field.name)
        if field.name == "eflags":
            want, got = want & ~undefined_flags, got & ~undefined_flags
        if field.name == "x87" and not x87_pointers:
            want, got = want[:12] + want[28:], got[:12] + got[28:]
        if want != got:
            found.append(f"{field.name}: hardware {_show(want)}, engine {_show(got)}")
    return found


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_show, value)) + ")"
    return repr(value)

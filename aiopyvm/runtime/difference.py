"""What two machines made of one instruction, and the report of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.ir.printer import format_ops
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.state import FLAG_BITS, GPR32, SEGMENTS, CpuState
from aiopyvm.isa.trace import Tracer, trace

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Exit

FIELDS: Final = tuple(name for name, *_ in CpuState._fields_ if not name.startswith("_"))
NOT_COMPARED: Final = frozenset({"fip", "fcs", "fds", "fdp", "fop"})
"""Of the hardware: processors differ in when they update these."""
_ARRAYS: Final = {"fpr": "r", "ymm": "ymm"}
"""Fields that are several registers, and what one of them is called."""
_FP_BYTES: Final = 10
MOST_CHANGES: Final = 12  # that a report lists of one side


@dataclass(frozen=True, slots=True)
class Change:
    """`size` bytes of memory at `address`: `before` the instruction, and what each side made of them."""

    address: int
    before: bytes
    after: tuple[bytes, bytes]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first instruction that two machines did not do alike, or the stretch of instructions where they parted.

    `executed` is how many instructions of the whole guest came before it. Where `exact` is False it is not known
    which one of the next `stretch` instructions it was: doing them again did not show the difference. `registers` has
    the values that differ, `memory` the changed places that do. `reached`, if it is not "", tells that one of the
    sides was wrong only when it executed `stretch` instructions at once.
    """

    names: tuple[str, str]
    process: int
    executed: int
    stretch: int
    exact: bool
    before: CpuState
    address: int
    code: bytes
    text: str
    insn: Insn | None
    exits: tuple[Exit, Exit]
    counts: tuple[int, int]
    registers: Mapping[str, tuple[int, int]]
    memory: Sequence[Change] = field(default_factory=tuple)
    operands: Sequence[tuple[int, bytes]] = ()  # the instruction's memory operands: address and content before it

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The report, line by line."""
        where = "instruction" if self.exact else f"one of the next {self.stretch:,} instructions"
        yield f"{self.names[0]} and {self.names[1]} differ: {where} after {self.executed:,}, in process {self.process}"
        yield f"  {self.address:08x}  {self.code.hex(' ')}  {self.text}"
        if not self.exact:
            yield "  (this is where that stretch begins; executed again, the difference did not show)"
        yield from self._ir()
        yield "before:"
        yield from _registers(self.before)
        places = [*self.operands, *((change.address, change.before) for change in self.memory[:MOST_CHANGES])]
        for address, content in dict(places).items():
            yield f"  [{address:#010x}] = {content.hex(' ')}"
        for side in (0, 1):
            yield f"{self.names[side]}: {_exit(self.exits[side])}, {_counted(self.counts[side])}"
            yield from self._made(side)

    def _ir(self) -> Iterator[str]:
        if self.insn is None or not self.exact:
            return
        tracer = Tracer(self.before.mode)
        trace(tracer, self.insn, self.address)
        yield "IR:"
        yield from ("  " + line for line in format_ops(tracer.ops).splitlines())

    def _made(self, side: int) -> Iterator[str]:
        for name, values in self.registers.items():
            yield f"  {name} = {values[side]:#x}"
        for change in self.memory[:MOST_CHANGES]:
            yield f"  [{change.address:#010x}] = {change.after[side].hex(' ')}"
        if len(self.memory) > MOST_CHANGES:
            yield f"  and {len(self.memory) - MOST_CHANGES} more places in memory"


def register_differences(
    one: CpuState, other: CpuState, *, hardware: bool, flags: int = 0
) -> dict[str, tuple[int, int]]:
    """The registers that differ, with both values; `flags` are EFLAGS bits that are left out.

    With `hardware`, what processors do not agree on is left out, and what a program's registers do not show of it.
    """
    found: dict[str, tuple[int, int]] = {}
    if bytes(one) == bytes(other):
        return found
    for name in FIELDS:
        if hardware and (name in NOT_COMPARED or name.endswith(("_base", "_limit", "_access")) or name == "tls"):
            continue
        if FLAG_BITS.get(name, 0) & flags:
            continue
        mine, its = _number(getattr(one, name), name), _number(getattr(other, name), name)
        if name in _ARRAYS:
            pairs = enumerate(zip(mine, its, strict=True))
            found |= {f"{_ARRAYS[name]}{n}": pair for n, pair in pairs if pair[0] != pair[1]}
        elif mine != its:
            found[name] = (mine, its)
    return found


def _number(value: Any, name: str) -> Any:
    if name in _ARRAYS:
        size = _FP_BYTES if name == "fpr" else None
        return [int.from_bytes(bytes(register)[:size], "little") for register in value]
    return int.from_bytes(bytes(value), "little") if name == "tls" else value


def _registers(cpu: CpuState) -> Iterator[str]:
    yield "  " + " ".join(f"{name}={getattr(cpu, name):08x}" for name in GPR32)
    flags = " ".join(name for name in FLAG_BITS if getattr(cpu, name)) or "none"
    segments = " ".join(f"{name}={getattr(cpu, name):04x}" for name in SEGMENTS)
    yield f"  eip={cpu.eip:08x} eflags={cpu.eflags:08x} (set: {flags}) {segments}"
    if cpu.fvalid:
        yield f"  fcw={cpu.fcw:04x} fsw={cpu.fsw:04x} top={cpu.ftop} " + " ".join(
            f"r{n}={int.from_bytes(bytes(cpu.fpr[n])[:_FP_BYTES], 'little'):020x}"
            for n in range(8)
            if cpu.fvalid >> n & 1
        )
    vectors = [(n, int.from_bytes(bytes(cpu.ymm[n]), "little")) for n in range(8)]
    if used := " ".join(f"ymm{n}={value:x}" for n, value in vectors if value):
        yield f"  mxcsr={cpu.mxcsr:04x} {used}"


def _exit(exit_: Exit) -> str:
    if exit_.vector < 0:
        return exit_.reason.name.lower().replace("_", " ")
    place = f" at {exit_.address:#010x} ({exit_.access})" if exit_.access else ""
    return f"fault, vector {exit_.vector}, error code {exit_.error_code:#x}{place}"


def _counted(count: int) -> str:
    return f"{count} instruction{'' if count == 1 else 's'} counted"

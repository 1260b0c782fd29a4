"""The definition of every IR operation: `evaluate(ops, core)` runs one instruction's operations against a machine.

Every other engine is right when it agrees with this module. It is written to be read; what is fast is derived
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiopyvm.ir.builder import Value
from aiopyvm.ir.float import FLOAT
from aiopyvm.ir.helpers import Fault
from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.ops import FLOAT_OPS, SIMD_OPS
from aiopyvm.ir.pure import PURE, compute
from aiopyvm.ir.simd import raise_exceptions, simd


class MemoryPort(Protocol):
    """What the evaluator asks of memory; each may raise the memory's own fault, which passes through."""

    def load(self, address: int, size: int) -> int:
        """Read `size` bytes, little-endian."""
        ...

    def store(self, address: int, size: int, value: int) -> None:
        """Write `size` bytes, all or none."""
        ...

    def probe(self, address: int, size: int, write: bool) -> None:
        """Fault as an access would."""
        ...


class Machine(Protocol):
    """What operations act on: `cpu` has a field for each of `REGISTERS`, and `fpr`."""

    @property
    def cpu(self) -> Any:
        """The registers."""
        ...

    @property
    def memory(self) -> Any:
        """A `MemoryPort`."""
        ...


@dataclass(frozen=True, slots=True)
class Leave:
    """The instruction ended with `exit`: kind "syscall" or "trap" with its vector."""

    kind: str
    vector: int


def read_fp(cpu: Any, index: int) -> int:
    """The 80 bits of physical x87 register `index` (0..7)."""
    return int.from_bytes(bytes(cpu.fpr[index])[:10], "little")


def write_fp(cpu: Any, index: int, value: int) -> None:
    """Set the 80 bits of physical x87 register `index` (0..7)."""
    cpu.fpr[index][:10] = list(value.to_bytes(10, "little"))


class _Run:
    """One evaluation: the machine, the values so far, and where the instruction goes."""

    __slots__ = ("core", "cpu", "exceptions", "memory", "outcome", "values")

    def __init__(self, core: Machine) -> None:
        self.core = core
        self.cpu = core.cpu
        self.memory = core.memory
        self.values: dict[Value, int] = {}
        self.exceptions: dict[Value, int] = {}
        self.outcome: int | Leave | None = None


def _load(run: _Run, op: Value) -> int:
    return int(run.memory.load(run.values[op.args[0]], op.bits // 8))


def _store(run: _Run, op: Value) -> None:
    run.memory.store(run.values[op.args[0]], op.args[1].bits // 8, run.values[op.args[1]])


def _probe(run: _Run, op: Value) -> None:
    run.memory.probe(run.values[op.args[0]], *op.attr)


def _set(run: _Run, op: Value) -> None:
    setattr(run.cpu, op.attr, run.values[op.args[0]])


def _setfp(run: _Run, op: Value) -> None:
    write_fp(run.cpu, run.values[op.args[0]], run.values[op.args[1]])


def _helper(run: _Run, op: Value) -> int:
    first = (run.core,) if op.attr.machine else ()
    return int(op.attr.function(*first, *[run.values[arg] for arg in op.args])) & (op.type.mask if op.type else 0)


def _raise(run: _Run, op: Value) -> None:
    raise_exceptions(run.cpu, [run.exceptions[arg] for arg in op.args])


def _fault(run: _Run, op: Value) -> None:
    if run.values[op.args[0]]:
        raise Fault(op.attr, run.values[op.args[1]])


def _jump(run: _Run, op: Value) -> None:
    run.outcome = run.values[op.args[0]]


def _exit(run: _Run, op: Value) -> None:
    run.outcome = Leave(*op.attr)


_OTHER: Final[dict[str, Callable[[_Run, Value], int | None]]] = {
    "const": lambda run, op: int(op.attr),
    "get": lambda run, op: int(getattr(run.cpu, op.attr)),
    "set": _set,
    "getfp": lambda run, op: read_fp(run.cpu, run.values[op.args[0]]),
    "setfp": _setfp,
    "load": _load,
    "store": _store,
    "probe": _probe,
    "helper": _helper,
    "fexc": lambda run, op: run.exceptions[op.args[0]],
    "raise": _raise,
    "fault": _fault,
    "jump": _jump,
    "exit": _exit,
    "insn": lambda run, op: None,
    "end": lambda run, op: None,
}


def evaluate(ops: Sequence[Value], core: Machine) -> int | Leave | None:
    """Run the operations of one instruction; return where it goes: a target, a `Leave`, or None for the next
    instruction.

    Raises `Fault`, or the memory's fault; then the instruction had no effect (or it is marked restartable, and did one
    step).
    """
    run = _Run(core)
    values = run.values
    skipping = 0
    for op in ops:
        name = op.op
        if skipping:
            skipping += 1 if name == "when" else -1 if name == "end" else 0
        elif name in PURE:
            values[op] = compute(name, op.type, op.args[0].type, *[values[arg] for arg in op.args])
        elif name in LANES:
            values[op] = LANES[name](op.type, op.args[0].type, op.attr, *[values[arg] for arg in op.args])
        elif name in SIMD_OPS:
            arguments = [values[arg] for arg in op.args]
            values[op], run.exceptions[op] = simd(name, op.attr, op.type, op.args[0].type, *arguments)
        elif name in FLOAT_OPS:
            arguments = [values[arg] for arg in op.args]
            values[op], run.exceptions[op] = FLOAT[name](op.type, op.args[0].type, *arguments)
        elif name == "when":
            skipping = 0 if values[op.args[0]] else 1
        else:
            result = _OTHER[name](run, op)
            if result is not None:
                values[op] = result
            if run.outcome is not None:
                break
    return run.outcome

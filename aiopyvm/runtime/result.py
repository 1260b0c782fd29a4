"""How a run ended: the reason, the status, what it wrote and what it used."""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from aiopyvm.errors import GuestFailedError
from aiopyvm.isa.state import CpuState
from aiopyvm.runtime.proxies import Registers

T = TypeVar("T")


class Reason(enum.Enum):
    """Why a guest ended."""

    EXITED = "exited"  # exit(2) or exit_group(2); returncode is the status
    SIGNALED = "signaled"  # a signal's default action; returncode is -signal
    INSTRUCTION_LIMIT = "instruction limit"
    TIME_LIMIT = "time limit"  # wall_time or guest_time; detail says which
    MEMORY_LIMIT = "memory limit"  # memory that had been granted could not be backed
    OUTPUT_LIMIT = "output limit"
    DEADLOCK = "deadlock"  # every guest waited for another; detail names the cycle
    KILLED = "killed"  # by Python: Process.kill(), Runtime.kill_all()
    CANCELLED = "cancelled"  # the block or task that ran it was cancelled, or ended with an exception
    END_OF_CODE = "end of code"  # raw bytes ran past their last byte


class Fault(NamedTuple):
    """The CPU exception that ended a guest: its vector (Intel SDM vol. 3A, "Exception and Interrupt Vectors"), the
    error code that the CPU pushes, the linear address and access ("r", "w" or "x") of a #PF, and EIP."""

    vector: int
    error_code: int
    address: int
    access: str
    eip: int

    def __str__(self) -> str:
        name = VECTORS.get(self.vector, f"vector {self.vector}")
        where = f" ({self.access} {self.address:#010x})" if self.vector == 14 else ""
        return f"{name}{where} at eip {self.eip:#010x}"


VECTORS = {
    0: "#DE",
    1: "#DB",
    3: "#BP",
    4: "#OF",
    5: "#BR",
    6: "#UD",
    7: "#NM",
    8: "#DF",
    10: "#TS",
    11: "#NP",
    12: "#SS",
    13: "#GP",
    14: "#PF",
    16: "#MF",
    17: "#AC",
}


class Result(subprocess.CompletedProcess[bytes]):
    """How one guest ended; also a `subprocess.CompletedProcess`.

    `returncode` is the exit status, -n for signal n, -9 where the runtime ended it. `stdout` and `stderr` are None
    unless they were PIPE. `wall_time` is in seconds, `peak_memory` in bytes. `fault` is set where a CPU exception ended
    the guest. `registers` are the first thread's at the end. `unknown_syscalls` counts calls answered ENOSYS because
    there is no such call, by number. `limits_hit` names the limits that refused something, or that ended the run.
    """

    stdout: bytes | None  # type: ignore[assignment]  # the base class has it so in fact
    stderr: bytes | None  # type: ignore[assignment]

    def __init__(
        self,
        args: Sequence[Any],
        returncode: int,
        stdout: bytes | None = None,
        stderr: bytes | None = None,
        *,
        reason: Reason = Reason.EXITED,
        detail: str = "",
        instructions: int = 0,
        wall_time: float = 0.0,
        guest_time: float = 0.0,
        peak_memory: int = 0,
        fault: Fault | None = None,
        registers: Registers | None = None,
        unknown_syscalls: Mapping[int, int] | None = None,
        limits_hit: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(cast("Sequence[str]", list(args)), returncode, stdout, stderr)
        self.reason = reason
        self.detail = detail
        self.instructions = instructions
        self.wall_time = wall_time
        self.guest_time = guest_time
        self.peak_memory = peak_memory
        self.fault = fault
        self.registers = registers if registers is not None else Registers(CpuState())
        self.unknown_syscalls: Mapping[int, int] = unknown_syscalls or {}
        self.limits_hit = limits_hit

    @property
    def ok(self) -> bool:
        """It ended by itself, with status 0."""
        return self.returncode == 0 and self.reason in (Reason.EXITED, Reason.END_OF_CODE)

    @property
    def text(self) -> str:
        """What it wrote to standard output, as UTF-8; bytes that are not become U+FFFD."""
        return (self.stdout or b"").decode("utf-8", "replace")

    def check_returncode(self) -> None:
        """Raise `GuestFailedError` unless `ok`."""
        if not self.ok:
            raise GuestFailedError(self)

    def __repr__(self) -> str:
        parts = [f"args={self.args!r}", f"returncode={self.returncode}", f"reason={self.reason.name}"]
        parts += [f"{name}={value!r}" for name in ("detail", "stdout", "stderr") if (value := getattr(self, name))]
        return f"Result({', '.join(parts)})"

"""The contract between an engine and whoever runs it.

`engine.run(core, budget)` executes at most `budget` instructions of `core` and returns why it stopped. What always
holds:

- The state in `core.cpu` and `core.memory` at an exit is exact, on every engine.
- `core.cpu.instructions` grew by exactly the number of instructions executed; one count is one hardware single-step
  trap (each REP iteration counts one; REP with ECX = 0 counts one; an instruction that faults counts none; INT 0x80
  counts one).
- At `SYSCALL`, EIP is after the INT 0x80. At `FAULT`, EIP is at the faulting instruction (after it for INT3, INTO,
  INT n: traps). At `BREAKPOINT`, EIP is at the instruction that was not executed.
- An engine never raises because of what a guest does.

A `Launcher` is an engine whose generated code runs without the GIL. Its run can be taken apart: `launch` prepares a
core, `enter` runs generated code alone, on any thread, and `land` does what follows. Between `launch` and `land` the
core's registers, memory and translated code may be in use by another thread; everything else of the engine is Python,
and is called on one thread.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiopyvm.isa.cpuid import Processor
from aiopyvm.isa.processors import MAX
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.space import AddressSpace

if TYPE_CHECKING:
    from aiopyvm.engine.relaying import Relay, RelayCalls
    from aiopyvm.isa.debug import DebugRegisters


class ExitReason(enum.IntEnum):
    """Why `Engine.run` returned."""

    BUDGET = 0  # `budget` instructions were executed
    SYSCALL = 1  # INT 0x80
    FAULT = 2  # vector, error_code, address, access say which
    BREAKPOINT = 3  # EIP is in core.breakpoints (checked before each instruction but the first of a run)
    END_OF_CODE = 4  # EIP reached core.end_of_code (raw bytes ran past their last byte)
    PAUSE = 5  # a launcher stops before the budget is spent, so that others have their turn; nothing is to be done


class Exit(NamedTuple):
    """Why and where an engine stopped. Never changed: engines give the same one again.

    `vector` is the exception's number (Intel SDM vol. 3A, "Exception and Interrupt Vectors") for FAULT, else -1.
    `address` is the linear address of a #PF; `access` is "r", "w" or "x" there, else "". `stepped` tells a #DB that
    follows an instruction because EFLAGS.TF was set before it, and not INT1.

    """

    reason: ExitReason
    vector: int = -1
    error_code: int = 0
    address: int = 0
    access: str = ""
    stepped: bool = False


class Core:
    """One thread's hardware: registers, the memory they see, and what a debugger asked for.

    `processor` is what CPUID tells; the engine that runs the core is made for its features.
    """

    __slots__ = ("breakpoints", "counter_zero", "cpu", "debug", "end_of_code", "memory", "processor", "random", "rdtsc")

    def __init__(
        self,
        cpu: CpuState,
        memory: AddressSpace,
        rdtsc: Callable[[], int] = lambda: 0,  # the time-stamp counter: through the runtime's one door for time
        random: Callable[[int], bytes] = bytes,  # so many random bytes: through the runtime's one door for entropy
        breakpoints: set[int] | None = None,
        end_of_code: int = -1,
        processor: Processor = MAX,
        counter_zero: int | None = None,  # what the host's CLOCK_MONOTONIC shows (ns) when `rdtsc` is 0; None: it is no
        # such time, and nobody but `rdtsc` may be asked
    ) -> None:
        self.cpu = cpu
        self.memory = memory
        self.rdtsc = rdtsc
        self.random = random
        self.breakpoints = breakpoints if breakpoints is not None else set()
        self.end_of_code = end_of_code
        self.processor = processor
        self.counter_zero = counter_zero
        self.debug: DebugRegisters | None = None  # those that enable a place; #DB tells that one was met


class Engine(Protocol):
    """Executes instructions; holds translated code that any number of cores share."""

    name: str

    def run(self, core: Core, budget: int) -> Exit:
        """Execute at most `budget` (>= 1) instructions of `core`; see the module's docstring."""
        ...

    def statistics(self) -> dict[str, int]:
        """Counters since the engine was made: instructions, blocks translated, exits by reason."""
        ...


class Seat(Protocol):
    """One core, in generated code alone, as long as a guest does nothing but call the system.

    Between `begin` and `end` only kernels' code runs on this thread, and no other run of the engine; where another seat
    was entered, `again` comes before the next `enter`. The state and the count are exact whenever `enter` has returned.
    """

    exit: Exit | None
    done: int  # instructions executed since `begin`
    taken: bool  # it has begun, and not ended

    def begin(self, *, again: bool) -> bool:
        """Prepare for entries; False: `run` has to execute the core, and there is nothing to `end`.

        `again`: nothing but Python code has run on this thread since a seat of this engine was prepared last."""
        ...

    def enter(self, budget: int) -> int:
        """Execute at most `budget` (>= 1) instructions; return how many are left behind a system call. Where there was
        none it is negative, and `exit` is what there is to handle; None: `run` has to go on, or the budget is spent."""
        ...

    def go_on(self) -> int:
        """As `enter`, where a relay came back with EXIT for the core: what there is to handle is found out."""
        ...

    def again(self) -> bool:
        """As `begin`, of a seat that is taken, and whose core only its own entries and calls have changed; False: it is
        to be ended first."""
        ...

    def end(self) -> None:
        """No entries follow."""
        ...


class Launcher(Engine, Protocol):
    """An engine whose generated code runs without the GIL; see the module's docstring."""

    def run(self, core: Core, budget: int, patience: int = ..., on_call: Callable[[], int] | None = ...) -> Exit:
        """As `Engine.run`; after `patience` returns of generated code to Python (unbounded when not given), each of
        which takes a bounded time, it may return PAUSE.

        Where `on_call` is given, it may be called at a system call, instead of a return with SYSCALL, while the state
        is exact: it handles the call and says how many instructions may be executed from now on. At 0 the engine
        returns PAUSE; it must be 0 where the count, the mode or the memory of `core` is another one now. `on_call` does
        not raise."""
        ...

    def launch(self, core: Core, budget: int) -> int:
        """Prepare to execute at most `budget` instructions; return the address of the context for `enter`.

        0: generated code cannot go on here (breakpoints, a rare mode): `run` does."""
        ...

    @property
    def enter(self) -> Callable[[int], object]:
        """A foreign function (ctypes) that runs generated code for a context, without the GIL."""
        ...

    def land(self, core: Core) -> Exit:
        """After `enter` has returned for `core`: make its state and instruction count exact, and say why it came back.

        PAUSE: for a reason that is the engine's own. Does not enter generated code."""
        ...


class Seater(Launcher, Protocol):
    """A launcher that also has seats."""

    def seat(self, core: Core) -> Seat:
        """Return a seat for `core`, to be kept as long as that is used."""
        ...

    def relay(self, calls: RelayCalls) -> Relay | None:
        """Return a relay for cores whose seats are of this engine or of one that shares its code; None where there is
        no such thing."""
        ...

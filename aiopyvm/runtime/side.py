"""A guest machine without an event loop: a kernel, an engine, and a turn for each thread, all of it synchronous.

How it works. `settle` lets the kernel do everything that comes before the next instruction and chooses the thread that
executes it; `run` executes; `handle` gives the exit to the kernel. What always holds: what happens depends on the setup
and on instruction counts alone, so that two machines with one setup do the same, whatever their engines are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.abi.fcntl import O_WRONLY
from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.host.clock import Timeline, VirtualClock
from aiopyvm.host.entropy import SeededEntropy
from aiopyvm.isa.state import CpuState
from aiopyvm.kernel.file import File
from aiopyvm.kernel.hoststream import BytesInput, Stream
from aiopyvm.kernel.kernel import Kernel
from aiopyvm.kernel.process import EndReason
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.mem.space import AddressSpace
from aiopyvm.runtime.limits import MIB, Account
from aiopyvm.runtime.machine import Seed, build_vfs, system_calls
from aiopyvm.runtime.program import Program, environment, environment_bytes, find_in_guest
from aiopyvm.runtime.user import DEFAULT_IDS

if TYPE_CHECKING:
    from aiopyvm.runtime.machine import Dir

QUANTUM: Final = 10_000  # instructions, and what system calls cost, until another thread may come


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a machine is made from; two made from one setup are the same."""

    program: Program
    root: Dir | None = None
    mounts: Mapping[str, Dir] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: bytes = b"/"
    stdin: bytes = b""
    memory: int = 256 * MIB
    seed: Seed = 0
    quantum: int = QUANTUM
    output: Callable[[int, bytes], object] = lambda fd, data: None  # gets what the first side writes


class Sink(Stream):
    """A standard output that takes everything at once."""

    def __init__(self, fd: int, name: str, output: Callable[[int, bytes], object]) -> None:
        super().__init__(O_WRONLY, name)
        self._fd = fd
        self._output = output

    def write(self, data: bytes) -> int:
        """Hand the bytes on."""
        self._output(self._fd, data)
        return len(data)


class Side:
    """One of two machines that are compared. Raises what `VM` raises for a setup that does not work."""

    def __init__(self, name: str, engine: Engine, setup: Setup, *, shown: bool) -> None:
        self.name = name
        self.engine = engine
        self.instructions = 0
        self.thread: Thread | None = None  # the one that executes the next instruction; None: the machine has ended
        self.left = 0  # of the thread's quantum
        self.stuck = False  # it ended because everybody waited for somebody else
        self._quantum = setup.quantum
        self._timeline = Timeline()
        self._ready: deque[Thread] = deque()
        clock, entropy = VirtualClock(self._timeline), SeededEntropy(setup.seed, 0)
        self._budget = Account(setup.memory)
        vfs = build_vfs(setup.root, setup.mounts, clock, self._budget, DEFAULT_IDS)
        self.kernel = Kernel(
            vfs=vfs,
            clock=clock,
            entropy=entropy,
            budget=self._budget,
            syscalls=system_calls(),
            make_core=lambda cpu, memory: _make_core(cpu, memory, clock, entropy),
            memory_limit=setup.memory,
        )
        self.kernel.on_runnable = self._runnable
        env = environment(setup.env)
        program = setup.program
        path = program.path
        if program.data is None:
            path = find_in_guest(vfs, program.argv[0], env["PATH"], setup.cwd)
        self.process = self.kernel.spawn(
            program.argv,
            program_bytes=program.data,
            flat=program.flat,
            environ=environment_bytes(env),
            files=_files(setup, shown=shown),
            cwd=setup.cwd,
            path=path,
        )
        if program.ends_at is not None and self.process.main is not None:
            self.process.main.core.end_of_code = program.ends_at

    def close(self) -> None:
        """End the guest, give its memory back."""
        if not self.kernel.ended:
            self.kernel.terminate(EndReason.TERMINATED, "the comparison is over")

    # --- turns --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Do what comes before the next instruction: finish calls, deliver signals, fire timers, choose a thread."""
        while not self.kernel.ended:
            thread = self._choose()
            if thread is None:
                self._sleep()
                continue
            if thread.call is not None or thread.attention:
                self._spend(self.kernel.resume(thread))
            if thread.state is RunState.RUNNABLE and thread.call is None and not thread.attention and self.left > 0:
                return
        self.thread = None

    def _choose(self) -> Thread | None:
        """The thread whose turn it is: the present one until its quantum is spent, then the next one of the queue."""
        thread = self.thread
        if thread is not None and thread.state is RunState.RUNNABLE and self.left > 0:
            return thread
        self.thread = None
        if thread is not None and thread.state is RunState.RUNNABLE:
            self._runnable(thread)
        self._expire()
        while self._ready:
            thread = self._ready.popleft()
            if thread.state is RunState.RUNNABLE:
                self.thread, self.left = thread, self._quantum
                thread.attention = thread.attention or thread.process.metered
                return thread
        return None

    def _runnable(self, thread: Thread) -> None:
        if thread is not self.thread and thread not in self._ready:
            self._ready.append(thread)

    def _sleep(self) -> None:
        """Nobody can run: go to the next deadline, or end what can never go on."""
        deadline = self.kernel.next_deadline()
        if deadline is None:
            self.stuck = True
            self.kernel.terminate(EndReason.TERMINATED, "every thread waits for another")
            return
        self._timeline.jump(deadline)
        self._expire()

    def _expire(self) -> None:
        deadline = self.kernel.next_deadline()
        if deadline is not None and deadline <= self._timeline.now_ns:
            self.kernel.expire(self._timeline.now_ns)

    def _spend(self, cost: int) -> None:
        self.left -= cost
        self._timeline.advance(cost)

    # --- instructions -------------------------------------------------------------------------------------------------

    def run(self, budget: int) -> Exit:
        """Execute at most `budget` instructions of the chosen thread. Time stands still until `handle`."""
        assert self.thread is not None
        return self.engine.run(self.thread.core, budget)

    def handle(self, exit_: Exit, executed: int) -> None:
        """`executed` instructions are done and compared: let the kernel have what they ended with."""
        assert self.thread is not None
        self.instructions += executed
        self._spend(executed)
        if exit_.reason is ExitReason.END_OF_CODE:
            self.kernel.terminate(EndReason.TERMINATED, "the end of the code")
        elif exit_.reason is not ExitReason.BUDGET:
            self._spend(self.kernel.trap(self.thread, exit_))

    @property
    def ending(self) -> str:
        """How the machine ended, in words."""
        process = self.process
        if self.stuck or process.end_reason is not EndReason.EXITED:
            return process.detail or (f"signal {-(process.returncode or 0)}" if process.returncode else "ended")
        return f"exit status {process.returncode}"


def _make_core(cpu: CpuState, memory: AddressSpace, clock: VirtualClock, entropy: SeededEntropy) -> Core:
    return Core(cpu, memory, clock.monotonic_ns, entropy.bytes)


def _files(setup: Setup, *, shown: bool) -> Sequence[File]:
    output = setup.output if shown else _nothing
    return BytesInput(setup.stdin), Sink(1, "pipe:[stdout]", output), Sink(2, "pipe:[stderr]", output)


def _nothing(fd: int, data: bytes) -> Any:
    return None

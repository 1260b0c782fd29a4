"""A guest kernel without an engine: tests set registers and make system calls by hand.

    m = Machine()
    t = m.thread
    assert m.call(t, "getpid") == 1

`call` returns EAX as a signed number, or None when the thread did not come back (parked, stopped or dead).
`m.result(t)` is the same later. Scratch memory is at SCRATCH; signal handlers are mere addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aiopyvm.abi.numbers import NAMES
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.state import CpuState
from aiopyvm.kernel.file import File
from aiopyvm.kernel.hoststream import BytesInput
from aiopyvm.kernel.kernel import Kernel
from aiopyvm.kernel.process import Process
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.kernel.vfs import Vfs
from aiopyvm.mem.space import AddressSpace
from aiopyvm.syscalls.dispatch import Dispatcher

NUMBERS = {name: number for number, name in NAMES.items()}
CODE = 0x08048000
SCRATCH = 0x10000000
SCRATCH_SIZE = 0x40000
HANDLER = 0x08048100
SECOND = 1_000_000_000


@dataclass
class FakeClock:
    """Time that tests move."""

    now: int = 5 * SECOND
    epoch: int = 1_700_000_000 * SECOND

    def monotonic_ns(self) -> int:
        return self.now

    def realtime_ns(self) -> int:
        return self.epoch + self.now


class FakeEntropy:
    """Bytes that are easy to recognise."""

    def bytes(self, n: int) -> bytes:
        return b"\xa5" * n


@dataclass
class CountingBudget:
    """A budget that tests look at."""

    limit: int = 1 << 30
    used: int = 0

    def charge(self, size_bytes: int) -> bool:
        if self.used + size_bytes > self.limit:
            return False
        self.used += size_bytes
        return True

    def room(self) -> int:
        return self.limit - self.used


class Machine:
    """A kernel with one process whose program is `code` (flat)."""

    def __init__(
        self,
        *,
        files: Sequence[File] = (),
        memory_limit: int = 64 << 20,
        budget: int = 1 << 30,
        process_limit: int = 64,
        uid: int = 1000,
        code: bytes = b"\xcd\x80",
    ) -> None:
        self.clock = FakeClock()
        self.budget = CountingBudget(budget)
        self.runnable: list[Thread] = []
        self.exited: list[Process] = []
        self.lines: list[str] = []
        vfs = Vfs(clock=self.clock, budget=self.budget, uid=uid, gid=uid)
        self.kernel = Kernel(
            vfs=vfs,
            clock=self.clock,
            entropy=FakeEntropy(),
            budget=self.budget,
            syscalls=Dispatcher(),
            make_core=make_core,
            uid=uid,
            gid=uid,
            memory_limit=memory_limit,
            process_limit=process_limit,
            open_files=64,
        )
        self.kernel.on_runnable = self.runnable.append
        self.kernel.on_exit = self.exited.append
        files = files or [BytesInput(b"") for _ in range(3)]
        program = code.ljust(0x1000, b"\x90")
        self.process = self.kernel.spawn([b"prog"], program_bytes=program, flat=(CODE, CODE), files=files)
        thread = self.process.main
        assert thread is not None
        self.thread = thread
        thread.memory.map(SCRATCH, SCRATCH_SIZE, 3)

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(self, t: Thread, name: str | int, *args: int) -> int | None:
        """Make a system call in `t`; its result, or None when it did not return."""
        cpu = t.core.cpu
        cpu.eax = NUMBERS[name] if isinstance(name, str) else name
        words = [arg & 0xFFFFFFFF for arg in args] + [0] * (6 - len(args))
        cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp = words
        cpu.eip = CODE + 2
        self.kernel.trap(t, Exit(ExitReason.SYSCALL))
        return self.result(t)

    def result(self, t: Thread) -> int | None:
        """EAX of a thread that has come back from its call, signed; lets it run on first."""
        self.kernel.resume(t)
        if t.state is not RunState.RUNNABLE:
            return None
        eax: int = t.core.cpu.eax
        return (eax ^ 0x80000000) - 0x80000000

    def finish(self, t: Thread) -> tuple[int | None, int]:
        """Let a call that goes on in steps come to its end: (result, how many more steps that took)."""
        steps = 0
        while in_steps(t):
            self.kernel.expire(self.clock.now)
            self.kernel.resume(t)
            steps += 1
        return self.result(t), steps

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self.clock.now += ns
        self.kernel.expire(self.clock.now)

    # --- memory -----------------------------------------------------------------------------------------------------

    def put(self, data: bytes, at: int = SCRATCH, t: Thread | None = None) -> int:
        """Write bytes into the guest; their address."""
        (t or self.thread).memory.write(at, data)
        return at

    def words(self, at: int, count: int, t: Thread | None = None) -> tuple[int, ...]:
        """Read signed words."""
        return struct.unpack(f"<{count}i", (t or self.thread).memory.read(at, 4 * count))

    # --- signals ----------------------------------------------------------------------------------------------------

    def handle(
        self, signo: int, flags: int = 0, handler: int = HANDLER, mask: int = 0, t: Thread | None = None
    ) -> None:
        """Install an action by rt_sigaction."""
        at = self.put(struct.pack("<IIIQ", handler, flags, 0, mask), SCRATCH + 0x3F000, t)
        assert self.call(t or self.thread, "rt_sigaction", signo, at, 0, 8) == 0

    def fork(self, t: Thread | None = None) -> Thread:
        """Fork; the child's thread, ready to make calls."""
        t = t or self.thread
        pid = self.call(t, "fork")
        if pid is None:
            pid, _ = self.finish(t)
        assert pid is not None
        assert pid > 0
        child = self.kernel.threads[pid]
        assert self.result(child) == 0
        return child

    def in_handler(self, t: Thread, handler: int = HANDLER) -> bool:
        """Whether `t` is about to run a signal handler."""
        return t.state is RunState.RUNNABLE and t.core.cpu.eip == handler

    def leave_handler(self, t: Thread, *, rt: bool = False) -> int | None:
        """Return from a handler as its trampoline would; EAX afterwards."""
        cpu = t.core.cpu
        cpu.esp += 4  # the handler's RET
        if not rt:
            cpu.esp += 4  # popl %eax
        cpu.eax = 173 if rt else 119
        self.kernel.trap(t, Exit(ExitReason.SYSCALL))
        return self.result(t)


def state(t: Thread) -> RunState:
    """The run state now, as a call so that a type checker does not take it for unchanged."""
    return t.state


def in_steps(t: Thread) -> bool:
    """Whether the call of `t` goes on when others had their turn (syscalls/steps.py)."""
    if t.state is RunState.RUNNABLE:
        return t.call is not None
    return t.state is RunState.PARKED and t.waits_for.endswith("its turn")


def make_core(cpu: CpuState, memory: AddressSpace) -> Core:
    """A core that no engine runs."""
    return Core(cpu, memory)

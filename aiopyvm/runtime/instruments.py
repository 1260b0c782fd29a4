"""Everything that watches a run while it executes: breakpoints, hooks, the instruction trace, strace.

How it works. `Instruments.advance` takes the place of `guest.advance`. Addresses with a breakpoint or a code hook are
stop addresses of the engine; ranges of code, memory hooks and the trace execute one instruction at a time. The work on
one exit is a generator, so that it can rest in the middle while an asynchronous hook runs (in the task of `HookTask`)
and go on afterwards.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import anyio

from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.runtime import guest as guests
from aiopyvm.runtime.hooks import CodeHook, Event, Hook, MemoryHook, SyscallHook
from aiopyvm.runtime.steps import Observer

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.runtime.guest import Guest
    from aiopyvm.runtime.run import Run
    from aiopyvm.runtime.steps import Step
    from aiopyvm.runtime.watch import Watch

Work = Generator[None, None, Any]
HOOK_COST = 200  # of a system call that a hook answered


class HookTask:
    """Runs asynchronous hooks, one after another, in a task of the block (a pump: see pumps.py)."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._jobs: deque[tuple[Awaitable[Any], Callable[[Any], None]]] = deque()
        self._event: anyio.Event | None = None
        run.when_done(self._nudge)

    def submit(self, awaitable: Awaitable[Any], done: Callable[[Any], None]) -> None:
        """Await `awaitable` soon and tell `done` its result."""
        self._jobs.append((awaitable, done))
        self._nudge()

    def _nudge(self) -> None:
        if self._event is not None:
            self._event.set()

    async def run(self) -> None:
        """Until the run has ended. Raises what a hook raises."""
        while self._run.result is None:
            if not self._jobs:
                event = self._event = anyio.Event()
                await event.wait()
                continue
            awaitable, done = self._jobs.popleft()
            done(await awaitable)


class Instruments:
    """What watches one run. Installs itself as `run.advance` when there is something to watch."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.trace: Callable[[Step], object] | None = None
        self.hook_task: HookTask | None = None
        self.breakpoints: set[int] = set()
        self.on_breakpoint: Callable[[Guest, int], None] | None = None
        self.passed: dict[Thread, int] = {}  # where a thread stopped already: the instruction there is executed next
        self._code: list[CodeHook] = []
        self._syscall: list[SyscallHook] = []
        self._memory: list[MemoryHook] = []
        self._watches: dict[int, Watch] = {}
        self._stepping = False
        self._resting: dict[Thread, Work] = {}
        run.advance, run.may_be_brief = self.advance, False

    def add_hooks(self, hooks: Iterable[Hook]) -> None:
        """Take in the caller's hooks. Raises TypeError for what is none, ValueError for no system call's name."""
        for hook in hooks:
            if isinstance(hook, CodeHook):
                self._code.append(hook)
            elif isinstance(hook, MemoryHook):
                self._memory.append(hook)
            elif isinstance(hook, SyscallHook):
                _check_call_name(hook.name)
                self._syscall.append(hook)
            else:
                raise TypeError(f"a hook is a CodeHook, MemoryHook or SyscallHook, not {type(hook).__name__}")
        self.refresh()

    @property
    def sees_calls(self) -> bool:
        """There are hooks of system calls: programs are to make them all."""
        return bool(self._syscall)

    def refresh(self) -> None:
        """Tell the engine where to stop; breakpoints, hooks or the trace have changed."""
        single = {hook.start for hook in self._code if hook.end is None}
        self._stepping = (
            self.trace is not None or bool(self._memory) or any(hook.end is not None for hook in self._code)
        )
        self.run.breakpoints.clear()
        self.run.breakpoints.update(self.breakpoints | single)

    # --- one step of a guest ------------------------------------------------------------------------------------------

    def advance(self, guest: Guest, left: int) -> int:
        """As `guest.advance`, with everything that watches."""
        work = self._resting.pop(guest.thread, None) or self._work(guest, left)
        try:
            next(work)
        except StopIteration as stop:
            cost: int = stop.value
            return cost
        self._resting[guest.thread] = work
        return 0

    def _work(self, guest: Guest, left: int) -> Work:
        thread = guest.thread
        eip: int = thread.core.cpu.eip
        if self.passed.get(thread) != eip:
            stopped = yield from self._arrive(guest, eip)
            if stopped:
                return 0
        self.passed.pop(thread, None)
        observer = Observer(thread) if self.trace is not None else None
        watch = self._watch(thread) if self._memory else None
        left_by, done = self._execute(guest, left)
        if left_by is None:
            return 0
        if observer is not None and done and self.trace is not None and left_by.reason is not ExitReason.SYSCALL:
            self.trace(observer.step())
        if watch is not None:
            yield from self._tell_accesses(thread, eip, watch)
        cost = done
        if left_by.reason is ExitReason.SYSCALL:
            cost += yield from self._system_call(guest, left_by)
            if observer is not None and self.trace is not None:
                self.trace(observer.step())
        elif left_by.reason is not ExitReason.BUDGET:
            cost += self._leave(guest, left_by)
        return cost

    def _execute(self, guest: Guest, left: int) -> tuple[Exit | None, int]:
        run, thread = self.run, guest.thread
        wanted = 1 if self._stepping else min(left, guest.chunk)
        budget = run.room(wanted)
        if not budget:
            return None, 0
        cpu = thread.core.cpu
        before: int = cpu.instructions
        left_by = run.engine.run(thread.core, budget)
        done = cpu.instructions - before
        run.executed(done)
        return left_by, done

    def _leave(self, guest: Guest, left_by: Exit) -> int:
        if left_by.reason is ExitReason.BREAKPOINT:
            return 0  # the next `advance` arrives there
        return guests.leave(guest, left_by)

    # --- stops --------------------------------------------------------------------------------------------------------

    def _arrive(self, guest: Guest, eip: int) -> Work:
        """Before the instruction at `eip`: hooks, then a breakpoint. True when it is not to be executed now."""
        thread = guest.thread
        for hook in self._code:
            if hook.start == eip or (hook.end is not None and hook.start <= eip < hook.end):
                yield from self._call(hook.function, Event("code", thread, eip))
                if thread.state is not RunState.RUNNABLE or not self.run.going:
                    return True
        moved = thread.core.cpu.eip != eip
        self.passed[thread] = eip
        if not moved and eip in self.breakpoints and self.on_breakpoint is not None:
            self.on_breakpoint(guest, eip)
            return True
        return moved

    def _system_call(self, guest: Guest, left_by: Exit) -> Work:
        run, thread = self.run, guest.thread
        cpu = thread.core.cpu
        number: int = cpu.eax
        if self._syscall:
            name = _call_name(number)
            args = (cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp)
            for hook in self._syscall:
                if hook.name is None or hook.name == name:
                    event = Event("syscall", thread, cpu.eip, number=number, name=name, args=args)
                    answer = yield from self._call(hook.function, event)
                    if answer is not None:
                        if not isinstance(answer, int):
                            raise TypeError(f"a system-call hook answers with a number or None, not {answer!r}")
                        cpu.eax = answer & 0xFFFFFFFF
                        run.cost += HOOK_COST
                        return HOOK_COST
        return guests.leave(guest, left_by)

    # --- memory -------------------------------------------------------------------------------------------------------

    def _watch(self, thread: Thread) -> Watch:
        from aiopyvm.runtime.watch import watch_space

        watch = self._watches.get(id(thread.memory))
        if watch is None or watch.space is not thread.memory:
            watch = watch_space(thread.memory, self._memory)
            self._watches[id(thread.memory)] = watch
        watch.accesses.clear()
        return watch

    def _tell_accesses(self, thread: Thread, eip: int, watch: Watch) -> Work:
        for address, size, access in tuple(watch.accesses):
            for hook in self._memory:
                if access in hook.access and address < hook.end and hook.start < address + size:
                    yield from self._call(hook.function, Event("memory", thread, address, size, access))

    # --- hooks --------------------------------------------------------------------------------------------------------

    def _call(self, function: Callable[[Event], Any], event: Event) -> Work:
        """Call a hook; while an asynchronous one runs the machine rests."""
        outcome = function(event)
        if not inspect.isawaitable(outcome):
            return outcome
        assert self.hook_task is not None
        answers: list[Any] = []

        def done(answer: Any) -> None:
            answers.append(answer)
            self.run.release()

        self.run.hold()
        self.hook_task.submit(outcome, done)
        while not answers:
            yield
        return answers[0]


def _check_call_name(name: str | None) -> None:
    from aiopyvm.syscalls.table import TABLE

    if name is not None and not any(row.name == name for row in TABLE.values()):
        raise ValueError(f"no system call is called {name!r}")


def _call_name(number: int) -> str:
    from aiopyvm.syscalls.table import TABLE

    row = TABLE.get(number)
    return row.name if row is not None else f"syscall_{number}"


def instruments_of(run: Run) -> Instruments:
    """Return what watches `run`; it is made at first use."""
    if run.instruments is None:
        run.instruments = Instruments(run)
    return run.instruments


def watch_calls(kernel: Kernel, show: Callable[[str], object]) -> None:
    """Call `show` with a line of strace text for each system call; the pid stands first where it is not the first
    process."""

    def line(thread: Thread, text: str) -> None:
        first = kernel.init is None or thread.process is kernel.init
        show(text if first else f"[pid {thread.tid}] {text}")

    kernel.strace = line
    first = kernel.init
    if first is not None and first.exe_inode is not None and first.main is not None:
        from aiopyvm.syscalls.strace import first_line

        line(first.main, first_line(first))

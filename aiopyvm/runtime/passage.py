"""System calls in passing: a guest's calls are handled where its engine meets them, and it goes on at once.

How it works. An engine of generated code is given `Passage.call`, which handles one system call as `guest.leave` does
and says how many instructions may follow. So a call that completes at once costs no way out of the engine and back
through the guest's coroutine. What always holds: a call costs what it costs there, so that slices end at the same
counts, and the guest leaves as soon as anything but running on could be next (it waits, it has stopped, its memory or
mode is another one, its run is to end, its slice or the step's time is over, others of its lane can run). Signals that
were pending are delivered first: it goes on in their handler. Runs of one order (lane.py) do without:
each of their calls may freeze the lane or move its time.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from aiopyvm.kernel.thread import RUNNABLE

if TYPE_CHECKING:
    from aiopyvm.runtime.guest import Guest


class Passage:
    """The system calls that one guest makes within a run of its engine; `used`: there was one."""

    __slots__ = (
        "_before",
        "_cpu",
        "_enter",
        "_error",
        "_guest",
        "_left",
        "_memory",
        "_run",
        "_spent",
        "_thread",
        "used",
    )

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._run = guest.run
        self._thread = guest.thread
        self._cpu = guest.thread.core.cpu
        self._enter = guest.run.kernel.syscalls.enter
        self._memory = guest.thread.core.memory
        self._left = self._before = self._spent = 0
        self._error: Exception | None = None
        self.used = False

    def begin(self, left: int, instructions: int) -> Callable[[], int]:
        """A run of the engine begins that may cost `left`, at a count of `instructions`; what to call at a call."""
        self._left = left
        self._before = instructions
        self._memory = self._thread.core.memory
        self._spent = 0
        self.used = False
        return self.call

    def call(self) -> int:
        """Handle a system call; how many instructions may be executed now, 0 when the engine is to be left."""
        thread, run, guest = self._thread, self._run, self._guest
        self.used = True
        try:
            cost = self._enter(thread)
            attention = thread.attention
            if attention and thread.state is RUNNABLE:
                cost += run.kernel.resume(thread)  # as Kernel.trap does
        except Exception as error:  # of who watches the run: not the engine's
            self._error = error
            return 0
        self._spent += cost
        if thread.call is not None or thread.state is not RUNNABLE or (attention and self._must_leave()):
            return 0
        left: int = self._left - self._spent - (self._cpu.instructions - self._before)
        if left <= 0 or not run.going or run.held or monotonic_ns() >= guest.until_ns:
            return 0
        if left > run.quantum and (run.waiting or run.lane.queue.heap):  # it has company
            return 0
        return left if left < guest.chunk else guest.chunk

    def _must_leave(self) -> bool:
        """The kernel has had the thread's attention: it goes on as another than the engine has it, or somebody is to
        look at it between its instructions."""
        thread = self._thread
        rare: int = self._cpu.rare
        return (
            bool(rare)
            or thread.attention
            or thread.yields
            or thread.trace is not None
            or thread.process.metered
            or thread.core.memory is not self._memory
        )

    def end(self) -> int:
        """The engine has been left: tell the run what the calls cost. Raises what a call raised."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        self._run.cost += self._spent
        return self._spent

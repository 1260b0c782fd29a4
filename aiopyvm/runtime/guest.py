"""One guest thread as a coroutine: run instructions, hand the exit to the kernel, give way when the slice is spent.

How it works. `Guest.send(until_ns)` sends the coroutine on; at its end it raises StopIteration. It answers PAUSED when
`until_ns` has come before the slice was spent (the same guest goes on at the next step: pausing is no scheduling
decision and changes no count), HELD when an asynchronous hook has to answer first, FROZEN when its lane has to wait for
the host (lane.py), TURN when other lanes may come first, AWAY when a worker executes its instructions and LINED_UP when
it waits for one (flights.py), DONE when the slice is over. A slice is a number of quanta of cost (slices.py):
instructions, and what system calls cost.

Instructions are given to the engine in chunks that take about CHUNK_NS at the speed last seen, so that a slow guest
cannot hold up the event loop. What the guest can see of time moves only at exits and at the end of a slice, never at a
pause.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, TypeGuard

from aiopyvm.engine.protocol import ExitReason
from aiopyvm.errors import InternalError
from aiopyvm.kernel import rseq
from aiopyvm.kernel.thread import DEAD, RUNNABLE, Thread
from aiopyvm.runtime.passage import Passage
from aiopyvm.runtime.slices import LONGEST_METERED, QUANTUM, rest_of_quantum, shorten, slice_length

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Core, Engine, Exit, Seater
    from aiopyvm.runtime.flights import Flight
    from aiopyvm.runtime.run import Run

PAUSED: Final = 0
DONE: Final = 1
HELD: Final = 2
FROZEN: Final = 3
TURN: Final = 4
AWAY: Final = 5
LINED_UP: Final = 6

BUDGET: Final = ExitReason.BUDGET  # an enumeration looks its members up at each use
SYSCALL: Final = ExitReason.SYSCALL
FAULT: Final = ExitReason.FAULT

CHUNK_NS: Final = 500_000
FIRST_CHUNK: Final = 200
LEAST_CHUNK: Final = 20
MOST_CHUNK: Final = 20_000


class Guest:
    """One thread of a run, ready to be stepped. `queued` tells that it stands in its run's queue."""

    __slots__ = (
        "_coroutine",
        "away",
        "chunk",
        "flies",
        "flight",
        "lined_up",
        "passage",
        "queued",
        "reach",
        "rest",
        "run",
        "seat",
        "send",
        "stay",
        "stays",
        "thread",
        "until_ns",
    )

    def __init__(self, run: Run, thread: Thread) -> None:
        self.run = run
        self.thread = thread
        self.queued = False
        self.chunk = run.chunk
        self.flies = False  # its code is worth a worker; `reach`: instructions of its next flight
        self.reach = 0
        self.stays = 0  # chunks that it stayed on the event loop's thread after its last flights, which were short
        self.stay = 0  # of them, those to come
        self.flight: Flight | None = None
        self.lined_up = False  # it waits for a worker
        self.away = False  # it flies or waits for a worker
        self.until_ns = 0  # the present step's
        self.rest: int | None = None  # what is left of a slice that has begun without the coroutine (brief.py)
        launcher = run.launcher
        self.seat = launcher.seat(thread.core) if launcher is not None and has_seats(launcher) else None
        self.passage = None if run.ordered else Passage(self)
        self._coroutine = run_thread(self)
        next(self._coroutine)  # up to the first step
        self.send: Callable[[int], int] = self._coroutine.send

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()

    def adapt(self, instructions: int, ns: int, most: int = MOST_CHUNK) -> None:
        """Learn from `instructions` that took `ns`: the next chunk takes about CHUNK_NS, and grows at most fourfold.
        With generated code the run's next guest begins with what its last one learnt."""
        fitting = instructions * CHUNK_NS // (ns or 1)
        self.chunk = max(LEAST_CHUNK, min(fitting, 4 * self.chunk, most))
        if self.run.launcher is not None:  # it comes back, however long a chunk is, where code turns out to be slow
            self.run.chunk = min(self.chunk, MOST_CHUNK)


def has_seats(engine: Engine) -> TypeGuard[Seater]:
    """The engine has seats (engine/protocol.py)."""
    return hasattr(engine, "seat")


def run_thread(guest: Guest) -> Generator[int, int, None]:
    """The life of one guest thread: each `yield` answers a step, and returns the next one's `until_ns`."""
    run, thread = guest.run, guest.thread
    process, ordered, quantum = thread.process, run.ordered, run.quantum
    guest.until_ns = until = yield DONE
    while thread.state is not DEAD:
        if process.metered:
            thread.attention = True  # so that the kernel looks at its CPU time
        if guest.rest is not None:
            left, guest.rest = guest.rest, None
        else:
            company = run.has_company
            left = quantum if company else slice_length(run, process)
        spell = turn_length(guest)  # until others may come first
        while guest.flight is not None or (left > 0 and run.going and thread.state is RUNNABLE):
            if guest.flight is not None:
                left -= guest.flight.land()
                spell = turn_length(guest)
            else:
                if thread.call is not None or thread.attention:
                    cost = run.kernel.resume(thread)
                    run.cost += cost
                    cost = cost or 1
                else:
                    cost = run.advance(guest, left)
                left -= cost
                spell -= cost
            if thread.yields:
                thread.yields = False
                if not ordered and run.has_company:
                    left = 0
            if left > quantum and (ordered or run.has_company):
                left = shorten(run, left)
            elif left > LONGEST_METERED and process.metered:  # since a moment ago
                left = rest_of_quantum(min(quantum, QUANTUM), left)
            if spell <= 0 or ordered or run.held or guest.away or monotonic_ns() >= until:
                verdict = _verdict(guest, until, spell)
                if verdict == DONE:
                    continue
                over = left <= 0 or not run.going or thread.state is not RUNNABLE
                if over and verdict in (PAUSED, TURN):
                    break  # not a pause: what comes meanwhile would prolong the slice
                guest.until_ns = until = yield verdict
                guest.lined_up = guest.away = False
                if verdict != PAUSED:
                    spell = turn_length(guest)
        if thread.rseq is not None and thread.state is RUNNABLE and thread.call is None:
            rseq.interrupted(thread)  # others may come first
        guest.until_ns = until = yield DONE


def _verdict(guest: Guest, until_ns: int, spell: int) -> int:
    """Why the guest should give way now; DONE: it should not."""
    run = guest.run
    if guest.flight is not None:
        return AWAY
    if guest.lined_up:
        return LINED_UP
    if run.held:
        return HELD
    if run.ordered and run.freezes(guest.thread):
        return FROZEN
    if spell <= 0:
        return TURN
    return PAUSED if monotonic_ns() >= until_ns else DONE


def turn_length(guest: Guest) -> int:
    """How much a guest may use before other lanes may come first."""
    return max(guest.chunk, min(guest.run.quantum, QUANTUM))


def engine_failed(core: Core, error: Exception) -> InternalError:
    """What to raise where the engine raised `error`."""
    return InternalError(f"the engine failed at eip {core.cpu.eip:#010x}: {error!r}; please report it")


def advance(guest: Guest, left: int) -> int:
    """Run at most `left` instructions of `guest` in one chunk and handle the exit; return the cost."""
    run = guest.run
    thread = guest.thread
    core = thread.core
    cpu = core.cpu
    budget = run.room(left if left < guest.chunk else guest.chunk)
    if not budget:
        return 0
    before = cpu.instructions
    started = monotonic_ns()
    try:
        left_by = run.engine.run(core, budget)
    except Exception as error:
        raise engine_failed(core, error) from error
    done: int = cpu.instructions - before
    if done >= budget or done >= 1000:
        guest.adapt(done, monotonic_ns() - started)
    run.executed(done)
    return done if left_by.reason is BUDGET else done + leave(guest, left_by)


def leave(guest: Guest, left_by: Exit) -> int:
    """Handle an exit other than BUDGET; return its cost."""
    run = guest.run
    run.tick()
    if left_by.reason in (SYSCALL, FAULT):
        cost = run.kernel.trap(guest.thread, left_by)
        run.cost += cost
        return cost
    run.stopped()
    return 0

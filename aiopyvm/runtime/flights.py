"""Flights: instructions of a guest that a worker thread executes, while the event loop goes on.

How it works. The engine's generated code alone runs on the worker (engine/protocol.py, `Launcher`): everything before
and after is done here, on the event loop's thread. A guest flies when its code has been seen to run for long without
coming back; what comes back often is not worth the hop and stays, the longer the more of its flights were short. While
a guest flies its lane rests, with the guest in the middle of its slice; where no worker is free the lane stands in
line, fair by cost.

What always holds. A flight's guest is not stepped before the flight has landed. Nobody but the worker touches the
machine's registers and memory meanwhile; who must, waits for the landing, which is milliseconds away. How a slice is
cut into flights and stays is no scheduling decision, and shows nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, TypeGuard
from weakref import WeakKeyDictionary

from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.host.threads import WORKERS, Call, loop_caller
from aiopyvm.runtime import guest as guests
from aiopyvm.runtime.fair import FairQueue
from aiopyvm.runtime.guest import Guest

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Engine, Launcher
    from aiopyvm.runtime.lane import Lane
    from aiopyvm.runtime.run import Run

FLIGHT_NS: Final = 4_000_000  # a flight takes about so long; it cannot be called off
WORTH_NS: Final = 150_000  # code that runs so long without coming back is worth a flight
SHORT_NS: Final = 1_000_000  # a flight that comes back sooner, for Python to do something, costs more than it is worth
MOST_STAYS: Final = 16  # chunks on the event loop's thread after several of them
SLOW_NS: Final = 15  # an instruction of generated code takes less: where more went by, it was Python that took so long
FIRST_REACH: Final = 200_000  # instructions of a guest's first flight
BUDGET: Final = ExitReason.BUDGET  # an enumeration looks its members up at each use
PAUSE: Final = ExitReason.PAUSE
MOST_REACH: Final = 16_000_000
MOST_CHUNK: Final = 1_000_000  # instructions at once on the event loop's thread
PATIENCE: Final = 32  # returns of generated code to Python before others have their turn


class Crew:
    """The workers of one `Runtime` in one event loop: `limit` flights at most, and the lanes that wait for one."""

    __slots__ = ("__weakref__", "limit", "line", "under_way")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0
        self.line: FairQueue[Place] = FairQueue()

    def admits(self, lane: Lane) -> bool:
        """A guest of `lane` may start now: nobody has waited longer."""
        return self.under_way < self.limit and (lane.called or not len(self.line))


class Place:
    """A lane in line for workers, whose time is shared apart from that of the event loop's thread."""

    __slots__ = ("lane", "line", "virtual_time")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.line: FairQueue[Place] | None = None
        self.virtual_time = 0.0

    @property
    def weight(self) -> float:
        """As its lane's."""
        return self.lane.weight


class Flight:
    """Instructions of `guest` that a worker executes. `land` or `settle` ends it."""

    __slots__ = ("_before", "_guest", "call", "crew")

    def __init__(self, guest: Guest, crew: Crew) -> None:
        self._guest = guest
        self._before: int = guest.thread.core.cpu.instructions
        self.crew = crew
        self.call: Call

    @property
    def run(self) -> Run:
        """The run of its guest."""
        return self._guest.run

    @property
    def under_way(self) -> bool:
        """It has not ended."""
        return self._guest.flight is self

    def wait(self) -> None:
        """Block until the registers and the memory are the guest's own again."""
        self.call.wait()

    def land(self) -> int:
        """Wait for it, and handle why the generated code came back; return the cost."""
        guest = self._guest
        done, left_by = self._touch_down()
        ns = self.call.cpu_ns  # what it waited for a core or the GIL says nothing about the guest
        if left_by.reason is BUDGET:
            guest.reach = max(FIRST_REACH // 4, min(done * FLIGHT_NS // (ns or 1), 4 * guest.reach, MOST_REACH))
            guest.stays = 0
        elif ns < SHORT_NS or not done:  # what it waits for is done on the event loop's thread
            guest.flies = False
            guest.stays = guest.stay = min(2 * guest.stays + 1, MOST_STAYS)
        return done + _follow(guest, left_by)

    def settle(self) -> None:
        """Wait for it, and count what was executed: its guest is about to end."""
        self._touch_down()

    def _touch_down(self) -> tuple[int, Exit]:
        run, core = self._guest.run, self._guest.thread.core
        self.call.wait()
        self._guest.flight = None
        run.kernel.away = False
        run.scheduler.flights.end(self)
        try:
            if self.call.error is not None:
                raise self.call.error
            assert run.launcher is not None
            left_by = run.launcher.land(core)
        except Exception as error:
            raise guests.engine_failed(core, error) from error
        done: int = core.cpu.instructions - self._before
        run.executed(done)
        run.flown += done
        run.busy_ns += self.call.cpu_ns
        return done, left_by


class Flights:
    """The flights of one event loop's scheduler. `wake` has the scheduler take its turn; it is called in its loop."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._landed: deque[Flight] = deque()  # filled by workers
        self._crews: WeakKeyDictionary[object, Crew] = WeakKeyDictionary()
        self._call_loop: Callable[[Callable[[], object]], None] | None = None
        self.awake = False  # the scheduler looks at what has landed before it rests
        self.busy = 0  # flights, and lanes that wait for a worker
        self._lines: dict[Crew, None] = {}  # crews for which lanes stand in line, or stood

    def crew(self, owner: object, limit: int) -> Crew | None:
        """Return the crew for the guests of `owner`, its runtime; None where there are to be no workers."""
        if limit < 1:
            return None
        crew = self._crews.get(owner)
        if crew is None:
            crew = self._crews[owner] = Crew(limit)
        return crew

    def start(self, guest: Guest, crew: Crew, engine: Launcher, context: int) -> None:
        """Have a worker enter generated code for `guest`."""
        if self._call_loop is None:
            self._call_loop = loop_caller()
        flight = guest.flight = Flight(guest, crew)
        guest.away = guest.run.kernel.away = True
        crew.under_way += 1
        self.busy += 1
        flight.call = WORKERS.submit(engine.enter, context, lambda: self._landing(flight))

    def _landing(self, flight: Flight) -> None:
        """On the worker's thread: tell the scheduler."""
        self._landed.append(flight)
        if not self.awake and self._call_loop is not None:
            self._call_loop(self._wake)

    @property
    def has_landed(self) -> bool:
        """A flight has landed that nobody has seen to."""
        return bool(self._landed)

    def end(self, flight: Flight) -> None:
        """The worker of `flight` is free."""
        flight.crew.under_way -= 1
        self.busy -= 1
        if len(flight.crew.line):
            self._wake()

    def line_up(self, lane: Lane) -> None:
        """Let `lane` wait for a worker."""
        run = lane.current
        if run is None or run.crew is None:  # it has ended meanwhile
            lane.resting = False
            return
        crew = run.crew
        lane.place.line = crew.line
        crew.line.push(lane.place)
        self._lines[crew] = None
        self.busy += 1

    def leave_line(self, lane: Lane) -> None:
        """`lane` does not wait for a worker any more; nothing happens when it does not."""
        place = lane.place
        if place.line is not None:
            place.line.remove(place)
            place.line = None
            self.busy -= 1

    def next_lane(self) -> Lane | None:
        """Return a lane to be stepped now: one whose flight has landed, else one that a free worker waits for."""
        while self._landed:
            flight = self._landed.popleft()
            if flight.under_way:  # else somebody has waited for it
                run = flight.run
                lane = run.lane
                if lane.current is run:
                    lane.resting = False
                else:  # lanes became one meanwhile
                    lane.offer(run)
                if lane.ready and not lane.queued:
                    return lane
        for crew in tuple(self._lines):
            if not len(crew.line):
                del self._lines[crew]
            elif crew.under_way < crew.limit and (place := crew.line.pop()) is not None:
                self.busy -= 1
                place.line = None
                place.lane.resting = False
                place.lane.called = True
                return place.lane
        return None


def can_launch(engine: Engine) -> TypeGuard[Launcher]:
    """The engine has generated code that runs without the GIL."""
    return hasattr(engine, "launch")


def advance(guest: Guest, left: int) -> int:
    """As `guest.advance` for a `Launcher`: instructions and system calls that cost at most `left`, in one chunk on this
    thread, or the start of a flight."""
    run, core = guest.run, guest.thread.core
    crew = run.crew
    if guest.flies and crew is not None and left >= guest.chunk and _fly(guest, crew, left):
        return 0
    if run.bounded and not (left := run.room(left)):
        return 0
    engine, cpu, passage = run.launcher, core.cpu, guest.passage
    assert engine is not None
    budget = left if left < guest.chunk else guest.chunk
    before: int = cpu.instructions
    on_call = passage.begin(left, before) if passage is not None else None
    started = monotonic_ns()
    try:
        left_by = engine.run(core, budget, PATIENCE, on_call)
    except Exception as error:
        raise guests.engine_failed(core, error) from error
    done: int = cpu.instructions - before
    run.executed(done)
    reason = left_by.reason
    if passage is not None and passage.used:
        done += passage.end()
    elif reason is BUDGET or done >= 1000:
        _learn(guest, done, monotonic_ns() - started, budget)
    if reason is BUDGET or reason is PAUSE:
        return done
    return done + guests.leave(guest, left_by)


def _learn(guest: Guest, done: int, ns: int, budget: int) -> None:
    """`done` instructions of a budget took so long, and made no system call."""
    guest.adapt(done, ns, MOST_CHUNK)
    if done >= budget and ns >= WORTH_NS and done >= WORTH_NS // SLOW_NS and not guest.flies:
        if guest.stay:
            guest.stay -= 1
        else:
            guest.flies, guest.reach = True, max(FIRST_REACH, min(guest.reach, 4 * done))


def _fly(guest: Guest, crew: Crew, left: int) -> bool:
    """Start a flight, or line up for one; False where the generated code cannot go on."""
    run = guest.run
    engine = run.launcher
    assert engine is not None
    if not crew.admits(run.lane):
        guest.lined_up = guest.away = True
        return True
    budget = run.room(min(left, guest.reach))
    if not budget:
        return True
    context = engine.launch(guest.thread.core, budget)
    if not context:
        guest.flies = False
        return False
    run.scheduler.flights.start(guest, crew, engine, context)
    return True


def _follow(guest: Guest, left_by: Exit) -> int:
    if left_by.reason is BUDGET or left_by.reason is PAUSE:
        return 0
    return guests.leave(guest, left_by)

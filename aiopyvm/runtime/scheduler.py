"""Which guest runs now: lanes in fair order, timers, jumps of virtual time, deadlocks. Synchronous; the driver calls
`turn`.

What always holds. A lane is in the queue exactly once while a guest of it can run here. A slice that was paused goes on
before anything else is chosen, but for lanes whose flights have landed (flights.py): with those it takes turns. A run
on the host's clock has an entry in the timer heap for its kernel's next deadline, or an earlier one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING

from aiopyvm.host.clock import WALL
from aiopyvm.runtime.brief import brief_slice, brief_slice_of
from aiopyvm.runtime.deadlock import find_deadlock
from aiopyvm.runtime.driver import Driver
from aiopyvm.runtime.fair import FairQueue
from aiopyvm.runtime.flights import Crew, Flights
from aiopyvm.runtime.gate import Gate
from aiopyvm.runtime.guest import AWAY, LINED_UP, PAUSED, TURN
from aiopyvm.runtime.lane import Lane
from aiopyvm.runtime.partners import Partners
from aiopyvm.runtime.waits import peers, waits_for

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Seat
    from aiopyvm.runtime.guest import Guest
    from aiopyvm.runtime.run import Run
    from aiopyvm.runtime.talks import Talk

FREEZE_NS = 200_000_000  # a lane waits for the host or for Python so long at most
FROZEN_NAP_S = 0.002
BETWEEN_LANDINGS_NS = 500_000  # other lanes run so long at most before flights that have landed are seen to
GRACE_TURNS = 3  # passes of the event loop before a lane that Python may wake is taken to be idle


class Scheduler:
    """All guests of one event loop. `now_ns` is the loop's clock."""

    def __init__(self, now_ns: Callable[[], int] = monotonic_ns) -> None:
        self.now_ns = now_ns
        self.driver = Driver(self)
        self.flights = Flights(self.driver.wake)
        self.runs: dict[Run, None] = {}
        self.lanes: FairQueue[Lane] = FairQueue()
        self._current: Lane | None = None
        self._timers: list[tuple[int, int, Run]] = []
        self._timer_count = 0
        self._graces: dict[Lane, int] = {}
        self._frozen: dict[Lane, int] = {}
        self._suspects: dict[Run, None] = {}  # may be stuck: looked at once a turn
        self.turns = 0
        self.gate = Gate(self._needs_turn)
        self.hands_on = False  # a brief slice is under way
        self._partners = Partners()
        self.at_end: dict[Callable[[], bool], None] = {}  # what is to be done when a turn ends; True: not all of it yet
        self.handed: Guest | None = None  # can run since, alone of its lane; comes next where no other lane does

    # --- what the driver asks -----------------------------------------------------------------------------------------

    def alive(self) -> bool:
        """There are guests that have not ended."""
        return bool(self.runs)

    def turn(self, until_ns: int) -> bool:
        """Run guests until `until_ns` (time.monotonic_ns) or nothing is runnable; True: call again soon."""
        self.turns += 1
        if until_ns >= WALL.due_ns:
            WALL.look(until_ns)
        flights = self.flights
        flights.awake = True
        try:
            more = self._turn(until_ns)
            if self.at_end:
                more = self._end_turn() or more
        finally:
            flights.awake = False
        return more or flights.has_landed

    def _turn(self, until_ns: int) -> bool:
        if len(self.gate):
            self.gate.refill()
        self._expire()
        landings = self.flights.busy
        while True:
            lane = self.flights.next_lane() if landings else None
            if lane is not None:
                lane.queued = True
                self._step(lane, until_ns)
            if self._current is None and self.lanes.heap:
                lane_now = self._current = self.lanes.pop() if landings else self._next_lane(until_ns)
                if lane_now is not None and lane_now.current is not None and monotonic_ns() >= until_ns:
                    return True  # in the middle of a slice already
            if self._current is not None:
                self._step(self._current, until_ns)
            elif lane is None:
                self._look_at_suspects()
                return self._idle()
            landings = self.flights.busy
            if self._timers and self._timers[0][0] <= self.now_ns():
                self._expire()
            if monotonic_ns() >= until_ns:
                self._look_at_suspects()
                return True

    def _end_turn(self) -> bool:
        """Do what was left for the turn's end; True: there is more of it, or it has let guests go on."""
        actions, self.at_end = self.at_end, {}
        self.at_end.update((action, None) for action in actions if action())
        return bool(self.at_end) or len(self.lanes) > 0

    def _next_lane(self, until_ns: int) -> Lane | None:
        """Run brief slices as long as they are next, and return the lane that comes then; None: there is none, or there
        is something else to see to."""
        lanes, timers, suspects = self.lanes, self._timers, self._suspects
        flights, now = self.flights, monotonic_ns()
        seats: list[Seat] = []
        try:
            self.hands_on = True
            while True:
                guest, self.handed = self.handed, None
                if guest is not None and not lanes.heap and (run := guest.run).take_on(guest):
                    lane = run.lane
                    lanes.pass_through(lane)
                    lane.queued = True
                    talk = self._partners.talk(guest, seats)
                    if talk is None:
                        now = brief_slice_of(guest, lane, now, until_ns, seats)
                    else:
                        lane, now = self._talk(talk, lane, until_ns, seats)
                else:
                    self._partners.forget()
                    if guest is not None:
                        guest.run.line_up(guest)
                    if not lanes.heap:
                        break
                    lane = lanes.first()
                    now = brief_slice(lane, now, until_ns, seats)
                if not now:
                    return lane
                lane.queued = False
                if lane.queue.heap:
                    self._queue(lane)
                elif lane.runs:
                    suspects[lane.runs[0]] = None  # on the host's clock it has no others
                if now >= until_ns or flights.busy or (timers and timers[0][0] <= self.now_ns()):
                    break
        finally:
            self.hands_on = False
            self.line_up()
            for seat in seats:
                if seat.taken:
                    seat.end()
        return None

    def _talk(self, talk: Talk, lane: Lane, until_ns: int, seats: list[Seat]) -> tuple[Lane, int]:
        """Have a guest of `lane` talk with others; whose slice ends it, and when that was over, as of a brief slice."""
        timers = self._timers
        due = timers[0][0] if timers else until_ns
        going = talk.go_on(min(until_ns, due) if self.now_ns is monotonic_ns else 0)
        self._partners.talked(talk)
        now = monotonic_ns()
        if going is None:
            return lane, now
        guest = going.guest
        if guest.run.lane is not lane:
            lane.queued = False
            self._suspects.update(dict.fromkeys(lane.runs))
            lane = guest.run.lane
            self.lanes.pass_through(lane)
            lane.queued = True
        return lane, brief_slice_of(guest, lane, now, until_ns, seats, going)

    def line_up(self) -> None:
        """Who was handed on is ready as any other guest."""
        guest, self.handed = self.handed, None
        if guest is not None:
            guest.run.line_up(guest)

    def _step(self, lane: Lane, until_ns: int) -> None:
        """Step a lane, and do what its verdict asks for."""
        if self.flights.busy:
            until_ns = min(until_ns, monotonic_ns() + BETWEEN_LANDINGS_NS)
        verdict = lane.step(until_ns)
        lane.called = False
        if verdict == PAUSED and lane is self._current:
            return
        if lane is self._current:
            self._current = None
        lane.queued = False
        if verdict == LINED_UP:
            self.flights.line_up(lane)
        elif verdict in (PAUSED, TURN):
            self._queue(lane)
        elif verdict != AWAY:
            self._settle(lane)

    def _queue(self, lane: Lane) -> None:
        if lane.ready and not lane.queued:
            lane.queued = True
            self.lanes.push(lane)

    def sleep_s(self) -> float | None:
        """Seconds until the next deadline; None: only a wake-up can bring work."""
        if self._frozen:
            return FROZEN_NAP_S
        if not self._timers:
            return None
        return max(0.0, (self._timers[0][0] - self.now_ns()) / 1e9)

    # --- what runs tell -----------------------------------------------------------------------------------------------

    def add(self, run: Run, lane: Lane) -> None:
        """Take in a new run."""
        self.runs[run] = None
        lane.add(run)

    def crew(self, owner: object, limit: int) -> Crew | None:
        """Return the workers for the guests of `owner`; None for none: where a test moves the loop's clock, which does
        not wait for threads."""
        return self.flights.crew(owner, limit) if self.now_ns is monotonic_ns else None

    def remove(self, run: Run) -> None:
        """Drop a run that has ended; those that it was joined with may be stuck now."""
        self.runs.pop(run, None)
        if self.handed is not None and self.handed.run is run:
            self.handed = None
        self._forget_stale_timers()
        run.lane.remove(run)
        if not run.lane.frozen:
            self._frozen.pop(run.lane, None)
        if self._current is run.lane and not run.lane.ready:
            self._current = None
            run.lane.queued = False
        for peer in peers(run):
            self.look_at(peer)
        if not self.runs:
            self.gate.refill()

    def ready(self, run: Run) -> None:
        """A guest of `run` can run."""
        lane = run.lane
        if not run.in_lane_queue and run is not lane.current:
            run.in_lane_queue = True
            lane.queue.push(run)
        if not (lane.queued or lane.frozen or lane.resting):
            lane.queued = True
            self.lanes.push(lane)
        if not self.flights.awake:  # else the driver is here
            self.driver.wake()

    def thaw(self, lane: Lane) -> None:
        """What `lane` waited for has come: it goes on in the same slice."""
        if lane.frozen:
            lane.frozen = False
            self._frozen.pop(lane, None)
            self._queue(lane)
            self.driver.wake()

    def _give_up_freezing(self) -> None:
        if self._frozen:
            now = monotonic_ns()
            for lane, deadline in tuple(self._frozen.items()):
                if now >= deadline:
                    if lane.current is not None:
                        lane.current.patience = False
                    self.thaw(lane)

    def deadline_changed(self, run: Run) -> None:
        """The kernel's next deadline, or the run's own, may have come nearer."""
        deadline = run.next_wake_ns()
        if deadline is not None and (run.timer_ns is None or deadline < run.timer_ns):
            run.timer_ns = deadline
            self._timer_count += 1
            heapq.heappush(self._timers, (deadline, self._timer_count, run))
            if self._timers[0][2] is run:
                self.driver.wake()

    def join(self, first: Run, second: Run) -> None:
        """A pipe joins two runs: with a seed or a virtual clock they become one lane."""
        into, gone = first.lane, second.lane
        if into is gone or not (first.ordered and second.ordered):
            return
        if self._current is gone:
            self._current = None
        self.lanes.remove(gone)
        self.flights.leave_line(gone)
        gone.queued = gone.resting = False
        self._graces.pop(gone, None)
        self._frozen.pop(gone, None)
        gone.frozen = False
        for run in tuple(gone.runs):
            gone.remove(run)
            into.add(run)
            if into.timeline is not None:
                run.move_clock(into.timeline)
            if run.ready and not run.flies:
                into.offer(run)
        self._queue(into)

    # --- timers -------------------------------------------------------------------------------------------------------

    def _forget_stale_timers(self) -> None:
        """An ended run is not held until its deadline: the heap never has many more entries than there are runs."""
        timers = self._timers
        if len(timers) > 2 * len(self.runs) + 64:
            timers[:] = [entry for entry in timers if entry[2] in self.runs and entry[0] == entry[2].timer_ns]
            heapq.heapify(timers)

    def _expire(self) -> None:
        timers = self._timers
        if not timers:
            return
        now = self.now_ns()
        while timers and timers[0][0] <= now:
            deadline, _, run = heapq.heappop(timers)
            if run.timer_ns == deadline:
                run.timer_ns = None
                if run in self.runs:
                    run.expire()
                    self.deadline_changed(run)

    # --- lanes with nothing to run ------------------------------------------------------------------------------------

    def _settle(self, lane: Lane) -> None:
        """After a slice: put the lane back, or see why it rests."""
        if lane.timeline is not None:
            lane.expire()
        if lane.frozen:
            self._frozen[lane] = monotonic_ns() + FREEZE_NS
        elif lane.queue.heap or lane.timeline is not None or lane.resting:
            if lane.ready:
                self._queue(lane)
            else:
                self.rest(lane)
        else:
            for run in lane.runs:
                self._suspects[run] = None

    def rest(self, lane: Lane) -> None:
        """`lane` has nothing to run: let its time jump, or see whether it is stuck."""
        if lane.resting:
            return
        deadline = lane.next_deadline() if lane.timeline is not None else None
        if deadline is None:
            for run in lane.runs:
                self._suspects[run] = None
        elif not any(run.held or waits_for(run, "host") for run in lane.runs):
            if any(waits_for(run, "python") for run in lane.runs):
                self._graces[lane] = self.turns + GRACE_TURNS
            else:
                self._jump(lane, deadline)

    def _jump(self, lane: Lane, deadline: int) -> None:
        assert lane.timeline is not None
        lane.timeline.jump(deadline)
        lane.expire()
        if not lane.ready and lane.runs:  # a timer that woke nobody: look again in the next turn
            self._graces[lane] = self.turns + 1

    def _idle(self) -> bool:
        """Nothing is runnable: see to lanes that are frozen or in their grace; True when that needs another turn."""
        self._give_up_freezing()
        for lane, turn in tuple(self._graces.items()):
            if lane.ready or not lane.runs:
                del self._graces[lane]
            elif self.turns >= turn:
                del self._graces[lane]
                deadline = lane.next_deadline()
                if deadline is not None:
                    self._jump(lane, deadline)
                else:  # the last timer woke nobody
                    self._suspects.update(dict.fromkeys(lane.runs))
        self._look_at_suspects()
        return bool(self._graces) or len(self.lanes) > 0 or len(self.gate) > 0

    def _needs_turn(self) -> None:
        """Somebody waits at the gate."""
        if self.runs:
            self.driver.wake()
        else:
            self.gate.refill()

    def _look_at_suspects(self) -> None:
        if self._suspects:
            suspects, self._suspects = self._suspects, {}
            for run in suspects:
                if not run.ready:
                    self.look_at(run)

    def look_at(self, run: Run) -> None:
        """`run` has nothing to do: end it, and all that it waits for, if nobody can ever wake them."""
        for stuck, detail in find_deadlock(run):
            stuck.deadlocked(detail)

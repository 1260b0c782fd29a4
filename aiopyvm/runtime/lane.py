"""A lane: the runs that can observe each other's order, interleaved by a rule that depends on nothing but counts.

A run of its own is a lane. Runs with a seed or a virtual clock that are joined by a pipe are one lane, and share one
timeline. Within a lane the run that has used least for its weight goes first, and a run's threads take turns: who runs
next, and for how long, depends on instruction counts and kernel events alone, not on the time at which the event loop
got its turn.

Where a guest of such a lane waits for the host or for Python while others of the lane could run, the lane freezes: it
waits with it, for a short time at most, so that what arrives arrives at the same count in every run.

Between lanes there is no order to keep: a lane may rest in the middle of a slice (flights.py) while others run. They
share the time of the event loop's thread, by the clock, and that of the workers, by instructions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.runtime.brief import MOST_NS
from aiopyvm.runtime.fair import FairQueue
from aiopyvm.runtime.flights import Place
from aiopyvm.runtime.guest import AWAY, DONE, FROZEN, LINED_UP, PAUSED, TURN

if TYPE_CHECKING:
    from aiopyvm.host.clock import Timeline
    from aiopyvm.runtime.run import Run


class Lane:
    """Runs in one order. `timeline` is None on the host's clock."""

    __slots__ = (
        "called",
        "current",
        "frozen",
        "place",
        "queue",
        "queued",
        "resting",
        "runs",
        "timeline",
        "virtual_time",
        "weight",
    )

    def __init__(self, timeline: Timeline | None) -> None:
        self.timeline = timeline
        self.runs: list[Run] = []
        self.queue: FairQueue[Run] = FairQueue()
        self.current: Run | None = None  # in the middle of a slice
        self.frozen = False  # in the middle of a slice that goes on when the host has answered
        self.resting = False  # in the middle of a slice: its guest flies, or waits for a worker
        self.called = False  # a worker is free for it
        self.queued = False  # the scheduler has it in its queue, or is stepping it
        self.place = Place(self)
        self.virtual_time = 0.0
        self.weight = 0.0

    @property
    def ready(self) -> bool:
        """A guest of it can run now."""
        return not (self.frozen or self.resting) and (self.current is not None or bool(self.queue.heap))

    def add(self, run: Run) -> None:
        """Take in a run."""
        self.runs.append(run)
        self.weight += run.weight
        run.lane = self

    def remove(self, run: Run) -> None:
        """Drop a run that has ended."""
        self.runs.remove(run)
        self.weight -= run.weight
        self.queue.remove(run)
        run.in_lane_queue = False
        if self.current is run:
            self.current = None
            self.frozen = self.resting = False

    def offer(self, run: Run) -> None:
        """`run` has something to do."""
        if run is not self.current and not run.in_lane_queue:
            run.in_lane_queue = True
            self.queue.push(run)

    def step(self, until_ns: int) -> int:
        """Step the run whose turn it is; the verdict (guest.py). After PAUSED, TURN, AWAY, LINED_UP and FROZEN the next
        step goes on in the same slice."""
        run = self.current
        if run is None:
            run = self.queue.pop()
            if run is None:
                return DONE
            run.in_lane_queue = False
            self.current = run
        cost, flown = run.cost, run.flown
        verdict = run.step(until_ns)
        weight = self.weight or 1.0
        run.virtual_time += (run.cost - cost) / run.weight
        ns = run.step_ns
        self.virtual_time += (ns if ns < MOST_NS else MOST_NS) / weight
        if flown != run.flown:
            self.place.virtual_time += (run.flown - flown) / weight
        if verdict == DONE:
            self.current = None
            run.settle()
            if run.waiting and run.ready:
                self.offer(run)
            return verdict
        if verdict == PAUSED:
            return verdict
        if verdict == FROZEN:
            self.frozen = True
            return verdict
        if verdict in (TURN, AWAY, LINED_UP):
            self.resting = verdict != TURN
            run.pass_by()
            return verdict
        self.current = None  # HELD
        if run.ready:
            self.offer(run)
        return verdict

    def next_deadline(self) -> int | None:
        """On a timeline: its time at which the first timer of a run is due; None: never."""
        assert self.timeline is not None
        found: int | None = None
        for run in self.runs:
            deadline = run.kernel.next_deadline()
            if deadline is not None:
                deadline += run.clock_start_ns()
                found = deadline if found is None else min(found, deadline)
        return found

    def expire(self) -> None:
        """On a timeline: fire the timers that are due."""
        for run in tuple(self.runs):
            run.expire()

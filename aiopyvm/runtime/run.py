"""One run: a guest kernel with its threads as guests, the accounts that bound it, and how it ends.

What always holds. A run ends exactly once, and then has a `result`; nothing of it is in the scheduler any more, its
memory is given back, its files are closed. Verdicts that are reached while its own guest runs (a limit, a hook) are
carried out at the end of the slice; all others at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiopyvm.host.clock import RealClock, Timeline, VirtualClock
from aiopyvm.kernel.process import EndReason
from aiopyvm.kernel.thread import DEAD, RUNNABLE, Thread
from aiopyvm.runtime import flights
from aiopyvm.runtime import guest as guests
from aiopyvm.runtime.guest import Guest
from aiopyvm.runtime.limits import SECOND_NS, Account, Limits
from aiopyvm.runtime.result import Reason, Result
from aiopyvm.runtime.slices import longest_slice
from aiopyvm.runtime.verdict import result_of

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Engine
    from aiopyvm.kernel.hoststream import HostOutput, MeteredEnd
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.process import Process as GuestProcess
    from aiopyvm.runtime.conduit import Outside
    from aiopyvm.runtime.ends import Channel
    from aiopyvm.runtime.instruments import Instruments
    from aiopyvm.runtime.lane import Lane
    from aiopyvm.runtime.machine import FileClock
    from aiopyvm.runtime.meter import Meter
    from aiopyvm.runtime.scheduler import Scheduler

T = TypeVar("T")
TICK_NS: Final = 1_000_000  # guest time that the accounts of a run without limits may lag behind


class Run:
    """One program's run; see the module's docstring. Made by `VM`, stepped by its lane."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        args: Sequence[Any],
        name: str,
        limits: Limits,
        instructions: Account,
        output: Account,
        guest_time: Account,
        engine: Engine,
        quantum: int,
        weight: float,
        clock: RealClock | VirtualClock,
        seeded: bool,
    ) -> None:
        self.scheduler = scheduler
        self.args = args
        self.name = name
        self.limits = limits
        self.instructions = instructions
        self.output = output
        self.guest_time = guest_time  # ns
        self.engine = engine
        self.quantum = quantum
        self.longest_slice = longest_slice(quantum)
        self.weight = weight
        self.clock = clock
        self.bounded = any(account.limit is not None for account in instructions.chain())
        self._time_bounded = any(account.limit is not None for account in guest_time.chain())
        self.ordered = seeded or isinstance(clock, VirtualClock)
        self.exact_time = self.ordered or self._time_bounded  # its accounts show each slice at once
        self.kernel: Kernel
        self.process: GuestProcess
        self.main: Thread
        self.lane: Lane
        self.program_bytes: bytes | None = None
        self.breakpoints: set[int] = set()  # shared by all its cores
        self.file_clock: FileClock | None = None
        self.in_lane_queue = False
        self.virtual_time = 0.0
        self.cost = 0  # virtual instructions: executed ones, and what system calls cost
        self.executed_instructions = 0
        self.unspent = 0  # of them, what `instructions`, on which there is no limit, does not show yet
        self.busy_ns = 0  # host time spent on its slices that its guest time does not show yet
        self.step_ns = 0  # of it, in the last step
        self.going = True  # its threads may run; False: condemned, ended, or stopped by a debugger
        self.held = False  # an asynchronous hook runs
        self.inside = False  # its guest is being stepped now
        self.python_may_signal = False  # Python holds the process in an open block
        self.launcher = engine if flights.can_launch(engine) else None
        self.advance: Callable[[Guest, int], int] = guests.advance if self.launcher is None else flights.advance
        self.chunk = guests.FIRST_CHUNK  # of its next guest
        self.may_be_brief = not self.ordered  # slices of it may be (brief.py): nothing watches each instruction
        self.crew: flights.Crew | None = None  # the workers that may execute its instructions
        self.flown = 0  # instructions that they executed
        self.instruments: Instruments | None = None
        self.on_runnable: list[Callable[[], None]] = []  # called when a thread can run: for a debugger
        self.on_park: list[Callable[[], None]] = []  # called when the run has nothing to do
        self.on_close: list[Callable[[], None]] = []  # give back what the run held
        self.result: Result | None = None
        self.failure: BaseException | None = None  # to be raised to whoever runs it
        self.timer_ns: int | None = None  # the scheduler's earliest entry for this run
        self.stdout: Meter | None = None
        self.stderr: Meter | None = None
        self.networked = False  # on a network with others, or with ports that the host publishes
        self._outside: Outside | None = None
        self._done: list[Callable[[], None]] = []
        self.patience = True  # freeze its lane where it waits for the host; False until it has been answered
        self.channels: list[Channel] = []  # pipes of which it holds an end
        self.outputs: list[MeteredEnd | HostOutput] = []  # what Python or the host reads
        self._guests: dict[Thread, Guest] = {}
        self.waiting: deque[Guest] = deque()  # guests that can run, in order, beside the present one
        self._current: Guest | None = None
        self._brief: Guest | None = None  # waits behind a brief slice; nothing of the lane has been able to run since
        self._verdict: tuple[Reason, str] | None = None
        self._limits_hit: set[str] = set()
        self._timers_told = 0  # how many timers its kernel had set when the scheduler was told
        self._clocked = 0  # cost that the clock has shown already
        self.started_ns = scheduler.now_ns()
        self._wall_deadline: int | None = None
        self._wall_seconds = 0.0  # whose end the deadline is

    # --- starting -----------------------------------------------------------------------------------------------------

    def start(self, kernel: Kernel, process: GuestProcess, lane: Lane, wall: tuple[int, float] | None) -> None:
        """Begin: the kernel has its first process. `wall`: when its wall time ends, on the scheduler's clock, and how
        many seconds that were allowed."""
        self.kernel = kernel
        kernel.hands_over = not self.ordered  # its time shows what each call costs, whether strace watches or not
        self.process = process
        main = process.main
        assert main is not None
        self.main = main
        if wall is not None:
            self._wall_deadline, self._wall_seconds = wall
        self.scheduler.add(self, lane)
        for channel in self.channels:
            self._join(channel)
        kernel.on_runnable = self._runnable
        kernel.on_exit = self._exited
        self.scheduler.deadline_changed(self)
        self._runnable(main)

    @property
    def outside(self) -> Outside:
        """Where its connections with the outside end."""
        if self._outside is None:
            from aiopyvm.runtime.conduit import Outside

            self._outside = Outside(self)
        return self._outside

    def link(self, channel: Channel) -> None:
        """This run holds an end of `channel` from now on."""
        self.channels.append(channel)

    def _join(self, channel: Channel) -> None:
        for peer in channel.readers + channel.writers:
            if peer is not self and peer in self.scheduler.runs:
                self.scheduler.join(peer, self)

    # --- being scheduled ----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """A thread of it can be stepped now."""
        return (self._current is not None or bool(self.waiting)) and not self.held and self.going

    @property
    def has_company(self) -> bool:
        """Another guest of its lane can run, beside the present one."""
        return bool(self.waiting or self.lane.queue.heap)

    @property
    def flies(self) -> bool:
        """A worker executes its instructions."""
        return self._current is not None and self._current.flight is not None

    def wait_for_landing(self) -> None:
        """Block until no worker executes its instructions: registers and memory are as they are then."""
        if self._current is not None and self._current.flight is not None:
            self._current.flight.wait()

    def _settle_flight(self) -> None:
        flight = self._current.flight if self._current is not None else None
        if flight is not None:
            try:
                flight.settle()
            except Exception as error:
                self.failure = self.failure or error
        elif self.lane.current is self:
            self.scheduler.flights.leave_line(self.lane)

    def _runnable(self, thread: Thread) -> None:
        guest = self._brief
        if guest is not None:
            self._brief = None
            scheduler = self.scheduler
            if guest.thread is thread and scheduler.hands_on and scheduler.handed is None and self.going:
                scheduler.handed = guest
                return
        self._becomes_ready(thread)

    def _becomes_ready(self, thread: Thread) -> None:
        handed = self.scheduler.handed
        if handed is not None and handed.run is self:
            self.scheduler.line_up()
        if self.result is not None:
            return
        if self.on_runnable:
            for callback in tuple(self.on_runnable):
                callback()
        guest = self._guests.get(thread) or self.guest_of(thread)
        if guest is self._current:
            self.answered()
        elif not guest.queued:
            guest.queued = True
            self.waiting.append(guest)
            if self.going and not self.held:
                self.scheduler.ready(self)

    def guest_of(self, thread: Thread) -> Guest:
        """The guest for `thread`; made when it is seen for the first time."""
        guest = self._guests.get(thread)
        if guest is None:
            guest = self._guests[thread] = Guest(self, thread)
        return guest

    def by_hand(self, action: Callable[[], T]) -> T:
        """Do what a debugger does to a guest, and then see to verdicts and the end."""
        self.inside = True
        try:
            return action()
        finally:
            self.inside = False
            if self.result is None:
                self.settle()

    def step(self, until_ns: int) -> int:
        """Step the thread whose turn it is; the guest's verdict (guest.py)."""
        guest = self._current
        if guest is None:
            guest = self.waiting.popleft()
            guest.queued = False
            self._current = guest
        self.inside = True
        if self.file_clock is not None:
            self.file_clock.source = self.clock
        began = monotonic_ns()
        try:
            verdict = guest.send(until_ns)
        except StopIteration:
            verdict = guests.DONE
        except Exception as error:
            self.broke(error)
            verdict = guests.DONE
        finally:
            self.inside = False
            self.step_ns = ns = monotonic_ns() - began
            self.busy_ns += ns
        if (verdict == guests.DONE and self.exact_time) or (self.busy_ns > TICK_NS and not self.ordered):
            self.tick()
        if verdict == guests.DONE:
            self._current = None
            state = guest.thread.state
            if state is RUNNABLE and not guest.queued:
                guest.queued = True
                self.waiting.append(guest)
            elif state is DEAD:
                guest.close()
                self._guests.pop(guest.thread, None)
        return verdict

    def begin_brief(self) -> Guest | None:
        """Begin a slice that may be a brief one (brief.py), and return its guest; None: `step` is to begin it."""
        waiting = self.waiting
        if self._current is not None or len(waiting) != 1 or self.held or not (self.going and self.may_be_brief):
            return None
        guest = waiting[0]
        thread = guest.thread
        if thread.attention or thread.state is not RUNNABLE or guest.flies or thread.process.metered:
            return None
        waiting.clear()
        guest.queued = False
        self._current = guest
        return guest

    def take_on(self, guest: Guest) -> bool:
        """As `begin_brief`, of the slice of `guest`, which was handed on; False: it is to be lined up."""
        thread = guest.thread
        if self.held or thread.attention or thread.state is not RUNNABLE or not self.going or self.on_runnable:
            return False
        self._current = guest
        return True

    def line_up(self, guest: Guest) -> None:
        """`guest`, which was handed on, is ready as any other one."""
        if self.result is None:
            self._becomes_ready(guest.thread)

    def end_brief(self) -> None:
        """As the end of a slice in `step`: its guest waits."""
        guest, self._current = self._current, None
        if self.exact_time or self.busy_ns > TICK_NS:
            self.tick()
        kernel = self.kernel
        if self._verdict is not None or kernel.ended or self.on_park or kernel.timers.count != self._timers_told:
            self.scheduler.line_up()
            self.settle()
        elif not self.waiting:
            self._brief = guest

    def may_talk(self, guest: Guest, current: bool) -> bool:
        """`guest` may take part in a talk (talks.py): it is about to go on (`current`), or waits behind a brief
        slice."""
        fits = self._current is guest if current else self._current is None and self._brief is guest
        watched = self.held or self.on_runnable or self.on_park or self._verdict is not None
        return fits and self.going and self.may_be_brief and not (self.bounded or self.waiting or watched)

    def talked(self, done: int, cost: int, ns: int) -> None:
        """Its guest has executed `done` instructions in a talk; with its calls they cost `cost`, and took `ns`."""
        self.executed_instructions += done
        self.unspent += done  # there is no limit
        self.cost += cost
        self.busy_ns += ns
        self.virtual_time += cost / self.weight

    def resume(self, guest: Guest) -> None:
        """`guest`, which waited, goes on behind a talk."""
        self._brief = None
        self._current = guest

    def end_talk(self) -> None:
        """Behind a talk, of a guest that does not go on at once."""
        if self.exact_time or self.busy_ns > TICK_NS:
            self.tick()
        if self._verdict is not None:
            self.scheduler.line_up()
            self.settle()

    def settle(self) -> None:
        """After a slice: carry out a verdict, notice the end, and tell the timers."""
        if self._verdict is not None:
            self._carry_out()
        elif self.kernel.ended:
            self._finish()
        else:
            timers = self.kernel.timers.count
            if timers != self._timers_told:
                self._timers_told = timers
                self.scheduler.deadline_changed(self)
            if self.on_park and not self.waiting:
                for callback in tuple(self.on_park):
                    callback()

    def pass_by(self) -> None:
        """In the middle of a slice, while others have their turn: tell the timers; on the host's clock, the accounts
        too."""
        if isinstance(self.clock, RealClock):
            self.tick()
            self.scheduler.deadline_changed(self)

    def hold(self) -> None:
        """Rest until `release`: an asynchronous hook runs."""
        self.held = True

    def release(self) -> None:
        """Go on after `hold`."""
        self.held = False
        if self.result is None and self.ready:
            self.scheduler.ready(self)

    # --- freezing -----------------------------------------------------------------------------------------------------

    def freezes(self, thread: Thread) -> bool:
        """The lane has to wait: output is overfull, or `thread` waits for the host while others could run."""
        if not self.patience or self.result is not None:
            return False
        if any(output.overfull for output in self.outputs):
            return True
        wait = thread.wait
        if wait is None or wait.deadline is not None or not self.has_company:
            return False
        return any(queue.external not in ("", "network") for queue in wait.sources)

    def answered(self) -> None:
        """The host or Python has done what the lane was frozen for."""
        self.patience = True
        if self.lane.frozen and self.lane.current is self:
            self.scheduler.thaw(self.lane)

    # --- counting -----------------------------------------------------------------------------------------------------

    def room(self, wanted: int) -> int:
        """How many of `wanted` instructions may be executed; 0 condemns the run."""
        room = self.instructions.room()
        if room is None or room >= wanted:
            return wanted
        if room <= 0:
            self.condemn(
                Reason.INSTRUCTION_LIMIT, f"{self.executed_instructions} instructions were executed", "instructions"
            )
        return room

    def executed(self, n: int) -> None:
        """`n` instructions were executed."""
        self.executed_instructions += n
        self.cost += n
        if self.bounded:
            self.instructions.spend(n)
        else:
            self.unspent += n

    @property
    def unclocked(self) -> int:
        """Cost that the clock does not show yet."""
        return self.cost - self._clocked

    def tick(self) -> None:
        """Let the clock show the cost so far."""
        if self.unspent:
            self.instructions.spend(self.unspent)
            self.unspent = 0
        ns = self.cost - self._clocked
        self._clocked = self.cost
        clock = self.clock
        if isinstance(clock, VirtualClock):
            clock.timeline.advance(ns)
        elif self.busy_ns:
            ns, self.busy_ns = self.busy_ns, 0
        else:
            return
        self.guest_time.spend(ns)
        room = self.guest_time.room() if self._time_bounded else None
        if room is not None and room < 0:
            self.condemn(Reason.TIME_LIMIT, f"more than {self._guest_seconds()} s of guest time", "guest_time")

    def _guest_seconds(self) -> float:
        limits = [account.limit for account in self.guest_time.chain() if account.limit is not None]
        return min(limits, default=0) / SECOND_NS

    @property
    def output_limit(self) -> int:
        """The limit on output that counts first."""
        return min((account.limit for account in self.output.chain() if account.limit is not None), default=0)

    # --- time ---------------------------------------------------------------------------------------------------------

    def clock_start_ns(self) -> int:
        """The zero of the guest's monotonic clock: on its timeline, or on the scheduler's clock."""
        return self.clock.start_ns

    def move_clock(self, timeline: Timeline) -> None:
        """Go over to another lane's timeline."""
        if isinstance(self.clock, VirtualClock):
            self.clock.move(timeline)

    def next_wake_ns(self) -> int | None:
        """When the scheduler has to look at this run, on its clock: the wall-time limit or the kernel's next timer."""
        found = self._wall_deadline
        if isinstance(self.clock, RealClock):
            deadline = self.kernel.next_deadline()
            if deadline is not None:
                deadline += self.clock.start_ns
                found = deadline if found is None else min(found, deadline)
        return found

    def expire(self) -> None:
        """Fire the timers that are due, and the wall-time limit."""
        if self.result is not None:
            return
        if self._wall_deadline is not None and self.scheduler.now_ns() >= self._wall_deadline:
            self.end(Reason.TIME_LIMIT, f"more than {self._wall_seconds} s of wall time", "wall_time")
            return
        deadline = self.kernel.next_deadline()
        if deadline is not None:
            now = self.clock.monotonic_ns()
            if deadline <= now:
                self.kernel.expire(now)
                self.check_end()

    # --- the end ------------------------------------------------------------------------------------------------------

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the run has ended; at once when it has."""
        if self.result is not None:
            callback()
        else:
            self._done.append(callback)

    def not_when_done(self, callback: Callable[[], None]) -> None:
        """Take back `when_done`."""
        if callback in self._done:
            self._done.remove(callback)

    def condemn(self, reason: Reason, detail: str, limit: str = "") -> None:
        """End the run after the present exit of its guest. The first verdict counts."""
        if self._verdict is None and self.result is None:
            self._verdict = (reason, detail)
            self.going = False
            if limit:
                self._limits_hit.add(limit)

    def end(self, reason: Reason, detail: str = "", limit: str = "") -> None:
        """End the run from outside, at once; from within its own slice, after the present exit."""
        if self.result is not None:
            return
        self.condemn(reason, detail, limit)
        if not self.inside:
            self._carry_out()

    def fail(self, error: BaseException) -> None:
        """End the run because of an exception, which goes to whoever runs it."""
        if self.result is None:
            self.failure = self.failure or error
            self.end(Reason.CANCELLED, f"{type(error).__name__}: {error}")

    def broke(self, error: Exception) -> None:
        """As `fail`, from within the run's own slice."""
        self.failure = self.failure or error
        self.condemn(Reason.CANCELLED, f"{type(error).__name__}: {error}")

    def deadlocked(self, detail: str) -> None:
        """Nobody can ever wake this run."""
        self.end(Reason.DEADLOCK, detail)

    def check_end(self) -> None:
        """Notice that the kernel has ended, outside of a slice."""
        if self.result is None and self.kernel.ended and not self.inside:
            self._finish()

    def stopped(self) -> None:
        """The engine stopped at the end of the code."""
        self.condemn(Reason.END_OF_CODE, "")

    def _exited(self, process: GuestProcess) -> None:
        if process.fds.refused:
            self._limits_hit.add("open_files")
        if process.failure is not None:
            self.failure = self.failure or process.failure

    def _carry_out(self) -> None:
        assert self._verdict is not None
        self._settle_flight()
        if not self.kernel.ended:
            self.kernel.terminate(EndReason.TERMINATED, self._verdict[1])
        else:
            self._verdict = None  # it ended by itself in the same moment
        self._finish()

    def _finish(self) -> None:
        if self.result is not None:
            return
        self._settle_flight()
        self.tick()
        if self.failure is None:
            self.failure = self.process.failure
        self.result = result_of(self, self._verdict, frozenset(self._limits_hit))
        self.going = False
        for guest in self._guests.values():
            guest.close()
        self._guests.clear()
        self.waiting.clear()
        self._current = None
        self.scheduler.remove(self)
        for close in self.on_close:
            close()
        done, self._done = self._done, []
        for callback in done:
            callback()

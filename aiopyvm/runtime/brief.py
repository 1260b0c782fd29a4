"""Brief slices: guests that do a little and wait again, as those at the two ends of a pipe do.

How it works. A slice of the only guest of its lane that can run, on the host's clock, needs none of what slices need in
general: it can be neither held nor frozen, nobody of its lane is to come first, no worker executes it. So it is stepped
here, without its coroutine, until it waits; then the next lane has its turn. Where the engine has seats its generated
code is entered from here, too. What always holds: a slice that turns
out not to be brief goes on the long way, with what is left of it, so that slices are as they would be, and costs too.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from aiopyvm.kernel.thread import PARKED, RUNNABLE
from aiopyvm.runtime.guest import leave
from aiopyvm.runtime.slices import rest_of_quantum

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Exit, Seat
    from aiopyvm.runtime.guest import Guest
    from aiopyvm.runtime.lane import Lane
    from aiopyvm.runtime.run import Run

MOST_NS: Final = 5_000_000  # that a slice is charged with: the host may have stopped us


def brief_slice(lane: Lane, until_ns: int, *, again: bool) -> bool:
    """Run a slice of `lane`, which is not in the middle of one; True: it was brief, and its guest waits. Else the next
    step of `lane` begins a slice, or goes on with the one that has begun. `again`: what was done last was a brief
    slice, too."""
    heap = lane.queue.heap
    if len(heap) != 1 or lane.timeline is not None:
        return False
    run = heap[0][2]
    guest = run.begin_brief()
    if guest is None:
        return False
    lane.queue.pop()
    run.in_lane_queue = False
    lane.current = run
    began = monotonic_ns()
    cost = _run(run, guest, lane, until_ns, again)
    ns = monotonic_ns() - began
    run.busy_ns += ns
    run.virtual_time += cost / run.weight
    lane.virtual_time += (ns if ns < MOST_NS else MOST_NS) / (lane.weight or 1.0)
    if guest.rest is not None:
        return False
    lane.current = None
    run.end_brief()
    if run.waiting and run.ready:
        lane.offer(run)
    return True


def _run(run: Run, guest: Guest, lane: Lane, until_ns: int, again: bool) -> int:
    """Let `guest` run until it waits; or until more is to be seen to, and then set its `rest`. Return the cost."""
    thread, queue = guest.thread, lane.queue  # nobody else of the lane can run, and it has no timers of a virtual clock
    whole = left = run.longest_slice
    guest.until_ns = until_ns
    run.inside = True
    if run.file_clock is not None:
        run.file_clock.source = run.clock
    try:
        seat = guest.seat if not run.bounded and run.kernel.strace is None else None
        while True:
            if thread.call is not None:
                cost = run.kernel.resume(thread)
                run.cost += cost
                left -= cost or 1
            elif seat is not None and seat.begin(again=again):
                left -= _calls(run, guest, seat, left)
                seat = None
            else:
                left -= run.advance(guest, left)
                seat = None
            if thread.state is PARKED:
                break
            if (
                left <= 0
                or thread.state is not RUNNABLE
                or thread.call is not None
                or thread.attention
                or not run.going
                or run.held
                or guest.flies
                or run.waiting
                or queue.heap
                or thread.process.metered
                or monotonic_ns() >= until_ns
            ):
                guest.rest = left
                if left > run.quantum and (run.waiting or queue.heap):
                    guest.rest = rest_of_quantum(run, left)
                break
    except Exception as error:
        run.broke(error)
        guest.rest = 0
    finally:
        run.inside = False
    return whole - left


def _calls(run: Run, guest: Guest, seat: Seat, left: int) -> int:
    """Run `guest`, which may use `left`, in generated code as long as that comes back for system calls alone, and these
    complete at once; return the cost."""
    thread, chunk, until_ns = guest.thread, guest.chunk, guest.until_ns
    cpu, call = thread.core.cpu, run.kernel.syscalls.enter
    before: int = cpu.instructions
    spent = 0
    left_by: Exit | None = None
    enter, waiting = seat.enter, run.waiting
    try:
        while True:
            budget = left if left < chunk else chunk
            unused = enter(budget)
            if unused < 0:
                left_by = seat.exit
                break
            cost = call(thread)
            spent += cost
            left -= budget - unused + cost
            if thread.call is not None or thread.attention or thread.state is not RUNNABLE:
                break
            if left <= 0 or waiting or not run.going or run.held or monotonic_ns() >= until_ns:
                break
    finally:
        done: int = cpu.instructions - before
        seat.end(done)
        run.executed(done)
        run.cost += spent
    return done + spent if left_by is None else done + spent + leave(guest, left_by)

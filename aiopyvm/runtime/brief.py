"""Brief slices: guests that do a little and wait again, as those at the two ends of a pipe do.

How it works. A slice of the only guest of its lane that can run, on the host's clock, needs none of what slices need in
general: it can be neither held nor frozen, nobody of its lane is to come first, no worker executes it. So it is stepped
here, without its coroutine, until it waits; then the next lane has its turn. Where the engine has seats its generated
code is entered from here, too. What always holds: a slice that turns
out not to be brief goes on the long way, with what is left of it, so that slices are as they would be, and costs too.
"""

from __future__ import annotations

from collections.abc import Callable
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
    from aiopyvm.runtime.talks import Going

MOST_NS: Final = 5_000_000  # that a slice is charged with: the host may have stopped us


def brief_slice(lane: Lane, began_ns: int, until_ns: int, seats: list[Seat]) -> int:
    """Run a slice of `lane`, which is not in the middle of one, from `began_ns` on; the time (time.monotonic_ns) when
    its guest waited, so that it was a brief one. At 0 it was none: the next step of `lane` begins a slice, or goes on
    with the one that has begun. `seats` are those that were taken in the brief slices before, between which nothing
    else was done: they end when something else is, and may have ended already."""
    heap = lane.queue.heap
    if len(heap) != 1 or lane.timeline is not None:
        return 0
    run = heap[0][2]
    guest = run.begin_brief()
    if guest is None:
        return 0
    heap.clear()  # on the host's clock no other run is ever there
    run.in_lane_queue = False
    return brief_slice_of(guest, lane, began_ns, until_ns, seats)


def brief_slice_of(
    guest: Guest, lane: Lane, began_ns: int, until_ns: int, seats: list[Seat], going: Going | None = None
) -> int:
    """As `brief_slice`, of `guest`, which is its run's current one. `going`: the slice has begun in a talk."""
    run = guest.run
    lane.current = run
    guest.until_ns = until_ns
    run.inside = True
    if run.file_clock is not None:
        run.file_clock.source = run.clock
    cost = run.cost
    try:
        _run(run, guest, lane, seats, going)
    except Exception as error:
        run.broke(error)
        guest.rest = 0
    run.inside = False
    now = monotonic_ns()
    ns = now - began_ns
    run.busy_ns += ns
    run.virtual_time += (run.cost - cost) / run.weight
    lane.virtual_time += (ns if ns < MOST_NS else MOST_NS) / (lane.weight or 1.0)
    if guest.rest is not None:
        return 0
    lane.current = None
    run.end_brief()
    if run.waiting and run.ready:
        lane.offer(run)
    return now


def _run(run: Run, guest: Guest, lane: Lane, seats: list[Seat], going: Going | None) -> None:
    """Let `guest` run until it waits; or until more is to be seen to, and then set its `rest`."""
    thread = guest.thread  # nobody else of the lane can run, and it has no timers of a virtual clock
    left = run.longest_slice if going is None else going.left
    seat = guest.seat
    sits = seat is not None and thread.call is None and not run.bounded and run.kernel.strace is None
    while True:
        if going is not None and going.come is not None and seat is not None:
            left -= _calls(run, guest, seat, left, going)
        elif sits and seat is not None and ((seat.taken and seat.again()) or sit(seat, seats)):
            left -= _calls(run, guest, seat, left)
        else:
            left -= _by_the_engine(run, guest, left)
        if thread.state is PARKED:
            return
        if _long(run, guest, lane, left):
            guest.rest = left
            if left > run.quantum and run.has_company:
                guest.rest = rest_of_quantum(run.quantum, left)
            return
        sits, going = False, None


def _by_the_engine(run: Run, guest: Guest, left: int) -> int:
    """Go on with the call of `guest`, or run instructions, as its coroutine does; return the cost."""
    thread, seat = guest.thread, guest.seat
    if seat is not None and seat.taken:
        seat.end()
    if thread.call is None:
        return run.advance(guest, left)
    cost = run.kernel.resume(thread)
    run.cost += cost
    return cost or 1


def _long(run: Run, guest: Guest, lane: Lane, left: int) -> bool:
    """More is to be seen to than the next instructions of `guest`, which may use `left`."""
    thread = guest.thread
    return (
        left <= 0
        or thread.state is not RUNNABLE
        or thread.call is not None
        or thread.attention
        or not run.going
        or run.held
        or guest.flies
        or bool(run.waiting)
        or bool(lane.queue.heap)
        or thread.process.metered
        or monotonic_ns() >= guest.until_ns
    )


def sit(seat: Seat, seats: list[Seat]) -> bool:
    """Take a seat anew; False: that cannot be now."""
    if seat.taken:
        seat.end()
    if not seat.begin(again=bool(seats)):
        return False
    seats.append(seat)
    return True


def _calls(run: Run, guest: Guest, seat: Seat, left: int, going: Going | None = None) -> int:
    """Run `guest`, which may use `left`, in generated code as long as that comes back for system calls alone, and these
    complete at once; return the cost. `going`: it has come back already."""
    thread, chunk, waiting = guest.thread, guest.chunk, run.waiting
    call = run.kernel.syscalls.enter
    enter: Callable[[int], int] = seat.enter
    before, spent = seat.done, 0
    left_by: Exit | None = None
    budget = left if left < chunk else chunk
    if going is not None and going.come is not None:
        budget, enter = going.budget, going.come
    try:
        while True:
            unused = enter(budget)
            if unused < 0:
                left_by = seat.exit
                break
            cost = call(thread)
            spent += cost
            if thread.state is not RUNNABLE or thread.call is not None or thread.attention:
                break
            left -= budget - unused + cost
            if left <= 0 or waiting or not run.going or run.held or monotonic_ns() >= guest.until_ns:
                break
            budget, enter = left if left < chunk else chunk, seat.enter
    finally:
        done = seat.done - before
        run.executed_instructions += done
        run.unspent += done  # there is no limit
        run.cost += done + spent
    return done + spent if left_by is None else done + spent + leave(guest, left_by)

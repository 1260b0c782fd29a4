"""How long a slice may be: a quantum, or many where nobody else of the lane could be chosen anyway.

What always holds. What is decided here depends on counts and on the lane alone, never on how long anything takes: so
it is decided the same way on every engine, and for any number of workers, where the quantum is the same. A slice ends
on a multiple of the quantum after its start (and then goes on to the end of the system call in progress).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopyvm.kernel.process import Process
    from aiopyvm.runtime.run import Run

QUANTUM: Final = (
    10_000  # instructions, and what system calls cost, where the order of guests is to be the same on all engines
)
LONG_QUANTUM: Final = 1_000_000  # where nothing is, and code is generated: less than a millisecond
LONGEST: Final = 48_000_000  # of cost
LONGEST_VIRTUAL: Final = 1_000_000  # the time-stamp counter shows a virtual time that moves at exits and ends of slices
LONGEST_METERED: Final = 1_000_000  # timers and limits of CPU time are looked at between slices


def usual_quantum(*, ordered: bool, generated: bool) -> int:
    """The quantum of a run for which nobody has named one: of an `ordered` run, or of one whose code is `generated`."""
    return LONG_QUANTUM if generated and not ordered else QUANTUM


def slice_length(run: Run, process: Process) -> int:
    """The cost of the slice of a thread of `process` that begins now."""
    quantum = run.quantum
    real = run.lane.timeline is None
    most = LONGEST_VIRTUAL if not real else LONGEST_METERED if process.metered else LONGEST
    if quantum >= most:
        return quantum
    longest = most // quantum * quantum
    return longest if real and not run.has_company else shorten(run, longest)


def longest_slice(quantum: int) -> int:
    """The cost of a slice on the host's clock where no CPU time is metered and nobody else could be chosen."""
    return max(quantum, LONGEST // quantum * quantum)


def shorten(run: Run, left: int) -> int:
    """How much of `left`, which is more than a quantum, is left of the present slice.

    It ends with the present quantum when another guest of the lane can run, and with the quantum in which a timer is
    due, or the limit on guest time, on a virtual clock.
    """
    quantum = run.quantum
    lane = run.lane
    to_boundary = rest_of_quantum(quantum, left)
    if run.has_company:
        return to_boundary
    if lane.timeline is None:
        return left
    deadline = lane.next_deadline()
    room = run.guest_time.room()
    if deadline is not None:
        until_timer = deadline - lane.timeline.now_ns
        room = until_timer if room is None else min(room, until_timer)
    if room is None:
        return left
    room -= run.unclocked  # what was executed and the timeline does not show yet
    if room <= to_boundary:
        return to_boundary
    return min(left, to_boundary + -((to_boundary - room) // quantum) * quantum)


def rest_of_quantum(quantum: int, left: int) -> int:
    """How much of `left` is left when the slice ends with the present quantum."""
    return (left - 1) % quantum + 1

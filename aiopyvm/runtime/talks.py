"""Talks: guests that wait for one another's next words, handed from one to the other by an engine's relay.

How it works. Where brief slices (brief.py) hand on to the same few guests again and again, each of which waits in a
read(2) of an empty pipe that others of them write to, the engine runs them all, one after the other, without Python,
until one of them wants something else of its kernel or the time is over (engine/relaying.py). Then what each has done
is entered here: counts, costs, who waits and who can run. What always holds: nothing of Python's has run meanwhile, so
that whoever was fit for it still is; and all is then as if the kernel had carried out each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.fcntl import O_ACCMODE, O_NONBLOCK, O_WRONLY
from aiopyvm.engine.relaying import Party, PartyAccount, Relay, RelayCalls, Stop
from aiopyvm.kernel.pipe import Pipe, PipeEnd
from aiopyvm.kernel.thread import PARKED, RUNNABLE
from aiopyvm.kernel.wait import Wait
from aiopyvm.runtime.brief import MOST_NS, sit
from aiopyvm.runtime.guest import has_seats
from aiopyvm.syscalls.dispatch import CALL_COST, MOVED_SHIFT

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Seat
    from aiopyvm.runtime.guest import Guest

FUEL: Final = 200_000  # cost of one call of the relay: well below a millisecond
MOST_FILES: Final = 64  # of a guest, among which its pipes are looked for
SYS_READ: Final = 3  # i386
SYS_WRITE: Final = 4
_CALLS: Final = RelayCalls(SYS_READ, SYS_WRITE, CALL_COST, MOVED_SHIFT)


class Going(NamedTuple):
    """The guest that goes on behind a talk, what is left of its slice, and of what it was let use last; `come` says
    how far it got, as its seat's `enter`: nothing where it is simply to go on."""

    guest: Guest
    left: int
    budget: int
    come: Callable[[int], int] | None


class Listener(NamedTuple):
    """A guest that takes part, the wait that it is in or would be in, and the pipe that it reads."""

    guest: Guest
    wait: Wait
    pipe: Pipe


class Talk:
    """One talk: `listeners` take part, of which the one numbered `at` is about to go on; the others wait."""

    def __init__(self, relay: Relay, listeners: Sequence[Listener], at: int) -> None:
        self._relay = relay
        self._listeners = listeners
        self._at = at
        self.turns = 0  # how often one went to sleep

    def go_on(self, until_ns: int) -> Going | None:
        """Let them talk, until `until_ns` at most, and see to what follows; None: all of them wait."""
        relay, began = self._relay, monotonic_ns()
        relay.begin([self._party(listener) for listener in self._listeners], self._at)
        while (stop := relay.run(FUEL)) is Stop.PAUSE and monotonic_ns() < until_ns:
            pass
        current, line = -1 if stop is Stop.IDLE else relay.current, list(relay.line)
        accounts = relay.end()
        self._share(accounts, monotonic_ns() - began)
        self._settle(accounts, current, line)
        return self._going(current, accounts[current], stop) if current >= 0 else None

    def _party(self, listener: Listener) -> Party:
        guest, room = listener.guest, listener.wait.room
        assert guest.seat is not None
        assert room is not None
        routes = [
            (fd, to)
            for fd, file in enumerate(guest.thread.process.fds.files[:MOST_FILES])
            if type(file) is PipeEnd and file.flags & O_ACCMODE == O_WRONLY
            for to, other in enumerate(self._listeners)
            if other.pipe is file.pipe and other is not listener
        ]
        length = _length(guest)
        return Party(guest.seat, (listener.wait.registers[3], *room), routes[: self._relay.most_routes], length)

    def _share(self, accounts: Iterable[PartyAccount], ns: int) -> None:
        """Enter what each has done, and its part of the time."""
        whole = sum(account.done + account.spent for account in accounts) or 1
        for listener, account in zip(self._listeners, accounts, strict=True):
            thread, run = listener.guest.thread, listener.guest.run
            cost = account.done + account.spent
            part = ns * cost // whole
            run.talked(account.done, cost, part)
            run.lane.virtual_time += min(part, MOST_NS) / (run.lane.weight or 1.0)
            thread.system_ns += account.spent
            self.turns += account.reads
            calls = run.kernel.calls
            if account.reads:
                calls[SYS_READ] += account.reads
            if account.writes:
                calls[SYS_WRITE] += account.writes

    def _settle(self, accounts: Sequence[PartyAccount], current: int, line: Sequence[int]) -> None:
        """Have the kernels know who waits, and then the runs, of which one may end by that."""
        listeners, at = self._listeners, self._at
        for number, ((guest, wait, _), account) in enumerate(zip(listeners, accounts, strict=True)):
            kernel, thread = guest.run.kernel, guest.thread
            if account.asleep and account.reads:
                kernel.syscalls.waits_again(thread, wait)
            if number == at:
                if account.asleep:
                    thread.usual_read = None
                    kernel.park(thread, wait)
            elif not account.asleep:
                kernel.end_wait(thread, wait, thread.core.cpu.eax)
        if current >= 0 and current != at:
            listeners[current].guest.run.resume(listeners[current].guest)
        if current != at:
            listeners[at].guest.run.end_brief()
        for number, (guest, _, _) in enumerate(listeners):
            if number not in (at, current):
                guest.run.end_talk()
        for number in line:
            guest = listeners[number].guest
            guest.run.kernel.on_runnable(guest.thread)

    def _going(self, number: int, account: PartyAccount, stop: Stop) -> Going:
        guest = self._listeners[number].guest
        left, budget = guest.run.longest_slice - account.used, _length(guest) - account.used
        if stop is Stop.EXIT:
            seat = guest.seat
            assert seat is not None
            return Going(guest, left, budget, lambda _: seat.go_on())
        return Going(guest, left, budget, _at_the_call if stop is Stop.CALL else None)


def make_talk(guests: Iterable[Guest], current: Guest, seats: list[Seat]) -> Talk | None:
    """A talk of `guests`, `current` (one of them) going on; None: there can be none. `seats`: see `brief_slice`."""
    launcher = current.run.launcher
    if launcher is None or not has_seats(launcher) or (relay := launcher.relay(_CALLS)) is None:
        return None
    listeners: list[Listener] = []
    for guest in guests:
        listener = _listener(guest, guest is current)
        if listener is None or not _has_seat(guest, seats):
            return None
        listeners.append(listener)
    if len(listeners) > relay.most_parties or len({listener.guest.run for listener in listeners}) < len(listeners):
        return None
    return Talk(relay, listeners, next(n for n, listener in enumerate(listeners) if listener.guest is current))


def _has_seat(guest: Guest, seats: list[Seat]) -> bool:
    """Whether the guest's seat is prepared now."""
    seat = guest.seat
    return seat is not None and ((seat.taken and seat.again()) or sit(seat, seats))


def _listener(guest: Guest, current: bool) -> Listener | None:
    """How `guest` takes part, which goes on (`current`) or waits; None: it cannot."""
    thread, run = guest.thread, guest.run
    kernel = run.kernel
    if not run.may_talk(guest, current) or thread.attention or thread.trace is not None or thread.pending_bits():
        return None
    if thread.process.metered or not kernel.serves(thread):
        return None
    wait = thread.usual_read if current else thread.wait
    if wait is None or wait.room is None or type(file := wait.file) is not PipeEnd or len(wait.registers) < 7:
        return None
    pipe, number = file.pipe, wait.registers[3]
    files = thread.process.fds.files
    if wait.registers[0] != SYS_READ or number >= len(files) or files[number] is not file:
        return None
    if pipe.size or not pipe.writers or pipe.read_queue.listeners or pipe.tells or file.flags & O_NONBLOCK:
        return None
    if current:
        fits = thread.state is RUNNABLE and thread.call is None and not pipe.read_queue.threads
    else:
        call = thread.call
        alone = len(pipe.read_queue.threads) == 1
        fits = thread.state is PARKED and call is not None and call is wait.call and call.woken is None and alone
    return Listener(guest, wait, pipe) if fits else None


def _length(guest: Guest) -> int:
    """What a guest may use at once."""
    return min(guest.run.longest_slice, guest.chunk)


def _at_the_call(budget: int) -> int:
    return budget

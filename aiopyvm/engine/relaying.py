"""The contract of a relay: cores in generated code, one after the other, that do nothing but talk through empty pipes.

A `Seater` may have such a thing (`engine.protocol`). Who runs guests finds out which of them wait for one another, lets
the relay run them as long as it can, and then does what follows from what each has done.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Seat


class RelayCalls(NamedTuple):
    """The system calls that a relay carries out: their numbers, and what they cost (1 more for each
    1 << `moved_shift` bytes)."""

    read: int
    write: int
    cost: int
    moved_shift: int


class Party(NamedTuple):
    """A core of a relay. `read`: descriptor, address and size of the read(2) that it sleeps in, or slept in last, of a
    pipe that is empty; `routes`: descriptors that it may write to, and who sleeps there; `slice`: what it may use from
    when it is woken until it sleeps."""

    seat: Seat
    read: tuple[int, int, int]
    routes: Sequence[tuple[int, int]]
    slice: int


class PartyAccount(NamedTuple):
    """What a party has done in a relay: instructions, what its calls cost, how many these were; what it has used of its
    present slice; whether it sleeps now."""

    done: int
    spent: int
    reads: int
    writes: int
    used: int
    asleep: bool


class Stop(enum.IntEnum):
    """Why a relay came back."""

    EXIT = 0  # the current party's generated code did for no system call: `Seat.go_on`
    CALL = 1  # the current party is behind an INT 0x80 that is for the kernel
    PAUSE = 2  # the current party is to go on: the fuel is used up, or what it may use
    IDLE = 3  # all are asleep


class Relay(Protocol):
    """See the module's docstring.

    A write(2) to a pipe in whose read(2) a party sleeps is carried out at once: its bytes are in that one's memory, the
    number in its EAX, and it stands in line. A read(2) as the last one puts a party to sleep, and the next in line goes
    on. All other calls are for the kernel, and these too where pages are not at hand. Between `begin` and `end` nothing
    else may run; the state is exact whenever `run` has returned."""

    most_parties: int
    most_routes: int  # of a party

    def begin(self, parties: Sequence[Party], current: int) -> None:
        """Take in `parties`, whose seats are taken and were prepared; all but number `current` are asleep."""
        ...

    def run(self, fuel: int) -> Stop:
        """Run until the kernel is needed, nobody is awake, or about `fuel` is used; why it came back."""
        ...

    @property
    def current(self) -> int:
        """The number of the party that goes on; meaningless after IDLE."""
        ...

    @property
    def line(self) -> Sequence[int]:
        """The numbers of those that are awake beside it, in the order in which they were woken."""
        ...

    def end(self) -> Sequence[PartyAccount]:
        """What each party has done since `begin`."""
        ...

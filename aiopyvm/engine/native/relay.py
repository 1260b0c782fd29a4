"""Several cores in generated code, one after the other, as long as they do nothing but talk through empty pipes.

See `engine.relaying`; what is done without Python is in `relay_ir`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.relaylayout import MOST_PARTIES, MOST_ROUTES, Desk, Outcome
from aiopyvm.engine.native.seat import Seat
from aiopyvm.engine.relaying import Party, PartyAccount, RelayCalls, Stop

if TYPE_CHECKING:
    from aiopyvm.engine.native.handlertable import HandlerTable

_STOPS: Final = {
    Outcome.LEFT: Stop.EXIT,
    Outcome.CALL: Stop.CALL,
    Outcome.PAUSE: Stop.PAUSE,
    Outcome.IDLE: Stop.IDLE,
}


class Relay:
    """A `engine.relaying.Relay`."""

    most_parties = MOST_PARTIES
    most_routes = MOST_ROUTES

    def __init__(self, table: HandlerTable, calls: RelayCalls) -> None:
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(table.loaded.address("relay"))
        self._desk = desk = Desk()
        self._place = ctypes.addressof(desk)
        desk.resume.handler = table.symbols["resume"]
        desk.read_number, desk.write_number = calls.read, calls.write
        desk.cost, desk.moved_shift = calls.cost, calls.moved_shift
        self._seats: list[Seat] = []

    def begin(self, parties: Sequence[Party], current: int) -> None:
        """Take in `parties`, whose seats are taken and were prepared; all but number `current` are asleep."""
        desk = self._desk
        self._seats = []
        for number, party in enumerate(parties):
            seat = party.seat
            assert isinstance(seat, Seat)
            self._seats.append(seat)
            place = desk.parties[number]
            place.context, place.cpu, record = seat.places()
            place.record = record or self._place + Desk.resume.offset
            place.left = place.slice = party.slice
            place.done = place.spent = place.reads = place.writes = 0
            place.asleep = number != current
            place.fd, place.address, place.room = party.read
            place.route_count = len(party.routes)
            for at, (fd, to) in enumerate(party.routes):
                route = place.routes[at]
                route.fd, route.to = fd, to
        desk.current = current
        desk.first = desk.waiting = 0

    def run(self, fuel: int) -> Stop:
        """Run until the kernel is needed, nobody is awake, or about `fuel` is used; why it came back."""
        self._desk.fuel = fuel
        self._run(self._place)
        return _STOPS[self._desk.outcome]

    @property
    def current(self) -> int:
        """The number of the party that goes on; meaningless after IDLE."""
        return int(self._desk.current)

    @property
    def line(self) -> list[int]:
        """The numbers of those that are awake beside it, in the order in which they were woken."""
        desk = self._desk
        return [desk.line[(desk.first + n) % MOST_PARTIES] for n in range(desk.waiting)]

    def end(self) -> list[PartyAccount]:
        """What each party has done since `begin`."""
        accounts = []
        for seat, place in zip(self._seats, self._desk.parties, strict=False):
            account = PartyAccount(
                place.done, place.spent, place.reads, place.writes, place.slice - place.left, bool(place.asleep)
            )
            seat.went(account.done, account.reads + account.writes)
            accounts.append(account)
        self._seats = []
        return accounts


__all__ = ["Relay"]

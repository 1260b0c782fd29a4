"""Who hands on to whom: where it is the same few guests again and again, a talk may run them (talks.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Seat
    from aiopyvm.runtime.guest import Guest
    from aiopyvm.runtime.talks import Talk

MOST: Final = 8  # guests of a talk
OFTEN: Final = 8  # hand-overs among the same guests, before a talk is tried
SHORT: Final = 4  # turns of a talk that was not worth it
REST: Final = 8  # hand-overs more until it is tried again, where there could be none, or a short one; each time twice
MOST_REST: Final = 512  # as many


class Partners:
    """The guests that were handed on lately."""

    __slots__ = ("_guests", "_rest", "_times")

    def __init__(self) -> None:
        self._guests: dict[Guest, None] = {}
        self._times = 0
        self._rest = REST

    def talk(self, guest: Guest, seats: list[Seat]) -> Talk | None:
        """`guest` was handed on and is about to go on; a talk that is to run it, if that can be."""
        guests = self._guests
        if guest not in guests:
            if len(guests) >= MOST:
                guests.clear()
            guests[guest] = None
            self._times = min(self._times, 0)
            return None
        self._times += 1
        if self._times < OFTEN:
            return None
        from aiopyvm.runtime.talks import make_talk  # few guests talk to each other

        talk = make_talk(guests, guest, seats)
        if talk is None:
            self._pause()
        return talk

    def talked(self, talk: Talk) -> None:
        """A talk is over."""
        if talk.turns < SHORT:
            self._pause()
        else:
            self._rest = REST

    def _pause(self) -> None:
        self._times = -self._rest
        self._rest = min(2 * self._rest, MOST_REST)

    def forget(self) -> None:
        """Something else came between."""
        if self._guests:
            self._guests.clear()

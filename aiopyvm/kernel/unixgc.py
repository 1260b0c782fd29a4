"""Sockets that nobody can reach any more because only messages on their way hold them (unix(7), SCM_RIGHTS).

A socket that is sent to itself, or two that hold each other, would never be closed. A socket is alive where somebody
beside inboxes holds it, or a message in the inbox of a live socket (or of one that waits to be accepted by it) carries
it. The inboxes of all others are emptied, which closes them. Linux does the same (net/unix/garbage.c).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopyvm.kernel.unixsocket import UnixNames, UnixSocket


def collect(names: UnixNames) -> None:
    """Empty the inboxes of sockets that nobody can reach."""
    if names.collecting:
        return
    names.collecting = True
    dead = _unreachable(names)
    for socket in dead:
        socket.hold()  # until all are emptied
    for socket in dead:
        for arrival in tuple(socket.arrivals):
            arrival.empty()
        socket.empty()
    for socket in dead:
        socket.release()
    names.collecting = False


def _unreachable(names: UnixNames) -> list[UnixSocket]:
    carried: Counter[object] = Counter()
    for socket in names.sockets:
        for message in socket.inbox:
            carried.update(message.files)
    if not carried:
        return []
    alive = {
        socket: None
        for socket in names.sockets
        if not socket.embryo and (socket.refs > carried[socket] or not socket.refs)
    }
    todo = list(alive)
    while todo:
        socket = todo.pop()
        for reached in _reached(socket):
            if reached in names.sockets and reached not in alive:
                alive[reached] = None
                todo.append(reached)
    return [socket for socket in names.sockets if socket not in alive and not socket.embryo and socket.refs]


def _reached(socket: UnixSocket) -> list[UnixSocket]:
    """The sockets that a live one can get."""
    found = list(socket.arrivals)
    for message in socket.inbox:
        found += [file for file in message.files if file in socket.names.sockets]
    return found

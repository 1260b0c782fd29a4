"""Keeps guests away from the directory of compiled code, whatever directories they are granted.

What lies there is run by this user's later processes, so a guest that could write it could leave the sandbox. Places
are compared by device and inode: other names, links and bind mounts of a place make no difference.
"""

from __future__ import annotations

import os
from typing import Final

from aiopyvm.engine.native.cache import ObjectCache, cache_directory
from aiopyvm.errors import HostRefusedError

Place = tuple[int, int]  # st_dev, st_ino

_EPERM: Final = 1


def fence(top: bytes, writable: bool) -> frozenset[Place]:
    """Return the directories that may not be entered below the host directory `top`, when that is granted.

    Raises HostRefusedError when it is the directory of compiled code or lies in it, and when it contains that and may
    be changed: renames above it would put something else in its place.
    """
    try:
        kept = cache_directory()
    except HostRefusedError:
        return frozenset()  # no home: nothing is kept
    above = lineage(os.fsencode(os.path.dirname(kept)))
    granted = lineage(top)
    home = place_of(os.fsencode(kept))
    if home in granted:
        raise HostRefusedError(_EPERM, f"{os.fsdecode(top)} is part of {kept}, where compiled code is kept")
    if granted[0] in above:
        if writable:
            raise HostRefusedError(
                _EPERM,
                f"{os.fsdecode(top)} contains {kept}, where compiled code is kept: a guest may not change it "
                '(mode "ro" or "cow" hides it; AIOPYVM_CACHE_DIR can name another place)',
            )
        home = home or _made(kept)
    barred = {home} if home is not None else set()
    return frozenset(barred.union(above) if writable else barred)


def place_of(path: bytes) -> Place | None:
    """Return what tells the directory `path` from others; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def lineage(path: bytes) -> list[Place]:
    """Return the places of `path` and of all directories above it, as far as they exist, lowest first."""
    path, places = os.path.realpath(path), []
    while True:
        place = place_of(path)
        if place is not None:
            places.append(place)
        above = os.path.dirname(path)
        if above == path:
            return places
        path = above


def _made(directory: str) -> Place | None:
    """Make the directory now, so that it is known when a later process fills it."""
    try:
        ObjectCache(directory).check()
    except HostRefusedError:
        return None  # it cannot be made, or nothing is ever loaded from it
    return place_of(os.fsencode(directory))

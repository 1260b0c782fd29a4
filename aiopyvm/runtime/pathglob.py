"""Finding a guest's files by pattern, as `pathlib` does; no deep tree of a guest can exhaust the stack."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiopyvm.runtime.pathname import NOT_THERE

if TYPE_CHECKING:
    from aiopyvm.runtime.path import GuestPath


async def matching(top: GuestPath, parts: tuple[str, ...]) -> AsyncIterator[GuestPath]:
    """Iterate over the paths below `top` that match the parts of a pattern, some of them perhaps twice."""
    pending = [(top, parts)]
    while pending:
        path, parts = pending.pop()
        if not parts:
            yield path
        else:
            pending += reversed([step async for step in _steps(path, parts)])


async def _steps(path: GuestPath, parts: tuple[str, ...]) -> AsyncIterator[tuple[GuestPath, tuple[str, ...]]]:
    """What is to be looked at next, from the directory `path`."""
    first, rest = parts[0], parts[1:]
    try:
        children = sorted([child async for child in path.iterdir()])
    except OSError as error:  # no directory, or a guest has removed it meanwhile
        if error.errno not in NOT_THERE:
            raise
        return
    if first == "**":
        yield path, rest
    for child in children:
        if first == "**":
            if stat.S_ISDIR(await child.kind(follow=False)):
                yield child, parts
        elif fnmatch.fnmatchcase(child.name, first):
            yield child, rest

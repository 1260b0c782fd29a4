"""/tmp/perf-PID.map: names of generated code for Linux perf (tools/perf/Documentation/jit-interface.txt).

A line is "START SIZE name", both numbers in hexadecimal without 0x. Nothing is written until `enable`; then every
`record` is one write of one line, so that a process that is killed leaves a map that is right so far.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

MOST_NAME: Final = 200  # characters of a name
_files: Final[list[int]] = []
_lookups: Final[list[Callable[[int], str]]] = []


def path() -> str:
    """Where perf looks for the map of this process."""
    return f"/tmp/perf-{os.getpid()}.map"


def enable() -> str:
    """Write a map from now on; return its path. An old map of ours, left by another process of this number, goes.

    Raises OSError where it cannot be made: nothing of somebody else's is ever written to.
    """
    if not _files:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            _files.append(os.open(path(), flags, 0o600))
        except FileExistsError:
            if os.lstat(path()).st_uid != os.geteuid():
                raise
            os.unlink(path())
            _files.append(os.open(path(), flags, 0o600))
    return path()


def disable() -> None:
    """Write no more; the map stays."""
    while _files:
        os.close(_files.pop())


def enabled() -> bool:
    """Whether `record` writes anything."""
    return bool(_files)


def record(address: int, size: int, name: str) -> None:
    """`size` bytes of code at host address `address` are called `name`; nothing happens unless a map is written."""
    if _files and size > 0:
        shown = "".join(c if c.isprintable() else "?" for c in name[:MOST_NAME])
        os.write(_files[0], f"{address:x} {size:x} {shown}\n".encode())


def record_region(address: int, size: int, root: int) -> None:
    """Record a compiled region of the guest's code around `root`."""
    if _files:
        found = _lookups[-1](root) if _lookups else ""
        record(address, size, f"guest {root:#010x} {found}".rstrip())


def name_guest_code(lookup: Callable[[int], str]) -> None:
    """From now on the name of a region has what `lookup` says of its guest address: a function's name, or ""."""
    _lookups[:] = [lookup]


def record_symbols(base: int, end: int, symbols: Iterable[tuple[str, int]]) -> None:
    """Record an object's symbols: names and distances from host address `base`; each reaches to the next one, the last
    one to `end`, a distance too."""
    if not _files:
        return
    ordered = sorted((at, name) for name, at in symbols)
    for (at, name), following in zip(ordered, [*(at for at, _ in ordered[1:]), end], strict=True):
        record(base + at, following - at, name)


os.register_at_fork(after_in_child=disable)

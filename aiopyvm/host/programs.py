"""Reading program files of the host: once for each state of a file, however many guests run it."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

import anyio.to_thread

CACHED_FILES: Final = 64
CACHED_BYTES: Final = 64 << 20
SMALL_BYTES: Final = 4 << 20  # read at once: going through a thread costs more

_cache: OrderedDict[tuple[int, ...], bytes] = OrderedDict()


async def read_program(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a host file, the same object while the file is unchanged. Raises OSError."""
    status = os.stat(path)
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    data = _cache.get(key)
    if data is None:
        name = os.fspath(path)
        data = _read(name) if status.st_size <= SMALL_BYTES else await anyio.to_thread.run_sync(_read, name)
        _remember(key, data)
    else:
        _cache.move_to_end(key)
    return data


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _remember(key: tuple[int, ...], data: bytes) -> None:
    if len(data) > CACHED_BYTES // 4:
        return
    _cache[key] = data
    while len(_cache) > CACHED_FILES or sum(map(len, _cache.values())) > CACHED_BYTES:
        _cache.popitem(last=False)

"""Generated code on disk, so that the next process has it at once.

One flat directory of files, each a short head (what it is, a SHA-256 of its name and content) and the content. The
digest finds damage; it proves nothing about who wrote the file. What is loaded is trusted because only this user can
write the directory: anything else that is found there, or a directory that others may touch, is refused, and no guest
may reach it (`runtime/trees.py`). Many processes may use it at once: a file appears whole (written aside and renamed),
the last writer wins, and whatever is missing or damaged is made anew. The files that were not used for longest go when
there is too much, of a kind of which guests can make any number before it takes the place of others.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import logging
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.errors import HostRefusedError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 256 << 20
MAX_FILE_BYTES: Final = 64 << 20
SHARES: Final = {"program": 4, "region": 2}  # kinds that may take a part of all: one in so many bytes
_HEAD: Final = b"aiopyvm object 1\n"
_DIGEST_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-z]+-[0-9a-f]{64}")
_OURS: Final = re.compile(r"(?:[a-z]+-[0-9a-f]{64}|\.new-[0-9a-f]+)")  # what `clear` and `_trim` may remove
_NEW: Final = ".new-"
_LOCK: Final = ".lock"
_STALE_SECONDS: Final = 3600.0
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    """A file of the cache. `used` is when it was last read or written, in seconds since the epoch."""

    name: str
    size: int
    used: float


class ObjectCache:
    """The cache in directory `root`, which is made when it is first needed. Names are "kind-" and 64 hex digits.

    `get` and `put` never raise for what the disk does: without a usable directory all is missing, and a warning is
    logged once.
    """

    def __init__(self, root: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> None:
        self._root = os.fspath(root)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._sizes: Counter[str] | None = None  # bytes by kind, and "" in all, as far as this process knows
        self._warned = False

    @property
    def root(self) -> Path:
        """The directory."""
        from pathlib import Path  # long to import, and most processes only read here

        return Path(self._root)

    def check(self) -> None:
        """Make the directory if it is not there. Raises HostRefusedError when it cannot be used, and says why."""
        with self._opened():
            pass

    def get(self, name: str) -> bytes | None:
        """Return what is kept under `name`; None when that is nothing, or damaged (then it is removed)."""
        data = None
        try:
            with self._opened() as directory:
                data = self._read(directory, _checked_name(name))
        except OSError as error:
            self._warn(error)
        self.hits += data is not None
        self.misses += data is None
        return data

    def put(self, name: str, data: bytes) -> bool:
        """Keep `data` under `name`; False when it could not be written."""
        content = _HEAD + _digest(_checked_name(name), data) + data
        if len(content) > min(MAX_FILE_BYTES, self.max_bytes):
            return False
        try:
            with self._opened() as directory:
                _write(directory, name, content)
                self._grown(directory, _kind(name), len(content))
        except OSError as error:
            self._warn(error)
            return False
        return True

    def entries(self) -> list[Entry]:
        """Return what is there, least recently used first. Raises HostRefusedError."""
        with self._opened() as directory:
            return _entries(directory)

    def clear(self) -> int:
        """Remove all files of the cache; return how many. Raises HostRefusedError."""
        with self._opened() as directory:
            names = [entry.name for entry in _entries(directory) if not _is_being_written(entry)]
            self._sizes = None
            return sum(_remove(directory, name) for name in names)

    def try_lock(self) -> int | None:
        """Return a descriptor that has the lock of those who build; None: somebody else has it.

        The lock is a flock(2): it ends with the last copy of the descriptor. Raises OSError where there can be none.
        """
        with self._opened() as directory:
            fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Give a descriptor of the directory, made and checked."""
        fd = self._open()
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self) -> int:
        try:
            try:
                fd = os.open(self._root, _DIRECTORY)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(os.path.abspath(self._root)), exist_ok=True)
                _make_private(self._root)
                fd = os.open(self._root, _DIRECTORY)
        except OSError as error:
            raise HostRefusedError(error.errno, f"no cache directory {self._root}: {error.strerror}") from None
        reason = _not_private(os.fstat(fd))
        if reason is not None:
            os.close(fd)
            raise HostRefusedError(1, f"the cache directory {self._root} is not used: {reason}")
        return fd

    def _read(self, directory: int, name: str) -> bytes | None:
        try:
            fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            found = os.fstat(fd)
            if not found.st_nlink:
                return None  # it was removed meanwhile, or another one took its place
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or _not_private(found) is not None:
                raise HostRefusedError(1, f"{os.path.join(self._root, name)} is not a private file of this user")
            content = _read_all(fd, min(found.st_size, MAX_FILE_BYTES))
            os.utime(fd)
        finally:
            os.close(fd)
        start = len(_HEAD) + _DIGEST_BYTES
        data = content[start:]
        if content[:start] != _HEAD + _digest(name, data):
            _remove(directory, name)
            return None
        return data

    def _grown(self, directory: int, kind: str, size: int) -> None:
        """Count what was written; drop the files that were not used for longest when it is too much."""
        if self._sizes is not None:
            self._sizes.update({kind: size, "": size})
            if self._sizes[kind] <= self._most(kind) and self._sizes[""] <= self.max_bytes:
                return
        entries = [entry for entry in _entries(directory) if not _is_being_written(entry)]
        sizes = Counter[str]()
        for entry in entries:
            sizes.update({_kind(entry.name): entry.size, "": entry.size})
        for shared in (*SHARES, ""):
            if sizes[shared] > self._most(shared):
                self._trim(directory, entries, sizes, shared)
        for entry in entries:
            if entry.name.startswith(_NEW) and _remove(directory, entry.name):
                sizes[""] -= entry.size
        self._sizes = sizes

    def _most(self, kind: str) -> int:
        return self.max_bytes // SHARES.get(kind, 1)

    def _trim(self, directory: int, entries: list[Entry], sizes: Counter[str], shared: str) -> None:
        """Remove files of a kind ("": of any) until a quarter of what they may take is free."""
        goal = self._most(shared) * 3 // 4
        for entry in tuple(entries):
            kind = _kind(entry.name)
            if sizes[shared] > goal and shared in (kind, ""):
                entries.remove(entry)
                sizes.subtract({kind: entry.size, "": entry.size})
                _remove(directory, entry.name)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logging.getLogger("aiopyvm").warning("compiled code is not kept: %s", error.strerror or error)


@functools.cache
def cache_directory() -> str:
    """Return where compiled code is kept: AIOPYVM_CACHE_DIR, or "aiopyvm" in the user's cache directory.

    That is $XDG_CACHE_HOME, or ~/.cache (XDG Base Directory Specification). The environment is read once: what is
    granted to guests is checked against this directory. Raises HostRefusedError without a home.
    """
    chosen = os.environ.get("AIOPYVM_CACHE_DIR")
    if chosen:
        return os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        raise HostRefusedError(2, "this user has no home directory for a cache; AIOPYVM_CACHE_DIR can name one")
    return os.path.join(base, "aiopyvm")


_caches: dict[str, ObjectCache] = {}


def object_cache() -> ObjectCache:
    """Return this process's cache, in `cache_directory()`. Raises HostRefusedError as that does."""
    root = cache_directory()
    cache = _caches.get(root)
    if cache is None:
        cache = _caches[root] = ObjectCache(root)
    return cache


def _make_private(root: str) -> None:
    try:
        os.mkdir(root, 0o700)
    except FileExistsError:
        pass  # another process was first


def _not_private(found: os.stat_result) -> str | None:
    """Say why what was found is not this user's alone."""
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}, not to {os.geteuid()}"
    if found.st_mode & 0o077:
        return f"others may use it (mode {stat.S_IMODE(found.st_mode):03o}); it has to be 700"
    return None


def _kind(name: str) -> str:
    return name.partition("-")[0]


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name in the cache: {name!r}")
    return name


def _digest(name: str, data: bytes) -> bytes:
    digest = hashlib.sha256(name.encode())
    digest.update(data)
    return digest.digest()


def _entries(directory: int) -> list[Entry]:
    found = []
    with os.scandir(directory) as names:
        for name in names:
            if _OURS.fullmatch(name.name):
                try:
                    status = name.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # another process removed it
                found.append(Entry(name.name, status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: (entry.used, entry.name))


def _is_being_written(entry: Entry) -> bool:
    """Tell whether a writer may still be at it; false for what one left behind."""
    return entry.name.startswith(_NEW) and entry.used > time.time() - _STALE_SECONDS


def _remove(directory: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _read_all(fd: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(directory: int, name: str, content: bytes) -> None:
    new = f"{_NEW}{os.urandom(8).hex()}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=directory)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(fd, rest) :]
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _remove(directory, new)
        raise

"""What a run executes: a host file or its bytes, raw code, or a guest path; and where it was looked for when it is not
there."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiopyvm.abi.errno import EACCES, ENOENT, ENOMEM, ENOSPC, ENOTDIR, Errno
from aiopyvm.abi.stat import S_IFMT, S_IFREG
from aiopyvm.errors import HostRefusedError
from aiopyvm.host.programs import read_program

if TYPE_CHECKING:
    from aiopyvm.kernel.vfs import Vfs

Source = str | os.PathLike[str] | bytes | bytearray | memoryview

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Program(NamedTuple):
    """One program and its arguments. `data` is its content (None: the guest file `path`); `flat` is (load address,
    entry)."""

    args: tuple[Any, ...]  # as the caller gave them
    argv: tuple[bytes, ...]
    data: bytes | None = None
    flat: tuple[int, int] | None = None
    path: bytes | None = None
    ends_at: int | None = None  # raw bytes: running past here is the end
    file: str = ""  # the host file that `data` came from

    @property
    def name(self) -> str:
        """The last part of argv[0]."""
        return os.fsdecode(self.argv[0].rpartition(b"/")[2] if self.argv else b"") or "program"


def to_bytes(value: object, what: str) -> bytes:
    """Return an argument, path or environment string as the guest sees it. Raises TypeError, ValueError (NUL)."""
    if isinstance(value, (str, bytes, os.PathLike)):
        data = os.fsencode(value)
    else:
        raise TypeError(f"{what} must be str, bytes or a path, not {value!r} ({type(value).__name__})")
    if b"\0" in data:
        raise ValueError(f"{what} has a NUL in it: {value!r}")
    return data


def argument_bytes(args: Sequence[object]) -> tuple[bytes, ...]:
    """Return program arguments as bytes; numbers are not converted."""
    return tuple(to_bytes(arg, "an argument") for arg in args)


def environment(given: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
    """Return the guest's environment: a default PATH, HOME=/ and what was given, never the host's."""
    return {"PATH": DEFAULT_PATH, "HOME": "/", **given}


def environment_bytes(env: Mapping[str, str | bytes]) -> list[bytes]:
    """Return NAME=VALUE strings. Raises TypeError, ValueError for a name that is empty or has "=" in it."""
    strings = []
    for name, value in env.items():
        if not name or "=" in name:
            raise ValueError(f"an environment variable cannot be named {name!r}")
        text = to_bytes(value, f"environment variable {name}")
        strings.append(to_bytes(name, "an environment variable") + b"=" + text)
    return strings


async def load_source(source: Source, vfs: Vfs | None = None) -> tuple[bytes, str]:
    """Return the content of a host file, or the bytes given, and a name for it.

    Raises FileNotFoundError that says whether the guest has such a file, other OSErrors of the host, TypeError.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), ""
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a program is a host path or bytes, not {type(source).__name__}")
    name = os.fspath(source)
    try:
        return await read_program(name), name
    except FileNotFoundError:
        has = vfs is not None and guest_has(vfs, os.fsencode(name))
        hint = "; the guest has one: use run()" if has else "; neither has the guest"
        raise FileNotFoundError(errno.ENOENT, f"no such host file{hint}", name) from None


def guest_has(vfs: Vfs, path: bytes) -> bool:
    """Tell whether the guest sees a file at `path`."""
    try:
        vfs.lookup(vfs.administrator(), path)
    except Errno:
        return False
    return True


def find_in_guest(vfs: Vfs, name: bytes, search: str | bytes, cwd: bytes) -> bytes:
    """Return the guest path of program `name`, looked up in `search` (PATH) unless it has a slash.

    Raises FileNotFoundError that says whether the host has such a file, PermissionError, NotADirectoryError (cwd).
    """
    if b"/" in name:
        candidates = [name]
    else:
        candidates = [(part or b".") + b"/" + name for part in os.fsencode(search).split(b":")]
    try:
        context = vfs.context(cwd=cwd)
    except Errno as error:
        raise guest_error(error, cwd) from None
    denied = False
    for candidate in candidates:
        try:
            inode = vfs.lookup(context, candidate)
        except Errno as error:
            denied |= error.number == EACCES
            if error.number not in (ENOENT, ENOTDIR, EACCES):
                raise guest_error(error, candidate) from None
            continue
        if inode.kind & S_IFMT == S_IFREG and inode.stat().mode & 0o111:
            return candidate
        denied = True
    shown = os.fsdecode(name)
    if denied:
        raise PermissionError(errno.EACCES, "the guest may not execute this", shown)
    where = "" if b"/" in name else " in PATH"
    has = os.path.exists(name)
    hint = "; the host has one: use run_elf(), or pass a pathlib.Path" if has else "; neither has the host"
    raise FileNotFoundError(errno.ENOENT, f"no such guest file{where}{hint}", shown)


def refusal(error: Errno, what: str) -> OSError:
    """Return what a caller gets whose own tree could not be put into the guest's file system."""
    if error.number in (ENOSPC, ENOMEM):
        return HostRefusedError(errno.ENOMEM, f"the memory limit leaves no room for {what}")
    return guest_error(error, what)


def guest_error(error: Errno, path: bytes | str) -> OSError:
    """Return the OSError (of the right subclass) for an errno of the guest's file system."""
    return OSError(error.number, f"{os.strerror(error.number)} (in the guest)", os.fsdecode(path))

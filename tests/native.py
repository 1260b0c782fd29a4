"""Programs run on the host itself, to compare with, and the programs that are built or fetched rather than committed.

What is made here lies in `.cache/` of the checkout (or in $AIOPYVM_CACHE), named after the contents it was made from.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

CHECKOUT = Path(__file__).parents[1]
GLIBC_SOURCES = CHECKOUT / "tests" / "guests" / "glibc"
_GCC = ("gcc", "-m32", "-static", "-O2", "-std=gnu11", "-march=i686", "-mfpmath=387", "-mno-sse", "-pthread")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


class NativeRun(Protocol):
    """The type of `run_native`."""

    def __call__(
        self,
        program: str | os.PathLike[str],
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        argv0: str | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run and return what it wrote."""
        ...


def cache_directory() -> Path:
    """Return (and make) the directory of what tests build or fetch."""
    path = Path(os.environ.get("AIOPYVM_CACHE") or CHECKOUT / ".cache")
    path.mkdir(parents=True, exist_ok=True)
    return path


@functools.cache
def native_available() -> bool:
    """Whether the host runs i386 Linux programs."""
    try:
        answer = subprocess.run([CHECKOUT / "guests" / "bin" / "hello"], capture_output=True, timeout=10, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout == b"Hello, world!\n"


def run_native(
    program: str | os.PathLike[str],
    *args: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    argv0: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `program` on the host with the environment and the signal actions that a guest gets, at most 60 s.

    `argv0` defaults to the path.
    """
    argv: Sequence[str] = [argv0 if argv0 is not None else os.fspath(program), *args]
    return subprocess.run(
        argv,
        executable=program,
        input=stdin,
        capture_output=True,
        env=dict(_ENVIRONMENT if env is None else env),
        cwd=cwd,
        timeout=60,
        check=False,
        preexec_fn=_default_signals,
    )


def _default_signals() -> None:
    """Undo what a shell's background job inherits: ignored and blocked signals."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@functools.cache
def glibc_path(name: str) -> Path | None:
    """Build tests/guests/glibc/NAME.c statically and return the program; None where `gcc -m32` cannot.

    Raises CalledProcessError when the compiler is there and the source is wrong.
    """
    if not _compiler_works():
        return None
    source = (GLIBC_SOURCES / f"{name}.c").read_bytes()
    for header in sorted(GLIBC_SOURCES.glob("*.h")):
        source = source.replace(b'#include "%b"\n' % os.fsencode(header.name), header.read_bytes())
    return _compiled(source, name)


@functools.cache
def c_program(source: Path) -> Path | None:
    """Build a C file statically, as those are, and return the program; None where `gcc -m32` cannot."""
    return _compiled(source.read_bytes(), source.stem) if _compiler_works() else None


@functools.cache
def _compiler_works() -> bool:
    try:
        _compiled(b'#include <stdio.h>\nint main(void) { return puts("") < 0; }\n', "probe")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _compiled(source: bytes, name: str) -> Path:
    version = subprocess.run(["gcc", "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(b"\0".join((source, version, repr(_GCC).encode()))).hexdigest()[:16]
    target = cache_directory() / f"{name}-{digest}"
    if not target.exists():
        with (cache_directory() / "compiling").open("w") as lock:  # test processes beside each other compile it once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _compile(source, target)
    return target


def _compile(source: bytes, target: Path) -> None:
    unfinished = target.with_suffix(f".{os.getpid()}")
    command = [*_GCC, "-x", "c", "-", "-o", os.fspath(unfinished), "-lm"]
    subprocess.run(command, input=source, check=True, capture_output=True)
    unfinished.rename(target)


def busybox_path() -> Path | None:
    """Return the i386 busybox: $AIOPYVM_BUSYBOX, or what `python tests/busybox.py` fetched; None where neither is."""
    for candidate in (os.environ.get("AIOPYVM_BUSYBOX"), cache_directory() / "busybox"):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None

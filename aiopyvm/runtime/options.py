"""What every way to run a program takes as `**options`, and what is none.

A misspelt option, or a value of the wrong kind, is a TypeError before anything starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict

from aiopyvm.runtime.limits import LIMIT_NAMES, Limits

if TYPE_CHECKING:
    import anyio.abc

    from aiopyvm.runtime.hooks import Hook

Env = Mapping[str, str | bytes]
Argument = str | bytes | os.PathLike[str]


class OpenOptions(TypedDict, total=False):
    """What every way to run a program takes.

    `argv0`: what the guest sees as its name. `env` is laid over the VM's, `cwd` replaces it, `limits` that are named
    override. `stdin`, `stdout`, `stderr`: see the package's docstring. `tty`: the standard streams are terminals for
    the guest. `name` is what messages call it. `strace` is called with a line of text for each system call, `trace`
    with a `Step` for each instruction. `hooks`: see `aiopyvm.runtime.hooks`.
    """

    argv0: Argument
    env: Env
    cwd: Argument
    stdin: Any
    stdout: Any
    stderr: Any
    limits: Limits
    tty: bool
    name: str
    strace: Callable[[str], object] | None
    trace: Callable[[Any], object] | None
    hooks: Sequence[Hook]


class RunOptions(OpenOptions, total=False):
    """Also: `check` raises GuestFailedError unless the guest ended well; `task_status` is told the Process."""

    check: bool
    task_status: anyio.abc.TaskStatus[Any]


class PausedOptions(OpenOptions, total=False):
    """Also: `paused` starts without executing anything, for `Process.step` and `resume`."""

    paused: bool


_KINDS: Final[dict[str, tuple[type, str]]] = {
    "env": (Mapping, "a mapping of names to str or bytes"),
    "limits": (Limits, "a Limits"),
    "tty": (bool, "True or False"),
    "name": (str, "str"),
    "hooks": (Sequence, "a sequence of hooks"),
    "check": (bool, "True or False"),
    "paused": (bool, "True or False"),
}


_HINTS: Final = {
    "input": "stdin takes bytes",
    "timeout": "limits=Limits(wall_time=...) ends the guest, anyio.fail_after() the call",
    "capture_output": "what is written is in the Result, unless stdout and stderr go elsewhere",
    "text": "streams are bytes; Result.text is str",
    "shell": "run() takes a program and its arguments, pipeline() several programs",
    **{name: f"limits=Limits({name}=...)" for name in LIMIT_NAMES},
}
"""What to use for what other libraries call so."""


def check_kind(name: str, value: object, kind: type, words: str) -> None:
    """Raise TypeError unless `value`, which the caller gave as `name`, is a `kind`, in words `words`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {words}, not {value!r}")


def check_options(method: str, options: Mapping[str, Any], allowed: type) -> None:
    """Raise TypeError for an option that `allowed` (a TypedDict) does not have, or a value that is none for it."""
    for name, value in options.items():
        if name not in allowed.__annotations__:
            known = _HINTS.get(name) or "it has " + ", ".join(allowed.__annotations__)
            raise TypeError(f"{method}() has no option {name!r}: {known}")
        if name in _KINDS:
            check_kind(name, value, *_KINDS[name])
        elif name in ("strace", "trace") and value is not None and not callable(value):
            raise TypeError(f"{name} is called with what happens; {value!r} cannot be called")
        elif name == "task_status" and not hasattr(value, "started"):
            raise TypeError(f"task_status is given by a task group's start(), not {value!r}")

"""The exceptions that aiopyvm raises, in one tree.

    AiopyvmError
    ├── LoadError            (also ValueError)          the program cannot be loaded; says what it is and why
    ├── ArchiveError         (also ValueError)          a tar file or image that cannot be read; says where and why
    ├── GuestFailedError     (also CalledProcessError)  `check=True` and the guest did not end well; has `.result`
    ├── GuestMemoryError     (also IndexError)          a host access outside what the guest has mapped
    ├── AssemblyError        (also ValueError)          text that is no instruction of the table
    ├── HostRefusedError     (also OSError)             the host, or a budget given by the caller, refused a resource
    ├── EngineUnavailableError (also RuntimeError)      the engine that was asked for cannot run here; says why
    └── InternalError        (also RuntimeError)        a bug of aiopyvm: please report

What a guest sees (errno, faults, signals) is never one of these: see `aiopyvm.abi.errno` and `aiopyvm.mem.faults`.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopyvm.runtime.result import Result


class AiopyvmError(Exception):
    """Base of every exception that aiopyvm raises on its own behalf."""


class LoadError(AiopyvmError, ValueError):
    """A program that cannot be loaded: not ELF, another machine, truncated, dynamic, overlapping segments."""


class ArchiveError(AiopyvmError, ValueError):
    """A tar file or OCI image that cannot be used as a tree: damaged, truncated, too large, or not understood.

    `path` is the file, `place` the byte of it (unpacked) where that was found, or None.
    """

    def __init__(self, path: str, place: int | None, reason: str) -> None:
        super().__init__(path, place, reason)
        self.path = path
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        where = "" if self.place is None else f", at byte {self.place}"
        return f"{self.path}{where}: {self.reason}"


class GuestFailedError(AiopyvmError, subprocess.CalledProcessError):
    """A guest that did not exit with status 0 under `check=True`.

    `result` is its `Result`; `returncode`, `cmd`, `stdout` and `stderr` are as in `subprocess.CalledProcessError`.
    """

    result: Result

    def __init__(self, result: Result) -> None:
        super().__init__(result.returncode, result.args, result.stdout, result.stderr)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.result,)

    def __str__(self) -> str:
        detail = f": {self.result.detail}" if self.result.detail else ""
        return f"guest {self.cmd!r} ended with {self.result.reason.name}, return code {self.returncode}{detail}"


class GuestMemoryError(AiopyvmError, IndexError):
    """A host access to guest memory that is not mapped; the message names the address and the length."""


class AssemblyError(AiopyvmError, ValueError):
    """Assembly text that is not an instruction, or whose operands fit no row of the instruction table."""


class HostRefusedError(AiopyvmError, OSError):
    """The host (or a budget that the caller gave) refused memory, a file or a mapping."""


class EngineUnavailableError(AiopyvmError, RuntimeError):
    """The engine that was asked for cannot run on this host; the message says why."""


class InternalError(AiopyvmError, RuntimeError):
    """A bug of aiopyvm; please report it. The message says where."""

"""Run many 32-bit x86 Linux programs at once inside one asyncio or trio process.

    result = await VM().run_elf("hello.elf")

What a guest's standard streams may be:

- stdin: bytes | PIPE | DEVNULL | a pipe's receive end | anyio or trio receive stream | asyncio.StreamReader |
  async iterable of bytes | binary file | None (the host's own)
- stdout, stderr: PIPE | DEVNULL | a pipe's send end | anyio or trio send stream | asyncio.StreamWriter |
  binary file | None; stderr also STDOUT
"""

from __future__ import annotations

from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any

from aiopyvm.errors import (
    AiopyvmError,
    ArchiveError,
    AssemblyError,
    EngineUnavailableError,
    GuestFailedError,
    GuestMemoryError,
    HostRefusedError,
    InternalError,
    LoadError,
)

if TYPE_CHECKING:
    from aiopyvm.isa.assemble import assemble
    from aiopyvm.isa.disasm import disassemble
    from aiopyvm.runtime.census import GuestProcess, GuestThread
    from aiopyvm.runtime.changes import Change
    from aiopyvm.runtime.ends import Pipe, ReceiveEnd, SendEnd, pipe
    from aiopyvm.runtime.hooks import CodeHook, MemoryHook, SyscallHook
    from aiopyvm.runtime.hostdir import HostDir
    from aiopyvm.runtime.limits import Limits
    from aiopyvm.runtime.network import Network
    from aiopyvm.runtime.path import GuestPath
    from aiopyvm.runtime.pipeline import Pipeline
    from aiopyvm.runtime.process import Process
    from aiopyvm.runtime.proxies import Memory, Registers
    from aiopyvm.runtime.result import Fault, Reason, Result
    from aiopyvm.runtime.roots import ImageSettings, OciRoot, TarRoot
    from aiopyvm.runtime.runtime import Runtime
    from aiopyvm.runtime.steps import Step
    from aiopyvm.runtime.vm import VM

__version__ = "0.1.0"

_HOMES = {
    "VM": "runtime.vm",
    "Change": "runtime.changes",
    "CodeHook": "runtime.hooks",
    "Fault": "runtime.result",
    "GuestPath": "runtime.path",
    "GuestProcess": "runtime.census",
    "GuestThread": "runtime.census",
    "HostDir": "runtime.hostdir",
    "ImageSettings": "runtime.roots",
    "Limits": "runtime.limits",
    "Memory": "runtime.proxies",
    "MemoryHook": "runtime.hooks",
    "Network": "runtime.network",
    "OciRoot": "runtime.roots",
    "Pipe": "runtime.ends",
    "Pipeline": "runtime.pipeline",
    "Process": "runtime.process",
    "Reason": "runtime.result",
    "ReceiveEnd": "runtime.ends",
    "Registers": "runtime.proxies",
    "Result": "runtime.result",
    "Runtime": "runtime.runtime",
    "SendEnd": "runtime.ends",
    "Step": "runtime.steps",
    "SyscallHook": "runtime.hooks",
    "TarRoot": "runtime.roots",
    "assemble": "isa.assemble",
    "disassemble": "isa.disasm",
    "pipe": "runtime.ends",
}
"""Where each public name is defined: imported at first use, so that importing the package costs little."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "VM",
    "AiopyvmError",
    "ArchiveError",
    "AssemblyError",
    "Change",
    "CodeHook",
    "EngineUnavailableError",
    "Fault",
    "GuestFailedError",
    "GuestMemoryError",
    "GuestPath",
    "GuestProcess",
    "GuestThread",
    "HostDir",
    "HostRefusedError",
    "ImageSettings",
    "InternalError",
    "Limits",
    "LoadError",
    "Memory",
    "MemoryHook",
    "Network",
    "OciRoot",
    "Pipe",
    "Pipeline",
    "Process",
    "Reason",
    "ReceiveEnd",
    "Registers",
    "Result",
    "Runtime",
    "SendEnd",
    "Step",
    "SyscallHook",
    "TarRoot",
    "assemble",
    "disassemble",
    "pipe",
]

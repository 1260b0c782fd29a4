"""Starts the process that builds the object made ahead of time (`aot_builder.py`), and says what became of it.

What always holds: while it runs it has the cache's lock, so there is one of them on this cache. It ends by its own
limits. Whoever started it and lives on waits for it, in a thread; else it is init's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, TypedDict

from aiopyvm.engine.native.aot_builder import NOT_KEPT, REFUSED
from aiopyvm.engine.native.worker import MEMORY_BYTES, import_paths
from aiopyvm.errors import EngineUnavailableError

_SCRIPT: Final = Path(__file__).with_name("aot_builder.py")
_CAUSE_BYTES: Final = 4000
WALL_SECONDS: Final = 3600


class Order(TypedDict):
    """What is to be built: `name`, in the cache in the directory `root`, within so many bytes and seconds."""

    root: str
    name: str
    generator: str
    codegen: int
    memory: int
    cpu_seconds: int
    wall_seconds: int
    paths: list[str]


def order(root: Path, name: str, generator: str, codegen: int, cpu_seconds: float) -> Order:
    """Order an object from this process's generator."""
    return Order(
        root=str(root.absolute()),
        name=name,
        generator=generator,
        codegen=codegen,
        memory=MEMORY_BYTES,
        cpu_seconds=int(cpu_seconds) + 1,
        wall_seconds=WALL_SECONDS,
        paths=import_paths(),
    )


class Detached:
    """A builder at work. `lock`: the descriptor of the cache's lock, which is the builder's from now on."""

    def __init__(self, lock: int, wanted: Order) -> None:
        self._errors: IO[bytes] = os.fdopen(os.memfd_create("aiopyvm-builder"), "w+b")
        try:
            if not sys.executable:
                raise FileNotFoundError("this Python does not know its own executable")
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT), json.dumps(wanted)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, cwd="/",
                start_new_session=True, pass_fds=(lock,),
            )  # fmt: skip
        except BaseException:
            self._errors.close()
            raise
        finally:
            os.close(lock)

    def wait(self) -> bool:
        """Wait for its end; False where it could not keep what it built. Raises EngineUnavailableError: it built
        nothing.
        """
        status = self._process.wait()
        with self._errors as errors:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _CAUSE_BYTES))
            said = errors.read().decode(errors="replace").strip()
        if status == REFUSED:
            raise EngineUnavailableError(said)
        if status not in (0, NOT_KEPT):
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise EngineUnavailableError(f"generated code cannot be compiled: its builder died of {name}. {said}")
        return status == 0

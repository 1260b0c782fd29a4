"""`aiopyvm lockstep`: two engines, or an engine and the hardware, over one program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final

from aiopyvm.cli.main import complain
from aiopyvm.cli.trees import mounts_of, root_of, use_image
from aiopyvm.engine.protocol import Engine
from aiopyvm.runtime.limits import MIB
from aiopyvm.runtime.lockstep import Lockstep, Outcome
from aiopyvm.runtime.machine import ENGINES, get_engine
from aiopyvm.runtime.program import Program, argument_bytes
from aiopyvm.runtime.side import Setup

DEFAULT_ENGINES: Final = "python,evaluator"
DIFFERENT: Final = 1
BUILD_SECONDS: Final = 300.0  # until native code has been built for the first time
PROGRESS_SECONDS: Final = 2.0


def lockstep_command(arguments: Any) -> int:
    """Compare; 0 when both did the same, 1 when not. Raises OSError, LoadError, ValueError, EngineUnavailableError."""
    setup = _setup(arguments)
    names = engine_names(arguments)
    engines = _engine(names[0]), _engine(names[1])
    try:
        with Lockstep(setup, engines, stretch=arguments.stretch) as lockstep:
            outcome = lockstep.run(arguments.instructions, _progress())
    finally:
        for engine in engines:
            close: Callable[[], object] = getattr(engine, "close", lambda: None)
            close()
    return _tell(outcome, names)


def engine_names(arguments: Any) -> tuple[str, str]:
    """The two engines that the command line names. Raises ValueError."""
    names = arguments.engines.split(",")
    known = (*ENGINES, "hot", "hardware")
    for name in names:
        if name not in known:
            raise ValueError(f"an engine is one of {', '.join(known)}, not {name!r}")
    if arguments.against is not None:
        if len(names) > 1 and arguments.engines != DEFAULT_ENGINES:
            raise ValueError(f"--against {arguments.against} leaves room for one engine, not {arguments.engines!r}")
        return names[0], arguments.against
    if len(names) != 2:
        raise ValueError(f"--engines takes two names with a comma between them, not {arguments.engines!r}")
    return names[0], names[1]


def _engine(name: str) -> Engine:
    """The engine of that name, ready: native code is there, so that it is what is compared."""
    match name:
        case "evaluator":
            from aiopyvm.engine.python import PythonEngine

            engine = PythonEngine("evaluator")
            engine.name = name
            return engine
        case "hardware":
            from aiopyvm.runtime.hardware import HardwareEngine

            return HardwareEngine()
        case "hot":
            return _hot_engine()
        case "native":
            from aiopyvm.engine.native.aot import ahead_of_time

            ahead_of_time().wait(BUILD_SECONDS)
    return get_engine(name)


def _hot_engine() -> Engine:
    """A native engine that compiles everything it comes by twice, and waits for that; its code's accesses have the form
    that they have by default. Raises EngineUnavailableError."""
    from aiopyvm.engine.native.aot import ahead_of_time
    from aiopyvm.engine.native.engine import NativeEngine
    from aiopyvm.engine.native.guards import form, guards
    from aiopyvm.engine.native.handlertable import HandlerTable
    from aiopyvm.engine.native.hot import Hot

    memory = form()
    table = HandlerTable(ahead_of_time().wait(BUILD_SECONDS))
    engine = NativeEngine(lambda: table, lambda symbols: Hot(symbols, 1, wait=True, guards=guards(memory, symbols)))
    engine.name = "hot"
    return engine


def _setup(arguments: Any) -> Setup:
    use_image(arguments)
    program, rest = arguments.program, arguments.arguments
    argv = argument_bytes([program, *rest])
    if any(mode == "rw" for _, _, mode in arguments.mount):
        raise ValueError("both sides would write to a directory that is mounted rw: use cow")
    root = root_of(arguments)
    source = Program((program, *rest), argv, None if root is not None else Path(program).read_bytes(), file=program)
    return Setup(
        program=source,
        root=root,
        mounts=mounts_of(arguments),
        env=dict(arguments.env),
        cwd=os.fsencode(arguments.cwd or "/"),
        stdin=b"" if arguments.input is None else Path(arguments.input).read_bytes(),
        memory=arguments.memory or 256 * MIB,
        seed=arguments.seed or 0,
        output=_show,
    )


def _show(fd: int, data: bytes) -> None:
    stream = sys.stdout if fd == 1 else sys.stderr
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


def _progress() -> Callable[[int], None]:
    """What tells on a terminal how far it is, now and then."""
    told = [monotonic()]

    def tell(instructions: int) -> None:
        if monotonic() - told[0] > PROGRESS_SECONDS and sys.stderr.isatty():
            told[0] = monotonic()
            complain(f"lockstep: {instructions:,} instructions so far")

    return tell


def _tell(outcome: Outcome, names: tuple[str, str]) -> int:
    if outcome.difference is not None:
        sys.stdout.flush()
        print(outcome.difference, file=sys.stderr)
        return DIFFERENT
    complain(
        f"lockstep: {names[0]} and {names[1]} did the same: {outcome.instructions:,} instructions,"
        f" {outcome.calls:,} system calls, {outcome.ending}"
    )
    return 0

"""`main`: from arguments to an exit status. What went wrong is one line on standard error."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from aiopyvm.cli.arguments import make_parser

NOT_RUN: Final = 125
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
INTERRUPTED: Final = 130
COLLECT_EVERY: Final = 50_000  # new objects: what is imported stays, and looking through it took a tenth of a short run


def complain(text: str) -> None:
    """Say what went wrong, where there is somewhere to say it."""
    if sys.stderr is not None:
        print(f"aiopyvm: {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv[1:] when None); return the exit status. Raises SystemExit (usage).

    Without `argv` the process is taken to end with it: what is left over is not looked through for garbage any more.
    """
    if argv is not None:
        return _main(argv)
    gc.set_threshold(COLLECT_EVERY)
    try:
        return _main(argv)
    finally:
        gc.freeze()


def _main(argv: Sequence[str] | None) -> int:
    _occupy_standard_descriptors()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from aiopyvm import __version__

        print(f"aiopyvm {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return _dispatch(arguments.command, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 128 + 13
    except Exception as error:
        return _failed(error, arguments)


def _dispatch(command: str, arguments: object) -> int:
    if command in ("run", "pipe"):
        from aiopyvm.cli.running import run_command

        return run_command(command, arguments)
    if command == "cache":
        from aiopyvm.cli.cache import cache_command

        return cache_command(arguments)
    if command == "lockstep":
        from aiopyvm.cli.lockstep import lockstep_command

        return lockstep_command(arguments)
    from aiopyvm.cli.code import asm_command, disasm_command

    return disasm_command(arguments) if command == "disasm" else asm_command(arguments)


def _occupy_standard_descriptors() -> None:
    """Keep closed standard descriptors from becoming something else's: what stands there now gives EBADF."""
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest one that is free: this number


def _names_program(error: OSError, arguments: Any) -> bool:
    """Tell whether the file that is not there is a program, and not a directory that was to be mounted."""
    if arguments.command not in ("run", "pipe"):
        return True
    from aiopyvm.cli.running import programs_of

    return error.filename in programs_of(arguments)


def _failed(error: Exception, arguments: Any) -> int:
    """Say in one line why there is no result; return the status for it. An error of ours keeps its traceback."""
    from aiopyvm.errors import AiopyvmError, InternalError, LoadError

    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        complain(_os_error(error))
        return NOT_FOUND if _names_program(error, arguments) else NOT_RUN
    if isinstance(error, (LoadError, PermissionError, IsADirectoryError)):
        complain(_os_error(error) if isinstance(error, OSError) else str(error))
        return NOT_EXECUTABLE
    if isinstance(error, InternalError) or not isinstance(error, (AiopyvmError, OSError, ValueError)):
        import traceback

        traceback.print_exception(error)
        complain(f"this is a bug of aiopyvm, please report it: {error}")
        return NOT_RUN
    complain(_os_error(error) if isinstance(error, OSError) else str(error))
    return NOT_RUN


def _os_error(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror or str(error)

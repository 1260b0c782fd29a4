"""`aiopyvm run` and `aiopyvm pipe`: guests with this process's own streams."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiopyvm import STDOUT, VM, Limits, Reason, Result
from aiopyvm.cli.main import complain
from aiopyvm.cli.measure import Measure
from aiopyvm.cli.trees import mounts_of, root_of, use_image
from aiopyvm.host.terminal import restore_terminals

if TYPE_CHECKING:
    from aiopyvm import Network

OUT_OF_TIME: Final = 124
RUNTIME_ENDED: Final = 128 + 9
SIGPIPE: Final = 13
DEFAULT_USER: Final = "1000"


def run_command(command: str, arguments: Any) -> int:
    """Run what the arguments name; return the exit status. Raises what `VM` raises."""
    with _terminal_given_back():
        return anyio.run(_run if command == "run" else _pipe, arguments)


@contextmanager
def _terminal_given_back() -> Iterator[None]:
    """A signal that ends this process ends it with the terminal's settings as they were."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    if not os.isatty(0) or threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, _end_by)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end_by(number: int, frame: object) -> None:
    restore_terminals()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def is_terminal(arguments: Any) -> bool:
    """The guest gets a terminal: as asked, or because it is run in one."""
    return bool(getattr(arguments, "tty", False)) or all(map(os.isatty, (0, 1)))


def make_vm(arguments: Any) -> VM:
    """Return the machine that the arguments describe."""
    limits: dict[str, Any] = {
        "memory": arguments.memory,
        "instructions": arguments.instructions,
        "wall_time": arguments.timeout,
    }
    return VM(
        root=root_of(arguments),
        mounts=mounts_of(arguments) if arguments.mount else None,
        env=_environment(arguments),
        cwd=arguments.cwd or "/",
        user=arguments.user or DEFAULT_USER,
        hostname=arguments.hostname,
        net=_network(arguments.net, arguments.net_udp),
        publish=dict(arguments.publish) or None,
        limits=Limits(output=None, **{name: value for name, value in limits.items() if value is not None}),
        engine=arguments.engine,
        cpu=arguments.cpu,
        seed=arguments.seed,
        portable_math=arguments.portable_math,
        randomize=arguments.randomize,
        clock="real" if arguments.seed is None else "virtual",
    )


def _network(tcp: list[tuple[str, int]], udp: list[tuple[str, int]]) -> Network | None:
    """Return the network of `--net` and `--net-udp`; None: the loopback interface alone."""
    if not tcp and not udp:
        return None
    from aiopyvm import Network

    return Network(allow=tcp, allow_udp=udp)


def _environment(arguments: Any) -> dict[str, str]:
    """Return the variables that were asked for, and in a terminal what kind that is."""
    given: dict[str, str] = dict(arguments.env)
    if "TERM" in os.environ and hasattr(arguments, "tty") and is_terminal(arguments):
        given.setdefault("TERM", os.environ["TERM"])
    return given


def streams(arguments: Any) -> dict[str, Any]:
    """Return the options for this process's own streams, and for what is shown of the run."""
    options: dict[str, Any] = {"stdin": None, "stdout": None, "stderr": None}
    if arguments.strace:
        options["strace"] = _show
    if getattr(arguments, "trace", False):
        options["trace"] = _show
    return options


def _show(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


async def _run(arguments: Any) -> int:
    use_image(arguments)
    in_tree = root_of(arguments) is not None
    vm = make_vm(arguments)
    options = streams(arguments) | {"tty": is_terminal(arguments)}
    if options["tty"] and (arguments.tty or os.isatty(2)):
        options["stderr"] = STDOUT
    program, rest = arguments.program, arguments.arguments
    measure = Measure(arguments)
    if measure.wanted:
        options["task_status"] = measure
    if arguments.flat:
        source = await vm.path(program).read_bytes() if in_tree else program
        result = await vm.run_flat(source, *rest, load_at=arguments.load_at, **options)
    elif in_tree:
        result = await vm.run(program, *rest, **options)
    else:
        result = await vm.run_elf(program, *rest, **options)
    status = status_of(result)
    if arguments.diff is not None:
        await vm.save_changes(arguments.diff)
    if measure.wanted:
        measure.tell(result)
    return status


async def _pipe(arguments: Any) -> int:
    from pathlib import Path

    from aiopyvm.cli.pipeline import split_pipeline

    stages = split_pipeline(arguments.line)
    use_image(arguments)
    if root_of(arguments) is None:
        stages = [[Path(stage[0]), *stage[1:]] for stage in stages]
    vm = make_vm(arguments)
    async with vm.pipeline(*stages, **streams(arguments)) as pipeline:
        await pipeline.wait()
    if arguments.diff is not None:
        await vm.save_changes(arguments.diff)
    *earlier, last = pipeline.results
    statuses = [_status_of_earlier(result) for result in earlier] + [status_of(last)]
    if arguments.pipefail:
        return next((status for status in reversed(statuses) if status), 0)
    return statuses[-1]


def _status_of_earlier(result: Result) -> int:
    """As `status_of`; that a stage failed by itself is said, too, as the exit status does not show it."""
    if result.reason is Reason.EXITED and result.returncode:
        complain(f"{_name_of(result)}: exit status {result.returncode}")
    return status_of(result)


def programs_of(arguments: Any) -> list[str]:
    """Return the names of the programs that the command line asks for. Raises ValueError."""
    if hasattr(arguments, "program"):
        return [arguments.program]
    from aiopyvm.cli.pipeline import split_pipeline

    return [stage[0] for stage in split_pipeline(arguments.line)]


def status_of(result: Result) -> int:
    """Return the exit status for `result`, and say on standard error what ended it, unless it ended by itself."""
    reason = result.reason
    if reason in (Reason.EXITED, Reason.END_OF_CODE):
        return result.returncode
    name = _name_of(result)
    detail = f" ({result.detail})" if result.detail else ""
    if result.returncode == -SIGPIPE:  # as a shell: what reads its output has had enough
        return 128 + SIGPIPE
    if reason is Reason.SIGNALED:
        complain(f"{name}: ended by signal {-result.returncode}{_signal_name(-result.returncode)}{detail}")
        return 128 - result.returncode
    complain(f"{name}: {reason.value}{detail}")
    return OUT_OF_TIME if reason in (Reason.TIME_LIMIT, Reason.INSTRUCTION_LIMIT) else RUNTIME_ENDED


def _name_of(result: Result) -> str:
    return os.path.basename(str(result.args[0])) if result.args else "guest"


def _signal_name(number: int) -> str:
    try:
        return f", {signal.Signals(number).name}"
    except ValueError:
        return ""

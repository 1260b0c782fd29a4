"""A run's standard streams: from what the caller gave to kernel files, Python ends and pumps.

What always holds. Each kernel file is held once from here until the guest has its own descriptors, so that a run that
never starts closes them. Ends that move do so only after every argument was found to be of a kind that exists.
"""

from __future__ import annotations

from collections.abc import Callable
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.abi.errno import EPIPE, Errno
from aiopyvm.abi.fcntl import O_RDONLY, O_WRONLY
from aiopyvm.host.streams import Sink, is_broken, open_sink, open_source
from aiopyvm.host.terminal import TerminalDevice, find_terminal
from aiopyvm.kernel.console import Console, SecondScreen
from aiopyvm.kernel.hoststream import BytesInput, Collector, HostInput, HostOutput
from aiopyvm.kernel.tty import TerminalFile
from aiopyvm.runtime.ends import ReceiveEnd, SendEnd, Shared, input_pipe, output_pipe
from aiopyvm.runtime.meter import Meter
from aiopyvm.runtime.pumps import InputPump, OutputPump, Pump, SizePump
from aiopyvm.runtime.run import Run

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File

NAMES: Final = ("stdin", "stdout", "stderr")
UNBOUNDED_KEEPS: Final = 1 << 20  # bytes of streamed output that a result has where output is not limited


class Stdio:
    """What stands behind descriptors 0, 1 and 2."""

    stdin: SendEnd | None = None
    stdout: ReceiveEnd | None = None
    stderr: ReceiveEnd | None = None
    terminal: Console | None = None

    def __init__(self) -> None:
        self.files: list[File] = []
        self.pumps: list[Pump] = []

    def release(self) -> None:
        """Let go of the files: the guest has its own descriptors now, or never will."""
        files, self.files = self.files, []
        for file in files:
            file.release()

    def close_ends(self) -> None:
        """Close Python's ends."""
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()


Null = Callable[[int], "File"]
"""Opens the guest's null device with the given open(2) flags."""


def open_stdio(
    run: Run, null: Null, stdin: Any, stdout: Any, stderr: Any, *, collect: bool, tty: bool = False
) -> Stdio:
    """Return the standard streams for `run`; `collect` keeps PIPE outputs for the result without a pipe; `tty` makes
    them terminals.

    Raises TypeError for what is no stream of bytes, ValueError where STDOUT stands for anything but stderr.
    """
    check_stdio(stdin, stdout, stderr)
    stdio = Stdio()
    try:
        _open_input(run, null, stdio, stdin)
        run.stdout = Meter(run, _kept(run, stdout, collect))
        _open_output(run, null, stdio, stdout, run.stdout, 1, collect)
        run.stderr = Meter(run, _kept(run, stderr, collect))
        if _is(stderr, STDOUT):
            stdio.files.append(stdio.files[1].hold())
        else:
            _open_output(run, null, stdio, stderr, run.stderr, 2, collect)
        if tty:
            _become_terminals(run, stdio, find_terminal(stdin))
    except BaseException:
        stdio.release()
        stdio.close_ends()
        raise
    return stdio


def _kept(run: Run, value: Any, collect: bool) -> int | None:
    """How many bytes of an output are kept for the result (None: all)."""
    if not _is(value, PIPE) and not isinstance(value, Shared):
        return 0
    return None if collect or run.limits.output is not None else UNBOUNDED_KEEPS


def _become_terminals(run: Run, stdio: Stdio, device: TerminalDevice | None) -> None:
    """Put a terminal on top, behind which is the host's if `device` is there."""
    source, sink, errors = stdio.files
    line = stdio.terminal = Console(source, sink, device.size() if device else None, hangs_up=device is not None)
    if device is not None:
        line.set_modes(device.attributes())
        run.on_close.append(device.close)
        run.python_may_signal = True  # SIGWINCH, and the keys for signals
        stdio.pumps.append(SizePump(run, line, device))
        device.make_raw()
    terminal = TerminalFile(line)
    terminal.host = source.host
    second = terminal if errors is sink else SecondScreen(line, errors)
    stdio.files = [terminal.hold(), terminal.hold(), second.hold()]
    for file in (source, sink, errors):
        file.release()
    for queue in source.queues(0):  # what is typed is taken in at once: it may be for a signal
        queue.listeners[line.look] = None
    if not isinstance(source, BytesInput):
        line.look()


def check_stdio(stdin: Any, stdout: Any, stderr: Any) -> None:
    """Raise TypeError or ValueError for what cannot be a standard stream."""
    for name, value in zip(NAMES, (stdin, stdout, stderr), strict=True):
        if isinstance(value, str):
            raise TypeError(f"{name} is a stream of bytes, not str: encode it")
        if isinstance(value, bool) or (isinstance(value, int) and value not in _allowed(name)):
            raise ValueError(f"{name} cannot be {value!r}")


def _allowed(name: str) -> tuple[int, ...]:
    return (PIPE, DEVNULL, STDOUT) if name == "stderr" else (PIPE, DEVNULL)


def _is(value: Any, constant: int) -> bool:
    return isinstance(value, int) and value == constant


def _open_input(run: Run, null: Null, stdio: Stdio, value: Any) -> None:
    file: File
    if isinstance(value, (bytes, bytearray, memoryview)):
        file = BytesInput(bytes(value)).hold()
    elif _is(value, PIPE):
        file, stdio.stdin = input_pipe(run)
        file.hold()
    elif _is(value, DEVNULL):
        file = null(O_RDONLY).hold()
    elif isinstance(value, ReceiveEnd):
        file = value.move(run)
    else:
        source = open_source(value)
        file = stream = HostInput()
        file.hold()
        stdio.pumps.append(InputPump(source, stream))
    stdio.files.append(file)


def _open_output(run: Run, null: Null, stdio: Stdio, value: Any, meter: Meter, number: int, collect: bool) -> None:
    file: File
    name = NAMES[number]
    if _is(value, PIPE):
        if collect:
            file = Collector(meter, f"pipe:[{name}]")
        else:
            file, end = output_pipe(run, meter)
            setattr(stdio, name, end)
        file.hold()
    elif _is(value, DEVNULL):
        file = null(O_WRONLY).hold()
    elif isinstance(value, SendEnd):
        file = value.move(run)
    elif isinstance(value, Shared):
        file = value.end.share(run, meter).hold()
    else:
        sink = open_sink(value, number)
        file = stream = HostOutput(meter, f"pipe:[{name}]", _direct(run, sink))
        file.hold()
        if run.ordered:
            stream.elastic = True
            stream.on_room = run.answered
            run.outputs.append(stream)
        stdio.pumps.append(OutputPump(sink, stream))
    stdio.files.append(file)


def _direct(run: Run, sink: Sink) -> Callable[[bytes], int] | None:
    take = sink.direct
    if take is None:
        return None

    def direct(data: bytes) -> int:
        try:
            return take(data)
        except Exception as error:
            if is_broken(error):
                raise Errno(EPIPE) from None
            run.fail(error)
            return len(data)

    return direct

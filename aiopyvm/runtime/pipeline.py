"""`Pipeline`: several programs in machines of their own, each one's standard output the next one's standard input."""

from __future__ import annotations

from collections.abc import Sequence
from subprocess import PIPE
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel

from aiopyvm.runtime.ends import ReceiveEnd, Shared, pipe
from aiopyvm.runtime.process import Process, pump_task
from aiopyvm.runtime.result import Reason, Result
from aiopyvm.runtime.stdio import Stdio, check_stdio

if TYPE_CHECKING:
    from aiopyvm.runtime.block import Block
    from aiopyvm.runtime.options import OpenOptions
    from aiopyvm.runtime.run import Run
    from aiopyvm.runtime.vm import VM


class Pipeline(Process):
    """A running pipeline: also a `Process`, whose `stdin` is the first stage's and whose `stdout` the last one's.

    `returncode` is the last non-zero one of the stages, else 0, as a shell's with pipefail. Signals go to every stage.
    Registers and memory are those of the last stage; see `processes` for the others.
    """

    def __init__(self, processes: list[Process], stdio: Stdio) -> None:
        super().__init__(processes[-1].runs[0], stdio)
        self.processes = processes
        self.name = " | ".join(process.name for process in processes)

    @property
    def runs(self) -> list[Run]:
        """The runs of all stages."""
        return [run for process in self.processes for run in process.runs]

    @property
    def results(self) -> list[Result]:
        """How each stage ended. Raises RuntimeError while one runs."""
        return [process.result for process in self.processes]

    @property
    def ended(self) -> bool:
        """All stages have ended."""
        return all(run.result is not None for run in self.runs)

    @property
    def returncode(self) -> int | None:
        """The last non-zero return code of the stages, else 0; None while one runs."""
        if not self.ended:
            return None
        return next((r.returncode for r in reversed(self.results) if r.returncode), 0)

    @property
    def result(self) -> Result:
        """The result of the stage whose return code counts, else of the last. Raises RuntimeError while one runs."""
        results = self.results
        return next((r for r in reversed(results) if r.returncode), results[-1])

    async def wait(self) -> int:
        """Wait until all stages have ended; return the return code."""
        for process in self.processes:
            await process.wait()
        return cast("int", self.returncode)

    def send_signal(self, signal: int) -> None:
        """Send every stage a signal."""
        for process in self.processes:
            process.send_signal(signal)

    def kill(self) -> None:
        """End all stages at once."""
        for run in self.runs:
            run.end(Reason.KILLED, "Pipeline.kill()")


async def start_pipeline(vm: VM, stages: Sequence[Sequence[Any]], options: OpenOptions, block: Block) -> Pipeline:
    """Start every stage, and none of them if one cannot be started."""
    check_stdio(options.get("stdin", b""), options.get("stdout", PIPE), options.get("stderr", PIPE))
    programs = [await vm.find_program(stage, options) for stage in stages]
    await anyio.lowlevel.checkpoint()
    starter = _Starter(vm, options, len(programs))
    try:
        for program in programs:
            starter.start(program)
    except BaseException as error:
        starter.abandon(error)
        raise
    pipeline = Pipeline(starter.processes, starter.stdio)
    for process in starter.processes:
        for pump in process.tasks:
            block.start(pump_task(process.runs[0], pump), name="aiopyvm pump")
    return pipeline


class _Starter:
    """Starts the stages one after another; nothing runs before all are there, because nothing awaits."""

    def __init__(self, vm: VM, options: OpenOptions, count: int) -> None:
        self._vm = vm
        self._options = options
        self._count = count
        self._input: Any = options.get("stdin", b"")
        self.processes: list[Process] = []
        self.stdio = Stdio()

    def start(self, program: Any) -> None:
        """Start the next stage."""
        number = len(self.processes)
        options = cast("OpenOptions", dict(self._options))
        options.pop("name", None)
        options["stdin"] = self._input
        following = None
        if number + 1 < self._count:
            options["stdout"], following = pipe()
        if self.stdio.stderr is not None:
            options["stderr"] = Shared(self.stdio.stderr)
        try:
            process = self._vm.start(program, options, collect=False, stream=number)
        except BaseException:
            if following is not None:
                following.close()
                options["stdout"].close()
            raise
        process.runs[0].python_may_signal = True
        self.processes.append(process)
        if number == 0:
            self.stdio.stdin, self.stdio.stderr = process.stdin, process.stderr
        self.stdio.stdout = process.stdout
        self._input = following

    def abandon(self, error: BaseException) -> None:
        """End the stages that were started."""
        if isinstance(self._input, ReceiveEnd):
            self._input.close()
        for process in self.processes:
            process.abandon(f"another stage could not be started: {error}")

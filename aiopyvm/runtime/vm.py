"""`VM`: one guest machine. It holds files, limits and habits, no host resource; every run gets a kernel of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, Any, Literal
from weakref import finalize

import anyio
import anyio.abc
import anyio.lowlevel

from aiopyvm.abi.errno import Errno
from aiopyvm.errors import LoadError
from aiopyvm.host.clock import RealClock, Timeline, VirtualClock
from aiopyvm.isa.processors import find_processor
from aiopyvm.runtime.driver import WaitingTask
from aiopyvm.runtime.flights import can_launch
from aiopyvm.runtime.lane import Lane
from aiopyvm.runtime.limits import SECOND_NS, Account, Limits, Store
from aiopyvm.runtime.machine import (
    FileClock,
    Seed,
    build_vfs,
    get_engine,
    make_entropy,
    make_kernel,
    open_null,
)
from aiopyvm.runtime.options import (
    Argument,
    Env,
    OpenOptions,
    PausedOptions,
    RunOptions,
    check_kind,
    check_options,
)
from aiopyvm.runtime.process import Opening, Process, pump_task
from aiopyvm.runtime.program import (
    Program,
    Source,
    argument_bytes,
    environment,
    environment_bytes,
    find_in_guest,
    guest_error,
    load_source,
    to_bytes,
)
from aiopyvm.runtime.result import Result
from aiopyvm.runtime.run import Run
from aiopyvm.runtime.runtime import IMPLICIT, Runtime, check_quantum, current_runtime, current_scheduler
from aiopyvm.runtime.slices import usual_quantum
from aiopyvm.runtime.stdio import Stdio, check_stdio, open_stdio
from aiopyvm.runtime.user import parse_hostname, parse_user

if TYPE_CHECKING:
    from typing import Unpack

    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.vfs import Vfs
    from aiopyvm.runtime.block import Block
    from aiopyvm.runtime.census import GuestProcess
    from aiopyvm.runtime.changes import Change
    from aiopyvm.runtime.machine import Dir
    from aiopyvm.runtime.network import HostPort, Network, Publisher
    from aiopyvm.runtime.path import GuestPath
    from aiopyvm.runtime.pipeline import Pipeline
    from aiopyvm.runtime.user import User


class VM:
    """One guest machine: reusable, also by several runs at once, which share its files and nothing else.

    `root` is its file tree (empty when None), `mounts` maps guest paths to more; `env` and `cwd` are its programs'
    defaults. Programs run as `user`: an id, (uid, gid), "uid:gid" or a name of the guest's /etc/passwd; files of the
    host's user are that user's. `hostname` is what uname(2) says. Guests reach each other by a loopback interface, and
    other machines, and what was granted outside, by `net`; `publish` maps ports of the host, or ("address", port), to
    ports of the guest (0: any that is free; `Process.published` tells which; not in a pipeline). `engine` is "auto"
    (native where that can run, else python; or what AIOPYVM_ENGINE says), "native", "python" or "evaluator"; `cpu` the
    processor that programs see and whose instructions they have: "i486", "pentium3", "pentium4", "x86-64-v2-32",
    "x86-64-v3-32", "max", or "default", the newest that is whole; `quantum` the instructions between two scheduling
    decisions (None: 10,000, and 1,000,000 for generated code where neither seed nor virtual clock fix the order);
    `weight` its share of the processor. `clock="virtual"` moves only with work done and jumps when everybody
    sleeps; with that and a `seed` two runs are the same, instruction for instruction. The x87's transcendental
    functions (FSIN, FYL2X..) are the host's own instructions, whose last bits its maker chose; with `portable_math`
    they are software and the same on every host, within one unit in the last place. Programs are always at the same
    addresses; with `randomize` stack, heap, mappings and position-independent code are at random ones as on Linux
    (randomize_va_space 2), by the `seed` if there is one. Raises TypeError, ValueError for
    arguments that are none.
    """

    def __init__(
        self,
        *,
        root: Dir | None = None,
        mounts: Mapping[Any, Dir] | None = None,
        env: Env | None = None,
        cwd: Argument = "/",
        user: User = 1000,
        hostname: str = "aiopyvm",
        net: Network | None = None,
        publish: Mapping[HostPort, int] | None = None,
        limits: Limits | None = None,
        engine: str = "auto",
        cpu: str = "default",
        quantum: int | None = None,
        weight: float = 1,
        clock: Literal["real", "virtual"] = "real",
        seed: Seed | None = None,
        portable_math: bool = False,
        randomize: bool = False,
        name: str | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if clock not in ("real", "virtual"):
            raise ValueError(f'clock is "real" or "virtual", not {clock!r}')
        self._processor = find_processor(cpu)
        check_quantum(quantum)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise ValueError(f"weight is a positive number, not {weight!r}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str, bytes))):
            raise TypeError(f"seed is int, str or bytes, not {seed!r}")
        for what, value, kind, words in (
            ("limits", limits, Limits, "a Limits"),
            ("portable_math", portable_math, bool, "a bool"),
            ("randomize", randomize, bool, "a bool"),
            ("env", env, Mapping, "a mapping of names to str or bytes"),
            ("name", name, str, "str"),
            ("runtime", runtime, Runtime, "a Runtime"),
        ):
            if value is not None:
                check_kind(what, value, kind, words)
        self._engine = get_engine(engine, self._processor)
        self._root = root
        self._mounts = mounts or {}
        self._env = dict(env or {})
        environment_bytes(self._env)
        self._cwd = to_bytes(cwd, "cwd")
        self._user = parse_user(user)
        self._hostname = parse_hostname(hostname)
        self._net = net
        self._publish: dict[tuple[str, int], int] = {}
        if publish is not None:
            check_kind("publish", publish, Mapping, "a mapping of the host's ports to the guest's")
            from aiopyvm.runtime.network import check_publish

            self._publish = check_publish(publish)
        if net is not None:
            from aiopyvm.runtime.network import Network

            check_kind("net", net, Network, "a Network")
        self.limits = limits or Limits()
        self.quantum = quantum
        self.weight = weight
        self.clock = clock
        self.seed = seed
        self.portable_math = portable_math
        self.randomize = randomize
        self.name = name
        self._runtime = runtime
        self._file_clock = FileClock(clock == "virtual")
        self._vfs_made: Vfs | None = None
        self._store = Store(self.limits.memory, runtime.memory if runtime else None)
        if runtime:
            finalize(self, self._store.close)
        self._streams = 0
        self._running: dict[Run, Process] = {}

    def __repr__(self) -> str:
        return f"<aiopyvm.VM {self.name or hex(id(self))}>"

    # --- files --------------------------------------------------------------------------------------------------------

    @property
    def _vfs(self) -> Vfs:
        if self._vfs_made is None:
            self._vfs_made = build_vfs(self._root, self._mounts, self._file_clock, self._store, self._user)
        return self._vfs_made

    def processes(self) -> list[GuestProcess]:
        """Return what runs in the machine now: all processes of all its runs (`Process.process_table`)."""
        return [found for process in tuple(self._running.values()) for found in process.process_table()]

    def path(self, path: Argument = "/") -> GuestPath:
        """Return a path in the guest, with the async methods of `anyio.Path`."""
        from aiopyvm.runtime.path import GuestPath

        return GuestPath(self._vfs, os.fsdecode(path))

    def diff(self) -> list[Change]:
        """Return what guests have changed over the copy-on-write trees of this machine, up to now.

        In the order of the mounts, a directory before what is in it. Raises OSError where a tree cannot be read.
        """
        from aiopyvm.runtime.changes import list_changes

        return list_changes(self._vfs)

    async def save_changes(self, path: str | os.PathLike[str]) -> None:
        """Write what `diff` tells, with contents, as a tar archive to the host file `path`, which it replaces.

        Its names begin at the guest's root; removals are as in a layer of an OCI image (".wh." before the name). Raises
        ValueError where no tree of this machine is copy-on-write, OSError, ArchiveError (a name that is a removal's).
        """
        from aiopyvm.runtime.changes import save_changes

        await save_changes(self._vfs, os.fspath(path))

    # --- running to the end -------------------------------------------------------------------------------------------

    async def run_elf(self, source: Source, *args: Argument, **options: Unpack[RunOptions]) -> Result:
        """Run an ELF program, a host file or its content, to its end.

        Raises FileNotFoundError and other OSErrors of the host, LoadError, TypeError, ValueError; with `check`,
        GuestFailedError.
        """
        check_options("run_elf", options, RunOptions)
        return await self._run(await self._elf(source, args, options), options)

    async def run_flat(
        self, source: Source, *args: Argument, load_at: int = 0, entry: int | None = None, **options: Unpack[RunOptions]
    ) -> Result:
        """Run a flat binary, a host file or its content, loaded at `load_at`; it starts at `entry` (`load_at` when
        None)."""
        check_options("run_flat", options, RunOptions)
        return await self._run(await self._flat(source, args, load_at, entry, options), options)

    async def run_bytes(
        self, code: bytes, *, load_at: int = 0, entry: int | None = None, **options: Unpack[RunOptions]
    ) -> Result:
        """Run raw machine code; going past its last byte ends it with reason END_OF_CODE and return code 0."""
        check_options("run_bytes", options, RunOptions)
        return await self._run(self._bytes(code, load_at, entry, options), options)

    async def run(self, *argv: Argument, **options: Unpack[RunOptions]) -> Result:
        """Run a program of the guest: argv[0] is a guest path, or a name that is looked up in the guest's PATH.

        Where argv[0] is a `pathlib` path, it is a host file. Raises FileNotFoundError, PermissionError, LoadError.
        """
        check_options("run", options, RunOptions)
        return await self._run(await self._guest(argv, options), options)

    # --- running in a block -------------------------------------------------------------------------------------------

    def open_elf(self, source: Source, *args: Argument, **options: Unpack[PausedOptions]) -> Opening[Process]:
        """Like `run_elf`, as `async with vm.open_elf(...) as process`."""
        check_options("open_elf", options, PausedOptions)
        return self._opening(lambda: self._elf(source, args, options), options, "open_elf")

    def open_flat(
        self,
        source: Source,
        *args: Argument,
        load_at: int = 0,
        entry: int | None = None,
        **options: Unpack[PausedOptions],
    ) -> Opening[Process]:
        """Like `run_flat`, as a block."""
        check_options("open_flat", options, PausedOptions)
        return self._opening(lambda: self._flat(source, args, load_at, entry, options), options, "open_flat")

    def open_bytes(
        self, code: bytes, *, load_at: int = 0, entry: int | None = None, **options: Unpack[PausedOptions]
    ) -> Opening[Process]:
        """Like `run_bytes`, as a block."""

        check_options("open_bytes", options, PausedOptions)

        async def program() -> Program:
            return self._bytes(code, load_at, entry, options)

        return self._opening(program, options, "open_bytes")

    def open(self, *argv: Argument, **options: Unpack[PausedOptions]) -> Opening[Process]:
        """Like `run`, as a block."""
        check_options("open", options, PausedOptions)
        return self._opening(lambda: self._guest(argv, options), options, "open")

    def pipeline(self, *stages: Sequence[Argument], **options: Unpack[OpenOptions]) -> Opening[Pipeline]:
        """Run several programs, each one's standard output the next one's input, as a block of one `Pipeline`.

        A stage is an argv as `run` takes it. `stdin` is the first one's, `stdout` the last one's; `stderr` is shared.
        """
        from aiopyvm.runtime.pipeline import start_pipeline

        check_options("pipeline", options, OpenOptions)
        if not stages:
            raise ValueError("a pipeline has at least one stage")
        for stage in stages:
            if isinstance(stage, (str, bytes)) or not isinstance(stage, Sequence) or not stage:
                raise TypeError(f"a stage is a sequence of arguments, not {stage!r}")

        async def start(block: Block) -> Pipeline:
            return await start_pipeline(self, stages, options, block)

        return Opening(start, "pipeline")

    # --- programs -----------------------------------------------------------------------------------------------------

    async def _elf(self, source: Source, args: Sequence[Argument], options: OpenOptions) -> Program:
        data, name = await load_source(source, self._vfs)
        return self._program(source, name, args, options, data)

    async def _flat(
        self, source: Source, args: Sequence[Argument], load_at: int, entry: int | None, options: OpenOptions
    ) -> Program:
        data, name = await load_source(source, self._vfs)
        return self._program(source, name, args, options, data, _flat_at(load_at, entry))

    def _bytes(self, code: bytes, load_at: int, entry: int | None, options: OpenOptions) -> Program:
        if not isinstance(code, (bytes, bytearray, memoryview)):
            raise TypeError(f"code is bytes, not {type(code).__name__}")
        flat = _flat_at(load_at, entry)
        return self._program(bytes(code), "", (), options, bytes(code), flat, load_at + len(code))

    def _program(
        self,
        source: Any,
        name: str,
        args: Sequence[Argument],
        options: OpenOptions,
        data: bytes,
        flat: tuple[int, int] | None = None,
        ends_at: int | None = None,
    ) -> Program:
        argv0 = to_bytes(options.get("argv0", name or self.name or "program"), "argv0")
        shown = name or os.fsdecode(argv0)
        return Program((shown, *args), (argv0, *argument_bytes(args)), data, flat, None, ends_at, name)

    async def _guest(self, argv: Sequence[Argument], options: OpenOptions) -> Program:
        if not argv:
            raise TypeError("run() needs a program: argv[0]")
        if isinstance(argv[0], os.PathLike):
            return await self._elf(argv[0], argv[1:], options)
        given = argument_bytes(argv)
        await anyio.lowlevel.checkpoint()
        env = environment({**self._env, **options.get("env", {})})
        path = find_in_guest(self._vfs, given[0], env["PATH"], self._cwd_of(options))
        argv0 = to_bytes(options.get("argv0", given[0]), "argv0")
        return Program(tuple(argv), (argv0, *given[1:]), None, None, path)

    def _cwd_of(self, options: OpenOptions) -> bytes:
        cwd = options.get("cwd")
        if cwd is None:
            return self._cwd
        return os.path.normpath(os.path.join(self._cwd, to_bytes(cwd, "cwd")))

    # --- starting -----------------------------------------------------------------------------------------------------

    def find_program(self, argv: Sequence[Argument], options: OpenOptions) -> Awaitable[Program]:
        """Return the program that `argv` names, as `run` looks for it."""
        return self._guest(argv, options)

    def start(
        self,
        program: Program,
        options: OpenOptions,
        *,
        collect: bool,
        paused: bool = False,
        stream: int = 0,
        publisher: Publisher | None = None,
    ) -> Process:
        """Make the kernel and the first process, and let it be scheduled. Synchronous; leaves nothing behind when it
        raises."""
        tty = options.get("tty", False)
        values = (
            options.get("stdin", PIPE if tty and not collect else b""),
            options.get("stdout", PIPE),
            options.get("stderr", STDOUT if tty else PIPE),
        )
        check_stdio(*values)
        runtime = self._runtime or current_runtime()
        limits = options["limits"].over(self.limits) if "limits" in options else self.limits
        run = self._new_run(program, options, runtime, limits)
        stdio = open_stdio(run, open_null(self._vfs), *values, collect=collect, tty=tty)
        try:
            self._spawn(run, program, options, stdio, runtime, limits, paused, stream)
        except BaseException:
            stdio.close_ends()
            for close in run.on_close:
                close()
            raise
        finally:
            stdio.release()
        if publisher is not None:
            publisher.attach(run)
            stdio.pumps.append(publisher)
        process = self._running[run] = Process(run, stdio, publisher)
        run.when_done(lambda: self._ended(run))
        runtime.add(run, process)
        return process

    def _ended(self, run: Run) -> None:
        self._running.pop(run, None)

    def _new_run(self, program: Program, options: OpenOptions, runtime: Runtime, limits: Limits) -> Run:
        shared = runtime if runtime is not IMPLICIT else None
        seconds = limits.guest_time
        ordered = self.clock == "virtual" or self.seed is not None
        return Run(
            scheduler=current_scheduler(),
            args=program.args,
            name=options.get("name") or self.name or program.name,
            limits=limits,
            instructions=Account(limits.instructions, shared.instructions if shared else None),
            output=Account(limits.output, shared.output if shared else None),
            guest_time=Account(
                None if seconds is None else round(seconds * SECOND_NS), shared.guest_time if shared else None
            ),
            engine=self._engine,
            quantum=self.quantum or usual_quantum(ordered=ordered, generated=can_launch(self._engine)),
            weight=self.weight,
            clock=VirtualClock(Timeline()) if self.clock == "virtual" else RealClock(current_scheduler().now_ns),
            seeded=self.seed is not None,
        )

    def _spawn(
        self,
        run: Run,
        program: Program,
        options: OpenOptions,
        stdio: Stdio,
        runtime: Runtime,
        limits: Limits,
        paused: bool,
        stream: int,
    ) -> None:
        shared = runtime if runtime is not IMPLICIT else None
        entropy = make_entropy(self.seed, stream)
        kernel = make_kernel(
            run,
            self._vfs,
            entropy,
            limits,
            self._store,
            shared,
            self.portable_math,
            self.randomize,
            self._processor,
            self._hostname,
        )
        self._attach_network(run, kernel, stdio)
        env = environment({**self._env, **options.get("env", {})})
        cwd = self._cwd_of(options)
        try:
            self._vfs.context(cwd=cwd)
        except Errno as error:
            raise guest_error(error, cwd) from None
        try:
            process = kernel.spawn(
                program.argv,
                program_bytes=program.data,
                flat=program.flat,
                environ=environment_bytes(env),
                files=stdio.files,
                cwd=cwd,
                path=program.path,
            )
        except Errno as error:
            raise guest_error(error, program.path or program.args[0]) from None
        except LoadError as error:
            file = program.file or os.fsdecode(program.path or b"")
            raise LoadError(f"{file}: {error}" if file else str(error)) from None
        run.file_clock = self._file_clock
        if program.ends_at is not None and process.main is not None:
            process.main.core.end_of_code = program.ends_at
        run.program_bytes = program.data
        run.going = not paused
        self._instrument(run, kernel, options, stdio)
        walls = [runtime.wall(run.scheduler)]
        if (seconds := limits.wall_time) is not None:
            walls.append((run.scheduler.now_ns() + round(seconds * SECOND_NS), seconds))
        timeline = run.clock.timeline if isinstance(run.clock, VirtualClock) else None
        run.start(kernel, process, Lane(timeline), min(filter(None, walls), default=None))
        if self._net is not None:
            self._net.join_lanes(run)

    def _attach_network(self, run: Run, kernel: Kernel, stdio: Stdio) -> None:
        """Let guests be reached, and reach others, as far as that was granted."""
        run.networked = self._net is not None or bool(self._publish)
        if run.networked:
            kernel.set_reachable(True)
        if self._net is not None:
            from aiopyvm.runtime.network import join

            names = [self._hostname, *([self.name.encode()] if self.name else [])]
            stdio.pumps.append(join(self._net, run, kernel, tuple(names)))

    async def _open_ports(self) -> Publisher | None:
        """Listen on the host's ports that lead to the guest's. Raises OSError."""
        if not self._publish:
            return None
        from aiopyvm.runtime.network import Publisher

        publisher = Publisher()
        await publisher.open(self._publish)
        return publisher

    async def _start_published(
        self, program: Program, options: OpenOptions, *, collect: bool, paused: bool = False
    ) -> Process:
        """As `start`, when it may, with the ports that are published."""
        publisher = await self._open_ports()
        try:
            gate = current_scheduler().gate
            await gate.wait()
            with gate.passing():
                return self.start(program, options, collect=collect, paused=paused, publisher=publisher)
        except BaseException:
            if publisher is not None:
                await publisher.close()
            raise

    @staticmethod
    def _instrument(run: Run, kernel: Kernel, options: OpenOptions, stdio: Stdio) -> None:
        strace, trace, hooks = options.get("strace"), options.get("trace"), options.get("hooks")
        if strace is None and trace is None and not hooks:
            return
        from aiopyvm.runtime.instruments import HookTask, instruments_of, watch_calls

        if strace is not None:
            watch_calls(kernel, strace)
        if trace is not None or hooks:
            instruments = instruments_of(run)
            instruments.trace = trace
            instruments.add_hooks(hooks or ())
            if instruments.sees_calls and kernel.clock_page is not None:
                kernel.clock_page.hide()
            if hooks:
                instruments.hook_task = HookTask(run)
                stdio.pumps.append(instruments.hook_task)

    # --- the two ways to be there while it runs -----------------------------------------------------------------------

    async def _run(self, program: Program, options: RunOptions) -> Result:
        await anyio.lowlevel.checkpoint()
        process = await self._start_published(program, options, collect=True)
        run = process.runs[0]
        try:
            if "task_status" in options:
                options["task_status"].started(process)
            await self._attend(process)
        except BaseException as error:
            process.abandon(f"{type(error).__name__} ended the call")
            raise
        process.close_streams()
        if run.failure is not None:
            raise run.failure
        if options.get("check", False):
            process.result.check_returncode()
        return process.result

    async def _attend(self, process: Process) -> None:
        from aiopyvm.runtime.block import Block

        run = process.runs[0]
        if not process.tasks:
            await _until_done(run)
            return
        async with Block() as block:
            for pump in process.tasks:
                block.start(pump_task(run, pump), name="aiopyvm pump")
            try:
                await _until_done(run)
            except BaseException as error:
                process.abandon(f"{type(error).__name__} ended the call")
                raise

    def _opening(self, program: Callable[[], Any], options: PausedOptions, name: str) -> Opening[Process]:
        async def start(block: Block) -> Process:
            found = await program()
            await anyio.lowlevel.checkpoint()
            process = await self._start_published(found, options, collect=False, paused=options.get("paused", False))
            process.runs[0].python_may_signal = True
            process.runs[0].kernel.set_reachable(True)
            for pump in process.tasks:
                block.start(pump_task(process.runs[0], pump), name="aiopyvm pump")
            return process

        return Opening(start, name)


async def _until_done(run: Run) -> None:
    task = WaitingTask(run.scheduler.driver)
    run.when_done(task.notify)
    try:
        await task.wait(lambda: run.result is not None)
    finally:
        run.not_when_done(task.notify)


def _flat_at(load_at: int, entry: int | None) -> tuple[int, int]:
    entry = load_at if entry is None else entry
    for name, value in (("load_at", load_at), ("entry", entry)):
        if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
            raise ValueError(f"{name} is a 32-bit address, not {value!r}")
    return load_at, entry

"""`Compiler`: LLVM text to objects, in a worker process, one job at a time in the order of submission.

A daemon thread owns the process: it starts it for the first job, sends a job, waits for its object, and ends it when
there was nothing to do for a while. When the worker dies or takes too long, the job that it had fails, alone; the next
one gets a new worker. So LLVM can do nothing worse to us than fail. What always holds: a job that was submitted gets
done, with an object or a `CompileError`. The worker has its own session and none of our descriptors.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from aiopyvm.engine.native.compile_worker import MAX_FRAME, write_frame

MEMORY_BYTES: Final = 4 << 30  # of the worker's address space
CPU_SECONDS: Final = 20.0  # of one job
WALL_FACTOR: Final = 20  # a worker that waits longer than so many times its processor time is stuck
IDLE_SECONDS: Final = 30.0
_LENGTH_BYTES: Final = 8
_SCRIPT: Final = Path(__file__).with_name("compile_worker.py")


class CompileError(Exception):
    """A job that has no object: LLVM's message, or what the worker died of."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile. `codegen`: level of LLVM's code generator, 0 to 3. `level`: run the standard pipeline of this
    speed level. `passes`: run these (llvmlite's names: "sroa", "new_gvn", "simplify_cfg"). Without either: none."""

    codegen: int = 2
    level: int | None = None
    passes: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Job:
    """One text on its way. `callback`, where there is one, is called with it in the compiler's thread."""

    text: str
    options: Options = Options()
    generator: str = ""  # "module:function", called in the worker with `text`, if that is not empty: returns the text
    cpu_seconds: float = CPU_SECONDS
    callback: Callable[[Job], None] | None = None
    data: bytes | None = None
    error: str | None = None
    seconds: float = 0.0  # from start to end, without the time in the queue
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self._done.is_set()

    def result(self, timeout: float | None = None) -> bytes:
        """Wait for the object, at most `timeout` seconds. Raises CompileError, TimeoutError."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"nothing was compiled within {timeout} s")
        if self.data is None:
            raise CompileError(self.error)
        return self.data


class Compiler:
    """Takes jobs from any thread. `memory_bytes`: of the worker's address space."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, idle_seconds: float = IDLE_SECONDS) -> None:
        self._memory = memory_bytes
        self._idle = idle_seconds
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._finished: deque[Job] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._worker: _Worker | None = None
        self._closed = False
        self.pending = 0  # jobs that are not done
        self.started = 0  # workers so far
        self.compiled = 0  # jobs with an object
        self.failed = 0  # jobs without
        self.seconds = 0.0  # that jobs took, without their time in the queue

    @property
    def running(self) -> bool:
        """Whether there is a worker process now."""
        return self._worker is not None

    def submit(self, text: str, options: Options | None = None, callback: Callable[[Job], None] | None = None) -> Job:
        """Compile `text` in the background. Without a callback `poll` returns the job when it is done."""
        return self.submit_job(Job(text, options or Options(), callback=callback))

    def compile(self, text: str, options: Options | None = None, timeout: float | None = None) -> bytes:
        """Return the object for `text`. Raises CompileError; TimeoutError after `timeout` seconds, queue included."""
        return self.submit(text, options, _nothing).result(timeout)

    def submit_job(self, job: Job) -> Job:
        """As `submit`."""
        with self._lock:
            self.pending += 1
            closed = self._closed
            if not closed:
                self._start_thread()
                self._jobs.put(job)
        if closed:
            self._finish(job, None, "the compiler is closed")
        return job

    def poll(self) -> list[Job]:
        """Return the jobs without a callback that were done since the last call, in order."""
        jobs = []
        while self._finished:
            jobs.append(self._finished.popleft())
        return jobs

    def close(self) -> None:
        """End the worker and fail what is pending. Waits for the thread."""
        with self._lock:
            self._closed = True
            thread, worker = self._thread, self._worker
        if worker is not None:
            worker.kill()
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    # --- the compiler's thread ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._idle if self._worker is not None else None)
            except queue.Empty:
                self._stop_worker()
                continue
            if job is None:
                break
            self._run(job)
        self._stop_worker()
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                self._finish(job, None, "the compiler is closed")

    def _run(self, job: Job) -> None:
        begun = time.monotonic()
        try:
            worker = self._start_worker()
            data, error = worker.compile(job)
        except (OSError, _DeadError) as problem:
            data, error = None, str(problem)
            self._stop_worker()
        except Exception as problem:  # a job that cannot be sent must not end the thread that all others wait for
            data, error = None, f"{type(problem).__name__}: {problem}"
            self._stop_worker()
        job.seconds = time.monotonic() - begun
        self._finish(job, data, error)

    def _start_worker(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise _DeadError("the compiler is closed")
            if self._worker is None:
                self._worker = _Worker(self._memory)
                self.started += 1
            return self._worker

    def _stop_worker(self) -> None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="aiopyvm-compiler", daemon=True)
            self._thread.start()

    def _finish(self, job: Job, data: bytes | None, error: str | None) -> None:
        job.data, job.error = data, error
        with self._lock:
            self.pending -= 1
            self.compiled += data is not None
            self.failed += data is None
            self.seconds += job.seconds
        job._done.set()
        if job.callback is None:
            self._finished.append(job)
            return
        try:
            job.callback(job)
        except Exception:  # must not end the thread that all other jobs wait for
            logging.getLogger("aiopyvm").exception("a bug of aiopyvm, please report it")


class _DeadError(Exception):
    """The worker is of no more use; says why."""


class _Worker:
    """One worker process."""

    def __init__(self, memory_bytes: int) -> None:
        if not sys.executable:
            raise _DeadError("this Python does not know its own executable: no worker can be started")
        self._errors: IO[bytes] = os.fdopen(os.memfd_create("aiopyvm-compiler"), "w+b")
        command = [sys.executable, "-P", str(_SCRIPT), str(memory_bytes), *import_paths()]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._errors.close()
            raise

    def compile(self, job: Job) -> tuple[bytes | None, str | None]:
        """Return the object or LLVM's complaint. Raises _DeadError."""
        process = self._process
        assert process.stdin is not None
        head = {"options": asdict(job.options), "generator": job.generator, "cpu_seconds": job.cpu_seconds}
        deadline = time.monotonic() + job.cpu_seconds * WALL_FACTOR
        try:
            write_frame(process.stdin, json.dumps(head).encode())
            write_frame(process.stdin, job.text.encode())
            process.stdin.flush()
        except BrokenPipeError:
            raise _DeadError(self._cause()) from None
        answer = json.loads(self._read_frame(deadline))
        data = self._read_frame(deadline)
        error = answer.get("error")
        return (data, None) if error is None else (None, str(error))

    def kill(self) -> None:
        """End the process; another thread may be waiting for it."""
        self._process.kill()

    def close(self) -> None:
        """End the process and everything of it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:
                pass  # what was still to be written goes nowhere

    def _read_frame(self, deadline: float) -> bytes:
        size = int.from_bytes(self._read(_LENGTH_BYTES, deadline), "little")
        if size > MAX_FRAME:
            raise _DeadError(f"the compile worker sent a frame of {size} bytes")
        return self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        data = bytearray()
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise _DeadError("the compile worker did not answer in time")
            part = os.read(fd, min(size - len(data), 1 << 20))
            if not part:
                raise _DeadError(self._cause())
            data += part
        return bytes(data)

    def _cause(self) -> str:
        status = self._process.wait()
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
        return f"the compile worker died of {name}. {self._errors.read().decode(errors='replace').strip()}".strip()


def import_paths() -> list[str]:
    """Where the worker finds llvmlite and this package, if not where it looks anyway."""
    paths = [str(Path(__file__).parents[3])]
    spec = importlib.util.find_spec("llvmlite")
    if spec is not None and spec.origin is not None:
        paths.append(str(Path(spec.origin).parents[1]))
    return paths


def _nothing(job: Job) -> None:
    """A callback for jobs that somebody waits for."""


_compilers: list[Compiler] = []


def compiler() -> Compiler:
    """The process's compiler, made when first asked for, closed at exit."""
    if not _compilers:
        _compilers.append(Compiler())  # two at once by two threads: the second one is never used, nor started
    return _compilers[0]


def _close() -> None:
    for one in _compilers:
        one.close()


atexit.register(_close)
os.register_at_fork(after_in_child=_compilers.clear)  # threads and the worker stay with the parent

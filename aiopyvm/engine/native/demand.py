"""Handlers made on demand: for shapes that guests use often and that the object made ahead of time does not have.

They are made in batches, by the compile worker, one batch at a time. What guests can make it do is bounded: `MOST`
shapes in all, each of which was used `ENOUGH` times.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.objectfile import BadObjectError, load
from aiopyvm.errors import AiopyvmError

if TYPE_CHECKING:
    from aiopyvm.engine.native.handlers import Shape
    from aiopyvm.engine.native.worker import Job

ENOUGH: Final = 32  # uses of a shape before a handler is made for it
MOST: Final = 4096  # handlers
BATCH: Final = 256
_WANTED: Final = 1 << 13  # shapes remembered that have not been used often enough
_log: Final = logging.getLogger("aiopyvm")


class Demand:
    """Counts uses of shapes without a handler, and has handlers made. `symbols`: what handlers may refer to."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self._symbols = symbols
        self._lock = threading.Lock()
        self._shapes: dict[str, Shape] = {}
        self._uses: dict[str, int] = {}
        self._queue: list[str] = []
        self._never: set[str] = set()
        self._job: Job | None = None
        self._batch: list[str] = []  # what the job makes
        self._count = 0
        self.enough = ENOUGH
        _all.add(self)

    def forget_threads(self) -> None:
        """In a child of fork(2): what the parent's compiler was to make will not come, so this process has it made."""
        self._lock = threading.Lock()
        if self._job is not None and not self._job.done:
            self._job = None
            self._count -= len(self._batch)
            self._queue += self._batch

    def want(self, shape: Shape) -> bool:
        """Remember a shape that has no handler; False if it will never have one."""
        name = shape.name
        if name in self._never or not shape.fields.fit:
            return False
        with self._lock:
            if len(self._shapes) >= _WANTED:
                self._shapes.clear()
                self._uses.clear()
            self._shapes[name] = shape
        return True

    def is_due(self, name: str) -> bool:
        """With one use more the shape called `name` was used often enough."""
        return self._uses.get(name, 0) + 1 >= self.enough

    def hurry(self, name: str) -> None:
        """The next use of the shape called `name` is enough."""
        self._uses[name] = max(self._uses.get(name, 0), self.enough - 1)

    @property
    def made(self) -> bool:
        """Whether `collect` has something to do."""
        job = self._job
        return job is not None and job.done

    def use(self, name: str) -> None:
        """The shape called `name` was used once more."""
        uses = self._uses[name] = self._uses.get(name, 0) + 1
        if uses == self.enough and name in self._shapes:
            with self._lock:
                self._queue.append(name)
        if self._queue and self._job is None:
            with self._lock:
                self._begin()

    def collect(self, timeout: float | None = 0) -> Iterable[Mapping[str, int]]:
        """Yield the symbols of each object that was made; with `timeout` of each that can be made in that time each."""
        while (job := self._job) is not None and (job.done or timeout != 0):
            from aiopyvm.engine.native.worker import CompileError

            try:
                data = job.result(timeout)
                yield load(data, self._symbols).symbols
            except TimeoutError:
                return
            except (CompileError, BadObjectError, AiopyvmError) as error:
                _log.warning("instructions are left to Python, their native code cannot be made: %s", error)
            with self._lock:
                self._job = None
                self._begin()

    def _begin(self) -> None:
        """Have the next batch made, unless one is being made."""
        if self._count >= MOST:
            self._queue.clear()
        if self._job is not None:
            return
        shapes: list[Shape] = []
        while self._queue and len(shapes) < BATCH:
            shape = self._shapes.get(self._queue.pop())
            if shape is not None:  # else it was forgotten: too many are wanted
                shapes.append(shape)
        if not shapes:
            return
        from aiopyvm.engine.native.generate import handlers_text  # seldom needed, and long to import
        from aiopyvm.engine.native.worker import Job, compiler

        text, without = handlers_text(shapes)
        self._never.update(without)
        if len(without) < len(shapes):
            self._batch = [shape.name for shape in shapes if shape.name not in self._never]
            self._count += len(self._batch)
            self._job = compiler().submit_job(Job(text, callback=_nothing))


_all: Final[weakref.WeakSet[Demand]] = weakref.WeakSet()


def _forget_threads() -> None:
    for demand in tuple(_all):
        demand.forget_threads()


os.register_at_fork(after_in_child=_forget_threads)


def _nothing(job: Job) -> None:
    """The job is looked at now and then."""
